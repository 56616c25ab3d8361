//! `synddb mirror`: keeps a second file equal to an application's database, on this machine and without network.
//!
//! ```text
//! source --follower--> outbox --the bytes that would be sent--> replica --> target
//! ```
//!
//! One thread does all of it in turn. The outbox takes what comes faster than it is applied.

mod begin;
mod replica;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use synddb_protocol::hash::StateHash;
use synddb_sqlite::compare::first_difference;
use synddb_sqlite::state::RunningState;

use crate::arguments::MirrorArguments;
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};
use crate::refusal::open_to_read;
use crate::stop::Stop;
use begin::{Begun, begin};

pub use replica::Divergence;

/// How long a wait for commits takes at most: a signal is seen after this long.
const WAIT: Duration = Duration::from_millis(50);

/// How long nothing is said about progress.
const PROGRESS: Duration = Duration::from_secs(1);

/// How often both are compared when the application writes all the while.
const COMPARISONS_MAX: u32 = 3;

/// What a mirror did so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// Commits captured and applied.
    pub commits: u64,
    /// Row changes in them.
    pub row_changes: u64,
    /// How often the source's WAL began anew.
    pub wal_resets: u64,
    /// Largest size of the source's WAL, in bytes.
    pub wal_bytes_max: u64,
    /// How often the source's write lock was taken, to let its WAL begin anew.
    pub write_locks: u64,
    /// The state hash of source and target.
    pub state: String,
    /// Seconds since the mirror was ready.
    pub seconds: f64,
    /// Whether both were compared in full.
    pub verified: bool,
}

pub(crate) fn run(arguments: &MirrorArguments, output: Output) -> Result<Exit, CommandError> {
    // Before anything takes long, so that a signal never finds half of it.
    let stop = Stop::on_signals().map_err(CommandError::system("catch signals"))?;
    if arguments.stop_on_eof {
        stop.or_on_eof().map_err(CommandError::system("watch standard input"))?;
    }
    let mut begun = begin(arguments)?;
    let started = Instant::now();
    let ready = Event::Ready {
        source: arguments.source.display().to_string(),
        target: arguments.target.display().to_string(),
        state: begun.state().to_string(),
    };
    output.tell(&ready)?;
    let mut said = (Instant::now(), 0);
    while !stop.is_asked() {
        begun.step(WAIT)?;
        let commits = begun.follower.statistics().commits;
        if commits != said.1 && said.0.elapsed() >= PROGRESS {
            said = (Instant::now(), commits);
            output.tell(&Event::Progress(begun.summary(started, false)))?;
        }
    }
    begun.catch_up()?;
    if arguments.verify {
        begun.verify(arguments)?;
    }
    output.tell(&Event::Stopped(begun.summary(started, arguments.verify)))?;
    Ok(Exit::Done)
}

impl Begun {
    /// Captures what was committed, after waiting for it if there is nothing else to do, and applies some of what waits.
    fn step(&mut self, wait: Duration) -> Result<(), CommandError> {
        if self.replica.is_idle(&self.outbox)? {
            self.follower.wait(wait)?;
        }
        // A follower ends when its outbox is full, so it is not asked then; the WAL keeps what is committed.
        if let Some(mut room) = self.outbox.admitted() {
            self.follower.poll(&mut room)?;
        }
        self.replica.take_some(&mut self.outbox)
    }

    /// Captures and applies everything that is committed now. Returns how many commits that were; an application that never pauses does
    /// not keep it for ever.
    fn catch_up(&mut self) -> Result<u64, CommandError> {
        let now = self.follower.committed()?;
        let mut captured = 0;
        loop {
            while !self.replica.is_idle(&self.outbox)? {
                self.replica.take_some(&mut self.outbox)?;
            }
            if self.follower.has_captured(&now) {
                return Ok(captured);
            }
            if let Some(mut room) = self.outbox.admitted() {
                captured += self.follower.poll(&mut room)?;
            }
        }
    }

    fn state(&self) -> StateHash {
        self.replica.hash()
    }

    /// Compares both databases in full, in two ways that share nothing: by a state hash computed anew, and row by row.
    ///
    /// The application may go on writing: what is found counts when nothing new was captured afterwards, because then the source
    /// was what the target is all the while.
    fn verify(&mut self, arguments: &MirrorArguments) -> Result<(), CommandError> {
        for _ in 0..COMPARISONS_MAX {
            let captured = self.follower.state().hash();
            let scanned = RunningState::scan(&open_to_read(&arguments.source)?)?.hash();
            let found = first_difference(&arguments.source, &arguments.target)?;
            if self.catch_up()? > 0 {
                continue;
            }
            if captured != scanned {
                return Err(Box::new(Divergence::Scan { captured, scanned }).into());
            }
            return match found {
                None => Ok(()),
                Some(found) => Err(Box::new(Divergence::Compared { difference: found.to_string() }).into()),
            };
        }
        Err(CommandError::NeverStill)
    }

    fn summary(&self, started: Instant, verified: bool) -> Summary {
        let statistics = self.follower.statistics();
        Summary {
            commits: statistics.commits,
            row_changes: statistics.rows,
            wal_resets: statistics.wal_resets,
            wal_bytes_max: statistics.wal_bytes_max,
            write_locks: statistics.write_locks,
            state: self.state().to_string(),
            seconds: started.elapsed().as_secs_f64(),
            verified,
        }
    }
}
