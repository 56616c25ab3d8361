//! What was committed while no agent ran, and is not told apart any more, becomes one commit: from the last state that the store has.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use synddb_agent::outbox::Options;
use synddb_agent::reconcile::{Impossible, LastState as _, restore_last};
use synddb_agent::{AgentError, Config, Tls, stream_of};
use synddb_cli::StoredState;
use synddb_protocol::signing::VerifyingKey;

use super::harness::Dev;
use crate::programs::sql;

#[test]
fn a_gap_is_closed_from_the_store() {
    let place = tempfile::tempdir().unwrap();
    let app = place.path().join("app.db");
    sql(&app, "CREATE TABLE t(a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES(1, 'in the snapshot');");
    let dev = Dev::start(place.path());
    sql(&app, "INSERT INTO t VALUES(2, 'seen');");
    dev.assert_replica_equals();
    let kept = dev.folder.join("last/replica.db");
    dev.stop();
    let damages: [fn(&Path); 3] = [
        |_| {},
        |kept| drop(sql(kept, "DELETE FROM t WHERE a = 2;")),
        |kept| fs::write(kept, "no database at all, but long enough to have a header".repeat(20)).unwrap(),
    ];
    for (round, damage) in damages.into_iter().enumerate() {
        if kept.exists() {
            damage(&kept);
        }
        // The shell is the last to close the database, and takes the WAL away.
        let unseen = format!(
            "INSERT INTO t VALUES({round} + 10, 'nobody saw it'); CREATE TABLE u{round} AS SELECT * FROM t;"
        );
        sql(&app, &unseen);
        let dev = Dev::start(place.path());
        let attached = dev.event("attached", |_| true);
        assert_eq!((&attached["continuity"], &attached["incarnation"]), (&"reconciled".into(), &1.into()));
        let how = attached["how"].as_str().unwrap();
        assert!(how.contains(&format!("rows=`{}`", 4 + round)), "{how}");
        sql(
            &app,
            &format!("INSERT INTO t VALUES({round} + 20, 'seen'); DELETE FROM t WHERE a = {round} + 20;"),
        );
        dev.assert_replica_equals();
        dev.stop();
    }
}

#[test]
fn a_database_that_was_put_back_begins_an_incarnation() {
    let place = tempfile::tempdir().unwrap();
    let (app, backup) = (place.path().join("app.db"), place.path().join("backup.db"));
    sql(&app, "CREATE TABLE t(a); INSERT INTO t VALUES(1);");
    fs::copy(&app, &backup).unwrap();
    let dev = Dev::start(place.path());
    sql(&app, "INSERT INTO t VALUES(2);");
    dev.assert_replica_equals();
    dev.stop();
    // The shell takes the WAL away.
    sql(&app, "SELECT count(*) FROM t;");
    fs::rename(&backup, &app).unwrap();
    let dev = Dev::start(place.path());
    let attached = dev.event("attached", |_| true);
    assert_eq!((&attached["continuity"], &attached["incarnation"]), (&"incarnation".into(), &2.into()));
    assert!(attached["how"].as_str().unwrap().contains("another file"), "{attached}");
    dev.assert_replica_equals();
    dev.stop();
}

#[test]
fn what_cannot_be_restored_is_told_and_the_end_is_not_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("agent");
    fs::create_dir(&folder).unwrap();
    let stream = stream_of(&folder).unwrap();
    let key = *synddb_protocol::signing::SigningKey::from_bytes([7; 32]).unwrap().verifying_key();
    let restore = |store: &Path, keys: &[VerifyingKey], stop: bool| {
        let state = StoredState::of(synddb_storage::StoreUrl::folder(store).unwrap());
        state.restore(stream, keys, &folder, &AtomicBool::new(stop)).unwrap_err().to_string()
    };
    let empty = place.path().join("store");
    fs::create_dir(&empty).unwrap();
    assert!(restore(&empty, &[], false).contains("--sequencer-key"));
    assert!(restore(&empty, &[key], false).contains("nothing of the stream"));
    let missing = restore(&place.path().join("missing"), &[key], false);
    assert!(missing.contains("missing"), "{missing}");
    // A claim of the first epoch that never ends is not waited for.
    assert!(restore(&empty, &[key], true).contains("asked to end"));
    let config = |last_state| Config {
        database: place.path().join("app.db"),
        folder: folder.clone(),
        sequencers: vec!["http://127.0.0.1:9".to_owned()],
        token: Some("token".to_owned().into()),
        tls: Tls::default(),
        evidence: None,
        sequencer_keys: Vec::new(),
        wal_bytes_max: 1 << 20,
        wal_bytes_detach: 1 << 30,
        pin: None,
        audit_interval: std::time::Duration::from_secs(3600),
        outbox: Options::default(),
        drain_max: std::time::Duration::ZERO,
        last_state,
    };
    let from = std::sync::Arc::new(StoredState::of(synddb_storage::StoreUrl::folder(&empty).unwrap()));
    let told = restore_last(&config(Some(from.clone())), stream, &AtomicBool::new(false)).unwrap();
    assert!(matches!(told, Err(Impossible::NotRestored(_))), "no key is believed yet");
    let stopped = restore_last(&config(Some(from)), stream, &AtomicBool::new(true));
    assert!(matches!(stopped, Err(AgentError::Stopped)));
    let nothing = restore_last(&config(None), stream, &AtomicBool::new(false)).unwrap();
    assert!(matches!(nothing, Err(Impossible::NoSource)));
}
