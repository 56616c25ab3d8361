//! Submissions that were linked here, and so are neither hashed nor opened again: to a reader they are what they would be otherwise.

use proptest::prelude::*;
use synddb_protocol::DecodeError;
use synddb_protocol::hash::CommitDigest;
use synddb_protocol::id::CommitNumber;
use synddb_protocol::limits::{BODY_BYTES_MAX, NAME_BYTES_MAX, SCHEMA_CHANGES_MAX, SUBMISSION_COMMITS_MAX};
use synddb_protocol::log::{Body, Entry, MessageType};
use synddb_protocol::submission::{
    Changes, CommitKind, Commits, Content, ObjectKind, SchemaChange, StateClaim, Submission,
};

use crate::arbitrary as any;
use crate::sample;

const CLAIM: StateClaim =
    StateClaim { state: synddb_protocol::hash::StateHash::from_bytes([7; 32]), scanned: None };

fn link(first: u64, changes: Vec<Changes>) -> Result<Commits, DecodeError> {
    let changes = changes.into_iter().map(|changes| (CommitKind::Transaction, changes)).collect();
    Commits::link(CommitNumber::new(first).unwrap(), CommitDigest::from_bytes([1; 32]), changes, CLAIM)
}

fn submission(commits: Commits) -> Submission {
    Submission {
        stream: sample::stream(),
        incarnation: sample::incarnation(1),
        content: Content::Commits(commits),
    }
}

proptest! {
    #[test]
    fn a_submission_is_read_as_it_was_made(value in any::submission()) {
        let body = Body::carrying(value.clone()).unwrap();
        let read = Body::read(MessageType::Submission, body.as_stored().to_vec(), BODY_BYTES_MAX).unwrap();
        prop_assert_eq!(&read, &body);
        prop_assert_eq!(read.into_entry(), Entry::Submission(value));
    }

    #[test]
    fn what_is_linked_follows(first in 1_u64..1_000, changes in prop::collection::vec(any::changes(), 1..6)) {
        let linked = link(first, changes).unwrap();
        prop_assert_eq!(Commits::new(linked.as_slice().to_vec()).unwrap(), linked);
    }
}

#[test]
fn too_few_and_too_many_commits_are_not_linked() {
    assert!(matches!(link(1, Vec::new()), Err(DecodeError::Invalid { .. })));
    assert!(link(1, vec![Changes::default(); SUBMISSION_COMMITS_MAX]).is_ok());
    let many = link(1, vec![Changes::default(); SUBMISSION_COMMITS_MAX + 1]);
    assert!(matches!(many, Err(DecodeError::OverLimit { .. })));
}

#[test]
fn numbers_end() {
    let last = (1..64).rev().find_map(|bits| CommitNumber::new((1 << bits) - 1).ok()).unwrap();
    assert!(link(last.get(), vec![Changes::default()]).is_ok());
    assert!(matches!(link(last.get(), vec![Changes::default(); 2]), Err(DecodeError::Invalid { .. })));
}

#[test]
fn what_a_reader_refuses_is_not_made() {
    let drop = |name| SchemaChange::Drop { kind: ObjectKind::Table, name };
    let schema = |schema| Changes { schema, ..Changes::default() };
    let half = schema(vec![drop(b"t".to_vec()); SCHEMA_CHANGES_MAX / 2 + 1]);
    for changes in [vec![schema(vec![drop(vec![b'n'; NAME_BYTES_MAX + 1])])], vec![half.clone(), half]] {
        let value = submission(link(1, changes).unwrap());
        assert!(Body::of(&Entry::Submission(value.clone())).is_err());
        assert!(Body::carrying(value).is_err());
    }
}
