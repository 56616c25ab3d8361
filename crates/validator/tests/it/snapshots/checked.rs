//! What came before a snapshot is checked afterwards, and the replica is told.

use synddb_protocol::http::ReplicaStatus;
use synddb_service::shutdown::Shutdown;
use synddb_validator::fsck::{Problem, Question, ReplicaBegan, Report, run};
use synddb_validator::{Config, Event, Mode};

use super::*;

/// `verify --of`, with the rules of that replica.
pub(crate) async fn verify(
    log: &Log,
    replica: &Path,
    full: bool,
    rules: Option<&Path>,
) -> Result<Report, Problem> {
    let scratch = tempfile::tempdir().unwrap();
    let config = log.config(Mode::Once);
    let question = Question {
        store: config.store,
        stream: config.stream,
        keys: config.sequencer_keys,
        rebuild_in: full.then(|| scratch.path().to_owned()),
        replica: Some(replica.to_owned()),
        rules: rules.map(Path::to_owned),
    };
    run(question, Shutdown::new(), |_| ()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_replica_is_told_that_what_came_before_is_checked() {
    let mut log = Log::begin(SETUP).await;
    log.run(GROW);
    log.publish().await;
    let at = take(&log).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    log.publish().await;
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let config = Config { mode: Mode::Follow, listen, ..beginning(&log, "begun.db") };
    let replica = config.replica.clone();
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    // Without the database nothing is told: that only says that the log is signed.
    assert_eq!(verify(&log, &replica, false, None).await.unwrap().replica, None);
    assert!(started(&replica).is_some());
    let report = verify(&log, &replica, true, None).await.unwrap();
    assert_eq!(report.replica, Some(ReplicaBegan::Checked { sequence: at, violations: 0 }));
    assert_eq!((report.size, report.state), (log.last(), Some(log.state())));
    assert_eq!(started(&replica), None);
    // It notices by itself.
    let deadline = std::time::Instant::now() + super::super::running::PATIENCE;
    loop {
        let status: ReplicaStatus = serde_json::from_value(running.get_json("/status").await.1).unwrap();
        assert!(status.halted.is_none(), "{status:?}");
        if status.started_from.is_none() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{status:?}");
        tokio::task::yield_now().await;
    }
    log.run("INSERT INTO t(v) VALUES(4)");
    let last = log.publish().await;
    running.until_applied(last).await;
    running.stop().await.unwrap();
    let again = verify(&log, &replica, true, None).await.unwrap();
    assert_eq!(again.replica, Some(ReplicaBegan::AtTheFirst));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_of_another_log_or_of_no_replica() {
    let mut log = Log::begin(SETUP).await;
    let at = take(&log).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    log.publish().await;
    begin(&log, "begun.db").await;
    let replica = log.folder.path().join("begun.db");
    // The same stream and key, and another history.
    let mut other = Log::begin("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").await;
    for _ in 0..3 {
        other.run("INSERT INTO t(v) VALUES(5)");
        other.publish().await;
    }
    let refused = verify(&other, &replica, true, None).await;
    assert!(
        matches!(refused, Err(Problem::BeganElsewhere { sequence, .. }) if sequence == at),
        "{refused:?}"
    );
    assert_eq!(started(&replica).map(|(sequence, _)| sequence), Some(at));
    let app = Path::new(log.app.path().unwrap());
    for none in [app, &log.folder.path().join("nothing.db")] {
        let refused = verify(&log, none, true, None).await;
        assert!(matches!(refused, Err(Problem::NoReplica { .. })), "{refused:?}");
    }
}
