//! Who signed what of a replica's log: also what was passed in a gap, and never what another release left behind.

use std::fs;

use synddb_protocol::hash::StateHash;
use synddb_protocol::http::HaltKind;
use synddb_protocol::submission::StateClaim;
use synddb_sqlite::name::beside;
use synddb_sqlite::rusqlite;
use synddb_validator::{Config, End, Mode, Start, ValidatorError};

use super::halted::{edited, halt};
use super::log::{Log, key};
use super::running::Running;

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES(1), (2)";

/// A reader that believes two keys, of which one may be revoked with a last valid epoch and size.
pub(crate) fn believing(log: &Log, revoked: Option<(u8, u64, u64)>) -> Config {
    let file = log.folder.path().join("keys.toml");
    let public = |number: u8| *key(number).verifying_key();
    let mut text = format!("[[key]]\nkey = \"{}\"\n[[key]]\nkey = \"{}\"\n", public(1), public(2));
    if let Some((number, epoch, size)) = revoked {
        text += &format!("[[revoked]]\nkey = \"{}\"\nepoch = {epoch}\nsize = {size}\n", public(number));
    }
    fs::write(&file, text).unwrap();
    Config { sequencer_keys: Vec::new(), keys_file: Some(file), ..log.config(Mode::Once) }
}

async fn once(start: Start, config: Config) -> Result<End, ValidatorError> {
    Running::start_as(start, config).end().await
}

pub(crate) fn is_revoked(ended: &Result<End, ValidatorError>) -> bool {
    matches!(ended, Err(ValidatorError::Halted { halt, .. }) if halt.kind == HaltKind::Revoked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_signed_in_a_gap_is_not_forgotten() {
    let mut log = Log::begin(SETUP).await;
    let content = log.capture("INSERT INTO t(v) VALUES('wrong')").remove(0);
    let state = StateHash::from_bytes([9; 32]);
    log.submit_edited(edited(&content, |commit| commit.state = Some(StateClaim { state, scanned: None })));
    log.publish().await;
    halt(believing(&log, None)).await;
    log.lead(2, 2).await;
    log.run("INSERT INTO t(v) VALUES('by the second key, in the gap')");
    let in_gap = log.publish().await;
    log.lead(3, 1).await;
    log.snapshot_after().await;
    let last = log.publish().await;
    let report = beside(&log.replica(), ".divergence.json");
    let end = once(Start::Resume { report }, believing(&log, None)).await.unwrap();
    assert_eq!(end.sequence, Some(last));
    let ended = once(Start::GoOn, believing(&log, Some((2, 2, in_gap.get() - 1)))).await;
    assert!(is_revoked(&ended), "{ended:?}");
    let ended = once(Start::GoOn, believing(&log, Some((2, 2, in_gap.get())))).await;
    assert_eq!(ended.unwrap().sequence, Some(last));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_release_that_knows_of_no_signers_left_is_not_believed() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3)");
    log.publish().await;
    once(Start::GoOn, believing(&log, None)).await.unwrap();
    let on = |sql: &str| rusqlite::Connection::open(log.replica()).unwrap().execute_batch(sql).unwrap();
    on("CREATE TABLE _synddb_before AS SELECT * FROM _synddb_signers");
    log.lead(2, 2).await;
    log.run("INSERT INTO t(v) VALUES(4)");
    let second = log.publish().await;
    log.lead(3, 1).await;
    log.run("INSERT INTO t(v) VALUES(5)");
    log.publish().await;
    once(Start::GoOn, believing(&log, None)).await.unwrap();
    // It moved the position, and left the table as it was.
    let on = |sql: &str| rusqlite::Connection::open(log.replica()).unwrap().execute_batch(sql).unwrap();
    on(
        "DELETE FROM _synddb_signers; INSERT INTO _synddb_signers SELECT * FROM _synddb_before; DROP TABLE _synddb_before",
    );
    let ended = once(Start::GoOn, believing(&log, Some((2, 2, second.get() - 1)))).await;
    assert!(is_revoked(&ended), "{ended:?}");
}
