//! An application that is credited by its bridge: it asks for what came, and acknowledges it in the transaction that does what it asks for.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use synddb_sqlite::rusqlite::{Connection, params};

use crate::keys::get;

/// Between two questions.
const POLL: Duration = Duration::from_millis(100);

/// Makes the table of credits.
pub(super) fn make(database: &Connection) {
    database.execute_batch("CREATE TABLE credit(message_id INTEGER, sender TEXT, wei INTEGER)").unwrap();
}

/// Asks a sequencer for what came behind what is acknowledged, and takes it: credited, or rejected where `takes` says so. Gives how many messages that were.
/// Each is a transaction, unless the caller has begun one.
pub(super) fn take(database: &mut Connection, sequencer: &str, takes: impl Fn(u64) -> bool) -> usize {
    let sql = "SELECT coalesce(max(message_id), 0) + 1 FROM inbound_messages";
    let next: u64 = database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap();
    let answer = get(&format!("{sequencer}/messages/inbound?from={next}"));
    // Whoever is killed just now answers nothing.
    let Ok(list) = serde_json::from_str::<Value>(&answer) else { return 0 };
    let Some(messages) = list["messages"].as_array() else { return 0 };
    for message in messages {
        let (nonce, sent) = (message["nonce"].as_u64().unwrap(), &message["sent"]);
        let wei: i64 = sent["amount"].as_str().unwrap().parse().unwrap();
        let savepoint = database.savepoint().unwrap();
        let outcome = if takes(nonce) { "done" } else { "rejected" };
        if outcome == "done" {
            let row = params![nonce.cast_signed(), sent["sender"].as_str().unwrap(), wei];
            savepoint.execute("INSERT INTO credit VALUES(?1, ?2, ?3)", row).unwrap();
        }
        let row = params![nonce.cast_signed(), outcome];
        savepoint.execute("INSERT INTO inbound_messages(message_id, outcome) VALUES(?1, ?2)", row).unwrap();
        savepoint.commit().unwrap();
    }
    messages.len()
}

/// Goes on taking until told to stop.
pub(super) fn run(database: &Path, sequencer: &str, stop: &AtomicBool) {
    let mut database = Connection::open(database).unwrap();
    database.busy_timeout(crate::roles::PATIENCE).unwrap();
    while !stop.load(Ordering::Relaxed) {
        if take(&mut database, sequencer, |_| true) == 0 {
            std::thread::park_timeout(POLL);
        }
    }
}

/// What was credited, in its order: nonce and wei.
pub(super) fn credits(database: &Connection) -> Vec<(u64, u128)> {
    let mut select = database.prepare("SELECT message_id, wei FROM credit ORDER BY rowid").unwrap();
    let row = |row: &synddb_sqlite::rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let rows = select.query_map([], row).unwrap().map(Result::unwrap);
    rows.map(|(nonce, wei)| (nonce.try_into().unwrap(), wei.try_into().unwrap())).collect()
}
