//! From captured commits to submissions: numbers, digests, sizes. Pure: it writes nothing anywhere.
//!
//! What must stay true: numbers are dense, each commit or part names the digest before it, and every body made here was read
//! again by the code that its readers use.

use synddb_protocol::hash::{CommitDigest, StateHash};
use synddb_protocol::id::{CommitNumber, Incarnation, PartIndex, StreamId};
use synddb_protocol::limits::{
    BODY_BYTES_MAX, BODY_COMPRESSED_MAX, GROUP_BYTES_MAX, NAME_BYTES_MAX, SCHEMA_CHANGES_MAX, SQL_BYTES_MAX,
    SUBMISSION_COMMITS_MAX,
};
use synddb_protocol::log::{Body, Entry};
use synddb_protocol::submission::{
    Changes, Commit, CommitKind, Commits, Content, Part, SchemaChange, SchemaRow, StateClaim, Submission,
};
use synddb_sqlite::capture::PIECE_BYTES;

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

/// A submission, ready to be kept and sent.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) holds: Holds,
    /// The digest of its last commit, or of its part.
    pub(super) digest: CommitDigest,
    /// Its exact bytes.
    pub(super) body: Vec<u8>,
}

/// A huge commit that is coming in parts.
#[derive(Debug, Default)]
struct Group {
    /// The part that comes next; `None` when there may be no more.
    next: Option<PartIndex>,
    /// The bodies of the parts so far, after decompression, in bytes.
    bytes: u64,
}

impl Group {
    /// Takes the next index.
    fn place(&mut self, commit: CommitNumber) -> Result<PartIndex, OutboxError> {
        let index = self.next.ok_or(OutboxError::TooManyParts { commit })?;
        self.next = index.next();
        Ok(index)
    }

    fn grow(&mut self, body_bytes: usize, commit: CommitNumber) -> Result<(), OutboxError> {
        self.bytes = self.bytes.saturating_add(body_bytes as u64);
        if self.bytes > GROUP_BYTES_MAX {
            return Err(OutboxError::CommitTooLarge { commit });
        }
        Ok(())
    }
}

/// Makes submissions of the commits of one poll.
#[derive(Debug)]
pub(super) struct Packer {
    stream: StreamId,
    incarnation: Incarnation,
    /// Behind everything packed and everything in `open`, save that `last` is the digest before `open`.
    tail: Tail,
    /// Commits that wait for others. The last one's digest depends on whether it will carry a state claim, so it is not known.
    open: Vec<Commit>,
    open_bytes: usize,
    open_schema: usize,
    /// What a full scan found at the last open commit.
    scanned: Option<StateHash>,
    group: Option<Group>,
}

impl Packer {
    pub(super) fn new(stream: StreamId, incarnation: Incarnation, tail: Tail) -> Self {
        let (open, open_bytes, open_schema) = (Vec::new(), 0, 0);
        Self { stream, incarnation, tail, open, open_bytes, open_schema, scanned: None, group: None }
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
        claim: StateClaim,
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
        packed.push(self.part(kind, last, Some(claim))?);
        self.advance(claim.state)?;
        self.group = None;
        Ok(packed)
    }

    /// The end of the poll: what waits for more becomes a submission, and the tail stands behind it.
    pub(super) fn end(&mut self) -> Result<(Option<Packed>, Tail), OutboxError> {
        if self.group.is_some() {
            return Err(OutboxError::Unfinished { commit: self.tail.next });
        }
        Ok((self.close()?, self.tail))
    }

    fn whole(
        &mut self,
        kind: CommitKind,
        changes: Changes,
        claim: StateClaim,
    ) -> Result<Vec<Packed>, OutboxError> {
        let mut packed = Vec::new();
        let schema = changes.schema.len();
        if self.open_schema + schema > SCHEMA_CHANGES_MAX {
            packed.extend(self.close()?);
        }
        self.open_bytes += size(&changes);
        self.open_schema += schema;
        let prev = self.open.last().map_or(self.tail.last, Commit::digest);
        let number = self.tail.next;
        self.open.push(Commit { number, prev, kind, changes, state: None });
        self.advance(claim.state)?;
        self.scanned = claim.scanned;
        let is_full = self.open_bytes >= SUBMISSION_BYTES || self.open.len() == SUBMISSION_COMMITS_MAX;
        if is_full || claim.scanned.is_some() {
            packed.extend(self.close()?);
        }
        Ok(packed)
    }

    /// Makes one submission of the open commits, if there are any. The state hash before the next commit is its claim.
    fn close(&mut self) -> Result<Option<Packed>, OutboxError> {
        let mut commits = std::mem::take(&mut self.open);
        (self.open_bytes, self.open_schema) = (0, 0);
        let Some(last) = commits.last_mut() else { return Ok(None) };
        last.state = Some(StateClaim { state: self.tail.state, scanned: self.scanned.take() });
        let commit = last.number;
        let commits = Commits::new(commits).map_err(|source| OutboxError::Refused { commit, source })?;
        let digest = commits.digest();
        let holds = Holds::Commits { first: commits.first().number, last: commit };
        let (body, _) = self.body(Content::Commits(commits), commit)?;
        self.tail.last = digest;
        Ok(Some(Packed { holds, digest, body }))
    }

    fn part(
        &mut self,
        kind: CommitKind,
        changes: Changes,
        last: Option<StateClaim>,
    ) -> Result<Packed, OutboxError> {
        let commit = self.tail.next;
        let group = self.group.get_or_insert(Group { next: Some(PartIndex::FIRST), bytes: 0 });
        let index = group.place(commit)?;
        let prev = self.tail.last;
        let part = Part { number: commit, prev, kind, index, changes, last };
        let digest = part.digest();
        let (body, bytes) = self.body(Content::Part(part), commit)?;
        if let Some(group) = &mut self.group {
            group.grow(bytes, commit)?;
        }
        self.tail.last = digest;
        Ok(Packed { holds: Holds::Part { commit, index, is_last: last.is_some() }, digest, body })
    }

    fn body(&self, content: Content, commit: CommitNumber) -> Result<(Vec<u8>, usize), OutboxError> {
        let (stream, incarnation) = (self.stream, self.incarnation);
        let body = Body::of(&Entry::Submission(Submission { stream, incarnation, content }))
            .map_err(|source| OutboxError::Refused { commit, source })?;
        let bytes = body.content_bytes();
        Ok((body.into_stored(), bytes))
    }

    /// Steps behind a commit.
    fn advance(&mut self, state: StateHash) -> Result<(), OutboxError> {
        self.tail.next = CommitNumber::new(self.tail.next.get() + 1)?;
        self.tail.state = state;
        Ok(())
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
    fn a_group_ends_at_its_bounds() {
        let commit = CommitNumber::FIRST;
        let mut group = Group { next: Some(PartIndex::FIRST), bytes: 0 };
        for _ in 0..GROUP_BYTES_MAX / BODY_BYTES_MAX as u64 {
            group.grow(BODY_BYTES_MAX, commit).unwrap();
        }
        assert!(matches!(group.grow(1, commit), Err(OutboxError::CommitTooLarge { .. })));

        let last = u64::from(synddb_protocol::limits::PARTS_MAX) - 1;
        let mut group = Group { next: PartIndex::new(last).ok(), bytes: 0 };
        assert_eq!(u64::from(group.place(commit).unwrap()), last);
        assert!(matches!(group.place(commit), Err(OutboxError::TooManyParts { .. })));
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
