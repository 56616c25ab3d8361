//! What a client is told when it does not follow.

use synddb_protocol::http::{Position, Problem, Reason};
use synddb_protocol::id::{Incarnation, IncarnationNonce};
use synddb_protocol::log::{ClientState, Entry, Tip};
use synddb_protocol::submission::{Predecessor, Snapshot, SnapshotPlace};

use crate::sample::{self, Leader};

fn running() -> Leader {
    let mut leader = Leader::begin(1, sample::key(7), Tip::start(sample::stream()));
    leader.push(&Entry::Snapshot(sample::first_snapshot()));
    leader.push(&Entry::Submission(sample::commits(1, leader.last(), 3)));
    leader
}

/// The snapshot that begins the second incarnation.
fn begins_second(predecessor: Predecessor) -> Snapshot {
    Snapshot {
        incarnation: sample::incarnation(2),
        place: SnapshotPlace::Begins { predecessor: Some(predecessor) },
        ..sample::first_snapshot()
    }
}

/// What a client names as its predecessor that knows what the log has of it.
fn predecessor(client: &ClientState) -> Predecessor {
    Predecessor {
        incarnation: client.incarnation,
        next: client.next,
        next_part: None,
        last: client.last,
        abandoned_through: None,
    }
}

#[test]
fn a_gap_names_what_is_expected() {
    let leader = running();
    let client = leader.tip.client().unwrap();
    let error = client.after_submission(&sample::commits(9, leader.last(), 1), 100).unwrap_err();
    let reason = Reason::of_continuity(&error, Some(client));
    let expected =
        Position { incarnation: sample::incarnation(1), commit: 4.try_into().unwrap(), part: None };
    assert_eq!(reason, Reason::Gap { expected });
    let json = serde_json::to_value(Problem::new(reason, error.to_string())).unwrap();
    assert_eq!(json["code"], "gap");
    assert_eq!(json["status"], 409);
    assert_eq!(json["expected"]["commit"], 4);
    assert_eq!(json["detail"], "this is not the next commit. expected=`4` found=`9`");
}

#[test]
fn an_old_incarnation_is_superseded() {
    let mut leader = running();
    let client = leader.tip.client().unwrap().clone();
    let predecessor = predecessor(&client);
    leader.push(&Entry::Snapshot(begins_second(predecessor)));
    let running = leader.tip.client().unwrap();
    let error = running.after_submission(&sample::commits(4, client.last, 1), 100).unwrap_err();
    let superseded = Reason::IncarnationSuperseded { running: sample::incarnation(2) };
    assert_eq!(Reason::of_continuity(&error, Some(running)), superseded);
}

#[test]
fn a_client_ahead_of_a_failed_over_log_is_sent_back() {
    // The leader that had the client's second incarnation failed before it stored it.
    let leader = running();
    let client = leader.tip.client().unwrap();
    let expected =
        Position { incarnation: sample::incarnation(1), commit: 4.try_into().unwrap(), part: None };
    let mut submission = sample::commits(1, leader.last(), 1);
    submission.incarnation = sample::incarnation(2);
    let error = client.after_submission(&submission, 100).unwrap_err();
    assert_eq!(Reason::of_continuity(&error, Some(client)), Reason::Gap { expected });

    // Or the last commits of the first one, which the second one's snapshot names.
    let ahead = Predecessor {
        next: 6.try_into().unwrap(),
        last: sample::first_snapshot().digest(),
        ..predecessor(client)
    };
    let snapshot = begins_second(ahead);
    let error = ClientState::after_snapshot(Some(client), &snapshot).unwrap_err();
    assert_eq!(Reason::of_continuity(&error, Some(client)), Reason::Gap { expected });
}

#[test]
fn a_fresh_stream_has_not_begun() {
    let snapshot = Snapshot { incarnation: sample::incarnation(2), ..sample::first_snapshot() };
    let error = ClientState::after_snapshot(None, &snapshot).unwrap_err();
    assert_eq!(Reason::of_continuity(&error, None), Reason::NotBegun);
}

#[test]
fn an_agent_on_a_copy_of_the_database_is_not_sent_back_to_what_it_never_had() {
    let leader = running();
    let client = leader.tip.client().unwrap();
    let other = Incarnation { nonce: IncarnationNonce::from_bytes([9; 16]), ..client.incarnation };
    let predecessor = Predecessor { incarnation: other, ..predecessor(client) };
    let snapshot = begins_second(predecessor);
    let error = ClientState::after_snapshot(Some(client), &snapshot).unwrap_err();
    let superseded = Reason::IncarnationSuperseded { running: client.incarnation };
    assert_eq!(Reason::of_continuity(&error, Some(client)), superseded);
}

#[test]
fn every_code_is_that_of_one_reason() {
    let each = Reason::of_each();
    assert_eq!(each.iter().map(Reason::code).collect::<Vec<_>>(), Reason::CODES);
    for reason in each {
        let json = serde_json::to_value(Problem::new(reason.clone(), "why")).unwrap();
        assert_eq!(json["code"], reason.code());
        assert_eq!(json["type"], format!("/problems/{}", reason.code()));
        assert_eq!(serde_json::from_value::<Problem>(json).unwrap().reason(), &reason);
    }
    // One that nobody lists has a code that nobody knows, which the reader says with all that it knows.
    let error =
        serde_json::from_value::<Reason>(serde_json::json!({"code": "none"})).unwrap_err().to_string();
    let known: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
    assert_eq!(known, Reason::CODES, "{error}");
}
