//! `synddb dev` as a process, and what it says.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::processes::{diff, run, synddb};
use crate::programs::{assert_same, shown};
use crate::roles::{PATIENCE_TEXT, Role, shown_replica, signal, until_gone};

/// A `dev` that runs, over `app.db` of a folder.
pub(crate) struct Dev {
    pub(crate) app: PathBuf,
    pub(crate) folder: PathBuf,
    role: Role,
}

/// What it says.
impl Deref for Dev {
    type Target = Role;

    fn deref(&self) -> &Role {
        &self.role
    }
}

impl Dev {
    /// Starts it over a database that may exist, and returns when everything runs.
    pub(crate) fn start(folder: &Path) -> Self {
        let dev = Self::begin(folder);
        dev.event("running", |_| true);
        dev
    }

    /// Starts it, and returns at once.
    pub(crate) fn begin(folder: &Path) -> Self {
        Self::begin_with(folder, |_| {})
    }

    /// The same as [`Self::start`], with something more on its command line or in its environment.
    pub(crate) fn start_with(folder: &Path, more: impl FnOnce(&mut Command)) -> Self {
        let dev = Self::begin_with(folder, more);
        dev.event("running", |_| true);
        dev
    }

    fn begin_with(folder: &Path, more: impl FnOnce(&mut Command)) -> Self {
        let app = folder.join("app.db");
        let mut command = synddb(["dev", app.to_str().unwrap()]);
        command.args(["--port", "0", "--validator-port", "0", "--json"]);
        more(&mut command);
        Self { app, folder: folder.join("app.db-synddb"), role: Role::start(command) }
    }

    /// How often a process was started.
    pub(crate) fn starts(&self, process: &str) -> usize {
        self.events()
            .iter()
            .filter(|event| event["event"] == "started" && event["process"] == process)
            .count()
    }

    /// The number of a process that runs now.
    pub(crate) fn pid(&self, process: &str) -> u32 {
        let events = self.events();
        let started = |event: &&Value| event["event"] == "started" && event["process"] == process;
        u32::try_from(events.iter().rev().find(started).unwrap()["pid"].as_u64().unwrap()).unwrap()
    }

    /// Kills a process, and returns when another one was started in its place.
    pub(crate) fn kill(&self, process: &str) {
        let before = self.starts(process);
        self.signal(process, "KILL");
        let started = |event: &&Value| event["event"] == "started" && event["process"] == process;
        let again = self.wait(|events| (events.iter().filter(started).count() > before).then_some(()));
        assert!(again.is_some(), "the {process} was not started again");
    }

    pub(crate) fn signal(&self, process: &str, name: &str) {
        signal(self.pid(process), name);
    }

    /// A field of what was said when everything ran.
    pub(crate) fn running(&self, field: &str) -> String {
        self.event("running", |_| true)[field].as_str().unwrap().to_owned()
    }

    pub(crate) fn replica(&self) -> PathBuf {
        self.folder.join("replica.db")
    }

    /// `synddb wait`: exit code, what it said, errors.
    pub(crate) fn wait_applied(&self, timeout: &str) -> (i32, String, String) {
        let arguments = ["wait", self.app.to_str().unwrap(), "--applied", "--timeout", timeout, "--json"];
        run(synddb(arguments))
    }

    /// Waits until everything committed now is in the replica, and makes sure that both are equal, to `diff` and to the programs of the
    /// system. Nobody may write meanwhile.
    pub(crate) fn assert_replica_equals(&self) {
        let (exit, told, errors) = self.wait_applied(PATIENCE_TEXT);
        assert_eq!(exit, 0, "{told}{errors}\n{:#?}\n{}", self.events(), self.status());
        let (exit, told, errors) = diff(&self.app, &self.replica());
        assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
        assert_same(&shown(&self.app), &shown_replica(&self.replica()));
    }

    /// What the processes say of themselves.
    pub(crate) fn status(&self) -> Value {
        let (_, told, _) = run(synddb(["status", self.app.to_str().unwrap(), "--json"]));
        serde_json::from_str(told.lines().next().unwrap_or("null")).unwrap_or_default()
    }

    /// Kills it with everything under it at once, as the loss of the machine would.
    pub(crate) fn kill_everything(mut self) {
        let mut pids = vec![self.role.pid()];
        pids.extend(["agent", "sequencer", "validator"].map(|process| self.pid(process)));
        pids.extend(self.role.pin());
        let numbers: Vec<String> = pids.iter().map(u32::to_string).collect();
        Command::new("sh").args(["-c", &format!("kill -KILL {}", numbers.join(" "))]).status().unwrap();
        self.role.ended();
        // Until then they have their locks.
        pids.into_iter().for_each(until_gone);
    }

    /// Ends it as a person would, and makes sure that it ended well and everything is in the replica.
    pub(crate) fn stop(mut self) {
        self.role.signal("INT");
        let status = self.role.ended();
        assert!(status.success(), "{status}: {:#?}", self.events());
        let (exit, told, errors) = diff(&self.app, &self.replica());
        assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // After a failed test. A process that stands still would not notice that `dev` is gone.
        if self.role.has_ended().is_none() {
            self.role.kill();
            let started =
                ["agent", "sequencer", "validator"].into_iter().filter(|process| self.starts(process) > 0);
            let pids: Vec<u32> = started.map(|process| self.pid(process)).chain(self.role.pin()).collect();
            pids.iter().for_each(|pid| signal(*pid, "KILL"));
            // Until then they have their locks.
            pids.into_iter().for_each(until_gone);
        }
    }
}

/// The positions of all processes at one instant, for a report.
pub(crate) fn positions(status: &Value) -> HashMap<&'static str, Value> {
    HashMap::from([
        ("captured", status["agent"]["next"]["commit"].clone()),
        ("pending", status["agent"]["pending"]["submissions"].clone()),
        ("sequenced", status["sequencer"]["sequence"].clone()),
        ("stored", status["sequencer"]["stored"].clone()),
        ("applied", status["validator"]["sequence"].clone()),
    ])
}
