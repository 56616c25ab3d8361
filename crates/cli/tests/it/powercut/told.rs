//! A process that says what it does, one JSON object per line.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::dev::PATIENCE;

/// A process, and what it said.
pub(super) struct Told {
    pub(super) child: Child,
    events: Receiver<Value>,
    said: Vec<Value>,
}

impl Told {
    /// Starts it. What it says beside its events goes to a file.
    pub(super) fn start(mut command: Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        command.arg("--json").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, events) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // A process that is killed may not have said its last line to the end.
                let Ok(event) = serde_json::from_str(&line) else { return };
                if tell.send(event).is_err() {
                    return;
                }
            }
        });
        Self { child, events, said: Vec::new() }
    }

    /// The next event of this name; what it said instead when it ends, or nothing comes.
    pub(super) fn event(&mut self, name: &str) -> Result<Value, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    self.said.push(event.clone());
                    if event["event"] == name {
                        return Ok(event);
                    }
                }
                Err(_) => return Err(format!("`{name}` did not come: {:?}", self.said)),
            }
        }
    }

    /// Listens for a moment. Says whether the process goes on.
    pub(super) fn listen(&mut self, moment: Duration) -> bool {
        match self.events.recv_timeout(moment) {
            Ok(event) => self.said.push(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    /// What it said so far under a name.
    pub(super) fn said(&mut self, name: &str) -> Vec<Value> {
        self.said.extend(self.events.try_iter());
        self.said.iter().filter(|event| event["event"] == name).cloned().collect()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // One that ended already cannot be killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
