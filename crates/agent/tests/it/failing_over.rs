//! Several sequencers, of which one leads.

use std::time::Duration;

use synddb_agent::{AgentError, Config, Event, ProblemKind, SEQUENCERS_MAX, Until};
use synddb_protocol::http::Reason;

use super::agent::{Place, Running};
use super::sequencer::{Asked, NOBODY, Sequencer, Trick};

/// Waits until what was sent was taken by another sequencer.
fn failed_over(agent: &Running) -> String {
    agent.told("another sequencer", |event| match event {
        Event::FailedOver { sequencer } => Some(sequencer),
        _ => None,
    })
}

#[test]
fn the_next_is_asked_when_one_does_not_answer_or_does_not_lead() {
    let place = Place::new();
    let writer = place.open();
    let standby = Sequencer::start();
    let not_leading = || std::iter::repeat_n(Trick::Refuse(Reason::NotLeading, Some(60)), 1000);
    for path in [Asked::Submit, Asked::Snapshot, Asked::Checkpoint] {
        standby.play(path, not_leading());
    }
    let sequencers = vec![NOBODY.to_owned(), standby.url(), place.sequencer.url()];
    let agent = Running::start(Config { sequencers, ..place.config() });
    assert_eq!(failed_over(&agent), place.sequencer.url());
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    let status = agent.push(Until::Stored);
    assert_eq!((status.sequencer, status.problem), (place.sequencer.url(), None));
    assert!(standby.bodies(Asked::Submit).is_empty(), "who leads is not left");
    // It leads no more for a while: the others are asked in turn, and it is found again.
    place.sequencer.play(Asked::Submit, not_leading().take(3));
    writer.execute_batch("INSERT INTO t VALUES(2, 1)").unwrap();
    agent.warned(ProblemKind::Busy);
    agent.push(Until::Stored);
    assert!(standby.bodies(Asked::Submit).len() >= 2, "nobody else was asked");
    assert_eq!(place.sequencer.commits(), 2);
    place.sequencer.assert_replica_equals(&place.database());
    assert!(agent.end().complete);
}

#[test]
fn who_leads_is_looked_for_also_when_nothing_is_new() {
    // What was promised is not stored, and its leader is gone for the watcher only.
    let place = Place::new();
    let writer = place.open();
    let standby = Sequencer::start();
    let absent = || std::iter::repeat_n(Trick::Refuse(Reason::NotLeading, Some(60)), 1000);
    for path in [Asked::Submit, Asked::Snapshot, Asked::Checkpoint] {
        standby.play(path, absent());
    }
    let sequencers = vec![place.sequencer.url(), standby.url()];
    let agent = Running::start(Config { sequencers, ..place.config() });
    agent.push(Until::Stored);
    place.sequencer.state().stores = false;
    place.sequencer.play(Asked::Checkpoint, std::iter::repeat_n(Trick::Vanish, 3));
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.push(Until::Sequenced);
    place.sequencer.store_all();
    agent.push(Until::Stored);
    assert!(!standby.bodies(Asked::Submit).is_empty(), "what was sent last finds who leads");
    assert_eq!(place.sequencer.commits(), 1);
    assert!(agent.end().complete);
}

#[test]
fn each_of_the_given_keys_is_believed_and_no_other() {
    let place = Place::new();
    let writer = place.open();
    let other = synddb_protocol::signing::SigningKey::from_bytes([9; 32]).unwrap();
    let keys = vec![place.sequencer.key(), *other.verifying_key()];
    let config = || Config { sequencer_keys: keys.clone(), drain_max: Duration::ZERO, ..place.config() };
    let agent = Running::start(config());
    agent.push(Until::Stored);
    assert!(!place.home().join("sequencer.pub").exists(), "nobody is believed for having been first");
    place.sequencer.sign_with(9);
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.push(Until::Stored);
    place.sequencer.sign_with(11);
    writer.execute_batch("INSERT INTO t VALUES(2, 1)").unwrap();
    agent.warned(ProblemKind::Untrusted);
    assert_eq!(agent.end().pending.submissions, 1);
}

#[test]
fn no_sequencer_and_too_many_are_refused() {
    let place = Place::new();
    for count in [0, SEQUENCERS_MAX + 1] {
        let sequencers = vec![place.sequencer.url(); count];
        let refused = synddb_agent::start(Config { sequencers, ..place.config() }, |_| {}).map(drop);
        assert!(matches!(refused, Err(AgentError::Sequencers { found }) if found == count), "{refused:?}");
    }
}
