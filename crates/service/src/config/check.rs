//! What a configuration comes to, and where each of its values is from.

use std::fmt;
use std::path::Path;

use figment::{Figment, Metadata, Source};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keys::sections;
use super::unknown::refused;
use super::written::value;
use super::{ConfigError, sources};

/// Where a value is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// This file.
    File(String),
    /// This variable of the environment.
    Variable(String),
}

/// What a key comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The key, in the dotted form of TOML.
    pub key: String,
    /// Its value as TOML has it, without what a URL says of a user; `None` where nothing is set.
    pub value: Option<String>,
    /// Where that is from.
    pub origin: Origin,
}

impl fmt::Display for Setting {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(to, "{} = {value}", self.key)?,
            None => write!(to, "{} is not set", self.key)?,
        }
        match &self.origin {
            Origin::Default => Ok(()),
            Origin::File(file) => write!(to, "  # {file}"),
            Origin::Variable(variable) => write!(to, "  # {variable}"),
        }
    }
}

/// Reads a configuration as a process does that is given this file, and says what each key comes to, in the order of the type.
///
/// # Errors
/// [`ConfigError`] that names the key.
pub fn settings<T: JsonSchema + Serialize + DeserializeOwned + Default>(
    file: Option<&Path>,
    prefix: &str,
) -> Result<(T, Vec<Setting>), ConfigError> {
    let sources = sources::<T>(file, prefix)?;
    let config: T = sources.extract().map_err(refused::<T>)?;
    let mut settings = Vec::new();
    for section in sections::<T>() {
        for key in &section.keys {
            let dotted = section.dotted(key);
            let found = sources.find_value(&dotted).ok();
            let found = found.and_then(|found| serde_json::to_value(found).ok());
            let origin = origin(&sources, &dotted, section.variable(prefix, key));
            let value = found.filter(|found| !found.is_null()).map(|found| value(&without_user(found)));
            settings.push(Setting { key: dotted, value, origin });
        }
    }
    Ok((config, settings))
}

fn origin(sources: &Figment, dotted: &str, variable: String) -> Origin {
    let Some(Metadata { name, source, .. }) = sources.find_metadata(dotted) else { return Origin::Default };
    match source {
        Some(Source::File(file)) => Origin::File(file.display().to_string()),
        _ if name.contains("environment") => Origin::Variable(variable),
        _ => Origin::Default,
    }
}

/// A URL may hold a password before its host, or a key in its query. Configurations should not, but what is printed is copied into reports.
fn without_user(mut found: Value) -> Value {
    match &mut found {
        Value::String(text) => {
            if let Some((scheme, rest)) = text.split_once("://") {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (authority, path) = rest.split_at(end);
                let authority = match authority.rsplit_once('@') {
                    Some((_, host)) => format!("***@{host}"),
                    None => authority.to_owned(),
                };
                let path =
                    path.split_once('?').map_or_else(|| path.to_owned(), |(path, _)| format!("{path}?***"));
                *text = format!("{scheme}://{authority}{path}");
            }
        }
        Value::Array(items) => {
            *items = std::mem::take(items).into_iter().map(without_user).collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
    }
    found
}
