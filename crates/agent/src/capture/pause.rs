//! Pauses before a database is attached again. Each time costs a snapshot, so they grow.

use std::time::{Duration, Instant};

use super::Capture;
use crate::attach::Left;
use crate::error::AgentError;
use crate::event::Event;
use crate::outbox::OutboxError;
use crate::source::waiting;
use crate::status::{Problem, ProblemKind, Teller};
use synddb_protocol::chain;
use synddb_sqlite::rusqlite::ffi;

/// The first pause.
const FIRST: Duration = Duration::from_millis(200);
/// The longest one.
const MAX: Duration = Duration::from_secs(60);
/// A database that was followed for so long was well.
const WELL: Duration = Duration::from_secs(60);

/// How long the next pause is.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    failures: u32,
    attached: Option<Instant>,
}

impl Pauses {
    pub(super) fn attached(&mut self) {
        self.attached = Some(Instant::now());
    }

    fn next(&mut self) -> Duration {
        if self.attached.take().is_some_and(|since| since.elapsed() >= WELL) {
            self.failures = 0;
        }
        let exponent = self.failures.min(16);
        self.failures += 1;
        FIRST.saturating_mul(1 << exponent).min(MAX)
    }
}

impl Capture {
    /// Waits before the database is attached again; the shipper is served meanwhile.
    pub(super) fn pause(
        &mut self,
        error: &AgentError,
        pauses: &mut Pauses,
        left: &mut Option<Left>,
    ) -> Result<(), AgentError> {
        let pause = pauses.next();
        let again_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.tell(failure_of(error, fix_of(error)));
        self.events.say(Event::Interrupted { again_ms });
        let until = Instant::now() + pause;
        while !self.shared.is_stopping() {
            if let Some(left) = left {
                self.answer_requests(&mut left.outbox)?;
            }
            let wait = until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            self.shared.waker.wait(wait).map_err(waiting)?;
        }
        Ok(())
    }

    pub(super) fn tell(&self, problem: Problem) {
        if self.shared.board.tell(Teller::Capture, Some(problem.clone())) {
            self.events.say(Event::Warning { problem });
        }
    }
}

/// What to do about something that is tried again.
const fn fix_of(error: &AgentError) -> &'static str {
    if let AgentError::Outbox(OutboxError::Sqlite(sqlite)) = error
        && sqlite.primary() == ffi::SQLITE_FULL
    {
        return "free space on the disk of the agent's folder; it goes on by itself then";
    }
    "it is attached again by itself"
}

pub(super) fn failure_of(error: &AgentError, fix: &str) -> Problem {
    Problem { kind: ProblemKind::NotCapturing, detail: chain(error), fix: fix.to_owned() }
}

pub(super) fn outbox_full() -> Problem {
    Problem {
        kind: ProblemKind::OutboxFull,
        detail: "the outbox is full, so the application's WAL grows".to_owned(),
        fix: "see why nothing is stored, or raise the budget of the outbox".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use synddb_sqlite::connection::SqliteError;
    use synddb_sqlite::rusqlite::Error;

    use super::*;

    #[test]
    fn a_full_disk_is_told_what_to_do_about() {
        let told = |code| {
            let sqlite = SqliteError::from(Error::SqliteFailure(ffi::Error::new(code), None));
            fix_of(&AgentError::Outbox(OutboxError::Sqlite(sqlite)))
        };
        assert!(told(ffi::SQLITE_FULL).contains("free space"));
        assert!(!told(ffi::SQLITE_BUSY).contains("free space"));
    }
}
