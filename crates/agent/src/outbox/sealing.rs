//! From what was packed to the exact bytes that are kept: checked, encoded, compressed, and read again by the code that readers use.
//!
//! That is a good part of the work of capturing much at once, so it is done beside the capture: one submission at a time, while the next one is
//! gathered. Submissions come out in the order in which they went in.
//!
//! What must stay true: of every submission that went in, the bytes or the error come out.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use synddb_protocol::id::CommitNumber;
use synddb_protocol::limits::GROUP_BYTES_MAX;
use synddb_protocol::log::{Body, Entry};
use synddb_protocol::submission::{Commits, Content, Submission};

use super::OutboxError;
use super::packing::{Holds, Packed, Sealed, Unchecked};

/// Seals submissions, one beside its caller.
#[derive(Debug, Default)]
pub(super) struct Sealer {
    beside: Option<Beside>,
    group: GroupBytes,
}

#[derive(Debug)]
enum Beside {
    /// On a thread of its own.
    Thread(JoinHandle<Result<Sealed, OutboxError>>),
    /// There was no thread for it.
    Done(Result<Sealed, OutboxError>),
}

impl Sealer {
    /// Takes a submission, and returns the one before it.
    pub(super) fn next(&mut self, packed: Packed) -> Result<Option<Sealed>, OutboxError> {
        let before = self.last()?;
        let packed = Arc::new(Mutex::new(Some(packed)));
        let taken = Arc::clone(&packed);
        let thread = std::thread::Builder::new().name("synddb-seal".to_owned());
        let beside = thread.spawn(move || seal_taken(&taken));
        self.beside = Some(beside.map_or_else(|_| Beside::Done(seal_taken(&packed)), Beside::Thread));
        Ok(before)
    }

    /// The last submission that was taken.
    pub(super) fn last(&mut self) -> Result<Option<Sealed>, OutboxError> {
        let sealed = match self.beside.take() {
            None => return Ok(None),
            Some(Beside::Thread(beside)) => beside.join().unwrap_or_else(|fault| resume_unwind(fault))?,
            Some(Beside::Done(sealed)) => sealed?,
        };
        self.group.grow(&sealed)?;
        Ok(Some(sealed))
    }

    /// Seals a submission at once, after all others came out.
    pub(super) fn now(&mut self, packed: Packed) -> Result<Sealed, OutboxError> {
        let sealed = seal(packed)?;
        self.group.grow(&sealed)?;
        Ok(sealed)
    }
}

/// Seals what is there for whoever comes first.
fn seal_taken(packed: &Mutex<Option<Packed>>) -> Result<Sealed, OutboxError> {
    let packed = packed.lock().unwrap_or_else(PoisonError::into_inner).take();
    seal(packed.expect("where there is a thread it takes this, and where there is none nobody does"))
}

fn seal(packed: Packed) -> Result<Sealed, OutboxError> {
    let Packed { holds, digest, stream, incarnation, content } = packed;
    let commit = holds.first_commit();
    let refused = |source| OutboxError::Refused { commit, source };
    let (content, found) = match content {
        Unchecked::Commits(commits) => {
            let commits = Commits::new(commits).map_err(refused)?;
            let found = commits.digest();
            (Content::Commits(commits), found)
        }
        // It names its digest itself, and there is nothing else to check.
        Unchecked::Part(part) => (Content::Part(part), digest),
    };
    if found != digest {
        return Err(OutboxError::Mispacked { commit });
    }
    let entry = Entry::Submission(Submission { stream, incarnation, content });
    let body = Body::of(&entry).map_err(refused)?;
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
    use synddb_protocol::hash::{CommitDigest, StateHash};
    use synddb_protocol::id::{Incarnation, IncarnationCounter, IncarnationNonce, StreamId};
    use synddb_protocol::limits::BODY_BYTES_MAX;
    use synddb_protocol::submission::{Changes, Commit, CommitKind, StateClaim};

    use super::*;

    #[test]
    fn what_has_another_digest_than_the_next_one_names_is_not_sealed() {
        let nonce = IncarnationNonce::from_bytes([1; 16]);
        let packed = |digest: Option<CommitDigest>| {
            let commit = Commit {
                number: CommitNumber::FIRST,
                prev: CommitDigest::from_bytes([2; 32]),
                kind: CommitKind::Transaction,
                changes: Changes::default(),
                state: Some(StateClaim { state: StateHash::from_bytes([3; 32]), scanned: None }),
            };
            Packed {
                holds: Holds::Commits { first: commit.number, last: commit.number },
                digest: digest.unwrap_or_else(|| commit.digest()),
                stream: StreamId::from_bytes([4; 32]),
                incarnation: Incarnation { counter: IncarnationCounter::FIRST, nonce },
                content: Unchecked::Commits(vec![commit]),
            }
        };
        assert!(seal(packed(None)).is_ok());
        let other = Some(CommitDigest::from_bytes([5; 32]));
        assert!(matches!(seal(packed(other)), Err(OutboxError::Mispacked { .. })));
        let mut sealer = Sealer::default();
        assert!(sealer.next(packed(other)).unwrap().is_none());
        assert!(matches!(sealer.last(), Err(OutboxError::Mispacked { .. })));
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
