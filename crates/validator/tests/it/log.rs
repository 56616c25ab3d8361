//! A real log without a sequencer: a real database, its follower, and a leader that signs what is captured and stores it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use synddb_protocol::hash::{CommitDigest, StateHash};
use synddb_protocol::id::{
    CommitNumber, Epoch, Incarnation, IncarnationCounter, IncarnationNonce, PartIndex, Sequence, StreamId,
    Timestamp,
};
use synddb_protocol::log::{
    Batch, Body, Entry, EpochRecord, EpochStart, KeyProof, Leaders, Message, SignedEpochRecord, Tip, Versions,
};
use synddb_protocol::signing::{SigningKey, TrustedKeys};
use synddb_protocol::submission::{
    Changes, Commit, CommitKind, Commits, Content, Part, Predecessor, Snapshot, SnapshotPlace, StateClaim,
    Submission,
};
use synddb_sqlite::capture::{CommittedState, Follower, Options, Sink, WalPosition};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite;
use synddb_sqlite::snapshot::Writer;
use synddb_sqlite::state::RunningState;
use synddb_storage::{BatchStore, Key, ObjectBatchStore, StoreUrl};
use synddb_validator::{Config, Mode};

pub(crate) const STREAM: StreamId = StreamId::from_bytes([0x5d; 32]);
/// Parts of a huge commit are this small, so that a test makes many of them.
const PART_BYTES: usize = 200_000;

pub(crate) fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes([number; 32]).unwrap()
}

pub(crate) fn batch_key(first: u64) -> Key {
    Key::Batch { stream: STREAM, first: Sequence::new(first).unwrap() }
}

/// Numbers and chains what the follower captures: a whole commit is one submission, a large one comes in parts.
struct Packer {
    incarnation: Incarnation,
    next: CommitNumber,
    last: CommitDigest,
    group: Option<PartIndex>,
    kind: CommitKind,
    part_bytes: usize,
    packed: Vec<Content>,
}

impl Packer {
    fn part(&mut self, changes: Changes, last: Option<StateClaim>) {
        let index = self.group.unwrap_or(PartIndex::FIRST);
        let (number, kind) = (self.next, self.kind);
        let part = Part { number, prev: self.last, kind, index, changes, last };
        self.last = part.digest();
        self.group = index.next();
        self.packed.push(Content::Part(part));
    }

    /// Cuts rows at any byte, and keeps back the last piece.
    fn pieces(&mut self, mut changes: Changes) -> Changes {
        while changes.rows.len() > self.part_bytes {
            let rest = changes.rows.split_off(self.part_bytes);
            let schema = std::mem::take(&mut changes.schema);
            self.part(
                Changes { schema, rows: std::mem::replace(&mut changes.rows, rest), ..Changes::default() },
                None,
            );
        }
        changes
    }
}

impl Sink for Packer {
    type Error = std::convert::Infallible;

    fn piece(&mut self, changes: Changes) -> Result<(), Self::Error> {
        let rest = self.pieces(changes);
        self.part(rest, None);
        Ok(())
    }

    fn commit(&mut self, changes: Changes, state: &mut CommittedState<'_>) -> Result<(), Self::Error> {
        let scanned = (self.kind == CommitKind::Reconcile).then(|| state.hash());
        let claim = StateClaim { state: state.hash(), scanned };
        let changes = self.pieces(changes);
        if self.group.is_some() {
            self.part(changes, Some(claim));
            self.group = None;
        } else {
            let (number, prev, kind) = (self.next, self.last, self.kind);
            let commits =
                Commits::new(vec![Commit { number, prev, kind, changes, state: Some(claim) }]).unwrap();
            self.last = commits.digest();
            self.packed.push(Content::Commits(commits));
        }
        self.next = self.next.next().unwrap();
        Ok(())
    }

    fn persist(&mut self, _: &WalPosition, _: &RunningState) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// An application, and the log that its commits go into.
pub(crate) struct Log {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) app: rusqlite::Connection,
    pub(crate) store: Arc<ObjectBatchStore>,
    pub(crate) tip: Tip,
    pub(crate) epoch: Epoch,
    pub(crate) key: SigningKey,
    leaders: Leaders,
    follower: Follower,
    packer: Packer,
    pending: Vec<Message>,
    /// How much log time passed beside a millisecond for each message.
    passed_ms: u64,
    /// How many acknowledged messages checkpoints claim.
    consumed: u64,
}

impl Log {
    /// A stored log of one batch: an epoch, and a snapshot of a database that `setup` made.
    pub(crate) async fn begin(setup: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store =
            ObjectBatchStore::open(&StoreUrl::folder(&folder.path().join("store")).unwrap()).await.unwrap();
        let app = open(&folder.path().join("app.db"));
        app.execute_batch(setup).unwrap();
        let follower = Follower::attach(&folder.path().join("app.db"), Options::default()).unwrap();
        let leaders =
            Leaders::new(STREAM, TrustedKeys::pinned([1, 2].map(|number| *key(number).verifying_key())));
        let packer = Packer {
            incarnation: incarnation(1),
            next: CommitNumber::FIRST,
            last: CommitDigest::from_bytes([0; 32]),
            group: None,
            kind: CommitKind::Transaction,
            part_bytes: PART_BYTES,
            packed: Vec::new(),
        };
        let mut log = Self {
            folder,
            app,
            store: Arc::new(store),
            tip: Tip::start(STREAM),
            epoch: Epoch::FIRST,
            key: key(1),
            leaders,
            follower,
            packer,
            pending: Vec::new(),
            passed_ms: 0,
            consumed: 0,
        };
        log.lead(1, 1).await;
        log.snapshot(incarnation(1), SnapshotPlace::Begins { predecessor: None }).await;
        log.publish().await;
        log
    }

    pub(crate) fn replica(&self) -> PathBuf {
        self.folder.path().join("replica.db")
    }

    /// The configuration of a replica of this log.
    pub(crate) fn config(&self, mode: Mode) -> Config {
        Config {
            store: StoreUrl::folder(&self.folder.path().join("store")).unwrap(),
            stream: Some(STREAM),
            replica: self.replica(),
            sequencer_keys: vec![*key(1).verifying_key()],
            poll_ms_max: 50,
            mode,
            ..Config::default()
        }
    }

    /// Another leader begins: it stores its claim, and signs from here on.
    pub(crate) async fn lead(&mut self, epoch: u64, number: u8) {
        let epoch = Epoch::new(epoch).unwrap();
        self.admit(epoch, number).await;
        self.start(epoch, number).await;
    }

    /// Stores a claim, which counts from here on.
    pub(crate) async fn admit(&mut self, epoch: Epoch, number: u8) {
        let record = self.claim(epoch, number).await;
        self.leaders.admit(&record).unwrap();
    }

    /// Signs from here on as the leader of an epoch that it claimed.
    pub(crate) async fn start(&mut self, epoch: Epoch, number: u8) {
        let record = self.claim(epoch, number).await;
        (self.epoch, self.key) = (epoch, key(number));
        let start = EpochStart { record: record.hash(), versions: Versions::SUPPORTED };
        self.sign(&Entry::Epoch(start));
    }

    /// Stores a claim of an epoch.
    pub(crate) async fn claim(&self, epoch: Epoch, number: u8) -> SignedEpochRecord {
        let record = EpochRecord { stream: STREAM, epoch, proof: KeyProof::Unattested }.sign(&key(number));
        self.put(&Key::Epoch { stream: STREAM, epoch }, record.to_bytes()).await;
        record
    }

    /// Stores what is under an epoch's number and is no claim.
    pub(crate) async fn waste(&mut self, epoch: u64) {
        let epoch = Epoch::new(epoch).unwrap();
        self.put(&Key::Epoch { stream: STREAM, epoch }, b"no record".to_vec()).await;
        self.leaders.pass(epoch).unwrap();
    }

    pub(crate) async fn put(&self, key: &Key, bytes: Vec<u8>) {
        self.store.put(key, Bytes::from(bytes)).await.unwrap();
    }

    /// So much log time passes.
    pub(crate) const fn pass_ms(&mut self, ms: u64) {
        self.passed_ms += ms;
    }

    /// Checkpoints claim from here on that so many inbound messages are acknowledged.
    pub(crate) const fn claim_consumed(&mut self, consumed: u64) {
        self.consumed = consumed;
    }

    /// Signs an entry into the next place.
    pub(crate) fn sign(&mut self, entry: &Entry) {
        let timestamp = 1_767_225_600_000 + self.passed_ms + self.tip.next().unwrap().get();
        let timestamp = Timestamp::from_ms(timestamp).unwrap();
        let body = Body::of(entry).unwrap();
        let (message, tip) = self.tip.sign(self.epoch, timestamp, body, &self.key).unwrap();
        self.tip = tip;
        self.pending.push(message);
    }

    /// A snapshot of the application as it is captured. Its chunks are stored.
    async fn snapshot(&mut self, incarnation: Incarnation, place: SnapshotPlace) {
        let mut chunks = Vec::new();
        // Everything is captured, and nobody else writes: what is committed is what the state covers.
        let reader = Connection::open_to_read(Path::new(self.app.path().unwrap())).unwrap();
        let mut writer = Writer::new(&reader).unwrap();
        for stored in &mut writer {
            let stored = stored.unwrap();
            self.put(&Key::Chunk { stream: STREAM, hash: stored.chunk.hash }, stored.bytes).await;
            chunks.push(stored.chunk);
        }
        let (encoding, page_size) = (writer.encoding(), writer.page_size());
        drop(writer);
        let begins = matches!(place, SnapshotPlace::Begins { .. });
        let state = self.follower.state().hash();
        let snapshot = Snapshot { stream: STREAM, incarnation, place, encoding, page_size, state, chunks };
        if begins {
            (self.packer.incarnation, self.packer.next) = (incarnation, CommitNumber::FIRST);
            (self.packer.last, self.packer.group) = (snapshot.digest(), None);
        }
        self.sign(&Entry::Snapshot(snapshot));
    }

    /// A snapshot of the running incarnation, after its last commit.
    pub(crate) async fn snapshot_after(&mut self) {
        let (incarnation, digest) = (self.packer.incarnation, self.packer.last);
        let commit = self.packer.next.previous().unwrap();
        self.snapshot(incarnation, SnapshotPlace::After { commit, digest }).await;
    }

    /// The application goes on in another file, and a new incarnation begins with that. What came in parts is abandoned.
    pub(crate) async fn begin_anew(&mut self, file: &str, setup: &str) {
        let client = self.tip.client().unwrap().clone();
        self.app = open(&self.folder.path().join(file));
        self.app.execute_batch(setup).unwrap();
        self.follower = Follower::attach(&self.folder.path().join(file), Options::default()).unwrap();
        let predecessor = Predecessor {
            incarnation: client.incarnation,
            next: client.next,
            next_part: client.group.map(|group| group.next),
            last: client.last,
            abandoned_through: client.group.map(|_| client.next),
        };
        let next = incarnation(client.incarnation.counter.get() + 1);
        self.snapshot(next, SnapshotPlace::Begins { predecessor: Some(predecessor) }).await;
    }

    /// What the application commits, packed and not signed.
    pub(crate) fn capture(&mut self, sql: &str) -> Vec<Content> {
        self.app.execute_batch(sql).unwrap();
        while self.follower.poll(&mut self.packer).unwrap() > 0 {}
        std::mem::take(&mut self.packer.packed)
    }

    /// The application runs `sql`, and what it commits is signed.
    pub(crate) fn run(&mut self, sql: &str) {
        for content in self.capture(sql) {
            self.submit(content);
        }
    }

    /// The application runs `sql` as one transaction that nobody saw: what it comes to is signed as a reconcile.
    pub(crate) fn reconcile(&mut self, sql: &str) {
        self.packer.kind = CommitKind::Reconcile;
        self.run(sql);
        self.packer.kind = CommitKind::Transaction;
    }

    /// A full scan of the application's database found what was captured, and that is signed.
    pub(crate) fn audit(&mut self) {
        self.packer.kind = CommitKind::Reconcile;
        let mut state = CommittedState::from(self.follower.state());
        self.packer.commit(Changes::default(), &mut state).unwrap();
        self.packer.kind = CommitKind::Transaction;
        for content in std::mem::take(&mut self.packer.packed) {
            self.submit(content);
        }
    }

    /// Cuts what comes from here on into parts of so many bytes.
    pub(crate) const fn cut_parts(&mut self, bytes: usize) {
        self.packer.part_bytes = bytes;
    }

    /// Signs a submission.
    pub(crate) fn submit(&mut self, content: Content) {
        let incarnation = self.packer.incarnation;
        self.sign(&Entry::Submission(Submission { stream: STREAM, incarnation, content }));
    }

    /// The same of one whose commits are not what was captured: what follows is chained to it.
    pub(crate) fn submit_edited(&mut self, content: Content) {
        if let Content::Commits(commits) = &content {
            self.packer.last = commits.digest();
        }
        self.submit(content);
    }

    /// The batch of everything that is signed and not stored.
    pub(crate) fn cut(&mut self) -> Batch {
        let messages = std::mem::take(&mut self.pending);
        self.cut_of(messages)
    }

    fn cut_of(&mut self, messages: Vec<Message>) -> Batch {
        let checkpoint = self.tip.checkpoint(self.epoch, self.consumed).unwrap().sign(&self.key).unwrap();
        self.tip = self.tip.after_checkpoint(&checkpoint.clone().verify(&self.leaders).unwrap()).unwrap();
        Batch::new(messages, checkpoint).unwrap()
    }

    /// Stores one batch of everything that is signed.
    pub(crate) async fn publish(&mut self) -> Sequence {
        let batch = self.cut();
        self.put(&Key::Batch { stream: STREAM, first: batch.first() }, batch.to_stored().unwrap()).await;
        batch.last()
    }

    /// Runs `sql`, and stores a batch for each submission of it.
    pub(crate) async fn run_and_publish_each(&mut self, sql: &str) {
        for content in self.capture(sql) {
            self.submit(content);
            self.publish().await;
        }
    }

    /// Stores a batch by whoever has key `number`, in an epoch that it does not lead.
    pub(crate) async fn forge(&self, epoch: u64, number: u8) {
        let (epoch, key) = (Epoch::new(epoch).unwrap(), key(number));
        let record = EpochRecord { stream: STREAM, epoch, proof: KeyProof::Unattested }.sign(&key);
        let start = Entry::Epoch(EpochStart { record: record.hash(), versions: Versions::SUPPORTED });
        let (message, tip) =
            self.tip.sign(epoch, self.tip.timestamp(), Body::of(&start).unwrap(), &key).unwrap();
        let checkpoint = tip.checkpoint(epoch, 0).unwrap().sign(&key).unwrap();
        let batch = Batch::new(vec![message], checkpoint).unwrap();
        self.put(&Key::Batch { stream: STREAM, first: batch.first() }, batch.to_stored().unwrap()).await;
    }

    /// The file of an object.
    pub(crate) fn object(&self, key: &Key) -> PathBuf {
        self.folder.path().join("store").join(key.to_string())
    }

    /// What the application's database hashes to.
    pub(crate) fn state(&self) -> StateHash {
        self.follower.state().hash()
    }

    /// The last sequence signed.
    pub(crate) fn last(&self) -> Sequence {
        self.tip.last().unwrap()
    }
}

fn open(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).unwrap()
}

fn incarnation(counter: u64) -> Incarnation {
    let nonce = IncarnationNonce::from_bytes([u8::try_from(counter).unwrap(); 16]);
    Incarnation { counter: IncarnationCounter::new(counter).unwrap(), nonce }
}
