//! Logs with good signatures by a leader that is trusted, and contents that are made to harm whoever applies them.
//!
//! Each is read by the real reader into a replica that stands at an honest log. Whatever it is, the process lives, within time and memory; the file
//! is whole, and where the lie is refused it goes on with the honest log as if nothing had been. What SQLite's own parts do with single changes
//! and pages is tested in `synddb-sqlite`.

mod bombs;
mod images;
mod requests;
mod rows;
mod schemas;
mod stage;

use synddb_protocol::submission::Changes;
use synddb_storage::{BatchStore as _, ObjectBatchStore};
use synddb_validator::{Event, Mode, ValidatorError};

use crate::flipped::Objects;
use crate::log::Log;
use crate::running::Running;
use stage::Stage;

/// Follows a store of these objects, and serves.
async fn serving(objects: &Objects, folder: &std::path::Path) -> Running {
    let store = ObjectBatchStore::memory();
    for (key, bytes) in &objects.0 {
        store.put(key, bytes.clone()).await.unwrap();
    }
    // Any other log, for the keys of its configuration.
    let mut config = Log::begin("CREATE TABLE t(a)").await.config(Mode::Follow);
    config.replica = folder.join("replica.db");
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    config.query.ms_max = 2000;
    Running::start_over(std::sync::Arc::new(store), config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_by_a_lie_is_served_with_what_was_before_it() {
    let (stage, folder) = (Stage::new().await, tempfile::tempdir().unwrap());
    let state = synddb_protocol::hash::StateHash::from_bytes([3; 32]);
    let changes = Changes { rows: vec![0xff; 20], ..Changes::default() };
    let objects = stage.signed(&[stage.submission(&changes, state)], &[]);
    let mut running = serving(&objects, folder.path()).await;
    running.until(|event| matches!(event, Event::Halted(_))).await;
    let sql = "SELECT count(*) FROM t";
    let (status, answer) = running.query(serde_json::json!({ "sql": sql })).await;
    assert_eq!((status, &answer["rows"][0][0]), (200, &3.into()), "{answer}");
    let (_, shown) = running.get_json("/status").await;
    assert_eq!(shown["halted"]["kind"], "divergence");
    assert!(matches!(running.stop().await, Err(ValidatorError::Halted { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_taken_harms_no_query() {
    let mut stage = Stage::new().await;
    for (schema, sql) in schemas::taken() {
        let folder = tempfile::tempdir().unwrap();
        let objects = stage.led(&Changes { schema, ..Changes::default() }).await;
        let mut running = serving(&objects, folder.path()).await;
        running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
        let (status, answer) = running.query(serde_json::json!({ "sql": sql })).await;
        assert!([400, 422, 503].contains(&status), "{sql}: {status} {answer}");
        let (status, answer) = running.query(serde_json::json!({ "sql": "SELECT count(*) FROM t" })).await;
        assert_eq!((status, &answer["rows"][0][0]), (200, &3.into()), "{answer}");
        running.stop().await.unwrap();
    }
}
