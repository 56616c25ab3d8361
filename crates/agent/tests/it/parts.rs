//! Commits that are too large for one submission.

use synddb_agent::outbox::OutboxError;
use synddb_protocol::limits::{NAME_BYTES_MAX, PARTS_MAX, SCHEMA_CHANGES_MAX, SQL_BYTES_MAX};
use synddb_protocol::submission::{Changes, ObjectKind, SchemaChange, SchemaRow};

use super::reader::{Reader, all};
use super::{create, drops, noise, open, position, rows, state};

fn claim(commit: u64) -> Option<synddb_protocol::submission::StateClaim> {
    Some(synddb_protocol::submission::StateClaim { state: state(commit), scanned: None })
}

#[test]
fn pieces_become_parts_between_whole_commits() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    let pieces = [noise(4 << 20), vec![1; 4 << 20], vec![], vec![2; 100]];
    outbox.take_commit(rows([1]), state(1)).unwrap();
    outbox.take_piece(Changes { schema: drops(3), rows: pieces[0].clone(), ..Changes::default() }).unwrap();
    outbox.take_piece(rows(pieces[1].clone())).unwrap();
    outbox.take_piece(rows(pieces[2].clone())).unwrap();
    let last = Changes { user_version: Some(-4), application_id: Some(9), ..rows(pieces[3].clone()) };
    outbox.take_commit(last, state(2)).unwrap();
    outbox.take_commit(rows([3]), state(3)).unwrap();
    outbox.keep(position(1)).unwrap();
    drop(outbox);

    let reader = Reader::of(&open(folder.path()));
    let [first, huge, third] = &reader.commits[..] else { panic!("{}", reader.commits.len()) };
    assert_eq!((first.claim, first.parts), (claim(1), 0), "a submission ends before a group, with its state");
    assert_eq!((third.claim, third.parts), (claim(3), 0));
    let whole =
        Changes { schema: drops(3), rows: pieces.concat(), user_version: Some(-4), application_id: Some(9) };
    assert_eq!(huge.claim, claim(2));
    assert!(huge.changes == whole, "the parts together are not the commit");
    assert!(huge.parts >= 4);
}

#[test]
fn a_commit_over_the_bounds_of_a_submission_becomes_parts() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    let long = |number: usize| SchemaChange::Create {
        row: SchemaRow {
            kind: ObjectKind::Trigger,
            name: vec![b'n'; NAME_BYTES_MAX],
            table: vec![b't'; NAME_BYTES_MAX],
            sql: Some(noise(SQL_BYTES_MAX)),
        },
        place: i64::try_from(number).unwrap(),
    };
    let commits = [
        Changes { schema: drops(SCHEMA_CHANGES_MAX), ..rows([1]) },
        Changes { schema: drops(SCHEMA_CHANGES_MAX + 1), ..rows([1]) },
        Changes { schema: drops(1000), user_version: Some(7), ..rows(noise(9 << 20)) },
        Changes { schema: (0..5).map(long).collect(), ..Changes::default() },
        rows(noise(33 << 20)),
        Changes { schema: drops(SCHEMA_CHANGES_MAX), ..rows(noise(1000)) },
    ];
    for (number, changes) in (1..).zip(&commits) {
        outbox.take_commit(changes.clone(), state(number)).unwrap();
    }
    outbox.keep(position(1)).unwrap();
    let reader = Reader::of(&outbox);
    assert_eq!(reader.commits.len(), commits.len());
    for (number, (read, commit)) in (1..).zip(reader.commits.iter().zip(&commits)) {
        assert!(read.changes == *commit, "commit {number} changed on its way");
        assert_eq!(read.parts > 0, ![1, 6].contains(&number), "commit {number}");
        assert!(read.parts != 1);
    }
}

#[test]
fn schema_changes_of_a_submission_are_bounded_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    for number in 1..=10 {
        outbox.take_commit(Changes { schema: drops(100), ..Changes::default() }, state(number)).unwrap();
    }
    outbox.keep(position(1)).unwrap();
    assert_eq!(all(&outbox).len(), 5, "two of 100 fit, three do not");
    assert_eq!(Reader::of(&outbox).commits.len(), 10);
}

#[test]
fn a_commit_in_more_parts_than_allowed_is_refused_and_the_outbox_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    for _ in 0..PARTS_MAX {
        outbox.take_piece(rows([1])).unwrap();
    }
    let refused = outbox.take_piece(rows([1]));
    assert!(matches!(refused, Err(OutboxError::TooManyParts { .. })), "{refused:?}");
    outbox.take_commit(rows([1]), state(1)).unwrap();
    outbox.keep(position(1)).unwrap();
    assert_eq!(Reader::of(&outbox).commits.len(), 1);
}

#[test]
fn a_name_that_no_reader_takes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    let schema = vec![SchemaChange::Drop { kind: ObjectKind::Table, name: vec![b'n'; NAME_BYTES_MAX + 1] }];
    outbox.take_commit(Changes { schema, ..Changes::default() }, state(1)).unwrap();
    let refused = outbox.keep(position(1));
    assert!(matches!(refused, Err(OutboxError::Refused { .. })), "{refused:?}");
    assert_eq!(outbox.next_commit().get(), 1);
}
