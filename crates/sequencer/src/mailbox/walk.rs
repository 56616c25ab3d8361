//! One commit, walked: which rows of `outbound_messages` it brings, and what they are worth; which inbound messages it acknowledges.
//!
//! Judges as validators do (`outbound_messages`, `inbound_messages` in their default rules): ids are dense, each comes once, no row is changed or deleted, and
//! what a table that was replaced or altered brings counts for nothing. A row is judged alone where they judge the commit: what they refuse for one row,
//! somebody may resolve, and then the others must have been signed.
//!
//! Pure: knows neither the store nor the file that remembers. What it cannot know is what a snapshot holds.

use std::io::{self, BufRead};

use synddb_protocol::id::Sequence;
use synddb_protocol::log::StatusLevel;
use synddb_protocol::state::Value;
use synddb_protocol::submission::{ObjectKind, SchemaChange, TextEncoding};
use synddb_sqlite::changeset::{ChangesetError, Reader, RowChange, Step};
use synddb_sqlite::messages::{INBOUND, OUTBOUND, OutboundColumns, OutboundRow};
use synddb_sqlite::schema::to_text;

/// Messages of one commit that may be signed, at most: as many as validators look at.
const MESSAGES_MAX: usize = 100_000;

/// How far the tables have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// The highest id that a commit brought.
    pub(super) last: u64,
    /// The highest inbound message that a commit acknowledged.
    pub(super) consumed: u64,
    /// The highest inbound message that the log has.
    pub(super) delivered: u64,
    /// Nobody here knows which inbound messages up to this one are acknowledged: the state that an incarnation began with says so.
    pub(super) passed: u64,
    /// How far the application is behind, as the log says.
    pub(super) level: StatusLevel,
    /// The message since which outbound messages wait: those that come behind it do, until the application has caught up.
    pub(super) held_from: Option<Sequence>,
    /// A snapshot came since, which may hold rows behind `last`.
    pub(super) is_open: bool,
    /// How text is written.
    pub(super) encoding: TextEncoding,
}

impl Standing {
    /// Before the log begins.
    pub(super) const START: Self = Self {
        last: 0,
        consumed: 0,
        delivered: 0,
        passed: 0,
        level: StatusLevel::Healthy,
        held_from: None,
        is_open: true,
        encoding: TextEncoding::Utf8,
    };

    /// The log says how far the application is behind.
    pub(super) fn says(&mut self, level: StatusLevel, at: Sequence) {
        self.level = level;
        self.held_from = (level >= StatusLevel::Degraded).then(|| self.held_from.unwrap_or(at));
    }
}

/// What a commit says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// A row of `outbound_messages` is worth so much; these inbound messages were acknowledged up to the end of the commit.
    Outbound { ruling: Ruling, consumed: u64 },
    /// A row of `inbound_messages` came.
    Acknowledged { nonce: u64, outcome: Option<String> },
}

/// What a row is worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// It is a message.
    Message(Box<OutboundRow>),
    /// It is never signed.
    Refused {
        /// Its id.
        nonce: u64,
        /// Why, for people.
        detail: String,
    },
    /// It has no id under which anything could be said of it.
    Nameless,
}

/// Why a walk ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum WalkError<E> {
    /// The rows are no changeset, which follows from their bytes: whoever reads them finds the same. Nothing was said of any of them.
    #[error(transparent)]
    Malformed(ChangesetError),
    /// The rows cannot be read here and now, which says nothing of them. Whatever was told of them has to be taken back.
    #[error(transparent)]
    Unread(io::Error),
    /// Whoever is told of them failed.
    #[error(transparent)]
    Told(E),
}

impl<E> From<ChangesetError> for WalkError<E> {
    fn from(error: ChangesetError) -> Self {
        match error {
            ChangesetError::Truncated | ChangesetError::Invalid { .. } => Self::Malformed(error),
            ChangesetError::Read(error) => Self::Unread(error),
        }
    }
}

/// Whether a commit replaces or alters the table of outbound messages.
pub(super) fn remakes(changes: &[SchemaChange], encoding: TextEncoding) -> bool {
    let is_it = |name: &[u8]| to_text(name, encoding).is_ok_and(|name| name.eq_ignore_ascii_case(OUTBOUND));
    changes.iter().any(|change| match change {
        SchemaChange::Drop { kind, name } => *kind == ObjectKind::Table && is_it(name),
        SchemaChange::Create { .. } => false,
        SchemaChange::Amend { name, row, .. } | SchemaChange::Rebuild { name, row, .. } => {
            row.kind == ObjectKind::Table && (is_it(name) || is_it(&row.name))
        }
    })
}

/// Walks the rows of one whole commit, which `rows` reads from their beginning each time, and tells what it acknowledges and what each row of a message is
/// worth. `standing` is afterwards as it is behind the commit.
pub(super) fn walk<R: BufRead, E>(
    standing: &mut Standing,
    is_remade: bool,
    rows: impl Fn() -> R,
    mut tell: impl FnMut(Told) -> Result<(), E>,
) -> Result<(), WalkError<E>> {
    let mut seen = Seen::at(rows(), standing.encoding)?;
    standing.consumed = standing.consumed.max(seen.consumed);
    for (nonce, outcome) in std::mem::take(&mut seen.acknowledged) {
        tell(Told::Acknowledged { nonce, outcome }).map_err(WalkError::Told)?;
    }
    if !seen.is_any {
        return Ok(());
    }
    let fits = seen.fitting(*standing);
    let mut reader = Reader::new(rows());
    let mut at = None;
    while let Some(step) = reader.step()? {
        let row = match step {
            Step::Table(table) => {
                at = table.name.eq_ignore_ascii_case(OUTBOUND).then_some(table.key.len());
                continue;
            }
            Step::Row(row) => row,
        };
        let Some(columns) = at else { continue };
        let ruling = rule(&row, columns, fits, is_remade, standing.encoding, standing.last);
        tell(Told::Outbound { ruling, consumed: standing.consumed }).map_err(WalkError::Told)?;
    }
    if seen.last > 0 {
        (standing.last, standing.is_open) = (standing.last.max(seen.last), false);
    }
    Ok(())
}

/// Ids that follow the last one, from the first to the one behind the last.
type Fitting = (u64, u64);

fn rule(
    row: &RowChange<'_>,
    columns: usize,
    (first, end): Fitting,
    is_remade: bool,
    encoding: TextEncoding,
    last: u64,
) -> Ruling {
    let refused = |nonce: Option<u64>, detail: String| {
        nonce.map_or(Ruling::Nameless, |nonce| Ruling::Refused { nonce, detail })
    };
    let new = match row {
        RowChange::Insert { new } => new,
        RowChange::Delete { old } => {
            return refused(
                id(old.first().copied()),
                "the row was deleted; messages are only ever inserted".to_owned(),
            );
        }
        RowChange::Update { old, .. } => {
            let nonce = id(old.first().copied().flatten());
            return refused(nonce, "the row was changed; messages are only ever inserted".to_owned());
        }
    };
    let Some(nonce) = id(new.first().copied()) else { return Ruling::Nameless };
    let detail = if is_remade {
        "the table was dropped, replaced or altered with the commit that brings the row".to_owned()
    } else if columns != OutboundColumns::MADE {
        format!(
            "the table has other columns; make it by `synddb init-messages`. expected=`{}` found=`{columns}`",
            OutboundColumns::MADE
        )
    } else if nonce < first || nonce >= end {
        format!("messages come in order, each once. last=`{last}` found=`{nonce}`")
    } else {
        match OutboundRow::read(new, &OutboundColumns::AS_MADE, encoding) {
            Ok(row) => return Ruling::Message(Box::new(row)),
            Err(error) => error.to_string(),
        }
    };
    Ruling::Refused { nonce, detail }
}

/// What a commit brings, before anything is said of it.
#[derive(Default)]
struct Seen {
    /// Whether it touches the table of outbound messages at all.
    is_any: bool,
    /// Ids that came, ascending.
    ids: Vec<u64>,
    is_too_much: bool,
    last: u64,
    consumed: u64,
    /// What was acknowledged, with what the rows say of it: as many as are looked at.
    acknowledged: Vec<(u64, Option<String>)>,
}

impl Seen {
    fn at(rows: impl BufRead, encoding: TextEncoding) -> Result<Self, ChangesetError> {
        let mut seen = Self::default();
        let mut reader = Reader::new(rows);
        let (mut is_outbound, mut is_inbound) = (false, false);
        while let Some(step) = reader.step()? {
            match step {
                Step::Table(table) => {
                    is_outbound = table.name.eq_ignore_ascii_case(OUTBOUND);
                    is_inbound = table.name.eq_ignore_ascii_case(INBOUND);
                }
                Step::Row(RowChange::Insert { new }) if is_inbound => {
                    seen.acknowledges(&new, encoding);
                }
                Step::Row(row) if is_outbound => {
                    seen.is_any = true;
                    if let RowChange::Insert { new } = row
                        && let Some(id) = id(new.first().copied())
                    {
                        seen.came(id);
                    }
                }
                Step::Row(_) => {}
            }
        }
        seen.ids.sort_unstable();
        Ok(seen)
    }

    fn acknowledges(&mut self, row: &[Value<'_>], encoding: TextEncoding) {
        let Some(nonce) = id(row.first().copied()) else { return };
        self.consumed = self.consumed.max(nonce);
        if self.acknowledged.len() < MESSAGES_MAX {
            self.acknowledged.push((nonce, row.get(1).and_then(|outcome| self::outcome(*outcome, encoding))));
        }
    }

    fn came(&mut self, id: u64) {
        self.last = self.last.max(id);
        if self.ids.len() < MESSAGES_MAX {
            self.ids.push(id);
        } else {
            self.is_too_much = true;
        }
    }

    /// Which of the ids follow the last one without a gap. Behind a snapshot, which may hold rows that nobody showed here, the first may be any.
    fn fitting(&self, standing: Standing) -> Fitting {
        let follows = standing.last.saturating_add(1);
        let mut ids = self.ids.iter().copied().skip_while(|id| *id <= standing.last).peekable();
        let first = ids.peek().copied().filter(|_| standing.is_open).unwrap_or(follows);
        if self.is_too_much {
            return (first, first);
        }
        let fitting = (first..).zip(ids).take_while(|(expected, found)| expected == found);
        (first, fitting.last().map_or(first, |(last, _)| last.saturating_add(1)))
    }
}

/// What a row says of the message, where it is one of the words that the table takes.
fn outcome(value: Value<'_>, encoding: TextEncoding) -> Option<String> {
    let Value::Text(text) = value else { return None };
    to_text(text, encoding).ok().filter(|word| matches!(word.as_str(), "done" | "rejected"))
}

/// An id: an integer of 1 or more, which is the first column of both tables.
fn id(value: Option<Value<'_>>) -> Option<u64> {
    match value? {
        Value::Integer(id) => u64::try_from(id).ok().filter(|id| *id > 0),
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::convert::Infallible;

    use synddb_protocol::submission::SchemaRow;
    use synddb_sqlite::changeset::{Table, write_delete, write_insert, write_table, write_update};

    use super::*;

    const TARGET: &[u8] = b"0x00000000000000000000000000000000000000aa";

    fn row(id: i64) -> Vec<Value<'static>> {
        let text = Value::Text;
        vec![
            Value::Integer(id),
            text(TARGET),
            text(b"5"),
            Value::Null,
            text(b"0"),
            Value::Blob(b"call"),
            Value::Integer(200_000),
            Value::Null,
            Value::Null,
            Value::Integer(1),
        ]
    }

    fn table(name: &str, columns: usize) -> Table {
        Table { name: name.to_owned(), key: (0..columns).map(|at| at == 0).collect() }
    }

    fn inserts(ids: &[i64]) -> Vec<u8> {
        let mut rows = Vec::new();
        write_table(&mut rows, &table("Outbound_Messages", 10));
        ids.iter().for_each(|id| write_insert(&mut rows, &row(*id)));
        rows
    }

    /// The nonces that are signed, and those that are not with why.
    fn walked(standing: &mut Standing, is_remade: bool, rows: &[u8]) -> (Vec<u64>, Vec<(u64, String)>) {
        let (mut signed, mut refused) = (Vec::new(), Vec::new());
        let tell = |told| {
            let Told::Outbound { ruling, .. } = told else { return Ok(()) };
            match ruling {
                Ruling::Message(row) => signed.push(row.nonce),
                Ruling::Refused { nonce, detail } => refused.push((nonce, detail)),
                Ruling::Nameless => refused.push((0, String::new())),
            }
            Ok::<(), Infallible>(())
        };
        walk(standing, is_remade, || rows, tell).unwrap();
        (signed, refused)
    }

    #[test]
    fn ids_follow_each_other_and_each_comes_once() {
        let mut standing = Standing { is_open: false, ..Standing::START };
        // In whatever order the changeset has them.
        assert_eq!(walked(&mut standing, false, &inserts(&[2, 1, 3])), (vec![2, 1, 3], vec![]));
        let (signed, refused) = walked(&mut standing, false, &inserts(&[3, 4, 6]));
        assert_eq!(signed, [4]);
        assert_eq!(refused.iter().map(|(nonce, _)| *nonce).collect::<Vec<_>>(), [3, 6]);
        assert!(refused[1].1.contains("last=`3` found=`6`"), "{refused:?}");
        assert_eq!(
            walked(&mut standing, false, &inserts(&[5, 7])).0,
            [7],
            "6 came already, and 5 never does"
        );
        assert_eq!(standing.last, 7);
    }

    #[test]
    fn behind_a_snapshot_the_first_id_may_be_any_that_is_new() {
        let mut standing = Standing { last: 4, ..Standing::START };
        assert_eq!(walked(&mut standing, false, &inserts(&[3])).0, [0; 0], "it came before the snapshot");
        let mut standing = Standing { last: 4, ..Standing::START };
        assert_eq!(walked(&mut standing, false, &inserts(&[9, 10, 12])).0, [9, 10]);
        assert_eq!(walked(&mut standing, false, &inserts(&[14])).0, [0; 0], "it is closed again");
    }

    #[test]
    fn what_is_changed_deleted_malformed_or_made_otherwise_is_refused() {
        let mut rows = Vec::new();
        let made = table(OUTBOUND, 10);
        write_table(&mut rows, &made);
        write_delete(&mut rows, &row(1));
        let mut changed = row(2);
        changed[4] = Value::Text(b"7");
        write_update(&mut rows, &made.key, &row(2), &changed);
        write_insert(&mut rows, &{
            let mut row = row(3);
            row[1] = Value::Text(b"nobody");
            row
        });
        write_insert(&mut rows, &{
            let mut row = row(4);
            row[0] = Value::Text(b"4");
            row
        });
        let mut standing = Standing { last: 2, is_open: false, ..Standing::START };
        let (signed, refused) = walked(&mut standing, false, &rows);
        assert_eq!(signed, [0; 0]);
        let nonces: Vec<u64> = refused.iter().map(|(nonce, _)| *nonce).collect();
        assert_eq!(nonces, [1, 2, 3, 0]);
        assert!(refused[2].1.contains("`target`"), "{refused:?}");

        let (signed, refused) = walked(&mut standing, true, &inserts(&[4]));
        assert!(signed.is_empty() && refused[0].1.contains("altered"), "{refused:?}");
        let mut rows = Vec::new();
        write_table(&mut rows, &table(OUTBOUND, 11));
        write_insert(&mut rows, &{
            let mut row = row(5);
            row.push(Value::Null);
            row
        });
        let (signed, refused) = walked(&mut standing, false, &rows);
        assert!(signed.is_empty() && refused[0].1.contains("init-messages"), "{refused:?}");
        let broken = walk(&mut standing, false, || &b"rows"[..], |_| Ok::<(), Infallible>(()));
        assert!(matches!(broken, Err(WalkError::Malformed(_))));
    }

    #[test]
    fn the_inbox_is_counted_with_the_commit_that_brings_the_message() {
        let mut rows = inserts(&[1]);
        write_table(&mut rows, &table("INBOUND_messages", 4));
        let inbound = |id| [Value::Integer(id), Value::Text(b"done"), Value::Null, Value::Integer(1)];
        write_insert(&mut rows, &inbound(1));
        write_insert(&mut rows, &inbound(2));
        let mut standing = Standing::START;
        assert_eq!(walked(&mut standing, false, &rows).0, [1]);
        assert_eq!(standing.consumed, 2);
        walked(&mut standing, false, &inserts(&[2]));
        assert_eq!(standing.consumed, 2);
    }

    #[test]
    fn what_is_acknowledged_is_told_with_what_the_row_says() {
        let mut rows = Vec::new();
        write_table(&mut rows, &table(INBOUND, 4));
        for (id, outcome) in [(1, &b"done"[..]), (2, b"rejected"), (3, b"perhaps"), (0, b"done")] {
            let row = [Value::Integer(id), Value::Text(outcome), Value::Null, Value::Integer(1)];
            write_insert(&mut rows, &row);
        }
        let mut told = Vec::new();
        let mut standing = Standing::START;
        walk(
            &mut standing,
            false,
            || &rows[..],
            |tells| {
                told.push(tells);
                Ok::<(), Infallible>(())
            },
        )
        .unwrap();
        let acknowledged =
            |nonce, outcome: Option<&str>| Told::Acknowledged { nonce, outcome: outcome.map(str::to_owned) };
        assert_eq!(
            told,
            [acknowledged(1, Some("done")), acknowledged(2, Some("rejected")), acknowledged(3, None)]
        );
        assert_eq!(standing.consumed, 3);
    }

    #[test]
    fn outbound_messages_wait_from_the_first_bad_status_to_the_first_good_one() {
        let at = |sequence| Sequence::new(sequence).unwrap();
        let mut standing = Standing::START;
        for (level, sequence, held_from) in [
            (StatusLevel::Warned, 2, None),
            (StatusLevel::Degraded, 3, Some(3)),
            (StatusLevel::Halted, 5, Some(3)),
            (StatusLevel::Degraded, 6, Some(3)),
            (StatusLevel::Warned, 7, None),
            (StatusLevel::Halted, 9, Some(9)),
            (StatusLevel::Healthy, 10, None),
        ] {
            standing.says(level, at(sequence));
            assert_eq!((standing.level, standing.held_from), (level, held_from.map(at)), "{sequence}");
        }
    }

    #[test]
    fn a_table_is_remade_by_its_name_in_the_databases_encoding() {
        let named = |name: &[u8]| SchemaChange::Drop { kind: ObjectKind::Table, name: name.to_vec() };
        assert!(remakes(&[named(b"OUTBOUND_messages")], TextEncoding::Utf8));
        assert!(!remakes(&[named(b"others")], TextEncoding::Utf8));
        let utf16: Vec<u8> = OUTBOUND.bytes().flat_map(|byte| [byte, 0]).collect();
        assert!(remakes(&[named(&utf16)], TextEncoding::Utf16Le));
        let row = |name: &[u8]| SchemaRow {
            kind: ObjectKind::Table,
            name: name.to_vec(),
            table: name.to_vec(),
            sql: None,
        };
        let create = SchemaChange::Create { row: row(OUTBOUND.as_bytes()), place: 1 };
        assert!(!remakes(&[create], TextEncoding::Utf8), "it is new");
        let renamed = SchemaChange::Amend { name: b"t".to_vec(), row: row(OUTBOUND.as_bytes()), place: 1 };
        assert!(remakes(&[renamed], TextEncoding::Utf8));
    }
}
