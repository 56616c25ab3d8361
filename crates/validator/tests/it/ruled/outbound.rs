//! Outbound messages: signed when an endorsed checkpoint covers them, one digest for each id, ever.

use synddb_protocol::Uint256;
use synddb_protocol::hash::{ChainHash, PayloadHash};
use synddb_protocol::http::{OutboundSignature, OutboundStatus};
use synddb_protocol::id::InboundNonce;
use synddb_protocol::log::{Entry, Inbound, OutboundMessage};
use synddb_protocol::signing::{Domain, RecoverableSignature};
use synddb_sqlite::messages::{DEADLINE_NEVER, SCHEMA};

use super::*;
use crate::running::{PATIENCE, equal};

const BRIDGE: Domain = Domain { chain_id: 31_337, contract: Address::from_bytes([0xb0; 20]) };
const TARGET: &str = "0x00000000000000000000000000000000000000aa";

/// A validator that signs for a bridge.
fn signing(log: &Log) -> Config {
    let mut config = endorsing(log, "");
    config.endorse.chain_id = BRIDGE.chain_id;
    config.endorse.registry = Address::from_bytes([0xc0; 20]);
    config.endorse.bridge = BRIDGE.contract;
    config
}

/// A database with the message tables, and a validator that signs what comes.
async fn begun() -> (Log, Running) {
    let log = Log::begin(SCHEMA).await;
    let mut running = Running::start(signing(&log));
    until_endorsed(&mut running, log.last()).await;
    (log, running)
}

fn row(value: u64) -> String {
    format!(
        "INSERT INTO outbound_messages(target, value, payload, created_at) VALUES('{TARGET}', '{value}', x'0{value}', 0)"
    )
}

/// What such a row says.
fn message(nonce: u64, value: u64) -> OutboundMessage {
    OutboundMessage {
        stream: STREAM,
        nonce,
        target: TARGET.parse().unwrap(),
        value: value.into(),
        token: Address::ZERO,
        amount: Uint256::ZERO,
        payload_hash: PayloadHash::of(&[u8::try_from(value).unwrap()]),
        gas_limit: 200_000,
        deadline: DEADLINE_NEVER,
        inbox_consumed: 0,
    }
}

async fn told(running: &mut Running, nonce: u64) -> OutboundStatus {
    let (code, told) = running.get_json(&format!("/outbound/{nonce}")).await;
    assert_eq!(code, 200, "{told}");
    serde_json::from_value(told).unwrap()
}

/// Waits until it is signed.
async fn signed(running: &mut Running, nonce: u64) -> OutboundSignature {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (code, told) = running.get_json(&format!("/outbound/{nonce}/signature")).await;
        if code == 200 {
            return serde_json::from_value(told).unwrap();
        }
        assert!(code == 404 && tokio::time::Instant::now() < until, "{code} {told}");
        tokio::task::yield_now().await;
    }
}

/// Why it is refused.
async fn refused(running: &mut Running, nonce: u64) -> String {
    let (code, _) = running.get(&format!("/outbound/{nonce}/signature")).await;
    assert_eq!(code, 422);
    match told(running, nonce).await {
        OutboundStatus::Refused(refused) => refused.detail,
        other => panic!("{other:?}"),
    }
}

/// Whose signature it is, over what.
fn signer(found: &OutboundSignature, message: &OutboundMessage) -> Option<Address> {
    let mut bytes = [0; 65];
    hex::decode_to_slice(&found.signature[2..], &mut bytes).unwrap();
    RecoverableSignature::from_bytes(bytes).recover(&message.digest(&BRIDGE))
}

fn key(log: &Log) -> Address {
    let mut bytes = [0; 32];
    let text = std::fs::read_to_string(log.folder.path().join("endorse.key")).unwrap();
    hex::decode_to_slice(text.trim().trim_start_matches("0x"), &mut bytes).unwrap();
    SigningKey::from_bytes(bytes).unwrap().id()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stored_commit_brought_is_signed_once_and_the_same_after_a_restart() {
    let (mut log, mut running) = begun().await;
    assert_eq!(
        running.get("/outbound/1/signature").await.0,
        404,
        "no such row is in the log, whoever signs one"
    );
    assert_eq!(running.get("/outbound/0").await.0, 400);
    log.run(&row(5));
    log.run(&row(6));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    let found = signed(&mut running, 2).await;
    assert_eq!(signer(&found, &message(2, 6)), Some(key(&log)));
    assert_eq!(found.fields.message(STREAM, 2).unwrap(), message(2, 6));
    let first = signed(&mut running, 1).await;
    assert_eq!(signer(&first, &message(1, 5)), Some(key(&log)));
    assert_eq!(running.get("/outbound/3/signature").await.0, 404);
    let (_, list) = running.get_json("/outbound?from=2").await;
    assert_eq!((&list["last"], list["messages"].as_array().unwrap().len()), (&2.into(), 1), "{list}");
    running.stop().await.unwrap();
    // What was signed stands, also for a replica that is made anew.
    std::fs::remove_file(log.replica()).unwrap();
    let mut running = Running::start(signing(&log));
    running.until_applied(last).await;
    assert_eq!(signed(&mut running, 1).await, first);
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_changed_or_deleted_is_refused_and_reported() {
    for wrong in [
        "UPDATE outbound_messages SET value = '9' WHERE id = 1",
        "DELETE FROM outbound_messages WHERE id = 1",
        "DROP TABLE outbound_messages",
    ] {
        let (mut log, mut running) = begun().await;
        log.run("DROP TRIGGER outbound_messages_kept; DROP TRIGGER outbound_messages_not_deleted");
        log.run(&row(5));
        // Both are in one batch: nothing was signed between them.
        log.run(wrong);
        let last = log.publish().await;
        running.until_applied(last).await;
        assert_eq!(open(&mut running).await, [("outbound messages".to_owned(), last.get())], "{wrong}");
        assert!(!refused(&mut running, 1).await.is_empty());
        // Whoever resolves it does not make it signed.
        resolve(&log.replica(), 1);
        until_endorsed(&mut running, last).await;
        assert!(!refused(&mut running, 1).await.is_empty());
        running.stop().await.unwrap();
        equal(&log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_is_not_shown_any_more_once_its_row_was_changed() {
    let (mut log, mut running) = begun().await;
    log.run("DROP TRIGGER outbound_messages_kept");
    log.run(&row(5));
    let first = log.publish().await;
    until_endorsed(&mut running, first).await;
    signed(&mut running, 1).await;
    log.run("UPDATE outbound_messages SET value = '9' WHERE id = 1");
    let last = log.publish().await;
    running.until_applied(last).await;
    assert!(refused(&mut running, 1).await.contains("changed or deleted"));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_with_other_content_after_a_new_incarnation_is_refused() {
    let (mut log, mut running) = begun().await;
    log.run(&row(5));
    let first = log.publish().await;
    until_endorsed(&mut running, first).await;
    let before = signed(&mut running, 1).await;
    log.begin_anew("copy.db", &format!("{SCHEMA}; {}", row(7))).await;
    log.run(&row(8));
    let last = log.publish().await;
    running.until_applied(last).await;
    let found = open(&mut running).await;
    assert!(found.iter().any(|(rule, _)| rule == "outbound messages"), "{found:?}");
    assert!(!refused(&mut running, 1).await.is_empty());
    assert!(
        matches!(told(&mut running, 2).await, OutboundStatus::Waiting { .. }),
        "it comes behind a violation"
    );
    running.stop().await.unwrap();
    // The incarnation is admitted, and the violation resolved: the id has its one digest all the same.
    let mut config = signing(&log);
    config.endorse.incarnation_max = 2;
    let mut running = caught_up(config.clone()).await;
    let (_, refusals) = running.get_json("/refusals").await;
    for refusal in refusals.as_array().unwrap().iter().filter(|refusal| refusal["resolved_at"].is_null()) {
        resolve(&log.replica(), refusal["id"].as_u64().unwrap());
    }
    until_endorsed(&mut running, last).await;
    let second = signed(&mut running, 2).await;
    assert_eq!(signer(&second, &message(2, 8)), Some(key(&log)));
    assert!(!refused(&mut running, 1).await.is_empty());
    running.stop().await.unwrap();
    assert_eq!(
        signer(&before, &message(1, 5)),
        Some(key(&log)),
        "what was signed is what the row said first"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_note_of_another_content_forbids_a_signature() {
    let (mut log, running) = begun().await;
    running.stop().await.unwrap();
    log.run(&row(5));
    let last = log.publish().await;
    let mut running = Running::start(signing(&log));
    until_endorsed(&mut running, last).await;
    signed(&mut running, 1).await;
    running.stop().await.unwrap();
    // The same key for another bridge: the id is taken.
    let mut config = signing(&log);
    config.endorse.bridge = Address::from_bytes([0xb1; 20]);
    let mut running = caught_up(config).await;
    log.run("CREATE TABLE noise(a)");
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    assert!(refused(&mut running, 1).await.contains("another content"));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_snapshot_brought_and_what_is_no_message_is_never_signed_and_blocks_nothing() {
    let begun_with = format!("{SCHEMA}; {}", row(5));
    let mut log = Log::begin(&begun_with).await;
    let mut running = Running::start(signing(&log));
    until_endorsed(&mut running, log.last()).await;
    assert!(refused(&mut running, 1).await.contains("snapshot"));
    log.run(
        "PRAGMA ignore_check_constraints = ON; INSERT INTO outbound_messages(target, created_at) VALUES('nowhere', 0);
         PRAGMA ignore_check_constraints = OFF",
    );
    log.run(&row(6));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    signed(&mut running, 3).await;
    assert!(refused(&mut running, 2).await.contains("`target`"));
    assert_eq!(open(&mut running).await, []);
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_a_violation_waits_until_it_is_resolved() {
    let mut log = Log::begin(&format!("{SCHEMA}; {SETUP}")).await;
    let mut config = signing(&log);
    std::fs::write(config.rules.as_ref().unwrap(), RULES).unwrap();
    config.rules = config.rules.clone();
    let mut running = Running::start(config);
    until_endorsed(&mut running, log.last()).await;
    log.run("UPDATE balances SET amount = -1 WHERE account = 1");
    log.run(&row(5));
    let last = log.publish().await;
    running.until_applied(last).await;
    assert!(matches!(told(&mut running, 1).await, OutboundStatus::Waiting { .. }));
    assert_eq!(running.get("/outbound/1/signature").await.0, 404);
    resolve(&log.replica(), 1);
    until_endorsed(&mut running, last).await;
    signed(&mut running, 1).await;
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_while_nobody_looked_is_refused() {
    let (mut log, mut running) = begun().await;
    log.run("DROP TRIGGER outbound_messages_kept; DROP TRIGGER outbound_messages_not_deleted");
    for value in 5..8 {
        log.run(&row(value));
    }
    let first = log.publish().await;
    until_endorsed(&mut running, first).await;
    signed(&mut running, 3).await;
    running.stop().await.unwrap();
    std::fs::remove_file(log.folder.path().join("replica.db.outbound.db")).unwrap();
    log.run("UPDATE outbound_messages SET value = '9' WHERE id = 1");
    log.run("DELETE FROM outbound_messages WHERE id = 3");
    log.publish().await;
    apply_unjudged(&log).await;
    let mut running = caught_up(signing(&log)).await;
    for nonce in [1, 3] {
        assert!(refused(&mut running, nonce).await.contains("while nobody looked"), "{nonce}");
    }
    assert!(matches!(told(&mut running, 2).await, OutboundStatus::Waiting { .. }));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_snapshot_of_its_own_batch_took_back_is_refused() {
    for begins in 1..=2 {
        let mut log = Log::begin(SCHEMA).await;
        let mut config = signing(&log);
        config.endorse.incarnation_max = 0;
        let mut running = Running::start(config);
        until_endorsed(&mut running, log.last()).await;
        // All of it is one batch, and no state that anybody keeps has the rows that came before its last snapshot.
        for at in 0..begins {
            log.run(&row(5));
            log.begin_anew(&format!("copy{at}.db"), SCHEMA).await;
        }
        let last = log.publish().await;
        running.until_applied(last).await;
        assert!(!refused(&mut running, 1).await.is_empty(), "{begins}");
        running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reconcile_brings_in_order_is_signed() {
    let (mut log, mut running) = begun().await;
    log.run(&row(5));
    log.reconcile(&row(6));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    assert_eq!(signer(&signed(&mut running, 2).await, &message(2, 6)), Some(key(&log)));
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_too_many_is_refused_alone_and_so_many_are_looked_at_again() {
    let (mut log, mut running) = begun().await;
    log.run(&row(5));
    let first = log.publish().await;
    until_endorsed(&mut running, first).await;
    let before = signed(&mut running, 1).await;
    log.run(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100001)
         INSERT INTO outbound_messages(target, created_at) SELECT '{TARGET}', 0 FROM n"
    ));
    let many = log.publish().await;
    running.until_applied(many).await;
    assert_eq!(open(&mut running).await, [("outbound messages".to_owned(), many.get())]);
    assert!(refused(&mut running, 2).await.contains("more than 100000"));
    assert!(refused(&mut running, 100_002).await.contains("more than 100000"));
    assert_eq!(signed(&mut running, 1).await, before);
    resolve(&log.replica(), 1);
    log.run(&row(6));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    let found = signed(&mut running, 100_003).await;
    assert_eq!(signer(&found, &message(100_003, 6)), Some(key(&log)));
    running.stop().await.unwrap();
    // A rule that is new looks at all of them.
    let config = signing(&log);
    let rule = RULES.replace("balances", "outbound_messages").replace("account, amount", "id");
    std::fs::write(config.rules.as_ref().unwrap(), rule.replace("amount < 0", "gas_limit < 0")).unwrap();
    let mut running = caught_up(config).await;
    assert_eq!(open(&mut running).await, []);
    assert_eq!(signed(&mut running, 1).await, before);
    assert_eq!(signed(&mut running, 100_003).await, found);
    running.stop().await.unwrap();
}

/// The log delivers a message.
pub(super) fn deliver(log: &mut Log, nonce: u64) {
    log.sign(&Entry::Inbound(Inbound {
        chain_id: BRIDGE.chain_id,
        bridge: BRIDGE.contract,
        nonce: InboundNonce::new(nonce).unwrap(),
        block_number: 9,
        block_hash: ChainHash::from_bytes([8; 32]),
        transaction_hash: ChainHash::from_bytes([9; 32]),
        log_index: 1,
        event: vec![1, 2, 3],
    }));
}

fn acknowledge(id: u64) -> String {
    format!("INSERT INTO inbound_messages(message_id, outcome, processed_at) VALUES({id}, 'done', 0)")
}

/// Waits until a message is signed, and says how many were acknowledged before it.
async fn consumed(running: &mut Running, nonce: u64) -> u64 {
    signed(running, nonce).await.fields.inbox_consumed
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_counts_where_a_commit_did_it_and_not_where_a_snapshot_brought_it() {
    let mut log = Log::begin(&format!("{SCHEMA}; {}; {}", acknowledge(1), acknowledge(2))).await;
    let mut config = signing(&log);
    config.endorse.incarnation_max = 0;
    let mut running = Running::start(config.clone());
    (1..=6).for_each(|nonce| deliver(&mut log, nonce));
    log.run(&row(5));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    assert_eq!(consumed(&mut running, 1).await, 0, "the first snapshot brought both");
    log.run(&format!("BEGIN; {}; {}; COMMIT", row(6), acknowledge(3)));
    log.run(&row(7));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    assert_eq!((consumed(&mut running, 2).await, consumed(&mut running, 3).await), (3, 3));
    let acknowledged = (1..=5).map(acknowledge).collect::<Vec<_>>().join(";");
    let sent = [5, 6, 7].map(row).join(";");
    log.begin_anew("copy.db", &format!("{SCHEMA}; {acknowledged}; {sent}")).await;
    log.run(&row(8));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    assert_eq!(consumed(&mut running, 4).await, 3, "no commit acknowledged 4 and 5");
    running.stop().await.unwrap();
    // It is known after a restart as well.
    let mut running = Running::start(config);
    log.run(&row(9));
    log.run(&format!("BEGIN; {}; {}; COMMIT", acknowledge(6), row(1)));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    assert_eq!((consumed(&mut running, 5).await, consumed(&mut running, 6).await), (3, 6));
    assert_eq!(open(&mut running).await, []);
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_while_nobody_looked_has_no_message_signed_until_it_is_known_again() {
    let mut log = Log::begin(SCHEMA).await;
    (1..=2).for_each(|nonce| deliver(&mut log, nonce));
    log.run(&acknowledge(1));
    log.publish().await;
    apply_unjudged(&log).await;
    let mut running = caught_up(signing(&log)).await;
    assert_eq!(open(&mut running).await.len(), 1);
    resolve(&log.replica(), 1);
    log.run(&row(5));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    assert!(refused(&mut running, 1).await.contains("is not known"));
    log.run(&format!("BEGIN; {}; {}; COMMIT", acknowledge(2), row(6)));
    let last = log.publish().await;
    until_endorsed(&mut running, last).await;
    assert_eq!(consumed(&mut running, 2).await, 2);
    running.stop().await.unwrap();
    // Whoever judges all of it knows both.
    std::fs::remove_file(log.replica()).unwrap();
    let mut running = Running::start(signing(&log));
    running.until_applied(last).await;
    assert_eq!((consumed(&mut running, 1).await, consumed(&mut running, 2).await), (1, 2));
    running.stop().await.unwrap();
}
