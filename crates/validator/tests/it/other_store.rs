//! Stores that are not the one a replica came from: rolled back, led on from an older end, or emptied.

use std::sync::Arc;

use synddb_protocol::http::HaltKind;
use synddb_protocol::id::Epoch;
use synddb_storage::Key;
use synddb_storage::faulty::{Faults, FaultyStore};
use synddb_validator::{Event, HaltCause, Mode, Refused, ValidatorError};

use super::halted::{halt, sequence};
use super::log::{Log, STREAM, batch_key};
use super::running::{Running, equal, rebuild};
use super::stores::{Sequencer, checkpoint};

const SETUP: &str = "CREATE TABLE t(a); INSERT INTO t VALUES(1)";
const MORE: &str = "INSERT INTO t VALUES(2); INSERT INTO t VALUES(3); INSERT INTO t VALUES(4)";

fn why(cause: HaltCause) -> Refused {
    let HaltCause::Refused { source, .. } = cause else { panic!("{cause:?}") };
    source
}

/// A log of an epoch, a snapshot and three commits, the last of them in a batch that begins with 5, and its replica.
async fn replicated() -> Log {
    let mut log = Log::begin(SETUP).await;
    log.run_and_publish_each(MORE).await;
    rebuild(&log).await;
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_rolled_back_is_no_idle_one() {
    let log = replicated().await;
    for first in [5, 4] {
        std::fs::remove_file(log.object(&batch_key(first))).unwrap();
        for mode in [Mode::Once, Mode::Follow] {
            let (halt, cause) = halt(log.config(mode)).await;
            assert_eq!((halt.kind, halt.from), (HaltKind::Refused, sequence(6)));
            assert!(halt.detail.contains("the store ends before what was applied; is it another store"));
            let found = why(cause);
            let end = Some(sequence(first - 1));
            assert!(
                matches!(found, Refused::StoreEnds { end: e, next } if e == end && next == sequence(6)),
                "{found:?}"
            );
        }
    }
    // The replica is as it was.
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_led_on_from_an_older_end_is_another_one() {
    let mut other = Log::begin(SETUP).await;
    for content in other.capture(MORE) {
        other.submit(content);
    }
    other.run("INSERT INTO t VALUES(5); INSERT INTO t VALUES(6)");
    other.publish().await;
    other.run("INSERT INTO t VALUES(7)");
    other.publish().await;
    let log = replicated().await;
    let stored = |log: &Log, first| log.object(&batch_key(first));
    std::fs::remove_file(stored(&log, 4)).unwrap();
    std::fs::remove_file(stored(&log, 5)).unwrap();
    // One batch from 3 to 7, where three ended with 5.
    std::fs::copy(stored(&other, 3), stored(&log, 3)).unwrap();
    let found = why(halt(log.config(Mode::Once)).await.1);
    assert!(
        matches!(found, Refused::Straddles { first, last, next } if (first, last, next) == (sequence(3), sequence(7), sequence(6))),
        "{found:?}"
    );
    std::fs::copy(stored(&other, 8), stored(&log, 8)).unwrap();
    let found = why(halt(log.config(Mode::Follow)).await.1);
    assert!(
        matches!(found, Refused::Skipped { next, found } if (next, found) == (sequence(6), sequence(8))),
        "{found:?}"
    );
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_on_is_looked_at_once() {
    let mut log = replicated().await;
    let faults = Faults::new(|| 0);
    let store = Arc::new(FaultyStore::new(Arc::clone(&log.store), faults.clone()));
    // Whoever lists too little is asked for what is there.
    faults.hide_newest_from_lists(2);
    let mut running = Running::start_over(store, log.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let listed = faults.requests().list;
    log.run("INSERT INTO t VALUES(5)");
    let last = log.publish().await;
    running.until_applied(last).await;
    running.stop().await.unwrap();
    assert_eq!((listed > 0, faults.requests().list), (true, listed));
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequencer_that_says_less_is_a_reason_to_look() {
    let mut log = Log::begin(SETUP).await;
    let mut sequencer = Sequencer::start().await;
    let faults = Faults::new(|| 0);
    let store = Arc::new(FaultyStore::new(Arc::clone(&log.store), faults.clone()));
    let less = [checkpoint(&log), checkpoint(&log), checkpoint(&log)];
    log.run_and_publish_each(MORE).await;
    let mut config = log.config(Mode::Follow);
    config.sequencer = Some(sequencer.url.clone());
    let mut running = Running::start_over(store, config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let mut asked = sequencer.next().await;
    assert_eq!(faults.requests().list, 0);
    let [first, again, last] = less;
    // It is not so, and that is looked up once.
    for answer in [first, again] {
        asked.send(answer).unwrap();
        asked = sequencer.next().await;
        assert_eq!(faults.requests().list, 1);
    }
    log.run("INSERT INTO t VALUES(5)");
    let applied = log.publish().await;
    asked.send(checkpoint(&log)).unwrap();
    running.until_applied(applied).await;
    let asked = sequencer.next().await;
    // Now it is.
    std::fs::remove_file(log.object(&batch_key(applied.get()))).unwrap();
    asked.send(last).unwrap();
    let Err(ValidatorError::Halted { source, .. }) = running.end().await else { panic!("it did not halt") };
    assert!(matches!(why(*source), Refused::StoreEnds { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_store_blames_no_key() {
    let log = replicated().await;
    std::fs::remove_file(log.object(&Key::Epoch { stream: STREAM, epoch: Epoch::FIRST })).unwrap();
    let (halt, cause) = halt(log.config(Mode::Once)).await;
    assert_eq!((halt.kind, halt.from), (HaltKind::Refused, sequence(6)));
    let found = why(cause);
    assert!(matches!(found, Refused::EpochAbsent { epoch: Epoch::FIRST }), "{found:?}");
}
