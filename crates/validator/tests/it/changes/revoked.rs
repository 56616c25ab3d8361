//! A key that was revoked where it ended takes no changes with it.

use synddb_validator::{Config, Event as Happened, Mode};

use super::consumer::{Consumer, rows};
use super::listening;
use super::reader::Events;
use crate::log::Log;
use crate::running::Running;
use crate::signers::{believing, is_revoked};

/// More than there are messages between two marks.
const COMMITS: u64 = 600;

fn showing(log: &Log, revoked: Option<(u8, u64, u64)>) -> Config {
    Config { mode: Mode::Follow, ..Config { listen: listening(log).listen, ..believing(log, revoked) } }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_a_mark_is_shown_also_when_a_key_is_revoked_from_before_it() {
    let mut log = Log::begin("PRAGMA page_size = 1024; VACUUM").await;
    log.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    log.run("INSERT INTO t(v) VALUES('by the first key')");
    let end = log.publish().await;
    log.lead(2, 2).await;
    for number in 0..COMMITS {
        log.run(&format!("INSERT INTO t(v) VALUES({number})"));
        if number % 50 == 0 {
            log.publish().await;
        }
    }
    let last = log.publish().await;
    let mut running = Running::start(showing(&log, None));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    running.stop().await.unwrap();
    // After a restart everything is read again from the store: all of it, and what is behind a mark.
    let mut running = Running::start(showing(&log, Some((1, 1, end.get()))));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let is_last = |event: &super::reader::Event| event.number("sequence") == last.get();
    for from in [last.get(), last.get() - 200, 3] {
        let mut events = Events::open(&running.url(&format!("/changes?from={from}")).await, None).await;
        let events = events.until(is_last).await;
        assert_eq!(events[0].number("sequence"), from);
    }
    let mut consumer = Consumer::new();
    let mut events = Events::open(&running.url("/changes?from=1").await, None).await;
    events.until(is_last).await.into_iter().for_each(|event| consumer.take(event));
    assert_eq!(rows(&consumer.copy), rows(&log.app));
    running.stop().await.unwrap();
    // And nothing is shown of what a key signed too much of.
    let mut running = Running::start(showing(&log, Some((1, 1, end.get() - 1))));
    running.until(|event| matches!(event, Happened::Halted(_))).await;
    assert_eq!(running.get_json("/changes?from=3").await.0, 503);
    assert!(is_revoked(&running.stop().await));
}
