//! The default rules over the message tables.

use super::*;
use crate::running::equal;

const TABLES: &str = "CREATE TABLE outbound_messages(id INTEGER PRIMARY KEY, target TEXT);
    CREATE TABLE inbound_messages(message_id INTEGER PRIMARY KEY, outcome TEXT)";

/// What is found of one commit, or of one reconcile.
async fn found(setup: &str, sql: &str, reconciled: bool) -> Vec<String> {
    let mut log = Log::begin(&format!("{TABLES}; {setup}")).await;
    let mut running = Running::start(endorsing(&log, ""));
    until_endorsed(&mut running, log.last()).await;
    if reconciled {
        log.reconcile(sql);
    } else {
        log.run(sql);
    }
    let last = log.publish().await;
    running.until_applied(last).await;
    let found = open(&mut running).await.into_iter().map(|(rule, _)| rule).collect();
    running.stop().await.unwrap();
    equal(&log);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_out_in_order_each_once_and_are_never_rewritten() {
    let setup = "INSERT INTO outbound_messages VALUES(1, 'a'), (2, 'b')";
    for reconciled in [false, true] {
        for fine in ["INSERT INTO outbound_messages VALUES(3, 'c'), (4, 'd')", "CREATE TABLE other(a)"] {
            assert_eq!(found(setup, fine, reconciled).await, [""; 0], "{fine}");
        }
        for wrong in [
            "INSERT INTO outbound_messages VALUES(4, 'd')",
            "UPDATE outbound_messages SET target = 'x' WHERE id = 1",
            "DELETE FROM outbound_messages WHERE id = 2",
            "BEGIN; DELETE FROM outbound_messages WHERE id = 2; INSERT INTO outbound_messages VALUES(2, 'x'); COMMIT",
            "DROP TABLE outbound_messages",
            "BEGIN; DROP TABLE outbound_messages; CREATE TABLE outbound_messages(id INTEGER PRIMARY KEY, target TEXT); COMMIT",
            "ALTER TABLE outbound_messages ADD COLUMN amount DEFAULT 5",
        ] {
            assert_eq!(found(setup, wrong, reconciled).await, ["outbound messages"], "{wrong}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_went_out_never_comes_again() {
    let mut log =
        Log::begin(&format!("{TABLES}; INSERT INTO outbound_messages VALUES(1, 'a'), (2, 'b')")).await;
    let mut running = Running::start(endorsing(&log, ""));
    until_endorsed(&mut running, log.last()).await;
    log.run("DELETE FROM outbound_messages WHERE id = 2");
    let last = log.publish().await;
    running.until_applied(last).await;
    resolve(&log.replica(), 1);
    until_endorsed(&mut running, last).await;
    log.run("INSERT INTO outbound_messages VALUES(2, 'somebody else')");
    let again = log.publish().await;
    running.until_applied(again).await;
    assert_eq!(open(&mut running).await, [("outbound messages".to_owned(), again.get())]);
    running.stop().await.unwrap();
    assert_eq!(last_endorsed(&log).await, Some(last.get()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_brings_no_message_and_hides_none() {
    for (anew, wrong) in [
        ("INSERT INTO outbound_messages VALUES(1, 'a'), (2, 'b')", false),
        ("INSERT INTO outbound_messages VALUES(1, 'a'), (2, 'b'), (3, 'smuggled')", true),
        ("INSERT INTO outbound_messages VALUES(1, 'a')", true),
        ("INSERT INTO outbound_messages VALUES(1, 'x'), (2, 'b')", true),
    ] {
        let mut log =
            Log::begin(&format!("{TABLES}; INSERT INTO outbound_messages VALUES(1, 'a'), (2, 'b')")).await;
        let mut config = endorsing(&log, "");
        config.endorse.incarnation_max = 0;
        let mut running = Running::start(config);
        until_endorsed(&mut running, log.last()).await;
        log.begin_anew("copy.db", &format!("{TABLES}; {anew}")).await;
        let last = log.publish().await;
        running.until_applied(last).await;
        let expected = if wrong { vec![("outbound messages".to_owned(), last.get())] } else { Vec::new() };
        assert_eq!(open(&mut running).await, expected, "{anew}");
        running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_that_was_not_delivered() {
    assert_eq!(
        found("", "INSERT INTO inbound_messages VALUES(1, 'done')", false).await,
        ["inbound messages"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_went_out_counts_also_where_a_snapshot_of_its_batch_takes_it_back() {
    let two = format!("{TABLES}; INSERT INTO outbound_messages VALUES(1, 'a'), (2, 'b')");
    for begins in 1..=2 {
        let mut log = Log::begin(&two).await;
        let mut config = endorsing(&log, "");
        config.endorse.incarnation_max = 0;
        let mut running = Running::start(config);
        until_endorsed(&mut running, log.last()).await;
        // All of it is one batch, and only what follows the last snapshot stays.
        for at in 0..begins {
            log.run("INSERT INTO outbound_messages VALUES(3, 'c')");
            log.begin_anew(&format!("copy{at}.db"), &two).await;
        }
        log.run("INSERT INTO outbound_messages VALUES(3, 'somebody else')");
        let wrong = log.last();
        let last = log.publish().await;
        running.until_applied(last).await;
        let found = open(&mut running).await;
        assert!(found.contains(&("outbound messages".to_owned(), wrong.get())), "{begins}: {found:?}");
        running.stop().await.unwrap();
        equal(&log);
    }
}
