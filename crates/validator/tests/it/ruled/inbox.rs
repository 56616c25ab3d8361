//! Inbound messages: compared with the chain, put into the log in time, and acknowledged in time; over a chain that is scripted at its node.

use synddb_chain::follow::Deadlines;
use synddb_protocol::hash::ChainHash;
use synddb_protocol::http::OutboundStatus;
use synddb_protocol::log::{Entry, Inbound};
use synddb_protocol::signing::Domain;
use synddb_sqlite::messages::SCHEMA;
use synddb_storage::StoreUrl;
use synddb_validator::{ConfigProblem, ValidatorError, check};

use super::node::{FIRST_BLOCK, Node};
use super::*;
use crate::running::{PATIENCE, equal};

const BRIDGE: Domain = Domain { chain_id: 31_337, contract: Address::from_bytes([0xb0; 20]) };
/// Two hours, which is longer than a message may be left out.
const LONG_AGO: u64 = 7_200;

/// A validator that asks this node.
fn asking(log: &Log, node: &Node) -> Config {
    let mut config = endorsing(log, "");
    config.endorse.chain_id = BRIDGE.chain_id;
    config.endorse.registry = Address::from_bytes([0xc0; 20]);
    config.endorse.bridge = BRIDGE.contract;
    config.endorse.incarnation_max = 0;
    config.endorse.nodes.rpc = vec![node.url.clone()];
    config.endorse.nodes.from_block = FIRST_BLOCK;
    config.endorse.nodes.poll_ms = 10;
    config
}

async fn begun() -> (Log, Node, Running) {
    let log = Log::begin(SCHEMA).await;
    let node = Node::start(BRIDGE);
    let mut running = Running::start(asking(&log, &node));
    until_endorsed(&mut running, log.last()).await;
    (log, node, running)
}

fn row(value: u64) -> String {
    format!(
        "INSERT INTO outbound_messages(target, value, created_at) VALUES('0x00000000000000000000000000000000000000aa', '{value}', 0)"
    )
}

fn acknowledge(id: u64) -> String {
    format!("INSERT INTO inbound_messages(message_id, outcome, processed_at) VALUES({id}, 'done', 0)")
}

/// Waits until something is in the way, and says what.
async fn until_failing(running: &mut Running, wanted: &str) -> String {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (_, status) = running.get_json("/status").await;
        if let Some(failing) = status["endorsing"]["failing"].as_str()
            && failing.contains(wanted)
        {
            return failing.to_owned();
        }
        assert!(tokio::time::Instant::now() < until, "{status}");
        tokio::task::yield_now().await;
    }
}

async fn is_signed(running: &mut Running, nonce: u64) -> bool {
    let (code, told) = running.get_json(&format!("/outbound/{nonce}")).await;
    assert_eq!(code, 200, "{told}");
    matches!(serde_json::from_value(told).unwrap(), OutboundStatus::Signed(_))
}

async fn until_signed(running: &mut Running, nonce: u64) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !is_signed(running, nonce).await {
        assert!(tokio::time::Instant::now() < until, "{:?}", running.get_json("/status").await);
        tokio::task::yield_now().await;
    }
}

/// Waits until it is signed, or something is in the way; says whether it is signed.
async fn until_signed_or_failing(running: &mut Running, nonce: u64) -> bool {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !is_signed(running, nonce).await {
        let (_, status) = running.get_json("/status").await;
        if !status["endorsing"]["failing"].is_null() {
            // It may have been signed between both questions.
            return is_signed(running, nonce).await;
        }
        assert!(tokio::time::Instant::now() < until, "{status}");
        tokio::task::yield_now().await;
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chain_has_is_endorsed_also_when_the_node_comes_later() {
    let (mut log, node, mut running) = begun().await;
    for data in ["one", "two", "three"] {
        let inbound = node.send(data, 0);
        log.sign(&Entry::Inbound(inbound));
    }
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    // The log has two more in the batch of a new incarnation's snapshot, one before it and one behind.
    node.set_down(true);
    let four = node.send("four", 0);
    log.sign(&Entry::Inbound(four));
    log.begin_anew("copy.db", SCHEMA).await;
    let five = node.send("five", 0);
    log.sign(&Entry::Inbound(five));
    let last = log.publish().await;
    running.until_applied(last).await;
    let why = until_failing(&mut running, "do not tell").await;
    assert!(why.contains("does not answer") && why.contains("compared=`3`"), "{why}");
    node.set_down(false);
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
    equal(&log);
    let kept = rusqlite_of(&log.replica(), "SELECT count(*) FROM _synddb_inbound");
    assert_eq!(kept, 5, "also those around the snapshot");
}

fn rusqlite_of(file: &Path, sql: &str) -> i64 {
    let sqlite = synddb_sqlite::rusqlite::Connection::open(file).unwrap();
    sqlite.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_message_stops_endorsement_exactly_before_it() {
    let forgeries: [fn(Inbound) -> Inbound; 3] = [
        |sent| Inbound { event: b"all of it is mine".to_vec(), ..sent },
        |sent| Inbound { transaction_hash: ChainHash::from_bytes([0xee; 32]), ..sent },
        |sent| Inbound { block_number: sent.block_number + 1, ..sent },
    ];
    for forge in forgeries {
        let (mut log, node, mut running) = begun().await;
        let one = node.send("one", 0);
        log.sign(&Entry::Inbound(one));
        log.run(&row(5));
        let before = log.publish().await;
        until_endorsed(&mut running, before).await;
        until_signed(&mut running, 1).await;
        let two = node.send("two", 0);
        log.sign(&Entry::Inbound(forge(two)));
        log.run(&row(6));
        log.publish().await;
        let why = until_failing(&mut running, "another inbound message").await;
        assert!(why.contains("nonce=`2`"), "{why}");
        // Nor behind it, nor after a restart without the node.
        let three = node.send("three", 0);
        log.sign(&Entry::Inbound(three));
        let last = log.publish().await;
        running.until_applied(last).await;
        running.stop().await.unwrap();
        node.set_down(true);
        let mut running = caught_up(asking(&log, &node)).await;
        until_failing(&mut running, "another inbound message").await;
        assert!(!is_signed(&mut running, 2).await);
        running.stop().await.unwrap();
        assert_eq!(last_endorsed(&log).await, Some(before.get()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chain_does_not_have_is_not_endorsed_until_it_has() {
    let (mut log, node, mut running) = begun().await;
    let before = log.last();
    let sent = Node::start(BRIDGE).send("later", 0);
    log.sign(&Entry::Inbound(sent.clone()));
    let last = log.publish().await;
    let why = until_failing(&mut running, "not compared with the chain yet").await;
    assert!(why.contains("may be behind") && why.contains("delivered=`1` compared=`0`"), "{why}");
    assert_eq!(last_endorsed(&log).await, Some(before.get()));
    assert_eq!(node.send("later", 0), sent);
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
    // Of another bridge it never is.
    let mut config = asking(&log, &node);
    config.endorse.bridge = Address::from_bytes([0xb1; 20]);
    log.run("CREATE TABLE noise(a)");
    log.publish().await;
    let mut running = Running::start(config);
    until_failing(&mut running, "another bridge").await;
    running.stop().await.unwrap();
    assert_eq!(last_endorsed(&log).await, Some(last.get()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_log_leaves_out_halts_outbound_messages_and_no_checkpoint() {
    let (mut log, node, mut running) = begun().await;
    // Not before its time.
    let one = node.send("one", 60);
    log.run(&row(5));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    until_signed(&mut running, 1).await;
    log.sign(&Entry::Inbound(one));
    let two = node.send("two", LONG_AGO);
    let three = node.send("three", LONG_AGO);
    log.run(&acknowledge(1));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    // Rows are signed until it is seen on the chain.
    let mut held = 2;
    loop {
        log.run(&row(6));
        let last = log.publish().await;
        until_endorsed(&mut running, last).await;
        if !until_signed_or_failing(&mut running, held).await {
            break;
        }
        held += 1;
    }
    log.run(&row(7));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    let why = until_failing(&mut running, "put a message of the bridge into the log").await;
    assert!(why.contains("nonce=`2`"), "{why}");
    assert!(!is_signed(&mut running, held).await && !is_signed(&mut running, held + 1).await);
    // A restart knows it as well, also before the node tells.
    running.stop().await.unwrap();
    node.set_down(true);
    let mut running = caught_up(asking(&log, &node)).await;
    until_failing(&mut running, "outbound messages wait").await;
    assert!(!is_signed(&mut running, held).await);
    node.set_down(false);
    until_failing(&mut running, "put a message of the bridge into the log").await;
    // One of the two is not enough.
    log.sign(&Entry::Inbound(two));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    until_failing(&mut running, "nonce=`3`").await;
    assert!(!is_signed(&mut running, held).await);
    log.sign(&Entry::Inbound(three));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    until_signed(&mut running, held).await;
    until_signed(&mut running, held + 1).await;
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_does_not_acknowledge_halts_outbound_messages_until_it_does() {
    let mut log = Log::begin(SCHEMA).await;
    let node = Node::start(BRIDGE);
    let mut config = asking(&log, &node);
    config.endorse.deadlines = Deadlines { warned_ms: 10_000, degraded_ms: 20_000, halted_ms: 30_000 };
    let mut running = Running::start(config.clone());
    for data in ["one", "two"] {
        let inbound = node.send(data, 0);
        log.sign(&Entry::Inbound(inbound));
        log.pass_ms(5_000);
    }
    // Warned: the first is late, and not too late.
    log.pass_ms(9_000);
    log.run(&row(5));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    until_signed(&mut running, 1).await;
    for (passes, level) in [(2_000, "degraded"), (10_000, "halted")] {
        log.pass_ms(passes);
        log.run(&row(6));
        let last = log.publish().await;
        until_endorsed(&mut running, last).await;
        let why = until_failing(&mut running, level).await;
        assert!(why.contains("acknowledged=`0` delivered=`2`"), "{why}");
        assert!(!is_signed(&mut running, 2).await);
    }
    // A restart decides the same.
    running.stop().await.unwrap();
    let mut running = caught_up(config).await;
    until_failing(&mut running, "halted").await;
    // The second is five seconds younger, and still too late.
    log.run(&acknowledge(1));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    until_failing(&mut running, "acknowledged=`1`").await;
    assert!(!is_signed(&mut running, 2).await && !is_signed(&mut running, 3).await);
    log.run(&acknowledge(2));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    until_signed(&mut running, 2).await;
    until_signed(&mut running, 3).await;
    let (_, status) = running.get_json("/status").await;
    assert!(status["endorsing"]["failing"].is_null(), "{status}");
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_it_was_and_a_lost_file_looks_again() {
    let (mut log, node, mut running) = begun().await;
    for data in ["one", "two"] {
        let inbound = node.send(data, 0);
        log.sign(&Entry::Inbound(inbound));
    }
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
    assert!(node.take_asked().iter().any(|from| *from <= FIRST_BLOCK + 1));
    let mut running = Running::start(asking(&log, &node));
    let three = node.send("three", 0);
    log.sign(&Entry::Inbound(three));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
    let asked = node.take_asked();
    assert!(!asked.is_empty() && asked.iter().all(|from| *from >= FIRST_BLOCK + 2), "{asked:?}");
    // Neither what was seen on the chain, nor what an older release keeps of the log.
    std::fs::remove_file(log.folder.path().join("replica.db.inbox.db")).unwrap();
    let sqlite = synddb_sqlite::rusqlite::Connection::open(log.replica()).unwrap();
    sqlite.execute_batch("DROP TABLE _synddb_inbound").unwrap();
    drop(sqlite);
    let mut running = Running::start(asking(&log, &node));
    log.run("CREATE TABLE noise(a)");
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
    assert!(node.take_asked().contains(&FIRST_BLOCK));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_claims_more_acknowledgements_than_there_are_is_not_endorsed() {
    let (mut log, node, mut running) = begun().await;
    let before = log.last();
    for data in ["one", "two"] {
        let inbound = node.send(data, 0);
        log.sign(&Entry::Inbound(inbound));
    }
    log.run(&acknowledge(1));
    log.claim_consumed(2);
    log.publish().await;
    let why = until_failing(&mut running, "more inbound messages are acknowledged").await;
    assert!(why.contains("claimed=`2` acknowledged=`1`"), "{why}");
    assert_eq!(last_endorsed(&log).await, Some(before.get()));
    // What it claims is so by now.
    log.run(&acknowledge(2));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_cannot_be_asked_are_told_at_the_start() {
    let log = Log::begin(SCHEMA).await;
    let node = Node::start(BRIDGE);
    let mut config = asking(&log, &node);
    config.store = StoreUrl::folder(&log.folder.path().join("store")).unwrap();
    check(&config).await.unwrap();
    let mut without = config.clone();
    without.endorse.bridge = Address::ZERO;
    let refused = check(&without).await.unwrap_err();
    assert!(matches!(refused, ValidatorError::Config(ConfigProblem::NodesWithoutBridge)), "{refused}");
    config.endorse.nodes.rpc.push("ipc:///node".to_owned());
    let refused = check(&config).await.unwrap_err();
    assert!(matches!(refused, ValidatorError::Nodes(_)) && refused.is_refusal(), "{refused}");
}
