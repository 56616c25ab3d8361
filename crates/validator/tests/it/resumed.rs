//! What is done after a divergence: the replica is fetched again, or it goes on behind a gap that somebody accepts.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use synddb_protocol::hash::StateHash;
use synddb_protocol::http::{Gap, Halt, HaltKind};
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::submission::StateClaim;
use synddb_sqlite::name::beside;
use synddb_sqlite::rusqlite;
use synddb_validator::{End, Event, Mode, ReplicaError, Report, Start, StartError, ValidatorError};

use super::audited::shell;
use super::halted::{edited, halt};
use super::log::{Log, batch_key};
use super::running::{Running, client, equal, rebuild};
use super::traced;

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES(1), (2)";

fn report(log: &Log) -> PathBuf {
    beside(&log.replica(), ".divergence.json")
}

pub(crate) fn resume(log: &Log) -> Start {
    Start::Resume { report: report(log) }
}

async fn once(log: &Log, start: Start) -> Result<End, ValidatorError> {
    Running::start_as(start, log.config(Mode::Once)).end().await
}

/// A log with a commit that applies for nobody: its claim is wrong. Returns the message.
pub(crate) async fn diverge(log: &mut Log) -> Sequence {
    diverge_by(log, "INSERT INTO t(v) VALUES('wrong')").await
}

/// The same by a commit of one's own.
pub(crate) async fn diverge_by(log: &mut Log, sql: &str) -> Sequence {
    let content = log.capture(sql).remove(0);
    let state = StateHash::from_bytes([9; 32]);
    log.submit_edited(edited(&content, |commit| commit.state = Some(StateClaim { state, scanned: None })));
    log.publish().await
}

fn number(sequence: Sequence) -> i64 {
    sequence.get().cast_signed()
}

/// The gaps in the file.
fn gaps(log: &Log) -> Vec<(i64, i64, Option<i64>)> {
    let sqlite = rusqlite::Connection::open(log.replica()).unwrap();
    let sql = "SELECT from_sequence, after_sequence, to_sequence FROM _synddb_gaps ORDER BY number";
    let mut statement = sqlite.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_replica_is_fetched_again() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    log.publish().await;
    rebuild(&log).await;
    let kept = |sequence: u64| beside(&log.replica(), &format!(".diverged-{sequence}"));
    // One that was kept before makes room; what only looks like one stays.
    fs::write(kept(1), "old").unwrap();
    fs::write(beside(&log.replica(), ".diverged-mine"), "mine").unwrap();
    shell(&log.replica(), "UPDATE t SET v = 'forged' WHERE id = 1");
    halt(log.config(Mode::Once)).await;
    assert!(report(&log).exists());
    let end = once(&log, Start::Resync { discard: false }).await.unwrap();
    assert_eq!(end.sequence, Some(log.last()));
    equal(&log);
    assert!(!report(&log).exists() && !kept(1).exists());
    assert!(beside(&log.replica(), ".diverged-mine").exists());
    let sqlite = rusqlite::Connection::open(kept(3)).unwrap();
    let forged: String = sqlite.query_row("SELECT v FROM t WHERE id = 1", [], |row| row.get(0)).unwrap();
    assert_eq!(forged, "forged");
    drop(sqlite);
    shell(&log.replica(), "DELETE FROM t");
    once(&log, Start::Resync { discard: true }).await.unwrap();
    equal(&log);
    assert!(kept(3).exists(), "only what is replaced is removed");
    // Where nothing is, it is made.
    fs::remove_file(log.replica()).unwrap();
    once(&log, Start::Resync { discard: false }).await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_fetched_again_under_a_validator_also_a_halted_one() {
    let log = Log::begin(SETUP).await;
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let is_refused = async || {
        let ended = once(&log, Start::Resync { discard: true }).await;
        let Err(ValidatorError::Replica(error)) = ended else { panic!("{ended:?}") };
        assert!(matches!(*error, ReplicaError::InUse { .. }), "{error:?}");
    };
    is_refused().await;
    shell(&log.replica(), "DELETE FROM t");
    running.until(|event| matches!(event, Event::Halted(_))).await;
    is_refused().await;
    running.stop().await.unwrap_err();
    once(&log, Start::Resync { discard: true }).await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_no_replica_is_not_moved_away() {
    let log = Log::begin(SETUP).await;
    shell(&log.replica(), "CREATE TABLE mine(a)");
    let ended = once(&log, Start::Resync { discard: true }).await;
    let Err(ValidatorError::Replica(error)) = ended else { panic!("{ended:?}") };
    assert!(matches!(*error, ReplicaError::NotOurs { .. }), "{error:?}");
    assert!(log.replica().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_log_diverges_a_rebuilt_replica_halts_at_the_same_message() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    log.publish().await;
    let wrong = diverge(&mut log).await;
    let (first, _) = halt(log.config(Mode::Once)).await;
    assert_eq!((first.kind, first.from, first.to), (HaltKind::Divergence, wrong, wrong));
    assert_eq!(first.difference.as_deref().unwrap().sequence, wrong);
    assert!(!first.detail.contains("resume"));
    let ended = once(&log, Start::Resync { discard: true }).await;
    let Err(ValidatorError::Halted { halt, .. }) = ended else { panic!("{ended:?}") };
    let Halt { detail, .. } = &halt;
    assert_eq!(halt.from, wrong);
    assert!(
        detail.contains("resume --after-divergence") && detail.contains("replica.db.divergence.json"),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_gap_it_goes_on_from_a_snapshot_after_a_commit() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    let good = log.publish().await;
    // One before the divergence is no place to go on from.
    log.snapshot_after().await;
    log.publish().await;
    let wrong = diverge(&mut log).await;
    log.run("CREATE TABLE u(a); INSERT INTO u VALUES('not applied by itself')");
    log.publish().await;
    let (halted, _) = halt(log.config(Mode::Once)).await;
    assert_eq!(halted.from, wrong);
    let id = Report::read(&report(&log)).unwrap().id;

    // No later snapshot: said once, and kept in the replica.
    for start in [resume(&log), Start::GoOn] {
        let ended = once(&log, start).await;
        let Err(ValidatorError::NoSnapshot { from, after }) = ended else { panic!("{ended:?}") };
        assert_eq!((from, after), (wrong, log.last()));
    }
    assert_eq!(gaps(&log), [(number(wrong), number(wrong), None)]);
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let (_, status) = running.get_json("/status").await;
    let open = Gap { report: id.clone(), from: wrong, to: None };
    assert_eq!((&status["gaps"], &status["halted"]), (&serde_json::json!([open]), &Value::Null));
    assert_eq!(status["sequence"].as_u64(), Some(good.get() + 1), "what was before the gap is what it was");
    assert_eq!(running.get("/readyz").await.0, 503);
    let url = running.url("/audit").await;
    let audited = client().post(url).send().await.unwrap();
    assert_eq!(audited.status().as_u16(), 503);
    assert!(audited.text().await.unwrap().contains("a gap is open; a later snapshot is waited for"));

    // In the middle of a batch, with commits before and behind it.
    log.run("INSERT INTO u VALUES('in the snapshot')");
    log.snapshot_after().await;
    let snapshot = log.last();
    log.run("INSERT INTO t(v) VALUES('behind')");
    let last = log.publish().await;
    let events = running.until_applied(last).await;
    assert!(events.iter().any(|event| matches!(event, Event::Restored { .. })), "{events:?}");
    equal(&log);
    let (_, status) = running.get_json("/status").await;
    let closed = Gap { to: Some(snapshot), ..open };
    assert_eq!((&status["gaps"], &status["sequence"]), (&serde_json::json!([closed]), &last.get().into()));
    assert_eq!(running.get("/readyz").await.0, 200);
    assert!(!report(&log).exists());
    running.stop().await.unwrap();

    // For ever: over a restart, and over a new incarnation that replaces the whole file.
    log.run("INSERT INTO t(v) VALUES('later')");
    log.publish().await;
    rebuild(&log).await;
    log.begin_anew("copy.db", "CREATE TABLE n(a); INSERT INTO n VALUES(1)").await;
    log.publish().await;
    rebuild(&log).await;
    assert_eq!(gaps(&log), [(number(wrong), number(wrong), Some(number(snapshot)))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_gap_it_goes_on_from_a_new_incarnation() {
    let mut log = Log::begin(SETUP).await;
    let wrong = diverge(&mut log).await;
    halt(log.config(Mode::Once)).await;
    log.begin_anew("copy.db", "CREATE TABLE n(a); INSERT INTO n VALUES(1)").await;
    log.run("INSERT INTO n VALUES(2)");
    log.publish().await;
    assert_eq!(once(&log, resume(&log)).await.unwrap().sequence, Some(log.last()));
    equal(&log);
    assert_eq!(gaps(&log)[0].0, number(wrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_replica_may_go_on_behind_a_gap_too_and_shows_nothing_before() {
    let mut log = Log::begin(SETUP).await;
    let stood = log.last();
    rebuild(&log).await;
    shell(&log.replica(), "UPDATE t SET v = 'forged'");
    halt(log.config(Mode::Once)).await;
    log.run("INSERT INTO t(v) VALUES('in the gap')");
    log.publish().await;
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    traced::listen();
    let mut running = Running::start_as(resume(&log), config);
    running.until(|event| matches!(event, Event::Listening { .. })).await;
    let warned = traced::warned_of(&fs::canonicalize(log.replica()).unwrap());
    assert!(warned.iter().any(|line| line.contains("resync` loses nothing")), "{warned:?}");
    let (_, status) = running.get_json("/status").await;
    assert_eq!(status["sequence"], Value::Null, "{status}");
    log.snapshot_after().await;
    let last = log.publish().await;
    running.until_applied(last).await;
    running.stop().await.unwrap();
    let warned = traced::warned_of(&fs::canonicalize(log.replica()).unwrap());
    assert!(warned.iter().any(|line| line.contains("a gap is accepted, and the replica")), "{warned:?}");
    assert!(!warned.iter().any(|line| line.contains("resync` to fetch")), "{warned:?}");
    equal(&log);
    assert_eq!(gaps(&log), [(number(stood) + 1, number(stood), Some(number(last)))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_verified_although_nothing_of_it_is_applied() {
    let mut log = Log::begin(SETUP).await;
    diverge(&mut log).await;
    halt(log.config(Mode::Once)).await;
    log.run("INSERT INTO t(v) VALUES('in the gap')");
    let first = log.publish().await;
    log.snapshot_after().await;
    log.publish().await;
    let file = log.object(&batch_key(first.get()));
    let mut stored = fs::read(&file).unwrap();
    let middle = stored.len() / 2;
    stored[middle] ^= 1;
    fs::write(&file, &stored).unwrap();
    let ended = once(&log, resume(&log)).await;
    let Err(ValidatorError::Halted { halt, .. }) = ended else { panic!("{ended:?}") };
    assert_eq!(halt.kind, HaltKind::Refused);
    stored[middle] ^= 1;
    fs::write(&file, &stored).unwrap();
    once(&log, Start::GoOn).await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_divergence_before_the_replica_went_on_makes_the_gap_longer() {
    let mut log = Log::begin(SETUP).await;
    let wrong = diverge(&mut log).await;
    halt(log.config(Mode::Once)).await;
    log.run("INSERT INTO t(v) VALUES('in the gap')");
    // The snapshot comes, and the next commit of the same batch is wrong again.
    log.snapshot_after().await;
    let again = diverge(&mut log).await;
    let ended = once(&log, resume(&log)).await;
    let Err(ValidatorError::Halted { halt, .. }) = ended else { panic!("{ended:?}") };
    assert_eq!((halt.from, halt.difference.as_deref().unwrap().sequence), (wrong, again));
    log.run("INSERT INTO t(v) VALUES('still in the gap')");
    log.snapshot_after().await;
    log.publish().await;
    once(&log, resume(&log)).await.unwrap();
    equal(&log);
    assert_eq!(gaps(&log), [(number(wrong), number(again), Some(number(log.last())))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_another_halt_is_refused() {
    let mut log = Log::begin(SETUP).await;
    diverge(&mut log).await;
    halt(log.config(Mode::Once)).await;
    let good = fs::read_to_string(report(&log)).unwrap();
    let start_error = async || match once(&log, resume(&log)).await {
        Err(ValidatorError::Start(error)) => *error,
        ended => panic!("{ended:?}"),
    };
    let edit = |field: &str, value: Value| {
        let mut edited: Value = serde_json::from_str(&good).unwrap();
        edited[field] = value;
        fs::write(report(&log), edited.to_string()).unwrap();
    };
    edit("stream", StreamId::from_bytes([1; 32]).to_string().into());
    assert!(matches!(start_error().await, StartError::ForeignStream { .. }));
    edit("sequence", 1.into());
    assert!(matches!(start_error().await, StartError::AnotherHalt { .. }));
    edit("state", StateHash::from_bytes([7; 32]).to_string().into());
    assert!(matches!(start_error().await, StartError::AnotherHalt { .. }));
    edit("version", 2.into());
    assert!(matches!(start_error().await, StartError::Report { .. }));
    fs::remove_file(report(&log)).unwrap();
    assert!(matches!(start_error().await, StartError::Report { .. }));
    fs::write(report(&log), good).unwrap();
    fs::rename(log.replica(), log.folder.path().join("away.db")).unwrap();
    assert!(matches!(start_error().await, StartError::NoReplica { .. }));
}
