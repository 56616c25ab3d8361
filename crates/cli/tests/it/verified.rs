//! `synddb verify` of logs that real processes stored, whole and damaged.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use synddb_protocol::hash::StateHash;
use synddb_protocol::id::{Epoch, Incarnation, Sequence, StreamId};
use synddb_protocol::log::{Batch, Body, Entry, Leaders, SignedEpochRecord, Status, StatusLevel, Tip};
use synddb_protocol::signing::{SigningKey, TrustedKeys};
use synddb_protocol::submission::{
    Changes, CommitKind, Commits, Content, Predecessor, Snapshot, SnapshotPlace, StateClaim, Submission,
};

use crate::dev::Dev;
use crate::processes::{run, synddb};
use crate::programs::sql;
use crate::roles::signal;

/// The public key of the secret 1: nobody's who signs here.
pub(crate) const OTHER_KEY: &str = "0x0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

/// A log that two starts of `dev` stored: two epochs, a snapshot, and commits in several batches.
pub(crate) struct Stored {
    folder: tempfile::TempDir,
    pub(crate) store: PathBuf,
    pub(crate) stream: String,
    pub(crate) key: String,
    /// The state hash of the database at the end.
    state: String,
}

impl Stored {
    pub(crate) fn make(first: &str, then: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path().join("app.db");
        sql(&app, "CREATE TABLE t (k1 INTEGER PRIMARY KEY, c2); INSERT INTO t VALUES (1, 'one');");
        let dev = Dev::start(folder.path());
        sql(&app, first);
        dev.assert_replica_equals();
        let (stream, key, store) = (dev.running("stream"), dev.running("key"), dev.running("store"));
        dev.stop();
        let dev = Dev::start(folder.path());
        sql(&app, then);
        let (exit, told, errors) = dev.wait_applied(crate::roles::PATIENCE_TEXT);
        assert_eq!(exit, 0, "{told}{errors}");
        let reached: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        let state = reached["state"].as_str().unwrap().to_owned();
        dev.stop();
        let store = PathBuf::from(store.trim_start_matches("file://"));
        Self { folder, store, stream, key, state }
    }

    pub(crate) fn usual() -> Self {
        Self::make(
            "INSERT INTO t VALUES (2, 'two'); UPDATE t SET c2 = 'uno' WHERE k1 = 1;",
            "INSERT INTO t VALUES (3, 'three'); ALTER TABLE t ADD COLUMN c3; DELETE FROM t WHERE k1 = 2;",
        )
    }

    /// The files of one kind, by name.
    pub(crate) fn files(&self, kind: &str) -> BTreeMap<String, PathBuf> {
        let folder = self.store.join(self.stream.trim_start_matches("0x")).join(kind);
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), file)).collect()
    }

    pub(crate) fn first(&self, kind: &str) -> PathBuf {
        self.files(kind).into_values().next().unwrap()
    }

    /// The state hash of the database at the end.
    pub(crate) fn state(&self) -> &str {
        &self.state
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.store.display())
    }

    /// Verifies it with these arguments besides the store; exit code, the last event, errors.
    fn verify(&self, arguments: &[&str]) -> (i32, Value, String) {
        let mut command = synddb(["verify", &self.url(), "--json"]);
        command.args(arguments);
        let (exit, told, errors) = run(command);
        let last = told.lines().last().unwrap_or("null");
        (exit, serde_json::from_str(last).unwrap(), errors)
    }

    pub(crate) fn check(&self, more: &[&str]) -> (i32, Value, String) {
        let pinned = ["--stream", &self.stream, "--sequencer-key", &self.key];
        self.verify(&[&pinned, more].concat())
    }

    /// Makes sure that it is refused both ways, with this in the text, changed by `damage` and as it was again after.
    fn refused(&self, file: &Path, damage: impl Fn(&Path), text: &str) {
        let before = fs::read(file).unwrap();
        damage(file);
        for more in [&[][..], &["--full"]] {
            let (exit, last, errors) = self.check(more);
            assert_eq!((exit, &last["event"]), (1, &"failed".into()), "{}: {errors}", file.display());
            assert!(errors.contains(text), "{}: {errors}", file.display());
        }
        fs::write(file, before).unwrap();
    }
}

pub(crate) fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(file, bytes).unwrap();
}

pub(crate) fn remove(file: &Path) {
    fs::remove_file(file).unwrap();
}

#[test]
fn a_whole_log_is_whole() {
    let stored = Stored::usual();
    let (exit, quick, errors) = stored.check(&[]);
    assert_eq!((exit, errors.as_str()), (0, ""), "{quick}");
    assert_eq!(quick["event"], "verified");
    assert_eq!(quick["state"], stored.state.as_str());
    assert_eq!(quick["counts"]["epochs"], 2, "{quick}");
    assert_eq!(quick["counts"]["commits"], 5, "{quick}");
    assert_eq!(quick["batches"], stored.files("batches").len(), "{quick}");
    assert_eq!(quick["read"]["chunks"], stored.files("chunks").len(), "{quick}");
    assert_eq!(quick["rebuilt"], Value::Null);
    assert_eq!(quick["beside"]["unknown"]["count"], 0);
    assert_eq!(quick["beside"]["chunks"]["count"], 0);
    assert_eq!(quick["beside"]["replica_chunks"]["count"], 0);
    let [epochs] = quick["epochs"].as_array().unwrap().as_slice() else { panic!("{quick}") };
    assert_eq!(
        (&epochs["from"], &epochs["to"], &epochs["claim"]),
        (&1.into(), &2.into(), &"admitted".into())
    );
    let key_id = stored.key.parse::<synddb_protocol::signing::VerifyingKey>().unwrap().id().to_string();
    assert_eq!((&epochs["key_id"], &quick["ends_between_parts"]), (&key_id.into(), &false.into()));

    let scratch = tempfile::tempdir().unwrap();
    let (exit, full, errors) = stored.check(&["--full", "--dir", scratch.path().to_str().unwrap()]);
    assert_eq!((exit, errors.as_str()), (0, ""), "{full}");
    assert_eq!(full["rebuilt"]["state"], stored.state.as_str());
    assert_eq!((&full["rebuilt"]["sequence"], &full["root"]), (&quick["size"], &quick["root"]));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "the scratch folder is left");
    drop(stored.folder);
}

#[test]
fn every_object_of_a_log_counts() {
    let stored = Stored::usual();
    let batches: Vec<PathBuf> = stored.files("batches").into_values().collect();
    assert!(batches.len() >= 3, "{batches:?}");
    for batch in &batches {
        stored.refused(batch, flip, "");
    }
    stored.refused(&stored.first("chunks"), flip, "a chunk of the snapshot is damaged");
    stored.refused(&stored.first("chunks"), remove, "a chunk of the snapshot is not in the store");
    stored.refused(&stored.first("epochs"), flip, "an epoch's record is damaged");
    stored.refused(&stored.first("epochs"), remove, "");
    stored.refused(&batches[1], remove, "the store goes on without the batch");
    stored.refused(&batches[0], remove, "the store goes on without the batch");

    // The end of a log is known from nothing else than the store: what was taken from there is not missed.
    let (_, whole, _) = stored.check(&[]);
    remove(batches.last().unwrap());
    let (exit, shorter, errors) = stored.check(&[]);
    assert_eq!(exit, 0, "{errors}");
    assert!(shorter["size"].as_u64() < whole["size"].as_u64());
    assert_ne!(shorter["root"], whole["root"]);
}

#[test]
fn who_is_believed_is_asked() {
    let stored = Stored::usual();
    let key_id = stored.key.parse::<synddb_protocol::signing::VerifyingKey>().unwrap().id().to_string();
    let refused = |arguments: &[&str], texts: &[&str]| {
        let (exit, last, errors) = stored.verify(arguments);
        assert_eq!((exit, &last["event"]), (2, &"failed".into()), "{errors}");
        for text in texts {
            assert!(errors.contains(text), "`{text}` is not in: {errors}");
        }
    };
    let unknown = StreamId::from_bytes([7; 32]).to_string();
    let trust = ["--sequencer-key", stored.key.as_str()];
    refused(&trust, &["--stream", &stored.stream]);
    refused(&["--stream", &unknown, trust[0], trust[1]], &["no log of this stream", &stored.stream]);
    refused(&["--stream", &stored.stream], &["no key is trusted", "not what --sequencer-key takes", &key_id]);
    refused(
        &["--stream", &stored.stream, trust[0], OTHER_KEY],
        &["none of the trusted keys", "not what --sequencer-key takes", &key_id],
    );
    let absent = format!("file://{}", stored.folder.path().join("absent").display());
    let (exit, _, errors) = run(synddb(["verify", &absent, "--stream", &unknown, trust[0], trust[1]]));
    assert_eq!(exit, 2, "{errors}");
    // One pinned key too many does no harm, and believes nobody else.
    let (exit, _, errors) = stored.check(&["--sequencer-key", OTHER_KEY]);
    assert_eq!(exit, 0, "{errors}");
}

#[test]
fn what_lies_beside_a_log_is_told() {
    let stored = Stored::usual();
    let batch = stored.first("batches");
    store_a_lie(&stored, Then::Status);
    let size = stored.check(&[]).1["size"].as_u64().unwrap();
    // Under the number of a message that stands in another batch, so that nobody ever reads it.
    let inside = batch.with_file_name(format!("{size:012}.cbor.zst"));
    assert!(!inside.exists(), "{inside:?}");
    fs::copy(&batch, inside).unwrap();
    fs::write(batch.with_file_name("hello\u{202e}"), "12345").unwrap();
    fs::write(stored.first("chunks").with_file_name("ab".repeat(32)), "chunk").unwrap();
    // A lease is nothing strange beside a log.
    fs::write(batch.parent().unwrap().with_file_name("lease"), "{}").unwrap();
    fs::write(stored.first("epochs").with_file_name("000000000009.cbor"), "epoch").unwrap();
    let (exit, told, errors) = stored.check(&[]);
    assert_eq!(exit, 0, "{errors}");
    let beside = &told["beside"];
    let counts =
        ["batches", "epochs", "chunks", "other", "unknown"].map(|kind| beside[kind]["count"].as_u64());
    assert_eq!(counts, [Some(1), Some(1), Some(1), Some(0), Some(1)], "{beside}");
    assert_eq!(beside["unknown"]["bytes"], 5, "{beside}");
    let mut command = synddb(["verify", &stored.url(), "--stream", &stored.stream]);
    command.args(["--sequencer-key", &stored.key]);
    let (exit, told, _) = run(command);
    assert_eq!(exit, 0);
    assert!(told.contains("the log is whole") && told.contains("hello\\u{202e}"), "{told}");
}

/// What stands behind a lie in its batch.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    /// A change of status.
    Status,
    /// The first snapshot once more, as the beginning of another incarnation.
    Snapshot,
}

/// Adds a batch that the sequencer's key signed: a commit that claims a state which it does not lead to, and something behind it.
pub(crate) fn store_a_lie(stored: &Stored, then: Then) -> u64 {
    let secret = fs::read_to_string(stored.folder.path().join("app.db-synddb/sequencer.key")).unwrap();
    let secret: Vec<u8> = hex::decode(secret.trim().trim_start_matches("0x")).unwrap();
    let key = SigningKey::from_bytes(secret.try_into().unwrap()).unwrap();
    let stream: StreamId = stored.stream.parse().unwrap();
    let mut leaders = Leaders::new(stream, TrustedKeys::pinned([*key.verifying_key()]));
    for record in stored.files("epochs").into_values() {
        leaders.admit(&SignedEpochRecord::from_bytes(&fs::read(record).unwrap()).unwrap()).unwrap();
    }
    let (mut tip, mut snapshots) = (Tip::start(stream), Vec::new());
    for batch in stored.files("batches").into_values() {
        let batch = Batch::from_stored(&fs::read(batch).unwrap()).unwrap();
        let batch = batch.verify(&leaders, &tip).unwrap();
        tip = batch.tip().clone();
        snapshots.extend(batch.messages().iter().filter_map(|message| match message.entry() {
            Entry::Snapshot(snapshot) => Some(snapshot.clone()),
            Entry::Submission(_) | Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_) => None,
        }));
    }
    let client = tip.client().unwrap().clone();
    let changes = Changes { user_version: Some(77), ..Changes::default() };
    let claim = StateClaim { state: StateHash::from_bytes([9; 32]), scanned: None };
    let commits =
        Commits::link(client.next, client.last, vec![(CommitKind::Transaction, changes)], claim).unwrap();
    let content = Content::Commits(commits);
    let body = Body::of(&Entry::Submission(Submission { stream, incarnation: client.incarnation, content }));
    let epoch: Epoch = tip.last_leader().unwrap().epoch;
    let first: Sequence = tip.next().unwrap();
    let (message, after) = tip.sign(epoch, tip.timestamp(), body.unwrap(), &key).unwrap();
    let (number, client) = (client.next, after.client().unwrap());
    let entry = match then {
        Then::Status => Entry::Status(Status { level: StatusLevel::Warned, reason: String::new() }),
        Then::Snapshot => {
            let (incarnation, next, last) = (client.incarnation, client.next, client.last);
            let predecessor =
                Predecessor { incarnation, next, next_part: None, last, abandoned_through: None };
            let place = SnapshotPlace::Begins { predecessor: Some(predecessor) };
            let incarnation = Incarnation { counter: incarnation.counter.next().unwrap(), ..incarnation };
            Entry::Snapshot(Snapshot { incarnation, place, ..snapshots[0].clone() })
        }
    };
    let (second, after) = after.sign(epoch, tip.timestamp(), Body::of(&entry).unwrap(), &key).unwrap();
    let checkpoint = after.checkpoint(epoch, 0).unwrap().sign(&key).unwrap();
    let batch = Batch::new(vec![message, second], checkpoint).unwrap().to_stored().unwrap();
    fs::write(stored.first("batches").with_file_name(format!("{:012}.cbor.zst", first.get())), batch)
        .unwrap();
    number.get()
}

#[test]
fn a_wrong_state_is_found_by_rebuilding() {
    let stored = Stored::usual();
    let commit = store_a_lie(&stored, Then::Status);
    // It is signed, linked, and whole: only whoever applies it sees.
    let (exit, told, errors) = stored.check(&[]);
    assert_eq!(exit, 0, "{errors}");
    assert_eq!(told["counts"]["status"], 1, "{told}");
    let (exit, last, errors) = stored.check(&["--full"]);
    assert_eq!((exit, &last["exit"]), (1, &1.into()), "{errors}");
    assert!(
        errors.contains("the replica has another state") && errors.contains(&format!("commit=`{commit}`")),
        "{errors}"
    );
}

#[test]
fn also_what_a_snapshot_of_the_same_batch_replaces_is_applied() {
    let stored = Stored::usual();
    let commit = store_a_lie(&stored, Then::Snapshot);
    assert_eq!(stored.check(&[]).0, 0);
    let (exit, _, errors) = stored.check(&["--full"]);
    assert_eq!(exit, 1, "{errors}");
    assert!(errors.contains(&format!("commit=`{commit}`")), "{errors}");
}

#[test]
fn a_signal_ends_it_and_leaves_nothing() {
    let stored = Stored::usual();
    // A store that does not answer is asked again for as long as it takes.
    let batch = stored.first("batches");
    remove(&batch);
    std::os::unix::fs::symlink(&batch, &batch).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut command = synddb(["verify", &stored.url(), "--full", "--dir", scratch.path().to_str().unwrap()]);
    command.args(["--stream", &stored.stream, "--sequencer-key", &stored.key]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(errors.any(|line| line.unwrap().contains("the store does not answer")));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    signal(child.id(), "INT");
    assert!(errors.any(|line| line.unwrap().contains("ended as asked")));
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "the scratch folder is left");
}
