//! Files that are not ours, or not ours alone; configurations that cannot be run.

use std::fs;

use synddb_protocol::id::StreamId;
use synddb_sqlite::rusqlite;
use synddb_validator::{ConfigProblem, Event, Mode, ReplicaError, ValidatorError};

use super::log::{Log, key};
use super::running::{Running, rebuild};

const SETUP: &str = "CREATE TABLE t(a); INSERT INTO t VALUES(1)";

/// What is said of a replica that cannot be used.
pub(crate) async fn refused(running: Running) -> ReplicaError {
    match running.end().await {
        Err(ValidatorError::Replica(error)) => *error,
        ended => panic!("{ended:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_database_is_left_alone() {
    let log = Log::begin(SETUP).await;
    rusqlite::Connection::open(log.replica()).unwrap().execute_batch("CREATE TABLE mine(a)").unwrap();
    let before = fs::read(log.replica()).unwrap();
    let found = refused(Running::start(log.config(Mode::Once))).await;
    assert!(matches!(found, ReplicaError::NotOurs { .. }), "{found:?}");
    assert_eq!(fs::read(log.replica()).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_another_stream_is_left_alone() {
    let log = Log::begin(SETUP).await;
    rebuild(&log).await;
    let mut config = log.config(Mode::Once);
    config.stream = Some(StreamId::from_bytes([1; 32]));
    let found = refused(Running::start(config)).await;
    assert!(matches!(found, ReplicaError::ForeignStream { .. }), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_no_pinned_key_signed_is_not_believed() {
    let log = Log::begin(SETUP).await;
    rebuild(&log).await;
    let mut config = log.config(Mode::Once);
    config.sequencer_keys = vec![*key(9).verifying_key()];
    let found = refused(Running::start(config)).await;
    assert!(matches!(found, ReplicaError::Untrusted { .. }), "{found:?}");
    rusqlite::Connection::open(log.replica())
        .unwrap()
        .execute_batch("UPDATE _synddb_position SET checkpoint = x'00'")
        .unwrap();
    let found = refused(Running::start(log.config(Mode::Once))).await;
    assert!(matches!(found, ReplicaError::Position { .. }), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_keeps_a_replica() {
    let log = Log::begin(SETUP).await;
    let mut running = Running::start(log.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let found = refused(Running::start(log.config(Mode::Once))).await;
    assert!(matches!(found, ReplicaError::InUse { .. }), "{found:?}");
    running.stop().await.unwrap();
    rebuild(&log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_restore_left_is_taken_away() {
    let log = Log::begin(SETUP).await;
    let staging = log.folder.path().join("replica.db.restoring");
    fs::create_dir(&staging).unwrap();
    for name in ["replica.db", "replica.db-journal", "replica.db.restoring"] {
        fs::write(staging.join(name), "half of something").unwrap();
    }
    rebuild(&log).await;
    assert!(!staging.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_may_read_the_replica() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut log = Log::begin(SETUP).await;
    let mut running = Running::start(log.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    log.run("INSERT INTO t VALUES(2)");
    let last = log.publish().await;
    running.until_applied(last).await;
    for name in ["replica.db", "replica.db-wal", "replica.db-shm", "replica.db.lock"] {
        let mode = fs::metadata(log.folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_run_says_how_to_mend_it() {
    let log = Log::begin(SETUP).await;
    let good = log.config(Mode::Once);
    let refused = async |edit: fn(&mut synddb_validator::Config)| {
        let mut config = good.clone();
        edit(&mut config);
        match Running::start(config).end().await {
            Err(ValidatorError::Config(problem)) => problem,
            ended => panic!("{ended:?}"),
        }
    };
    assert_eq!(refused(|config| config.stream = None).await, ConfigProblem::NoStream);
    assert_eq!(refused(|config| config.sequencer_keys.clear()).await, ConfigProblem::NoKeys);
    assert_eq!(
        refused(|config| config.query.rows_max = 0).await,
        ConfigProblem::Zero { key: "query.rows_max" }
    );
    let url = "unix:/socket".to_owned();
    assert_eq!(
        refused(|config| config.sequencer = Some("unix:/socket".to_owned())).await,
        ConfigProblem::Sequencer { url }
    );
    assert!(matches!(refused(|config| config.replica = "/".into()).await, ConfigProblem::NoFile { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_for_long_is_waited_for() {
    let mut log = Log::begin(SETUP).await;
    let mut running = Running::start(log.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let writer = rusqlite::Connection::open(log.replica()).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    log.run("INSERT INTO t VALUES(2)");
    let last = log.publish().await;
    writer.execute_batch("ROLLBACK").unwrap();
    running.until_applied(last).await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_moved_away_alone_is_fetched_again_whole() {
    let mut log = Log::begin(SETUP).await;
    let mut running = Running::start(log.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    log.run("INSERT INTO t VALUES(2)");
    let last = log.publish().await;
    running.until_applied(last).await;
    let beside = |suffix: &str| log.folder.path().join(format!("replica.db{suffix}"));
    // As a killed process leaves them: pages of the old file, which SQLite would write into the new one.
    let old = ["-wal", "-shm"].map(|suffix| (beside(suffix), fs::read(beside(suffix)).unwrap()));
    assert!(!old[0].1.is_empty());
    running.stop().await.unwrap();
    fs::remove_file(log.replica()).unwrap();
    for (file, bytes) in &old {
        fs::write(file, bytes).unwrap();
    }
    log.run("CREATE TABLE more AS SELECT hex(randomblob(2000)) AS b FROM t; INSERT INTO t VALUES(3)");
    log.publish().await;
    rebuild(&log).await;
    rebuild(&log).await;
}
