//! A client with an outbox, as an agent is one: it sends in order, sends again what it got no answer to, goes back when it is told, and forgets only what
//! a signed checkpoint of a stored batch holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt as _;
use rand::rngs::SmallRng;
use synddb_protocol::hash::{ChunkHash, CommitDigest, StateHash};
use synddb_protocol::http::{Position, Reason};
use synddb_protocol::id::{CommitNumber, Incarnation, IncarnationCounter, IncarnationNonce, StreamId};
use synddb_protocol::log::{Body, Entry, SignedCheckpoint};
use synddb_protocol::submission::{
    Changes, Chunk, Commit, CommitKind, Commits, Content, PageSize, Snapshot, SnapshotPlace, StateClaim,
    Submission, TextEncoding,
};

use super::oracle::{Oracle, Violation};
use super::process::Process;
use crate::stream::Answer;

/// Commits that the client has to bring to their place.
const COMMITS: u64 = 4;

/// Everything that a client can send, made once.
pub(super) struct Script {
    beginning: Body,
    /// The body of the commits from the first number to the last.
    ranges: BTreeMap<(u64, u64), Body>,
    digests: BTreeMap<u64, CommitDigest>,
}

impl Script {
    pub(super) fn new(stream: StreamId) -> Self {
        let incarnation = Incarnation {
            counter: IncarnationCounter::new(1).unwrap(),
            nonce: IncarnationNonce::from_bytes([1; 16]),
        };
        let state = StateHash::from_bytes([7; 32]);
        let snapshot = Snapshot {
            stream,
            incarnation,
            place: SnapshotPlace::Begins { predecessor: None },
            encoding: TextEncoding::Utf8,
            page_size: PageSize::new(4096).unwrap(),
            state,
            chunks: vec![Chunk { hash: ChunkHash::of(b"pages"), pages: 1, stored_bytes: 5 }],
        };
        let mut prev = snapshot.digest();
        let mut commits = Vec::new();
        let mut digests = BTreeMap::new();
        for number in 1..=COMMITS {
            let commit = Commit {
                number: CommitNumber::new(number).unwrap(),
                prev,
                kind: CommitKind::Transaction,
                changes: Changes { rows: b"rows".to_vec(), ..Changes::default() },
                state: Some(StateClaim { state, scanned: None }),
            };
            prev = commit.digest();
            digests.insert(number, prev);
            commits.push(commit);
        }
        let mut ranges = BTreeMap::new();
        for first in 1..=COMMITS {
            for last in first..=COMMITS {
                let range = |number: u64| usize::try_from(number - 1).unwrap();
                let held = Commits::new(commits[range(first)..=range(last)].to_vec()).unwrap();
                let submission = Submission { stream, incarnation, content: Content::Commits(held) };
                ranges.insert((first, last), Body::of(&Entry::Submission(submission)).unwrap());
            }
        }
        Self { beginning: Body::of(&Entry::Snapshot(snapshot)).unwrap(), ranges, digests }
    }

    pub(super) fn digests(&self) -> &BTreeMap<u64, CommitDigest> {
        &self.digests
    }
}

pub(super) struct Client {
    script: Arc<Script>,
    /// The next commit to send; 0 is the beginning.
    next: u64,
    /// Everything before this commit is forgotten; 0 while the beginning is not.
    kept_from: u64,
    forgets_early: bool,
}

impl Client {
    pub(super) fn new(script: Arc<Script>, forgets_early: bool) -> Self {
        Self { script, next: 0, kept_from: 0, forgets_early }
    }

    pub(super) fn digests(&self) -> &BTreeMap<u64, CommitDigest> {
        self.script.digests()
    }

    pub(super) fn has_forgotten_all(&self) -> bool {
        self.kept_from > COMMITS
    }

    /// Some of what is not forgotten: most often what comes next, sometimes anything, sometimes twice.
    pub(super) fn commands(&self, chance: &mut SmallRng) -> Vec<Body> {
        let count = if chance.random_bool(0.3) { chance.random_range(2..4) } else { 1 };
        (0..count).filter_map(|_| self.command(chance)).collect()
    }

    fn command(&self, chance: &mut SmallRng) -> Option<Body> {
        let first = if chance.random_bool(0.75) {
            self.next.max(self.kept_from)
        } else {
            chance.random_range(self.kept_from..=COMMITS + 1)
        };
        if first == 0 {
            return Some(self.script.beginning.clone());
        }
        if first > COMMITS {
            // Everything has a place: asks with the last one again, unless it is forgotten.
            let last = COMMITS.max(self.kept_from);
            return self.script.ranges.get(&(last, last)).cloned();
        }
        let last = (first + chance.random_range(0..3)).min(COMMITS);
        self.script.ranges.get(&(first, last)).cloned()
    }

    /// Takes what a process has answered and shown.
    pub(super) fn hear(&mut self, process: &mut Process, oracle: &mut Oracle) -> Result<(), Violation> {
        for answer in process.heard() {
            match answer {
                Answer::Taken(_) | Answer::Known(_) => {
                    if self.next == 0 {
                        self.next = 1;
                    }
                }
                Answer::Refused(Reason::Gap { expected }, _) => self.next = expected.commit.get(),
                Answer::Refused(Reason::NotBegun, _) => self.next = 0,
                // Its content is the only one there is.
                Answer::Refused(reason @ (Reason::ContentMismatch { .. } | Reason::Internal), detail) => {
                    return Err(Violation::Refused(format!("{reason:?}: {detail}")));
                }
                Answer::Refused(..) | Answer::LookUp(..) => {}
            }
        }
        if let Some(next) = process.sequenced() {
            self.next = self.next.max(next);
        }
        if self.forgets_early {
            self.kept_from = self.kept_from.max(self.next);
        }
        let Some(stored) = process.stored() else { return Ok(()) };
        let checkpoint = SignedCheckpoint::from_bytes(&stored).expect("it is one");
        oracle.take_checkpoint(&checkpoint)?;
        let Some(client) = &checkpoint.claim().client else { return Ok(()) };
        let next = Position::expected(client).commit.get();
        let digest = next.checked_sub(1).and_then(|last| self.script.digests.get(&last));
        // What a checkpoint names is forgotten only where its digest is the outbox's (I3).
        if digest.is_none_or(|digest| *digest == client.last) {
            self.kept_from = self.kept_from.max(next);
        }
        Ok(())
    }

    /// The first commit that is not forgotten.
    pub(super) fn kept_from(&self) -> u64 {
        self.kept_from
    }
}
