//! A small log in which everything occurs that a log can hold.

use synddb_protocol::id::{Address, Epoch, InboundNonce};
use synddb_protocol::log::{Entry, Inbound, Status, StatusLevel};

use crate::log::Log;

/// Pages are small, so that the chunks are.
const SETUP: &str =
    "PRAGMA page_size = 512; CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES(1), ('two')";
const ANEW: &str = "PRAGMA page_size = 512; CREATE TABLE n(a, b); INSERT INTO n VALUES(1, 'new')";

/// Two incarnations, three leaders of two keys and a claim that leads nothing, a restart whose checkpoint is ahead of its messages, a commit in
/// parts over two batches, a reconcile, an audit, a snapshot in between, inbound and status messages.
pub(crate) async fn complete() -> Log {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(3.5); CREATE TABLE u(x TEXT UNIQUE, y DEFAULT 7); UPDATE t SET v = x'00' WHERE id = 1");
    log.publish().await;
    log.sign(&inbound(1));
    log.sign(&status(StatusLevel::Warned, "late"));
    log.run("ALTER TABLE u ADD COLUMN z; INSERT INTO u(x) VALUES('a'), ('b')");
    log.publish().await;
    log.reconcile(
        "BEGIN; DELETE FROM u WHERE x = 'a'; UPDATE t SET v = 'nobody saw it' WHERE id = 2; COMMIT",
    );
    log.audit();
    log.publish().await;
    log.waste(2).await;
    log.lead(3, 2).await;
    log.sign(&inbound(2));
    log.sign(&status(StatusLevel::Healthy, ""));
    log.snapshot_after().await;
    log.publish().await;
    log.cut_parts(30);
    let parts = log.capture("INSERT INTO t(v) VALUES('a part of a commit, and'), ('another part of the same, and'), ('one more of it')");
    assert!(parts.len() > 2, "{}", parts.len());
    for part in &parts[..2] {
        log.submit(part.clone());
    }
    log.publish().await;
    for part in &parts[2..] {
        log.submit(part.clone());
    }
    // Signed in epoch 3, and stored by the one after it.
    log.lead(4, 2).await;
    log.publish().await;
    log.begin_anew("anew.db", ANEW).await;
    log.cut_parts(200_000);
    log.run("INSERT INTO n VALUES(2, 'newer'); DELETE FROM n WHERE a = 1");
    log.publish().await;
    log.run("INSERT INTO n VALUES(3, 'newest')");
    log.publish().await;
    assert_eq!(log.epoch, Epoch::new(4).unwrap());
    log
}

fn inbound(nonce: u64) -> Entry {
    Entry::Inbound(Inbound {
        chain_id: 1,
        bridge: Address::from_bytes([7; 20]),
        nonce: InboundNonce::new(nonce).unwrap(),
        block_number: 9,
        block_hash: synddb_protocol::hash::ChainHash::from_bytes([8; 32]),
        transaction_hash: synddb_protocol::hash::ChainHash::from_bytes([9; 32]),
        log_index: 1,
        event: vec![1, 2, 3],
    })
}

fn status(level: StatusLevel, reason: &str) -> Entry {
    Entry::Status(Status { level, reason: reason.to_owned() })
}
