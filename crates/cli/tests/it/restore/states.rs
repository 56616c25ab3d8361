//! What is restored is what the application's database was: a copy that SQLite made of it after that commit is the judge.
//!
//! ```sh
//! SYNDDB_RESTORES=200 SYNDDB_RESTORE_SEED=7 cargo test --release -p synddb-cli --test it restore::states -- --nocapture
//! ```

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::application::{Application, Copy};
use super::{Restoring, asked};
use crate::dev::Dev;
use crate::processes::diff;
use crate::programs::{assert_same, shown, sql};

/// Makes sure that both are one database: to `diff`, by their state hash, and to the programs of the system.
fn assert_is(copy: &Copy, restoring: &Restoring, restored: &Value) {
    let place = (restored["incarnation"].as_u64(), restored["commit"].as_u64());
    assert_eq!(place, (Some(copy.incarnation), Some(copy.commit)), "{restored}");
    let (exit, told, errors) = diff(&copy.file, &restoring.file());
    assert_eq!((exit, errors.as_str()), (0, ""), "{restored}: {told}");
    assert_eq!(told.trim_end(), format!("equal, at state {}", restored["state"].as_str().unwrap()));
    assert_same(&shown(&copy.file), &shown(&restoring.file()));
}

/// Moves a database to the place of another.
fn put_in_place(new: &Path, app: &Path) {
    for suffix in ["-wal", "-shm"] {
        let mut name = app.as_os_str().to_owned();
        name.push(suffix);
        fs::remove_file(name).ok();
    }
    fs::rename(new, app).unwrap();
}

#[test]
fn every_state_is_restored_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let seed = asked("SYNDDB_RESTORE_SEED", 1);
    let mut application = Application::begin(folder.path(), seed);

    // One incarnation with a gap in it.
    let dev = Dev::start(folder.path());
    for _ in 0..4 {
        let transactions: Vec<String> = (0..8).map(|_| application.transaction()).collect();
        application.commit(&dev, &transactions);
    }
    let huge = application.in_parts();
    application.commit(&dev, &[huge, "INSERT INTO plain(a) VALUES('behind what came in parts');".to_owned()]);
    dev.stop();
    sql(
        &application.app,
        "INSERT INTO plain(a) VALUES('nobody saw it'); DELETE FROM accounts WHERE id % 3 = 1;",
    );
    let dev = Dev::start(folder.path());
    assert_eq!(dev.event("attached", |_| true)["continuity"], "reconciled");
    let reconciled = application.copy_reconciled(&dev);
    let transactions = application.rest();
    application.commit(&dev, &transactions);
    let (store, stream, key) = (dev.running("store"), dev.running("stream"), dev.running("key"));
    dev.stop();

    // Another one, which begins with a database that is put back from a backup, and is shorter.
    let backup = folder.path().join("backup.db");
    fs::copy(&application.copies[10].file, &backup).unwrap();
    put_in_place(&backup, &application.app);
    let dev = Dev::start(folder.path());
    assert_eq!(dev.event("attached", |_| true)["incarnation"], 2);
    let transactions: Vec<String> = (1..=12)
        .map(|number| format!("BEGIN IMMEDIATE; INSERT INTO plain(a) VALUES('put back {number}'); COMMIT;"))
        .collect();
    application.commit(&dev, &transactions);
    dev.stop();

    let restoring = Restoring::from(&store, &stream, &key);
    let copies = &application.copies;
    let last_of = |incarnation| copies.iter().rfind(|copy| copy.incarnation == incarnation).unwrap();
    let (mut unclaimed, mut chance) = (0, application.chance.clone());
    for _ in 0..asked("SYNDDB_RESTORES", 20) {
        let copy = &copies[usize::try_from(chance.below(copies.len() as u64)).unwrap()];
        let restored = restoring.restore(&["--at", &format!("{}:{}", copy.incarnation, copy.commit)]);
        assert_is(copy, &restoring, &restored);
        unclaimed += u64::from(restored["is_claimed"] == false);
        fs::remove_file(restoring.file()).unwrap();
    }
    // All of that incarnation's share a few submissions.
    for commit in [4, 7, 10] {
        let copy = copies.iter().find(|copy| (copy.incarnation, copy.commit) == (2, commit)).unwrap();
        let restored = restoring.restore(&["--at", &format!("2:{commit}")]);
        assert_is(copy, &restoring, &restored);
        unclaimed += u64::from(restored["is_claimed"] == false);
        fs::remove_file(restoring.file()).unwrap();
    }
    println!("restored inside a submission: {unclaimed}; copies: {}", copies.len());
    assert!(unclaimed > 0, "no state lies inside a submission");

    // Without an incarnation it is the newest that has the commit.
    for (at, copy) in [("3", (2, 3)), ("20", (1, 20))] {
        let copy = copies.iter().find(|found| (found.incarnation, found.commit) == copy).unwrap();
        let restored = restoring.restore(&["--at", at]);
        assert_is(copy, &restoring, &restored);
        fs::remove_file(restoring.file()).unwrap();
    }
    let newest = restoring.restore(&[]);
    assert_is(last_of(2), &restoring, &newest);
    fs::remove_file(restoring.file()).unwrap();

    // The snapshot that begins an incarnation is what its first commit changes.
    let begun = restoring.restore(&["--at", "2:0"]);
    assert_eq!(begun["commit"], Value::Null, "{begun}");
    let (exit, told, _) = diff(&copies[10].file, &restoring.file());
    assert_eq!(exit, 0, "{told}");
    fs::remove_file(restoring.file()).unwrap();

    // A message, and its time: everything of that message is there, and of none behind it.
    let at_message = newest["sequence"].as_u64().unwrap();
    let by_message = restoring.restore(&["--at-message", &at_message.to_string()]);
    assert_eq!(by_message["state"], newest["state"], "{by_message}");
    fs::remove_file(restoring.file()).unwrap();
    for commit in [1, reconciled - 1, reconciled] {
        let wanted = restoring.restore(&["--at", &format!("1:{commit}")]);
        fs::remove_file(restoring.file()).unwrap();
        let ms = wanted["timestamp"].as_u64().unwrap();
        let timestamp = synddb_protocol::id::Timestamp::from_ms(ms).unwrap();
        let by_time = restoring.restore(&["--at", &synddb_service::calendar::utc(timestamp)]);
        assert_eq!(by_time["timestamp"], wanted["timestamp"], "{by_time}");
        let copy = copies
            .iter()
            .find(|copy| copy.incarnation == 1 && Some(copy.commit) == by_time["commit"].as_u64())
            .unwrap();
        assert!(copy.commit >= commit, "{by_time}");
        assert_is(copy, &restoring, &by_time);
        // What the application did while nobody followed it may be missing in the last state before that, and that is said.
        assert_eq!(by_time["gap"] != Value::Null, commit == reconciled - 1, "{by_time}");
        fs::remove_file(restoring.file()).unwrap();
    }
}
