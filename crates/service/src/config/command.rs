//! What the process of one role is asked to do by its arguments: to run, or to say something of its configuration.

use std::ffi::OsString;
use std::path::PathBuf;

/// What a process is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// To run as this file says.
    Run(Option<PathBuf>),
    /// To print the configuration file of its defaults.
    Default,
    /// To say what the configuration comes to, and whether it could begin as that says.
    Check(Option<PathBuf>),
    /// To print its release.
    Version,
}

/// Why it is not asked anything that it does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "write `[CONFIG]` to run, `config default`, `config check [CONFIG]`, or `--version`. argument=`{argument}`"
)]
pub struct Misasked {
    argument: String,
}

/// Reads the arguments behind the name of the program. `variable` names the configuration file where they name none.
///
/// # Errors
/// [`Misasked`] for any other argument.
pub fn asked(
    arguments: impl IntoIterator<Item = OsString>,
    variable: Option<OsString>,
) -> Result<Asked, Misasked> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let words: Vec<&str> = arguments.iter().map(|argument| argument.to_str().unwrap_or_default()).collect();
    let file = |at: usize| arguments.get(at).cloned().or(variable).map(PathBuf::from);
    match words.as_slice() {
        ["--version"] => Ok(Asked::Version),
        ["config", "default"] => Ok(Asked::Default),
        ["config", "check"] | ["config", "check", _] => Ok(Asked::Check(file(2))),
        [] => Ok(Asked::Run(file(0))),
        [one] if !one.starts_with('-') && *one != "config" => Ok(Asked::Run(file(0))),
        [.., _] => {
            let argument = arguments.last().map(|last| last.to_string_lossy().into_owned());
            Err(Misasked { argument: argument.unwrap_or_default() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Asked, Misasked> {
        asked(line.split_whitespace().map(OsString::from), Some("variable.toml".into()))
    }

    #[test]
    fn arguments_are_told_apart() {
        assert_eq!(of(""), Ok(Asked::Run(Some("variable.toml".into()))));
        assert_eq!(of("one.toml"), Ok(Asked::Run(Some("one.toml".into()))));
        assert_eq!(of("config default"), Ok(Asked::Default));
        assert_eq!(of("config check"), Ok(Asked::Check(Some("variable.toml".into()))));
        assert_eq!(of("config check one.toml"), Ok(Asked::Check(Some("one.toml".into()))));
        assert_eq!(of("--version"), Ok(Asked::Version));
        for wrong in ["--help", "config", "config defaults", "one.toml two.toml", "config check a b"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert_eq!(asked([], None), Ok(Asked::Run(None)));
    }
}
