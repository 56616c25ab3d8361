//! One typed struct per process: defaults < TOML file < environment < command line.
//!
//! A key that the struct does not know is refused with its name, as long as the struct says `deny_unknown_fields`.
//! Only processes read the environment; no library does.
//!
//! What a configuration consists of is read from its type: [`default_file`] and [`reference_page`] print it, [`settings`] says what
//! each key comes to in one place and where that is from.

mod check;
mod command;
mod keys;
mod unknown;
mod written;

pub use check::{Origin, Setting, settings};
pub use command::{Asked, Misasked, asked};
pub use keys::{Key, Section, sections};
pub use written::{default_file, file_with, reference_page};

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was named is not there.
    #[error("there is no such configuration file; check the path. file=`{}`", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// A key is unknown, and another one may have been meant, or the same one in another table.
    #[error("the configuration is refused; write `{meant}` if that is meant. key=`{key}`")]
    Unknown {
        /// The key.
        key: String,
        /// The other one, in the dotted form of TOML.
        meant: String,
        /// Which keys there are, and where this one is written.
        source: Box<figment::Error>,
    },
    /// A key is unknown, or a value is not what its key takes.
    #[error("the configuration is refused")]
    Refused(#[from] Box<figment::Error>),
}

/// What follows the prefix of the variable that names the file.
const FILE: &str = "config";

/// Reads a configuration. `prefix` is that of the environment, as in `SYNDDB_SEQUENCER_`; two underscores part the levels of a
/// key, and `{prefix}CONFIG` is the process's own: where the file is. `overrides` is what the command line gave; what it leaves out
/// must not be serialized.
///
/// # Errors
/// [`ConfigError`] that names the key.
pub fn load<T: JsonSchema + Serialize + DeserializeOwned + Default>(
    file: Option<&Path>,
    prefix: &str,
    overrides: &impl Serialize,
) -> Result<T, ConfigError> {
    let sources = sources::<T>(file, prefix)?.merge(Serialized::defaults(overrides));
    sources.extract().map_err(unknown::refused::<T>)
}

/// Everything but the command line.
fn sources<T: Serialize + Default>(file: Option<&Path>, prefix: &str) -> Result<Figment, ConfigError> {
    let mut sources = Figment::from(Serialized::defaults(T::default()));
    if let Some(file) = file {
        if !file.is_file() {
            return Err(ConfigError::Missing { file: file.to_owned() });
        }
        sources = sources.merge(Toml::file_exact(file));
    }
    Ok(sources.merge(Env::prefixed(prefix).ignore(&[FILE]).split("__")))
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        listen: String,
        age_ms: u64,
        tls: Option<Tls>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Tls {
        certificate_file: String,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self { listen: "127.0.0.1:8433".to_owned(), age_ms: 500, tls: None }
        }
    }

    #[derive(Serialize, Default)]
    struct Overrides {
        #[serde(skip_serializing_if = "Option::is_none")]
        age_ms: Option<u64>,
    }

    const PREFIX: &str = "SYNDDB_NOBODY_SETS_THIS_";

    #[test]
    fn later_sources_win() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.toml");
        std::fs::write(&file, "listen = \"[::1]:1\"\nage_ms = 7\n").unwrap();
        let read = load::<Settings>(Some(&file), PREFIX, &Overrides { age_ms: Some(9) }).unwrap();
        assert_eq!(read, Settings { listen: "[::1]:1".to_owned(), age_ms: 9, tls: None });
        let defaults = load::<Settings>(None, PREFIX, &Overrides::default()).unwrap();
        assert_eq!(defaults, Settings::default());
    }

    #[test]
    fn unknown_keys_and_missing_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.toml");
        std::fs::write(&file, "lissten = \"\"\n").unwrap();
        let refused = load::<Settings>(Some(&file), PREFIX, &Overrides::default()).unwrap_err();
        assert!(synddb_protocol::chain(&refused).contains("lissten"), "{refused}");
        for (line, meant) in [
            ("lissten = \"\"", Some("listen")),
            ("certificate_file = \"\"", Some("tls.certificate_file")),
            ("[tls]\ncertficate_file = \"\"", Some("tls.certificate_file")),
            ("token_file = \"\"", None),
        ] {
            std::fs::write(&file, line).unwrap();
            let refused = load::<Settings>(Some(&file), PREFIX, &Overrides::default()).unwrap_err();
            let said = synddb_protocol::chain(&refused);
            assert_eq!(said.contains("if that is meant"), meant.is_some(), "{said}");
            assert!(meant.is_none_or(|meant| said.contains(&format!("`{meant}`"))), "{said}");
            assert!(said.contains("expected"), "{said}");
        }
        let missing = load::<Settings>(Some(&folder.path().join("no")), PREFIX, &Overrides::default());
        assert!(matches!(missing, Err(ConfigError::Missing { .. })));
    }
}
