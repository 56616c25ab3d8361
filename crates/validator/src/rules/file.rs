//! The file of rules: TOML, one `[[rule]]` after the other.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use synddb_sqlite::rules::RuleText;

use super::{DEFAULT_RULES, Rule};

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most rules.
const RULES_MAX: usize = 256;
/// Longest name, in characters.
const NAME_CHARS_MAX: usize = 100;
/// Longest query, in bytes.
const SQL_BYTES_MAX: usize = 64 << 10;

/// What a file of rules says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RulesFile {
    /// The rules, in its order.
    pub rules: Vec<RuleText>,
}

/// Why a file of rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesFileError {
    /// It cannot be read.
    #[error("the file of rules cannot be read; name another one in `rules`. file=`{}`", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is too large.
    #[error("the file of rules is too large. file=`{}` limit=`{FILE_BYTES_MAX}`", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// It is no TOML, or has other keys.
    #[error("the file of rules cannot be understood; each rule is `[[rule]]` with `name`, `tables` and `sql`. file=`{}`", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// There are too many.
    #[error("there are too many rules. found=`{found}` limit=`{RULES_MAX}`")]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// A rule cannot be one.
    #[error("{why}. rule=`{rule}`")]
    Rule {
        /// The rule.
        rule: String,
        /// Why not, and how to mend it.
        why: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    rule: Vec<WrittenRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    name: String,
    tables: Vec<String>,
    sql: String,
}

impl RulesFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`RulesFileError`].
    pub fn read(file: &Path) -> Result<Self, RulesFileError> {
        let io = |source| RulesFileError::Io { file: file.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(file).map_err(io)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(RulesFileError::TooLarge { file: file.to_owned() });
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| io(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error())))?;
        let malformed =
            |source| RulesFileError::Malformed { file: file.to_owned(), source: Box::new(source) };
        let written: Written = toml::from_str(&text).map_err(malformed)?;
        Self::of(written)
    }

    fn of(written: Written) -> Result<Self, RulesFileError> {
        if written.rule.len() > RULES_MAX {
            return Err(RulesFileError::TooMany { found: written.rule.len() });
        }
        let mut names = BTreeSet::new();
        let mut rules = Vec::new();
        for WrittenRule { name, tables, sql } in written.rule {
            check_name(&name, &mut names)?;
            let refused = |why| Err(RulesFileError::Rule { rule: name.clone(), why });
            if tables.is_empty() || tables.iter().any(String::is_empty) {
                return refused("a rule is evaluated when one of its tables changes; name them in `tables`");
            }
            if sql.trim().is_empty() || sql.len() > SQL_BYTES_MAX {
                return refused("a rule is a query of at most 64 KiB; write it in `sql`");
            }
            rules.push(RuleText { name, tables, sql });
        }
        Ok(Self { rules })
    }

    /// Whether rules in Rust have names of their own.
    ///
    /// # Errors
    /// [`RulesFileError::Rule`].
    pub(crate) fn check_beside(texts: &[RuleText], rules: &[Arc<dyn Rule>]) -> Result<(), RulesFileError> {
        let mut names: BTreeSet<String> = texts.iter().map(|text| text.name.clone()).collect();
        rules.iter().try_for_each(|rule| check_name(rule.name(), &mut names))
    }
}

fn check_name(name: &str, names: &mut BTreeSet<String>) -> Result<(), RulesFileError> {
    let refused = |why| Err(RulesFileError::Rule { rule: name.to_owned(), why });
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARS_MAX || name.chars().any(char::is_control) || name.trim() != name {
        return refused("a rule has a name of 1 to 100 characters that can be printed");
    }
    if DEFAULT_RULES.contains(&name) {
        return refused("this is the name of a rule that every validator has; give it another one");
    }
    if !names.insert(name.to_owned()) {
        return refused("two rules have this name; give one of them another one");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn read(text: &str) -> Result<RulesFile, String> {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("rules.toml");
        std::fs::write(&file, text).unwrap();
        RulesFile::read(&file).map_err(|error| synddb_protocol::chain(&error))
    }

    #[test]
    fn rules_are_read_in_their_order() {
        let text = r#"
            [[rule]]
            name = "no negative balance"
            tables = ["balances"]
            sql = "SELECT account FROM changed_balances WHERE amount < 0"

            [[rule]]
            name = "other"
            tables = ["a", "b"]
            sql = "SELECT 1 FROM changed_a"
        "#;
        let rules = read(text).unwrap().rules;
        assert_eq!(
            rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(),
            ["no negative balance", "other"]
        );
        assert_eq!(read("").unwrap(), RulesFile::default());
    }

    #[test]
    fn what_is_no_rule_is_refused_by_its_name() {
        let rule = |name: &str, tables: &str, sql: &str| {
            format!("[[rule]]\nname = {name:?}\ntables = {tables}\nsql = {sql:?}\n")
        };
        for (text, expected) in [
            (rule("", "[\"t\"]", "SELECT 1"), "1 to 100 characters"),
            (rule(&"x".repeat(101), "[\"t\"]", "SELECT 1"), "1 to 100 characters"),
            (rule("incarnation", "[\"t\"]", "SELECT 1"), "every validator has"),
            (rule("r", "[]", "SELECT 1"), "name them in `tables`"),
            (rule("r", "[\"t\"]", " "), "write it in `sql`"),
            (rule("r", "[\"t\"]", "SELECT 1").repeat(2), "two rules have this name"),
            ("[[rule]]\nname = \"r\"\n".to_owned(), "missing field"),
            ("[[rules]]\nname = \"r\"\n".to_owned(), "unknown field"),
            ((0..257).map(|at| rule(&format!("r{at}"), "[\"t\"]", "SELECT 1")).collect(), "too many rules"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        // The limit lies within a character.
        assert!(read(&format!("#{}", "\u{e9}".repeat(1 << 19))).unwrap_err().contains("too large"));
    }
}
