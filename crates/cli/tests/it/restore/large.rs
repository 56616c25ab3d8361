//! A log that is far larger than its database is replayed in bounded memory.
//!
//! ```sh
//! SYNDDB_RESTORE_LOG_BYTES=10000000000 cargo test --release -p synddb-cli --test it restore::large -- --nocapture
//! ```

use std::fs;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use synddb_protocol::id::{
    CommitNumber, Epoch, Incarnation, IncarnationCounter, IncarnationNonce, Sequence, StreamId, Timestamp,
};
use synddb_protocol::log::{
    Batch, Body, Entry, EpochRecord, EpochStart, KeyProof, Leaders, Message, Tip, Versions,
};
use synddb_protocol::signing::{SigningKey, TrustedKeys};
use synddb_protocol::submission::{CommitKind, Commits, Content, SnapshotPlace, StateClaim, Submission};
use synddb_storage::{BatchStore as _, Key, ObjectBatchStore, StoreUrl};
use tokio::runtime::Runtime;

use super::{Restoring, asked};
use crate::processes::{diff, run};
use crate::programs::{python, sql};
use crate::storm::source::Source;

const STREAM: StreamId = StreamId::from_bytes([0x5d; 32]);

/// Bytes of the stored log, unless the environment says.
const LOG_BYTES: u64 = 16 << 20;
/// Rows that take the place of one another, and how large they are: the database stays small. Old and new value travel in one message.
const ROWS: u64 = 12;
const ROW_BYTES: u64 = 1_500_000;
/// Messages of a batch.
const BATCH: usize = 8;
/// Most memory that the restoring process may take, however large the log is: batches that are fetched ahead, two that are verified, and the
/// cache.
const MEMORY_MAX: u64 = 768 << 20;

/// Runs a command, and says how it went and what it took at most: what the kernel counted for the children of this program.
const MEASURED: &str = "
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)
sys.stdout.buffer.write(done.stdout)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
";

/// A log that is written as fast as it can be signed: by the formats alone, with no process in between.
struct Log {
    runtime: Runtime,
    store: ObjectBatchStore,
    key: SigningKey,
    leaders: Leaders,
    tip: Tip,
    pending: Vec<Message>,
    bytes: u64,
}

impl Log {
    fn begin(folder: &Path, source: &Source, incarnation: Incarnation) -> Self {
        let runtime = Runtime::new().unwrap();
        let url = StoreUrl::folder(folder).unwrap();
        let store = runtime.block_on(ObjectBatchStore::open(&url)).unwrap();
        let key = SigningKey::from_bytes([1; 32]).unwrap();
        let leaders = Leaders::new(STREAM, TrustedKeys::pinned([*key.verifying_key()]));
        let tip = Tip::start(STREAM);
        let mut log = Self { runtime, store, key, leaders, tip, pending: Vec::new(), bytes: 0 };
        let record = EpochRecord { stream: STREAM, epoch: Epoch::FIRST, proof: KeyProof::Unattested };
        let record = record.sign(&log.key);
        log.leaders.admit(&record).unwrap();
        log.put(&Key::Epoch { stream: STREAM, epoch: Epoch::FIRST }, record.to_bytes());
        log.sign(&Entry::Epoch(EpochStart { record: record.hash(), versions: Versions::SUPPORTED }));
        let begins = SnapshotPlace::Begins { predecessor: None };
        let (snapshot, chunks) = source.snapshot(STREAM, incarnation, begins);
        for (chunk, bytes) in snapshot.chunks.iter().zip(chunks) {
            log.put(&Key::Chunk { stream: STREAM, hash: chunk.hash }, bytes);
        }
        log.sign(&Entry::Snapshot(snapshot));
        log.publish();
        log
    }

    fn put(&mut self, key: &Key, bytes: Vec<u8>) {
        self.bytes += bytes.len() as u64;
        self.runtime.block_on(self.store.put(key, Bytes::from(bytes))).unwrap();
    }

    fn sign(&mut self, entry: &Entry) {
        let next: Sequence = self.tip.next().unwrap();
        let timestamp = Timestamp::from_ms(1_767_225_600_000 + next.get()).unwrap();
        let body = Body::of(entry).unwrap();
        let (message, tip) = self.tip.sign(Epoch::FIRST, timestamp, body, &self.key).unwrap();
        self.tip = tip;
        self.pending.push(message);
    }

    fn publish(&mut self) {
        let checkpoint = self.tip.checkpoint(Epoch::FIRST, 0).unwrap().sign(&self.key).unwrap();
        self.tip = self.tip.after_checkpoint(&checkpoint.clone().verify(&self.leaders).unwrap()).unwrap();
        let batch = Batch::new(std::mem::take(&mut self.pending), checkpoint).unwrap();
        self.put(&Key::Batch { stream: STREAM, first: batch.first() }, batch.to_stored().unwrap());
    }

    /// Signs what a source commits, and stores a batch when there is enough for one.
    fn commit(&mut self, source: &mut Source, statements: &str) -> CommitNumber {
        let client = self.tip.client().unwrap().clone();
        let (changes, state) = source.run(statements);
        let claim = StateClaim { state, scanned: None };
        let commits =
            Commits::link(client.next, client.last, vec![(CommitKind::Transaction, changes)], claim).unwrap();
        let content = Content::Commits(commits);
        self.sign(&Entry::Submission(Submission {
            stream: STREAM,
            incarnation: client.incarnation,
            content,
        }));
        if self.pending.len() == BATCH {
            self.publish();
        }
        client.next
    }
}

#[test]
fn memory_does_not_grow_with_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let (app, log_bytes) = (folder.path().join("app.db"), asked("SYNDDB_RESTORE_LOG_BYTES", LOG_BYTES));
    let mut source = Source::create(&app);
    let incarnation =
        Incarnation { counter: IncarnationCounter::FIRST, nonce: IncarnationNonce::from_bytes([1; 16]) };
    let began = Instant::now();
    let mut log = Log::begin(&folder.path().join("store"), &source, incarnation);
    let copy = |name: &str| {
        let file = folder.path().join(name);
        sql(&app, &format!(".backup '{}'", file.display()));
        file
    };
    let (mut number, mut middle) = (0, None);
    while log.bytes < log_bytes {
        let row = number % ROWS;
        let statements = format!(
            "INSERT INTO events(rowid, at, what) VALUES({row}, {number}, randomblob({ROW_BYTES}))
             ON CONFLICT DO NOTHING; UPDATE events SET at = {number}, what = randomblob({ROW_BYTES}) WHERE rowid = {row}"
        );
        let commit = log.commit(&mut source, &statements);
        if middle.is_none() && log.bytes >= log_bytes / 2 {
            middle = Some((commit, copy("middle.db")));
        }
        number += 1;
    }
    if !log.pending.is_empty() {
        log.publish();
    }
    let newest = copy("newest.db");
    let (written, database) = (began.elapsed(), fs::metadata(&newest).unwrap().len());
    println!("a log of {} bytes, a database of {database}, written in {written:?}", log.bytes);

    let key = log.key.verifying_key().to_string();
    let restoring =
        Restoring::from(&format!("file://{}/store", folder.path().display()), &STREAM.to_string(), &key);
    let (commit, middle) = middle.unwrap();
    for (at, copy) in [(Some(commit.to_string()), &middle), (None, &newest)] {
        let arguments: Vec<&str> = at.iter().flat_map(|at| ["--at", at.as_str()]).collect();
        let command = restoring.command(&arguments);
        let program = std::iter::once(command.get_program()).chain(command.get_args());
        let began = Instant::now();
        let (exit, told, errors) = run(python(MEASURED, program.map(|word| word.to_str().unwrap())));
        let elapsed = began.elapsed();
        assert_eq!(exit, 0, "{errors}");
        let last: Vec<&str> = told.lines().last().unwrap().split(' ').collect();
        assert_eq!(last[0], "0", "{told}{errors}");
        let memory: u64 = last[1].parse().unwrap();
        let (exit, different, errors) = diff(copy, &restoring.file());
        assert_eq!((exit, errors.as_str()), (0, ""), "{different}");
        let restored: serde_json::Value = serde_json::from_str(told.lines().nth_back(1).unwrap()).unwrap();
        println!(
            "restored commit {} in {elapsed:?}, {} bytes read, at most {} MiB of memory",
            restored["commit"],
            restored["read"]["batch_bytes"],
            memory >> 20
        );
        let progress = told.lines().filter(|line| line.contains(r#""event":"restoring""#)).count() as u64;
        // About one a second; a second in which the machine does something else is none.
        assert!(progress + 2 >= elapsed.as_secs() / 2, "{progress} times progress in {elapsed:?}");
        assert!(memory <= MEMORY_MAX, "{memory} bytes of memory");
        fs::remove_file(restoring.file()).unwrap();
    }
}
