//! A reader of submissions, as strict as any: it believes nothing that the outbox says beside the bytes.

use synddb_agent::outbox::{Held, Holds, Outbox};
use synddb_protocol::id::CommitNumber;
use synddb_protocol::limits::{BODY_BYTES_MAX, SCHEMA_CHANGES_MAX};
use synddb_protocol::log::{Body, ClientState, Entry, MessageType};
use synddb_protocol::submission::{Changes, CommitKind, Content, StateClaim, Submission};

use super::beginning;

/// A commit as it was put together again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) kind: CommitKind,
    pub(crate) changes: Changes,
    pub(crate) claim: Option<StateClaim>,
    /// In how many parts it came; 0 for a whole one.
    pub(crate) parts: usize,
}

/// What a reader has of a stream.
pub(crate) struct Reader {
    pub(crate) client: ClientState,
    pub(crate) commits: Vec<Read>,
    open: Option<Read>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        let client = ClientState {
            incarnation: beginning().incarnation,
            next: CommitNumber::FIRST,
            last: beginning().snapshot,
            group: None,
            state: beginning().state,
        };
        Self { client, commits: Vec::new(), open: None }
    }

    /// Reads everything that an outbox holds, from the oldest on.
    pub(crate) fn of(outbox: &Outbox) -> Self {
        let mut reader = Self::new();
        for held in all(outbox) {
            reader.take(&held);
        }
        reader
    }

    pub(crate) fn take(&mut self, held: &Held) {
        let body = Body::read(MessageType::Submission, held.body.clone(), BODY_BYTES_MAX).unwrap();
        let bytes = body.content_bytes() as u64;
        let Entry::Submission(submission) = body.into_entry() else { panic!("no submission") };
        assert_eq!(submission.stream, beginning().stream);
        self.client = self.client.after_submission(&submission, bytes).unwrap();
        assert_eq!(held.digest, self.client.last);
        let Submission { content, .. } = submission;
        match content {
            Content::Commits(commits) => {
                let (first, last) = (commits.first().number, commits.last().number);
                assert_eq!(held.holds, Holds::Commits { first, last });
                for commit in commits.as_slice() {
                    let (kind, changes) = (commit.kind, commit.changes.clone());
                    let read = Read { kind, changes, claim: commit.state, parts: 0 };
                    self.commits.push(read);
                }
            }
            Content::Part(part) => {
                let is_last = part.last.is_some();
                assert_eq!(held.holds, Holds::Part { commit: part.number, index: part.index, is_last });
                assert!(part.changes.schema.len() <= SCHEMA_CHANGES_MAX);
                let empty = Read { kind: part.kind, changes: Changes::default(), claim: None, parts: 0 };
                let mut read = self.open.take().unwrap_or(empty);
                read.parts += 1;
                read.claim = part.last;
                read.changes.schema.extend(part.changes.schema);
                read.changes.rows.extend(part.changes.rows);
                read.changes.user_version = part.changes.user_version;
                read.changes.application_id = part.changes.application_id;
                if is_last { self.commits.push(read) } else { self.open = Some(read) }
            }
        }
    }
}

/// Everything that an outbox holds.
pub(crate) fn all(outbox: &Outbox) -> Vec<Held> {
    let mut held: Vec<Held> = Vec::new();
    let mut next = outbox.next().unwrap();
    while let Some(submission) = next {
        next = outbox.after(submission.id).unwrap();
        held.push(submission);
    }
    let pending = outbox.pending();
    assert_eq!(pending.submissions, held.len() as u64);
    assert_eq!(pending.bytes, held.iter().map(|held| held.body.len() as u64).sum::<u64>());
    assert!(held.windows(2).all(|pair| pair[0].id.get() + 1 == pair[1].id.get()));
    held
}
