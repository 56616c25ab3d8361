//! What is kept, and when it is seen.

use synddb_agent::outbox::{Outbox, OutboxError};
use synddb_protocol::limits::SUBMISSION_COMMITS_MAX;

use super::reader::{Reader, all};
use super::{beginning, create, noise, open, position, rows, state};

/// Commits that fill a poll: `count` of one byte each.
fn take(outbox: &mut Outbox, count: u64) {
    for _ in 0..count {
        let number = outbox.next_commit().get();
        outbox.take_commit(rows([1]), state(number)).unwrap();
    }
}

#[test]
fn exact_bytes_survive_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    for poll in 1..=5 {
        take(&mut outbox, poll);
        outbox.take_commit(rows(noise(3 << 20)), state(poll)).unwrap();
        outbox.keep(position(poll)).unwrap();
    }
    let (held, next, digest) = (all(&outbox), outbox.next_commit(), outbox.last_digest());
    drop(outbox);
    let outbox = open(folder.path());
    assert_eq!(all(&outbox), held);
    assert_eq!((outbox.next_commit(), outbox.last_digest()), (next, digest));
    assert_eq!((outbox.position(), outbox.state()), (position(5), state(5)));
    assert_eq!((outbox.stream(), outbox.incarnation()), (beginning().stream, beginning().incarnation));
    let reader = Reader::of(&outbox);
    assert_eq!((reader.client.next, reader.client.last), (next, digest));
    assert_eq!(reader.commits.len(), 1 + 2 + 3 + 4 + 5 + 5);
}

#[test]
fn nothing_of_a_poll_is_seen_before_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    take(&mut outbox, 1);
    // Large enough that its submission is already in the file.
    outbox.take_commit(rows(noise(2 << 20)), state(2)).unwrap();
    outbox.take_piece(rows([7])).unwrap();
    assert_eq!(all(&outbox), []);
    assert_eq!(outbox.next_commit().get(), 1);
    outbox.take_commit(rows([8]), state(3)).unwrap();
    outbox.keep(position(1)).unwrap();
    assert_eq!(Reader::of(&outbox).commits.len(), 3);
    assert_eq!(outbox.next_commit().get(), 4);
}

#[test]
fn a_poll_given_up_leaves_nothing_and_its_numbers_are_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    take(&mut outbox, 2);
    outbox.keep(position(1)).unwrap();
    let held = all(&outbox);

    outbox.take_commit(rows(noise(2 << 20)), state(9)).unwrap();
    outbox.take_piece(rows([7])).unwrap();
    // A poll that ends inside a commit is the follower's fault, and is given up like any other that fails.
    assert!(matches!(outbox.keep(position(2)), Err(OutboxError::Unfinished { .. })));
    assert_eq!(all(&outbox), held);
    assert_eq!((outbox.position(), outbox.next_commit().get()), (position(1), 3));

    outbox.take_commit(rows(noise(2 << 20)), state(9)).unwrap();
    outbox.give_up().unwrap();
    take(&mut outbox, 1);
    outbox.keep(position(2)).unwrap();
    drop(outbox);
    let reader = Reader::of(&open(folder.path()));
    assert_eq!(reader.client.next.get(), 4);
}

#[test]
fn a_poll_without_commits_moves_the_position_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    outbox.keep(position(0)).unwrap();
    outbox.keep(position(1)).unwrap();
    drop(outbox);
    let outbox = open(folder.path());
    assert_eq!((outbox.position(), outbox.state()), (position(1), beginning().state));
    assert_eq!(all(&outbox), []);
}

#[test]
fn commits_share_a_submission_up_to_its_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    take(&mut outbox, 1);
    outbox.keep(position(1)).unwrap();
    take(&mut outbox, SUBMISSION_COMMITS_MAX as u64 + 1);
    outbox.keep(position(2)).unwrap();
    let held = all(&outbox);
    assert_eq!(held.len(), 3, "one of the first poll, two of the second");
    let reader = Reader::of(&outbox);
    let claims = reader.commits.iter().filter(|commit| commit.claim.is_some()).count();
    assert_eq!(claims, held.len(), "the last commit of each submission claims a state, and no other");
}

#[test]
fn what_was_seen_stored_is_forgotten_with_all_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    for poll in 1..=4 {
        take(&mut outbox, 1);
        outbox.keep(position(poll)).unwrap();
    }
    let held = all(&outbox);
    let (first, second, last) = (&held[0], &held[1], &held[3]);

    let mixed = outbox.forget_through(second.id, first.digest);
    assert!(matches!(mixed, Err(OutboxError::OtherDigest { .. })), "{mixed:?}");
    assert_eq!(all(&outbox), held);
    outbox.take_piece(rows([7])).unwrap();
    assert!(matches!(outbox.forget_through(second.id, second.digest), Err(OutboxError::PollOpen)));
    outbox.give_up().unwrap();

    outbox.forget_through(second.id, second.digest).unwrap();
    assert_eq!(all(&outbox), held[2..]);
    for gone in [first, second] {
        let again = outbox.forget_through(gone.id, gone.digest);
        assert!(matches!(again, Err(OutboxError::NotHeld { .. })), "{again:?}");
    }
    drop(outbox);

    let mut outbox = open(folder.path());
    assert_eq!(all(&outbox), held[2..]);
    assert_eq!(outbox.after(first.id).unwrap().as_ref(), Some(&held[2]));
    outbox.forget_through(last.id, last.digest).unwrap();
    assert_eq!((outbox.next().unwrap(), outbox.pending().bytes), (None, 0));
    drop(outbox);

    let mut outbox = open(folder.path());
    take(&mut outbox, 1);
    outbox.keep(position(5)).unwrap();
    assert_eq!(outbox.next().unwrap().unwrap().id.get(), 5, "an id is never used again");
}
