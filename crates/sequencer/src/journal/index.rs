//! The index: what of its client each message holds, so that a resend is recognised without its store.

use synddb_protocol::hash::CommitDigest;
use synddb_protocol::id::{CommitNumber, Incarnation, PartIndex, Sequence};
use synddb_protocol::limits::{BODY_BYTES_MAX, RECEIPTS_MAX};
use synddb_protocol::log::{Body, MessageType, Receipt};
use synddb_sqlite::rusqlite::{OptionalExtension as _, Params, Row, params};

use super::file::File;
use super::{JournalError, number, stored};
use crate::ordering::{Held, What, digest_within};

/// What became of something that a client sent before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// It has these places.
    Receipts(Vec<Receipt>),
    /// Something else has its place, with this digest.
    Differs(CommitDigest),
    /// Nothing of its client ever had this place.
    Absent,
    /// It lies before what is indexed, or its content is not here any more: only the store tells.
    Elsewhere,
}

/// How a row says what its message holds.
const COMMITS: i64 = 0;
const PART: i64 = 1;
const BEGINS: i64 = 2;
const AFTER: i64 = 3;

/// One row of the index.
struct Indexed {
    sequence: Sequence,
    receipt: Receipt,
    first: Option<CommitNumber>,
    last: Option<CommitNumber>,
    digest: CommitDigest,
}

pub(super) fn insert(file: &File, receipt: &Receipt, held: Option<&Held>) -> Result<(), JournalError> {
    let sql = "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let sequence = stored(receipt.header().sequence);
    let receipt = receipt.to_bytes();
    let Some(held) = held else {
        return file.execute(
            sql,
            params![
                sequence,
                receipt,
                None::<i64>,
                None::<Vec<u8>>,
                None::<i64>,
                None::<i64>,
                None::<i64>,
                None::<i64>,
                None::<Vec<u8>>
            ],
        );
    };
    let (kind, first, last, part) = match held.what {
        What::Commits { first, last } => (COMMITS, Some(first), Some(last), None),
        What::Part { commit, index } => (PART, Some(commit), Some(commit), Some(index.get())),
        What::Begins => (BEGINS, None, None, None),
        What::After { commit } => (AFTER, Some(commit), Some(commit), None),
    };
    let values = params![
        sequence,
        receipt,
        stored(held.incarnation.counter),
        held.incarnation.nonce.as_bytes(),
        kind,
        first.map(stored),
        last.map(stored),
        part,
        held.digest.as_bytes(),
    ];
    file.execute(sql, values)
}

/// Looks up what was sent before. `from` is where the index begins.
pub(super) fn find(file: &File, wanted: &Held, from: Sequence) -> Result<Found, JournalError> {
    match wanted.what {
        What::Commits { first, last } => find_commits(file, wanted, first, last, from),
        What::Part { commit, index } => {
            let row = match part_of(file, wanted, commit, index)? {
                Some(row) => Some(row),
                None => holding(file, wanted, commit)?,
            };
            match row {
                Some(row) => Ok(compared(row.digest, wanted, vec![row.receipt])),
                None => missing(file, wanted, commit, from),
            }
        }
        What::Begins => {
            let rows = of_kind(file, wanted, BEGINS)?;
            Ok(match rows.into_iter().next() {
                Some(row) => compared(row.digest, wanted, vec![row.receipt]),
                None if from == Sequence::FIRST => Found::Absent,
                None => Found::Elsewhere,
            })
        }
        What::After { commit } => {
            let rows = of_kind(file, wanted, AFTER)?;
            match rows.into_iter().find(|row| row.digest == wanted.digest) {
                Some(row) => Ok(Found::Receipts(vec![row.receipt])),
                // Everything after its commit is indexed when the commit is.
                None if holding(file, wanted, commit)?.is_some() => Ok(Found::Absent),
                None => missing(file, wanted, commit, from),
            }
        }
    }
}

fn find_commits(
    file: &File,
    wanted: &Held,
    first: CommitNumber,
    last: CommitNumber,
    from: Sequence,
) -> Result<Found, JournalError> {
    let Some(end) = holding(file, wanted, last)? else { return missing(file, wanted, last, from) };
    let digest = if end.last == Some(last) { Some(end.digest) } else { within(file, &end, last)? };
    let Some(digest) = digest else { return Ok(Found::Elsewhere) };
    if digest != wanted.digest {
        return Ok(Found::Differs(digest));
    }
    // The digest binds all before it, so these are the commits that were sent, and none of them came in parts.
    let rows = covering(file, wanted, first, last)?;
    if rows.first().is_none_or(|row| row.first > Some(first)) {
        return Ok(Found::Elsewhere);
    }
    Ok(Found::Receipts(rows.into_iter().map(|row| row.receipt).collect()))
}

fn compared(digest: CommitDigest, wanted: &Held, receipts: Vec<Receipt>) -> Found {
    if digest == wanted.digest { Found::Receipts(receipts) } else { Found::Differs(digest) }
}

/// What it means that nothing indexed covers `commit`.
fn missing(file: &File, wanted: &Held, commit: CommitNumber, from: Sequence) -> Result<Found, JournalError> {
    let sql = "SELECT max(last_commit) FROM messages WHERE counter = ? AND nonce = ? AND last_commit >= 0";
    let values = params![stored(wanted.incarnation.counter), wanted.incarnation.nonce.as_bytes()];
    let last: Option<i64> =
        file.sqlite().query_row(sql, values, |row| row.get(0)).map_err(|error| file.refused(error))?;
    let is_past = last.is_some_and(|last| last < stored(commit));
    let is_all_indexed = from == Sequence::FIRST || is_past || !of_kind(file, wanted, BEGINS)?.is_empty();
    Ok(if is_all_indexed { Found::Absent } else { Found::Elsewhere })
}

/// The digest of a commit inside a message, if its body is still here.
fn within(file: &File, row: &Indexed, commit: CommitNumber) -> Result<Option<CommitDigest>, JournalError> {
    let sql = "SELECT body FROM bodies WHERE sequence = ?";
    let found = file.sqlite().query_row(sql, params![stored(row.sequence)], |row| row.get(0)).optional();
    let Some(body) = found.map_err(|error| file.refused(error))? else { return Ok(None) };
    let body = Body::read(MessageType::Submission, body, BODY_BYTES_MAX);
    let body = body.map_err(|_| file.damaged("a body"))?;
    Ok(digest_within(body.entry(), commit))
}

/// The columns of an [`Indexed`].
const SELECT: &str = "SELECT sequence, receipt, first_commit, last_commit, digest FROM messages
                      WHERE counter = ?1 AND nonce = ?2";

/// The message that ends a commit, or holds it among others.
fn holding(file: &File, wanted: &Held, commit: CommitNumber) -> Result<Option<Indexed>, JournalError> {
    let sql = format!(
        "{SELECT} AND last_commit >= ?3 AND first_commit <= ?3 AND kind IN ({COMMITS}, {PART})
         ORDER BY last_commit, sequence DESC LIMIT 1"
    );
    let Incarnation { counter, nonce } = wanted.incarnation;
    let values = params![stored(counter), nonce.as_bytes(), stored(commit)];
    Ok(rows(file, &sql, values)?.into_iter().next())
}

/// The message that holds a part.
fn part_of(
    file: &File,
    wanted: &Held,
    commit: CommitNumber,
    part: PartIndex,
) -> Result<Option<Indexed>, JournalError> {
    let sql = format!("{SELECT} AND last_commit = ?3 AND part = ?4 LIMIT 1");
    let Incarnation { counter, nonce } = wanted.incarnation;
    let values = params![stored(counter), nonce.as_bytes(), stored(commit), part.get()];
    Ok(rows(file, &sql, values)?.into_iter().next())
}

/// The messages that hold any of these commits, in order.
fn covering(
    file: &File,
    wanted: &Held,
    first: CommitNumber,
    last: CommitNumber,
) -> Result<Vec<Indexed>, JournalError> {
    let sql = format!(
        "{SELECT} AND last_commit >= ?3 AND first_commit <= ?4 AND kind = {COMMITS}
         ORDER BY last_commit LIMIT {RECEIPTS_MAX}"
    );
    let Incarnation { counter, nonce } = wanted.incarnation;
    rows(file, &sql, params![stored(counter), nonce.as_bytes(), stored(first), stored(last)])
}

fn of_kind(file: &File, wanted: &Held, kind: i64) -> Result<Vec<Indexed>, JournalError> {
    let sql = format!("{SELECT} AND kind = ?3 ORDER BY sequence");
    let Incarnation { counter, nonce } = wanted.incarnation;
    rows(file, &sql, params![stored(counter), nonce.as_bytes(), kind])
}

fn rows(file: &File, sql: &str, values: impl Params) -> Result<Vec<Indexed>, JournalError> {
    let read = || {
        let mut statement = file.sqlite().prepare_cached(sql)?;
        statement.query_map(values, raw)?.collect::<Result<Vec<_>, _>>()
    };
    let raw = read().map_err(|error| file.refused(error))?;
    raw.into_iter().map(|raw| raw.indexed().ok_or_else(|| file.damaged("a message"))).collect()
}

struct Raw {
    sequence: i64,
    receipt: Vec<u8>,
    first: Option<i64>,
    last: Option<i64>,
    digest: [u8; 32],
}

fn raw(row: &Row<'_>) -> synddb_sqlite::rusqlite::Result<Raw> {
    Ok(Raw {
        sequence: row.get(0)?,
        receipt: row.get(1)?,
        first: row.get(2)?,
        last: row.get(3)?,
        digest: row.get(4)?,
    })
}

impl Raw {
    fn indexed(self) -> Option<Indexed> {
        let commit = |value: Option<i64>| value.map(number::<CommitNumber>);
        Some(Indexed {
            sequence: number(self.sequence)?,
            receipt: Receipt::from_bytes(&self.receipt).ok()?,
            first: commit(self.first).unwrap_or(None),
            last: commit(self.last).unwrap_or(None),
            digest: CommitDigest::from_bytes(self.digest),
        })
    }
}
