//! From captured commits to submissions: numbers, sizes, states. Pure: it writes nothing anywhere.
//!
//! What must stay true: numbers are dense, and a submission claims the state behind its last commit, never that of another one. The state is
//! asked for only where a submission ends, since to know it is work. Hashing what changed is work too, so the chain is linked by sealing.rs.

use synddb_protocol::hash::{CommitDigest, StateHash};
use synddb_protocol::id::{CommitNumber, Incarnation, PartIndex, StreamId};
use synddb_protocol::limits::{
    BODY_BYTES_MAX, BODY_COMPRESSED_MAX, NAME_BYTES_MAX, SCHEMA_CHANGES_MAX, SQL_BYTES_MAX,
    SUBMISSION_COMMITS_MAX,
};
use synddb_protocol::submission::{Changes, CommitKind, SchemaChange, SchemaRow, StateClaim};
use synddb_sqlite::capture::{APART_BYTES, CommittedState, PIECE_BYTES};

use super::OutboxError;

/// A submission of whole commits takes no more once it has this much, in bytes: enough that compression finds what repeats,
/// little enough that a reader shows the first of many commits soon.
const SUBMISSION_BYTES: usize = 1 << 20;

/// Most bytes of one part, and of a commit that is not cut into parts.
const PART_BYTES: usize = PIECE_BYTES;

/// What a commit or schema change takes on the wire beside its texts and rows, at most, in bytes.
const OVERHEAD_BYTES: usize = 160;

/// The largest schema change on the wire, in bytes.
const SCHEMA_CHANGE_BYTES: usize = 3 * NAME_BYTES_MAX + SQL_BYTES_MAX + OVERHEAD_BYTES;

const _: () = {
    // A submission that was not full, and the largest commit that goes into it whole.
    let submission = SUBMISSION_BYTES + PART_BYTES + 2 * OVERHEAD_BYTES;
    // What cannot be compressed grows in its frame by less than one part in 200.
    assert!(submission + submission / 200 <= BODY_COMPRESSED_MAX && submission <= BODY_BYTES_MAX);
    // So a commit over `PART_BYTES` comes out in two parts at least.
    assert!(OVERHEAD_BYTES + SCHEMA_CHANGE_BYTES <= PART_BYTES);
    // So of a commit that ends the submission before it, the follower tells before.
    assert!(OVERHEAD_BYTES + APART_BYTES <= PART_BYTES);
};

/// Where the chain of an incarnation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// The number of the next commit.
    pub(super) next: CommitNumber,
    /// What it names as `prev`.
    pub(super) last: CommitDigest,
    /// The state hash before it.
    pub(super) state: StateHash,
}

/// What a submission holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Whole commits.
    Commits {
        /// The first.
        first: CommitNumber,
        /// The last.
        last: CommitNumber,
    },
    /// One part of a huge commit.
    Part {
        /// The commit.
        commit: CommitNumber,
        /// Which part.
        index: PartIndex,
        /// Whether it is the last one.
        is_last: bool,
    },
}

impl Holds {
    /// Makes sure that it begins with this commit, and says which one follows it.
    pub(super) fn follows(self, commit: CommitNumber) -> Result<CommitNumber, OutboxError> {
        let (first, last, is_whole) = match self {
            Self::Commits { first, last } => (first, last, true),
            Self::Part { commit, is_last, .. } => (commit, commit, is_last),
        };
        if first != commit {
            return Err(OutboxError::Mispacked { commit });
        }
        if is_whole { Ok(CommitNumber::new(last.get() + 1)?) } else { Ok(commit) }
    }
}

/// A submission that is still to be linked to the one before it, and whose bytes are still to be made.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) stream: StreamId,
    pub(super) incarnation: Incarnation,
    pub(super) content: Unlinked,
}

/// What a submission carries, before it names what is before it. Nobody has looked whether a reader would take it.
#[derive(Debug)]
pub(super) enum Unlinked {
    Commits {
        first: CommitNumber,
        changes: Vec<(CommitKind, Changes)>,
        claim: StateClaim,
    },
    Part {
        commit: CommitNumber,
        kind: CommitKind,
        index: PartIndex,
        changes: Changes,
        last: Option<StateClaim>,
    },
}

/// What the database hashes to after a commit.
#[derive(Debug)]
pub(super) enum Claim<'c, 's> {
    Known(StateClaim),
    /// To be asked for where it is needed.
    Behind(&'c mut CommittedState<'s>),
}

impl Claim<'_, '_> {
    fn ask(self) -> StateClaim {
        match self {
            Self::Known(claim) => claim,
            Self::Behind(state) => StateClaim { state: state.hash(), scanned: None },
        }
    }
}

/// A state that was asked for, with the place that it belongs to: it is never taken for that of another one.
#[derive(Debug, Clone, Copy)]
struct StateBefore {
    commit: CommitNumber,
    state: StateHash,
}

/// A submission, ready to be kept and sent.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) holds: Holds,
    /// The digest of its last commit, or of its part.
    pub(super) digest: CommitDigest,
    /// Its exact bytes.
    pub(super) body: Vec<u8>,
    /// How many these are after decompression.
    pub(super) content_bytes: usize,
}

/// A huge commit that is coming in parts.
#[derive(Debug, Default)]
struct Group {
    /// The part that comes next; `None` when there may be no more.
    next: Option<PartIndex>,
}

impl Group {
    /// Takes the next index.
    fn place(&mut self, commit: CommitNumber) -> Result<PartIndex, OutboxError> {
        let index = self.next.ok_or(OutboxError::TooManyParts { commit })?;
        self.next = index.next();
        Ok(index)
    }
}

/// Makes submissions of the commits of one poll.
#[derive(Debug)]
pub(super) struct Packer {
    stream: StreamId,
    incarnation: Incarnation,
    /// The number of the next commit, behind everything packed and everything in `open`.
    next: CommitNumber,
    /// The last state that was told. That behind `open` only where it is the one before `next`.
    known: StateBefore,
    /// The number of the first open commit; of none while `open` is empty.
    first: CommitNumber,
    /// Commits that wait for others.
    open: Vec<(CommitKind, Changes)>,
    open_bytes: usize,
    open_schema: usize,
    /// What a full scan found at the last open commit.
    scanned: Option<StateHash>,
    group: Option<Group>,
}

impl Packer {
    pub(super) fn new(stream: StreamId, incarnation: Incarnation, tail: Tail) -> Self {
        let (open, open_bytes, open_schema) = (Vec::new(), 0, 0);
        let Tail { next, state, .. } = tail;
        let known = StateBefore { commit: next, state };
        Self {
            stream,
            incarnation,
            next,
            known,
            first: next,
            open,
            open_bytes,
            open_schema,
            scanned: None,
            group: None,
        }
    }

    /// The number of the next commit.
    pub(super) const fn next(&self) -> CommitNumber {
        self.next
    }

    /// The next commit may end the submission before it, and this is the last time that the state there can be asked for.
    pub(super) fn apart(&mut self, state: &mut CommittedState<'_>) {
        self.learn(|| state.hash());
    }

    /// A piece of a commit of which more comes.
    pub(super) fn piece(&mut self, kind: CommitKind, changes: Changes) -> Result<Vec<Packed>, OutboxError> {
        let mut packed: Vec<Packed> = self.close()?.into_iter().collect();
        for part in cut(changes) {
            packed.push(self.part(kind, part, None)?);
        }
        Ok(packed)
    }

    /// A whole commit, or the last piece of one. `claim` is what the database hashes to after it. One that was scanned ends its submission.
    pub(super) fn commit(
        &mut self,
        kind: CommitKind,
        changes: Changes,
        claim: Claim<'_, '_>,
    ) -> Result<Vec<Packed>, OutboxError> {
        if self.group.is_none() && is_whole(&changes) {
            return self.whole(kind, changes, claim);
        }
        let mut packed: Vec<Packed> = self.close()?.into_iter().collect();
        let mut parts = cut(changes);
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            packed.push(self.part(kind, part, None)?);
        }
        let claim = claim.ask();
        packed.push(self.part(kind, last, Some(claim))?);
        self.advance()?;
        self.learn(|| claim.state);
        self.group = None;
        Ok(packed)
    }

    /// The end of the poll: what waits for more becomes a submission. `state` tells what the database hashes to there; nothing where every
    /// commit came with its state. Returns the state there as well.
    pub(super) fn end(
        &mut self,
        state: Option<impl FnOnce() -> StateHash>,
    ) -> Result<(Option<Packed>, StateHash), OutboxError> {
        if self.group.is_some() {
            return Err(OutboxError::Unfinished { commit: self.next });
        }
        if let Some(state) = state {
            self.learn(state);
        }
        let packed = self.close()?;
        Ok((packed, self.state()?))
    }

    fn whole(
        &mut self,
        kind: CommitKind,
        changes: Changes,
        claim: Claim<'_, '_>,
    ) -> Result<Vec<Packed>, OutboxError> {
        let mut packed = Vec::new();
        let schema = changes.schema.len();
        if self.open_schema + schema > SCHEMA_CHANGES_MAX {
            packed.extend(self.close()?);
        }
        self.open_bytes += size(&changes);
        self.open_schema += schema;
        if self.open.is_empty() {
            self.first = self.next;
        }
        self.open.push((kind, changes));
        self.advance()?;
        let is_full = self.open_bytes >= SUBMISSION_BYTES || self.open.len() == SUBMISSION_COMMITS_MAX;
        if is_full || matches!(claim, Claim::Known(_)) {
            let StateClaim { state, scanned } = claim.ask();
            self.learn(|| state);
            self.scanned = scanned;
        }
        if is_full || self.scanned.is_some() {
            packed.extend(self.close()?);
        }
        Ok(packed)
    }

    /// Makes one submission of the open commits, if there are any. The state before the next commit is its claim.
    fn close(&mut self) -> Result<Option<Packed>, OutboxError> {
        if self.open.is_empty() {
            return Ok(None);
        }
        let claim = StateClaim { state: self.state()?, scanned: self.scanned.take() };
        let changes = std::mem::take(&mut self.open);
        (self.open_bytes, self.open_schema) = (0, 0);
        Ok(Some(self.packed(Unlinked::Commits { first: self.first, changes, claim })))
    }

    fn part(
        &mut self,
        kind: CommitKind,
        changes: Changes,
        last: Option<StateClaim>,
    ) -> Result<Packed, OutboxError> {
        let commit = self.next;
        let group = self.group.get_or_insert(Group { next: Some(PartIndex::FIRST) });
        let index = group.place(commit)?;
        Ok(self.packed(Unlinked::Part { commit, kind, index, changes, last }))
    }

    fn packed(&self, content: Unlinked) -> Packed {
        Packed { stream: self.stream, incarnation: self.incarnation, content }
    }

    /// Steps behind a commit.
    fn advance(&mut self) -> Result<(), OutboxError> {
        self.next = CommitNumber::new(self.next.get() + 1)?;
        Ok(())
    }

    /// Takes the state before the next commit, which is asked for only where it is not known.
    fn learn(&mut self, state: impl FnOnce() -> StateHash) {
        if self.known.commit != self.next {
            self.known = StateBefore { commit: self.next, state: state() };
        }
    }

    /// The state before the next commit.
    fn state(&self) -> Result<StateHash, OutboxError> {
        if self.known.commit == self.next {
            return Ok(self.known.state);
        }
        Err(OutboxError::StateUntold { commit: self.next })
    }
}

/// Whether a commit goes into a submission as it is.
fn is_whole(changes: &Changes) -> bool {
    changes.schema.len() <= SCHEMA_CHANGES_MAX && size(changes) <= PART_BYTES
}

/// What changes take on the wire at most, in bytes.
fn size(changes: &Changes) -> usize {
    OVERHEAD_BYTES + changes.rows.len() + changes.schema.iter().map(schema_size).sum::<usize>()
}

fn schema_size(change: &SchemaChange) -> usize {
    let row_size = |row: &SchemaRow| row.name.len() + row.table.len() + row.sql.as_ref().map_or(0, Vec::len);
    OVERHEAD_BYTES
        + match change {
            SchemaChange::Drop { name, .. } => name.len(),
            SchemaChange::Create { row, .. } => row_size(row),
            SchemaChange::Amend { name, row, .. } | SchemaChange::Rebuild { name, row, .. } => {
                name.len() + row_size(row)
            }
        }
}

/// Cuts changes into parts: the schema changes in order, then the rows at any byte, the header values in the last one. A reader
/// puts both back together.
///
/// A commit that is too large for one submission comes out in two parts or more. Anything else may come out as one.
fn cut(changes: Changes) -> Vec<Changes> {
    let Changes { schema, rows, user_version, application_id } = changes;
    let mut parts = Vec::new();
    let mut part = Changes::default();
    let mut bytes = OVERHEAD_BYTES;
    for change in schema {
        let is_full = part.schema.len() == SCHEMA_CHANGES_MAX || bytes + schema_size(&change) > PART_BYTES;
        if is_full && !part.schema.is_empty() {
            parts.push(std::mem::take(&mut part));
            bytes = OVERHEAD_BYTES;
        }
        bytes += schema_size(&change);
        part.schema.push(change);
    }
    let mut rest = &rows[..];
    loop {
        let (here, after) = rest.split_at(rest.len().min(PART_BYTES.saturating_sub(bytes)));
        part.rows = here.to_vec();
        rest = after;
        if rest.is_empty() {
            break;
        }
        parts.push(std::mem::take(&mut part));
        bytes = OVERHEAD_BYTES;
    }
    (part.user_version, part.application_id) = (user_version, application_id);
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_no_part_too_many() {
        let commit = CommitNumber::FIRST;
        let last = u64::from(synddb_protocol::limits::PARTS_MAX) - 1;
        let mut group = Group { next: PartIndex::new(last).ok() };
        assert_eq!(u64::from(group.place(commit).unwrap()), last);
        assert!(matches!(group.place(commit), Err(OutboxError::TooManyParts { .. })));
    }

    #[test]
    fn a_submission_never_ends_with_a_state_that_was_not_told_there() {
        use synddb_protocol::id::{IncarnationCounter, IncarnationNonce};
        use synddb_protocol::submission::TextEncoding;
        use synddb_sqlite::connection::Connection;
        use synddb_sqlite::state::RunningState;

        let connection = Connection::in_memory(TextEncoding::Utf8).unwrap();
        let running = RunningState::scan(&connection).unwrap();
        let nonce = IncarnationNonce::from_bytes([1; 16]);
        let incarnation = Incarnation { counter: IncarnationCounter::FIRST, nonce };
        let (last, state) = (CommitDigest::from_bytes([2; 32]), StateHash::from_bytes([3; 32]));
        let tail = Tail { next: CommitNumber::FIRST, last, state };
        let open = || {
            let mut packer = Packer::new(StreamId::from_bytes([4; 32]), incarnation, tail);
            let mut state = CommittedState::from(&running);
            let claim = Claim::Behind(&mut state);
            let packed = packer.commit(CommitKind::Transaction, Changes::default(), claim).unwrap();
            assert!(packed.is_empty());
            packer
        };
        let untold = |error| matches!(error, OutboxError::StateUntold { .. });
        assert!(untold(open().piece(CommitKind::Transaction, Changes::default()).unwrap_err()));
        assert!(untold(open().end(None::<fn() -> StateHash>).unwrap_err()));
        let mut told = open();
        told.apart(&mut CommittedState::from(&running));
        assert_eq!(told.piece(CommitKind::Transaction, Changes::default()).unwrap().len(), 2);
        let (packed, told) = open().end(Some(|| state)).unwrap();
        assert_eq!((packed.is_some(), told), (true, state));
    }

    #[test]
    fn a_commit_too_large_for_one_submission_is_cut_in_two_or_more() {
        let drop = SchemaChange::Drop {
            kind: synddb_protocol::submission::ObjectKind::Table,
            name: b"name".to_vec(),
        };
        let long = SchemaChange::Drop {
            kind: synddb_protocol::submission::ObjectKind::View,
            name: vec![7; SCHEMA_CHANGE_BYTES],
        };
        let commits = [
            Changes { schema: vec![long.clone(), long], ..Changes::default() },
            Changes { schema: vec![drop.clone(); SCHEMA_CHANGES_MAX + 1], ..Changes::default() },
            Changes { rows: vec![7; PART_BYTES - OVERHEAD_BYTES + 1], ..Changes::default() },
            Changes { schema: vec![drop], rows: vec![7; PART_BYTES - OVERHEAD_BYTES], ..Changes::default() },
        ];
        for changes in commits {
            assert!(!is_whole(&changes));
            let parts = cut(changes.clone());
            assert!(parts.len() >= 2, "{}", parts.len());
            let schema: Vec<_> = parts.iter().flat_map(|part| part.schema.clone()).collect();
            let rows: Vec<_> = parts.iter().flat_map(|part| part.rows.clone()).collect();
            assert_eq!((schema, rows), (changes.schema, changes.rows));
        }
    }
}
