//! The disk budget, one owner, and files that are no outbox.

use std::fs;
use std::path::Path;

use synddb_agent::outbox::{Options, Outbox, OutboxError};
use synddb_sqlite::rusqlite::Connection;

use super::child::{Role, finish, spawn, spawn_limited};
use super::reader::{Reader, all};
use super::{beginning, create, file, noise, open, position, rows, state};

#[test]
fn a_full_outbox_takes_nothing_and_drops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { bytes_max: 100_000, ..Options::default() };
    let mut outbox = Outbox::create(&file(folder.path()), &beginning(), options).unwrap();
    for poll in 1..=2 {
        outbox.take_commit(rows(noise(40_000)), state(poll)).unwrap();
        outbox.keep(position(poll)).unwrap();
    }
    let held = all(&outbox);
    // The poll that brings it above the budget is taken whole; the next one is not begun.
    outbox.take_commit(rows(noise(40_000)), state(3)).unwrap();
    outbox.keep(position(3)).unwrap();
    assert_eq!(all(&outbox).len(), held.len() + 1);
    assert!(!outbox.has_room());
    let full = outbox.take_commit(rows([1]), state(4));
    assert!(matches!(full, Err(OutboxError::Full { bytes_max: 100_000, .. })), "{full:?}");
    assert_eq!((outbox.position(), outbox.state()), (position(3), state(3)));

    outbox.forget_through(held[0].id, held[0].digest).unwrap();
    outbox.take_commit(rows(noise(40_000)), state(4)).unwrap();
    outbox.keep(position(4)).unwrap();
    assert_eq!(all(&outbox).len(), 3);
}

#[test]
fn an_empty_outbox_takes_any_one_poll() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { bytes_max: 1000, ..Options::default() };
    let mut outbox = Outbox::create(&file(folder.path()), &beginning(), options).unwrap();
    outbox.take_commit(rows(noise(40_000)), state(1)).unwrap();
    outbox.keep(position(1)).unwrap();
    assert!(!outbox.has_room());
    let full = outbox.take_commit(rows([1]), state(2));
    assert!(matches!(full, Err(OutboxError::Full { .. })), "{full:?}");
    let held = outbox.next().unwrap().unwrap();
    outbox.forget_through(held.id, held.digest).unwrap();
    outbox.take_commit(rows([1]), state(2)).unwrap();
    outbox.keep(position(2)).unwrap();
}

pub(crate) fn meet_full_disk(folder: &Path) {
    let mut outbox = open(folder);
    let held = all(&outbox);
    for _ in 0..2 {
        let mut polled = outbox.take_commit(rows(noise(3 << 20)), state(2));
        if polled.is_ok() {
            polled = outbox.keep(position(2));
        }
        assert!(matches!(polled, Err(OutboxError::Sqlite(_))), "{polled:?}");
        assert_eq!((all(&outbox), outbox.position(), outbox.state()), (held.clone(), position(1), state(1)));
    }
    outbox.take_commit(rows([2]), state(2)).unwrap();
    outbox.keep(position(2)).unwrap();
}

#[test]
fn a_full_disk_costs_the_poll_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = create(folder.path());
    outbox.take_commit(rows([1]), state(1)).unwrap();
    outbox.keep(position(1)).unwrap();
    drop(outbox);
    finish(spawn_limited(Role::Full, folder.path(), 2048));
    let reader = Reader::of(&open(folder.path()));
    assert_eq!((reader.commits.len(), reader.client.state), (2, state(2)));
}

#[test]
fn a_second_owner_is_refused_until_the_first_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = create(folder.path());
    let again = Outbox::open(&file(folder.path()), Options::default());
    assert!(matches!(again, Err(OutboxError::Owned { .. })));
    // Another process is told so by the kernel, with whatever this one knows of itself.
    finish(spawn(Role::FindOwned, folder.path()));
    drop(outbox);
    finish(spawn(Role::FindFree, folder.path()));
    drop(open(folder.path()));
}

#[test]
fn what_is_there_is_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    drop(create(folder.path()));
    let again = Outbox::create(&file(folder.path()), &beginning(), Options::default());
    assert!(matches!(again, Err(OutboxError::Exists { .. })));
    let text = folder.path().join("notes.txt");
    fs::write(&text, "not a database, and longer than the header of one would be ".repeat(20)).unwrap();
    let over = Outbox::create(&text, &beginning(), Options::default());
    assert!(matches!(over, Err(OutboxError::Exists { .. })));
    // What a crash right after the file was made leaves.
    let empty = folder.path().join("empty.db");
    fs::write(&empty, "").unwrap();
    assert!(matches!(Outbox::open(&empty, Options::default()), Err(OutboxError::Foreign { .. })));
    drop(Outbox::create(&empty, &beginning(), Options::default()).unwrap());
}

#[test]
fn files_that_are_no_outbox_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str| Outbox::open(&folder.path().join(name), Options::default()).err().unwrap();
    assert!(matches!(refused("missing.db"), OutboxError::Missing { .. }));
    assert!(matches!(refused("."), OutboxError::Foreign { .. }));
    fs::write(folder.path().join("noise.db"), noise(10_000)).unwrap();
    assert!(matches!(refused("noise.db"), OutboxError::Foreign { .. }));
    let other = Connection::open(folder.path().join("other.db")).unwrap();
    other.execute_batch("CREATE TABLE place (only INTEGER)").unwrap();
    drop(other);
    assert!(matches!(refused("other.db"), OutboxError::Foreign { .. }));
}

#[test]
fn damage_and_newer_forms_are_told() {
    let damages = [
        ("PRAGMA user_version = 2", "upgrade required"),
        ("DELETE FROM place", "where it stands"),
        ("UPDATE place SET stream = x'00'", "damaged"),
        ("UPDATE place SET next_commit = 0", "where it stands"),
        ("UPDATE place SET last_digest = zeroblob(32)", "newest submission"),
        ("DELETE FROM submissions WHERE id = 2", "newest submission"),
        ("UPDATE submissions SET first_commit = 9 WHERE id = 1", "a submission"),
    ];
    for (damage, told) in damages {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = create(folder.path());
        for poll in 1..=2 {
            outbox.take_commit(rows([1]), state(poll)).unwrap();
            outbox.keep(position(poll)).unwrap();
        }
        drop(outbox);
        let sqlite = Connection::open(file(folder.path())).unwrap();
        sqlite.execute_batch(damage).unwrap();
        drop(sqlite);
        let error = Outbox::open(&file(folder.path()), Options::default()).err();
        let text = error.unwrap_or_else(|| panic!("not found: {damage}")).to_string();
        assert!(text.contains(told), "{damage}: {text}");
    }
}
