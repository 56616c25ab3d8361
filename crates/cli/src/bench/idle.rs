//! What an agent costs while nothing is committed and everything is stored.
//!
//! It is the agent of `synddb dev`, with a sequencer, a store and a validator behind it, and an application that keeps its connection and
//! does nothing. Its pin counts as part of it.
//!
//! What must stay true: everything committed was seen stored before the time begins, so that nothing is left to be done in it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use synddb_agent::{AgentStatus, Until as Pushed};
use synddb_service::http::WAIT_MAX;

use super::agent::without_settings;
use super::calls::{Calls, calls};
use super::child::Child;
use super::usage::Usage;
use super::writer::{Order, Reference, Synchronous, Until, Workload, Writer};
use super::{Bench, BenchError};
use crate::folder::Folder;
use crate::output::{Event, Process};
use crate::peer::{Peer, PeerError};
use crate::process;

/// How much is committed and stored before.
const TRANSACTIONS: u64 = 1000;

/// The least time that is looked at: an agent that does something seldom is not seen in less.
const SECONDS_MIN: f64 = 10.0;

/// How long everything may take to run, and to be stored.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the agent is left alone before the time begins.
const SETTLE: Duration = Duration::from_secs(2);

/// Between two looks at whether the benchmark was asked to end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What an idle agent costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// How long it was looked at.
    pub seconds: f64,
    /// Of one processor.
    pub cpu_percent: f64,
    /// How often one of its threads woke up.
    pub wakeups_per_minute: f64,
    /// What it called of the kernel, in as much time again; `None` where that cannot be seen.
    pub calls: Option<CallsPerMinute>,
    /// Why that cannot be seen, and what helps.
    pub calls_unseen: Option<String>,
}

/// What an idle agent calls of the kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallsPerMinute {
    /// All calls.
    pub calls_per_minute: f64,
    /// Those that send something, to whomever: as many requests to the sequencer and the store as there can have been.
    pub sent_per_minute: f64,
}

/// Measures it.
pub(super) fn run(bench: &Bench) -> Result<Idle, BenchError> {
    let room = bench.room()?;
    let database = room.path().join("app.db");
    let order = Order {
        database: database.clone(),
        sqlite: bench.sqlite.clone(),
        workload: Workload::Row,
        synchronous: Synchronous::Normal,
        until: Until::Transactions(TRANSACTIONS),
        warm_up: 0.0,
        capture: Reference::None,
    };
    let mut writer = Writer::start(bench, &order)?;
    let mut dev = dev(bench, &database)?;
    let agent = agent_of(&mut dev)?;
    writer.go()?;
    writer.wrote()?;
    let folder = Folder::of(&database, None);
    stored(bench, &folder)?;
    pause(bench, SETTLE)?;
    let pin = synddb_agent::pin::running(folder.path());
    let idle = look(bench, agent, pin, room.path())?;
    writer.end()?;
    dev.end()?;
    Ok(idle)
}

/// Looks at processes twice, once from outside and once at what they call.
fn look(bench: &Bench, agent: u32, pin: Option<u32>, room: &Path) -> Result<Idle, BenchError> {
    let pids: Vec<u32> = std::iter::once(agent).chain(pin).collect();
    let look = || Usage::of(&pids).map_err(BenchError::system("read what a process used"));
    let time = Duration::try_from_secs_f64(bench.seconds.max(SECONDS_MIN)).unwrap_or_default();
    let (since, before) = (Instant::now(), look()?);
    pause(bench, time)?;
    let used = look()?.since(&before);
    let seconds = since.elapsed().as_secs_f64();
    let (calls, calls_unseen) = match calls(&pids, room, time, |time| pause(bench, time))? {
        Ok(Calls { all, sent }) => {
            let per_minute = |calls| per_minute(calls, time.as_secs_f64());
            let calls =
                CallsPerMinute { calls_per_minute: per_minute(all), sent_per_minute: per_minute(sent) };
            (Some(calls), None)
        }
        Err(unseen) => (None, Some(unseen)),
    };
    Ok(Idle {
        seconds,
        cpu_percent: 100.0 * used.cpu.as_secs_f64() / seconds,
        wakeups_per_minute: per_minute(used.sleeps, seconds),
        calls,
        calls_unseen,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn per_minute(times: u64, seconds: f64) -> f64 {
    60.0 * times as f64 / seconds
}

/// `synddb dev` on a database, at any ports.
fn dev(bench: &Bench, database: &Path) -> Result<Child, BenchError> {
    let program = std::env::current_exe().map_err(BenchError::system("find this program"))?;
    let mut command = Command::new(program);
    command.arg("dev").arg(database);
    command.args(["--port", "0", "--validator-port", "0", "--json", "--stop-on-eof"]);
    without_settings(&mut command);
    Child::start(bench, "`synddb dev`", command)
}

/// Waits until everything runs; the number of the agent's process.
fn agent_of(dev: &mut Child) -> Result<u32, BenchError> {
    let mut agent = None;
    loop {
        let said = dev.next("run everything", PATIENCE)?;
        match serde_json::from_str(&said) {
            Ok(Event::Started { process: Process::Agent, pid }) => agent = Some(pid),
            Ok(Event::Running { .. }) => return agent.ok_or_else(|| dev.foreign(&said)),
            Ok(Event::Exited { .. }) | Err(_) => return Err(dev.foreign(&said)),
            Ok(_) => {}
        }
    }
}

/// Waits until everything committed now was seen stored.
fn stored(bench: &Bench, folder: &Folder) -> Result<AgentStatus, BenchError> {
    let since = Instant::now();
    process::runtime()?.block_on(async {
        let agent = Peer::agent(folder)?;
        loop {
            match agent.push(Pushed::Stored, WAIT_MAX).await {
                Ok(status) => return Ok(status),
                Err(PeerError::Refused { .. }) if since.elapsed() < PATIENCE => bench.go_on()?,
                Err(error) => return Err(error.into()),
            }
        }
    })
}

/// Lets time pass.
fn pause(bench: &Bench, time: Duration) -> Result<(), BenchError> {
    let since = Instant::now();
    while let Some(left) = time.checked_sub(since.elapsed()) {
        bench.go_on()?;
        std::thread::sleep(left.min(LOOK_AGAIN));
    }
    Ok(())
}
