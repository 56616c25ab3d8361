//! What stops a validator for good: each typed, each naming what is missing, each with everything before it in the replica.

use std::fs;

use synddb_protocol::hash::StateHash;
use synddb_protocol::http::{Halt, HaltKind};
use synddb_protocol::id::{CommitNumber, Sequence};
use synddb_protocol::log::BatchError;
use synddb_protocol::signing::SignatureError;
use synddb_protocol::state::Value;
use synddb_protocol::submission::{Commit, Commits, Content, StateClaim};
use synddb_service::shutdown::Shutdown;
use synddb_sqlite::apply::{self, ApplyError, SubmissionError};
use synddb_sqlite::changeset::{Table, write_table, write_update};
use synddb_sqlite::rusqlite;
use synddb_storage::faulty::{Faults, FaultyStore};
use synddb_storage::{BatchStore as _, Key};
use synddb_validator::{Config, Divergence, Event, HaltCause, Mode, Refused, ValidatorError};

use super::log::{Log, STREAM, batch_key, key};
use super::running::{Running, equal, rebuild};

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES(1), (2)";

/// Runs to the halt.
pub(crate) async fn halt(config: Config) -> (Halt, HaltCause) {
    match Running::start(config).end().await {
        Err(ValidatorError::Halted { halt, source }) => (halt, *source),
        ended => panic!("it did not halt: {ended:?}"),
    }
}

pub(crate) fn sequence(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

/// Changes the one commit of a submission.
pub(crate) fn edited(content: &Content, edit: impl FnOnce(&mut Commit)) -> Content {
    let Content::Commits(commits) = content else { panic!("a part") };
    let mut commit = commits.first().clone();
    edit(&mut commit);
    Content::Commits(Commits::new(vec![commit]).unwrap())
}

/// Where the replica stands by its own position.
fn stands(log: &Log) -> Sequence {
    super::rebuilt::position(&rusqlite::Connection::open(log.replica()).unwrap()).0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_batch_is_refused_whatever_byte_it_is() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES('three')");
    log.publish().await;
    let good = stands_at(&mut log).await;
    log.run("INSERT INTO t(v) VALUES('four')");
    let first = log.publish().await;
    let file = log.object(&batch_key(first.get()));
    let stored = fs::read(&file).unwrap();
    for at in (0..stored.len()).step_by(stored.len() / 20).chain([stored.len() - 1]) {
        let mut tampered = stored.clone();
        tampered[at] ^= 0x20;
        fs::write(&file, &tampered).unwrap();
        let (halt, cause) = halt(log.config(Mode::Once)).await;
        assert_eq!((halt.kind, halt.from), (HaltKind::Refused, first), "byte {at}: {halt:?}");
        assert!(
            matches!(cause, HaltCause::Refused { source: Refused::Batch(_), .. }),
            "byte {at}: {cause:?}"
        );
        assert_eq!(stands(&log), good);
    }
    fs::write(&file, &stored[..stored.len() / 2]).unwrap();
    assert_eq!(halt(log.config(Mode::Once)).await.0.kind, HaltKind::Refused);
    // It was the object, and not the log.
    fs::write(&file, &stored).unwrap();
    rebuild(&log).await;
}

async fn stands_at(log: &mut Log) -> Sequence {
    rebuild(log).await.sequence.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_pinned_leads_nothing() {
    let log = Log::begin(SETUP).await;
    let mut config = log.config(Mode::Once);
    config.sequencer_keys = vec![*key(9).verifying_key()];
    let (halt, cause) = halt(config).await;
    assert_eq!((halt.kind, halt.from, halt.to), (HaltKind::Refused, sequence(1), sequence(2)));
    let HaltCause::Refused { source: Refused::Batch(BatchError::CheckpointSignature(source)), .. } = cause
    else {
        panic!("{cause:?}")
    };
    assert_eq!(source, SignatureError::UntrustedKey { key: key(1).id() });
    assert!(!log.replica().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_a_stranger_names_is_not_looked_for() {
    let mut log = Log::begin(SETUP).await;
    for epoch in 2..=20 {
        log.waste(epoch).await;
    }
    log.forge(21, 9).await;
    let faults = Faults::new(|| 0);
    let store = FaultyStore::new(std::sync::Arc::clone(&log.store), faults.clone());
    let ended = Running::start_over(std::sync::Arc::new(store), log.config(Mode::Once)).end().await;
    let Err(ValidatorError::Halted { source, .. }) = ended else { panic!("{ended:?}") };
    let HaltCause::Refused { source: Refused::Batch(BatchError::CheckpointSignature(source)), .. } = *source
    else {
        panic!("{source:?}")
    };
    assert_eq!(source, SignatureError::UntrustedKey { key: key(9).id() });
    // Two batches and a look for a third one, the first epoch, the chunks of the snapshot.
    assert!(faults.requests().get < 15, "{:?}", faults.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_key_leads_no_epoch_that_it_did_not_claim() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    let good = log.publish().await;
    log.forge(2, 1).await;
    let (halt, cause) = halt(log.config(Mode::Once)).await;
    assert_eq!((halt.kind, halt.from, halt.to), (HaltKind::Refused, sequence(4), sequence(4)));
    let HaltCause::Refused { source: Refused::Batch(BatchError::CheckpointSignature(source)), .. } = cause
    else {
        panic!("{cause:?}")
    };
    assert!(matches!(source, SignatureError::UnknownEpoch { .. }), "{source:?}");
    assert_eq!(stands(&log), good);
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_under_another_number_admits_nobody() {
    let mut log = Log::begin(SETUP).await;
    // Epoch 2 is wasted. Under 3 stands a good record, of epoch 2.
    log.waste(2).await;
    let misplaced = log.claim(synddb_protocol::id::Epoch::new(9).unwrap(), 1).await;
    let three = Key::Epoch { stream: STREAM, epoch: synddb_protocol::id::Epoch::new(3).unwrap() };
    let two = synddb_protocol::log::EpochRecord {
        stream: STREAM,
        epoch: synddb_protocol::id::Epoch::new(2).unwrap(),
        proof: synddb_protocol::log::KeyProof::Unattested,
    };
    drop(misplaced);
    log.store.put(&three, two.sign(&key(1)).to_bytes().into()).await.unwrap();
    log.forge(3, 1).await;
    let (halt, cause) = halt(log.config(Mode::Once)).await;
    assert_eq!((halt.kind, halt.from), (HaltKind::Refused, sequence(3)), "{cause:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_under_another_name_is_refused() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3); INSERT INTO t(v) VALUES(4)");
    log.publish().await;
    let bytes = fs::read(log.object(&batch_key(1))).unwrap();
    fs::write(log.object(&batch_key(3)), bytes).unwrap();
    let (_, cause) = halt(log.config(Mode::Once)).await;
    assert!(matches!(cause, HaltCause::Refused { source: Refused::Misplaced { .. }, .. }), "{cause:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_form_asks_for_an_upgrade() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    let mut newer = log.cut().to_cbor();
    *newer.last_mut().unwrap() = 3;
    log.put(&batch_key(3), zstd::bulk::compress(&newer, 3).unwrap()).await;
    let (halt, cause) = halt(log.config(Mode::Once)).await;
    assert_eq!((halt.kind, halt.from), (HaltKind::UpgradeRequired, sequence(3)));
    assert!(matches!(cause, HaltCause::UpgradeRequired { .. }));
    assert_eq!(stands(&log), sequence(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_state_claim_is_divergence_with_the_commit() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    let good = log.publish().await;
    equal_after(&log).await;
    let content = log.capture("INSERT INTO t(v) VALUES(4)").remove(0);
    let claimed = StateHash::from_bytes([9; 32]);
    log.submit(edited(&content, |commit| commit.state = Some(StateClaim { state: claimed, scanned: None })));
    log.publish().await;
    let (halt, cause) = halt(log.config(Mode::Once)).await;
    assert_eq!((halt.kind, halt.from, halt.to), (HaltKind::Divergence, sequence(4), sequence(4)));
    let HaltCause::Diverged {
        sequence: at,
        source: Divergence::Submission(SubmissionError::State { commit, .. }),
    } = cause
    else {
        panic!("{cause:?}")
    };
    assert_eq!((at, commit), (sequence(4), CommitNumber::new(2).unwrap()));
    assert_eq!(stands(&log), good);
}

async fn equal_after(log: &Log) {
    rebuild(log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_not_what_the_commit_found_is_named() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    log.publish().await;
    log.run("INSERT INTO t(v) VALUES(4)");
    let good = log.publish().await;
    let content = log.capture("UPDATE t SET v = 'x' WHERE id = 2").remove(0);
    let mut rows = Vec::new();
    let key = vec![true, false];
    write_table(&mut rows, &Table { name: "t".to_owned(), key: key.clone() });
    let (old, new) = ([Value::Integer(2), Value::Integer(77)], [Value::Integer(2), Value::Text(b"x")]);
    write_update(&mut rows, &key, &old, &new);
    log.submit(edited(&content, |commit| commit.changes.rows = rows));
    let last = log.publish().await;
    // All in one transaction: what is before the fault is kept.
    let (halt, cause) = halt(log.config(Mode::Once)).await;
    assert_eq!(halt.stood_at(), None, "the message is missing");
    let difference = halt.difference.as_deref().unwrap();
    let told = [&difference.row, &difference.expected, &difference.found].map(|told| told.as_deref());
    assert_eq!(told, [Some("id=2 (integer)"), Some("77 (integer)"), Some("2 (integer)")]);
    assert_eq!((halt.kind, halt.from, halt.to), (HaltKind::Divergence, last, last));
    for part in ["sequence=`5`", "commit=`3`", "table=`t`", "expected=`77 (integer)`", "found=`2 (integer)`"]
    {
        assert!(halt.detail.contains(part), "{}", halt.detail);
    }
    let HaltCause::Diverged {
        source: Divergence::Submission(SubmissionError::NotApplicable { source, .. }),
        ..
    } = cause
    else {
        panic!("{cause:?}")
    };
    let ApplyError::Divergence(source) = source else { panic!("{source:?}") };
    assert!(matches!(*source, apply::Divergence::Value { .. }), "{source:?}");
    assert_eq!(stands(&log), good);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_somebody_edited_does_not_start() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    log.publish().await;
    for edit in ["UPDATE t SET v = 9 WHERE id = 1", "CREATE VIEW strange AS SELECT 1"] {
        rebuild(&log).await;
        rusqlite::Connection::open(log.replica()).unwrap().execute_batch(edit).unwrap();
        let (halt, cause) = halt(log.config(Mode::Once)).await;
        assert_eq!(halt.kind, HaltKind::Divergence);
        assert!(matches!(cause, HaltCause::Diverged { source: Divergence::State { .. }, .. }), "{cause:?}");
        fs::remove_file(log.replica()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_somebody_edits_is_found_by_the_next_batch() {
    let mut log = Log::begin(SETUP).await;
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let writer = rusqlite::Connection::open(log.replica()).unwrap();
    // A write that changes nothing is no divergence.
    writer.execute_batch("UPDATE t SET v = v").unwrap();
    log.run("INSERT INTO t(v) VALUES(3)");
    let good = log.publish().await;
    running.until_applied(good).await;
    writer.execute_batch("UPDATE t SET v = 9 WHERE id = 1").unwrap();
    log.run("INSERT INTO t(v) VALUES(4)");
    log.publish().await;
    let events = running.until(|event| matches!(event, Event::Halted(_))).await;
    let Some(Event::Halted(halt)) = events.last() else { panic!("{events:?}") };
    assert_eq!((halt.kind, halt.from), (HaltKind::Divergence, sequence(4)));
    // What it holds is not what it was: it is not shown any more.
    let (status, shown) = running.get_json("/status").await;
    assert_eq!(
        (status, &shown["halted"]["kind"], &shown["sequence"]),
        (200, &"divergence".into(), &serde_json::Value::Null)
    );
    assert_eq!(running.query(serde_json::json!({"sql": "SELECT 1"})).await.0, 503);
    let (status, problem) = running.get_json("/readyz").await;
    assert_eq!((status, &problem["code"]), (503, &"unavailable".into()));
    assert_eq!(running.get("/livez").await.0, 200);
    assert!(matches!(running.stop().await, Err(ValidatorError::Halted { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_is_served_until_asked_and_what_was_before_it_too() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    let good = log.publish().await;
    log.forge(2, 1).await;
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::Halted(_))).await;
    let (_, status) = running.get_json("/status").await;
    assert_eq!((&status["sequence"], &status["halted"]["kind"]), (&good.get().into(), &"refused".into()));
    let (status, answer) = running.query(serde_json::json!({"sql": "SELECT count(*) FROM t"})).await;
    assert_eq!((status, &answer["rows"][0][0], &answer["sequence"]), (200, &3.into(), &good.get().into()));
    assert!(matches!(running.stop().await, Err(ValidatorError::Halted { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_missing_or_damaged_are_refused() {
    let log = Log::begin("CREATE TABLE t(a); INSERT INTO t VALUES(randomblob(100000))").await;
    let folder = log.folder.path().join("store").join(format!("{}/chunks", STREAM.to_key()));
    let chunk = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&chunk).unwrap();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(&chunk, damaged).unwrap();
    let (_, cause) = halt(log.config(Mode::Once)).await;
    assert!(matches!(cause, HaltCause::Refused { source: Refused::ChunkDamaged { .. }, .. }), "{cause:?}");
    fs::remove_file(&chunk).unwrap();
    let (_, cause) = halt(log.config(Mode::Once)).await;
    assert!(matches!(cause, HaltCause::Refused { source: Refused::ChunkMissing { .. }, .. }), "{cause:?}");
    assert!(!log.replica().exists());
    fs::write(&chunk, bytes).unwrap();
    rebuild(&log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_begins_before_the_parts_of_an_open_commit() {
    let mut log = Log::begin("CREATE TABLE t(a)").await;
    let parts = log.capture(
        "INSERT INTO t SELECT randomblob(900) FROM (WITH RECURSIVE n(v) AS
         (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 1000) SELECT v FROM n)",
    );
    for part in &parts[..2] {
        log.submit(part.clone());
        log.publish().await;
    }
    log.forge(2, 1).await;
    let (halt, _) = halt(log.config(Mode::Once)).await;
    assert_eq!((halt.from, halt.to), (sequence(3), sequence(5)));
    assert_eq!(stands(&log), sequence(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_a_damaged_log_speaks_of_the_log() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    let last = log.publish().await;
    let file = log.object(&batch_key(last.get()));
    let mut stored = fs::read(&file).unwrap();
    let middle = stored.len() / 2;
    stored[middle] ^= 1;
    fs::write(&file, stored).unwrap();
    let config = log.config(Mode::Once);
    let question = synddb_validator::fsck::Question {
        store: config.store,
        stream: config.stream,
        keys: config.sequencer_keys,
        rebuild_in: None,
        replica: None,
        rules: None,
    };
    let problem = synddb_validator::fsck::run(question, Shutdown::new(), |_| ()).await.unwrap_err();
    let told = synddb_protocol::chain(&problem);
    assert!(
        told.starts_with(&format!("the log is not whole. from=`{last}` to=`{last}`: the log is refused")),
        "{told}"
    );
    assert!(problem.is_of_log() && !told.contains("validator"), "{told}");
}
