//! The second oracle: SQLite's session extension recorded the same transaction in its own way, and must have seen the same rows.
//!
//! The session works on rows while statements run, capture on pages afterwards. They share nothing but SQLite, so what both say is
//! right. Where the session is known to say something else, both sides are brought to one form first; each place says why.

use std::collections::BTreeMap;

use synddb_protocol::hash::StateHash;
use synddb_protocol::state::Value;
use synddb_protocol::submission::{self, TextEncoding};
use synddb_sqlite::apply::Applier;
use synddb_sqlite::changeset::{Reader, RowChange, Step};
use synddb_sqlite::connection::{Connection, SqliteError, quoted};
use synddb_sqlite::schema::{Affinity, Identity, Layout, to_text};

use super::report::Report;

/// A value in one form for both sides: class and bytes.
type Plain = Vec<u8>;
/// A row out of a changeset: its values, absent where the change does not tell them. Empty when there is no row.
type Row = Vec<Option<Owned>>;
/// A row before and after.
type Change = (Row, Row);
/// A row before and after in one form; values that a change does not tell are absent.
type Pair = (Option<Vec<Option<Plain>>>, Option<Vec<Option<Plain>>>);
/// Changes of one table by primary key.
type Changes = BTreeMap<Vec<Plain>, Pair>;

/// Why some tables are not compared in some commits.
const LOSSY: &str = "UTF-16 text that UTF-8 cannot hold";

/// Compares what capture and a session say about one commit. Returns how many row changes were the same on both sides.
///
/// The replica stands after the commit, in a transaction.
pub(super) fn compare(
    captured: &[u8],
    session: &[u8],
    applier: &Applier,
    report: &mut Report,
) -> Result<u64, String> {
    let state = applier.state();
    let mut skipped = Vec::new();
    let mut tables: BTreeMap<String, Sides> = BTreeMap::new();
    for (name, changes) in split_session(session) {
        tables.entry(name).or_default().session = changes;
    }
    split_captured(captured, |name, change| tables.entry(name.to_owned()).or_default().captured.push(change));
    let mut confirmed = 0;
    for (name, sides) in &tables {
        // `sqlite_stat1` is not replicated, `sqlite_sequence` has no key and no session records it.
        if name.starts_with("sqlite_") {
            continue;
        }
        let layout = state.layout(name).ok_or_else(|| format!("no layout of table `{name}`"))?;
        let table = Table::of(applier.connection(), layout)?;
        if table.key.is_empty() {
            // Without a declared key a session records nothing.
            continue;
        }
        match table.both(sides) {
            Err(reason) => skipped.push(reason),
            Ok((captured, session)) if captured == session => confirmed += captured.len() as u64,
            Ok((captured, session)) => return Err(first_difference(name, &captured, &session)),
        }
    }
    for reason in skipped {
        *report.session_skipped.entry(reason).or_default() += 1;
    }
    Ok(confirmed)
}

/// Compares what capture and the recorder of the embedded source say about one commit, and the state hash after it.
pub(super) fn compare_recorded(
    captured: &submission::Changes,
    recorded: &submission::Changes,
    (captured_state, recorded_state): (StateHash, StateHash),
) -> Result<(), String> {
    if captured_state != recorded_state {
        return Err("the recorder's state hash differs from the follower's".to_owned());
    }
    let header = |changes: &submission::Changes| (changes.user_version, changes.application_id);
    if header(captured) != header(recorded) {
        return Err("the recorder's header values differ from the follower's".to_owned());
    }
    // Where the schema changed, the recorder may have a table rebuilt whose rows the follower compares; the state is the judge.
    if !captured.schema.is_empty() || !recorded.schema.is_empty() {
        return Ok(());
    }
    let tables = |rows: &[u8]| {
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        split_captured(rows, |name, change| {
            tables.entry(name.to_owned()).or_default().push(format!("{change:?}"))
        });
        tables.values_mut().for_each(|changes| changes.sort());
        tables
    };
    let (captured, recorded) = (tables(&captured.rows), tables(&recorded.rows));
    match captured.iter().find(|(name, changes)| recorded.get(*name) != Some(changes)) {
        Some((name, changes)) => {
            Err(format!("table {name}: the recorder has {:?}, capture {changes:?}", recorded.get(name)))
        }
        None if captured.len() != recorded.len() => {
            Err("the recorder has rows of more tables than capture".to_owned())
        }
        None => Ok(()),
    }
}

#[derive(Default)]
struct Sides {
    captured: Vec<Change>,
    session: Vec<Change>,
}

/// A value out of a changeset.
#[derive(Debug, Clone, PartialEq)]
enum Owned {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl From<Value<'_>> for Owned {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Integer(value) => Self::Integer(value),
            Value::Real(value) => Self::Real(value),
            Value::Text(bytes) => Self::Text(bytes.to_vec()),
            Value::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
}

fn split_captured(bytes: &[u8], mut each: impl FnMut(&str, Change)) {
    let mut reader = Reader::new(bytes);
    let mut table = String::new();
    let whole = |row: Vec<Value<'_>>| row.into_iter().map(|value| Some(value.into())).collect();
    let partial = |row: Vec<Option<Value<'_>>>| row.into_iter().map(|value| value.map(Owned::from)).collect();
    while let Some(step) = reader.step().unwrap() {
        match step {
            Step::Table(next) => table.clone_from(&next.name),
            Step::Row(RowChange::Insert { new }) => each(&table, (Vec::new(), whole(new))),
            Step::Row(RowChange::Delete { old }) => each(&table, (whole(old), Vec::new())),
            Step::Row(RowChange::Update { old, new }) => each(&table, (partial(old), partial(new))),
        }
    }
}

/// Reads SQLite's own form, in which the indirect flag (of rows that triggers changed) may be 1. Nothing here needs it.
fn split_session(bytes: &[u8]) -> Vec<(String, Vec<Change>)> {
    let mut cursor = Cursor(bytes);
    let mut tables: Vec<(String, Vec<_>)> = Vec::new();
    let mut columns = 0;
    while !cursor.0.is_empty() {
        let code = cursor.take(1)[0];
        if code == b'T' {
            columns = cursor.varint();
            cursor.take(columns);
            let length = cursor.0.iter().position(|byte| *byte == 0).unwrap();
            let name = String::from_utf8(cursor.take(length).to_vec()).unwrap();
            cursor.take(1);
            tables.push((name, Vec::new()));
            continue;
        }
        cursor.take(1);
        let mut row = || (0..columns).map(|_| cursor.value()).collect();
        // 18 insert, 9 delete, 23 update.
        let change = match code {
            18 => (Vec::new(), row()),
            9 => (row(), Vec::new()),
            _ => (row(), row()),
        };
        tables.last_mut().unwrap().1.push(change);
    }
    tables
}

struct Cursor<'b>(&'b [u8]);

impl<'b> Cursor<'b> {
    fn take(&mut self, length: usize) -> &'b [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn varint(&mut self) -> usize {
        let mut value = 0;
        loop {
            let byte = self.take(1)[0];
            value = value << 7 | usize::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    fn value(&mut self) -> Option<Owned> {
        let class = self.take(1)[0];
        match class {
            0 => None,
            1 | 2 => {
                let bits = u64::from_be_bytes(self.take(8).try_into().unwrap());
                Some(if class == 1 {
                    Owned::Integer(bits.cast_signed())
                } else {
                    Owned::Real(f64::from_bits(bits))
                })
            }
            5 => Some(Owned::Null),
            _ => {
                let length = self.varint();
                let bytes = self.take(length).to_vec();
                Some(if class == 3 { Owned::Text(bytes) } else { Owned::Blob(bytes) })
            }
        }
    }
}

/// A table as both sides are brought to one form in.
struct Table<'t> {
    connection: &'t Connection,
    layout: &'t Layout,
    /// For each place of a session's row, the place among the stored columns: sessions leave generated columns out.
    given: Vec<usize>,
    /// The places of the primary key in a session's row. For a rowid table with another key this is not the identity.
    key: Vec<usize>,
}

impl<'t> Table<'t> {
    fn of(connection: &'t Connection, layout: &'t Layout) -> Result<Self, String> {
        let given: Vec<usize> =
            (0..layout.columns.len()).filter(|at| !layout.columns[*at].generated).collect();
        let mut names = Vec::new();
        let mut statement = connection
            .sqlite()
            .prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE pk > 0")
            .map_err(|error| error.to_string())?;
        let mut rows = statement.query([&layout.name]).map_err(|error| error.to_string())?;
        while let Some(row) = rows.next().map_err(|error| error.to_string())? {
            names.push(row.get::<_, String>(0).map_err(|error| error.to_string())?);
        }
        let is_key = |at: &usize| names.contains(&layout.columns[given[*at]].name);
        let key = (0..given.len()).filter(is_key).collect();
        Ok(Self { connection, layout, given, key })
    }

    /// Both sides in one form, or why a session says nothing about this commit.
    fn both(&self, sides: &Sides) -> Result<(Changes, Changes), &'static str> {
        let captured = self.captured(sides)?;
        let mut session = Changes::new();
        for (old, new) in &sides.session {
            let (old, new) = (self.plain(old)?, self.plain(new)?);
            let from = if old.is_empty() { &new } else { &old };
            let key: Option<Vec<Plain>> = self.key.iter().map(|at| from[*at].clone()).collect();
            let key = key.ok_or("a session told no key")?;
            let (old, new) = if !old.is_empty() && !new.is_empty() { changed(old, new) } else { (old, new) };
            // What the session took for a change may be none in this form, and only the key is left.
            let is_update = !old.is_empty() && !new.is_empty();
            if !is_update || new.iter().any(Option::is_some) {
                session.insert(key, (some(old), some(new)));
            }
        }
        Ok((captured, session))
    }

    /// The captured changes as changes of primary keys.
    ///
    /// Where the identity is a rowid and the key another column, a REPLACE gives a key to another rowid: the session has an update,
    /// capture a delete and an insert. And an update of the key is a delete and an insert to the session. So every change is taken
    /// apart into the row before and the row after, and these are joined again by key.
    fn captured(&self, sides: &Sides) -> Result<Changes, &'static str> {
        let mut apart: BTreeMap<Vec<Plain>, Pair> = BTreeMap::new();
        let mut spellings: BTreeMap<Vec<Plain>, Vec<Plain>> = BTreeMap::new();
        for (old, new) in &sides.captured {
            let (old, new) = self.whole(old, new)?;
            for (is_old, row) in [(true, old), (false, new)] {
                if row.is_empty() {
                    continue;
                }
                let row = self.plain(&self.in_utf8(row)?)?;
                let key: Vec<Plain> = self.key.iter().filter_map(|at| row[*at].clone()).collect();
                // Sessions leave out rows with NULL in the key.
                if key.contains(&vec![NULL]) {
                    continue;
                }
                // A session looks rows up by what SQL calls equal. Where two keys of one transaction are equal in SQL but not
                // in bytes, it mixes them up.
                let folded = self.folded(&key);
                if *spellings.entry(folded).or_insert_with(|| key.clone()) != key {
                    return Err("two keys of the transaction are equal in SQL and not in bytes");
                }
                let pair = apart.entry(key).or_default();
                let side = if is_old { &mut pair.0 } else { &mut pair.1 };
                *side = Some(row);
            }
        }
        let mut joined = Changes::new();
        for (key, (old, new)) in apart {
            let (Some(old), Some(new)) = (&old, &new) else {
                joined.insert(key, (old, new));
                continue;
            };
            let (mut old, new) = changed(old.clone(), new.clone());
            if new.iter().all(Option::is_none) {
                continue;
            }
            for (at, value) in self.key.iter().zip(&key) {
                old[*at] = Some(value.clone());
            }
            joined.insert(key, (Some(old), Some(new)));
        }
        Ok(joined)
    }

    /// A captured change with all values: those that an update does not tell are the same before and after, so the replica has them.
    fn whole(&self, old: &[Option<Owned>], new: &[Option<Owned>]) -> Result<Change, &'static str> {
        let hidden = usize::from(self.layout.has_hidden_rowid());
        let pick =
            |row: &[Option<Owned>]| -> Row { self.given.iter().map(|at| row[at + hidden].clone()).collect() };
        if old.is_empty() || new.is_empty() {
            let only = |row: &[Option<Owned>]| if row.is_empty() { Vec::new() } else { pick(row) };
            return Ok((only(old), only(new)));
        }
        let after = self.stored(old)?;
        let after: Row = self.given.iter().map(|at| Some(after[*at].clone())).collect();
        let (told, changed) = (pick(old), pick(new));
        let before = told.iter().zip(&after).map(|(told, after)| told.clone().or_else(|| after.clone()));
        // The state hash is compared before this, so another row would be a fault of this test.
        let same = changed.iter().zip(&after).all(|(new, after)| new.is_none() || new == after);
        if !same {
            return Err("the replica's row is not the captured one");
        }
        Ok((before.collect(), after))
    }

    /// The row of this identity in the replica.
    fn stored(&self, old: &[Option<Owned>]) -> Result<Vec<Owned>, &'static str> {
        let (condition, identity): (String, Vec<&Option<Owned>>) = match &self.layout.identity {
            Identity::Rowid { name } => (format!("{name} = ?1"), vec![&old[0]]),
            Identity::IntegerKey { column } => ("rowid = ?1".to_owned(), vec![&old[*column]]),
            Identity::Key { columns } => {
                let names = columns.iter().zip(1..);
                let parts: Vec<String> = names
                    .map(|(at, place)| format!("{} IS ?{place}", quoted(&self.layout.columns[*at].name)))
                    .collect();
                (parts.join(" AND "), columns.iter().map(|at| &old[*at]).collect())
            }
        };
        let columns: Vec<String> = self.layout.columns.iter().map(|column| quoted(&column.name)).collect();
        let sql =
            format!("SELECT {} FROM {} WHERE {condition}", columns.join(", "), quoted(&self.layout.name));
        let values: Vec<Value<'_>> = identity
            .iter()
            .map(|value| match value {
                None | Some(Owned::Null) => Value::Null,
                Some(Owned::Integer(value)) => Value::Integer(*value),
                Some(Owned::Real(value)) => Value::Real(*value),
                Some(Owned::Text(bytes)) => Value::Text(bytes),
                Some(Owned::Blob(bytes)) => Value::Blob(bytes),
            })
            .collect();
        let mut found = Vec::new();
        let read = self.connection.prepare(&sql).and_then(|mut statement| {
            statement.query::<SqliteError>(&values, |row| {
                found = row.values().into_iter().map(Owned::from).collect();
                Ok(())
            })
        });
        if read.is_err() || found.is_empty() {
            return Err("the replica lacks the captured row");
        }
        Ok(found)
    }

    /// Sessions turn text into UTF-8, and what UTF-8 cannot hold into something else.
    fn in_utf8(&self, row: Row) -> Result<Row, &'static str> {
        let encoding = self.connection.encoding();
        if encoding == TextEncoding::Utf8 {
            return Ok(row);
        }
        let text = |value: Option<Owned>| match value {
            Some(Owned::Text(bytes)) => {
                let text = to_text(&bytes, encoding).map_err(|_| LOSSY)?;
                Ok(Some(Owned::Text(text.into_bytes())))
            }
            value => Ok(value),
        };
        row.into_iter().map(text).collect()
    }

    fn plain(&self, row: &[Option<Owned>]) -> Result<Vec<Option<Plain>>, &'static str> {
        row.iter()
            .enumerate()
            .map(|(at, value)| {
                let real = self.layout.columns[self.given[at]].affinity == Affinity::Real;
                value.as_ref().map(|value| plain(value, real)).transpose()
            })
            .collect()
    }

    /// A key as SQL compares it, whatever the collation of the column: letters in one case, no blanks at the end, numbers by value.
    fn folded(&self, key: &[Plain]) -> Vec<Plain> {
        let fold = |value: &Plain| match value.first() {
            Some(&TEXT) => {
                let end = value.iter().rposition(|byte| *byte != b' ').map_or(0, |at| at + 1);
                value[..end].to_ascii_lowercase()
            }
            Some(&REAL) => {
                let real = f64::from_bits(u64::from_be_bytes(value[1..].try_into().unwrap()));
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "only whole numbers in range are compared so"
                )]
                let whole = real as i64;
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "a number that does not come back is no whole one"
                )]
                let same = whole as f64 == real;
                if same { number(whole) } else { value.clone() }
            }
            _ => value.clone(),
        };
        key.iter().map(fold).collect()
    }
}

const INTEGER: u8 = 1;
const REAL: u8 = 2;
const TEXT: u8 = 3;
const BLOB: u8 = 4;
const NULL: u8 = 5;

fn number(value: i64) -> Plain {
    let mut plain = vec![INTEGER];
    plain.extend(value.to_be_bytes());
    plain
}

fn plain(value: &Owned, real_column: bool) -> Result<Plain, &'static str> {
    Ok(match value {
        Owned::Null => vec![NULL],
        // A session takes the default of a REAL column that ADD COLUMN gave it for an integer.
        #[expect(clippy::cast_precision_loss, reason = "that is what SQLite does with it")]
        Owned::Integer(value) if real_column => plain(&Owned::Real(*value as f64), false)?,
        Owned::Integer(value) => number(*value),
        // To a session 0.0 and -0.0 are the same, so that a change from one to the other is none.
        Owned::Real(value) => {
            let value = if *value == 0.0 { 0.0 } else { *value };
            let mut plain = vec![REAL];
            plain.extend(value.to_bits().to_be_bytes());
            plain
        }
        Owned::Text(bytes) => [&[TEXT], bytes.as_slice()].concat(),
        Owned::Blob(bytes) => [&[BLOB], bytes.as_slice()].concat(),
    })
}

/// What of two rows differs.
fn changed(old: Vec<Option<Plain>>, new: Vec<Option<Plain>>) -> (Vec<Option<Plain>>, Vec<Option<Plain>>) {
    let pairs = old.into_iter().zip(new);
    pairs.map(|(old, new)| if old == new { (None, None) } else { (old, new) }).unzip()
}

fn some(row: Vec<Option<Plain>>) -> Option<Vec<Option<Plain>>> {
    (!row.is_empty()).then_some(row)
}

fn first_difference(table: &str, captured: &Changes, session: &Changes) -> String {
    let show = |pair: Option<&Pair>| {
        pair.map_or("nothing".to_owned(), |pair| {
            let row = |row: &Option<Vec<Option<Plain>>>| match row {
                None => "no row".to_owned(),
                Some(row) => {
                    let value = |value: &Option<Plain>| {
                        value.as_ref().map_or("-".to_owned(), |value| {
                            let rest: String =
                                value[1..].iter().take(24).map(|byte| format!("{byte:02x}")).collect();
                            format!("{}:{rest}({})", value[0], value.len() - 1)
                        })
                    };
                    row.iter().map(value).collect::<Vec<_>>().join(" ")
                }
            };
            format!("[{}] -> [{}]", row(&pair.0), row(&pair.1))
        })
    };
    let keys = captured.keys().chain(session.keys());
    let key = keys.into_iter().find(|key| captured.get(*key) != session.get(*key)).unwrap();
    format!(
        "capture and session differ. table=`{table}` key=`{key:?}` captured={} session={}",
        show(captured.get(key)),
        show(session.get(key))
    )
}
