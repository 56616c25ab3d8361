//! An application whose every commit is one submission, and so one batch: real changes, captured where they are made.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use synddb_protocol::hash::{CommitDigest, StateHash};
use synddb_protocol::http::Reason;
use synddb_protocol::id::{CommitNumber, Incarnation, IncarnationCounter, IncarnationNonce, Sequence};
use synddb_protocol::log::{Body, Entry, Receipt, SignedCheckpoint};
use synddb_protocol::submission::{
    Commit, CommitKind, Commits, Content, SnapshotPlace, StateClaim, Submission,
};

use super::STREAM;
use crate::chance::Chance;
use crate::storm::source::Source;
use crate::storm::wire::{Answer, Connection, Counted};

/// How long a sequencer may take to lead, and to store what it accepted.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the application waits before it asks a sequencer again that does not lead yet.
const RETRY: Duration = Duration::from_millis(2);

/// How many messages are waited for at a time. A store that takes one after another within [`PATIENCE`] is waited for to the end.
const STRIDE: u64 = 500;

/// Keys of its rows are below this, so that rows are changed as well as added.
const ACCOUNTS: u64 = 1000;

/// The application, and where it stands in what it sends.
pub(super) struct Application {
    source: Source,
    chance: Chance,
    connection: Connection,
    incarnation: Incarnation,
    next: CommitNumber,
    last: CommitDigest,
}

impl Application {
    /// Makes the database, and begins its stream with a snapshot.
    pub(super) fn begin(database: &Path, sequencer: SocketAddr) -> Self {
        let source = Source::create(database);
        let incarnation =
            Incarnation { counter: IncarnationCounter::FIRST, nonce: IncarnationNonce::from_bytes([1; 16]) };
        let begins = SnapshotPlace::Begins { predecessor: None };
        let (snapshot, chunks) = source.snapshot(STREAM, incarnation, begins);
        let mut application = Self {
            source,
            chance: Chance::new(1),
            connection: connection(sequencer),
            incarnation,
            next: CommitNumber::FIRST,
            last: snapshot.digest(),
        };
        for (chunk, bytes) in snapshot.chunks.iter().zip(&chunks) {
            let path = format!("snapshot/chunks/{}", chunk.hash.to_key());
            application.ask("PUT", &path, bytes, |answer| matches!(answer, Answer::Done(_)).then_some(()));
        }
        let body = Body::of(&Entry::Snapshot(snapshot)).unwrap().into_stored();
        application.ask("POST", "snapshot", &body, place);
        application
    }

    /// Speaks to another sequencer from here on.
    pub(super) fn turn_to(&mut self, sequencer: SocketAddr) {
        self.connection = connection(sequencer);
    }

    /// Commits something and has it accepted; its place in the log.
    pub(super) fn commit(&mut self) -> Sequence {
        let (key, amount) = (self.chance.below(ACCOUNTS), self.chance.next());
        let (changes, state) = self.source.run(&format!(
            "INSERT OR REPLACE INTO accounts VALUES({key}, 'name {key}', {}); INSERT INTO events VALUES({key}, x'{amount:016x}')",
            amount >> 20
        ));
        let commit = Commit {
            number: self.next,
            prev: self.last,
            kind: CommitKind::Transaction,
            changes,
            state: Some(StateClaim { state, scanned: None }),
        };
        self.last = commit.digest();
        self.next = self.next.next().unwrap();
        let content = Content::Commits(Commits::new(vec![commit]).unwrap());
        let submission = Submission { stream: STREAM, incarnation: self.incarnation, content };
        let body = Body::of(&Entry::Submission(submission)).unwrap().into_stored();
        self.ask("POST", "submit", &body, place)
    }

    /// Waits until a message is stored, for as long as storing goes on.
    pub(super) fn wait_stored(&mut self, last: Sequence) {
        let mut stored = 0;
        while stored < last.get() {
            let next = last.get().min(stored + STRIDE);
            let path = format!("checkpoint?at_least={next}&wait_ms=20000");
            stored = self.ask("GET", &path, b"", |answer| {
                let Answer::Done(checkpoint) = answer else { return None };
                let size = SignedCheckpoint::from_bytes(checkpoint).unwrap().claim().size.get();
                (size >= next).then_some(size)
            });
        }
    }

    /// The state that was captured.
    pub(super) fn state(&self) -> StateHash {
        self.source.state()
    }

    /// Asks until the answer is the one that is wanted; a sequencer that does not lead yet, or went away in between, is asked the same again.
    fn ask<T>(&mut self, method: &str, path: &str, body: &[u8], wanted: impl Fn(&Answer) -> Option<T>) -> T {
        let path = format!("/streams/{}/{path}", STREAM.to_key());
        let begun = Instant::now();
        loop {
            let answer = self.connection.ask(method, &path, body);
            if let Some(found) = wanted(&answer) {
                return found;
            }
            let may_come = match &answer {
                Answer::Done(_) | Answer::Unanswered => true,
                Answer::Refused(reason) => matches!(
                    reason,
                    Reason::NotLeading | Reason::Busy | Reason::Unavailable | Reason::NotFound
                ),
                Answer::Taken(_) | Answer::Known(_) | Answer::NotSent => false,
            };
            assert!(may_come && begun.elapsed() < PATIENCE, "{method} {path}: {answer:?}");
            std::thread::park_timeout(RETRY);
        }
    }
}

fn connection(sequencer: SocketAddr) -> Connection {
    Connection::new(sequencer, &Arc::new(Counted::default()))
}

/// The place of the one message that was accepted.
fn place(answer: &Answer) -> Option<Sequence> {
    let (Answer::Taken(receipts) | Answer::Known(receipts)) = answer else { return None };
    let [receipt] = <&[Receipt; 1]>::try_from(receipts.as_slice()).unwrap();
    Some(receipt.header().sequence)
}
