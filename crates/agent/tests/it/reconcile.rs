//! From a restored replica, over what the outbox holds behind it, to the live database: in the same incarnation, or not at all.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use synddb_agent::outbox::{Options, Outbox};
use synddb_agent::reconcile::{Impossible, LastState, Live, Outcome, reconcile, restore_last};
use synddb_agent::{AgentError, Config, How, Until};
use synddb_protocol::id::StreamId;
use synddb_protocol::signing::VerifyingKey;
use synddb_protocol::submission::{CommitKind, StateClaim};
use synddb_sqlite::capture::{self, Follower};
use synddb_sqlite::compare::first_difference;
use synddb_sqlite::rusqlite::Connection;

use super::agent::{Place, Running};
use super::reader::all;

const INCARNATION: &str = "incarnations/000000000001/outbox.db";

fn outbox(place: &Place) -> Outbox {
    Outbox::open(&place.home().join(INCARNATION), Options::default()).unwrap()
}

fn follower(database: &Path) -> Follower {
    Follower::attach(database, capture::Options::default()).unwrap()
}

fn live(follower: &Follower) -> Live<'_> {
    Live { reader: follower.reader(), state: follower.state(), position: follower.position() }
}

fn attempt(place: &Place, base: &Path) -> Result<Outcome, AgentError> {
    reconcile(base, live(&follower(&place.database())), &mut outbox(place), &AtomicBool::new(false))
}

/// An application whose commits are stored, but for two that wait in the outbox, and the replica of what is stored.
fn left() -> (Place, Connection, PathBuf) {
    let place = Place::new();
    let writer = place.open();
    let agent = place.start();
    agent.attached();
    writer
        .execute_batch("INSERT INTO t VALUES(1, 'stored'), (2, 'stored'); CREATE TABLE u(x UNIQUE)")
        .unwrap();
    assert!(agent.end().complete);
    let base = place.folder.path().join("base.db");
    place.sequencer.rebuild(&base);
    let nowhere = "http://127.0.0.1:9".to_owned();
    let agent =
        Running::start(Config { sequencers: vec![nowhere], drain_max: Duration::ZERO, ..place.config() });
    assert_eq!(agent.attached(), How::Resumed);
    writer.execute_batch("INSERT INTO t VALUES(3, 'waits'); INSERT INTO u VALUES('waits')").unwrap();
    agent.end();
    assert_eq!(outbox(&place).next_commit().get(), 5);
    (place, writer, base)
}

#[test]
fn a_gap_is_closed_in_the_same_incarnation() {
    let (place, writer, base) = left();
    let before = fs::read(&base).unwrap();
    writer
        .execute_batch(
            "UPDATE t SET b = 'nobody saw it' WHERE a > 1; DELETE FROM u; ALTER TABLE u ADD COLUMN y DEFAULT 5;
             INSERT INTO u VALUES('new', 1); CREATE TABLE v AS SELECT * FROM t; PRAGMA user_version = 9",
        )
        .unwrap();
    let outcome = attempt(&place, &base).unwrap();
    // Two of t, the one of u, three of v.
    assert!(matches!(outcome, Outcome::Reconciled { rows: 6 }), "{outcome:?}");
    assert!(before == fs::read(&base).unwrap(), "what is done to the replica is never committed");
    let agent = place.start();
    assert_eq!(agent.attached(), How::Resumed, "the position is where the live database was read");
    writer.execute_batch("INSERT INTO t VALUES(9, 'later')").unwrap();
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    assert_eq!(place.sequencer.snapshots().len(), 1);
    let kinds: Vec<_> = place.sequencer.claims().into_iter().map(|(kind, _)| kind).collect();
    let (transaction, reconciled) = (CommitKind::Transaction, CommitKind::Reconcile);
    assert_eq!(kinds, [transaction, transaction, transaction, transaction, reconciled, transaction]);
    let claims = place.sequencer.claims();
    let scanned: Vec<_> =
        claims.iter().filter_map(|(_, claim)| claim.and_then(|claim| claim.scanned)).collect();
    assert!(matches!(claims[4].1, Some(StateClaim { state, scanned: Some(scanned) }) if state == scanned));
    assert_eq!(scanned.len(), 1);
    agent.end();
}

#[test]
fn a_wal_that_is_gone_and_nothing_else_is_an_empty_commit() {
    let (place, writer, base) = left();
    drop(writer);
    let outcome = attempt(&place, &base).unwrap();
    assert!(matches!(outcome, Outcome::Reconciled { rows: 0 }), "{outcome:?}");
    let outbox = outbox(&place);
    assert_eq!(outbox.next_commit().get(), 6);
    assert_eq!(outbox.state(), follower(&place.database()).state().hash());
}

#[test]
fn what_is_huge_comes_in_parts() {
    let (place, writer, base) = left();
    writer.execute_batch("INSERT INTO t VALUES(10, randomblob(9000000)), (11, randomblob(5000000))").unwrap();
    let outcome = attempt(&place, &base).unwrap();
    assert!(matches!(outcome, Outcome::Reconciled { rows: 2 }), "{outcome:?}");
    let agent = place.start();
    assert_eq!(agent.attached(), How::Resumed);
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    assert_eq!(place.sequencer.claims()[4].0, CommitKind::Reconcile);
    agent.end();
}

/// Tries, and expects that nothing comes of it, and that the outbox is as it was.
fn impossible(place: &Place, base: &Path, live: Live<'_>) -> Impossible {
    let mut outbox = outbox(place);
    let was = (all(&outbox), outbox.position(), outbox.next_commit());
    let outcome = reconcile(base, live, &mut outbox, &AtomicBool::new(false)).unwrap();
    assert!((all(&outbox), outbox.position(), outbox.next_commit()) == was);
    let Outcome::Impossible(why) = outcome else { panic!("{outcome:?}") };
    why
}

#[test]
fn what_is_no_replica_of_the_last_state_is_told_apart() {
    let (place, writer, base) = left();
    writer.execute_batch("INSERT INTO t VALUES(4, 'nobody saw it')").unwrap();
    let follower = follower(&place.database());
    let with = |name: &str, sql: &str| {
        let file = place.folder.path().join(name);
        fs::copy(&base, &file).unwrap();
        Connection::open(&file).unwrap().execute_batch(sql).unwrap();
        impossible(&place, &file, live(&follower))
    };
    let missing = impossible(&place, &place.folder.path().join("nothing.db"), live(&follower));
    assert!(matches!(missing, Impossible::Unreadable { .. }), "{missing}");
    let nowhere = with("nowhere.db", "DROP TABLE _synddb_position");
    assert!(matches!(nowhere, Impossible::NoPosition { .. }), "{nowhere}");
    let damaged = with("damaged.db", "UPDATE _synddb_position SET checkpoint = x'00'");
    assert!(matches!(damaged, Impossible::NoPosition { .. }), "{damaged}");
    let edited = with("edited.db", "UPDATE t SET b = 'edited' WHERE a = 1");
    assert!(matches!(edited, Impossible::NotApplicable(_)), "{edited}");
    // Whoever made the last state of any other one would publish what the application never had.
    let other = with("other.db", "INSERT INTO u VALUES('waits')");
    assert!(matches!(other, Impossible::NotApplicable(_)), "{other}");
    let stranger = left();
    let stranger = impossible(&place, &stranger.2, live(&follower));
    assert!(matches!(stranger, Impossible::OtherStream { .. }), "{stranger}");
}

#[test]
fn a_state_that_is_not_the_captured_one_is_refused_where_nothing_waits() {
    let (place, _writer, _) = left();
    let agent = place.start();
    agent.push(Until::Stored);
    agent.end();
    let base = place.folder.path().join("whole.db");
    place.sequencer.rebuild(&base);
    Connection::open(&base).unwrap().execute_batch("UPDATE t SET b = 'edited' WHERE a = 1").unwrap();
    let why = impossible(&place, &base, live(&follower(&place.database())));
    assert!(matches!(why, Impossible::OtherState { .. }), "{why}");
}

#[test]
fn a_replica_that_the_outbox_does_not_reach_is_refused() {
    let (place, _writer, base) = left();
    let agent = place.start();
    agent.push(Until::Stored);
    agent.end();
    // What followed the replica is forgotten.
    let why = impossible(&place, &base, live(&follower(&place.database())));
    assert!(matches!(why, Impossible::Behind { commit } if commit.get() == 3), "{why}");
    let now = place.folder.path().join("now.db");
    place.sequencer.rebuild(&now);
    let outcome = attempt(&place, &now).unwrap();
    assert!(matches!(outcome, Outcome::Reconciled { rows: 0 }), "{outcome:?}");
}

#[test]
fn another_encoding_and_another_live_state_lead_nowhere() {
    let (place, writer, base) = left();
    writer.execute_batch("INSERT INTO t VALUES(4, 'nobody saw it')").unwrap();
    let (wide, other) = (place.folder.path().join("wide.db"), place.folder.path().join("other.db"));
    Connection::open(&wide)
        .unwrap()
        .execute_batch("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t(a)")
        .unwrap();
    let why = impossible(&place, &base, live(&follower(&wide)));
    assert!(matches!(why, Impossible::Encoding { .. }), "{why}");
    // A scan that finds other rows than are read: what was found cannot be proven, and is not kept.
    writer.execute("VACUUM INTO ?", [other.to_str().unwrap()]).unwrap();
    Connection::open(&other).unwrap().execute_batch("UPDATE t SET b = 'other' WHERE a = 4").unwrap();
    let (follower, other) = (follower(&place.database()), follower(&other));
    let why = impossible(&place, &base, Live { state: other.state(), ..live(&follower) });
    assert!(matches!(why, Impossible::Unproven(_)), "{why}");
}

#[test]
fn who_is_asked_to_end_keeps_nothing() {
    let (place, _writer, base) = left();
    let mut outbox = outbox(&place);
    let was = all(&outbox);
    let stopped = reconcile(&base, live(&follower(&place.database())), &mut outbox, &AtomicBool::new(true));
    assert!(matches!(stopped, Err(AgentError::Stopped)));
    assert_eq!(all(&outbox), was);
}

/// A source that has one file, or none.
#[derive(Debug)]
struct Given(Option<PathBuf>, VerifyingKey);

impl LastState for Given {
    fn restore(
        &self,
        _: StreamId,
        sequencer_keys: &[VerifyingKey],
        _: &Path,
        _: &AtomicBool,
    ) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
        if sequencer_keys != [self.1] {
            return Err("the agent believes another key".into());
        }
        self.0.clone().ok_or_else(|| "there is none".into())
    }
}

#[test]
fn the_last_state_comes_from_where_the_configuration_says() {
    let (place, writer, base) = left();
    writer.execute_batch("INSERT INTO t VALUES(4, 'nobody saw it')").unwrap();
    let follower = follower(&place.database());
    let mut outbox = outbox(&place);
    let mut attempt = |last_state: Option<Arc<dyn LastState>>| {
        let config = Config { last_state, ..place.config() };
        let nobody = AtomicBool::new(false);
        match restore_last(&config, outbox.stream(), &nobody).unwrap() {
            Ok(base) => reconcile(&base, live(&follower), &mut outbox, &nobody).unwrap(),
            Err(why) => Outcome::Impossible(why),
        }
    };
    let key = place.sequencer.key();
    assert!(matches!(attempt(None), Outcome::Impossible(Impossible::NoSource)));
    let none = attempt(Some(Arc::new(Given(None, key))));
    assert!(matches!(none, Outcome::Impossible(Impossible::NotRestored(_))), "{none:?}");
    let found = attempt(Some(Arc::new(Given(Some(base.clone()), key))));
    assert!(matches!(found, Outcome::Reconciled { rows: 1 }), "{found:?}");
    assert_ne!(first_difference(&place.database(), &base).unwrap(), None);
}
