//! Which rules look at a replica, what each of them said, might cost and read, and up to which message they judged: tables in its file.

use std::collections::BTreeMap;

use synddb_protocol::id::Sequence;
use synddb_sqlite::connection::has_table;
use synddb_sqlite::rules::{Meaning, RuleText};
use synddb_sqlite::rusqlite::types::Type;
use synddb_sqlite::rusqlite::{self, Connection, OptionalExtension as _, params};

use super::violations::number;
use super::{DEFAULT_RULES, Rulebook};

/// A rule that has seen all rows there were, and every commit since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// Its tables and text; empty for a rule in Rust and for a default rule.
    pub(super) said: String,
    /// Instructions that it may take for one commit.
    pub(super) steps: u64,
    /// What it read when it was compiled last.
    pub(super) meaning: Option<Meaning>,
}

/// What a rule says.
pub(super) fn said_by(text: &RuleText) -> String {
    format!("{}: {}", text.tables.join(", "), text.sql)
}

/// Makes the tables in a file that has none.
pub(super) fn create(file: &Connection) -> rusqlite::Result<()> {
    file.execute_batch(
        "CREATE TABLE IF NOT EXISTS main._synddb_rules(
             name TEXT PRIMARY KEY,
             said TEXT NOT NULL,
             steps INTEGER NOT NULL,
             meaning TEXT
         );
         CREATE TABLE IF NOT EXISTS main._synddb_judged(
             one INTEGER PRIMARY KEY CHECK (one = 1),
             sequence INTEGER NOT NULL
         )",
    )
}

/// Whether rules look at a replica.
pub(crate) fn is_judged(file: &Connection) -> rusqlite::Result<bool> {
    has_table(file, "_synddb_rules")
}

/// The rules, by their names; none where there is no table.
pub(super) fn read(file: &Connection) -> rusqlite::Result<BTreeMap<String, Known>> {
    if !is_judged(file)? {
        return Ok(BTreeMap::new());
    }
    let mut statement = file.prepare("SELECT name, said, steps, meaning FROM main._synddb_rules")?;
    let rows = statement.query_map([], |row| {
        let meaning: Option<String> = row.get(3)?;
        let meaning = meaning.map(|text| meaning_of(&text)).transpose()?;
        let steps = row.get::<_, i64>(2)?.cast_unsigned();
        Ok((row.get(0)?, Known { said: row.get(1)?, steps, meaning }))
    })?;
    rows.collect()
}

/// Which rule looks at a replica and is not in a book, says something else there, or may cost something else; `None` where each is.
pub(crate) fn lacking(rulebook: &Rulebook, file: &Connection) -> rusqlite::Result<Option<String>> {
    let said = |name: &str| rulebook.texts.iter().find(|text| text.name == name).map(said_by);
    let mut others = read(file)?.into_iter().filter(|(name, _)| !DEFAULT_RULES.contains(&name.as_str()));
    let other = others.find(|(name, known)| {
        said(name).as_ref() != Some(&known.said) || known.steps != rulebook.bounds.steps
    });
    Ok(other.map(|(name, _)| name))
}

/// How many instructions the rules that look at a replica may take for one commit; `None` where none does.
pub(crate) fn steps_of(file: &Connection) -> rusqlite::Result<Option<u64>> {
    if !is_judged(file)? {
        return Ok(None);
    }
    let steps: Option<i64> =
        file.query_row("SELECT max(steps) FROM main._synddb_rules", [], |row| row.get(0))?;
    Ok(steps.map(i64::cast_unsigned))
}

/// Writes down which rules have seen all rows, and what they mean.
pub(super) fn write(
    file: &Connection,
    rulebook: &Rulebook,
    meant: &BTreeMap<String, Meaning>,
) -> rusqlite::Result<()> {
    file.execute("DELETE FROM main._synddb_rules", [])?;
    let sql = "INSERT OR REPLACE INTO main._synddb_rules(name, said, steps, meaning) VALUES(?1, ?2, ?3, ?4)";
    let mut insert = file.prepare(sql)?;
    let steps = rulebook.bounds.steps.cast_signed();
    for text in rulebook.texts.iter() {
        let meaning = meant.get(&text.name).map(text_of);
        insert.execute(params![text.name, said_by(text), steps, meaning])?;
    }
    let others = rulebook.rules.iter().map(|rule| rule.name()).chain(DEFAULT_RULES);
    for name in others {
        insert.execute(params![name, "", steps, None::<String>])?;
    }
    Ok(())
}

/// What one file says comes into another one.
pub(super) fn copy(from: &Connection, to: &Connection) -> rusqlite::Result<()> {
    create(to)?;
    let sql = "INSERT OR REPLACE INTO main._synddb_rules(name, said, steps, meaning) VALUES(?1, ?2, ?3, ?4)";
    let mut insert = to.prepare(sql)?;
    for (name, Known { said, steps, meaning }) in read(from)? {
        insert.execute(params![name, said, steps.cast_signed(), meaning.as_ref().map(text_of)])?;
    }
    judged(from)?.map_or(Ok(()), |through| write_judged(to, through))
}

/// The message up to which every commit was judged; `None` where nobody has judged yet.
pub(super) fn judged(file: &Connection) -> rusqlite::Result<Option<Sequence>> {
    if !has_table(file, "_synddb_judged")? {
        return Ok(None);
    }
    let sql = "SELECT sequence FROM main._synddb_judged WHERE one = 1";
    let read: Option<i64> = file.query_row(sql, [], |row| row.get(0)).optional()?;
    read.map(|sequence| number(0, sequence, Sequence::new)).transpose()
}

/// Every commit up to this message is judged.
pub(super) fn write_judged(file: &Connection, through: Sequence) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO main._synddb_judged(one, sequence) VALUES(1, ?1)";
    file.prepare_cached(sql)?.execute([through.get().cast_signed()]).map(drop)
}

/// Writes down what rules mean now.
pub(super) fn write_meant(file: &Connection, meant: &BTreeMap<String, Meaning>) -> rusqlite::Result<()> {
    let mut update = file.prepare("UPDATE main._synddb_rules SET meaning = ?2 WHERE name = ?1")?;
    meant.iter().try_for_each(|(name, meaning)| update.execute(params![name, text_of(meaning)]).map(drop))
}

fn text_of(meaning: &Meaning) -> String {
    serde_json::json!([meaning.reads, meaning.is_broken]).to_string()
}

fn meaning_of(text: &str) -> rusqlite::Result<Meaning> {
    let (reads, is_broken) = serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(3, Type::Text, Box::new(error)))?;
    Ok(Meaning { reads, is_broken })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_a_rule_means_comes_back() {
        let reads = vec![("changed_t".to_owned(), "a".to_owned(), 2), ("u".to_owned(), String::new(), 1)];
        for meaning in [
            Meaning::default(),
            Meaning { reads: Some(reads.clone()), is_broken: false },
            Meaning { reads: Some(reads), is_broken: true },
        ] {
            assert_eq!(meaning_of(&text_of(&meaning)).unwrap(), meaning);
        }
        assert!(meaning_of("{}").is_err());
    }
}
