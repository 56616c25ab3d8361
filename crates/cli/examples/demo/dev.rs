//! `synddb dev` as a process, read by the events that it prints for programs.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::programs::Synddb;

/// A `dev` that runs. It is stopped with SIGINT, as a person would.
pub(crate) struct Dev {
    child: Child,
    validator: Arc<Mutex<Option<u64>>>,
    reader: Option<JoinHandle<()>>,
    pub(crate) stream: String,
    pub(crate) key: String,
    pub(crate) store: String,
    pub(crate) replica: PathBuf,
}

impl Dev {
    /// Starts it on any free ports, with the log in its folder or in a named store, and returns when everything runs.
    pub(crate) fn start(synddb: &Synddb, app: &Path, store: Option<&str>) -> Result<Self> {
        let mut command = synddb.command();
        command.arg("dev").arg(app).args(["--port", "0", "--validator-port", "0", "--json"]);
        if let Some(store) = store {
            command.args(["--store", store]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("a child with a pipe has one")?;
        let validator = Arc::new(Mutex::new(None));
        let mut lines = BufReader::new(stdout).lines();
        let running = loop {
            let line = lines.next().context("`synddb dev` ended before everything ran")??;
            let event: Value = serde_json::from_str(&line)?;
            note(&event, &validator);
            if event["event"] == "running" {
                break event;
            }
        };
        let field = |name: &str| {
            Ok::<_, anyhow::Error>(running[name].as_str().context("an event lacks a field")?.to_owned())
        };
        let (stream, key, store) = (field("stream")?, field("key")?, field("store")?);
        let replica = PathBuf::from(field("replica")?);
        let noted = Arc::clone(&validator);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line) {
                    note(&event, &noted);
                }
            }
        });
        Ok(Self { child, validator, reader: Some(reader), stream, key, store, replica })
    }

    /// Stops the validator where it stands: it runs no further and is not gone.
    pub(crate) fn freeze_validator(&self) -> Result<()> {
        self.signal_validator("STOP")
    }

    /// Kills the validator.
    pub(crate) fn kill_validator(&self) -> Result<()> {
        self.signal_validator("KILL")
    }

    /// Ends it as a person would, and makes sure that it ended well.
    pub(crate) fn stop(mut self) -> Result<()> {
        signal("INT", self.child.id().into())?;
        let status = self.child.wait()?;
        ensure!(status.success(), "`synddb dev` did not end well. {status}");
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
        Ok(())
    }

    fn signal_validator(&self, name: &str) -> Result<()> {
        let pid = *self.validator.lock().unwrap_or_else(PoisonError::into_inner);
        signal(name, pid.context("no validator was started")?)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // After a failure. One that ended already cannot be killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn note(event: &Value, validator: &Mutex<Option<u64>>) {
    if event["event"] == "started" && event["process"] == "validator" {
        *validator.lock().unwrap_or_else(PoisonError::into_inner) = event["pid"].as_u64();
    }
}

fn signal(name: &str, pid: u64) -> Result<()> {
    // The shell has this command built in, so it is there on every machine.
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status()?;
    ensure!(status.success(), "cannot signal a process. signal=`{name}` pid=`{pid}`");
    Ok(())
}
