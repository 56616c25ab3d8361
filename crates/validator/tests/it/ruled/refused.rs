//! A violation at one commit: endorsement stops exactly before its message, and goes on when it is resolved.

use synddb_protocol::log::SignedRefusal;
use synddb_sqlite::rusqlite;

use super::*;
use crate::running::{equal, rebuild};

#[tokio::test(flavor = "multi_thread")]
async fn endorsement_stops_exactly_before_a_violation_and_goes_on_when_it_is_resolved() {
    let mut log = Log::begin(SETUP).await;
    log.run("UPDATE balances SET amount = 50 WHERE account = 1");
    let before = log.publish().await;
    let mut running = Running::start(endorsing(&log, RULES));
    until_endorsed(&mut running, before).await;
    // In one batch with others, and mended by the next commit.
    log.run("UPDATE balances SET amount = 60 WHERE account = 1");
    log.run("UPDATE balances SET amount = amount - 70 WHERE account = 1");
    let at = log.last();
    log.run("UPDATE balances SET amount = 5 WHERE account = 1");
    let last = log.publish().await;
    let events = running.until_applied(last).await;
    assert!(events.iter().all(|event| !matches!(event, Event::Endorsed { .. })), "{events:?}");
    let violated = |event: &Event| matches!(event, Event::Violated { sequence, .. } if *sequence == at);
    assert!(events.iter().any(violated), "{events:?}");
    log.run("UPDATE balances SET amount = 7 WHERE account = 2");
    let last = log.publish().await;
    running.until_applied(last).await;
    assert_eq!(open(&mut running).await, [("no negative balance".to_owned(), at.get())]);
    assert_eq!(last_endorsed(&log).await, Some(before.get()));

    let (_, refusals) = running.get_json("/refusals").await;
    let refusal = &refusals[0];
    assert_eq!(refusal["offending"]["columns"], serde_json::json!(["account", "amount"]));
    assert_eq!(refusal["offending"]["rows"], serde_json::json!([[1, -10]]));
    let signed = hex::decode(refusal["signed"].as_str().unwrap().trim_start_matches("0x")).unwrap();
    let signed = SignedRefusal::from_bytes(&signed).unwrap();
    assert_eq!(signed.recover().unwrap().id(), signed.key());
    assert_eq!((signed.refusal().sequence, signed.refusal().rule.as_str()), (at, "no negative balance"));
    assert!(signed.refusal().rows.contains("-10"));
    let (_, status) = running.get_json("/status").await;
    assert_eq!(status["refused"], 1);
    assert_eq!(status["endorsing"]["sequence"], before.get());
    assert_eq!(status["endorsing"]["attested"], false);
    assert_eq!(status["sequence"], last.get(), "replication goes on");
    running.stop().await.unwrap();
    equal(&log);

    // So it is after a restart, also for what comes then.
    let mut running = Running::start(endorsing(&log, RULES));
    log.run("UPDATE balances SET amount = 8 WHERE account = 2");
    let last = log.publish().await;
    running.until_applied(last).await;
    assert_eq!(open(&mut running).await.len(), 1);
    assert_eq!(last_endorsed(&log).await, Some(before.get()));
    resolve(&log.replica(), 1);
    running.until(|event| matches!(event, Event::Resolved { id: 1, .. })).await;
    until_endorsed(&mut running, last).await;
    assert_eq!(open(&mut running).await, []);
    let (_, refusals) = running.get_json("/refusals").await;
    assert_eq!(
        (&refusals[0]["how"], &refusals[0]["because"]),
        (&"resolved".into(), &"paid back by hand".into())
    );
    // Those in between are covered by the newest, and were never endorsed themselves.
    let places: Vec<u64> = stored(&log).await.keys().map(|sequence| sequence.get()).collect();
    assert_eq!(places, [2, before.get(), last.get()]);
    running.stop().await.unwrap();
    assert!(std::fs::read_dir(log.folder.path().join("replica.db.resolved")).unwrap().next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_that_catches_up_endorses_exactly_what_lies_before() {
    let mut log = Log::begin(SETUP).await;
    let mut places = Vec::new();
    for amount in [5, 4, -3, 2] {
        log.run(&format!("UPDATE balances SET amount = {amount} WHERE account = 1"));
        places.push(log.publish().await);
    }
    // All four come in one transaction.
    let mut running = Running::start(endorsing(&log, RULES));
    running.until_applied(places[3]).await;
    until_endorsed(&mut running, places[1]).await;
    assert_eq!(open(&mut running).await, [("no negative balance".to_owned(), places[2].get())]);
    running.stop().await.unwrap();
    assert_eq!(last_endorsed(&log).await, Some(places[1].get()));
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_removed_resolves_what_it_found_and_one_that_is_new_sees_all_rows() {
    let mut log = Log::begin(SETUP).await;
    log.run("UPDATE balances SET amount = -1 WHERE account = 1");
    let last = log.publish().await;
    let mut running = Running::start(endorsing(&log, RULES));
    until_endorsed(&mut running, Sequence::new(2).unwrap()).await;
    running.stop().await.unwrap();
    assert_eq!(last_endorsed(&log).await, Some(2), "the first batch");
    let mut running = Running::start(endorsing(&log, ""));
    until_endorsed(&mut running, last).await;
    let (_, refusals) = running.get_json("/refusals").await;
    assert_eq!(refusals[0]["how"], "rule_removed", "{refusals}");
    running.stop().await.unwrap();
    // It comes back, and the row is still there.
    let mut running = Running::start(endorsing(&log, RULES));
    running.until(|event| matches!(event, Event::Violated { .. })).await;
    log.run("UPDATE balances SET amount = 3 WHERE account = 2");
    let later = log.publish().await;
    running.until_applied(later).await;
    assert_eq!(open(&mut running).await.len(), 1);
    running.stop().await.unwrap();
    assert_eq!(last_endorsed(&log).await, Some(last.get()));
    // The same file, without anything new: nothing is found twice.
    let mut running = caught_up(endorsing(&log, RULES)).await;
    assert_eq!(open(&mut running).await.len(), 1);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_is_there_only_with_what_was_applied() {
    let mut log = Log::begin(SETUP).await;
    let mut running = Running::start(endorsing(&log, RULES));
    until_endorsed(&mut running, log.last()).await;
    running.stop().await.unwrap();
    let commits = log.capture("UPDATE balances SET amount = -1 WHERE account = 1");
    log.submit(commits[0].clone());
    // A commit in the same batch that no replica can apply.
    let mut edited = log.capture("UPDATE balances SET amount = 9 WHERE account = 2");
    if let synddb_protocol::submission::Content::Commits(commits) = &edited[0] {
        let mut commit = commits.as_slice()[0].clone();
        commit.changes.rows[3] ^= 1;
        edited = vec![synddb_protocol::submission::Content::Commits(
            synddb_protocol::submission::Commits::new(vec![commit]).unwrap(),
        )];
    }
    log.submit_edited(edited[0].clone());
    log.publish().await;
    let mut running = Running::start(endorsing(&log, RULES));
    running.until(|event| matches!(event, Event::Halted(_))).await;
    running.stop().await.unwrap_err();
    let replica = rusqlite::Connection::open(log.replica()).unwrap();
    let count: i64 =
        replica.query_row("SELECT count(*) FROM _synddb_violations", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 0, "the batch was taken back whole");
    assert!(last_endorsed(&log).await <= Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_cannot_be_evaluated_is_violated() {
    let mut log = Log::begin(SETUP).await;
    let mut running = Running::start(endorsing(&log, RULES));
    until_endorsed(&mut running, log.last()).await;
    log.run("ALTER TABLE balances RENAME COLUMN amount TO money");
    let last = log.publish().await;
    running.until(|event| matches!(event, Event::Violated { sequence, .. } if *sequence == last)).await;
    let (_, refusals) = running.get_json("/refusals").await;
    assert_eq!(refusals[0]["why"], "unevaluated");
    assert!(refusals[0]["detail"].as_str().unwrap().contains("no such column"), "{refusals}");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_whose_table_was_never_there_is_violated_from_the_first_state_on() {
    let mut log = Log::begin(SETUP).await;
    log.run("UPDATE balances SET amount = -1 WHERE account = 1");
    let last = log.publish().await;
    let mut running = Running::start(endorsing(&log, &RULES.replace("balances", "balance")));
    running.until_applied(last).await;
    let (_, refusals) = running.get_json("/refusals").await;
    assert!(refusals[0]["detail"].as_str().unwrap().contains("there is no table `balance`"), "{refusals}");
    running.stop().await.unwrap();
    assert_eq!(last_endorsed(&log).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_without_rules_applied_is_endorsed_by_no_later_one() {
    let mut log = Log::begin(SETUP).await;
    let before = log.last();
    let mut running = Running::start(endorsing(&log, RULES));
    until_endorsed(&mut running, before).await;
    running.stop().await.unwrap();
    // Below zero and back, which no row shows afterwards.
    log.run("UPDATE balances SET amount = -1 WHERE account = 1");
    log.run("UPDATE balances SET amount = 1 WHERE account = 1");
    log.publish().await;
    apply_unjudged(&log).await;
    let mut running = Running::start(endorsing(&log, RULES));
    log.run("UPDATE balances SET amount = 2 WHERE account = 1");
    let last = log.publish().await;
    running.until_applied(last).await;
    let place = before.get() + 1;
    assert_eq!(open(&mut running).await, [("every commit is judged".to_owned(), place)]);
    running.stop().await.unwrap();
    assert_eq!(last_endorsed(&log).await, Some(before.get()));
    // It is found once, and somebody decides.
    let mut running = caught_up(endorsing(&log, RULES)).await;
    assert_eq!(open(&mut running).await.len(), 1);
    resolve(&log.replica(), 1);
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolution_of_another_violation_resolves_nothing() {
    let mut log = Log::begin(SETUP).await;
    log.run("UPDATE balances SET amount = -1 WHERE account = 1");
    let last = log.publish().await;
    let mut running = Running::start(endorsing(&log, RULES));
    running.until_applied(last).await;
    let kept = violations_of(&log.replica()).unwrap().remove(0);
    let seen = Seen { further: 3, ..Seen::from(&kept) };
    let because = "of another one".to_owned();
    let file = Resolution { id: kept.id, seen, at: Timestamp::ZERO, because }.leave(&log.replica()).unwrap();
    while file.exists() {
        tokio::task::yield_now().await;
    }
    assert_eq!(open(&mut running).await.len(), 1);
    running.stop().await.unwrap();
}

/// A rule that reads a table at which nobody looks. Its `amount` is the balance's, until `limits` has one.
const LIMITS: &str = r#"
[[rule]]
name = "limits"
tables = ["balances"]
sql = "SELECT b.account FROM changed_balances AS b WHERE NOT EXISTS (SELECT 1 FROM limits WHERE limits.of = b.account AND amount >= limits.least)"
"#;

fn with_limits() -> String {
    format!("CREATE TABLE limits(of INT, least INT); INSERT INTO limits VALUES(1, 0), (2, 0); {SETUP}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_means_another_column_is_found_also_over_a_restart_and_by_a_snapshot() {
    let setup = with_limits();
    let silencing = "ALTER TABLE limits ADD COLUMN amount INT DEFAULT 1000000";
    let made_anew = "BEGIN; DROP TABLE limits; CREATE TABLE limits(of INT, least INT, amount INT DEFAULT 1000000); COMMIT";
    for (by_snapshot, silencing) in [(false, silencing), (false, made_anew), (true, silencing)] {
        let mut log = Log::begin(&setup).await;
        let mut config = endorsing(&log, LIMITS);
        config.endorse.incarnation_max = 0;
        let mut running = Running::start(config.clone());
        until_endorsed(&mut running, log.last()).await;
        running.stop().await.unwrap();
        let mut running = caught_up(config).await;
        if by_snapshot {
            log.begin_anew("copy.db", &format!("{setup}; {silencing}")).await;
        } else {
            log.run(silencing);
        }
        let at = log.publish().await;
        running.until_applied(at).await;
        assert_eq!(open(&mut running).await, [("limits".to_owned(), at.get())], "{by_snapshot}");
        running.stop().await.unwrap();
        assert!(last_endorsed(&log).await < Some(at.get()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_and_comes_again_between_two_starts_is_found_both_times() {
    let mut log = Log::begin(&with_limits()).await;
    let mut running = Running::start(endorsing(&log, LIMITS));
    until_endorsed(&mut running, log.last()).await;
    // Nobody watches `limits`.
    log.run("DROP TABLE limits");
    let gone = log.publish().await;
    running.until_applied(gone).await;
    running.stop().await.unwrap();
    let mut running = caught_up(endorsing(&log, LIMITS)).await;
    log.run("CREATE TABLE limits(of INT, least INT, amount INT DEFAULT 1000000)");
    let again = log.publish().await;
    running.until_applied(again).await;
    let found = open(&mut running).await;
    assert_eq!(found, [("limits".to_owned(), gone.get()), ("limits".to_owned(), again.get())]);
    running.stop().await.unwrap();
    // The same where nobody judged when it came.
    log.run("ALTER TABLE limits RENAME COLUMN amount TO other");
    log.publish().await;
    apply_unjudged(&log).await;
    let mut running = caught_up(endorsing(&log, LIMITS)).await;
    let found = open(&mut running).await.split_off(2);
    let names = found.iter().map(|(rule, _)| rule.as_str()).collect::<Vec<_>>();
    // That it means something else, and what it finds so of all rows.
    assert_eq!(names, ["every commit is judged", "limits", "limits"]);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_rules_forgets_nothing_also_over_a_snapshot() {
    let mut log = Log::begin(SETUP).await;
    let mut config = endorsing(&log, RULES);
    config.endorse.incarnation_max = 0;
    let before = log.last();
    let mut running = Running::start(config.clone());
    until_endorsed(&mut running, before).await;
    log.run("UPDATE balances SET amount = -1 WHERE account = 1");
    let violated = log.publish().await;
    running.until_applied(violated).await;
    running.stop().await.unwrap();
    let mut running = Running::start(log.config(Mode::Follow));
    log.begin_anew("copy.db", SETUP).await;
    let unjudged = log.publish().await;
    running.until_applied(unjudged).await;
    running.stop().await.unwrap();
    let mut running = caught_up(config).await;
    assert_eq!(
        open(&mut running).await,
        [
            ("no negative balance".to_owned(), violated.get()),
            ("every commit is judged".to_owned(), unjudged.get())
        ]
    );
    running.stop().await.unwrap();
    assert_eq!(last_endorsed(&log).await, Some(before.get()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_without_rules_made_from_the_first_message_on_is_found_by_the_first_that_has_some() {
    let mut log = Log::begin(SETUP).await;
    log.run("UPDATE balances SET amount = -1 WHERE account = 1");
    log.run("UPDATE balances SET amount = 1 WHERE account = 1");
    let last = log.publish().await;
    rebuild(&log).await;
    let mut running = caught_up(endorsing(&log, RULES)).await;
    assert_eq!(open(&mut running).await, [("every commit is judged".to_owned(), 1)]);
    resolve(&log.replica(), 1);
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
    assert_eq!(last_endorsed(&log).await, Some(last.get()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_only_counted_stays_counted_where_a_snapshot_takes_its_commit_back() {
    let mut log = Log::begin(SETUP).await;
    let mut config = endorsing(&log, RULES);
    config.endorse.incarnation_max = 0;
    let mut running = Running::start(config);
    for _ in 0..16 {
        log.run("UPDATE balances SET amount = amount - 1000 WHERE account = 1");
    }
    let last = log.publish().await;
    running.until_applied(last).await;
    log.run("UPDATE balances SET amount = -1 WHERE account = 2");
    log.begin_anew("copy.db", SETUP).await;
    let last = log.publish().await;
    running.until_applied(last).await;
    running.stop().await.unwrap();
    let kept = violations_of(&log.replica()).unwrap();
    assert_eq!((kept.len(), kept.iter().map(|kept| kept.further).sum::<u64>()), (16, 1));
}
