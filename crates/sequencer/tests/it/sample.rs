//! A client to test with: it numbers and chains commits as an agent does. And a reader that believes nothing.

use std::sync::Arc;

use synddb_protocol::Canonical as _;
use synddb_protocol::hash::{ChunkHash, CommitDigest, StateHash};
use synddb_protocol::id::{
    CommitNumber, Epoch, Incarnation, IncarnationCounter, IncarnationNonce, PartIndex, Sequence, StreamId,
};
use synddb_protocol::log::{
    Batch, Body, Entry, Leaders, SignedEpochRecord, Tip, VerifiedBatch, VerifiedMessage,
};
use synddb_protocol::signing::{SigningKey, TrustedKeys, VerifyingKey};
use synddb_protocol::submission::{
    Changes, Chunk, Commit, CommitKind, Commits, Content, PageSize, Part, Predecessor, Snapshot,
    SnapshotPlace, StateClaim, Submission, TextEncoding,
};
use synddb_storage::{BatchStore, Key};

/// The stream of every test that has one.
pub(crate) const STREAM: StreamId = StreamId::from_bytes([0x5d; 32]);

/// The chunk of every snapshot: a zstd frame with one raw block (RFC 8878, section 3.1.1).
pub(crate) const PAGES: &[u8] = b"\x28\xb5\x2f\xfd\x20\x0f\x79\x00\x00pages as stored";

/// A chunk that holds this.
pub(crate) fn chunk(content: [u8; 4]) -> Vec<u8> {
    [b"\x28\xb5\x2f\xfd\x20\x04\x21\x00\x00", &content[..]].concat()
}

/// A key that everyone knows.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes([seed; 32]).unwrap()
}

/// The state hash after commit `number`.
pub(crate) fn state(number: u64) -> StateHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    StateHash::from_bytes(bytes)
}

pub(crate) fn incarnation(counter: u64, nonce: u8) -> Incarnation {
    Incarnation {
        counter: IncarnationCounter::new(counter).unwrap(),
        nonce: IncarnationNonce::from_bytes([nonce; 16]),
    }
}

/// A client: where it stands in what it sends.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) stream: StreamId,
    pub(crate) incarnation: Incarnation,
    pub(crate) next: u64,
    pub(crate) last: CommitDigest,
    /// The part that comes next, inside a commit in parts.
    pub(crate) part: Option<u64>,
    /// How its database writes text.
    encoding: TextEncoding,
    place: SnapshotPlace,
}

impl Client {
    pub(crate) fn new(stream: StreamId) -> Self {
        Self::writing(stream, TextEncoding::Utf8)
    }

    /// A client whose database writes text so.
    pub(crate) fn writing(stream: StreamId, encoding: TextEncoding) -> Self {
        Self::begin(stream, incarnation(1, 1), encoding, SnapshotPlace::Begins { predecessor: None })
    }

    fn begin(
        stream: StreamId,
        incarnation: Incarnation,
        encoding: TextEncoding,
        place: SnapshotPlace,
    ) -> Self {
        let last = CommitDigest::from_bytes([0; 32]);
        let mut client = Self { stream, incarnation, next: 1, last, part: None, encoding, place };
        client.last = client.beginning().digest();
        client
    }

    /// The client that goes on in a new incarnation, giving nothing up but a commit that came in part.
    pub(crate) fn successor(&self) -> Self {
        let number = CommitNumber::new(self.next).unwrap();
        let predecessor = Predecessor {
            incarnation: self.incarnation,
            next: number,
            next_part: self.part.map(|part| PartIndex::new(part).unwrap()),
            last: self.last,
            abandoned_through: self.part.map(|_| number),
        };
        let counter = self.incarnation.counter.get() + 1;
        let place = SnapshotPlace::Begins { predecessor: Some(predecessor) };
        Self::begin(self.stream, incarnation(counter, u8::try_from(counter).unwrap()), self.encoding, place)
    }

    /// The snapshot that begins its incarnation.
    pub(crate) fn beginning(&self) -> Snapshot {
        self.snapshot_with(self.place.clone(), state(0))
    }

    /// A snapshot after its last commit.
    pub(crate) fn snapshot_now(&self) -> Snapshot {
        let commit = CommitNumber::new(self.next - 1).unwrap();
        self.snapshot_with(SnapshotPlace::After { commit, digest: self.last }, state(self.next - 1))
    }

    fn snapshot_with(&self, place: SnapshotPlace, state: StateHash) -> Snapshot {
        let stored_bytes = PAGES.len() as u64;
        Snapshot {
            stream: self.stream,
            incarnation: self.incarnation,
            place,
            encoding: self.encoding,
            page_size: PageSize::new(4096).unwrap(),
            state,
            chunks: vec![Chunk { hash: ChunkHash::of(PAGES), pages: 1, stored_bytes }],
        }
    }

    /// The next `count` commits, with these rows in each.
    pub(crate) fn commits_with(&mut self, count: u64, rows: &[u8]) -> Vec<Commit> {
        (0..count)
            .map(|_| {
                let commit = Commit {
                    number: CommitNumber::new(self.next).unwrap(),
                    prev: self.last,
                    kind: CommitKind::Transaction,
                    changes: Changes { rows: rows.to_vec(), ..Changes::default() },
                    state: Some(StateClaim { state: state(self.next), scanned: None }),
                };
                self.last = commit.digest();
                self.next += 1;
                commit
            })
            .collect()
    }

    /// The next `count` commits.
    pub(crate) fn commits(&mut self, count: u64) -> Vec<Commit> {
        self.commits_with(count, b"rows")
    }

    /// The next part of the next commit.
    pub(crate) fn part(&mut self, is_last: bool) -> Submission {
        let rows = format!("part {}", self.part.unwrap_or(0)).into_bytes();
        self.part_with(&rows, is_last)
    }

    /// The same with these rows.
    pub(crate) fn part_with(&mut self, rows: &[u8], is_last: bool) -> Submission {
        let index = self.part.unwrap_or(0);
        let claim = StateClaim { state: state(self.next), scanned: None };
        let part = Part {
            number: CommitNumber::new(self.next).unwrap(),
            prev: self.last,
            kind: CommitKind::Transaction,
            index: PartIndex::new(index).unwrap(),
            changes: Changes { rows: rows.to_vec(), ..Changes::default() },
            last: is_last.then_some(claim),
        };
        self.last = part.digest();
        self.part = (!is_last).then_some(index + 1);
        self.next += u64::from(is_last);
        self.submission(Content::Part(part))
    }

    /// A submission of these commits.
    pub(crate) fn submit(&self, commits: &[Commit]) -> Submission {
        self.submission(Content::Commits(Commits::new(commits.to_vec()).unwrap()))
    }

    fn submission(&self, content: Content) -> Submission {
        Submission { stream: self.stream, incarnation: self.incarnation, content }
    }

    /// The body of a submission of the next `count` commits.
    pub(crate) fn next_body(&mut self, count: u64) -> Vec<u8> {
        let commits = self.commits(count);
        submission_body(self.submit(&commits))
    }
}

/// The body as a client sends it.
pub(crate) fn submission_body(submission: Submission) -> Vec<u8> {
    Body::of(&Entry::Submission(submission)).unwrap().into_stored()
}

/// The body as a client sends it.
pub(crate) fn snapshot_body(snapshot: Snapshot) -> Vec<u8> {
    Body::of(&Entry::Snapshot(snapshot)).unwrap().into_stored()
}

/// Rows that do not compress.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

/// A reader of a log in a store: it believes nothing but a set of keys.
pub(crate) struct Reader {
    pub(crate) leaders: Leaders,
    pub(crate) tip: Tip,
    pub(crate) messages: Vec<VerifiedMessage>,
    pub(crate) batches: Vec<(Sequence, Sequence)>,
}

impl Reader {
    /// Reads a whole log, and verifies every byte of it.
    pub(crate) async fn read(store: &Arc<dyn BatchStore>, stream: StreamId, keys: &[VerifyingKey]) -> Self {
        let mut reader = Self {
            leaders: Leaders::new(stream, TrustedKeys::pinned(keys.iter().copied())),
            tip: Tip::start(stream),
            messages: Vec::new(),
            batches: Vec::new(),
        };
        while let Ok(first) = reader.tip.next()
            && let Some(object) = store.get(&Key::Batch { stream, first }).await.unwrap()
        {
            let batch = Batch::from_stored(&object).unwrap();
            reader.admit(store, batch.checkpoint().claim().epoch).await;
            let (first, last) = (batch.first(), batch.last());
            let verified: VerifiedBatch = batch.verify(&reader.leaders, &reader.tip).unwrap();
            reader.tip = verified.tip().clone();
            reader.messages.extend_from_slice(verified.messages());
            reader.batches.push((first, last));
        }
        reader
    }

    async fn admit(&mut self, store: &Arc<dyn BatchStore>, through: Epoch) {
        let stream = self.leaders.stream();
        while let Some(epoch) = self.leaders.next()
            && epoch <= through
        {
            let object = store.get(&Key::Epoch { stream, epoch }).await.unwrap().unwrap();
            let record = SignedEpochRecord::from_bytes(&object).ok();
            if record.is_none_or(|record| self.leaders.admit(&record).is_err()) {
                self.leaders.pass(epoch).unwrap();
            }
        }
    }

    /// The commits in the log, in order, with the sequence that holds each.
    pub(crate) fn commits(&self) -> Vec<(u64, CommitDigest, u64)> {
        let mut commits = Vec::new();
        for message in &self.messages {
            let Entry::Submission(submission) = message.entry() else { continue };
            let Content::Commits(held) = &submission.content else { continue };
            let sequence = message.header().sequence.get();
            commits.extend(
                held.as_slice().iter().map(|commit| (commit.number.get(), commit.digest(), sequence)),
            );
        }
        commits
    }
}

/// The digest of the snapshot in its canonical form, which is what a first commit names.
#[test]
fn a_client_chains_from_its_snapshot() {
    let mut client = Client::new(STREAM);
    let digest = client.beginning().digest();
    assert_eq!(client.commits(1)[0].prev, digest);
    assert!(!client.beginning().to_bytes().is_empty());
}
