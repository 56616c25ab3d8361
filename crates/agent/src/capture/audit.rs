//! Audits: a full scan of the application's database by SQLite, against what was captured.
//!
//! ```text
//! everything is captured, and an audit is due or asked for --> a scan on a thread of its own, at that very position
//!     nothing is captured meanwhile --> the same state? kept as an empty commit with the scanned state
//!                                                       --no--> the capture is not trusted any more: attach anew
//! ```
//!
//! What must stay true: the scan stands exactly at the position that the outbox names, so nothing is polled until it has ended. The application
//! goes on meanwhile, and its WAL grows; when that costs too much, the audit is given up.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use synddb_protocol::hash::StateHash;
use synddb_protocol::http::Position;
use synddb_sqlite::capture::{Auditor, CaptureError, Waker};
use synddb_sqlite::rusqlite::InterruptHandle;

use super::{Capture, WATCH};
use crate::attach::Running;
use crate::error::AgentError;
use crate::event::Event;
use crate::handle::CALLS_MAX;
use crate::ship::spawn;
use crate::source::{Source, waiting};

/// How soon an audit that could not begin is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// The longest time between two audits: a year.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// What an audit found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Audited {
    /// What comes next in the stream where the database was scanned.
    pub next: Position,
    /// What was captured hashes to this.
    pub captured: StateHash,
    /// The application's database does.
    pub scanned: StateHash,
    /// How long the scan took, in milliseconds.
    pub scan_ms: u64,
}

impl Audited {
    /// Whether the database is what was captured.
    pub fn is_equal(&self) -> bool {
        self.captured == self.scanned
    }
}

/// What is audited, and when it is the next time.
pub(super) struct Audits {
    due: Instant,
    /// Who asked for one.
    askers: Vec<SyncSender<Audited>>,
    running: Option<Scan>,
}

/// A scan that runs.
struct Scan {
    began: Instant,
    told: Receiver<Told>,
    interrupt: Option<InterruptHandle>,
}

enum Told {
    Reads(InterruptHandle),
    Ended(Result<Option<StateHash>, CaptureError>),
}

impl Audits {
    /// The first is due after a whole interval; an interval of nothing is for whoever wants none but those that are asked for.
    pub(super) fn new(interval: Duration) -> Self {
        let interval = if interval.is_zero() { WAIT_MAX } else { interval };
        Self { due: Instant::now() + interval.min(WAIT_MAX), askers: Vec::new(), running: None }
    }

    /// Somebody asks for one. A scan that runs already counts. Of too many the first is not answered, and sees that: its time was up long ago.
    pub(super) fn ask(&mut self, asker: SyncSender<Audited>) {
        if self.askers.len() >= CALLS_MAX {
            self.askers.remove(0);
        }
        self.askers.push(asker);
        self.due = Instant::now();
    }

    /// How long until one is due.
    pub(super) fn due_in(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Whether one runs.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends the one that runs, without a result.
    pub(super) fn give_up(&mut self) {
        if let Some(interrupt) = self.running.take().and_then(|scan| scan.interrupt) {
            interrupt.interrupt();
        }
    }

    fn is_due(&self) -> bool {
        self.due_in().is_zero()
    }

    fn later(&mut self, wait: Duration) {
        self.due = Instant::now() + wait.min(WAIT_MAX);
    }
}

impl Capture {
    /// Begins an audit if one is due; says whether it did. Only when everything is captured and kept that is committed.
    pub(super) fn begin_audit(&mut self, running: &Running) -> Result<bool, AgentError> {
        let Source::Wal(follower) = &running.source else {
            // An application that hands its commits over is not scanned.
            self.audits.later(WAIT_MAX);
            return Ok(false);
        };
        if !self.audits.is_due() || self.audits.running.is_some() {
            return Ok(false);
        }
        let Some(auditor) = follower.auditor()? else {
            self.audits.later(AGAIN);
            return Ok(false);
        };
        let (tell, told) = sync_channel(2);
        let waker = self.shared.waker.clone();
        let scan = move || scan(&auditor, &tell, &waker);
        drop(spawn("synddb-audit", scan)?);
        self.audits.running = Some(Scan { began: Instant::now(), told, interrupt: None });
        Ok(true)
    }

    /// Goes on with the audit that runs; says whether there is one, so that nothing is to be captured.
    pub(super) fn audit(&mut self, running: &mut Running) -> Result<bool, AgentError> {
        let Some(scan) = &mut self.audits.running else { return Ok(false) };
        let ended = match scan.told.try_recv() {
            Ok(Told::Reads(interrupt)) => {
                scan.interrupt = Some(interrupt);
                return Ok(true);
            }
            Ok(Told::Ended(ended)) => ended,
            Err(TryRecvError::Empty) => {
                let is_costly = running.source.wal_used_bytes()? > self.config.wal_bytes_detach;
                if let Some(interrupt) = scan.interrupt.as_ref().filter(|_| is_costly) {
                    interrupt.interrupt();
                }
                self.shared.waker.wait(WATCH).map_err(waiting)?;
                return Ok(true);
            }
            Err(TryRecvError::Disconnected) => return Err(AgentError::Fault { thread: "audit" }),
        };
        let took = scan.began.elapsed();
        self.audits.running = None;
        let interval = self.config.audit_interval;
        self.audits.later(if interval.is_zero() { WAIT_MAX } else { interval });
        match ended {
            Ok(Some(scanned)) => self.audited(running, scanned, took)?,
            // It could not be read, or was given up.
            Ok(None) => self.audits.later(AGAIN),
            Err(error) => {
                tracing::warn!(%error, "an audit did not come to its end");
                if !self.audits.askers.is_empty() {
                    self.audits.later(AGAIN);
                }
            }
        }
        Ok(false)
    }

    fn audited(
        &mut self,
        running: &mut Running,
        scanned: StateHash,
        took: Duration,
    ) -> Result<(), AgentError> {
        let outbox = &mut running.outbox;
        let captured = outbox.state();
        // Sent either way: where they differ, it is every reader's proof that the capture missed something.
        outbox.keep_audit(outbox.position(), scanned)?;
        let scan_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let audited = Audited { next: outbox.end(), captured, scanned, scan_ms };
        self.events.say(Event::Audited(audited));
        for asker in self.audits.askers.drain(..) {
            // Who does not wait any more is not told.
            asker.send(audited).ok();
        }
        if !audited.is_equal() {
            return Err(AgentError::NotWhatWasCaptured { captured, scanned });
        }
        self.note(running);
        self.answer_shipper(&running.outbox)
    }
}

fn scan(auditor: &Auditor, tell: &SyncSender<Told>, waker: &Waker) {
    let ended = auditor.scan(|interrupt| {
        let is_waited_for = tell.send(Told::Reads(interrupt)).is_ok();
        waker.wake();
        is_waited_for
    });
    tell.send(Told::Ended(ended)).ok();
    waker.wake();
}
