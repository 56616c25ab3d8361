//! What is kept of a reconcile and of an audit, and what of one that was given up.

use synddb_agent::outbox::{Options, Outbox, OutboxError};
use synddb_protocol::submission::{Changes, CommitKind, StateClaim, TextEncoding};
use synddb_sqlite::capture::{CommittedState, Sink as _};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::state::RunningState;

use super::reader::{Reader, all};
use super::{beginning, create, drops, file, noise, open, position, rows, state};

fn live() -> RunningState {
    RunningState::scan(&Connection::in_memory(TextEncoding::Utf8).unwrap()).unwrap()
}

#[test]
fn a_reconcile_is_one_commit_of_its_own_kind_between_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    outbox.take_commit(rows([1]), state(1)).unwrap();
    outbox.keep(position(1)).unwrap();
    let mut taking = outbox.reconciled().unwrap();
    taking
        .commit(
            Changes { schema: drops(2), user_version: Some(3), ..rows([2]) },
            &mut CommittedState::from(&live()),
        )
        .unwrap();
    let held = taking.taken(None).unwrap().unwrap();
    assert_eq!(taking.taken(Some(held.id)).unwrap(), None);
    taking.persist(&position(2), &live()).unwrap();
    drop(taking);
    outbox.take_commit(rows([3]), state(3)).unwrap();
    outbox.keep(position(3)).unwrap();
    assert!(all(&outbox).contains(&held), "what was looked at is what is sent");
    drop(outbox);

    let outbox = open(folder.path());
    assert_eq!((outbox.position(), outbox.state()), (position(3), state(3)));
    let reader = Reader::of(&outbox);
    let [before, reconciled, after] = &reader.commits[..] else { panic!("{}", reader.commits.len()) };
    assert_eq!((before.kind, after.kind), (CommitKind::Transaction, CommitKind::Transaction));
    assert_eq!((reconciled.kind, reconciled.parts), (CommitKind::Reconcile, 0));
    let hash = live().hash();
    assert_eq!(reconciled.claim, Some(StateClaim { state: hash, scanned: Some(hash) }));
    assert_eq!(reconciled.changes.rows, [2]);
    assert_eq!((reconciled.changes.schema.len(), reconciled.changes.user_version), (2, Some(3)));
    assert_eq!(after.claim, Some(StateClaim { state: state(3), scanned: None }));
}

#[test]
fn a_reconcile_in_pieces_has_one_kind() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    let pieces = [noise(4 << 20), noise(3 << 20)];
    let mut taking = outbox.reconciled().unwrap();
    taking.piece(Changes { schema: drops(1), ..rows(pieces[0].clone()) }).unwrap();
    taking.commit(rows(pieces[1].clone()), &mut CommittedState::from(&live())).unwrap();
    let mut looked_at = Vec::new();
    while let Some(held) = taking.taken(looked_at.last().map(|(id, _)| *id)).unwrap() {
        looked_at.push((held.id, held.body));
    }
    taking.persist(&position(1), &live()).unwrap();
    drop(taking);
    let held: Vec<_> = all(&outbox).into_iter().map(|held| (held.id, held.body)).collect();
    assert!(held == looked_at && held.len() >= 2, "{}", held.len());
    let reader = Reader::of(&outbox);
    let [whole] = &reader.commits[..] else { panic!("{}", reader.commits.len()) };
    assert_eq!(whole.kind, CommitKind::Reconcile);
    assert!(whole.changes.rows == pieces.concat());
    assert_eq!(whole.claim.unwrap().scanned, Some(live().hash()));
}

#[test]
fn a_reconcile_that_is_not_kept_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    outbox.take_commit(rows([1]), state(1)).unwrap();
    assert!(matches!(outbox.reconciled(), Err(OutboxError::PollOpen)));
    assert!(matches!(outbox.keep_audit(position(1), state(1)), Err(OutboxError::PollOpen)));
    outbox.keep(position(1)).unwrap();
    let held = all(&outbox);
    let mut taking = outbox.reconciled().unwrap();
    taking.piece(rows(noise(4 << 20))).unwrap();
    taking.commit(rows([2]), &mut CommittedState::from(&live())).unwrap();
    drop(taking);
    assert_eq!(all(&outbox), held);
    assert_eq!((outbox.next_commit().get(), outbox.position(), outbox.state()), (2, position(1), state(1)));
    outbox.take_commit(rows([2]), state(2)).unwrap();
    outbox.keep(position(2)).unwrap();
    assert_eq!(Reader::of(&outbox).commits[1].kind, CommitKind::Transaction);
}

#[test]
fn an_audit_changes_nothing_and_says_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    outbox.take_commit(rows([1]), state(1)).unwrap();
    outbox.keep(position(1)).unwrap();
    outbox.keep_audit(position(1), state(1)).unwrap();
    outbox.keep_audit(position(2), state(9)).unwrap();
    let reader = Reader::of(&outbox);
    let claims: Vec<_> = reader.commits.iter().map(|commit| commit.claim.unwrap()).collect();
    let claim = |scanned| StateClaim { state: state(1), scanned };
    assert_eq!(claims, [claim(None), claim(Some(state(1))), claim(Some(state(9)))]);
    for audit in &reader.commits[1..] {
        assert_eq!((audit.kind, &audit.changes), (CommitKind::Transaction, &Changes::default()));
    }
    assert_eq!((outbox.position(), outbox.state()), (position(2), state(1)));
}

#[test]
fn the_budget_bounds_audits_and_no_reconcile() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox =
        Outbox::create(&file(folder.path()), &beginning(), Options { bytes_max: 100, ..Options::default() })
            .unwrap();
    outbox.take_commit(rows(noise(1000)), state(1)).unwrap();
    outbox.keep(position(1)).unwrap();
    assert!(!outbox.has_room());
    assert!(matches!(outbox.keep_audit(position(1), state(1)), Err(OutboxError::Full { .. })));
    let mut taking = outbox.reconciled().unwrap();
    taking.commit(rows([2]), &mut CommittedState::from(&live())).unwrap();
    taking.persist(&position(2), &live()).unwrap();
    drop(taking);
    assert!(matches!(outbox.take_commit(rows([3]), state(3)), Err(OutboxError::Full { .. })));
    assert_eq!(Reader::of(&outbox).commits.len(), 2);
}
