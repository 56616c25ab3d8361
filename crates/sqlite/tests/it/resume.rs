//! Going on exactly where a follower was left: with a pin always, without one as long as that can be proven, and never otherwise.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use synddb_sqlite::capture::{CaptureError, Lost, Options, Pin, Pinning, WalPosition};
use synddb_sqlite::rusqlite::Connection;
use synddb_sqlite::rusqlite::config::DbConfig;

use super::mirrored::Mirrored;

/// A pin that lives until it is killed. Clones are the same one.
#[derive(Clone)]
struct Held(Rc<RefCell<Option<Pinning>>>);

impl Held {
    fn on(path: &Path) -> Self {
        Self(Rc::new(RefCell::new(Some(Pinning::open(path).unwrap()))))
    }

    fn kill(&self) {
        self.0.take();
    }

    fn ask<T>(&self, what: impl FnOnce(&mut Pinning) -> T) -> io::Result<T> {
        self.0.borrow_mut().as_mut().map(what).ok_or_else(|| io::Error::other("it is dead"))
    }
}

impl Pin for Held {
    fn held(&mut self) -> io::Result<WalPosition> {
        self.ask(|pin| pin.held().unwrap())
    }

    fn open_next(&mut self) -> io::Result<bool> {
        self.ask(|pin| pin.open_next().unwrap())
    }

    fn close_last(&mut self) -> io::Result<()> {
        self.ask(Pinning::close_last)
    }

    fn seems_alive(&self) -> bool {
        self.0.borrow().is_some()
    }
}

/// A database, and the application's connection.
struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
    application: Connection,
}

/// A limit so low that the WAL begins anew every few hundred rows.
fn tight() -> Options {
    Options::for_wal(256 << 10)
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let application = Connection::open(&path).unwrap();
        let schema =
            "PRAGMA journal_mode=WAL; CREATE TABLE t(a, b); CREATE TABLE k(a PRIMARY KEY, b) WITHOUT ROWID";
        application.execute_batch(schema).unwrap();
        // A checkpoint that the pin is in the way of is not to wait for it.
        application.busy_timeout(std::time::Duration::ZERO).unwrap();
        Self { _folder: folder, path, application }
    }

    /// Commits three transactions for each of so many rows.
    fn write(&self, rows: u32) {
        for row in 0..rows {
            self.application.execute("INSERT INTO t VALUES(?1, randomblob(900))", [row]).unwrap();
            self.application.execute("REPLACE INTO k VALUES(?1 % 7, randomblob(40))", [row]).unwrap();
            self.application
                .execute("UPDATE t SET b = ?1 WHERE rowid = (SELECT max(rowid) FROM t)", [row])
                .unwrap();
        }
    }

    /// A checkpoint of this kind; says how many frames stand in the WAL, and how many of them are copied back.
    fn checkpoint(&self, kind: &str) -> (i64, i64) {
        let pragma = format!("PRAGMA wal_checkpoint({kind})");
        self.application.query_row(&pragma, [], |row| Ok((row.get(1)?, row.get(2)?))).unwrap()
    }

    /// A follower that has captured everything, with a pin that stands there.
    fn followed(&self, options: Options) -> (Mirrored, Held) {
        let mut mirrored = Mirrored::attach(&self.path, options).unwrap();
        let pin = Held::on(&self.path);
        mirrored.follower.set_pin(Box::new(pin.clone()));
        self.write(20);
        mirrored.catch_up("at first");
        assert!(mirrored.follower.is_pinned());
        (mirrored, pin)
    }
}

#[test]
fn a_pin_keeps_what_was_committed_meanwhile() {
    let place = Place::new();
    let (mirrored, mut pin) = place.followed(Options::default());
    let left = mirrored.leave();
    place.write(30);
    for kind in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        let (frames, copied) = place.checkpoint(kind);
        assert!(copied < frames, "the pin is in the way of {kind}");
    }
    place.write(10);
    let mut mirrored = left.resume(Options::default(), Some(&mut pin)).unwrap();
    mirrored.follower.set_pin(Box::new(pin));
    assert_eq!(mirrored.catch_up("gone on"), 120);
}

#[test]
fn a_pin_on_the_database_file_alone_keeps_one_generation() {
    let place = Place::new();
    let (mut mirrored, mut pin) = place.followed(tight());
    // Until the WAL is copied back as a whole, and the next commit begins it anew.
    while mirrored.follower.statistics().wal_resets == 0 {
        place.write(1);
        mirrored.catch_up("before");
    }
    let resets = mirrored.follower.statistics().wal_resets;
    while mirrored.follower.statistics().write_locks == resets {
        place.write(1);
        mirrored.catch_up("before");
    }
    let left = mirrored.leave();
    place.write(100);
    assert_eq!(place.checkpoint("TRUNCATE").1, 0, "nothing of the next generation is copied back");
    place.write(5);
    let mut mirrored = left.resume(tight(), Some(&mut pin)).unwrap();
    assert_eq!(mirrored.follower.statistics().wal_resets, 0);
    mirrored.follower.set_pin(Box::new(pin.clone()));
    assert_eq!(mirrored.catch_up("gone on"), 315);
    assert_eq!(mirrored.follower.statistics().wal_resets, 1, "it went on in the generation before");
    // The pin moves on with it, so the WAL can begin anew as ever.
    while mirrored.follower.statistics().wal_resets < 4 {
        place.write(5);
        mirrored.catch_up("later");
    }
    assert!(pin.seems_alive());
}

#[test]
fn a_pin_keeps_a_wal_that_nobody_had_written_to() {
    let place = Place::new();
    let Place { _folder: folder, path, application } = place;
    // The last connection to close takes the WAL away.
    drop(application);
    let mirrored = Mirrored::attach(&path, Options::default()).unwrap();
    let mut pin = Held::on(&path);
    // Nothing is committed, and then something.
    let mirrored = mirrored.leave().resume(Options::default(), Some(&mut pin)).unwrap();
    let left = mirrored.leave();
    let place = Place { application: Connection::open(&path).unwrap(), _folder: folder, path };
    place.write(4);
    let mut mirrored = left.resume(Options::default(), Some(&mut pin)).unwrap();
    mirrored.follower.set_pin(Box::new(pin.clone()));
    assert_eq!(mirrored.catch_up("gone on"), 12);
    // Without it, what was committed and taken back again could not be told from nothing.
    let left = mirrored.leave();
    pin.kill();
    drop(place.application);
    let place = Place { application: Connection::open(&place.path).unwrap(), ..place };
    place.application.execute_batch("DELETE FROM k WHERE 0").unwrap();
    assert_eq!(left.resume(Options::default(), None).err(), Some(Lost::WalBeganAnew));
}

#[test]
fn a_pin_that_dies_after_it_was_asked_is_missed() {
    let place = Place::new();
    let (mut mirrored, mut pin) = place.followed(tight());
    while mirrored.follower.statistics().write_locks == 0 {
        place.write(1);
        mirrored.catch_up("before");
    }
    let left = mirrored.leave();
    place.write(10);
    let mut mirrored = left.resume(tight(), Some(&mut pin)).unwrap();
    mirrored.follower.set_pin(Box::new(pin.clone()));
    pin.kill();
    place.checkpoint("PASSIVE");
    assert!(matches!(mirrored.fails(), CaptureError::Gap { .. }));
}

#[test]
fn without_a_pin_what_was_not_copied_back_is_there() {
    let place = Place::new();
    let (mirrored, pin) = place.followed(Options::default());
    pin.kill();
    let left = mirrored.leave();
    // Less than the application's own checkpoint takes.
    place.write(20);
    let mut mirrored = left.resume(Options::default(), None).unwrap();
    assert_eq!(mirrored.catch_up("gone on"), 60);
}

#[test]
fn without_a_pin_what_was_copied_back_is_lost() {
    for (kind, after, lost) in [
        ("PASSIVE", 0, Lost::CopiedBack),
        ("FULL", 0, Lost::CopiedBack),
        // The WAL begins anew with the next commit.
        ("PASSIVE", 1, Lost::WalBeganAnew),
        ("RESTART", 0, Lost::CopiedBack),
        ("RESTART", 1, Lost::WalBeganAnew),
        ("TRUNCATE", 0, Lost::WalBeganAnew),
        ("TRUNCATE", 1, Lost::WalBeganAnew),
    ] {
        let place = Place::new();
        let (mirrored, pin) = place.followed(Options::default());
        pin.kill();
        let left = mirrored.leave();
        place.write(5);
        place.checkpoint(kind);
        place.write(after);
        assert_eq!(left.resume(Options::default(), None).err(), Some(lost), "{kind}, {after}");
    }
}

#[test]
fn a_pin_elsewhere_proves_nothing() {
    let place = Place::new();
    let (mirrored, pin) = place.followed(Options::default());
    pin.kill();
    let left = mirrored.leave();
    place.checkpoint("TRUNCATE");
    place.write(3);
    // It holds a place that is not the one that was kept.
    let mut late = Held::on(&place.path);
    place.write(3);
    assert_eq!(left.resume(Options::default(), Some(&mut late)).err(), Some(Lost::WalBeganAnew));
}

#[test]
fn other_content_at_the_same_place_is_seen() {
    let place = Place::new();
    let (mut mirrored, pin) = place.followed(Options::default());
    place.checkpoint("TRUNCATE");
    mirrored.catch_up("copied back");
    pin.kill();
    let mut left = mirrored.leave();
    left.left.state = synddb_protocol::hash::StateHash::from_bytes([7; 32]);
    assert_eq!(left.resume(Options::default(), None).err(), Some(Lost::OtherContent));
    let place = Place::new();
    let (mirrored, _pin) = place.followed(Options::default());
    let mut left = mirrored.leave();
    left.left.position.checksum[0] ^= 1;
    assert_eq!(left.resume(Options::default(), None).err(), Some(Lost::OtherFrames));
}

#[test]
fn after_the_wal_index_was_made_anew_it_goes_on() {
    let place = Place::new();
    let (mirrored, pin) = place.followed(Options::default());
    pin.kill();
    let left = mirrored.leave();
    place.write(5);
    let Place { _folder: folder, path, application } = place;
    // As after a power cut: the WAL is there and the wal-index is not. Its recovery takes everything for copied back, until it is asked to look.
    let keeping = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    application.set_db_config(keeping, true).unwrap();
    drop(application);
    std::fs::remove_file(folder.path().join("app.db-shm")).unwrap();
    let mut mirrored = left.resume(Options::default(), None).unwrap();
    assert_eq!(mirrored.catch_up("recovered"), 15);
    drop((mirrored, path));
}

#[test]
fn left_again_and_again_nothing_is_lost() {
    let place = Place::new();
    let (mut mirrored, mut pin) = place.followed(tight());
    let mut captured = 60;
    for round in 0..60_u32 {
        // Some polls, so that it is left in the middle of what there is.
        place.write(round % 11);
        if round % 3 == 0 {
            captured += mirrored.follow().unwrap();
        }
        let left = mirrored.leave();
        place.write(round % 7);
        place.checkpoint(["PASSIVE", "RESTART", "FULL", "TRUNCATE"][round as usize % 4]);
        place.write(round % 2);
        mirrored = left.resume(tight(), Some(&mut pin)).unwrap_or_else(|lost| panic!("{round}: {lost:?}"));
        mirrored.follower.set_pin(Box::new(pin.clone()));
        if round % 5 == 0 {
            captured += mirrored.catch_up("in between");
        }
    }
    captured += mirrored.catch_up("at the end");
    let written: u32 = 20 + (0..60_u32).map(|round| round % 11 + round % 7 + round % 2).sum::<u32>();
    assert_eq!(captured, 3 * written as usize);
}
