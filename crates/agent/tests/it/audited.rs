//! Audits: the application's database, scanned in full, against what was captured.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use synddb_agent::{Because, Config, Event, How, Until};

use super::agent::{Place, Running};
use super::sequencer::PATIENCE;

#[test]
fn a_database_that_is_what_was_captured_is_said_to_be() {
    let place = Place::new();
    let writer = place.open();
    let agent = place.start();
    agent.attached();
    for number in 0..50 {
        writer.execute("INSERT INTO t VALUES(?, 'row')", [number]).unwrap();
    }
    let audited = agent.handle.audit(Instant::now() + PATIENCE).unwrap();
    assert!(audited.is_equal(), "{audited:?}");
    let status = agent.push(Until::Stored);
    assert_eq!((status.state, status.next), (Some(audited.scanned), Some(audited.next)));
    // 50 of the application, and one that says what was scanned.
    assert_eq!(place.sequencer.commits(), 51);
    assert_eq!(place.sequencer.scanned(), [audited.scanned]);
    writer.execute_batch("DELETE FROM t WHERE a > 40").unwrap();
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn audits_come_by_themselves_and_the_application_goes_on() {
    let place = Place::new();
    let writer = place.open();
    let agent = Running::start(Config { audit_interval: Duration::from_millis(50), ..place.config() });
    agent.attached();
    for round in 0..5 {
        for number in 0..20 {
            writer.execute("INSERT INTO t VALUES(?, 'row')", [100 * round + number]).unwrap();
        }
        agent.told("audited", |event| match event {
            Event::Audited(audited) => audited.is_equal().then_some(()),
            _ => None,
        });
    }
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

/// Changes bytes of a page behind SQLite's back, which no commit tells of.
fn forge(place: &Place) {
    let file = File::options().read(true).write(true).open(place.database()).unwrap();
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let at = bytes.windows(7).position(|window| window == b"a lie..").unwrap();
    // No other descriptor of this process may be closed, or its locks are gone: this one stays open.
    file.write_all_at(b"the end", at as u64).unwrap();
    std::mem::forget(file);
}

#[test]
fn a_database_that_was_changed_behind_our_back_is_found_and_attached_anew() {
    let place = Place::new();
    let writer = place.open();
    let lie = "CREATE TABLE u(a); INSERT INTO u VALUES('a lie..'); PRAGMA wal_checkpoint(TRUNCATE)";
    writer.execute_batch(lie).unwrap();
    let agent = place.start();
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(2, 'on another page')").unwrap();
    agent.push(Until::Sequenced);
    forge(&place);
    let audited = agent.handle.audit(Instant::now() + PATIENCE).unwrap();
    assert!(!audited.is_equal());
    assert_eq!(agent.attached(), How::New { because: Because::ContentDiffers });
    let again = agent.handle.audit(Instant::now() + PATIENCE).unwrap();
    assert_eq!(again.scanned, audited.scanned);
    assert!(again.is_equal());
    agent.push(Until::Stored);
    assert_eq!(place.sequencer.scanned(), [audited.scanned; 2], "the difference is in the log as well");
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}
