//! The environment variables by which the platforms' own tools are configured, and so a store too.

use std::collections::BTreeMap;
use std::fmt;

/// Environment variables: those of this process, or others that a caller gives instead.
///
/// A store of one process is configured by the process's own. Who opens several stores with different credentials gives each its own:
///
/// ```
/// use synddb_storage::Variables;
///
/// let variables: Variables = [("STORAGE_EMULATOR_HOST", "http://127.0.0.1:4443")].into_iter().collect();
/// assert_eq!(variables.get("STORAGE_EMULATOR_HOST"), Some("http://127.0.0.1:4443"));
/// ```
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Those of this process, as they are now. What is no UTF-8 is left out: no platform's variable may be that.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// The value of a variable. An empty one counts as absent, as the platforms' tools have it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The first of these that is set.
    pub(crate) fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    /// The variables whose names begin so, with the names in lower case, as `object_store` reads them.
    pub(crate) fn beginning_with(&self, prefix: &str) -> impl Iterator<Item = (String, &str)> {
        let set = self.0.iter().filter(|(_, value)| !value.is_empty());
        set.filter(move |(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Names only: values may be secrets.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
