//! A key that a configuration does not have: where it belongs, or which one may have been meant.

use figment::error::Kind;
use schemars::JsonSchema;
use serde::Serialize;
use strsim::normalized_damerau_levenshtein as likeness;

use super::ConfigError;
use super::keys::sections;

/// Keys that are less alike are not taken for one another.
const LIKENESS_MIN: f64 = 0.7;

/// Why a configuration is refused, with the key that may have been meant where one was written that there is not.
pub(super) fn refused<T: JsonSchema + Serialize + Default>(error: figment::Error) -> ConfigError {
    let source = Box::new(error);
    let Kind::UnknownField(found, _) = &source.kind else { return ConfigError::Refused(source) };
    match meant::<T>(found) {
        Some(meant) => ConfigError::Unknown { key: found.clone(), meant, source },
        None => ConfigError::Refused(source),
    }
}

/// The key of this name in another table, otherwise the one that is most like it.
fn meant<T: JsonSchema + Serialize + Default>(found: &str) -> Option<String> {
    let keys = sections::<T>().into_iter().flat_map(|section| {
        let named = section.keys.iter().map(|key| (likeness(found, &key.name), section.dotted(key)));
        named.collect::<Vec<_>>()
    });
    let nearest = keys.max_by(|(one, _), (other, _)| one.total_cmp(other));
    nearest.filter(|(likeness, _)| *likeness >= LIKENESS_MIN).map(|(_, key)| key)
}
