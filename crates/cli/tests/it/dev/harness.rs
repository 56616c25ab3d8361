//! `synddb dev` as a process, and what it says.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::processes::{diff, run, synddb};
use crate::programs::{assert_same, shown, sql};

/// How long anything may take before a test fails. A debug build on a busy machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The same as an argument.
pub(crate) const PATIENCE_TEXT: &str = "120s";

/// A `dev` that runs, over `app.db` of a folder.
pub(crate) struct Dev {
    pub(crate) app: PathBuf,
    pub(crate) folder: PathBuf,
    child: Child,
    said: Arc<Said>,
    reader: Option<std::thread::JoinHandle<()>>,
}

/// What it said so far.
#[derive(Default)]
struct Said {
    events: Mutex<Vec<Value>>,
    more: Condvar,
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
        let app = folder.join("app.db");
        let ports = ["--port", "0", "--validator-port", "0", "--json"];
        let mut child = synddb(["dev", app.to_str().unwrap()].into_iter().chain(ports))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = Arc::new(Said::default());
        let heard = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no event: {line}"));
                heard.events.lock().unwrap().push(event);
                heard.more.notify_all();
            }
            // Whoever waits for an event that will not come is woken.
            heard.events.lock().unwrap().push(Value::Null);
            heard.more.notify_all();
        });
        let folder = folder.join("app.db-synddb");
        Self { app, folder, child, said, reader: Some(reader) }
    }

    /// The first event of a name that fits, now or later.
    pub(crate) fn event(&self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut events = self.said.events.lock().unwrap();
        loop {
            if let Some(found) = events.iter().find(|event| event["event"] == name && fits(event)) {
                return found.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && events.last() != Some(&Value::Null),
                "`{name}` did not come: {events:#?}"
            );
            events = self.said.more.wait_timeout(events, left).unwrap().0;
        }
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.said.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often a process was started.
    pub(crate) fn starts(&self, process: &str) -> usize {
        self.events()
            .iter()
            .filter(|event| event["event"] == "started" && event["process"] == process)
            .count()
    }

    /// The number of a process that runs now.
    pub(crate) fn pid(&self, process: &str) -> u64 {
        let events = self.events();
        let started = |event: &&Value| event["event"] == "started" && event["process"] == process;
        events.iter().rev().find(started).unwrap()["pid"].as_u64().unwrap()
    }

    /// Kills a process, and returns when another one was started in its place.
    pub(crate) fn kill(&self, process: &str) {
        let before = self.starts(process);
        self.signal(process, "KILL");
        let deadline = Instant::now() + PATIENCE;
        let mut events = self.said.events.lock().unwrap();
        let starts = |events: &[Value]| {
            events.iter().filter(|event| event["event"] == "started" && event["process"] == process).count()
        };
        while starts(&events) == before {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the {process} was not started again");
            events = self.said.more.wait_timeout(events, left).unwrap().0;
        }
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
    pub(crate) fn wait(&self, timeout: &str) -> (i32, String, String) {
        let arguments = ["wait", self.app.to_str().unwrap(), "--applied", "--timeout", timeout, "--json"];
        run(synddb(arguments))
    }

    /// Waits until everything committed now is in the replica, and makes sure that both are equal, to `diff` and to the programs of the
    /// system. Nobody may write meanwhile.
    pub(crate) fn assert_replica_equals(&self) {
        let (exit, told, errors) = self.wait(PATIENCE_TEXT);
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
        let mut pids: Vec<u64> = vec![self.child.id().into()];
        pids.extend(["agent", "sequencer", "validator"].map(|process| self.pid(process)));
        let pids: Vec<String> = pids.iter().map(u64::to_string).collect();
        Command::new("sh").args(["-c", &format!("kill -KILL {}", pids.join(" "))]).status().unwrap();
        self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
    }

    /// Ends it as a person would, and makes sure that it ended well and everything is in the replica.
    pub(crate) fn stop(mut self) {
        signal(self.child.id().into(), "INT");
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        assert!(status.success(), "{status}: {:#?}", self.events());
        let (exit, told, errors) = diff(&self.app, &self.replica());
        assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // After a failed test. A process that stands still would not notice that `dev` is gone.
        self.child.kill().ok();
        if self.child.wait().is_ok() && self.reader.is_some() {
            for process in ["agent", "sequencer", "validator"] {
                if self.starts(process) > 0 {
                    signal(self.pid(process), "KILL");
                }
            }
        }
    }
}

fn signal(pid: u64, name: &str) {
    // The shell has this command built in. A process that has ended cannot be signalled, which a test notices by what it waits for.
    Command::new("sh").args(["-c", &format!("kill -{name} {pid} 2>/dev/null")]).status().unwrap();
}

/// Everything that the programs of the system see of a replica, but for the table in which it keeps its position.
pub(crate) fn shown_replica(replica: &Path) -> String {
    let copy = tempfile::tempdir().unwrap();
    let copy = copy.path().join("copy.db");
    sql(replica, &format!(".backup '{}'", copy.display()));
    sql(&copy, "DROP TABLE _synddb_position;");
    shown(&copy)
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
