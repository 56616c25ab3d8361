//! A whole agent beside a real writer.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use synddb_agent::outbox::Options;
use synddb_agent::{
    AgentError, AgentStatus, Because, Config, Ended, Event, Handle, How, ProblemKind, PushError, Tls, Until,
    start,
};
use synddb_sqlite::rusqlite::Connection;

use super::sequencer::{Asked, PATIENCE, Sequencer, TOKEN};

/// An application, and where its agent lives.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) sequencer: Sequencer,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), sequencer: Sequencer::start() };
        place.open().execute_batch("CREATE TABLE t(a INTEGER PRIMARY KEY, b)").unwrap();
        place
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("app.db-synddb")
    }

    /// A connection of the application, in WAL mode.
    pub(crate) fn open(&self) -> Connection {
        let connection = Connection::open(self.database()).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection
    }

    pub(crate) fn config(&self) -> Config {
        config(self.folder.path(), &self.sequencer.url())
    }

    pub(crate) fn start(&self) -> Running {
        Running::start(self.config())
    }
}

/// The agent of the database in a folder.
pub(crate) fn config(folder: &Path, url: &str) -> Config {
    Config {
        database: folder.join("app.db"),
        folder: folder.join("app.db-synddb"),
        sequencers: vec![url.to_owned()],
        token: Some(TOKEN.to_owned().into()),
        tls: Tls::default(),
        evidence: None,
        sequencer_keys: Vec::new(),
        wal_bytes_max: 64 << 20,
        wal_bytes_detach: 1 << 30,
        audit_interval: Duration::from_secs(3600),
        pin: None,
        outbox: Options::default(),
        drain_max: PATIENCE,
        last_state: None,
    }
}

/// An agent, and what it tells.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    events: Receiver<Event>,
}

impl Running {
    pub(crate) fn start(config: Config) -> Self {
        let (tell, events) = channel();
        let handle = start(config, move |event| drop(tell.send(event))).unwrap();
        Self { handle, events }
    }

    /// Waits for an event.
    pub(crate) fn told<T>(&self, what: &str, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left);
            let event = event.unwrap_or_else(|_| panic!("not told: {what}; {:?}", self.handle.status()));
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    pub(crate) fn attached(&self) -> How {
        self.told("attached", |event| match event {
            Event::Attached { how, .. } => Some(how),
            _ => None,
        })
    }

    pub(crate) fn warned(&self, kind: ProblemKind) {
        self.told(&format!("{kind:?}"), |event| match event {
            Event::Warning { problem } => (problem.kind == kind).then_some(()),
            _ => None,
        });
    }

    /// Waits until this is its problem. It may have been warned of before anybody listened.
    pub(crate) fn troubled(&self, kind: ProblemKind) {
        let is_so =
            |status: &AgentStatus| status.problem.as_ref().is_some_and(|problem| problem.kind == kind);
        self.until(&format!("{kind:?}"), is_so);
    }

    /// Waits until the status is as wanted, which each event may have brought about.
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.handle.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "not reached: {what}; {status:?}");
            // What is waited for may be told by no event.
            self.events.recv_timeout(Duration::from_millis(20)).ok();
        }
    }

    pub(crate) fn push(&self, until: Until) -> AgentStatus {
        self.handle.push(until, Instant::now() + PATIENCE).unwrap()
    }

    pub(crate) fn end(self) -> Ended {
        self.handle.stop();
        self.handle.join().unwrap()
    }
}

#[test]
fn commits_are_sent_stored_and_forgotten() {
    let place = Place::new();
    let writer = place.open();
    writer.execute_batch("INSERT INTO t VALUES(1, 'before')").unwrap();
    let agent = place.start();
    assert_eq!(agent.attached(), How::New { because: Because::FirstAttach });
    for number in 2..50 {
        writer.execute("INSERT INTO t VALUES(?, 'row')", [number]).unwrap();
    }
    writer
        .execute_batch("CREATE TABLE u(x); INSERT INTO u SELECT a FROM t; DELETE FROM t WHERE a < 9")
        .unwrap();
    let status = agent.push(Until::Stored);
    assert_eq!((status.pending.submissions, status.pending.bytes), (0, 0));
    assert_eq!((status.stored_next, status.sequenced_next), (status.next, status.next));
    assert_eq!(status.problem, None);
    assert_eq!(place.sequencer.commits(), 48 + 3);
    place.sequencer.assert_replica_equals(&place.database());
    let is_open = |path| matches!(path, Asked::Checkpoint | Asked::Leaves | Asked::Batches);
    let requests = &place.sequencer.state().requests;
    assert!(requests.iter().all(|request| request.token == TOKEN || is_open(request.path)));
    agent.told("the snapshot is stored", |event| matches!(event, Event::SnapshotStored { .. }).then_some(()));
    assert!(!place.home().join("incarnations/000000000001/chunks").exists());
    let ended = agent.end();
    assert!(ended.complete, "{ended:?}");
}

#[test]
fn an_idle_agent_asks_nothing_and_answers_at_once() {
    let place = Place::new();
    let writer = place.open();
    let agent = place.start();
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.push(Until::Stored);
    // The last thing that it asks is whether its snapshot is whole.
    agent.told("snapshot stored", |event| matches!(event, Event::SnapshotStored { .. }).then_some(()));
    let requests = place.sequencer.state().requests.len();
    let started = Instant::now();
    for _ in 0..20 {
        let position = synddb_sqlite::capture::committed_position(&place.database()).unwrap();
        let captured = agent.handle.captured(position);
        let status = agent.handle.status();
        let synddb_agent::Captured::Yes { next, state } = captured else { panic!("{captured:?}") };
        assert_eq!((Some(next), Some(state)), (status.next, status.state));
    }
    // The thread that captures sleeps for minutes when nobody rings.
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(place.sequencer.state().requests.len(), requests);
    agent.end();
}

#[test]
fn a_second_agent_is_refused() {
    let place = Place::new();
    let agent = place.start();
    agent.attached();
    let second = start(place.config(), |_| {}).map(drop);
    assert!(matches!(second, Err(AgentError::Locked { .. })), "{second:?}");
    agent.end();
    Running::start(place.config()).end();
}

#[test]
fn only_the_owner_may_read_what_an_agent_keeps_and_nobody_else_writes_its_folder() {
    fn walk(path: &Path, found: &mut Vec<(PathBuf, u32)>) {
        let metadata = path.metadata().unwrap();
        found.push((path.to_owned(), metadata.permissions().mode() & 0o777));
        if metadata.is_dir() {
            std::fs::read_dir(path).unwrap().for_each(|entry| walk(&entry.unwrap().path(), found));
        }
    }
    let place = Place::new();
    let nowhere = Config { sequencers: vec!["http://127.0.0.1:9".to_owned()], ..place.config() };
    let agent = Running::start(Config { drain_max: Duration::ZERO, ..nowhere });
    agent.attached();
    let mut found = Vec::new();
    walk(&place.home(), &mut found);
    for name in ["manifest", "outbox.db", "outbox.db-wal", "chunks", "agent.lock", "stream"] {
        assert!(found.iter().any(|(path, _)| path.ends_with(name)), "{name} is missing: {found:?}");
    }
    for (path, mode) in &found {
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", path.display());
    }
    agent.end();

    for folder in [place.home(), place.home().join("incarnations")] {
        std::fs::set_permissions(&folder, Permissions::from_mode(0o720)).unwrap();
        let refused = start(place.config(), |_| {}).map(drop);
        assert!(matches!(refused, Err(AgentError::Writable { mode: 0o720, .. })), "{refused:?}");
        // What others may only read is left to its owner.
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    }
    place.start().end();
}

#[test]
fn a_full_outbox_ends_the_polls_and_nothing_else() {
    let place = Place::new();
    let writer = place.open();
    place.sequencer.state().stores = false;
    let agent = Running::start(Config {
        outbox: Options { bytes_max: 20_000, ..Options::default() },
        ..place.config()
    });
    agent.attached();
    for number in 0..200 {
        writer.execute("INSERT INTO t VALUES(?, randomblob(1000))", [number]).unwrap();
    }
    agent.warned(ProblemKind::OutboxFull);
    let pushed = agent.handle.push(Until::Sequenced, Instant::now() + Duration::from_millis(200));
    assert!(matches!(pushed, Err(PushError::TimedOut { .. })), "{pushed:?}");
    assert!(agent.handle.status().statistics.commits < 200);
    place.sequencer.store_all();
    agent.push(Until::Stored);
    assert_eq!((place.sequencer.commits(), place.sequencer.snapshots().len()), (200, 1));
    place.sequencer.assert_replica_equals(&place.database());
    assert!(agent.end().complete);
}

#[test]
fn what_cannot_be_followed_ends_the_agent_with_the_reason() {
    let place = Place::new();
    let writer = place.open();
    let agent = place.start();
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(1, 1); CREATE TABLE _synddb_mine(x)").unwrap();
    let error = agent.handle.join().unwrap_err();
    assert!(matches!(error, AgentError::Capture(_)), "{error:?}");
    drop(agent);
    std::fs::remove_file(place.database()).unwrap();
    let missing = Running::start(place.config());
    let error = missing.handle.join().unwrap_err();
    let AgentError::Capture(error) = error else { panic!("{error:?}") };
    assert!(matches!(error, synddb_sqlite::capture::CaptureError::Missing { .. }), "{error:?}");
}

#[test]
fn an_agent_that_may_not_wait_ends_with_what_is_left_and_the_next_one_sends_it() {
    let place = Place::new();
    let writer = place.open();
    place.sequencer.state().stores = false;
    let agent = Running::start(Config { drain_max: Duration::ZERO, ..place.config() });
    agent.attached();
    writer.execute_batch("INSERT INTO t VALUES(1, 1)").unwrap();
    agent.push(Until::Sequenced);
    let ended = agent.end();
    assert!(!ended.complete && ended.pending.submissions > 0, "{ended:?}");
    place.sequencer.store_all();
    let agent = place.start();
    assert_eq!(agent.attached(), How::Resumed);
    agent.push(Until::Stored);
    let bodies = place.sequencer.bodies(Asked::Submit);
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "it was not the same that was sent again");
    assert!(agent.end().complete);
}
