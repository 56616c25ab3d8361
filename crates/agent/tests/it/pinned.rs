//! Another process holds the agent's place, and outlives it.

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command};
use std::time::{Duration, Instant};

use synddb_agent::pin::{PinConfig, PinProgram, serve};
use synddb_agent::{Because, Config, Event, How, Until};
use synddb_sqlite::rusqlite::Connection;

use super::agent::{Place, Running, config};
use super::child::{Role, pin, spawn_asking};
use super::resuming;
use super::sequencer::PATIENCE;

/// What a pin does here.
pub(crate) fn hold(folder: &Path, wal_bytes_max: u64) {
    let (database, linger) = (folder.join("app.db"), PATIENCE);
    serve(&PinConfig { database, folder: folder.join("app.db-synddb"), wal_bytes_max, linger }).unwrap();
}

/// An agent with a pin whose WAL begins anew every few hundred commits.
fn start(place: &Place, pin: PinProgram) -> Running {
    Running::start(Config { pin: Some(pin), wal_bytes_max: 256 << 10, ..place.config() })
}

/// Waits for a pin; says which process it is.
pub(crate) fn pinned(agent: &Running) -> u32 {
    agent.told("pinned", |event| match event {
        Event::Pinned { pid } => Some(pid),
        _ => None,
    })
}

/// What an agent that is to be killed does.
pub(crate) fn follow_until_killed(folder: &Path, url: &str, role: Role) {
    let config = Config { pin: Some(pin(role, folder)), wal_bytes_max: 256 << 10, ..config(folder, url) };
    resuming::follow_until_killed(config);
}

/// An agent with a pin, in a process of its own.
struct Killable {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    how: String,
    pin: u32,
}

impl Killable {
    fn start(place: &Place, role: Role) -> Self {
        let mut child = spawn_asking(role, place.folder.path(), &place.sequencer.url());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut agent = Self { child, lines, how: String::new(), pin: 0 };
        // A pin that was left is found before it is attached, and another one started after that.
        for _ in 0..2 {
            let line = agent.line(|line| line.starts_with("attached ") || line.starts_with("pinned "));
            match line.split_once(' ').unwrap() {
                ("attached", how) => agent.how = how.to_owned(),
                (_, pid) => agent.pin = pid.parse().unwrap(),
            }
        }
        agent
    }

    fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        self.lines.find_map(|line| line.ok().filter(|line| wanted(line))).unwrap()
    }

    fn push(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap(), "push").unwrap();
        self.line(|line| line == "pushed");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn runs(pid: u32) -> bool {
    // A child that has ended and was not waited for is there still, and has no program any more.
    std::fs::read_link(PathBuf::from(format!("/proc/{pid}/exe"))).is_ok()
}

fn ends(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    while runs(pid) {
        assert!(Instant::now() < deadline, "process {pid} does not end");
        std::thread::yield_now();
    }
}

fn connect(place: &Place) -> UnixStream {
    UnixStream::connect(place.home().join("pin.sock")).unwrap()
}

/// What the WAL had when the pin noticed that its agent is gone does not count, and when that is nobody knows.
fn write_until_ended(writer: &Connection, pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    for row in 0.. {
        write(writer, row..row + 1);
        if !runs(pid) {
            return;
        }
        assert!(Instant::now() < deadline, "process {pid} does not end");
    }
}

fn signal(pid: u32, name: &str) {
    // The shell has this command built in.
    assert!(Command::new("sh").args(["-c", &format!("kill {name} {pid}")]).status().unwrap().success());
}

/// A checkpoint that waits for nobody; says how many frames stand in the WAL, and how many of them are copied back.
fn truncate(writer: &Connection) -> (i64, i64) {
    writer.busy_timeout(Duration::ZERO).unwrap();
    let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
    writer.query_row(sql, [], |row| Ok((row.get(1)?, row.get(2)?))).unwrap()
}

fn write(writer: &Connection, rows: std::ops::Range<u32>) {
    writer.busy_timeout(PATIENCE).unwrap();
    for row in rows {
        writer.execute("INSERT INTO t VALUES(?1, randomblob(700))", [row]).unwrap();
    }
}

#[test]
fn what_is_committed_while_no_agent_runs_is_kept() {
    let place = Place::new();
    let writer = place.open();
    let mut agent = Killable::start(&place, Role::FollowPinned);
    let pin = agent.pin;
    for round in 0..8 {
        write(&writer, 1000 * round..1000 * round + 37 * round);
        if round % 2 == 0 {
            agent.push();
        }
        agent.kill();
        write(&writer, 1000 * round + 500..1000 * round + 560);
        let (frames, copied) = truncate(&writer);
        assert!(copied < frames, "the pin is in the way");
        write(&writer, 1000 * round + 600..1000 * round + 610);
        agent = Killable::start(&place, Role::FollowPinned);
        assert_eq!((agent.pin, agent.how.starts_with("true")), (pin, true), "{round}: {}", agent.how);
    }
    agent.kill();
    let agent = start(&place, self::pin(Role::Pin, place.folder.path()));
    assert_eq!((pinned(&agent), agent.attached()), (pin, How::Resumed));
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    assert_eq!(place.sequencer.snapshots().len(), 1);
    let commits: u32 = (0..8).map(|round| 37 * round + 70).sum();
    assert_eq!(place.sequencer.commits(), usize::try_from(commits).unwrap());
    agent.end();
    ends(pin);
}

#[test]
fn an_agent_that_ends_leaves_no_pin() {
    let place = Place::new();
    let agent = start(&place, pin(Role::Pin, place.folder.path()));
    let pid = pinned(&agent);
    assert!(runs(pid));
    agent.end();
    ends(pid);
    let writer = place.open();
    write(&writer, 0..3);
    let busy: i64 = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0, "nothing holds the WAL");
}

#[test]
fn a_pin_that_dies_is_replaced() {
    let place = Place::new();
    let writer = place.open();
    let agent = start(&place, pin(Role::Pin, place.folder.path()));
    let first = pinned(&agent);
    agent.push(Until::Sequenced);
    signal(first, "-KILL");
    // Nothing is committed meanwhile: its end is seen all the same.
    let second = pinned(&agent);
    assert_ne!(first, second);
    // The other one holds what it should.
    write(&writer, 0..50);
    agent.push(Until::Sequenced);
    truncate(&writer);
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
    ends(second);
}

#[test]
fn a_pin_that_hangs_is_killed_and_replaced() {
    let place = Place::new();
    let writer = place.open();
    let agent = start(&place, pin(Role::Pin, place.folder.path()));
    let first = pinned(&agent);
    agent.push(Until::Sequenced);
    signal(first, "-STOP");
    // It is found out when it is asked something.
    write(&writer, 0..2000);
    let second = pinned(&agent);
    assert_ne!(first, second);
    ends(first);
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn a_pin_lets_go_rather_than_fill_the_disk() {
    let place = Place::new();
    let writer = place.open();
    let agent = Killable::start(&place, Role::FollowPinnedBriefly);
    let pid = agent.pin;
    agent.kill();
    write_until_ended(&writer, pid);
    truncate(&writer);
    let agent = start(&place, pin(Role::Pin, place.folder.path()));
    assert_eq!(agent.attached(), How::New { because: Because::WalBeganAnew });
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
}

#[test]
fn a_pin_of_a_file_that_was_exchanged_ends() {
    let place = Place::new();
    let agent = Killable::start(&place, Role::FollowPinned);
    let pid = agent.pin;
    agent.kill();
    std::fs::rename(place.database(), place.folder.path().join("other.db")).unwrap();
    ends(pid);
}

#[test]
fn a_pin_of_another_file_proves_nothing() {
    let place = Place::new();
    let [app, one, other] = ["app.db", "one.db", "other.db"].map(|name| place.folder.path().join(name));
    std::fs::rename(&app, &one).unwrap();
    symlink(&one, &app).unwrap();
    let writer = Connection::open(&one).unwrap();
    let mut agent = Killable::start(&place, Role::FollowPinned);
    let pin = agent.pin;
    write(&writer, 0..5);
    agent.push();
    agent.kill();
    // The same content under the same name, and commits that come to nothing.
    writer.execute_batch(&format!("VACUUM INTO '{}'", other.display())).unwrap();
    std::fs::remove_file(&app).unwrap();
    symlink(&other, &app).unwrap();
    let application = place.open();
    application.execute_batch("INSERT INTO t VALUES(100, 'lost'); DELETE FROM t WHERE a = 100").unwrap();
    truncate(&application);
    application.execute_batch("INSERT INTO t VALUES(101, 'seen')").unwrap();
    let agent = start(&place, self::pin(Role::Pin, place.folder.path()));
    assert_eq!(agent.attached(), How::New { because: Because::Replaced });
    agent.push(Until::Stored);
    place.sequencer.assert_replica_equals(&place.database());
    agent.end();
    ends(pin);
}

#[test]
fn whoever_only_looks_at_a_pin_keeps_it_from_nothing() {
    let place = Place::new();
    let writer = place.open();
    let agent = Killable::start(&place, Role::FollowPinnedBriefly);
    let pin = agent.pin;
    assert_eq!(synddb_agent::pin::running(&place.home()), Some(pin));
    agent.kill();
    let looks: Vec<_> = (0..6).map(|_| connect(&place)).collect();
    write_until_ended(&writer, pin);
    drop(looks);
    assert_eq!(synddb_agent::pin::running(&place.home()), None);
    assert!(!place.home().join("pin.sock").exists());
}

#[test]
fn an_agent_is_answered_before_those_who_only_look_are_greeted() {
    const LOOKS: usize = 100;
    let place = Place::new();
    let agent = Killable::start(&place, Role::FollowPinned);
    let pin = agent.pin;
    agent.kill();
    // What `pin/mod.rs` says of its bytes.
    let (mut asking, mut greeting, mut answer) = (connect(&place), [0; 40], [0; 25]);
    // Each that looks would cost it two seconds.
    asking.set_read_timeout(Some(PATIENCE)).unwrap();
    asking.read_exact(&mut greeting).unwrap();
    asking.write_all(b"h").unwrap();
    asking.read_exact(&mut answer).unwrap();
    signal(pin, "-STOP");
    let looks: Vec<_> = (0..LOOKS).map(|_| connect(&place)).collect();
    asking.write_all(b"h").unwrap();
    signal(pin, "-CONT");
    let mut again = [0; 25];
    asking.read_exact(&mut again).unwrap();
    assert_eq!(again, answer);
    drop(looks);
    asking.write_all(b"e").unwrap();
    ends(pin);
}

#[test]
fn without_a_pin_it_says_so_and_goes_on() {
    let place = Place::new();
    let nothing = PinProgram { program: "/nowhere/at/all".into(), arguments: Vec::new() };
    let agent = start(&place, nothing);
    let why = agent.told("unpinned", |event| match event {
        Event::Unpinned { detail } => Some(detail),
        _ => None,
    });
    assert!(why.contains("No such file"), "{why}");
    write(&place.open(), 0..3);
    agent.push(Until::Stored);
    agent.end();
    // One that ends at once is no pin either.
    let agent = start(&place, PinProgram { program: "true".into(), arguments: Vec::new() });
    agent.told("unpinned", |event| matches!(event, Event::Unpinned { .. }).then_some(()));
    agent.end();
}
