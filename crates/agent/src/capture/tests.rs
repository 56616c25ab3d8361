//! What goes on when the outbox fails and nobody can know how.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use crate::outbox::{Options, failing};
use crate::{Config, Event, How, Tls, Token, start};
use synddb_protocol::id::CommitNumber;
use synddb_sqlite::rusqlite::Connection;

/// More than an agent tells here.
const EVENTS_MAX: usize = 64;

fn attached(events: &Receiver<Event>) -> (How, CommitNumber) {
    loop {
        if let Event::Attached { how, next, .. } = events.recv_timeout(Duration::from_secs(60)).unwrap() {
            return (how, next.commit);
        }
    }
}

#[test]
fn what_a_failed_commit_kept_after_all_is_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    let writer = Connection::open(&database).unwrap();
    writer.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a)").unwrap();
    let home = folder.path().join("app.db-synddb");
    let config = Config {
        database,
        folder: home.clone(),
        // Nobody is there.
        sequencers: vec!["http://127.0.0.1:9".to_owned()],
        token: Some(Token::from("a token of more than thirty-two characters".to_owned())),
        tls: Tls::default(),
        evidence: None,
        sequencer_keys: Vec::new(),
        wal_bytes_max: 64 << 20,
        wal_bytes_detach: 1 << 30,
        audit_interval: Duration::from_secs(3600),
        pin: None,
        outbox: Options::default(),
        drain_max: Duration::ZERO,
        last_state: None,
    };
    let (told, events) = sync_channel(EVENTS_MAX);
    let agent = start(config, move |event| drop(told.send(event))).unwrap();
    assert_eq!(attached(&events).1, CommitNumber::FIRST);
    failing::once(home.join("incarnations/000000000001/outbox.db"));
    writer.execute_batch("INSERT INTO t VALUES(1)").unwrap();
    let (how, next) = attached(&events);
    assert_eq!((how, next.get()), (How::Resumed, 2), "nobody knows it but the file");
    agent.stop();
    agent.join().unwrap();
}
