//! Releases beside each other: readers of adjacent versions over the same stored log, from `spec/vectors/upgrade.json`.

use std::path::Path;

use serde_json::{Value as Json, json};
use synddb_protocol::Canonical as _;
use synddb_protocol::hash::StateHash;
use synddb_protocol::http::HaltKind;
use synddb_protocol::id::{Epoch, Sequence, StreamId};
use synddb_protocol::log::{BatchError, Entry, LogError, Versions};
use synddb_protocol::submission::{Content, Snapshot, Submission};
use synddb_sqlite::rusqlite;
use synddb_storage::{BatchStore as _, Key, ObjectBatchStore, StoreUrl};
use synddb_validator::{Config, End, Event, HaltCause, Mode, Refused, ReplicaError, ValidatorError};

use super::halted::halt;
use super::log::{Log, STREAM};
use super::places::refused;
use super::running::Running;

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES(1), ('two')";
const LINES: [&str; 3] = [
    "INSERT INTO t(v) VALUES(3.5)",
    "UPDATE t SET v = 'TWO' WHERE id = 2",
    "ALTER TABLE t ADD COLUMN note DEFAULT 'new'",
];

fn read() -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/upgrade.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn bytes(value: &Json) -> Vec<u8> {
    hex::decode(value.as_str().unwrap().strip_prefix("0x").unwrap()).unwrap()
}

fn versions(value: &Json) -> Versions {
    Versions { protocol: value[0].as_u64().unwrap(), apply: value[1].as_u64().unwrap() }
}

fn list(value: &Json) -> &[Json] {
    value.as_array().unwrap()
}

/// A log of the file in a store of its own.
struct Stored {
    folder: tempfile::TempDir,
    file: Json,
    log: Json,
    store: ObjectBatchStore,
    stream: StreamId,
}

impl Stored {
    /// With its epochs and chunks, and no batch yet.
    async fn begin(name: &str) -> Self {
        let (folder, file) = (tempfile::tempdir().unwrap(), read());
        let log = list(&file["logs"]).iter().find(|log| log["name"] == name).unwrap().clone();
        let store =
            ObjectBatchStore::open(&StoreUrl::folder(&folder.path().join("store")).unwrap()).await.unwrap();
        let stream = file["stream"].as_str().unwrap().parse().unwrap();
        let stored = Self { folder, file, log, store, stream };
        for chunk in list(&stored.file["chunks"]) {
            let hash = chunk["hash"].as_str().unwrap().parse().unwrap();
            stored.put(Key::Chunk { stream, hash }, &chunk["stored"]).await;
        }
        for epoch in list(&stored.log["epochs"]) {
            let number = Epoch::new(epoch["epoch"].as_u64().unwrap()).unwrap();
            stored.put(Key::Epoch { stream, epoch: number }, &epoch["record"]).await;
        }
        stored
    }

    /// The same, with all batches.
    async fn whole(name: &str) -> Self {
        let stored = Self::begin(name).await;
        stored.put_batches(0..stored.batches()).await;
        stored
    }

    fn batches(&self) -> usize {
        list(&self.log["batches"]).len()
    }

    async fn put_batches(&self, which: std::ops::Range<usize>) {
        for batch in &list(&self.log["batches"])[which] {
            let first = Sequence::new(batch["first"].as_u64().unwrap()).unwrap();
            self.put(Key::Batch { stream: self.stream, first }, &batch["stored"]).await;
        }
    }

    async fn put(&self, key: Key, value: &Json) {
        self.store.put(&key, bytes(value).into()).await.unwrap();
    }

    /// A reader that knows these rules, with a replica of its own name.
    fn reader(&self, supported: Versions, replica: &str, mode: Mode) -> Config {
        let keys = list(&self.file["signers"]).iter();
        Config {
            store: StoreUrl::folder(&self.folder.path().join("store")).unwrap(),
            stream: Some(self.stream),
            replica: self.folder.path().join(replica),
            sequencer_keys: keys.map(|signer| signer["public"].as_str().unwrap().parse().unwrap()).collect(),
            poll_ms_max: 50,
            mode,
            supported,
            ..Config::default()
        }
    }

    /// What the whole log leads to.
    fn end(&self) -> End {
        let sequence = Sequence::new(self.log["end"]["size"].as_u64().unwrap()).ok();
        let state: StateHash = self.log["end"]["state"].as_str().unwrap().parse().unwrap();
        End { sequence, state: Some(state) }
    }
}

/// Which rules are found, and which the reader knows, by a halt that asks for an upgrade.
fn needed(cause: &HaltCause) -> (Sequence, Versions, Versions) {
    let HaltCause::UpgradeRequired { source: Refused::Batch(BatchError::Log { sequence, source }), .. } =
        cause
    else {
        panic!("{cause:?}")
    };
    let LogError::UpgradeRequired { found, supported } = source else { panic!("{source:?}") };
    (*sequence, *found, *supported)
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_adjacent_releases_replay_one_log_or_stop_at_the_epoch_that_is_newer() {
    let (mut replayed, mut stopped) = (0, 0);
    for log in list(&read()["logs"]) {
        let name = log["name"].as_str().unwrap();
        let stored = Stored::whole(name).await;
        for (number, reader) in list(&log["readers"]).iter().enumerate() {
            let supported = versions(&reader["supports"]);
            let config = stored.reader(supported, &format!("{number}.db"), Mode::Once);
            let Some(at) = reader["stops_at"].as_u64() else {
                assert_eq!(Running::start(config).end().await.unwrap(), stored.end(), "{name} {supported:?}");
                replayed += 1;
                continue;
            };
            let at = Sequence::new(at).unwrap();
            let (halt, cause) = halt(config).await;
            assert_eq!((halt.kind, halt.from), (HaltKind::UpgradeRequired, at), "{name} {supported:?}");
            assert_eq!(needed(&cause), (at, versions(&reader["found"]), supported), "{name}");
            for (name, found) in [
                ("protocol", versions(&reader["found"]).protocol),
                ("supported_protocol", supported.protocol),
            ] {
                assert!(halt.detail.contains(&format!("{name}=`{found}`")), "{}", halt.detail);
            }
            stopped += 1;
        }
    }
    assert!(replayed >= 6 && stopped >= 3, "{replayed} replayed, {stopped} stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_reader_stops_and_serves_what_it_has_and_goes_on_after_its_upgrade() {
    for name in ["protocol", "apply"] {
        let stored = Stored::begin(name).await;
        let [old, new] = [0, 1].map(|epoch| versions(&stored.log["epochs"][epoch]["versions"]));
        stored.put_batches(0..2).await;
        // Validators first: the new one runs beside the old one, before and while the leader is upgraded.
        let mut config = stored.reader(old, "old.db", Mode::Follow);
        config.listen = Some("127.0.0.1:0".parse().unwrap());
        let mut running = Running::start(config);
        let mut upgraded = Running::start(stored.reader(new, "new.db", Mode::Follow));
        let before = Sequence::new(stored.log["batches"][1]["last"].as_u64().unwrap()).unwrap();
        running.until_applied(before).await;
        upgraded.until_applied(before).await;
        stored.put_batches(2..stored.batches()).await;
        upgraded.until_applied(stored.end().sequence.unwrap()).await;
        assert_eq!(upgraded.stop().await.unwrap(), stored.end());

        running.until(|event| matches!(event, Event::Halted(_))).await;
        let (_, status) = running.get_json("/status").await;
        assert_eq!(
            (&status["sequence"], &status["halted"]["kind"], &status["halted"]["from"]),
            (&before.get().into(), &"upgrade_required".into(), &(before.get() + 1).into()),
        );
        let (status, found) = running.query(json!({"sql": "SELECT count(*) FROM t"})).await;
        assert_eq!(
            (status, &found["rows"][0][0], &found["sequence"]),
            (200, &3.into(), &before.get().into())
        );
        assert_eq!(running.get("/readyz").await.0, 503);
        assert!(matches!(running.stop().await, Err(ValidatorError::Halted { .. })));

        // Started again it says the same; upgraded it goes on from its file.
        let (again, _) = halt(stored.reader(old, "old.db", Mode::Once)).await;
        assert_eq!((again.kind, again.from), (HaltKind::UpgradeRequired, before.next().unwrap()));
        let mut resumed = Running::start(stored.reader(new, "old.db", Mode::Follow));
        let events = resumed.until_applied(stored.end().sequence.unwrap()).await;
        assert!(!events.iter().any(|event| matches!(event, Event::Restored { .. })), "{events:?}");
        assert_eq!(resumed.stop().await.unwrap(), stored.end());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_a_newer_release_kept_is_left_alone() {
    for name in ["protocol", "apply"] {
        let stored = Stored::whole(name).await;
        let [old, new] = [0, 1].map(|epoch| versions(&stored.log["epochs"][epoch]["versions"]));
        let once = |supported| Running::start(stored.reader(supported, "replica.db", Mode::Once));
        once(new).end().await.unwrap();
        let file = stored.folder.path().join("replica.db");
        let before = std::fs::read(&file).unwrap();
        let found = refused(once(old)).await;
        let ReplicaError::Newer { source, .. } = &found else { panic!("{found:?}") };
        assert_eq!(*source, LogError::UpgradeRequired { found: new, supported: old });
        assert!(ValidatorError::from(found).is_refusal());
        assert_eq!(std::fs::read(&file).unwrap(), before);
        assert_eq!(once(new).end().await.unwrap(), stored.end());
    }
}

/// What the vectors' log carries, captured anew; `SYNDDB_WRITE_CAPTURED` names a file to write it to, for the vectors to be made of.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_the_vectors_carries_what_is_captured() {
    let mut log = Log::begin(SETUP).await;
    let snapshot = snapshot(&mut log).await;
    let state = snapshot.state;
    let contents: Vec<Content> = LINES.iter().map(|sql| log.capture(sql).remove(0)).collect();
    let submissions: Vec<Submission> = contents
        .into_iter()
        .map(|content| Submission { stream: STREAM, incarnation: snapshot.incarnation, content })
        .collect();
    if let Some(file) = std::env::var_os("SYNDDB_WRITE_CAPTURED") {
        let hex = |bytes: Vec<u8>| format!("0x{}", hex::encode(bytes));
        let mut chunks = Vec::new();
        for chunk in &snapshot.chunks {
            let stored =
                log.store.get(&Key::Chunk { stream: STREAM, hash: chunk.hash }).await.unwrap().unwrap();
            chunks.push(json!({"hash": chunk.hash.to_string(), "stored": hex(stored.to_vec())}));
        }
        let captured = json!({
            "chunks": chunks,
            "snapshot": hex(snapshot.to_bytes()),
            "submissions": submissions.iter().map(|one| hex(one.to_bytes())).collect::<Vec<_>>(),
        });
        std::fs::write(file, serde_json::to_string_pretty(&captured).unwrap() + "\n").unwrap();
    }
    // Pages may differ with SQLite's version; what the database is, and what its commits change, does not.
    let file = read();
    let kept = Snapshot::from_bytes(&bytes(&file["snapshot"])).unwrap();
    assert_eq!((kept.state, kept.incarnation, kept.place), (state, snapshot.incarnation, snapshot.place));
    let changes = |content: &Content| match content {
        Content::Commits(commits) => commits.first().changes.clone(),
        Content::Part(part) => panic!("{part:?}"),
    };
    let vectors = list(&file["submissions"]);
    assert_eq!(vectors.len(), submissions.len());
    for (kept, captured) in vectors.iter().zip(&submissions) {
        let kept = Submission::from_bytes(&bytes(kept)).unwrap();
        assert_eq!(changes(&kept.content), changes(&captured.content));
    }
    assert_eq!(log.state().to_string(), file["logs"][0]["end"]["state"]);
}

/// The snapshot that begins the log.
async fn snapshot(log: &mut Log) -> Snapshot {
    let stored = log.store.get(&super::log::batch_key(1)).await.unwrap().unwrap();
    let batch = synddb_protocol::log::Batch::from_stored(&stored).unwrap();
    let message = batch.messages()[1].clone();
    let kind = message.receipt.header().message_type;
    let body = synddb_protocol::log::Body::read(kind, message.body, synddb_protocol::limits::BODY_BYTES_MAX)
        .unwrap();
    let Entry::Snapshot(snapshot) = body.into_entry() else { panic!("another entry") };
    snapshot
}

/// A replica's rows are what SQLite says they are, also after a release changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_goes_back_to_older_rules_is_followed() {
    let stored = Stored::whole("back").await;
    let newer = versions(&stored.log["epochs"][0]["versions"]);
    let end = Running::start(stored.reader(newer, "replica.db", Mode::Once)).end().await.unwrap();
    assert_eq!(end, stored.end());
    let replica = rusqlite::Connection::open(stored.folder.path().join("replica.db")).unwrap();
    let rows: String =
        replica.query_row("SELECT group_concat(v || ':' || note, ' ') FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, "1:new TWO:new 3.5:new");
    // Whoever knows only the older rules joins behind them, as soon as it has a replica that stands there.
    let older = versions(&stored.log["epochs"][1]["versions"]);
    let end = Running::start(stored.reader(older, "replica.db", Mode::Once)).end().await.unwrap();
    assert_eq!(end, stored.end());
}
