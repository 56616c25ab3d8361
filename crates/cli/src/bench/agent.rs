//! The agent beside a writer, as an application's user would start it: `synddb follow`, a process of its own, with its pin and its default
//! options.
//!
//! Nobody listens at its sequencer's address, so that what is measured is the capture alone: what is captured stays in the outbox.
//!
//! What must stay true: a run counts only when the agent has captured exactly as many commits as there were, and a full scan of the
//! application's file finds what was captured ([`Agent::check`]).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use synddb_agent::{AgentStatus, Audited, Captured};
use synddb_protocol::http::Position;
use synddb_service::http::WAIT_MAX;
use synddb_service::secret::write_new_secret;
use synddb_sqlite::name::beside;
use tokio::runtime::Runtime;

use super::child::Child;
use super::usage::{Usage, memory_peak_bytes};
use super::{Bench, BenchError, count};
use crate::exit::{CommandError, Exit};
use crate::folder::Folder;
use crate::output::Event;
use crate::peer::{Peer, PeerError};
use crate::process;
use crate::stop::Stop;

/// How long an agent may take until it follows: it reads the whole database first.
const ATTACH_MAX: Duration = Duration::from_secs(1800);

/// How long it may take until another process holds its place.
const PIN_MAX: Duration = Duration::from_secs(60);

/// How long a full scan may take.
const AUDIT_MAX: Duration = Duration::from_secs(1800);

/// Between two looks whether everything is captured. Each has the agent capture what it can, so they need not be often.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// An address at which nobody listens.
pub(super) const NOWHERE: &str = "http://127.0.0.1:9";

/// What agent and sequencer know each other by, where there is a sequencer.
pub(super) const TOKEN: &str = "of-no-use-where-nobody-listens-at-all";

/// What errors call it.
pub(super) const NAME: &str = "agent";

/// An agent that follows a database.
pub(super) struct Agent {
    child: Child,
    /// The process that holds its place.
    pin: u32,
    pin_ends: PinEnds,
    beginning: Beginning,
    /// The number of the first commit that it captures.
    first: u64,
    /// A way to it that is open, so that asking takes no longer than it has to.
    runtime: Runtime,
    peer: Peer,
    stop: Stop,
}

/// How an agent began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    /// From its start as a process until it followed the database.
    pub(super) attached_after: Duration,
    /// The snapshot that it took, compressed, in bytes.
    pub(super) snapshot_bytes: u64,
}

impl Agent {
    /// Starts one, and returns when it follows the database and another process holds its place.
    pub(super) fn start(bench: &Bench, database: &Path) -> Result<Self, BenchError> {
        let token = beside(database, "-token");
        write_new_secret(&token, TOKEN).map_err(CommandError::from)?;
        let command = follow(database, &token)?;
        let folder = Folder::of(database, None);
        // Goes after the process does.
        let pin_ends = PinEnds(folder.path().to_owned());
        let since = Instant::now();
        let mut child = Child::start(bench, NAME, command)?;
        let beginning = attached(&mut child, since)?;
        let pin = pinned(&mut child)?;
        let runtime = process::runtime()?;
        let peer = {
            let _entered = runtime.enter();
            Peer::agent(&folder)?
        };
        let stop = bench.stop.clone();
        let mut agent = Self { child, pin, pin_ends, beginning, first: 0, runtime, peer, stop };
        agent.first = agent.next(PIN_MAX)?.commit.get();
        Ok(agent)
    }

    /// How it began.
    pub(super) fn beginning(&self) -> Beginning {
        self.beginning
    }

    /// Returns when everything that is committed now is durably in its outbox.
    pub(super) fn converge(&mut self, patience: Duration) -> Result<(), BenchError> {
        self.next(patience).map(drop)
    }

    /// A look at what the agent and its pin used since they began.
    pub(super) fn used(&self) -> Result<Usage, BenchError> {
        Usage::of(&[self.child.id(), self.pin]).map_err(BenchError::system("read what a process used"))
    }

    /// The most memory that the agent ever had, without its pin.
    pub(super) fn memory_peak_bytes(&self) -> Result<u64, BenchError> {
        memory_peak_bytes(self.child.id()).map_err(BenchError::system("read how much memory a process has"))
    }

    /// What it says of itself.
    pub(super) fn status(&self) -> Result<AgentStatus, BenchError> {
        Ok(self.runtime.block_on(self.peer.status())?)
    }

    /// Makes sure that it captured exactly what was committed since it follows: as many commits, and what a full scan of the file finds.
    /// Nobody may write meanwhile.
    pub(super) fn check(&mut self, scenario: &str, committed: u64) -> Result<(), BenchError> {
        // Before the scan, which is a commit of its own.
        let captured = self.next(PIN_MAX)?.commit.get() - self.first;
        judge(scenario, committed, captured, &self.audit()?)
    }

    /// Has it end. What it captured is stored nowhere, as it says by its exit code.
    pub(super) fn stop(self) -> Result<(), BenchError> {
        self.child.end_with(&[Exit::Done, Exit::Incomplete])
    }

    /// What comes next in the stream, once everything is captured that is committed now.
    fn next(&mut self, patience: Duration) -> Result<Position, BenchError> {
        let since = Instant::now();
        let Self { child, runtime, peer, stop, pin_ends: PinEnds(folder), .. } = self;
        runtime.block_on(async {
            loop {
                match peer.captured(None).await {
                    Ok(Captured::Yes { next, .. }) => return Ok(next),
                    Ok(Captured::NotYet | Captured::Unknown) => {}
                    // One that is at work on a huge commit, or closed the way to it, is asked again.
                    Err(PeerError::Silent { .. }) if since.elapsed() < patience && folder.exists() => {
                        child.go_on()?;
                    }
                    Err(error) => return Err(error.into()),
                }
                if stop.is_asked() {
                    return Err(BenchError::Interrupted);
                }
                if since.elapsed() >= patience {
                    return Err(too_late("capture everything", patience));
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        })
    }

    /// What a full scan of the database finds.
    fn audit(&self) -> Result<Audited, BenchError> {
        let since = Instant::now();
        self.runtime.block_on(async {
            loop {
                match self.peer.audit(WAIT_MAX).await {
                    Ok(audited) => return Ok(audited),
                    // It has not ended; who asks again waits for the same one.
                    Err(PeerError::Refused { .. }) if since.elapsed() < AUDIT_MAX => {}
                    Err(error) => return Err(error.into()),
                }
                if self.stop.is_asked() {
                    return Err(BenchError::Interrupted);
                }
            }
        })
    }
}

/// Has the pin in a folder end that an agent left behind: one that ends as it is asked to does that itself, one that was killed cannot.
struct PinEnds(PathBuf);

impl Drop for PinEnds {
    fn drop(&mut self) {
        let pin = synddb_agent::pin::running(&self.0).and_then(|pid| i32::try_from(pid).ok());
        if let Some(pin) = pin.and_then(Pid::from_raw) {
            // One that ended meanwhile is as good.
            kill_process(pin, Signal::KILL).ok();
        }
    }
}

/// `synddb follow` on a database, with what is default for everybody.
fn follow(database: &Path, token: &Path) -> Result<Command, BenchError> {
    let program = std::env::current_exe().map_err(BenchError::system("find this program"))?;
    let mut command = Command::new(program);
    command.arg("follow").arg(database).args(["--sequencer", NOWHERE]).arg("--token-file").arg(token);
    command.args(["--json", "--stop-on-eof", "--drain-timeout", "0s"]);
    without_settings(&mut command);
    Ok(command)
}

/// Takes out of a process's environment what it says of agents and sequencers that are meant.
pub(super) fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("SYNDDB_AGENT_") || text.starts_with("SYNDDB_SEQUENCER_") {
            command.env_remove(name);
        }
    }
}

/// Waits until an agent follows its database.
fn attached(child: &mut Child, since: Instant) -> Result<Beginning, BenchError> {
    let mut snapshot_bytes = 0;
    loop {
        let said = child.next("follow the database", ATTACH_MAX)?;
        match serde_json::from_str(&said) {
            Ok(Event::Attached { .. }) => {
                return Ok(Beginning { attached_after: since.elapsed(), snapshot_bytes });
            }
            Ok(Event::SnapshotTaken { bytes, .. }) => snapshot_bytes = bytes,
            Ok(Event::Interrupted { .. }) | Err(_) => return Err(child.foreign(&said)),
            Ok(_) => {}
        }
    }
}

/// Waits until another process holds the place of an agent; its number.
fn pinned(child: &mut Child) -> Result<u32, BenchError> {
    loop {
        let said = child.next("have its place held", PIN_MAX)?;
        match serde_json::from_str(&said) {
            Ok(Event::Pinned { pid }) => return Ok(pid),
            Ok(Event::Unpinned { .. } | Event::Interrupted { .. }) | Err(_) => {
                return Err(child.foreign(&said));
            }
            Ok(_) => {}
        }
    }
}

pub(super) fn too_late(doing: &'static str, waited: Duration) -> BenchError {
    BenchError::TooLate { name: NAME, doing, waited_s: waited.as_secs() }
}

/// Whether what was captured is what was committed.
pub(super) fn judge(
    scenario: &str,
    committed: u64,
    captured: u64,
    audited: &Audited,
) -> Result<(), BenchError> {
    count(scenario, committed, captured)?;
    if !audited.is_equal() {
        let Audited { captured, scanned, .. } = *audited;
        return Err(BenchError::NotEqual { scenario: scenario.to_owned(), captured, scanned });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use synddb_protocol::hash::StateHash;
    use synddb_protocol::id::{CommitNumber, Incarnation, IncarnationCounter, IncarnationNonce};

    use super::*;

    #[test]
    fn what_was_lost_or_doubled_or_differs_is_told() {
        let (one, other) = (StateHash::from_bytes([1; 32]), StateHash::from_bytes([2; 32]));
        let incarnation =
            Incarnation { counter: IncarnationCounter::FIRST, nonce: IncarnationNonce::from_bytes([1; 16]) };
        let next = Position { incarnation, commit: CommitNumber::FIRST, part: None };
        let audited = |scanned| Audited { next, captured: one, scanned, scan_ms: 1 };
        assert!(judge("row", 5, 5, &audited(one)).is_ok());
        for captured in [4, 6] {
            let told = judge("row", 5, captured, &audited(one)).unwrap_err();
            assert!(matches!(told, BenchError::Lost { committed: 5, .. }), "{told}");
            assert_eq!(told.exit(), Exit::Different);
        }
        let told = judge("row", 5, 5, &audited(other)).unwrap_err();
        assert!(matches!(&told, BenchError::NotEqual { scanned, .. } if *scanned == other), "{told}");
        assert_eq!(told.exit(), Exit::Different);
    }
}
