//! What an agent makes of a sequencer that does not keep what it promised, and of one that does.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use synddb_agent::{
    AgentStatus, Config, Event, Evidence, EvidenceError, Finding, ProblemKind, PromiseCheck, PushError, Until,
};
use synddb_protocol::http::Reason;
use synddb_sqlite::rusqlite::Connection;

use super::agent::{Place, Running};
use super::sequencer::{Asked, Trick};
use super::shipping::begun;

fn insert(writer: &Connection, number: i64) {
    writer.execute("INSERT INTO t VALUES(?, 1)", [number]).unwrap();
}

/// Waits until a status is as wanted: promises are counted beside what is pushed.
fn until(agent: &Running, wanted: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
    agent.until("the status that is wanted", wanted)
}

/// The evidence that is told.
fn told(agent: &Running) -> (Finding, PathBuf) {
    agent.told("evidence", |event| match event {
        Event::Evidence { finding, file, .. } => Some((finding, file.unwrap())),
        _ => None,
    })
}

/// Nothing is sent any more, and nobody waits for it.
fn assert_stopped(place: &Place, agent: &Running, writer: &Connection) {
    agent.warned(ProblemKind::Equivocation);
    let sent = place.sequencer.bodies(Asked::Submit).len();
    insert(writer, 90);
    let pushed = agent.handle.push(Until::Sequenced, Instant::now() + Duration::from_secs(60));
    let Err(PushError::Stopped { status }) = pushed else { panic!("{pushed:?}") };
    assert_eq!(status.problem.map(|problem| problem.kind), Some(ProblemKind::Equivocation));
    assert_eq!(place.sequencer.bodies(Asked::Submit).len(), sent);
}

#[test]
fn an_honest_sequencer_keeps_every_promise_and_nothing_is_told() {
    let (place, agent, writer) = begun();
    for number in 1..=20 {
        insert(&writer, number);
        agent.push(Until::Stored);
    }
    let status = until(&agent, |status| status.promises.got == status.promises.kept);
    let promises = status.promises;
    assert_eq!((promises.got, promises.check), (21, PromiseCheck::Checked));
    assert_eq!((promises.unkept, promises.unchecked, promises.evidence), (0, 0, 0));
    let asked = place.sequencer.state().requests.len();
    let leaves = place.sequencer.bodies(Asked::Leaves).len();
    let checkpoints = place.sequencer.bodies(Asked::Checkpoint).len();
    assert!(leaves <= checkpoints, "{leaves} questions for leaves, {checkpoints} for checkpoints");
    assert!(!place.home().join("evidence").exists());
    assert_eq!(place.sequencer.state().requests.len(), asked);
    assert!(agent.end().complete);
}

#[test]
fn what_a_deposed_leader_promised_is_unkept_and_no_evidence() {
    for key in [None, Some(9)] {
        let place = Place::new();
        let writer = place.open();
        let other = synddb_protocol::signing::SigningKey::from_bytes([9; 32]).unwrap();
        let keys = vec![place.sequencer.key(), *other.verifying_key()];
        let agent = Running::start(Config { sequencer_keys: keys, ..place.config() });
        agent.push(Until::Stored);
        place.sequencer.state().stores = false;
        for number in 1..=3 {
            insert(&writer, number);
            agent.push(Until::Sequenced);
        }
        match key {
            Some(key) => place.sequencer.sign_with(key),
            None => place.sequencer.fail_over(),
        }
        agent.push(Until::Stored);
        let status = until(&agent, |status| {
            let promises = status.promises;
            promises.got == promises.kept + promises.unkept
        });
        // The snapshot and what was sent again are kept; what the first leader promised behind its last batch is not.
        assert_eq!((status.promises.kept, status.promises.unkept), (4, 3), "{:?}", status.promises);
        assert_eq!((status.promises.evidence, status.problem), (0, None));
        assert_eq!(place.sequencer.bodies(Asked::Batches).len(), 1, "one look says it of all");
        place.sequencer.assert_replica_equals(&place.database());
        assert!(agent.end().complete);
    }
}

#[test]
fn two_messages_for_one_place_are_proven_and_end_the_sending() {
    let (place, agent, writer) = begun();
    place.sequencer.play(Asked::Submit, [Trick::Equivocate]);
    insert(&writer, 1);
    let (finding, file) = told(&agent);
    assert_eq!((finding, &file), (Finding::Receipts, &place.home().join("evidence/1-3.json")));
    let evidence = Evidence::read(&file).unwrap();
    let proof = evidence.prove().unwrap();
    assert_eq!((proof.key, proof.epoch.get(), proof.sequence.get()), (place.sequencer.key().id(), 1, 3));
    assert_stopped(&place, &agent, &writer);
    let status = agent.handle.status();
    assert_eq!((status.promises.evidence, status.pending.submissions), (1, 2), "nothing is forgotten");
    let problem = status.problem.unwrap();
    assert!(problem.detail.contains(file.to_str().unwrap()) && !problem.fix.is_empty(), "{problem:?}");
    assert!(!agent.end().complete);

    // The next agent does not believe that key either, as long as the file lies there.
    let hasty = || Config { drain_max: Duration::ZERO, ..place.config() };
    let agent = Running::start(hasty());
    agent.warned(ProblemKind::Equivocation);
    assert_eq!(agent.handle.status().promises.evidence, 1);
    assert_eq!(agent.end().pending.submissions, 2);
    // Another key that is given is believed.
    place.sequencer.sign_with(9);
    let agent = Running::start(Config { sequencer_keys: vec![place.sequencer.key()], ..place.config() });
    agent.push(Until::Stored);
    assert_eq!(agent.handle.status().problem, None);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn evidence_that_somebody_changed_proves_nothing() {
    let (place, agent, writer) = begun();
    place.sequencer.play(Asked::Submit, [Trick::Equivocate]);
    insert(&writer, 1);
    let (_, file) = told(&agent);
    agent.warned(ProblemKind::Equivocation);
    agent.end();
    let evidence = Evidence::read(&file).unwrap();
    let same = Evidence { second: evidence.first.clone().unwrap(), ..evidence.clone() };
    assert!(matches!(same.prove(), Err(EvidenceError::Nothing(_))));
    let elsewhere = Evidence { sequence: evidence.sequence.next().unwrap(), ..evidence.clone() };
    assert!(matches!(elsewhere.prove(), Err(EvidenceError::Mislabelled)));
    let mut forged = evidence.clone();
    forged.second.replace_range(forged.second.len() - 2.., "00");
    assert!(forged.prove().is_err());
    let unproven = Evidence { finding: Finding::Inconsistent, ..evidence };
    assert!(matches!(unproven.prove(), Err(EvidenceError::Unproven)));
    // An agent believes its sequencer again when the file is moved away.
    std::fs::rename(&file, place.folder.path().join("kept.json")).unwrap();
    let agent = place.start();
    agent.push(Until::Stored);
    agent.end();
}

#[test]
fn two_checkpoints_of_one_size_are_proven_and_end_the_sending() {
    let (place, agent, writer) = begun();
    let forged = place.sequencer.checkpoint(true);
    place.sequencer.play(Asked::Checkpoint, [Trick::Say(200, forged)]);
    insert(&writer, 1);
    let (finding, file) = told(&agent);
    assert_eq!((finding, &file), (Finding::Checkpoints, &place.home().join("evidence/1-2-checkpoints.json")));
    assert_eq!(Evidence::read(&file).unwrap().prove().unwrap().sequence.get(), 2);
    assert_stopped(&place, &agent, &writer);
    agent.end();
}

#[test]
fn an_old_checkpoint_that_is_shown_again_accuses_nobody() {
    let (place, agent, writer) = begun();
    let before = place.sequencer.checkpoint(false);
    insert(&writer, 1);
    agent.push(Until::Stored);
    place.sequencer.play(Asked::Checkpoint, [Trick::Say(200, before)]);
    insert(&writer, 2);
    agent.warned(ProblemKind::ShippingStopped);
    // It is looked at again, and what was promised is stored after all.
    let is_stored = |status: &AgentStatus| status.problem.is_none() && status.stored_next == status.next;
    let status = agent.until("everything is stored", is_stored);
    assert_eq!((status.promises.evidence, status.promises.unkept), (0, 0));
    assert!(agent.end().complete);
}

#[test]
fn a_rewritten_log_makes_nothing_forgotten() {
    let (place, agent, writer) = begun();
    insert(&writer, 1);
    agent.push(Until::Stored);
    place.sequencer.rewrite();
    insert(&writer, 2);
    let (finding, file) = told(&agent);
    assert_eq!(
        (finding, &file),
        (Finding::Inconsistent, &place.home().join("evidence/1-4-inconsistent.json"))
    );
    assert!(Evidence::read(&file).unwrap().first.is_some());
    let status = until(&agent, |status| status.problem.is_some());
    assert_eq!(status.problem.unwrap().kind, ProblemKind::Inconsistent);
    assert_eq!(status.pending.submissions, 1, "what only the other log has is kept");
    let pushed = agent.handle.push(Until::Stored, Instant::now() + Duration::from_millis(200));
    assert!(matches!(pushed, Err(PushError::TimedOut { .. })), "{pushed:?}");
    // Whoever takes the log as it is starts the agent again.
    agent.handle.stop_at_once();
    agent.end();
    let agent = place.start();
    agent.push(Until::Stored);
    assert_eq!(agent.handle.status().promises.evidence, 1);
    agent.end();
}

#[test]
fn a_sequencer_that_shows_no_leaves_is_not_checked_and_says_so() {
    let place = Place::new();
    let writer = place.open();
    let absent = std::iter::repeat_n(Trick::Refuse(Reason::NotFound, None), 1000);
    place.sequencer.play(Asked::Leaves, absent);
    let agent = place.start();
    insert(&writer, 1);
    agent.push(Until::Stored);
    let promises = until(&agent, |status| status.promises.got == status.promises.unchecked).promises;
    assert_eq!((promises.check, promises.kept, promises.evidence), (PromiseCheck::Unchecked, 0, 0));
    // One that learns to is checked from there on.
    place.sequencer.forget_tricks();
    insert(&writer, 2);
    agent.push(Until::Stored);
    let promises = until(&agent, |status| status.promises.kept > 0).promises;
    assert_eq!(promises.check, PromiseCheck::Checked);
    assert!(agent.end().complete);
}

#[test]
fn a_rewritten_log_is_not_believed_because_its_leaves_are_hidden_once() {
    let (place, agent, writer) = begun();
    insert(&writer, 1);
    agent.push(Until::Stored);
    until(&agent, |status| status.promises.kept > 0);
    place.sequencer.rewrite();
    place.sequencer.play(Asked::Leaves, [Trick::Refuse(Reason::NotFound, None)]);
    insert(&writer, 2);
    agent.push(Until::Stored);
    insert(&writer, 3);
    let (finding, _) = told(&agent);
    assert_eq!(finding, Finding::Inconsistent);
    agent.handle.stop_at_once();
    agent.end();
}

#[test]
fn leaves_that_are_late_or_lost_hold_nothing_up_and_are_asked_for_again() {
    let (place, agent, writer) = begun();
    place.sequencer.play(Asked::Leaves, [Trick::Vanish, Trick::Refuse(Reason::Busy, None)]);
    for number in 1..=2 {
        insert(&writer, number);
        agent.push(Until::Stored);
    }
    insert(&writer, 3);
    agent.push(Until::Stored);
    let promises = until(&agent, |status| status.promises.got == status.promises.kept).promises;
    assert_eq!((promises.got, promises.check, promises.unchecked), (4, PromiseCheck::Checked, 0));
    assert!(agent.end().complete);
}
