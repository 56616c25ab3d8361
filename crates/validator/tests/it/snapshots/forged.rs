//! Snapshots that somebody made up: each is passed, and the older one behind it is begun from.

use std::path::PathBuf;

use synddb_protocol::hash::{ChunkHash, StateHash};
use synddb_protocol::id::StreamId;
use synddb_protocol::limits::CHUNK_BYTES_MAX;
use synddb_protocol::log::{Checkpoint, SignedCheckpoint};
use synddb_protocol::submission::Chunk;
use synddb_storage::BatchStore as _;

use super::super::log::key;
use super::*;

/// Who makes up snapshots. Everybody may have a key.
const FORGER: u8 = 9;

/// A log with an honest snapshot, an honest manifest of a later place that is taken away again, and a tail.
struct Forging {
    log: Log,
    honest: Sequence,
    later: Manifest,
    tries: u32,
}

impl Forging {
    async fn begin() -> Self {
        let mut log = Log::begin(SETUP).await;
        log.run(GROW);
        log.publish().await;
        let honest = take(&log).await;
        log.run("UPDATE t SET v = 'later' WHERE id % 100 = 0");
        log.publish().await;
        take(&log).await;
        let at = *stored(&log).await.last().unwrap();
        let later = manifest(&log, &at).await;
        std::fs::remove_file(log.object(&at)).unwrap();
        log.run("INSERT INTO t(v) VALUES('tail')");
        log.publish().await;
        Self { log, honest, later, tries: 0 }
    }

    fn named(&self, sequence: Sequence) -> Key {
        Key::Snapshot { stream: STREAM, sequence, signer: key(FORGER).id() }
    }

    /// Begins with these bytes in the store as the newest snapshot, and says where it began.
    async fn begun_with(&mut self, at: Key, bytes: Vec<u8>) -> Option<Sequence> {
        self.log.put(&at, bytes).await;
        self.tries += 1;
        let name = format!("begun{}.db", self.tries);
        let began = begin(&self.log, &name).await;
        let staged: PathBuf = self.log.folder.path().join(format!("{name}.restoring"));
        assert!(!staged.exists(), "nothing half is left");
        std::fs::remove_file(self.log.object(&at)).unwrap();
        began.map(|(sequence, _)| sequence)
    }

    async fn begun_from(&mut self, manifest: Manifest) -> Option<Sequence> {
        let at = self.named(manifest.sequence());
        let bytes = manifest.sign(&key(FORGER)).unwrap().to_bytes();
        self.begun_with(at, bytes).await
    }

    async fn refuses(&mut self, what: &str, manifest: Manifest) {
        assert_eq!(self.begun_from(manifest).await, Some(self.honest), "{what}");
    }
}

/// The claim of a checkpoint, changed and signed by somebody.
fn forge(of: &SignedCheckpoint, by: u8, change: impl FnOnce(&mut Checkpoint)) -> SignedCheckpoint {
    let mut claim = of.claim().clone();
    // Who leads an epoch signed its last message, or the claim contradicts itself.
    claim.last_leader.key = key(by).id();
    change(&mut claim);
    claim.sign(&key(by)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_log_vouches_for_is_begun_from() {
    let mut forging = Forging::begin().await;
    let later = forging.later.clone();
    // So that the rest shows something: whoever signs it, a true one is begun from.
    assert_eq!(forging.begun_from(later.clone()).await, Some(later.sequence()));

    let earlier = manifest(&forging.log, &stored(&forging.log).await[0]).await;
    let (runs, patches) = (earlier.runs.clone(), earlier.patches.clone());
    forging.refuses("the rows of another place", Manifest { runs, patches, ..later.clone() }).await;
    for by in [FORGER, 1] {
        let state = |claim: &mut Checkpoint| {
            claim.client.as_mut().unwrap().state = earlier.state().unwrap();
        };
        // The leader's own key signs what is not in its log, and the rows fit.
        let checkpoint = forge(&later.checkpoint, by, state);
        let (runs, patches) = (earlier.runs.clone(), earlier.patches.clone());
        forging
            .refuses("a checkpoint beside the log", Manifest { checkpoint, runs, patches, ..later.clone() })
            .await;
    }
    let checkpoint = forge(&later.checkpoint, 1, |claim| claim.stream = StreamId::from_bytes([7; 32]));
    let of_another = Manifest { checkpoint, ..later.clone() };
    assert_eq!(forging.begun_from(of_another).await, Some(forging.honest), "another stream");
    let state = StateHash::from_bytes([1; 32]);
    let checkpoint = forge(&later.checkpoint, 2, |claim| claim.client.as_mut().unwrap().state = state);
    forging.refuses("a key that is not trusted", Manifest { checkpoint, ..later.clone() }).await;

    // What the leader signed and never stored is in no log. The rows are those of the log's end.
    let end = forging.log.last();
    let state = forging.log.state();
    forging.log.run("INSERT INTO t(v) VALUES('unstored')");
    let batch = forging.log.cut();
    let unstored = Manifest { checkpoint: batch.checkpoint().clone(), ..later };
    let at = forging.named(unstored.sequence());
    let bytes = unstored.sign(&key(FORGER)).unwrap().to_bytes();
    forging.log.put(&at, bytes).await;
    let config = beginning(&forging.log, "unstored.db");
    let replica = config.replica.clone();
    let ended = Running::start(config).end().await.unwrap();
    assert_eq!(ended, End { sequence: Some(end), state: Some(state) });
    assert_eq!(started(&replica).map(|(sequence, _)| sequence), Some(forging.honest));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_manifest_or_lies_under_another_name_is_passed() {
    let mut forging = Forging::begin().await;
    let later = forging.later.clone();
    let at = forging.named(later.sequence());
    let bytes = later.clone().sign(&key(FORGER)).unwrap().to_bytes();
    let mut flipped = bytes.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let signed_by_another = later.sign(&key(8)).unwrap().to_bytes();
    let elsewhere = forging.named(forging.log.last());
    for (what, at, bytes) in [
        ("nothing", at, Vec::new()),
        ("half", at, bytes[..bytes.len() / 2].to_vec()),
        ("one bit of the signature", at, flipped),
        ("another signer", at, signed_by_another),
        ("another place", elsewhere, bytes),
    ] {
        assert_eq!(forging.begun_with(at, bytes).await, Some(forging.honest), "{what}");
    }
    // The object of a manifest that is larger than any.
    let object = forging.log.object(&at);
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    let file = std::fs::File::create(&object).unwrap();
    file.set_len(1 << 30).unwrap();
    let began = begin(&forging.log, "large.db").await;
    assert_eq!(began.map(|(sequence, _)| sequence), Some(forging.honest));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_missing_damaged_or_burst_are_passed() {
    let mut forging = Forging::begin().await;
    let later = forging.later.clone();
    let with = |chunk: Chunk| {
        let mut manifest = later.clone();
        manifest.runs[0] = Chunk { pages: later.runs[0].pages, ..chunk };
        manifest
    };
    let missing = Chunk { hash: ChunkHash::from_bytes([3; 32]), ..later.runs[0] };
    forging.refuses("a chunk that is not there", with(missing)).await;
    let of_bytes =
        |bytes: &[u8]| Chunk { hash: ChunkHash::of(bytes), pages: 1, stored_bytes: bytes.len() as u64 };
    // A few bytes that open to more than any chunk holds.
    let bomb = zstd::bulk::compress(&vec![0; CHUNK_BYTES_MAX * 16], 3).unwrap();
    let noise = vec![0xa5; 4096];
    for (what, bytes) in [("a bomb", bomb), ("noise", noise)] {
        let chunk = of_bytes(&bytes);
        forging.log.put(&Key::Chunk { stream: STREAM, hash: chunk.hash }, bytes).await;
        forging.refuses(what, with(chunk)).await;
    }
    // Zeros are pages of no database.
    let (zeros, bytes) = Chunk::seal(
        &vec![0; usize::try_from(later.runs[0].pages).unwrap() * later.page_size.get() as usize],
        later.page_size,
    )
    .unwrap();
    forging.log.put(&Key::Chunk { stream: STREAM, hash: zeros.hash }, bytes).await;
    forging.refuses("empty pages", with(zeros)).await;
    // The object of a true chunk is cut.
    let chunk = later.runs[0].hash;
    let object = forging.log.object(&Key::Chunk { stream: STREAM, hash: chunk });
    let whole = std::fs::read(&object).unwrap();
    let is_of_honest = manifest(&forging.log, &stored(&forging.log).await[0])
        .await
        .chunks()
        .any(|other| other.hash == chunk);
    std::fs::write(&object, &whole[..whole.len() - 1]).unwrap();
    let expected = (!is_of_honest).then_some(forging.honest);
    assert_eq!(forging.begun_from(later.clone()).await, expected, "a chunk that is cut");
    std::fs::write(&object, &whole).unwrap();
    assert!(forging.log.store.get(&Key::Chunk { stream: STREAM, hash: chunk }).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stores_many_made_up_ones_costs_time_and_no_replica() {
    let mut forging = Forging::begin().await;
    let later = forging.later.clone();
    let earlier = manifest(&forging.log, &stored(&forging.log).await[0]).await;
    // More than are restored, each with rows that are those of another place.
    for signer in 20..30 {
        let (runs, patches) = (earlier.runs.clone(), earlier.patches.clone());
        let forged = Manifest { runs, patches, ..later.clone() }.sign(&key(signer)).unwrap();
        let at = Key::Snapshot { stream: STREAM, sequence: later.sequence(), signer: key(signer).id() };
        forging.log.put(&at, forged.to_bytes()).await;
    }
    assert_eq!(begin(&forging.log, "replayed.db").await, None, "from the first message");
    // And some that cost nothing to pass.
    for signer in 20..30 {
        let at = Key::Snapshot { stream: STREAM, sequence: later.sequence(), signer: key(signer).id() };
        std::fs::remove_file(forging.log.object(&at)).unwrap();
        forging.log.put(&at, b"no manifest".to_vec()).await;
    }
    assert_eq!(begin(&forging.log, "begun.db").await.map(|(sequence, _)| sequence), Some(forging.honest));
    forging.tries += 1;
}
