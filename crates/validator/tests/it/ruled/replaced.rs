//! What comes otherwise than by transactions: reconciles, snapshots, incarnations.

use super::*;
use crate::audited::shell;
use crate::resumed::{diverge_by, resume};
use crate::running::equal;

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_that_smuggles_a_balance_is_refused() {
    let mut log = Log::begin(SETUP).await;
    let mut running = Running::start(endorsing(&log, RULES));
    let before = log.last();
    until_endorsed(&mut running, before).await;
    log.reconcile("BEGIN; CREATE TABLE noise(a); UPDATE balances SET amount = -5 WHERE account = 2; COMMIT");
    let last = log.publish().await;
    running.until(|event| matches!(event, Event::Violated { sequence, .. } if *sequence == last)).await;
    running.until_applied(last).await;
    running.stop().await.unwrap();
    assert_eq!(last_endorsed(&log).await, Some(before.get()));
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_smuggles_a_balance_is_refused_and_so_is_its_incarnation() {
    let mut log = Log::begin(SETUP).await;
    log.run("UPDATE balances SET amount = 1 WHERE account = 1");
    let before = log.publish().await;
    let mut running = Running::start(endorsing(&log, RULES));
    until_endorsed(&mut running, before).await;
    let smuggled = "CREATE TABLE balances(account INTEGER PRIMARY KEY, amount INT); INSERT INTO balances VALUES(1, 1), (2, -100)";
    log.begin_anew("copy.db", smuggled).await;
    let last = log.publish().await;
    // Whoever watches the process is told of each.
    let events = running.until_applied(last).await;
    let told = |event: &&Event| matches!(event, Event::Violated { sequence, .. } if *sequence == last);
    assert_eq!(events.iter().filter(told).count(), 2, "{events:?}");
    let mut found = open(&mut running).await;
    found.sort();
    assert_eq!(
        found,
        [("incarnation".to_owned(), last.get()), ("no negative balance".to_owned(), last.get())]
    );
    let (_, refusals) = running.get_json("/refusals").await;
    let balance =
        refusals.as_array().unwrap().iter().find(|refusal| refusal["rule"] == "no negative balance").unwrap();
    assert_eq!(
        balance["offending"]["rows"],
        serde_json::json!([[2, -100]]),
        "only what differs is looked at"
    );
    running.stop().await.unwrap();
    assert_eq!(last_endorsed(&log).await, Some(before.get()));
    equal(&log);
    // Admitting the incarnation says nothing of the balance.
    let mut config = endorsing(&log, RULES);
    config.endorse.incarnation_max = 2;
    let mut running = caught_up(config.clone()).await;
    let open = open(&mut running).await;
    assert_eq!(open, [("no negative balance".to_owned(), last.get())]);
    let (_, refusals) = running.get_json("/refusals").await;
    let id = refusals[0]["id"].as_u64().unwrap();
    resolve(&log.replica(), id);
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_snapshot_replaces_in_its_own_batch_is_judged_all_the_same() {
    let mut log = Log::begin(SETUP).await;
    let mut config = endorsing(&log, RULES);
    config.endorse.incarnation_max = 0;
    let mut running = Running::start(config);
    let before = log.last();
    until_endorsed(&mut running, before).await;
    log.run("UPDATE balances SET amount = -1 WHERE account = 1");
    let at = log.last();
    let clean = "CREATE TABLE balances(account INTEGER PRIMARY KEY, amount INT); INSERT INTO balances VALUES(1, 100), (2, 100)";
    log.begin_anew("copy.db", clean).await;
    let last = log.publish().await;
    running.until_applied(last).await;
    assert_eq!(open(&mut running).await, [("no negative balance".to_owned(), at.get())]);
    running.stop().await.unwrap();
    assert_eq!(last_endorsed(&log).await, Some(before.get()));
    equal(&log);
}

/// Waits until one halts, has the application begin anew, and goes on behind that.
async fn behind_a_gap(mut halting: Running, log: &mut Log, config: Config) -> Running {
    halting.until(|event| matches!(event, Event::Halted(_))).await;
    halting.stop().await.unwrap_err();
    log.begin_anew("copy.db", SETUP).await;
    let anew = log.publish().await;
    let mut running = Running::start_as(resume(log), config);
    running.until_applied(anew).await;
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_out_behind_a_divergence_was_judged_by_nobody() {
    let mut log = Log::begin(SETUP).await;
    let mut config = endorsing(&log, RULES);
    (config.endorse.incarnation_max, config.endorse.behind_gaps) = (0, true);
    let mut running = Running::start(config.clone());
    until_endorsed(&mut running, log.last()).await;
    let wrong = diverge_by(&mut log, "UPDATE balances SET amount = 3 WHERE account = 1").await;
    let mut running = behind_a_gap(running, &mut log, config).await;
    assert_eq!(open(&mut running).await, [("every commit is judged".to_owned(), wrong.get())]);
    resolve(&log.replica(), 1);
    until_endorsed(&mut running, log.last()).await;
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_not_what_it_was_still_says_what_was_violated() {
    let mut log = Log::begin(SETUP).await;
    let mut config = endorsing(&log, RULES);
    (config.endorse.incarnation_max, config.endorse.behind_gaps) = (0, true);
    let mut running = Running::start(config.clone());
    until_endorsed(&mut running, log.last()).await;
    log.run("UPDATE balances SET amount = -1 WHERE account = 1");
    let violated = log.publish().await;
    running.until_applied(violated).await;
    running.stop().await.unwrap();
    shell(&log.replica(), "UPDATE balances SET amount = 7 WHERE account = 2");
    log.run("UPDATE balances SET amount = 1 WHERE account = 1");
    log.publish().await;
    let running = Running::start(config.clone());
    let mut running = behind_a_gap(running, &mut log, config).await;
    let found: Vec<String> = open(&mut running).await.into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(found, ["no negative balance", "every commit is judged"]);
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_snapshot_keeps_of_its_own_batch_is_no_violation() {
    let tables = "CREATE TABLE outbound_messages(id INTEGER PRIMARY KEY, target TEXT)";
    let mut log = Log::begin(tables).await;
    let mut config = endorsing(&log, RULES);
    config.endorse.incarnation_max = 0;
    config.rules = None;
    let mut running = Running::start(config);
    until_endorsed(&mut running, log.last()).await;
    log.run("INSERT INTO outbound_messages VALUES(1, 'a')");
    log.begin_anew("copy.db", &format!("{tables}; INSERT INTO outbound_messages VALUES(1, 'a')")).await;
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incarnation_that_is_admitted_is_endorsed_and_its_history_is_kept() {
    let mut log = Log::begin(SETUP).await;
    log.run("UPDATE balances SET amount = -1 WHERE account = 1");
    let at = log.publish().await;
    let mut config = endorsing(&log, RULES);
    config.endorse.incarnation_max = 0;
    let mut running = Running::start(config.clone());
    running.until_applied(at).await;
    log.begin_anew("copy.db", SETUP).await;
    let anew = log.publish().await;
    running.until_applied(anew).await;
    assert_eq!(
        open(&mut running).await,
        [("no negative balance".to_owned(), at.get())],
        "a snapshot forgets nothing"
    );
    resolve(&log.replica(), 1);
    until_endorsed(&mut running, anew).await;
    log.run("UPDATE balances SET amount = 11 WHERE account = 1");
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incarnation_is_admitted_by_nobody_because_it_came_before_there_were_rules() {
    let mut log = Log::begin(SETUP).await;
    log.begin_anew("copy.db", SETUP).await;
    let anew = log.publish().await;
    apply_unjudged(&log).await;
    for _ in 0..2 {
        let mut running = caught_up(endorsing(&log, RULES)).await;
        let found = [("incarnation".to_owned(), anew.get()), ("every commit is judged".to_owned(), 1)];
        assert_eq!(open(&mut running).await, found, "found once");
        running.stop().await.unwrap();
    }
    assert_eq!(last_endorsed(&log).await, None);
}
