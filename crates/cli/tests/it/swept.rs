//! `synddb gc` of stores that real processes wrote: what it says, what it refuses, and that it may be killed at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::{KeyId, StreamId};
use synddb_protocol::log::{Batch, Manifest, SignedCheckpoint, SignedManifest};
use synddb_protocol::signing::SigningKey;
use synddb_protocol::submission::{Chunk, PageSize, TextEncoding};
use synddb_servers::StaticHost;
use synddb_storage::Key;

use crate::chance::Chance;
use crate::processes::{run, synddb};
use crate::programs::sql;
use crate::roles::{PATIENCE, Role, make_store, sequencer_as, store};
use crate::verified::Stored;

const DAY: Duration = Duration::from_secs(86_400);
/// Snapshots of strangers.
const STRANGERS: u64 = 250;
/// Chunks of each snapshot.
const CHUNKS: u64 = 12;

fn signer(number: u64) -> SigningKey {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&number.to_be_bytes());
    SigningKey::from_bytes(secret).unwrap()
}

/// A log of `dev`, to which snapshots are added that nobody took: their pages are noise, and whole all the same.
struct Swept {
    stored: Stored,
    stream: StreamId,
    wanted: KeyId,
}

impl Swept {
    fn make() -> Self {
        let stored = Stored::usual();
        let stream: StreamId = stored.stream.parse().unwrap();
        let swept = Self { stored, stream, wanted: signer(0).verifying_key().id() };
        for file in swept.stored.files("batches").into_values() {
            let batch = Batch::from_stored(&fs::read(file).unwrap()).unwrap();
            if batch.checkpoint().claim().client.is_some() {
                swept.add(batch.checkpoint(), 0, batch.last().get());
            }
        }
        swept
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.stored.store.join(key.to_string())
    }

    fn put_old(&self, key: &Key, bytes: &[u8]) {
        let path = self.path(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(SystemTime::now() - 30 * DAY)
            .unwrap();
    }

    /// A snapshot of old objects at a checkpoint.
    fn add(&self, checkpoint: &SignedCheckpoint, number: u64, seed: u64) {
        let page_size = PageSize::new(512).unwrap();
        let mut chance = Chance::new(number * 1000 + seed);
        let runs: Vec<Chunk> = (0..CHUNKS)
            .map(|_| {
                let pages: Vec<u8> = (0..64).flat_map(|_| chance.next().to_be_bytes()).collect();
                let (chunk, stored) = Chunk::seal(&pages, page_size).unwrap();
                self.put_old(&Key::Chunk { stream: self.stream, hash: chunk.hash }, &stored);
                chunk
            })
            .collect();
        let key = signer(number);
        let checkpoint = checkpoint.clone();
        let manifest =
            Manifest { checkpoint, encoding: TextEncoding::Utf8, page_size, runs, patches: Vec::new() };
        let sequence = manifest.sequence();
        let signed = manifest.sign(&key).unwrap();
        self.put_old(
            &Key::Snapshot { stream: self.stream, sequence, signer: signed.key() },
            &signed.to_bytes(),
        );
    }

    fn add_strangers(&self) {
        let last = self.stored.files("batches").into_values().next_back().unwrap();
        let batch = Batch::from_stored(&fs::read(last).unwrap()).unwrap();
        for number in 1..=STRANGERS {
            self.add(batch.checkpoint(), number, 0);
        }
        for number in 0..500 {
            let hash = ChunkHash::of(&Chance::new(number).next().to_be_bytes());
            self.put_old(&Key::Chunk { stream: self.stream, hash }, b"nobody names it");
        }
    }

    fn gc(store: &str, arguments: &[&str]) -> (i32, Value, String) {
        let mut command = synddb(["gc", store, "--json"]);
        command.args(arguments);
        let (exit, told, errors) = run(command);
        (exit, serde_json::from_str(told.lines().last().unwrap_or("null")).unwrap(), errors)
    }

    fn verify(&self, store: &Path) {
        let store = format!("file://{}", store.display());
        let pinned = ["--stream", &self.stored.stream, "--sequencer-key", &self.stored.key, "--full"];
        let mut command = synddb(["verify", &store]);
        command.args(pinned);
        let (exit, told, errors) = run(command);
        assert_eq!(exit, 0, "{told}{errors}");
    }
}

/// Every object of a store by its name.
fn objects(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// Every manifest that is there has every chunk, and each chunk is what it says. How many manifests there are.
fn assert_manifests_are_whole(root: &Path) -> usize {
    let mut opened: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let names: Vec<String> = objects(root).into_iter().filter(|name| name.contains("/snapshots/")).collect();
    for name in &names {
        let signed = SignedManifest::from_bytes(&fs::read(root.join(name)).unwrap()).unwrap();
        let manifest = signed.manifest();
        for chunk in manifest.chunks() {
            let file = Key::Chunk { stream: manifest.stream(), hash: chunk.hash }.to_string();
            let stored = opened.entry(file.clone()).or_insert_with(|| {
                fs::read(root.join(&file)).unwrap_or_else(|_| panic!("{name} lacks a chunk: {file}"))
            });
            chunk.open(stored, manifest.page_size).unwrap();
        }
    }
    names.len()
}

#[test]
fn what_nobody_needs_goes_and_the_command_says_what_went() {
    let swept = Swept::make();
    let url = swept.stored.url();
    let before = objects(&swept.stored.store);
    let snapshots = before.iter().filter(|name| name.contains("/snapshots/")).count();
    assert!(snapshots > 2, "{before:?}");
    // What snapshots alone name is not what nobody names.
    swept.put_old(&Key::Chunk { stream: swept.stream, hash: ChunkHash::of(b"stray") }, b"nobody names it");
    let (exit, checked, errors) = swept.stored.check(&[]);
    assert_eq!(exit, 0, "{errors}");
    let beside = ["replica_chunks", "chunks"].map(|kind| checked["beside"][kind]["count"].as_u64().unwrap());
    assert_eq!(beside, [snapshots as u64 * CHUNKS, 1], "{checked}");
    fs::remove_file(swept.path(&Key::Chunk { stream: swept.stream, hash: ChunkHash::of(b"stray") })).unwrap();

    let (exit, would, errors) = Swept::gc(&url, &["--keep", "1", "--dry-run"]);
    assert_eq!((exit, errors.as_str()), (0, ""), "{would}");
    assert_eq!(objects(&swept.stored.store), before);
    let (exit, told, errors) = Swept::gc(&url, &["--keep", "1", "--stream", &swept.stored.stream]);
    assert_eq!((exit, errors.as_str(), &told["event"]), (0, "", &"swept".into()), "{told}");
    assert_eq!((&would["dry_run"], &told["dry_run"]), (&true.into(), &false.into()));
    for part in ["manifests", "chunks", "size", "stream", "left"] {
        assert_eq!(would[part], told[part], "{part}: {would} {told}");
    }
    assert_eq!(told["manifests"]["kept"]["count"], 1, "{told}");
    // Each manifest was told beforehand, with what becomes of it.
    let judged = would["judged"].as_array().unwrap();
    let signer = swept.wanted.to_string();
    let fates: Vec<&str> = judged.iter().map(|one| one["fate"].as_str().unwrap()).collect();
    assert_eq!((judged.len(), &would["untold"], fates.last()), (snapshots, &0.into(), Some(&"newest")));
    assert!(fates[..snapshots - 1].iter().all(|fate| *fate == "superseded"), "{would}");
    assert!(judged.iter().all(|one| one["signer"] == signer.as_str()), "{would}");
    assert_eq!((&told["judged"], &told["young_manifests"]["count"]), (&Value::Null, &0.into()), "{told}");
    assert_eq!(told["manifests"]["removed"]["count"], snapshots - 1, "{told}");
    assert_eq!(
        told["chunks"]["removed"]["count"].as_u64().unwrap(),
        (snapshots as u64 - 1) * CHUNKS,
        "{told}"
    );
    let after = objects(&swept.stored.store);
    let gone = told["manifests"]["removed"]["count"].as_u64().unwrap()
        + told["chunks"]["removed"]["count"].as_u64().unwrap();
    assert_eq!((before.len() - after.len()) as u64, gone);
    assert_eq!(assert_manifests_are_whole(&swept.stored.store), 1);
    swept.verify(&swept.stored.store);

    // For people, and with nothing left to do.
    let (exit, told, errors) = run(synddb(["gc", &url, "--keep", "1", "--dry-run"]));
    assert_eq!(exit, 0, "{told}{errors}");
    let line = format!(
        "  stays      message {}, signer {signer}: it is among the newest",
        judged[snapshots - 1]["sequence"]
    );
    assert!(told.contains(&line), "{told}");
    let (exit, told, errors) = run(synddb(["gc", &url, "--dry-run", "--older-than", "60d"]));
    assert_eq!(exit, 0, "{told}{errors}");
    assert!(told.contains("manifests that stay because they are young: 1, "), "{told}");
    assert!(told.contains(": it is young\n"), "{told}");
    let (exit, told, errors) = run(synddb(["gc", &url, "--keep", "1"]));
    assert_eq!(exit, 0, "{told}{errors}");
    assert!(told.starts_with("what nobody needs was removed\n"), "{told}");
    assert!(told.contains("; removed 0, 0 bytes"), "{told}");
}

#[test]
fn what_cannot_be_swept_is_refused_with_what_to_change() {
    let swept = Swept::make();
    let (root, url) = (&swept.stored.store, swept.stored.url());
    let before = objects(root);
    let host = StaticHost::serve(root).unwrap();
    let (exit, _, errors) = Swept::gc(&host.url(), &[]);
    assert_eq!(exit, 2, "{errors}");
    assert!(errors.contains("name the bucket or folder that it serves"), "{errors}");
    let other = format!("0x{}", "12".repeat(32));
    let (exit, _, errors) = Swept::gc(&url, &["--stream", &other]);
    assert_eq!(exit, 2, "{errors}");
    assert!(
        errors.contains("holds no log of this stream") && errors.contains(&swept.stored.stream),
        "{errors}"
    );
    let (exit, _, errors) = Swept::gc(&format!("{url}-not-there"), &[]);
    assert_eq!(exit, 2, "{errors}");
    let nobody = signer(9999).verifying_key().id().to_string();
    let (exit, _, errors) = Swept::gc(&url, &["--signer", &nobody]);
    assert_eq!(exit, 2, "{errors}");
    assert!(errors.contains("check --signer"), "{errors}");
    for wrong in [&["--keep", "0"][..], &["--keep-every", "0"], &["--older-than", "week"]] {
        assert_eq!(Swept::gc(&url, wrong).0, 2, "{wrong:?}");
    }
    // Two streams, and none named.
    fs::create_dir_all(root.join("34".repeat(32)).join("batches")).unwrap();
    let (exit, _, errors) = Swept::gc(&url, &[]);
    assert_eq!(exit, 2, "{errors}");
    assert!(errors.contains("choose with --stream"), "{errors}");
    fs::remove_dir_all(root.join("34".repeat(32))).unwrap();
    // A log that cannot be read is not swept.
    let batch = swept.stored.files("batches").into_values().nth(1).unwrap();
    let bytes = fs::read(&batch).unwrap();
    fs::remove_file(&batch).unwrap();
    let (exit, last, errors) = Swept::gc(&url, &[]);
    assert_eq!((exit, &last["event"]), (1, &"failed".into()), "{errors}");
    assert!(errors.contains("a batch is missing, and a later one is there"), "{errors}");
    fs::write(&batch, bytes).unwrap();
    assert_eq!(objects(root), before);
    // A manifest that cannot be read keeps every chunk, which is said, also by the exit code.
    let strange = root.join(format!(
        "{}/snapshots/000000000900/{}.cbor",
        swept.stored.stream.trim_start_matches("0x"),
        "ab".repeat(20)
    ));
    fs::create_dir_all(strange.parent().unwrap()).unwrap();
    fs::write(&strange, b"?").unwrap();
    let (exit, told, errors) = Swept::gc(&url, &["--keep", "1"]);
    assert_eq!((exit, &told["left"]["why"]), (5, &"unreadable".into()), "{told}{errors}");
}

/// `kill -9` at points of its work, spread over all of it: whatever is left is a store in which every manifest is whole, and another run comes to
/// where one that was not killed comes.
#[test]
fn killed_at_any_moment_it_leaves_the_store_whole() {
    let kills: u64 = std::env::var("SYNDDB_GC_KILLS").map_or(8, |kills| kills.parse().unwrap());
    let swept = Swept::make();
    swept.add_strangers();
    let before = objects(&swept.stored.store);
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let to = elsewhere.path().join(name);
        let copied = Command::new("cp").arg("-a").arg(&swept.stored.store).arg(&to).status().unwrap();
        assert!(copied.success());
        to
    };
    let wanted = swept.wanted.to_string();
    let arguments = ["--keep", "2", "--signer", &wanted];
    let done = copy("done");
    let (exit, told, errors) = Swept::gc(&format!("file://{}", done.display()), &arguments);
    assert_eq!(exit, 0, "{told}{errors}");
    let wished = objects(&done);
    let gone = before.len() - wished.len();
    assert!(gone as u64 > STRANGERS * CHUNKS, "{told}");
    swept.verify(&done);

    let mut chance = Chance::new(39);
    let (mut inside, mut manifests_only) = (0, 0);
    for number in 0..kills {
        let store = copy(&format!("killed-{number}"));
        // One in four is killed while manifests go.
        let end = if number % 4 == 0 { STRANGERS } else { gone as u64 };
        let goal = before.len() - usize::try_from(chance.below(end)).unwrap();
        let url = format!("file://{}", store.display());
        let mut command = synddb(["gc", &url]);
        let mut child = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while objects_there(&store) > goal && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "it removes nothing");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let left = objects(&store);
        assert!(wished.is_subset(&left), "something went that is needed");
        if left.len() > wished.len() && left.len() < before.len() {
            inside += 1;
            let chunks = |all: &BTreeSet<String>| all.iter().filter(|name| name.contains("/chunks/")).count();
            manifests_only += usize::from(chunks(&left) == chunks(&before));
        }
        assert_manifests_are_whole(&store);
        swept.verify(&store);
        let (exit, told, errors) = Swept::gc(&url, &arguments);
        assert_eq!(exit, 0, "{told}{errors}");
        assert_eq!(objects(&store), wished);
        fs::remove_dir_all(store).unwrap();
    }
    println!(
        "killed {kills} times, {inside} of them while it removed, {manifests_only} of these while manifests went"
    );
    assert!(inside > 0, "no kill came while it removed");
}

/// A sequencer dies between its promise of a snapshot and the store, and stays away for longer than chunks that nobody names are kept.
#[test]
fn a_snapshot_whose_chunks_went_before_it_was_stored_is_made_whole_by_its_agent() {
    let folder = tempfile::tempdir().unwrap();
    let (app, home) = (folder.path().join("app.db"), folder.path().join("app.db-synddb"));
    sql(&app, "CREATE TABLE t (k INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'one');");
    make_store(folder.path());
    // The first batch is the fence of its epoch, the second one has the snapshot.
    let mut dying = sequencer_as(folder.path(), "sequencer", "127.0.0.1:0");
    dying.env("SYNDDB_KILL_AT", "cut@2");
    let mut sequencer = Role::start(dying);
    let listening = sequencer.event("listening", |_| true);
    let (url, key) = (listening["url"].as_str().unwrap(), listening["key"].as_str().unwrap());
    let mut follow =
        synddb(["follow", "--json", "--stop-on-eof", "--sequencer-key", key, "--sequencer", url]);
    follow.arg(&app).arg("--dir").arg(&home).arg("--token-file").arg(folder.path().join("token"));
    let mut agent = Role::start(follow);
    assert!(!sequencer.ended().success(), "it was to be killed");
    let stream = synddb_agent::stream_of(&home).unwrap();
    let chunks = folder.path().join("store").join(stream.to_key()).join("chunks");
    let there = || fs::read_dir(&chunks).unwrap().map(|entry| entry.unwrap().path());
    for file in there() {
        fs::File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_modified(SystemTime::now() - 30 * DAY)
            .unwrap();
    }
    let (exit, told, errors) = Swept::gc(&store(folder.path()), &[]);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    assert_eq!((there().count(), &told["size"]), (0, &1.into()), "{told}");

    let address = url.trim_start_matches("http://");
    let mut sequencer = Role::start(sequencer_as(folder.path(), "sequencer", address));
    sequencer.event("listening", |_| true);
    agent.event("snapshot_stored", |_| true);
    sql(&app, "INSERT INTO t VALUES (2, 'two');");
    agent.end();
    sequencer.end();
    let stream = stream.to_string();
    let store = store(folder.path());
    let (exit, told, errors) =
        run(synddb(["verify", &store, "--stream", &stream, "--sequencer-key", key, "--full"]));
    assert_eq!(exit, 0, "{told}{errors}");
}

/// How many objects there are, while they go.
fn objects_there(root: &Path) -> usize {
    let Ok(entries) = fs::read_dir(root) else { return 0 };
    let count = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => objects_there(&entry.path()),
        _ => 1,
    };
    entries.filter_map(Result::ok).map(count).sum()
}
