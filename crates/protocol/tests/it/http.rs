//! What a client is told when it does not follow.

use synddb_protocol::http::{Position, Problem, Reason};
use synddb_protocol::log::{ClientState, Entry, LogError, Tip};
use synddb_protocol::submission::Snapshot;

use crate::sample::{self, Leader};

fn running() -> Leader {
    let mut leader = Leader::begin(1, sample::key(7), Tip::start(sample::stream()));
    leader.push(&Entry::Snapshot(sample::first_snapshot()));
    leader.push(&Entry::Changeset(sample::commits(1, leader.last(), 3)));
    leader
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
fn an_old_incarnation_is_superseded_and_a_fresh_stream_has_not_begun() {
    let leader = running();
    let client = leader.tip.client().unwrap();
    let mut submission = sample::commits(4, leader.last(), 1);
    submission.incarnation = sample::incarnation(2);
    let error = client.after_submission(&submission, 100).unwrap_err();
    let reason = Reason::of_continuity(&error, Some(client));
    assert_eq!(reason, Reason::IncarnationSuperseded { running: sample::incarnation(1) });
    let snapshot = Snapshot { incarnation: sample::incarnation(2), ..sample::first_snapshot() };
    let error = ClientState::after_snapshot(None, &snapshot).unwrap_err();
    assert_eq!(Reason::of_continuity(&error, None), Reason::NotBegun);
    assert!(!LogError::from(error).to_string().is_empty());
}
