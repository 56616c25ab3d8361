//! A replica that is rebuilt stays where it is until the rebuilt one can take its place.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use synddb_protocol::http::HaltKind;
use synddb_sqlite::name::beside;
use synddb_sqlite::rusqlite;
use synddb_storage::StoreUrl;
use synddb_validator::{Config, End, Event, Mode, ReplicaError, Start, StartError, ValidatorError};

use super::audited::shell;
use super::halted::halt;
use super::log::{Log, batch_key, key};
use super::running::{Running, equal, rebuild};

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES(1), (2)";
const RESYNC: Start = Start::Resync { discard: false };

async fn start(config: Config, start: Start) -> Result<End, ValidatorError> {
    Running::start_as(start, config).end().await
}

/// A log with a replica of it that somebody wrote into, which was found.
async fn forged(value: &str) -> Log {
    let log = Log::begin(SETUP).await;
    rebuild(&log).await;
    forge(&log, value).await;
    log
}

async fn forge(log: &Log, value: &str) {
    shell(&log.replica(), &format!("UPDATE t SET v = '{value}' WHERE id = 1"));
    assert_eq!(halt(log.config(Mode::Once)).await.0.kind, HaltKind::Divergence);
}

fn value(file: &PathBuf) -> String {
    let sqlite =
        rusqlite::Connection::open_with_flags(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    sqlite.query_row("SELECT CAST(v AS TEXT) FROM t WHERE id = 1", [], |row| row.get(0)).unwrap()
}

/// The copies that are kept of a replica.
fn kept(log: &Log) -> Vec<String> {
    let entries = fs::read_dir(log.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<_> = names
        .filter(|name| name.contains(".diverged-") || name.contains(".replaced-"))
        .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_that_is_refused_has_changed_nothing() {
    let log = forged("forged").await;
    let elsewhere = |name: &str| StoreUrl::folder(&log.folder.path().join(name)).unwrap();
    let untouched = |what: &str| {
        assert_eq!(value(&log.replica()), "forged", "{what}");
        assert_eq!(kept(&log), Vec::<String>::new(), "{what}");
    };
    for discard in [true, false] {
        let resync = Start::Resync { discard };
        let config = Config { store: elsewhere("nonexist"), ..log.config(Mode::Once) };
        let ended = start(config, resync.clone()).await;
        assert!(matches!(ended, Err(ValidatorError::Open(_))), "{ended:?}");
        untouched("no store");

        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config { listen: Some(taken.local_addr().unwrap()), ..log.config(Mode::Once) };
        let ended = start(config, resync.clone()).await;
        assert!(matches!(ended, Err(ValidatorError::Listen { .. })), "{ended:?}");
        untouched("no port");

        let keys_file = Some(log.folder.path().join("no keys"));
        let config = Config { keys_file, sequencer_keys: Vec::new(), ..log.config(Mode::Once) };
        let ended = start(config, resync.clone()).await;
        assert!(matches!(ended, Err(ValidatorError::Keys(_))), "{ended:?}");
        untouched("no keys");

        fs::create_dir_all(log.folder.path().join("empty")).unwrap();
        let config = Config { store: elsewhere("empty"), ..log.config(Mode::Once) };
        let ended = start(config, resync.clone()).await;
        let Err(error) = ended else { panic!("{ended:?}") };
        assert!(error.is_refusal());
        let ValidatorError::Start(cause) = error else { panic!("{error:?}") };
        assert!(matches!(*cause, StartError::NothingStored { .. }), "{cause:?}");
        untouched("nothing stored");

        // Nobody who is trusted signed it.
        let other = *key(3).verifying_key();
        let config = Config { sequencer_keys: vec![other], ..log.config(Mode::Once) };
        let ended = start(config, resync.clone()).await;
        assert!(matches!(ended, Err(ValidatorError::Halted { .. })), "{ended:?}");
        untouched("another key");

        // A snapshot that cannot be restored.
        let chunks = log.object(&batch_key(1)).parent().unwrap().with_file_name("chunks");
        let away = log.folder.path().join("away");
        fs::rename(&chunks, &away).unwrap();
        let ended = start(log.config(Mode::Once), resync).await;
        assert!(matches!(ended, Err(ValidatorError::Halted { .. })), "{ended:?}");
        fs::rename(&away, &chunks).unwrap();
        untouched("no chunks");
    }
    // Whoever waits for a store has changed nothing either, and shows nothing.
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let config = Config { store: elsewhere("nonexist"), listen, ..log.config(Mode::Follow) };
    let mut waiting = Running::start_as(Start::Resync { discard: true }, config);
    waiting.until(|event| matches!(event, Event::Listening { .. })).await;
    assert_eq!(waiting.get("/tables").await.0, 503);
    waiting.stop().await.unwrap();
    untouched("a store that is waited for");
    start(log.config(Mode::Once), RESYNC).await.unwrap();
    equal(&log);
    assert_eq!(kept(&log), [format!("replica.db.diverged-{}", log.last())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_diverged_is_kept_until_something_else_diverged() {
    let mut log = forged("first").await;
    let first = format!("replica.db.diverged-{}", log.last());
    start(log.config(Mode::Once), RESYNC).await.unwrap();
    assert_eq!(kept(&log), std::slice::from_ref(&first));
    // Nobody found that this one differs.
    for _ in 0..2 {
        log.run("INSERT INTO t(v) VALUES(3)");
        log.publish().await;
        rebuild(&log).await;
        start(log.config(Mode::Once), RESYNC).await.unwrap();
        equal(&log);
        assert_eq!(kept(&log), [first.clone(), format!("replica.db.replaced-{}", log.last())]);
    }
    assert_eq!(value(&log.folder.path().join(&first)), "first");
    let replaced = format!("replica.db.replaced-{}", log.last());
    start(log.config(Mode::Once), Start::Resync { discard: true }).await.unwrap();
    assert_eq!(kept(&log), [first, replaced.clone()]);
    forge(&log, "second").await;
    start(log.config(Mode::Once), RESYNC).await.unwrap();
    let second = format!("replica.db.diverged-{}", log.last());
    assert_eq!(kept(&log), [second.clone(), replaced]);
    assert_eq!(value(&log.folder.path().join(second)), "second");
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_while_a_replica_is_replaced_leaves_one_or_the_copy() {
    let log = forged("forged").await;
    // Before the snapshot is whole: the old one is there, and says what it said.
    let staged = beside(&log.replica(), ".restoring");
    fs::create_dir(&staged).unwrap();
    fs::write(staged.join("replica.db"), "half").unwrap();
    assert_eq!(halt(log.config(Mode::Once)).await.0.kind, HaltKind::Divergence);
    assert!(!staged.exists());
    assert_eq!(value(&log.replica()), "forged");
    // Between the two names: it is made as if there had been none, and the copy stays.
    let copy = beside(&log.replica(), &format!(".diverged-{}", log.last()));
    fs::create_dir(&staged).unwrap();
    fs::rename(log.replica(), &copy).unwrap();
    for suffix in ["-wal", "-shm"] {
        fs::rename(beside(&log.replica(), suffix), beside(&copy, suffix)).ok();
    }
    rebuild(&log).await;
    assert_eq!(value(&copy), "forged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_position_is_damaged_is_told_of_resync_which_mends_it() {
    let log = Log::begin(SETUP).await;
    rebuild(&log).await;
    shell(&log.replica(), "UPDATE _synddb_position SET checkpoint = x'00'");
    let ended = start(log.config(Mode::Once), Start::GoOn).await;
    let Err(ValidatorError::Replica(error)) = &ended else { panic!("{ended:?}") };
    assert!(matches!(**error, ReplicaError::Position { .. }), "{error:?}");
    assert!(error.to_string().contains("run `synddb validator resync`"), "{error}");
    start(log.config(Mode::Once), RESYNC).await.unwrap();
    equal(&log);
}
