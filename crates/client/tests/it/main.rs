//! One binary: what an embedded database captures, refuses, resumes, and leaves when it is killed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and looks at one arm of many"
)]

mod holding;
mod killed;
mod memory;
mod others;
mod refusing;
mod resuming;
#[path = "../../../agent/tests/it/sequencer.rs"]
#[allow(dead_code, reason = "it is the agent's, whose tests use all of it")]
mod sequencer;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use sequencer::{PATIENCE, Sequencer, TOKEN};
use synddb_client::{Database, Error, Event, How, Location, Options, Status, Until};

/// A sequencer, a folder, and a database in it.
struct Place {
    folder: tempfile::TempDir,
    sequencer: Sequencer,
}

/// A database, and what its agent tells.
struct Opened {
    database: Database,
    events: Mutex<Receiver<Event>>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), sequencer: Sequencer::start() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    fn location(&self) -> Location {
        Location::File(self.path())
    }

    fn options(&self) -> Options {
        options(self.folder.path(), &self.sequencer.url())
    }

    fn open(&self) -> Opened {
        Opened::open(&self.location(), &self.options()).unwrap()
    }
}

fn options(folder: &Path, url: &str) -> Options {
    Options::new(folder.join("app.db-synddb"), url, TOKEN.to_owned())
}

impl Opened {
    fn open(location: &Location, options: &Options) -> Result<Self, Error> {
        let (told, events) = channel();
        let database = Database::open(location, options, move |event| drop(told.send(event)))?;
        Ok(Self { database, events: Mutex::new(events) })
    }

    /// How the incarnation came to be.
    fn how(&self) -> How {
        loop {
            if let Event::Attached { how, .. } = self.events.lock().unwrap().recv_timeout(PATIENCE).unwrap() {
                return how;
            }
        }
    }

    fn schema(&mut self, sql: &str) {
        self.database.schema(|sqlite| Ok::<_, Error>(sqlite.execute_batch(sql)?)).unwrap();
    }

    fn write(&mut self, sql: &str) {
        self.try_write(sql).unwrap();
    }

    fn try_write(&mut self, sql: &str) -> Result<(), Error> {
        self.database.write(|sqlite| Ok(sqlite.execute_batch(sql)?))
    }

    fn number(&mut self, sql: &str) -> i64 {
        self.database.read(|sqlite| Ok::<_, Error>(sqlite.query_row(sql, [], |row| row.get(0))?)).unwrap()
    }

    fn push(&self) -> Status {
        self.database.push(Until::Stored, Instant::now() + PATIENCE).unwrap()
    }

    /// Ends it, and makes sure that everything is stored.
    fn close(self) {
        assert!(self.database.close().unwrap().complete);
    }
}

/// Options with which nothing is sent, and nobody waits for that.
fn nowhere(options: Options) -> Options {
    Options { sequencers: vec!["http://127.0.0.1:9".to_owned()], drain_max: Duration::ZERO, ..options }
}
