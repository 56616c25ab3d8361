//! The other machines: sequencer, store and validator, whose power does not fail.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::disk::{Lost, Mode};
use super::machine::{Cut, Machine};
use super::told::Told;
use crate::dev::{PATIENCE, curl};
use crate::processes::synddb;

/// Between two looks at what somebody says of itself.
pub(super) const MOMENT: Duration = Duration::from_millis(5);

/// A sequencer and a validator, and what an agent must know of them.
pub(super) struct World {
    folder: PathBuf,
    pub(super) sequencer: Told,
    pub(super) url: String,
    pub(super) key: String,
    pub(super) validator: Option<Told>,
    validator_url: String,
    /// The stream that is followed, once it is known.
    pub(super) stream: Option<String>,
    powers: Powers,
}

/// What has a disk that is recorded. Everything else is where the power does not fail.
pub(super) struct Powers {
    /// Of the sequencer.
    pub(super) sequencer: Option<Machine>,
    /// Whether the store lies on the sequencer's disk.
    pub(super) with_store: bool,
    /// Of the validator.
    pub(super) validator: Option<Machine>,
    /// Syncs of files with this in their path do nothing.
    pub(super) unsynced: Option<&'static str>,
    /// How old the oldest message of a batch becomes.
    pub(super) batch_age_ms: &'static str,
}

impl Default for Powers {
    fn default() -> Self {
        Self { sequencer: None, with_store: false, validator: None, unsynced: None, batch_age_ms: "5" }
    }
}

impl Powers {
    fn run(&self, machine: Option<&Machine>, command: Command) -> Command {
        let Some(machine) = machine else { return command };
        let mut command = machine.run(command);
        if let Some(text) = self.unsynced {
            command.env("SYNDDB_DISK_UNSYNCED", text);
        }
        command
    }
}

impl World {
    /// With power for ever.
    pub(super) fn start(folder: &Path) -> Self {
        Self::start_on(folder, Powers::default())
    }

    pub(super) fn start_on(folder: &Path, mut powers: Powers) -> Self {
        let token = folder.join("token");
        fs::write(&token, "a1".repeat(16)).unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        let store = store_of(folder, &powers);
        fs::create_dir(store).unwrap();
        if let Some(machine) = &mut powers.sequencer {
            machine.power_on();
        }
        let (sequencer, url, key) = start_sequencer(folder, &powers, "127.0.0.1:0").unwrap();
        let (validator, validator_url, stream) = (None, String::new(), None);
        Self { folder: folder.to_owned(), sequencer, url, key, validator, validator_url, stream, powers }
    }

    /// Cuts the power of the sequencer.
    pub(super) fn cut_sequencer(&mut self) -> Cut {
        let child = &mut self.sequencer.child;
        self.powers.sequencer.as_mut().unwrap().cut(&mut [child])
    }

    /// Starts the sequencer again at its address, on what is left of its disk.
    pub(super) fn restart_sequencer(&mut self, cut: &Cut, mode: Mode) -> Result<Lost, String> {
        let machine = self.powers.sequencer.as_mut().unwrap();
        let lost = cut.disk.lay(machine.root(), mode);
        machine.power_on();
        let address = self.url.trim_start_matches("http://").to_owned();
        let (sequencer, _, key) = start_sequencer(&self.folder, &self.powers, &address)?;
        self.sequencer = sequencer;
        if key == self.key { Ok(lost) } else { Err("the sequencer has another key now".to_owned()) }
    }

    /// Cuts the power of the validator.
    pub(super) fn cut_validator(&mut self) -> Cut {
        let child = &mut self.validator.as_mut().unwrap().child;
        self.powers.validator.as_mut().unwrap().cut(&mut [child])
    }

    /// Starts the validator again, on what is left of its disk.
    pub(super) fn restart_validator(&mut self, cut: &Cut, mode: Mode) -> Result<Lost, String> {
        let machine = self.powers.validator.as_mut().unwrap();
        let lost = cut.disk.lay(machine.root(), mode);
        machine.power_on();
        self.start_validator()?;
        Ok(lost)
    }

    /// What of the sequencer's or the validator's disk is recorded, in bytes.
    pub(super) fn recorded(&self) -> u64 {
        [&self.powers.sequencer, &self.powers.validator].into_iter().flatten().map(Machine::recorded).sum()
    }

    /// The agent's command line for a database.
    pub(super) fn follow(&self, app: &Path) -> Command {
        let mut follow = synddb(["follow", app.to_str().unwrap(), "--sequencer", &self.url]);
        follow.args(["--sequencer-key", &self.key, "--wal-limit", "1"]);
        follow.arg("--token-file").arg(self.folder.join("token"));
        follow
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(super) fn replica(&self) -> PathBuf {
        self.powers.validator.as_ref().map_or(self.folder.as_path(), Machine::root).join("replica.db")
    }

    /// Notes which stream is followed, which must never change, and has it validated.
    pub(super) fn follows(&mut self, stream: &str) -> Result<(), String> {
        if let Some(known) = &self.stream {
            return if known == stream {
                Ok(())
            } else {
                Err(format!("the stream is {stream} now, not {known}"))
            };
        }
        self.stream = Some(stream.to_owned());
        if let Some(machine) = &mut self.powers.validator {
            machine.power_on();
        }
        self.start_validator()
    }

    /// Has a database rebuilt from the store alone.
    pub(super) fn rebuild(&self, replica: &Path) -> Command {
        let store = format!("file://{}", store_of(&self.folder, &self.powers).display());
        let mut command = synddb(["replica", replica.to_str().unwrap(), "--once", "--store", &store]);
        command.args(["--stream", self.stream.as_ref().unwrap(), "--sequencer-key", &self.key]);
        command
    }

    fn start_validator(&mut self) -> Result<(), String> {
        let store = format!("file://{}", store_of(&self.folder, &self.powers).display());
        let mut command = synddb(["validator", "--listen", "127.0.0.1:0", "--store", &store]);
        command.args(["--stream", self.stream.as_ref().unwrap(), "--sequencer-key", &self.key]);
        command.args(["--sequencer", &self.url]).arg("--replica").arg(self.replica());
        let command = self.powers.run(self.powers.validator.as_ref(), command);
        let mut validator = Told::start(command, &self.log());
        self.validator_url = validator.event("listening")?["url"].as_str().unwrap().to_owned();
        self.validator = Some(validator);
        Ok(())
    }

    pub(super) fn validator_url(&self) -> &str {
        &self.validator_url
    }

    /// What the sequencer says of the stream.
    pub(super) fn status(&self) -> Option<Value> {
        let stream = self.stream.as_ref()?.trim_start_matches("0x");
        let (code, status) = curl(&[&format!("{}/streams/{stream}/status", self.url)]);
        (code == 200).then_some(status)
    }

    /// Waits until everything that the sequencer acknowledged is stored; what it says of itself then.
    pub(super) fn settle_stored(&self) -> Result<Value, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status().unwrap_or_default();
            if !status.is_null() && status["sequence"] == status["stored"] {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(format!("the sequencer does not settle: {status}"));
            }
        }
    }

    /// Waits until everything that the sequencer acknowledged is in the replica; what it says of itself then.
    pub(super) fn settle(&self) -> Result<Option<Value>, String> {
        if self.validator.is_none() {
            return Ok(None);
        }
        let deadline = Instant::now() + PATIENCE;
        let mut before = Value::Null;
        loop {
            let (status, replica) =
                (self.status().unwrap_or_default(), curl(&[&format!("{}/status", self.validator_url)]).1);
            let sequence = &status["sequence"];
            // Before the first snapshot there is no replica.
            let is_applied = *sequence == replica["sequence"] || status["sequenced_next"].is_null();
            if *sequence == status["stored"] && is_applied && *sequence == before {
                return Ok(Some(status));
            }
            before = sequence.clone();
            if !replica["halted"].is_null() {
                return Err(format!("the validator halted: {replica}"));
            }
            if Instant::now() > deadline {
                return Err(format!("it does not settle: {status} {replica}"));
            }
        }
    }
}

fn store_of(folder: &Path, powers: &Powers) -> PathBuf {
    let machine = powers.sequencer.as_ref().filter(|_| powers.with_store);
    machine.map_or(folder, Machine::root).join("store")
}

/// Starts the sequencer; its URL and its key.
fn start_sequencer(folder: &Path, powers: &Powers, listen: &str) -> Result<(Told, String, String), String> {
    let store = format!("file://{}", store_of(folder, powers).display());
    let mut command = synddb(["sequencer", "--listen", listen, "--store", &store]);
    command.args(["--batch-age-ms", powers.batch_age_ms]);
    let own = powers.sequencer.as_ref().map_or(folder, Machine::root).join("sequencer");
    command.arg("--dir").arg(own);
    command.arg("--credentials-file").arg(crate::roles::credentials(folder));
    command.arg("--key-file").arg(folder.join("key"));
    let command = powers.run(powers.sequencer.as_ref(), command);
    let mut sequencer = Told::start(command, &folder.join("log"));
    let listening = sequencer.event("listening")?;
    let text = |field: &str| listening[field].as_str().unwrap().to_owned();
    Ok((sequencer, text("url"), text("key")))
}
