//! A first log: written into a store of files, copied, verified by somebody else, and attacked.
//!
//! Nothing reads SQLite yet, so the rows are text and the snapshot's only chunk is named and not stored.
//!
//! `cargo run -p synddb-storage --example first_log -- [--keep DIR]`

use std::error::Error;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use synddb_protocol::hash::{ChunkHash, CommitDigest, StateHash};
use synddb_protocol::id::{
    CommitNumber, Epoch, Incarnation, IncarnationCounter, IncarnationNonce, Sequence, StreamId, Timestamp,
};
use synddb_protocol::log::{
    Batch, Body, Entry, EpochRecord, EpochStart, KeyProof, Leaders, Message, SignedEpochRecord, Tip, Versions,
};
use synddb_protocol::signing::{SigningKey, TrustedKeys, VerifyingKey};
use synddb_protocol::state::{State, TableHash, Value};
use synddb_protocol::submission::{
    Changes, Chunk, Commit, CommitKind, Commits, Content, PageSize, Snapshot, SnapshotPlace, StateClaim,
    Submission, TextEncoding,
};
use synddb_storage::{BatchStore, Key, ObjectBatchStore, PutError, StoreUrl};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The stream of the demo.
const STREAM: StreamId = StreamId::from_bytes([0x5d; 32]);
/// Batches of commits that it writes.
const BATCHES: u64 = 4;
/// Commits in each.
const COMMITS: u64 = 25;
/// Where log time starts. It is a counter here, so that the demo is the same each day.
const START_MS: u64 = 1_767_225_600_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let folder = keep_folder()?.unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&folder)?;
    let stored = std::fs::canonicalize(folder)?.join("store");

    let key = SigningKey::from_bytes([7; 32])?;
    println!("a leader with a development key (unattested) writes into {}", stored.display());
    let written = write(&stored, &key).await?;

    println!("a reader that has only a copy of the folder and the leader's public key");
    let copied = scratch.path().join("copy");
    copy(&stored, &copied)?;
    if read(&copied, *key.verifying_key(), Progress::Shown).await? != written {
        return Err("the reader's tip is not the writer's".into());
    }
    println!("  equal to the writer's: size, root, log time, client state");

    println!("somebody who can write into that copy");
    attack(&copied, &key).await?;
    println!("done");
    Ok(())
}

/// The folder after `--keep`, if there is one.
fn keep_folder() -> Result<Option<PathBuf>> {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next(), arguments.next()) {
        (None, None, None) => Ok(None),
        (Some(flag), Some(folder), None) if flag == "--keep" => Ok(Some(folder.into())),
        _ => Err("usage: first_log [--keep DIR]".into()),
    }
}

/// A leader: signs entries into the next places, and stores them batch by batch.
struct Leader<'k> {
    key: &'k SigningKey,
    leaders: Leaders,
    store: ObjectBatchStore,
    tip: Tip,
    pending: Vec<Message>,
}

impl Leader<'_> {
    fn sequence(&mut self, entry: &Entry) -> Result<()> {
        let timestamp = Timestamp::from_ms(START_MS + self.tip.next()?.get())?;
        let (message, tip) = self.tip.sign(Epoch::FIRST, timestamp, Body::of(entry)?, self.key)?;
        self.tip = tip;
        self.pending.push(message);
        Ok(())
    }

    async fn publish(&mut self) -> Result<()> {
        let checkpoint = self.tip.checkpoint(Epoch::FIRST, 0).ok_or("nothing to publish")?.sign(self.key)?;
        let batch = Batch::new(std::mem::take(&mut self.pending), checkpoint.clone())?;
        let bytes = batch.to_stored()?;
        println!("  batch {} to {}: {} bytes", batch.first(), batch.last(), bytes.len());
        self.store.put(&Key::Batch { stream: STREAM, first: batch.first() }, bytes.into()).await?;
        self.tip = self.tip.after_checkpoint(&checkpoint.verify(&self.leaders)?)?;
        Ok(())
    }

    /// The digest that the client's next commit names.
    fn last(&self) -> Result<CommitDigest> {
        Ok(self.tip.client().ok_or("the stream has not begun")?.last)
    }
}

/// Writes a whole log and gives its tip.
async fn write(folder: &Path, key: &SigningKey) -> Result<Tip> {
    let store = ObjectBatchStore::open(&StoreUrl::folder(folder)?).await?;
    let record = EpochRecord { stream: STREAM, epoch: Epoch::FIRST, proof: KeyProof::Unattested }.sign(key);
    let claim = Key::Epoch { stream: STREAM, epoch: Epoch::FIRST };
    store.put(&claim, record.to_bytes().into()).await?;

    let mut leaders = Leaders::new(STREAM, TrustedKeys::pinned([*key.verifying_key()]));
    leaders.admit(&record)?;
    let mut leader = Leader { key, leaders, store, tip: Tip::start(STREAM), pending: Vec::new() };
    let start = EpochStart { record: record.hash(), versions: Versions::SUPPORTED };
    leader.sequence(&Entry::Epoch(start))?;
    leader.sequence(&Entry::Snapshot(empty_database()?))?;
    leader.publish().await?;

    let mut table = TableHash::default();
    for batch in 0..BATCHES {
        let submission = submission(batch * COMMITS, leader.last()?, &mut table)?;
        leader.sequence(&Entry::Submission(submission))?;
        leader.publish().await?;
    }
    Ok(leader.tip)
}

fn incarnation() -> Incarnation {
    Incarnation { counter: IncarnationCounter::FIRST, nonce: IncarnationNonce::from_bytes([1; 16]) }
}

/// Every stream begins with a snapshot; this one is of an empty database.
fn empty_database() -> Result<Snapshot> {
    let chunk = b"one empty page";
    Ok(Snapshot {
        stream: STREAM,
        incarnation: incarnation(),
        place: SnapshotPlace::Begins { predecessor: None },
        encoding: TextEncoding::Utf8,
        page_size: PageSize::new(4096)?,
        state: state(&TableHash::default()),
        chunks: vec![Chunk { hash: ChunkHash::of(chunk), pages: 1, stored_bytes: chunk.len() as u64 }],
    })
}

/// Commits of one row each. The rows also enter `table`, which gives the state hash.
fn submission(after: u64, mut prev: CommitDigest, table: &mut TableHash) -> Result<Submission> {
    let mut commits = Vec::new();
    for number in after + 1..=after + COMMITS {
        let row = format!("price of trade {number}");
        table.add(Some(i64::try_from(number)?), [Value::Text(row.as_bytes())]);
        let changes = Changes { rows: row.into_bytes(), ..Changes::default() };
        // The last commit of a submission says what the database hashes to.
        let claim = (number == after + COMMITS).then(|| StateClaim { state: state(table), scanned: None });
        let commit = Commit {
            number: CommitNumber::new(number)?,
            prev,
            kind: CommitKind::Transaction,
            changes,
            state: claim,
        };
        prev = commit.digest();
        commits.push(commit);
    }
    let content = Content::Commits(Commits::new(commits)?);
    Ok(Submission { stream: STREAM, incarnation: incarnation(), content })
}

fn state(table: &TableHash) -> StateHash {
    let tables = [(b"trades".to_vec(), table.digest())].into();
    State { schema: vec![], encoding: TextEncoding::Utf8, user_version: 0, application_id: 0, tables }.hash()
}

/// Whether a reader tells what it verified.
enum Progress {
    Shown,
    Hidden,
}

/// A reader: gets the next key until it is absent, and lets nothing unverified pass.
async fn read(folder: &Path, key: VerifyingKey, progress: Progress) -> Result<Tip> {
    let store = ObjectBatchStore::open_existing(&StoreUrl::folder(folder)?).await?;
    let mut leaders = Leaders::new(STREAM, TrustedKeys::pinned([key]));
    let mut tip = Tip::start(STREAM);
    while let Some(bytes) = store.get(&Key::Batch { stream: STREAM, first: tip.next()? }).await? {
        let batch = Batch::from_stored(&bytes)?;
        admit(&store, &mut leaders, batch.checkpoint().claim().epoch).await?;
        let batch = batch.verify(&leaders, &tip)?;
        tip = batch.tip().clone();
        if let Progress::Shown = progress {
            let claim = batch.checkpoint().claim();
            println!("  verified through {}: root {}", claim.size, claim.root());
        }
    }
    if let (Progress::Shown, Some(client)) = (progress, tip.client()) {
        println!("  state hash {}", client.state);
    }
    Ok(tip)
}

/// Reads the records of the epochs up to the one that a batch claims to be of.
async fn admit(store: &ObjectBatchStore, leaders: &mut Leaders, claimed: Epoch) -> Result<()> {
    while let Some(epoch) = leaders.next().filter(|next| *next <= claimed) {
        let record =
            store.get(&Key::Epoch { stream: STREAM, epoch }).await?.ok_or("nobody claimed the epoch")?;
        leaders.admit(&SignedEpochRecord::from_bytes(&record)?)?;
    }
    Ok(())
}

/// Tries what a hostile store could do, and fails if any of it goes unnoticed.
async fn attack(folder: &Path, key: &SigningKey) -> Result<()> {
    let store = ObjectBatchStore::open_existing(&StoreUrl::folder(folder)?).await?;
    let first = Key::Batch { stream: STREAM, first: Sequence::FIRST };
    match store.put(&first, Bytes::from_static(b"another history")).await {
        Err(error @ PutError::Conflict { .. }) => show("puts another first batch", &error),
        other => return Err(format!("an object was overwritten: {other:?}").into()),
    }

    let path = folder.join(first.to_string());
    let honest = std::fs::read(&path)?;
    let mut changed = honest.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(&path, changed)?;
    refused("changes one bit of a batch", read(folder, *key.verifying_key(), Progress::Hidden).await)?;
    std::fs::write(&path, honest)?;

    let stranger = *SigningKey::from_bytes([8; 32])?.verifying_key();
    refused("offers the log as another leader's", read(folder, stranger, Progress::Hidden).await)
}

fn refused(what: &str, outcome: Result<Tip>) -> Result<()> {
    let Err(error) = outcome else { return Err(format!("nobody noticed: {what}").into()) };
    show(what, error.as_ref());
    Ok(())
}

/// Prints an error with its causes.
fn show(what: &str, error: &dyn Error) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    println!("  {what}: refused: {text}");
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
