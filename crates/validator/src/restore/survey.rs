//! What a log holds, before it is replayed: so that a commit is found without its incarnation, and one that is not there is refused at once
//! and not after an hour.
//!
//! Usually the last batch that the store lists tells: its checkpoint is signed, and says which incarnation runs and how far it is. That is
//! compared with nothing else, and needs not be: what the keeper of a store can do by that, it can do by keeping batches back. Where that does not
//! tell, as over a static host, the whole log is read and verified first.

use std::collections::VecDeque;

use synddb_protocol::id::{CommitNumber, IncarnationCounter, Sequence};
use synddb_protocol::log::{Batch, Entry, VerifiedBatch, VerifiedMessage};
use synddb_protocol::submission::{Content, SnapshotPlace};
use synddb_storage::Key;
use tokio::sync::mpsc::Receiver;
use tokio::task::spawn_blocking;

use super::Problem;
use super::target::{At, Target};
use crate::error::ValidatorError;
use crate::fetch::NoAnswer;
use crate::fsck::Asked;
use crate::pipeline::{Item, cut_off};

/// Incarnations that are told of many, at most: the last ones.
const TOLD_MAX: usize = 10;

/// What is said of an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) incarnation: IncarnationCounter,
    /// Its last whole commit.
    pub(super) through: Option<CommitNumber>,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.through {
            Some(through) => write!(f, "incarnation {} to commit {through}", self.incarnation),
            None => write!(f, "incarnation {} without a commit", self.incarnation),
        }
    }
}

/// Where the log ends, as its last checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) size: Sequence,
    held: Option<Held>,
    /// The commit that comes in parts, and of which the last is not stored.
    unfinished: Option<CommitNumber>,
}

impl End {
    /// Asks the store for the last batch. `None` where it lists nothing, or nothing that a pinned key signed.
    pub(super) async fn of(asked: &Asked) -> Result<Option<Self>, Problem> {
        let stream = asked.stream;
        let first = match asked.store.last_batch(stream).await {
            Ok(Some(first)) => first,
            Ok(None) | Err(NoAnswer::Failed(_)) => return Ok(None),
            Err(NoAnswer::GaveUp) => return Err(Problem::Interrupted),
        };
        let stored = match asked.store.get(&Key::Batch { stream, first }).await {
            Ok(Some(stored)) => stored,
            Ok(None) | Err(NoAnswer::Failed(_)) => return Ok(None),
            Err(NoAnswer::GaveUp) => return Err(Problem::Interrupted),
        };
        // Whatever is wrong with it, whoever replays the log finds and tells.
        let Ok(Ok(batch)) = spawn_blocking(move || Batch::from_stored(&stored)).await else {
            return Ok(None);
        };
        let (checkpoint, claim) = (batch.checkpoint(), batch.checkpoint().claim());
        let is_believed = checkpoint.recover().is_ok_and(|key| asked.keys.get(key.id()).is_some());
        if !is_believed || claim.stream != stream || batch.first() != first {
            return Ok(None);
        }
        let held = claim
            .client
            .as_ref()
            .map(|client| Held { incarnation: client.incarnation.counter, through: client.next.previous() });
        let coming = claim.client.as_ref().filter(|client| client.group.is_some());
        Ok(Some(Self { size: claim.size, held, unfinished: coming.map(|client| client.next) }))
    }

    /// What is asked for, as far as that is known.
    pub(super) fn resolve(this: Option<&Self>, at: At) -> Result<Resolved, Problem> {
        let held = this.and_then(|end| end.held);
        let unfinished = this.and_then(|end| end.unfinished);
        let refused = || match held {
            Some(held) => Problem::NoCommit { at, found: held.to_string(), unfinished },
            None => Problem::NoSnapshot { size: this.map(|end| end.size) },
        };
        let target = match at {
            At::Newest => Target::Newest,
            At::Time(at) => Target::Time(at),
            At::Message(sequence) => match this {
                Some(end) if end.size < sequence => {
                    return Err(Problem::NoMessage { asked: sequence, size: Some(end.size) });
                }
                Some(_) | None => Target::Message(sequence),
            },
            At::Commit { incarnation: Some(incarnation), commit } => match held {
                Some(held) if held.incarnation < incarnation => return Err(refused()),
                Some(held) if held.incarnation == incarnation && commit > held.through => {
                    return Err(refused());
                }
                Some(_) | None => Target::Commit { incarnation, commit },
            },
            At::Commit { incarnation: None, commit } => match held {
                Some(Held { incarnation, through }) if commit <= through => {
                    Target::Commit { incarnation, commit }
                }
                Some(held) if held.incarnation == IncarnationCounter::FIRST => return Err(refused()),
                Some(_) | None => return Ok(Resolved::Unknown { commit }),
            },
        };
        Ok(Resolved::Known(target))
    }
}

/// Whether it is known what is asked for.
pub(super) enum Resolved {
    Known(Target),
    /// The newest incarnation that has this commit is to be found.
    Unknown {
        commit: Option<CommitNumber>,
    },
}

/// Reads a whole log for the newest incarnation that has a commit.
pub(super) struct Survey {
    wanted: Option<CommitNumber>,
    found: Option<IncarnationCounter>,
    held: VecDeque<Held>,
    told_all: bool,
    size: Option<Sequence>,
}

impl Survey {
    pub(super) fn of(wanted: Option<CommitNumber>) -> Self {
        Self { wanted, found: None, held: VecDeque::new(), told_all: true, size: None }
    }

    /// Takes everything; `None` when it was asked to end.
    pub(super) async fn run(
        &mut self,
        asked: &Asked,
        mut from: Receiver<Item<Box<VerifiedBatch>>>,
        mut on_progress: impl FnMut(Option<Sequence>),
    ) -> Result<Option<()>, ValidatorError> {
        while let Some(item) = from.recv().await {
            match item {
                Item::Batch(ahead) => {
                    ahead.batch.messages().iter().for_each(|message| self.count(message));
                    on_progress(self.size);
                }
                Item::End => return Ok(Some(())),
                Item::Failed(error) => return Err(*error),
                Item::Look | Item::Audit(_) => {}
            }
        }
        if asked.store.may_end() { Ok(None) } else { Err(cut_off()) }
    }

    fn count(&mut self, message: &VerifiedMessage) {
        self.size = Some(message.header().sequence);
        let (incarnation, through) = match message.entry() {
            Entry::Snapshot(snapshot) if matches!(snapshot.place, SnapshotPlace::Begins { .. }) => {
                (snapshot.incarnation.counter, None)
            }
            Entry::Submission(submission) => match &submission.content {
                Content::Commits(commits) => (submission.incarnation.counter, Some(commits.last().number)),
                Content::Part(part) if part.last.is_some() => {
                    (submission.incarnation.counter, Some(part.number))
                }
                Content::Part(_) => return,
            },
            Entry::Snapshot(_) | Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_) => return,
        };
        if through >= self.wanted {
            self.found = Some(incarnation);
        }
        match self.held.back_mut() {
            Some(held) if held.incarnation == incarnation => held.through = through,
            Some(_) | None => self.held.push_back(Held { incarnation, through }),
        }
        if self.held.len() > TOLD_MAX {
            self.held.pop_front();
            self.told_all = false;
        }
    }

    /// What is asked for.
    pub(super) fn into_target(self) -> Result<Target, Problem> {
        let commit = self.wanted;
        if let Some(incarnation) = self.found {
            return Ok(Target::Commit { incarnation, commit });
        }
        if self.held.is_empty() {
            return Err(Problem::NoSnapshot { size: self.size });
        }
        let earlier = if self.told_all { "" } else { "earlier ones, " };
        let held: Vec<String> = self.held.iter().map(Held::to_string).collect();
        let found = format!("{earlier}{}", held.join(", "));
        Err(Problem::NoCommit { at: At::Commit { incarnation: None, commit }, found, unfinished: None })
    }
}
