//! `synddb wait`, `synddb push` and `synddb audit`: until what is committed now has come as far as asked, or was scanned.
//!
//! The target of `wait` is taken from the application's database itself, by its WAL: an agent that lags, or does not run, cannot say
//! that there is nothing to wait for.

use std::path::Path;
use std::time::{Duration, Instant};

use synddb_agent::{AgentStatus, Captured, Until};
use synddb_protocol::chain;
use synddb_protocol::hash::StateHash;
use synddb_protocol::http::{Position, ReplicaStatus};
use synddb_service::http::WAIT_MAX;
use synddb_sqlite::capture::{WalPosition, committed_position};

use crate::arguments::{AuditArguments, PushArguments, WaitArguments};
use crate::exit::{CommandError, Exit};
use crate::folder::Folder;
use crate::output::{Event, Output, Stage};
use crate::peer::{Authority, Peer, PeerError};
use crate::process;
use crate::refusal::{Refusal, open_to_read};

/// A time that nobody waits for.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(crate) fn wait(arguments: &WaitArguments, output: Output) -> Result<Exit, CommandError> {
    let database = &arguments.of.database;
    // Only to refuse it in our words.
    drop(open_to_read(database)?);
    let folder = Folder::of(database, arguments.of.dir.as_deref());
    let deadline = Deadline::after(*arguments.timeout, "the replica does not have everything yet");
    let (next, state) = process::ask(async {
        let authority = Authority::read(arguments.ca_file.as_deref())?;
        let validator = Validator { folder: &folder, named: arguments.validator.as_deref(), authority };
        let target = captured(database, &folder, &deadline).await?;
        let state = applied(&validator, &target, &deadline).await?;
        Ok((target.next, state))
    })?;
    output.tell(&Event::Reached { stage: Stage::Applied, next, state, elapsed_ms: deadline.elapsed_ms() })?;
    Ok(Exit::Done)
}

pub(crate) fn push(arguments: &PushArguments, output: Output) -> Result<Exit, CommandError> {
    let database = &arguments.of.database;
    drop(open_to_read(database)?);
    let folder = Folder::of(database, arguments.of.dir.as_deref());
    let (until, stage) = match arguments.stored {
        true => (Until::Stored, Stage::Stored),
        false => (Until::Sequenced, Stage::Sequenced),
    };
    let deadline = Deadline::after(*arguments.timeout, "not everything is there yet");
    let next = process::ask(async {
        let mut last = Some("no agent was asked".to_owned());
        while let Some(left) = deadline.left() {
            let agent = Peer::agent(&folder).map_err(|error| nothing_runs(database, error))?;
            match agent.push(until, left.min(WAIT_MAX)).await {
                Ok(AgentStatus { next: Some(next), .. }) => return Ok(next),
                Ok(AgentStatus { next: None, .. }) => last = Some("the agent is not attached".to_owned()),
                Err(PeerError::Refused { problem, .. }) => last = Some(problem.detail().to_owned()),
                Err(error) => return Err(nothing_runs(database, error)),
            }
        }
        Err(deadline.passed(last))
    })?;
    output.tell(&Event::Reached { stage, next, state: None, elapsed_ms: deadline.elapsed_ms() })?;
    Ok(Exit::Done)
}

pub(crate) fn audit(arguments: &AuditArguments, output: Output) -> Result<Exit, CommandError> {
    let database = &arguments.of.database;
    drop(open_to_read(database)?);
    let folder = Folder::of(database, arguments.of.dir.as_deref());
    let deadline = Deadline::after(*arguments.timeout, "the audit has not ended");
    let audited = process::ask(async {
        let mut last = Some("no agent was asked".to_owned());
        while let Some(left) = deadline.left() {
            let agent = Peer::agent(&folder).map_err(|error| nothing_runs(database, error))?;
            match agent.audit(left.min(WAIT_MAX)).await {
                Ok(audited) => return Ok(audited),
                Err(PeerError::Refused { problem, .. }) => last = Some(problem.detail().to_owned()),
                Err(error) => return Err(nothing_runs(database, error)),
            }
        }
        Err(deadline.passed(last))
    })?;
    output.tell(&Event::Audited(audited))?;
    Ok(if audited.is_equal() { Exit::Done } else { Exit::Different })
}

/// When to give up.
struct Deadline {
    since: Instant,
    at: Instant,
    what: &'static str,
}

impl Deadline {
    fn after(timeout: Duration, what: &'static str) -> Self {
        let since = Instant::now();
        Self { since, at: since.checked_add(timeout).unwrap_or(since + FOREVER), what }
    }

    fn left(&self) -> Option<Duration> {
        self.at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn passed(&self, detail: Option<String>) -> CommandError {
        CommandError::TimedOut { what: self.what, detail: detail.unwrap_or_else(|| "no answer".to_owned()) }
    }
}

/// What is waited for: the place in the stream, and what the database hashes to there.
struct Target {
    next: Position,
    state: StateHash,
}

/// Where the replica is.
struct Validator<'a> {
    folder: &'a Folder,
    named: Option<&'a str>,
    authority: Authority,
}

impl Validator<'_> {
    fn find(&self) -> Result<Peer, CommandError> {
        Peer::validator(self.folder, self.named, &self.authority)
    }
}

/// A socket that nobody answers at is no fault of the network: nothing runs.
fn nothing_runs(database: &Path, error: PeerError) -> CommandError {
    match error {
        PeerError::Silent { .. } => Refusal::NothingRuns { database: database.to_owned() }.into(),
        PeerError::Refused { .. } | PeerError::Foreign { .. } | PeerError::Contradicts { .. } => error.into(),
    }
}

/// Waits until the agent has captured everything that is committed now, and says what comes next in the stream. An agent may be
/// starting, so that one that does not answer is asked again.
async fn captured(database: &Path, folder: &Folder, deadline: &Deadline) -> Result<Target, CommandError> {
    let mut position: Option<WalPosition> = committed_position(database)?;
    let mut last = None;
    let mut agent = None;
    while deadline.left().is_some() {
        let asked = match agent.take().map_or_else(|| Peer::agent(folder), Ok) {
            Ok(peer) => {
                let answer = peer.captured(position.as_ref()).await;
                // The way to it is made anew only when it failed.
                agent = answer.is_ok().then_some(peer);
                answer
            }
            Err(error) => Err(error),
        };
        match asked {
            Ok(Captured::Yes { next, state }) => return Ok(Target { next, state }),
            Ok(Captured::NotYet) => last = Some("the agent has not captured it".to_owned()),
            // An older generation of the WAL, from before the agent was attached. What is committed now includes it.
            Ok(Captured::Unknown) => position = committed_position(database)?,
            Err(error @ PeerError::Silent { .. }) => {
                last = Some(format!("{error}; is `synddb dev` or `synddb follow` running?"));
            }
            Err(error) => last = Some(chain(&error)),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(deadline.passed(last))
}

/// Waits until a replica holds everything before the target, and says its state then. One that stands exactly there and holds
/// something else follows another history, whatever its numbers say.
async fn applied(
    validator: &Validator<'_>,
    target: &Target,
    deadline: &Deadline,
) -> Result<Option<StateHash>, CommandError> {
    let Target { next, state: wanted } = target;
    let mut last = None;
    let mut replica = None;
    while deadline.left().is_some() {
        // The one that `dev` started may have another address by now, or not run yet.
        let asked = match replica.take().map_or_else(|| validator.find(), Ok) {
            Ok(peer) => {
                let answer = peer.status::<ReplicaStatus>().await;
                replica = answer.is_ok().then_some(peer);
                answer.map_err(CommandError::from)
            }
            Err(error) => Err(error),
        };
        match asked {
            Ok(ReplicaStatus { next: Some(reached), state: Some(found), .. })
                if reached == *next && found != *wanted =>
            {
                return Err(CommandError::AnotherHistory { expected: *wanted, found });
            }
            Ok(status) if status.next.is_some_and(|reached| reached.reaches(next)) => return Ok(status.state),
            Ok(ReplicaStatus { halted: Some(halt), .. }) => return Err(CommandError::Halted(Box::new(halt))),
            Ok(ReplicaStatus { next: None, .. }) => last = Some("the replica has no snapshot yet".to_owned()),
            Ok(ReplicaStatus { next: Some(reached), .. }) => {
                last = Some(format!("the replica lacks commit {} and later ones", reached.commit));
            }
            Err(error) => last = Some(chain(&error)),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(deadline.passed(last))
}
