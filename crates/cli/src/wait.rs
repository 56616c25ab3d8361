//! `synddb wait` and `synddb push`: until what is committed now has come as far as asked.
//!
//! The target is taken from the application's database itself, by its WAL: an agent that lags, or does not run, cannot say that
//! there is nothing to wait for.

use std::path::Path;
use std::time::{Duration, Instant};

use synddb_agent::{AgentStatus, Captured};
use synddb_protocol::hash::StateHash;
use synddb_protocol::http::{Position, ReplicaStatus};
use synddb_sqlite::capture::{WalPosition, committed_position};

use crate::arguments::{PushArguments, WaitArguments};
use crate::exit::{CommandError, Exit};
use crate::folder::Folder;
use crate::output::{Event, Output};
use crate::peer::{self, Peer, PeerError};
use crate::process;
use crate::refusal::open_to_read;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(crate) fn wait(arguments: &WaitArguments, output: Output) -> Result<Exit, CommandError> {
    // Only to refuse it in our words.
    drop(open_to_read(&arguments.database)?);
    let folder = Folder::of(&arguments.database, arguments.dir.as_deref());
    let started = Instant::now();
    let deadline = Deadline { at: started + *arguments.timeout, what: "the replica does not have it" };
    let (next, state) = process::ask(async {
        let next = captured(&arguments.database, &folder, &deadline).await?;
        let state = applied(&folder, arguments.validator.as_deref(), &next, &deadline).await?;
        Ok((next, state))
    })?;
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    output.tell(&Event::Reached { next, state, elapsed_ms })?;
    Ok(Exit::Done)
}

pub(crate) fn push(arguments: &PushArguments, output: Output) -> Result<Exit, CommandError> {
    drop(open_to_read(&arguments.database)?);
    let folder = Folder::of(&arguments.database, arguments.dir.as_deref());
    let started = Instant::now();
    let until = if arguments.stored { "stored" } else { "sequenced" };
    let deadline = Deadline { at: started + *arguments.timeout, what: "it is not there yet" };
    let next = process::ask(async {
        let mut problem = None;
        while let Some(left) = deadline.left() {
            let agent = Peer::agent(&folder)?;
            match agent.push::<AgentStatus>(until, left.min(synddb_service::http::WAIT_MAX)).await {
                Ok(AgentStatus { next: Some(next), .. }) => return Ok(next),
                Ok(AgentStatus { next: None, .. }) => problem = Some("the agent is not attached".to_owned()),
                Err(PeerError::Refused { problem: told, .. }) => problem = Some(told.detail().to_owned()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(deadline.passed(problem))
    })?;
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    output.tell(&Event::Reached { next, state: None, elapsed_ms })?;
    Ok(Exit::Done)
}

/// When to give up.
struct Deadline {
    at: Instant,
    what: &'static str,
}

impl Deadline {
    fn left(&self) -> Option<Duration> {
        self.at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    fn passed(&self, detail: Option<String>) -> CommandError {
        CommandError::TimedOut { what: self.what, detail: detail.unwrap_or_else(|| "no answer".to_owned()) }
    }
}

/// Waits until the agent has captured everything that is committed now, and says what comes next in the stream.
async fn captured(database: &Path, folder: &Folder, deadline: &Deadline) -> Result<Position, CommandError> {
    let mut target: Option<WalPosition> = committed_position(database)?;
    let mut last = None;
    while deadline.left().is_some() {
        let asked = match Peer::agent(folder) {
            Ok(agent) => agent.captured(target.as_ref()).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(Captured::Yes { next }) => return Ok(next),
            Ok(Captured::NotYet) => last = Some("the agent has not captured it".to_owned()),
            // An older generation of the WAL, from before the agent was attached. What is committed now includes it.
            Ok(Captured::Unknown) => target = committed_position(database)?,
            Err(error) => last = Some(crate::chain(&error)),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(deadline.passed(last))
}

/// Waits until a replica holds everything before `next`, and says its state then.
async fn applied(
    folder: &Folder,
    named: Option<&str>,
    next: &Position,
    deadline: &Deadline,
) -> Result<Option<StateHash>, CommandError> {
    let mut last = None;
    while deadline.left().is_some() {
        // Anew each time: the one that `dev` started may have another address by now, or not run yet.
        let asked = match peer::validator(folder, named) {
            Ok(replica) => replica.status::<ReplicaStatus>().await.map_err(CommandError::from),
            Err(error) => Err(error),
        };
        match asked {
            Ok(status) if peer::holds(&status, next) => return Ok(status.state),
            Ok(ReplicaStatus { halted: Some(halt), .. }) => return Err(CommandError::Halted(Box::new(halt))),
            Ok(status) => {
                let at = status.next.map_or(0, |reached| reached.commit.get());
                last = Some(format!("the replica stands before commit {at} of {}", next.commit));
            }
            Err(error) => last = Some(crate::chain(&error)),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(deadline.passed(last))
}
