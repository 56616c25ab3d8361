//! From what was packed to the exact bytes that are kept: linked to what was kept before, encoded, checked against what readers take, and
//! compressed.
//!
//! That is a good part of the work of capturing much at once, so it is done beside the capture: one submission at a time, while the next one is
//! gathered. Submissions come out in the order in which they went in.
//!
//! What must stay true: each submission names the digest of the one before it, and of every one that went in, the bytes or the error come
//! out.

use synddb_protocol::hash::CommitDigest;
use synddb_protocol::id::CommitNumber;
use synddb_protocol::limits::GROUP_BYTES_MAX;
use synddb_protocol::log::Body;
use synddb_protocol::submission::{Commits, Content, Part, Submission};
use synddb_sqlite::beside::Beside;

use super::OutboxError;
use super::packing::{Holds, Packed, Sealed, Unlinked};

/// Seals submissions, one at a time beside its caller. Polls follow each other.
#[derive(Debug)]
pub(super) struct Sealer {
    /// The digest of the last submission that came out, or of what the poll stands behind.
    last: CommitDigest,
    worker: Worker,
    group: GroupBytes,
}

#[derive(Debug)]
enum Worker {
    /// Nothing was taken yet.
    NotYet,
    Thread {
        thread: Beside<Work, Result<Sealed, OutboxError>>,
        /// Whether something was handed over that did not come out.
        owes: bool,
    },
    /// No thread could be started, so this was sealed at once.
    Never(Option<Box<Result<Sealed, OutboxError>>>),
}

/// What to seal, and the digest before it.
type Work = (Packed, CommitDigest);

impl Sealer {
    /// Stands behind what has this digest.
    pub(super) fn new(last: CommitDigest) -> Self {
        Self { last, worker: Worker::NotYet, group: GroupBytes::default() }
    }

    /// Begins a poll behind what has this digest. What is left of one that was given up is forgotten.
    pub(super) fn begin(&mut self, last: CommitDigest) {
        drop(self.worker.take());
        (self.last, self.group) = (last, GroupBytes::default());
    }

    /// Takes a submission, and returns the one before it.
    pub(super) fn next(&mut self, packed: Packed) -> Result<Option<Sealed>, OutboxError> {
        let before = self.settle()?;
        self.worker.give((packed, self.last));
        Ok(before)
    }

    /// The last submission that was taken, if it did not come out yet.
    pub(super) fn settle(&mut self) -> Result<Option<Sealed>, OutboxError> {
        self.worker.take().map(|sealed| self.out(sealed?)).transpose()
    }

    /// Seals a submission at once, after all others came out.
    pub(super) fn now(&mut self, packed: Packed) -> Result<Sealed, OutboxError> {
        let sealed = seal(packed, self.last)?;
        self.out(sealed)
    }

    /// The digest of what came out last.
    pub(super) const fn last(&self) -> CommitDigest {
        self.last
    }

    fn out(&mut self, sealed: Sealed) -> Result<Sealed, OutboxError> {
        self.group.grow(&sealed)?;
        self.last = sealed.digest;
        Ok(sealed)
    }
}

impl Worker {
    fn start() -> Self {
        let thread = Beside::start("synddb-seal", 1, |(packed, before): Work| Some(seal(packed, before)));
        thread.map_or(Self::Never(None), |thread| Self::Thread { thread, owes: false })
    }

    fn give(&mut self, work: Work) {
        if matches!(self, Self::NotYet) {
            *self = Self::start();
        }
        if let Self::Thread { thread, owes } = self {
            *owes = true;
            thread.give(work);
        } else {
            let (packed, before) = work;
            *self = Self::Never(Some(Box::new(seal(packed, before))));
        }
    }

    fn take(&mut self) -> Option<Result<Sealed, OutboxError>> {
        match self {
            Self::NotYet => None,
            Self::Thread { thread, owes } => std::mem::take(owes).then(|| thread.take()),
            Self::Never(sealed) => sealed.take().map(|sealed| *sealed),
        }
    }
}

fn seal(packed: Packed, before: CommitDigest) -> Result<Sealed, OutboxError> {
    let Packed { stream, incarnation, content } = packed;
    let (commit, content, holds, digest) = match content {
        Unlinked::Commits { first, changes, claim } => {
            let refused = |source| OutboxError::Refused { commit: first, source };
            let commits = Commits::link(first, before, changes, claim).map_err(refused)?;
            let holds = Holds::Commits { first, last: commits.last().number };
            let digest = commits.digest();
            (first, Content::Commits(commits), holds, digest)
        }
        Unlinked::Part { commit, kind, index, changes, last } => {
            let part = Part { number: commit, prev: before, kind, index, changes, last };
            let holds = Holds::Part { commit, index, is_last: last.is_some() };
            let digest = part.digest();
            (commit, Content::Part(part), holds, digest)
        }
    };
    let body = Body::carrying(Submission { stream, incarnation, content });
    let body = body.map_err(|source| OutboxError::Refused { commit, source })?;
    let content_bytes = body.content_bytes();
    Ok(Sealed { holds, digest, body: body.into_stored(), content_bytes })
}

/// The bodies of the parts of one commit so far, after decompression, in bytes.
#[derive(Debug, Default)]
struct GroupBytes(u64);

impl GroupBytes {
    fn grow(&mut self, sealed: &Sealed) -> Result<(), OutboxError> {
        match sealed.holds {
            Holds::Commits { .. } => Ok(()),
            Holds::Part { commit, is_last, .. } => {
                self.add(sealed.content_bytes, commit)?;
                if is_last {
                    self.0 = 0;
                }
                Ok(())
            }
        }
    }

    fn add(&mut self, bytes: usize, commit: CommitNumber) -> Result<(), OutboxError> {
        self.0 = self.0.saturating_add(bytes as u64);
        if self.0 > GROUP_BYTES_MAX { Err(OutboxError::CommitTooLarge { commit }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use synddb_protocol::hash::StateHash;
    use synddb_protocol::id::{Incarnation, IncarnationCounter, IncarnationNonce, PartIndex, StreamId};
    use synddb_protocol::limits::{BODY_BYTES_MAX, NAME_BYTES_MAX};
    use synddb_protocol::log::{Entry, MessageType};
    use synddb_protocol::submission::{Changes, CommitKind, ObjectKind, SchemaChange, StateClaim};

    use super::*;

    const CLAIM: StateClaim = StateClaim { state: StateHash::from_bytes([3; 32]), scanned: None };

    fn packed(content: Unlinked) -> Packed {
        let nonce = IncarnationNonce::from_bytes([1; 16]);
        let incarnation = Incarnation { counter: IncarnationCounter::FIRST, nonce };
        Packed { stream: StreamId::from_bytes([4; 32]), incarnation, content }
    }

    fn commits(first: u64, count: usize) -> Packed {
        let changes = vec![(CommitKind::Transaction, Changes::default()); count];
        packed(Unlinked::Commits { first: CommitNumber::new(first).unwrap(), changes, claim: CLAIM })
    }

    /// As a reader has it, who checks everything.
    fn read(sealed: &Sealed) -> Content {
        let body = Body::read(MessageType::Submission, sealed.body.clone(), BODY_BYTES_MAX).unwrap();
        let Entry::Submission(Submission { content, .. }) = body.into_entry() else { panic!() };
        content
    }

    #[test]
    fn submissions_are_linked_wherever_they_are_sealed() {
        let begin = CommitDigest::from_bytes([2; 32]);
        for worker in [Worker::NotYet, Worker::Never(None)] {
            let mut sealer = Sealer { worker, ..Sealer::new(begin) };
            let kind = CommitKind::Transaction;
            let part = Unlinked::Part {
                commit: CommitNumber::new(6).unwrap(),
                kind,
                index: PartIndex::FIRST,
                changes: Changes::default(),
                last: None,
            };
            let mut sealed = Vec::new();
            for packed in [commits(1, 2), commits(3, 3), packed(part)] {
                sealed.extend(sealer.next(packed).unwrap());
            }
            sealed.extend(sealer.settle().unwrap());
            assert!(sealer.settle().unwrap().is_none());
            sealed.push(sealer.now(commits(7, 1)).unwrap());
            let mut before = begin;
            for sealed in &sealed {
                let (prev, digest, holds) = match read(sealed) {
                    Content::Commits(commits) => {
                        let (first, last) = (commits.first().number, commits.last().number);
                        (commits.first().prev, commits.digest(), Holds::Commits { first, last })
                    }
                    Content::Part(part) => {
                        let Part { number: commit, index, last, .. } = part;
                        (part.prev, part.digest(), Holds::Part { commit, index, is_last: last.is_some() })
                    }
                };
                assert_eq!((prev, digest, holds), (before, sealed.digest, sealed.holds));
                before = digest;
            }
            assert_eq!((sealed.len(), sealer.last()), (4, before));
        }
    }

    #[test]
    fn what_a_poll_left_that_was_given_up_is_not_in_the_next_one() {
        let begin = CommitDigest::from_bytes([2; 32]);
        for worker in [Worker::NotYet, Worker::Never(None)] {
            let mut sealer = Sealer { worker, ..Sealer::new(begin) };
            assert!(sealer.next(commits(1, 2)).unwrap().is_none());
            assert!(sealer.next(commits(3, 2)).unwrap().is_some());
            sealer.group.0 = GROUP_BYTES_MAX;
            sealer.begin(begin);
            assert!(sealer.settle().unwrap().is_none());
            let Content::Commits(read) = read(&sealer.now(commits(1, 1)).unwrap()) else { panic!() };
            assert_eq!((read.first().prev, sealer.group.0), (begin, 0));
        }
    }

    #[test]
    fn what_no_reader_takes_is_not_sealed() {
        let name = vec![b'n'; NAME_BYTES_MAX + 1];
        let schema = vec![SchemaChange::Drop { kind: ObjectKind::Table, name }];
        let changes = vec![(CommitKind::Transaction, Changes { schema, ..Changes::default() })];
        let long = Unlinked::Commits { first: CommitNumber::FIRST, changes, claim: CLAIM };
        let mut sealer = Sealer::new(CommitDigest::from_bytes([2; 32]));
        for refused in [packed(long), commits(1, 0)] {
            assert!(sealer.next(refused).unwrap().is_none());
            assert!(matches!(sealer.settle(), Err(OutboxError::Refused { .. })));
        }
    }

    #[test]
    fn a_group_ends_at_its_bound() {
        let commit = CommitNumber::FIRST;
        let mut group = GroupBytes::default();
        for _ in 0..GROUP_BYTES_MAX / BODY_BYTES_MAX as u64 {
            group.add(BODY_BYTES_MAX, commit).unwrap();
        }
        assert!(matches!(group.add(1, commit), Err(OutboxError::CommitTooLarge { .. })));
    }
}
