//! Keeps the processes of `dev` running, and ends them in data order.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use synddb_service::shutdown::Shutdown;
use tokio::sync::mpsc;

use super::children::{Child, Did};
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output, Process};

/// How long a process may take for what it has left to do.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// The first pause before a process is started again; it doubles as long as the process keeps dying soon.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A process that ran for so long was well.
const WELL: Duration = Duration::from_secs(10);

/// Reports of all processes that wait to be told.
const REPORTS_MAX: usize = 256;

/// What the tasks that watch the processes report.
enum Report {
    /// A process said something, or was started again.
    Said(Process, Event),
    /// A process ended: as it was asked to, or because it cannot go on.
    Ended(Process, Result<ExitStatus, CommandError>),
}

/// What runs under `dev`.
pub(super) struct Supervisor {
    output: Output,
    shutdown: Shutdown,
    /// What asks each process to end. In data order.
    running: BTreeMap<Process, Shutdown>,
    reports: mpsc::Receiver<Report>,
    reporter: mpsc::Sender<Report>,
}

impl Supervisor {
    pub(super) fn new(output: Output, shutdown: Shutdown) -> Self {
        let (reporter, reports) = mpsc::channel(REPORTS_MAX);
        Self { output, shutdown, running: BTreeMap::new(), reports, reporter }
    }

    /// Watches a process from now on.
    pub(super) fn add(&mut self, child: Child) {
        let (end, process) = (Shutdown::new(), child.process());
        self.running.insert(process, end.clone());
        let (reporter, output) = (self.reporter.clone(), self.output);
        tokio::spawn(async move {
            let ended = watch(child, &end, &reporter, output).await;
            // Nobody listens any more when `dev` itself has ended.
            reporter.send(Report::Ended(process, ended)).await.ok();
        });
    }

    /// Watches a service, and waits until it takes requests: its URL, and its key if it has one. `None` when `dev` was asked to end.
    pub(super) async fn listening(
        &mut self,
        child: Child,
    ) -> Result<Option<(String, Option<String>)>, CommandError> {
        self.until(child, |event| {
            let Event::Listening { url, key, .. } = event else { return None };
            Some((url, key))
        })
        .await
    }

    /// Watches an agent, and waits until it follows the database; says whether it does, or `dev` was asked to end before.
    pub(super) async fn attached(&mut self, child: Child) -> Result<bool, CommandError> {
        let attached =
            self.until(child, |event| matches!(event, Event::Attached { .. }).then_some(())).await?;
        Ok(attached.is_some())
    }

    /// Watches a process until it says something that counts, and tells what all say meanwhile.
    async fn until<T>(
        &mut self,
        child: Child,
        counts: impl Fn(Event) -> Option<T>,
    ) -> Result<Option<T>, CommandError> {
        let waited_for = child.process();
        self.add(child);
        loop {
            let Some((process, event)) = self.next().await? else { return Ok(None) };
            self.output.tell(&event)?;
            if process == waited_for
                && let Some(found) = counts(event)
            {
                return Ok(Some(found));
            }
        }
    }

    /// Tells what the processes say until `dev` is asked to end, then ends them.
    pub(super) async fn until_asked(mut self) -> Result<Exit, CommandError> {
        loop {
            match self.next().await {
                Ok(Some((_, event))) => self.output.tell(&event)?,
                Ok(None) => return self.drain().await,
                Err(error) => {
                    // The others still finish what they have promised.
                    self.drain().await?;
                    return Err(error);
                }
            }
        }
    }

    /// Ends all processes in data order, each when it has nothing left to do.
    pub(super) async fn drain(mut self) -> Result<Exit, CommandError> {
        let mut exit = Exit::Done;
        while let Some((process, end)) = self.running.pop_first() {
            end.ask();
            loop {
                match self.reports.recv().await {
                    Some(Report::Said(_, event)) => self.output.tell(&event)?,
                    Some(Report::Ended(ended, status)) => {
                        self.running.remove(&ended);
                        match status?.code().and_then(Exit::from_code) {
                            Some(Exit::Done) => {}
                            // A replica that halted says so also at its end.
                            Some(Exit::Different) => exit = Exit::Different,
                            _ => exit = Exit::Incomplete,
                        }
                        if ended == process {
                            break;
                        }
                    }
                    None => break,
                }
            }
        }
        Ok(exit)
    }

    /// The next thing that a process says. `None` when `dev` was asked to end.
    async fn next(&mut self) -> Result<Option<(Process, Event)>, CommandError> {
        tokio::select! {
            () = self.shutdown.asked() => Ok(None),
            report = self.reports.recv() => match report {
                Some(Report::Said(process, event)) => Ok(Some((process, event))),
                Some(Report::Ended(process, status)) => {
                    self.running.remove(&process);
                    let status = status?;
                    Err(CommandError::Over { process, status })
                }
                None => Ok(None),
            }
        }
    }
}

/// Reports what a process does, and starts it again when it dies. Returns when it was asked to end and has, or cannot go on.
async fn watch(
    mut child: Child,
    end: &Shutdown,
    reporter: &mpsc::Sender<Report>,
    output: Output,
) -> Result<ExitStatus, CommandError> {
    let process = child.process();
    let (mut pause, mut started) = (PAUSE_MIN, Instant::now());
    loop {
        let did = tokio::select! {
            did = child.next() => did?,
            () = end.asked() => return drained(child, reporter).await,
        };
        let status = match did {
            Did::Said(event) => {
                if let Event::Listening { url, .. } = &event {
                    child.stay_at(url.trim_start_matches("http://"));
                }
                reporter.send(Report::Said(process, event)).await.ok();
                continue;
            }
            Did::Ended(status) => status,
        };
        // It said itself why; another start would end the same way.
        if matches!(status.code().map(Exit::from_code), Some(Some(Exit::Refused | Exit::Different))) {
            return Ok(status);
        }
        let told = Event::Exited { process, status: status.to_string() };
        reporter.send(Report::Said(process, told)).await.ok();
        if started.elapsed() >= WELL {
            pause = PAUSE_MIN;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = end.asked() => return Ok(status),
        }
        pause = (pause * 2).min(PAUSE_MAX);
        child = child.again(output)?;
        started = Instant::now();
    }
}

/// Lets a process finish; kills it when it takes too long.
async fn drained(mut child: Child, reporter: &mpsc::Sender<Report>) -> Result<ExitStatus, CommandError> {
    let process = child.process();
    child.ask_to_end();
    let deadline = tokio::time::sleep(DRAIN_MAX);
    tokio::pin!(deadline);
    let mut is_late = false;
    loop {
        tokio::select! {
            did = child.next() => match did? {
                Did::Said(event) => {
                    reporter.send(Report::Said(process, event)).await.ok();
                }
                Did::Ended(status) => return Ok(status),
            },
            () = &mut deadline, if !is_late => {
                is_late = true;
                child.kill().await;
            }
        }
    }
}
