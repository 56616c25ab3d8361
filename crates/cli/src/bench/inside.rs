//! An agent inside this process: the same code as `synddb follow`, with its default options and its pin.
//!
//! What must stay true: it has ended when the value is gone, and its pin with it.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use synddb_agent::{Captured, Event, Handle, Until};
use synddb_protocol::http::Position;
use synddb_protocol::id::StreamId;

use super::agent::{judge, too_late};
use super::{Bench, BenchError};
use crate::exit::CommandError;
use crate::follow::Settings;

/// How long it may take for what is asked of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long it may take until everything is stored.
const STORED_MAX: Duration = Duration::from_secs(600);

/// Between two looks at whether the benchmark was asked to end.
const LOOK_UP: Duration = Duration::from_millis(500);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What it may say before it is listened to.
const EVENTS_MAX: usize = 64;

/// An agent that follows a database.
pub(super) struct Inside {
    agent: Handle,
    /// The number of the first commit that it captures.
    first: u64,
}

impl Inside {
    /// Starts one, and returns when it follows the database and another process holds its place.
    pub(super) fn start(
        bench: &Bench,
        database: &Path,
        sequencer: &str,
        token: &Path,
    ) -> Result<Self, BenchError> {
        let config = config(database, sequencer, token)?;
        let (said, events) = sync_channel(EVENTS_MAX);
        // What it says later concerns nobody.
        let agent = synddb_agent::start(config, move |event| drop(said.try_send(event)));
        let mut inside = Self { agent: agent.map_err(CommandError::from)?, first: 0 };
        inside.first = following(bench, &events)?.commit.get();
        Ok(inside)
    }

    /// The number of the first commit that it captures.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Returns when everything that is committed now is durably in its outbox; what comes next then.
    pub(super) fn converge(&self, bench: &Bench) -> Result<Position, BenchError> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            bench.go_on()?;
            if let Captured::Yes { next, .. } = self.agent.captured(None) {
                return Ok(next);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Err(too_late("capture everything", PATIENCE))
    }

    /// The stream.
    pub(super) fn stream(&self) -> StreamId {
        self.agent.status().stream
    }

    /// Returns when everything that is committed now is stored.
    pub(super) fn store(&self, bench: &Bench) -> Result<(), BenchError> {
        let since = Instant::now();
        while since.elapsed() < STORED_MAX {
            bench.go_on()?;
            if self.agent.push(Until::Stored, Instant::now() + LOOK_UP).is_ok() {
                return Ok(());
            }
        }
        Err(too_late("see everything stored", STORED_MAX))
    }

    /// Makes sure that it captured exactly what was committed since it follows. Nobody may write meanwhile.
    pub(super) fn check(&self, bench: &Bench, scenario: &str, committed: u64) -> Result<(), BenchError> {
        let captured = self.converge(bench)?.commit.get() - self.first;
        let audited = self.agent.audit(Instant::now() + PATIENCE);
        let audited = audited.map_err(|_| too_late("scan the database", PATIENCE))?;
        judge(scenario, committed, captured, &audited)
    }

    /// Has it end. What it captured last may be stored nowhere.
    pub(super) fn stop(self) -> Result<(), BenchError> {
        self.agent.stop_at_once();
        self.agent.join().map_err(CommandError::from)?;
        Ok(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.agent.stop_at_once();
        // One that failed was told, or its failure is what follows from another one.
        self.agent.join().ok();
    }
}

/// What `synddb follow` would make of the same arguments.
fn config(database: &Path, sequencer: &str, token: &Path) -> Result<synddb_agent::Config, BenchError> {
    // What the environment says of a real agent does not count here.
    let settings = Settings::of(database, sequencer, token).ending_at_once();
    settings.folder().map_err(CommandError::from)?.make()?;
    Ok(settings.config()?)
}

/// Waits until it follows its database and another process holds its place; what it captures first.
fn following(bench: &Bench, events: &Receiver<Event>) -> Result<Position, BenchError> {
    let since = Instant::now();
    let (mut first, mut is_pinned) = (None, false);
    while since.elapsed() < PATIENCE {
        bench.go_on()?;
        match events.recv_timeout(LOOK_AGAIN) {
            Ok(Event::Attached { next, .. }) => first = Some(next),
            Ok(Event::Pinned { .. }) => is_pinned = true,
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if let Some(first) = first.filter(|_| is_pinned) {
            return Ok(first);
        }
    }
    Err(too_late("follow the database", since.elapsed()))
}
