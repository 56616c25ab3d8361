//! A client that keeps an outbox as an agent does, and is as unlucky and as tiresome as a client can be.
//!
//! It sends each commit until it is acknowledged. Between that it does what retries, races and bad luck do: it sends twice at once, too early,
//! cut otherwise, half, and goes away before the answer; it sends what is stored long ago, what its last incarnation never sent, and other
//! content for a place. Every answer is judged by what the client knows: what was acknowledged once may never be asked for again, and a place is
//! promised to one content only.

mod injected;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use synddb_protocol::hash::{BodyHash, CommitDigest, StateHash};
use synddb_protocol::http::Reason;
use synddb_protocol::id::{
    CommitNumber, Incarnation, IncarnationCounter, IncarnationNonce, Sequence, StreamId,
};
use synddb_protocol::log::{Body, Entry, Receipt};
use synddb_protocol::submission::{
    Commit, CommitKind, Commits, Content, Predecessor, Snapshot, SnapshotPlace, StateClaim, Submission,
};

use super::source::Source;
use super::wire::{Answer, Connection};
use super::{Shared, pause};
use crate::chance::Chance;
pub(super) use injected::Injected;

/// Most commits that wait for an answer; the application waits then.
const WAITING_MAX: usize = 40;

/// Most commits of one submission.
const SENT_MAX: u64 = 8;

/// How long a client waits before it asks a sequencer again that is not there, or does not lead.
const RETRY: Duration = Duration::from_millis(20);

/// One incarnation of a client, with everything that it ever sent.
pub(super) struct Life {
    pub(super) incarnation: Incarnation,
    pub(super) commits: Vec<Commit>,
    /// The receipt of each commit, where an answer told which it is.
    receipts: Vec<Option<Receipt>>,
}

/// What a client sent and was promised, when everything of it is stored.
pub(super) struct Sent {
    pub(super) stream: StreamId,
    pub(super) lives: Vec<Life>,
    /// The snapshots that began its incarnations, in order.
    pub(super) begun: Vec<CommitDigest>,
    /// Those in the middle.
    pub(super) shown: BTreeSet<CommitDigest>,
    /// Every receipt that was given, by its place.
    pub(super) promised: BTreeMap<Sequence, Receipt>,
    pub(super) injected: Injected,
    /// The state of its database.
    pub(super) state: StateHash,
    pub(super) app: PathBuf,
}

/// The client of one stream.
pub(super) struct Client {
    sent: Sent,
    source: Source,
    chance: Chance,
    shared: Arc<Shared>,
    connection: Connection,
    /// For what is sent at the same time.
    second: Connection,
    /// Commits of the running incarnation that are acknowledged.
    acked: u64,
    /// Commits of the running incarnation that may have been taken.
    maybe: u64,
}

impl Client {
    pub(super) fn new(
        folder: &Path,
        number: u64,
        seed: u64,
        address: SocketAddr,
        shared: &Arc<Shared>,
    ) -> Self {
        let mut seeds = Chance::new(seed.wrapping_add(number << 32));
        let app = folder.join(format!("app-{number}.db"));
        let source = Source::create(&app);
        let mut stream = [0; 32];
        stream[..8].copy_from_slice(&seed.to_be_bytes());
        stream[24..].copy_from_slice(&(number + 1).to_be_bytes());
        let sent = Sent {
            stream: StreamId::from_bytes(stream),
            lives: Vec::new(),
            begun: Vec::new(),
            shown: BTreeSet::new(),
            promised: BTreeMap::new(),
            injected: Injected::default(),
            state: source.state(),
            app,
        };
        Self {
            sent,
            source,
            chance: Chance::new(seeds.next()),
            connection: Connection::new(address, &shared.counted),
            second: Connection::new(address, &shared.counted),
            shared: Arc::clone(shared),
            acked: 0,
            maybe: 0,
        }
    }

    /// Writes and sends until the storm is over, and then until everything is acknowledged and stored.
    pub(super) fn run(mut self) -> Sent {
        self.begin();
        while !self.shared.is_over.load(Ordering::SeqCst) {
            for _ in 0..=self.chance.below(3) {
                if self.waiting() < WAITING_MAX {
                    self.commit();
                }
            }
            self.inject();
            self.send_next();
        }
        while self.waiting() > 0 {
            self.send_next();
        }
        self.wait_stored();
        self.sent.state = self.source.state();
        self.sent
    }

    fn life(&self) -> &Life {
        self.sent.lives.last().unwrap()
    }

    fn waiting(&self) -> usize {
        self.life().commits.len() - usize::try_from(self.acked).unwrap()
    }

    fn commit(&mut self) {
        let (changes, state) = self.source.commit(&mut self.chance);
        let life = self.sent.lives.last_mut().unwrap();
        let number = CommitNumber::new(life.commits.len() as u64 + 1).unwrap();
        let prev = life.commits.last().map_or_else(|| *self.sent.begun.last().unwrap(), Commit::digest);
        let state = Some(StateClaim { state, scanned: None });
        life.commits.push(Commit { number, prev, kind: CommitKind::Transaction, changes, state });
        life.receipts.push(None);
    }

    /// Begins the stream, or its next incarnation, once everything that was committed is acknowledged.
    fn begin(&mut self) {
        let predecessor = self.sent.lives.last().map(|life| Predecessor {
            incarnation: life.incarnation,
            next: CommitNumber::new(self.acked + 1).unwrap(),
            next_part: None,
            last: life.commits.last().map_or_else(|| *self.sent.begun.last().unwrap(), Commit::digest),
            abandoned_through: None,
        });
        let counter = self.sent.lives.len() as u64 + 1;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.chance.next().to_be_bytes());
        let incarnation = Incarnation {
            counter: IncarnationCounter::new(counter).unwrap(),
            nonce: IncarnationNonce::from_bytes(nonce),
        };
        let digest = self.send_snapshot(incarnation, SnapshotPlace::Begins { predecessor });
        self.sent.begun.push(digest);
        self.sent.lives.push(Life { incarnation, commits: Vec::new(), receipts: Vec::new() });
        (self.acked, self.maybe) = (0, 0);
    }

    /// Sends a snapshot with its chunks until it is acknowledged. Only where everything that was committed is.
    fn send_snapshot(&mut self, incarnation: Incarnation, place: SnapshotPlace) -> CommitDigest {
        let (snapshot, chunks) = self.source.snapshot(self.sent.stream, incarnation, place);
        let digest = snapshot.digest();
        for (chunk, bytes) in snapshot.chunks.iter().zip(&chunks) {
            let path = self.path(&format!("snapshot/chunks/{}", chunk.hash.to_key()));
            self.until_answered(|client| match client.connection.ask("PUT", &path, bytes) {
                Answer::Done(_) => Some(()),
                other => client.again(&other),
            });
        }
        let body = snapshot_body(snapshot);
        let path = self.path("snapshot");
        let receipts = self.until_answered(|client| match client.connection.ask("POST", &path, &body) {
            Answer::Taken(receipts) | Answer::Known(receipts) => Some(receipts),
            other => client.again(&other),
        });
        assert_eq!(receipts.len(), 1);
        self.promise(&receipts, Some(&body));
        digest
    }

    /// Sends what comes next, once.
    fn send_next(&mut self) {
        if self.waiting() == 0 {
            return;
        }
        let count = 1 + self.chance.below(SENT_MAX);
        let last = (self.acked + count).min(self.life().commits.len() as u64);
        let body = self.body(self.acked + 1, last);
        let path = self.path("submit");
        let first = self.acked + 1;
        let answer = self.connection.ask("POST", &path, &body);
        self.took(first, last, &body, answer);
    }

    /// Judges the answer to a submission of these commits, none of which was acknowledged when it was sent.
    fn took(&mut self, first: u64, last: u64, body: &[u8], answer: Answer) {
        match answer {
            Answer::Taken(receipts) => {
                assert_eq!(receipts.len(), 1, "one message holds a submission");
                self.promise(&receipts, Some(body));
                self.acknowledge(first, last, &receipts);
            }
            Answer::Known(receipts) => {
                assert!(last <= self.maybe, "commit {last} was never sent before, and is known");
                self.promise(&receipts, None);
                self.acknowledge(first, last, &receipts);
            }
            Answer::Refused(Reason::Gap { expected }) => {
                assert_eq!(expected.incarnation, self.life().incarnation);
                let next = expected.commit;
                self.check_expected(next, first - 1);
                assert!((first + 1..=last).contains(&next.get()), "{first} to {last} leave no gap at {next}");
                self.take_receipts(next.get() - 1);
            }
            Answer::Unanswered => self.maybe = self.maybe.max(last),
            other => self.excuse(&other),
        }
    }

    /// What was taken without an answer is sent as it is, for its receipts.
    fn take_receipts(&mut self, last: u64) {
        let (first, path) = (self.acked + 1, self.path("submit"));
        if first > last {
            // Somebody at the same time has them.
            return;
        }
        let body = self.body(first, last);
        match self.connection.ask("POST", &path, &body) {
            Answer::Known(receipts) => {
                self.promise(&receipts, None);
                self.acknowledge(first, last, &receipts);
            }
            other => self.excuse(&other),
        }
    }

    /// What the sequencer says is next was not acknowledged when it was asked, and was sent if it is past that.
    fn check_expected(&self, next: CommitNumber, acked: u64) {
        let next = next.get();
        assert!(next > acked, "commit {next} was acknowledged, and is asked for again");
        assert!(next <= self.maybe + 1, "commit {next} comes next, and those before it were never sent");
    }

    /// These commits have places. Where one receipt holds them all it is known whose it is.
    fn acknowledge(&mut self, first: u64, last: u64, receipts: &[Receipt]) {
        if let [receipt] = receipts {
            let life = self.sent.lives.last_mut().unwrap();
            for known in &mut life.receipts[at(first)..=at(last)] {
                assert!(known.as_ref().is_none_or(|known| known == receipt), "a commit has two places");
                *known = Some(receipt.clone());
            }
        }
        let newly = last.saturating_sub(self.acked);
        self.shared.acknowledged.fetch_add(newly, Ordering::SeqCst);
        self.acked = self.acked.max(last);
        self.maybe = self.maybe.max(last);
    }

    /// Remembers receipts: no place is promised twice. A new one names what was sent.
    fn promise(&mut self, receipts: &[Receipt], body: Option<&[u8]>) {
        for receipt in receipts {
            if let Some(body) = body {
                assert_eq!(receipt.body_hash(), BodyHash::of(body), "the receipt is of something else");
            }
            let place = receipt.header().sequence;
            let earlier = self.sent.promised.insert(place, receipt.clone());
            assert!(earlier.is_none_or(|earlier| earlier == *receipt), "place {place} was promised twice");
        }
    }

    /// Nothing is known to be taken, and the same may be sent again.
    ///
    /// # Panics
    /// When it was refused for a reason that no kill explains.
    fn excuse(&self, answer: &Answer) {
        match answer {
            Answer::NotSent
            | Answer::Unanswered
            | Answer::Refused(Reason::NotLeading | Reason::Busy | Reason::Unavailable) => pause(RETRY),
            answer => panic!(
                "stream {}: {answer:?}; {} acknowledged, {} sent",
                self.sent.stream, self.acked, self.maybe
            ),
        }
    }

    /// The same, where somebody asks until there is an answer.
    fn again<T>(&self, answer: &Answer) -> Option<T> {
        self.excuse(answer);
        None
    }

    fn until_answered<T>(&mut self, ask: impl Fn(&mut Self) -> Option<T>) -> T {
        loop {
            if let Some(answered) = ask(self) {
                return answered;
            }
        }
    }

    fn wait_stored(&mut self) {
        let Some(last) = self.sent.promised.keys().next_back().copied() else { return };
        let path = self.path(&format!("checkpoint?at_least={last}&wait_ms=2000"));
        self.until_answered(|client| match client.connection.ask("GET", &path, b"") {
            Answer::Done(checkpoint) => {
                let checkpoint = synddb_protocol::log::SignedCheckpoint::from_bytes(&checkpoint).unwrap();
                (checkpoint.claim().size >= last).then_some(())
            }
            // Nothing of the stream is stored yet.
            Answer::Refused(Reason::NotFound) => client.again(&Answer::NotSent),
            other => client.again(&other),
        });
    }

    fn path(&self, of: &str) -> String {
        format!("/streams/{}/{of}", self.sent.stream.to_key())
    }

    /// The body of a submission of commits of the running incarnation.
    fn body(&self, first: u64, last: u64) -> Vec<u8> {
        self.body_of(self.sent.lives.len() - 1, first, last)
    }

    fn body_of(&self, life: usize, first: u64, last: u64) -> Vec<u8> {
        let life = &self.sent.lives[life];
        self.body_with(life.incarnation, life.commits[at(first)..=at(last)].to_vec())
    }

    fn body_with(&self, incarnation: Incarnation, commits: Vec<Commit>) -> Vec<u8> {
        let content = Content::Commits(Commits::new(commits).unwrap());
        let submission = Submission { stream: self.sent.stream, incarnation, content };
        Body::of(&Entry::Submission(submission)).unwrap().into_stored()
    }
}

fn snapshot_body(snapshot: Snapshot) -> Vec<u8> {
    Body::of(&Entry::Snapshot(snapshot)).unwrap().into_stored()
}

/// Where the commit of a number is among those of its incarnation.
fn at(number: u64) -> usize {
    usize::try_from(number - 1).unwrap()
}
