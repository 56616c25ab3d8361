//! What rules found, in the replica's file: written in the transaction that applies the message, there until somebody resolves it.
//!
//! The table's name keeps it outside of the state hash and of every comparison with the application's database. A rule that is violated again and
//! again does not fill the disk: the last of its open rows counts what came after it, and stands for all of that.

use serde::{Deserialize, Serialize};
use synddb_protocol::id::{CommitNumber, Epoch, IncarnationCounter, OutOfRange, Sequence, Timestamp};
use synddb_sqlite::connection::has_table;
use synddb_sqlite::rusqlite::types::Type;
use synddb_sqlite::rusqlite::{self, Connection, OptionalExtension as _, Row, params};
use utoipa::ToSchema;

/// Open violations of one rule that have a row of their own.
pub(super) const OPEN_MAX: usize = 16;
/// Resolved violations that are kept.
const RESOLVED_MAX: i64 = 1000;
/// Violations that are read at a time.
pub const VIOLATIONS_MAX: usize = 256;

/// Why a rule does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It names rows that must not be.
    Rows,
    /// It cannot be evaluated: a table or column that it reads is gone, or it failed.
    Unevaluated,
    /// It took longer than it may.
    TookTooLong,
    /// A message table changed in another way than it may.
    Messages,
    /// The application began a new incarnation that nobody has admitted.
    Incarnation,
}

impl Why {
    const ALL: [(Self, &str); 5] = [
        (Self::Rows, "rows"),
        (Self::Unevaluated, "unevaluated"),
        (Self::TookTooLong, "took_too_long"),
        (Self::Messages, "messages"),
        (Self::Incarnation, "incarnation"),
    ];

    fn text(self) -> &'static str {
        Self::ALL.iter().find(|(why, _)| *why == self).map_or("rows", |(_, text)| text)
    }

    fn of(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, named)| *named == text).map(|(why, _)| *why)
    }
}

/// How a violation was resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Somebody said so.
    Resolved,
    /// The rule was removed.
    RuleRemoved,
    /// The configuration admits the incarnation.
    Admitted,
}

impl How {
    const ALL: [(Self, &str); 3] =
        [(Self::Resolved, "resolved"), (Self::RuleRemoved, "rule_removed"), (Self::Admitted, "admitted")];

    fn text(self) -> &'static str {
        Self::ALL.iter().find(|(how, _)| *how == self).map_or("resolved", |(_, text)| text)
    }

    fn of(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, named)| *named == text).map(|(how, _)| *how)
    }
}

/// Rows that a rule names, as JSON writes their values (`spec/api.md`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Offending {
    /// The columns.
    pub columns: Vec<String>,
    /// The rows, as many as are kept.
    pub rows: Vec<Vec<serde_json::Value>>,
    /// Whether there are more.
    pub more: bool,
}

/// A place in the log where a rule did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: String,
    /// The message.
    pub sequence: Sequence,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its time: log time.
    pub timestamp: Timestamp,
    /// The incarnation.
    pub incarnation: IncarnationCounter,
    /// The commit; `None` of a snapshot.
    pub commit: Option<CommitNumber>,
    /// Why.
    pub why: Why,
    /// The same in words.
    pub detail: String,
    /// The rows that it names.
    pub offending: Offending,
}

/// That a violation was resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// When, by the clock of whoever runs the validator.
    pub at: Timestamp,
    /// How.
    pub how: How,
    /// Why, in somebody's words.
    pub because: String,
}

/// A violation as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number in this replica.
    pub id: u64,
    /// What was found.
    pub violation: Violation,
    /// How many violations of the same rule came after it that have no row of their own.
    pub further: u64,
    /// The last of those.
    pub through: Sequence,
    /// How it was resolved, if it was.
    pub resolved: Option<Resolved>,
}

/// A violation as somebody saw it, who then decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The rule.
    pub rule: String,
    /// The message.
    pub sequence: Sequence,
    /// How many violations it stood for that came after it.
    pub further: u64,
}

impl From<&Kept> for Seen {
    fn from(kept: &Kept) -> Self {
        let Violation { rule, sequence, .. } = &kept.violation;
        Self { rule: rule.clone(), sequence: *sequence, further: kept.further }
    }
}

/// Makes the table in a file that has none.
pub(crate) fn create(sqlite: &Connection) -> rusqlite::Result<()> {
    sqlite.execute_batch(
        "CREATE TABLE IF NOT EXISTS main._synddb_violations(
             id INTEGER PRIMARY KEY,
             rule TEXT NOT NULL,
             sequence INTEGER NOT NULL,
             epoch INTEGER NOT NULL,
             timestamp INTEGER NOT NULL,
             incarnation INTEGER NOT NULL,
             number INTEGER,
             why TEXT NOT NULL,
             detail TEXT NOT NULL,
             offending TEXT NOT NULL,
             further INTEGER NOT NULL DEFAULT 0,
             through INTEGER NOT NULL,
             resolved_at INTEGER,
             how TEXT,
             because TEXT
         )",
    )
}

fn exists(sqlite: &Connection) -> rusqlite::Result<bool> {
    has_table(sqlite, "_synddb_violations")
}

/// Writes one down, in the transaction that is open. `false` where the last open row of the rule only counts it.
pub(crate) fn add(sqlite: &Connection, violation: &Violation) -> rusqlite::Result<bool> {
    let Violation { rule, sequence, epoch, timestamp, incarnation, commit, why, detail, offending } =
        violation;
    let open =
        "SELECT count(*), max(id) FROM main._synddb_violations WHERE rule = ?1 AND resolved_at IS NULL";
    let (count, last): (i64, Option<i64>) =
        sqlite.prepare_cached(open)?.query_row([rule], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if let Some(last) = last.filter(|_| usize::try_from(count).is_ok_and(|count| count >= OPEN_MAX)) {
        let sql = "UPDATE main._synddb_violations SET further = further + 1, through = max(through, ?2) WHERE id = ?1";
        sqlite.prepare_cached(sql)?.execute(params![last, sequence.get().cast_signed()])?;
        return Ok(false);
    }
    let offending = serde_json::to_string(offending).unwrap_or_default();
    let sql = "INSERT INTO main._synddb_violations(rule, sequence, epoch, timestamp, incarnation, number, why, detail, offending, through) \
               VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?2)";
    sqlite.prepare_cached(sql)?.execute(params![
        rule,
        sequence.get().cast_signed(),
        epoch.get().cast_signed(),
        timestamp.as_ms().cast_signed(),
        incarnation.get().cast_signed(),
        commit.map(|commit| commit.get().cast_signed()),
        why.text(),
        detail,
        offending,
    ])?;
    Ok(true)
}

/// How many are open: nothing at or after the first of them is endorsed.
pub(crate) fn open(sqlite: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM main._synddb_violations WHERE resolved_at IS NULL";
    sqlite.query_row(sql, [], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))
}

/// Whether a rule was violated by an incarnation, however that ended.
pub(crate) fn knows(
    sqlite: &Connection,
    rule: &str,
    incarnation: IncarnationCounter,
) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM main._synddb_violations WHERE rule = ?1 AND incarnation = ?2";
    let counted =
        sqlite.query_row(sql, params![rule, incarnation.get().cast_signed()], |row| row.get::<_, i64>(0))?;
    Ok(counted > 0)
}

/// Resolves one as it was seen: the same place of the same rule, and nothing counted into it since. `None` where it is another one, or resolved.
pub(crate) fn resolve_seen(
    sqlite: &Connection,
    id: u64,
    seen: &Seen,
    resolved: &Resolved,
) -> rusqlite::Result<Option<Kept>> {
    let sql = "SELECT count(*) FROM main._synddb_violations WHERE id = ?1 AND rule = ?2 AND sequence = ?3 AND further = ?4";
    let place =
        params![id.cast_signed(), seen.rule, seen.sequence.get().cast_signed(), seen.further.cast_signed()];
    let same: i64 = sqlite.query_row(sql, place, |row| row.get(0))?;
    if same == 0 { Ok(None) } else { resolve(sqlite, id, resolved) }
}

/// Resolves one. `None` where there is none of this number that is open.
pub(crate) fn resolve(sqlite: &Connection, id: u64, resolved: &Resolved) -> rusqlite::Result<Option<Kept>> {
    let sql = "UPDATE main._synddb_violations SET resolved_at = ?2, how = ?3, because = ?4 \
               WHERE id = ?1 AND resolved_at IS NULL";
    let at = resolved.at.as_ms().cast_signed();
    let changed =
        sqlite.execute(sql, params![id.cast_signed(), at, resolved.how.text(), resolved.because])?;
    if changed == 0 {
        return Ok(None);
    }
    // An incarnation that was looked at once is known for good.
    let old = "DELETE FROM main._synddb_violations WHERE resolved_at IS NOT NULL AND why <> ?2 AND id < \
               (SELECT max(id) FROM main._synddb_violations) - ?1";
    sqlite.execute(old, params![RESOLVED_MAX, Why::Incarnation.text()])?;
    let read = format!("SELECT {COLUMNS} FROM main._synddb_violations WHERE id = ?1");
    sqlite.query_row(&read, [id.cast_signed()], kept).optional()
}

const COLUMNS: &str = "id, rule, sequence, epoch, timestamp, incarnation, number, why, detail, offending, further, through, resolved_at, how, because";

/// How many are open, also where there is no such table.
pub(crate) fn open_in(sqlite: &Connection) -> rusqlite::Result<u64> {
    if exists(sqlite)? { open(sqlite) } else { Ok(0) }
}

/// Those that are open and were found at or before a message, oldest first. Nothing where there is no such table.
pub(crate) fn open_through(sqlite: &Connection, through: Sequence) -> rusqlite::Result<Vec<Violation>> {
    if !exists(sqlite)? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM main._synddb_violations WHERE resolved_at IS NULL AND sequence <= ?1 ORDER BY id"
    );
    let mut statement = sqlite.prepare(&sql)?;
    let rows = statement.query_map([through.get().cast_signed()], |row| Ok(kept(row)?.violation))?;
    rows.collect()
}

/// What the file holds: the open ones first, oldest first, then the resolved ones, newest first; [`VIOLATIONS_MAX`] at most. Nothing where there is
/// no such table.
pub(crate) fn read(sqlite: &Connection) -> rusqlite::Result<Vec<Kept>> {
    if !exists(sqlite)? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM main._synddb_violations \
         ORDER BY resolved_at IS NOT NULL, CASE WHEN resolved_at IS NULL THEN id ELSE -id END LIMIT ?1"
    );
    let mut statement = sqlite.prepare(&sql)?;
    let rows = statement.query_map([i64::try_from(VIOLATIONS_MAX).unwrap_or(i64::MAX)], kept)?;
    rows.collect()
}

/// Everything that one file holds comes into another one that takes its place.
pub(crate) fn copy(from: &Connection, to: &Connection) -> rusqlite::Result<()> {
    if !exists(from)? {
        return Ok(());
    }
    let marks = COLUMNS.split(", ").enumerate().map(|(at, _)| format!("?{}", at + 1));
    let insert = format!(
        "INSERT OR REPLACE INTO main._synddb_violations({COLUMNS}) VALUES({})",
        marks.collect::<Vec<_>>().join(", ")
    );
    let mut insert = to.prepare(&insert)?;
    let mut read = from.prepare(&format!("SELECT {COLUMNS} FROM main._synddb_violations ORDER BY id"))?;
    let columns = read.column_count();
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at));
        let values = values.collect::<rusqlite::Result<Vec<_>>>()?;
        insert.execute(rusqlite::params_from_iter(values))?;
    }
    Ok(())
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let resolved_at: Option<i64> = row.get(12)?;
    let resolved = match resolved_at {
        None => None,
        Some(at) => Some(Resolved {
            at: number(12, at, Timestamp::from_ms)?,
            how: How::of(&row.get::<_, String>(13)?).ok_or_else(|| unreadable(13, "how it was resolved"))?,
            because: row.get(14)?,
        }),
    };
    let commit: Option<i64> = row.get(6)?;
    Ok(Kept {
        id: row.get::<_, i64>(0)?.cast_unsigned(),
        violation: Violation {
            rule: row.get(1)?,
            sequence: number(2, row.get(2)?, Sequence::new)?,
            epoch: number(3, row.get(3)?, Epoch::new)?,
            timestamp: number(4, row.get(4)?, Timestamp::from_ms)?,
            incarnation: number(5, row.get(5)?, IncarnationCounter::new)?,
            commit: commit.map(|commit| number(6, commit, CommitNumber::new)).transpose()?,
            why: Why::of(&row.get::<_, String>(7)?).ok_or_else(|| unreadable(7, "why"))?,
            detail: row.get(8)?,
            offending: serde_json::from_str(&row.get::<_, String>(9)?)
                .map_err(|error| rusqlite::Error::FromSqlConversionFailure(9, Type::Text, Box::new(error)))?,
        },
        further: row.get::<_, i64>(10)?.cast_unsigned(),
        through: number(11, row.get(11)?, Sequence::new)?,
        resolved,
    })
}

pub(super) fn number<T>(
    column: usize,
    number: i64,
    of: impl Fn(u64) -> Result<T, OutOfRange>,
) -> rusqlite::Result<T> {
    of(number.cast_unsigned()).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

fn unreadable(column: usize, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn violation(rule: &str, sequence: u64) -> Violation {
        Violation {
            rule: rule.to_owned(),
            sequence: Sequence::new(sequence).unwrap(),
            epoch: Epoch::FIRST,
            timestamp: Timestamp::from_ms(1000 + sequence).unwrap(),
            incarnation: IncarnationCounter::FIRST,
            commit: Some(CommitNumber::new(sequence).unwrap()),
            why: Why::Rows,
            detail: "a row".to_owned(),
            offending: Offending {
                columns: vec!["a".to_owned()],
                rows: vec![vec![serde_json::Value::from(-1)]],
                more: false,
            },
        }
    }

    fn resolved() -> Resolved {
        Resolved { at: Timestamp::from_ms(5).unwrap(), how: How::Resolved, because: "paid back".to_owned() }
    }

    #[test]
    fn what_is_written_is_read_and_copied() {
        let (one, two) = (Connection::open_in_memory().unwrap(), Connection::open_in_memory().unwrap());
        assert_eq!(read(&one).unwrap(), [], "there is no table");
        create(&one).unwrap();
        create(&two).unwrap();
        assert!(add(&one, &violation("r", 3)).unwrap());
        assert!(add(&one, &Violation { commit: None, why: Why::Incarnation, ..violation("s", 4) }).unwrap());
        assert_eq!(open(&one).unwrap(), 2);
        let kept = resolve(&one, 1, &resolved()).unwrap().unwrap();
        assert_eq!((kept.violation, kept.resolved), (violation("r", 3), Some(resolved())));
        assert_eq!(resolve(&one, 1, &resolved()).unwrap(), None, "it is resolved");
        assert_eq!(resolve(&one, 9, &resolved()).unwrap(), None, "there is none");
        let ids: Vec<u64> = read(&one).unwrap().iter().map(|kept| kept.id).collect();
        assert_eq!((ids.as_slice(), open(&one).unwrap()), (&[2, 1][..], 1));
        copy(&one, &two).unwrap();
        assert_eq!(read(&two).unwrap(), read(&one).unwrap());
    }

    #[test]
    fn a_rule_that_is_always_violated_takes_a_bounded_place_and_stays_open() {
        let sqlite = Connection::open_in_memory().unwrap();
        create(&sqlite).unwrap();
        let most = OPEN_MAX as u64;
        for sequence in 1..=most + 100 {
            assert_eq!(add(&sqlite, &violation("r", sequence)).unwrap(), sequence <= most);
        }
        assert!(add(&sqlite, &violation("other", 500)).unwrap());
        assert_eq!(open(&sqlite).unwrap(), most + 1);
        let last = read(&sqlite).unwrap().into_iter().find(|kept| kept.id == most).unwrap();
        assert_eq!((last.further, last.through.get()), (100, most + 100));
        for id in 1..=most {
            resolve(&sqlite, id, &resolved()).unwrap().unwrap();
        }
        assert_eq!(open(&sqlite).unwrap(), 1, "that of the other rule");
    }
}
