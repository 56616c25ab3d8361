//! A replica that began with a snapshot vouches for nothing alone.

use synddb_sqlite::messages::SCHEMA;
use synddb_validator::fsck::{Problem, ReplicaBegan};
use synddb_validator::{FromSnapshot, SnapshotsConfig};

use super::outbound::deliver;
use super::*;
use crate::snapshots::checked::verify;
use crate::snapshots::take;

#[tokio::test(flavor = "multi_thread")]
async fn who_began_with_a_snapshot_endorses_only_what_a_quorum_has() {
    let mut log = Log::begin(SETUP).await;
    let mut config = endorsing(&log, RULES);
    let key_file = log.folder.path().join("snapshots.key");
    config.snapshots = SnapshotsConfig { every_messages: 1, every_ms: 0, key_file };
    let mut running = Running::start(config.clone());
    let (mut snapshot, mut endorsed) = (false, false);
    while !(snapshot && endorsed) {
        match running.next().await {
            Event::Snapshot { .. } => snapshot = true,
            Event::Endorsed { .. } => endorsed = true,
            _ => {}
        }
    }
    running.stop().await.unwrap();
    let witness = stored(&log).await.values().next().unwrap().recover().unwrap();

    let mut late = late(&log, RULES);
    let mut running = Running::start(late.clone());
    running.until(|event| matches!(event, Event::Began { .. })).await;
    let failing = loop {
        let (_, status) = running.get_json("/status").await;
        if let Some(failing) = status["endorsing"]["failing"].as_str() {
            break failing.to_owned();
        }
        tokio::task::yield_now().await;
    };
    assert!(failing.contains("verify --full"), "{failing}");
    log.run("UPDATE balances SET amount = 3 WHERE account = 1");
    let last = log.publish().await;
    running.until_applied(last).await;
    running.stop().await.unwrap();
    let own = SigningKey::from_bytes(key_of(&late.endorse.key_file)).unwrap().id();
    assert!(stored(&log).await.values().all(|endorsement| endorsement.recover() != Some(own)));

    // With others whom it believes, it does.
    (late.endorse.validators, late.endorse.threshold) = (vec![witness], 1);
    let mut running = Running::start(late);
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
}

async fn checked(log: &Log, replica: &Path, rules: Option<&Path>) -> Result<Option<ReplicaBegan>, Problem> {
    verify(log, replica, true, rules).await.map(|report| report.replica)
}

/// A validator that begins from the newest snapshot, with a key of its own.
fn late(log: &Log, rules: &str) -> Config {
    let mut late = Config { replica: log.folder.path().join("late.db"), ..endorsing(log, rules) };
    late.endorse.key_file = log.folder.path().join("late.key");
    late.from_snapshot = FromSnapshot::Newest;
    late
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_violated_before_the_snapshot_is_found_by_who_checks_the_log() {
    let mut log = Log::begin(SETUP).await;
    log.run("UPDATE balances SET amount = -5 WHERE account = 2");
    let violated = log.publish().await;
    log.run("UPDATE balances SET amount = 5 WHERE account = 2");
    log.publish().await;
    // Nobody judges what is taken.
    let began = take(&log).await;

    let late = late(&log, RULES);
    let (replica, rules) = (late.replica.clone(), late.rules.clone().unwrap());
    let mut running = caught_up(late).await;
    assert_eq!(open(&mut running).await, [], "the snapshot itself is clean");
    // With other rules than look at it, nobody is told anything.
    let other = log.folder.path().join("other.toml");
    std::fs::write(&other, RULES.replace("< 0", "< -10")).unwrap();
    for named in [None, Some(other.as_path())] {
        let refused = checked(&log, &replica, named).await;
        let Err(Problem::OtherRules { rule, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(rule, "no negative balance");
    }
    let told = checked(&log, &replica, Some(&rules)).await.unwrap();
    assert_eq!(told, Some(ReplicaBegan::Checked { sequence: began, violations: 1 }));
    // The running one notices, and endorses nothing of what it had offered before.
    let mut found = Vec::new();
    while found.is_empty() {
        found = open(&mut running).await;
        let (_, status) = running.get_json("/status").await;
        assert!(status["halted"].is_null(), "{status}");
    }
    assert_eq!(found, [("no negative balance".to_owned(), violated.get())]);
    log.run("UPDATE balances SET amount = 6 WHERE account = 2");
    let last = log.publish().await;
    running.until_applied(last).await;
    let (_, status) = running.get_json("/status").await;
    assert_eq!(
        (&status["started_from"], &status["refused"]),
        (&serde_json::Value::Null, &1.into()),
        "{status}"
    );
    assert_eq!(last_endorsed(&log).await, None);
    resolve(&replica, 1);
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
    assert_eq!(stored(&log).await.keys().map(|at| at.get()).collect::<Vec<_>>(), [last.get()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_went_out_before_the_snapshot_never_comes_again() {
    let mut log = Log::begin(
        "CREATE TABLE outbound_messages(id INTEGER PRIMARY KEY, target TEXT);
         INSERT INTO outbound_messages VALUES(1, 'a'), (2, 'b')",
    )
    .await;
    log.run("DELETE FROM outbound_messages WHERE id = 2");
    log.publish().await;
    let began = take(&log).await;

    let late = late(&log, "");
    let replica = late.replica.clone();
    let mut running = caught_up(late).await;
    let told = checked(&log, &replica, None).await.unwrap();
    assert!(matches!(told, Some(ReplicaBegan::Checked { violations: 1, .. })), "{told:?}");
    log.run("INSERT INTO outbound_messages VALUES(2, 'somebody else')");
    let again = log.publish().await;
    running.until_applied(again).await;
    let found = open(&mut running).await;
    assert!(found.contains(&("outbound messages".to_owned(), again.get())), "{found:?}");
    // What was given again before anybody knew is told as well.
    assert!(found.contains(&("outbound messages".to_owned(), began.get())), "{found:?}");
    running.stop().await.unwrap();
}

fn acknowledge(id: u64) -> String {
    format!("INSERT INTO inbound_messages(message_id, outcome, processed_at) VALUES({id}, 'done', 0)")
}

/// A validator that began with a snapshot of a log in which 1 and 2 of 3 messages are acknowledged, and that was told that the log was checked. The state is that, or
/// one without rows that took its place.
async fn begun_and_checked(claimed: u64, is_restored: bool) -> (Log, Running) {
    let mut log = Log::begin(SCHEMA).await;
    (1..=3).for_each(|nonce| deliver(&mut log, nonce));
    (1..=2).for_each(|id| log.run(&acknowledge(id)));
    log.claim_consumed(claimed);
    log.publish().await;
    if is_restored {
        // Without the trigger that keeps the application in order: it would not go on with 3.
        let tables = format!("{SCHEMA}; DROP TRIGGER inbound_messages_in_order");
        log.begin_anew("restored.db", &tables).await;
        log.publish().await;
    }
    take(&log).await;
    let mut late = late(&log, "");
    late.endorse.incarnation_max = 0;
    let replica = late.replica.clone();
    let mut running = caught_up(late).await;
    let told = checked(&log, &replica, None).await.unwrap();
    let found = u64::from(is_restored);
    assert!(
        matches!(told, Some(ReplicaBegan::Checked { violations, .. }) if violations == found),
        "{told:?}"
    );
    if is_restored {
        while open(&mut running).await.is_empty() {}
        resolve(&replica, 1);
    }
    (log, running)
}

/// What commits acknowledged before, a new state may have no row of. It is believed as the state is, until somebody looks.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_the_snapshot_is_claimed_on_once_it_was_checked() {
    for is_restored in [false, true] {
        let (mut log, mut running) = begun_and_checked(2, is_restored).await;
        log.run("CREATE TABLE more(a)");
        let last = log.publish().await;
        until_endorsed(&mut running, last).await;
        // The next one is the one behind those, whether or not their rows stand there.
        log.run(&acknowledge(3));
        log.claim_consumed(3);
        let last = log.publish().await;
        until_endorsed(&mut running, last).await;
        assert_eq!(open(&mut running).await, []);
        running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_was_acknowledged_before_the_snapshot_is_claimed_in_vain_once_it_was_checked() {
    for is_restored in [false, true] {
        let (mut log, mut running) = begun_and_checked(3, is_restored).await;
        log.run("CREATE TABLE more(a)");
        log.publish().await;
        let failing = loop {
            let (_, status) = running.get_json("/status").await;
            match status["endorsing"]["failing"].as_str() {
                Some(failing) if failing.contains("acknowledged") => break failing.to_owned(),
                _ => tokio::task::yield_now().await,
            }
        };
        assert!(failing.contains("claimed=`3` acknowledged=`2`"), "{failing}");
        running.stop().await.unwrap();
        assert_eq!(last_endorsed(&log).await, None, "not what was offered before it was checked either");
    }
}

fn key_of(file: &Path) -> [u8; 32] {
    let text = std::fs::read_to_string(file).unwrap();
    hex::decode(text.trim().trim_start_matches("0x")).unwrap().try_into().unwrap()
}
