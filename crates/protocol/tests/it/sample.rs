//! A small log to test with: one leader, one client, every type of message. Also what the vectors show.
//!
//! Everything is fixed, so the same bytes come out everywhere.

use synddb_protocol::hash::{ChainHash, ChunkHash, CommitDigest, StateHash};
use synddb_protocol::id::{
    Address, CommitNumber, Epoch, InboundNonce, Incarnation, IncarnationCounter, IncarnationNonce, PartIndex,
    Sequence, StreamId, Timestamp,
};
use synddb_protocol::log::{
    Batch, Body, Checkpoint, Endorsement, Entry, EpochRecord, EpochStart, Inbound, KeyProof, Leaders,
    LogError, Manifest, Message, MessageHeader, PagePlaces, Patch, Refusal, RefusalWhy, Resolution,
    ResolvedBy, SignedEndorsement, SignedEpochRecord, SignedManifest, SignedRefusal, Status, StatusLevel,
    Tip, Versions,
};
use synddb_protocol::signing::{Domain, RegisteredSigner, SigningKey, TrustedKeys};
use synddb_protocol::submission::{
    Changes, Chunk, Commit, CommitKind, Commits, Content, ObjectKind, PageSize, Part, SchemaChange,
    SchemaRow, Snapshot, SnapshotPlace, StateClaim, Submission, TextEncoding,
};

/// 2026-01-01T00:00:00Z.
const START_MS: u64 = 1_767_225_600_000;

/// The stream of every sample.
pub(crate) fn stream() -> StreamId {
    StreamId::from_bytes([0x5d; 32])
}

/// A key that everyone knows.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes([seed; 32]).expect("a small number is a key")
}

/// The incarnation with this counter.
pub(crate) fn incarnation(counter: u64) -> Incarnation {
    let seed = u8::try_from(counter).expect("samples have few incarnations");
    Incarnation {
        counter: IncarnationCounter::new(counter).expect("it starts at 1"),
        nonce: IncarnationNonce::from_bytes([seed; 16]),
    }
}

/// A state hash that stands for nothing.
pub(crate) fn state(seed: u8) -> StateHash {
    StateHash::from_bytes([seed; 32])
}

/// A claim that the database hashes to [`state`].
pub(crate) fn claim(seed: u8) -> Option<StateClaim> {
    Some(StateClaim { state: state(seed), scanned: None })
}

/// The snapshot that begins the first incarnation.
pub(crate) fn first_snapshot() -> Snapshot {
    Snapshot {
        stream: stream(),
        incarnation: incarnation(1),
        place: SnapshotPlace::Begins { predecessor: None },
        encoding: TextEncoding::Utf8,
        page_size: PageSize::new(4096).expect("SQLite's default"),
        state: state(1),
        chunks: vec![Chunk { hash: ChunkHash::of(b"pages"), pages: 3, stored_bytes: 5 }],
    }
}

/// Changes with one of everything.
pub(crate) fn changes() -> Changes {
    let row = SchemaRow {
        kind: ObjectKind::Table,
        name: b"trades".to_vec(),
        table: b"trades".to_vec(),
        sql: Some(b"CREATE TABLE trades(id INTEGER PRIMARY KEY, price REAL)".to_vec()),
    };
    Changes {
        schema: vec![SchemaChange::Create { row, place: 1 }],
        rows: b"rows are opaque here".to_vec(),
        user_version: Some(7),
        application_id: Some(-2),
    }
}

/// A submission of `count` commits from `first` on, after `prev`.
pub(crate) fn commits(first: u64, prev: CommitDigest, count: u64) -> Submission {
    let mut prev = prev;
    let mut commits = Vec::new();
    for number in first..first + count {
        let changes = if number == 1 {
            changes()
        } else {
            Changes { rows: format!("row of commit {number}").into_bytes(), ..Changes::default() }
        };
        let number = CommitNumber::new(number).expect("it starts at 1");
        let commit = Commit { number, prev, kind: CommitKind::Transaction, changes, state: claim(2) };
        prev = commit.digest();
        commits.push(commit);
    }
    submission(Content::Commits(Commits::new(commits).expect("they follow")))
}

/// A submission with this content.
pub(crate) fn submission(content: Content) -> Submission {
    Submission { stream: stream(), incarnation: incarnation(1), content }
}

/// One part of commit `number`.
pub(crate) fn part(number: u64, index: u64, prev: CommitDigest, last: Option<StateClaim>) -> Part {
    Part {
        number: CommitNumber::new(number).expect("it starts at 1"),
        prev,
        kind: CommitKind::Transaction,
        index: PartIndex::new(index).expect("few parts"),
        changes: Changes { rows: format!("part {index}").into_bytes(), ..Changes::default() },
        last,
    }
}

/// The `nonce`-th bridge event.
pub(crate) fn inbound(nonce: u64) -> Inbound {
    Inbound {
        chain_id: 31337,
        bridge: Address::from_bytes([0xb1; 20]),
        nonce: InboundNonce::new(nonce).expect("it starts at 1"),
        block_number: 100 + nonce,
        block_hash: ChainHash::from_bytes([0xbb; 32]),
        transaction_hash: ChainHash::from_bytes([0x77; 32]),
        log_index: 3,
        event: b"abi".to_vec(),
    }
}

/// The body of a small entry.
pub(crate) fn body(entry: &Entry) -> Body {
    Body::of(entry).expect("samples are within the limits")
}

/// The leaders that claimed their epochs with these records, of keys that a reader pins.
pub(crate) fn leaders<'r>(
    records: impl IntoIterator<Item = &'r SignedEpochRecord>,
    keys: impl IntoIterator<Item = &'r SigningKey>,
) -> Leaders {
    let pinned = TrustedKeys::pinned(keys.into_iter().map(|key| *key.verifying_key()));
    let records: Vec<_> = records.into_iter().collect();
    let first = records[0].recover().expect("it is signed").0.epoch;
    let mut leaders = Leaders::joining(stream(), pinned, first);
    for record in records {
        leaders.admit(record).expect("its key is pinned and it is the next one");
    }
    leaders
}

/// The claim of `epoch` by `key`.
pub(crate) fn record(epoch: u64, key: &SigningKey) -> SignedEpochRecord {
    let epoch = Epoch::new(epoch).expect("it starts at 1");
    EpochRecord { stream: stream(), epoch, proof: KeyProof::Unattested }.sign(key)
}

/// A leader that signs messages and cuts batches, as a sequencer does.
pub(crate) struct Leader {
    pub(crate) key: SigningKey,
    pub(crate) epoch: Epoch,
    /// The tip after everything signed.
    pub(crate) tip: Tip,
    /// Messages not in a batch yet.
    pub(crate) pending: Vec<Message>,
}

impl Leader {
    /// Begins `epoch` at `tip` with its epoch message.
    pub(crate) fn begin(epoch: u64, key: SigningKey, tip: Tip) -> Self {
        Self::begin_as(epoch, key, tip, Versions::SUPPORTED)
    }

    /// The same by rules of these versions.
    pub(crate) fn begin_as(epoch: u64, key: SigningKey, tip: Tip, versions: Versions) -> Self {
        let epoch = Epoch::new(epoch).expect("it starts at 1");
        let mut leader = Self { key, epoch, tip, pending: Vec::new() };
        let start = EpochStart { record: leader.record().hash(), versions };
        leader.push(&Entry::Epoch(start));
        leader
    }

    /// The claim of this leader's epoch.
    pub(crate) fn record(&self) -> SignedEpochRecord {
        record(self.epoch.get(), &self.key)
    }

    /// What a reader admits that pins this leader's key and has its epoch's record.
    pub(crate) fn leaders(&self) -> Leaders {
        leaders([&self.record()], [&self.key])
    }

    /// The header of the next message.
    pub(crate) fn header(&self, entry: &Entry) -> MessageHeader {
        let sequence = self.tip.next().expect("samples are short");
        MessageHeader {
            stream: self.tip.stream(),
            epoch: self.epoch,
            sequence,
            timestamp: Timestamp::from_ms(START_MS + 10 * sequence.get()).expect("before the year 287396"),
            message_type: entry.message_type(),
        }
    }

    /// Signs `entry` into the next place.
    pub(crate) fn push(&mut self, entry: &Entry) {
        self.try_push(entry).expect("samples follow");
    }

    /// Signs `entry` into the next place if it may stand there.
    pub(crate) fn try_push(&mut self, entry: &Entry) -> Result<(), LogError> {
        let header = self.header(entry);
        let (message, tip) = self.tip.sign(self.epoch, header.timestamp, body(entry), &self.key)?;
        self.tip = tip;
        self.pending.push(message);
        Ok(())
    }

    /// The batch of all pending messages.
    pub(crate) fn cut(&mut self) -> Batch {
        let checkpoint = self.tip.checkpoint(self.epoch, 0).expect("there are messages").sign(&self.key);
        let checkpoint = checkpoint.expect("a tip does not contradict itself");
        let batch = Batch::new(std::mem::take(&mut self.pending), checkpoint.clone()).expect("they follow");
        let checkpoint = checkpoint.verify(&self.leaders()).expect("it was just signed");
        self.tip = self.tip.after_checkpoint(&checkpoint).expect("it is this tip's");
        batch
    }

    /// The digest that the client's next commit must name.
    pub(crate) fn last(&self) -> CommitDigest {
        self.tip.client().expect("the stream has begun").last
    }
}

/// A log of two batches with every type of message, and the tip before each.
pub(crate) fn log() -> (Leaders, Vec<(Tip, Batch)>) {
    let start = Tip::start(stream());
    let mut leader = Leader::begin(1, key(7), start.clone());
    leader.push(&Entry::Snapshot(first_snapshot()));
    leader.push(&Entry::Submission(commits(1, leader.last(), 3)));
    let first = (start, leader.cut());
    let before = leader.tip.clone();
    leader.push(&Entry::Inbound(inbound(1)));
    leader.push(&Entry::Status(Status { level: StatusLevel::Warned, reason: "inbound 1 is late".into() }));
    leader.push(&Entry::Submission(submission(Content::Part(part(4, 0, leader.last(), None)))));
    leader.push(&Entry::Submission(submission(Content::Part(part(4, 1, leader.last(), claim(3))))));
    leader.push(&Entry::Submission(commits(5, leader.last(), 1)));
    (leader.leaders(), vec![first, (before, leader.cut())])
}

/// A chunk that stands for nothing.
fn chunk(name: &[u8], pages: u64) -> Chunk {
    Chunk { hash: ChunkHash::of(name), pages, stored_bytes: name.len() as u64 }
}

/// A snapshot at the end of the sample log, of two runs, and with patches or without.
pub(crate) fn manifest(patched: bool) -> Manifest {
    let (_, log) = log();
    let place = |first, pages| PagePlaces { first, pages };
    let patches = vec![
        Patch { chunk: chunk(b"older patch", 4), places: vec![place(Some(7), 1), place(None, 3)] },
        Patch { chunk: chunk(b"newer patch", 3), places: vec![place(Some(1), 1), place(Some(513), 2)] },
    ];
    Manifest {
        checkpoint: log[1].1.checkpoint().clone(),
        encoding: TextEncoding::Utf8,
        page_size: PageSize::new(4096).expect("SQLite's default"),
        runs: vec![chunk(b"first run", 512), chunk(b"second run", 2)],
        patches: if patched { patches } else { Vec::new() },
    }
}

/// The contract that the sample endorsements are good for.
pub(crate) const DOMAIN: Domain = Domain { chain_id: 31_337, contract: Address::from_bytes([0xc0; 20]) };

/// Of a batch of the sample log, by a validator.
pub(crate) fn endorsement(batch: usize, domain: Domain, seed: u8) -> SignedEndorsement {
    let (_, log) = log();
    let signer = RegisteredSigner::unattested(key(seed));
    Endorsement::sign(log[batch].1.checkpoint().clone(), domain, &signer).expect("it has a state")
}

/// Of the sample log's end, where the application has acknowledged a message: no field of it is zero.
pub(crate) fn endorsement_with_inbox(domain: Domain, seed: u8) -> SignedEndorsement {
    let (_, log) = log();
    let claim = Checkpoint { inbox_consumed: 1, ..log[1].1.checkpoint().claim().clone() };
    let checkpoint = claim.sign(&key(7)).expect("one was delivered");
    let signer = RegisteredSigner::unattested(key(seed));
    Endorsement::sign(checkpoint, domain, &signer).expect("it has a state")
}

/// The order of the curve less `s`: what makes the same signature of another form.
pub(crate) fn negated(s: &[u8]) -> [u8; 32] {
    let order: StateHash =
        "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141".parse().expect("it is hex");
    let mut result = *order.as_bytes();
    let mut borrow = 0;
    for index in (0..32).rev() {
        let digit = i16::from(result[index]) - i16::from(s[index]) - borrow;
        borrow = i16::from(digit < 0);
        result[index] = u8::try_from(digit.rem_euclid(256)).expect("a byte");
    }
    result
}

/// What a validator refuses, resolved or not.
pub(crate) fn refusal(resolved: bool) -> Refusal {
    let number = |number| Timestamp::from_ms(number).expect("it is in range");
    Refusal {
        stream: stream(),
        epoch: Epoch::FIRST,
        sequence: Sequence::FIRST,
        timestamp: number(1_700_000_000_000),
        rule: "no negative balance".to_owned(),
        incarnation: IncarnationCounter::FIRST,
        commit: (!resolved).then_some(CommitNumber::FIRST),
        why: if resolved { RefusalWhy::Incarnation } else { RefusalWhy::Rows },
        detail: "1 row".to_owned(),
        rows: r#"{"columns":["account"],"rows":[[7]],"more":false}"#.to_owned(),
        further: 3,
        resolution: resolved.then(|| Resolution {
            at: number(1_700_000_000_001),
            by: ResolvedBy::Operator,
            because: "a test account".to_owned(),
        }),
    }
}

/// The same, signed.
pub(crate) fn signed_refusal(resolved: bool) -> SignedRefusal {
    let signer = RegisteredSigner::unattested(key(9));
    refusal(resolved).sign(&signer).expect("it is within the bounds")
}

/// The same, signed by somebody who does not lead.
pub(crate) fn signed_manifest(patched: bool) -> SignedManifest {
    manifest(patched).sign(&key(9)).expect("it is within the bounds")
}
