//! The roles as processes of their own, side by side, each to be killed, stopped and started again.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use synddb_servers::Port;
use synddb_service::credentials::{self, NewCredential};
use synddb_service::secret::Token;

use super::processes::{diff, run, synddb};
use super::programs::{assert_same, shown, sql};

/// How long anything may take before a test fails. A debug build on a busy machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The same as an argument.
pub(crate) const PATIENCE_TEXT: &str = "120s";

pub(crate) const TOKEN: &str = "a-token-of-more-than-thirty-two-characters";

/// A process of the command, and everything that it said so far.
pub(crate) struct Role {
    child: Child,
    input: Option<ChildStdin>,
    said: Arc<Said>,
    was_killed: bool,
}

#[derive(Default)]
struct Said {
    events: Mutex<Vec<Value>>,
    more: Condvar,
}

impl Role {
    /// Starts it. The command ends when its input does, or is killed.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = Arc::new(Said::default());
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            let hear = |event| {
                heard.events.lock().unwrap().push(event);
                heard.more.notify_all();
            };
            for line in lines.map_while(Result::ok) {
                hear(serde_json::from_str(&line).unwrap_or_else(|_| panic!("no event: {line}")));
            }
            // Whoever waits for an event that will not come is woken.
            hear(Value::Null);
        });
        let input = child.stdin.take();
        Self { child, input, said, was_killed: false }
    }

    /// The first event of a name that fits, now or later.
    pub(crate) fn event(&self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found =
            self.wait(|events| events.iter().find(|event| event["event"] == name && fits(event)).cloned());
        found.unwrap_or_else(|| panic!("`{name}` did not come: {:#?}", self.events()))
    }

    /// Waits until the events are such that something is found in them; `None` when the process ended before.
    pub(crate) fn wait<T>(&self, find: impl Fn(&[Value]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut events = self.said.events.lock().unwrap();
        loop {
            if let Some(found) = find(&events) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it did not come in time: {events:#?}");
            if events.last() == Some(&Value::Null) {
                return None;
            }
            events = self.said.more.wait_timeout(events, left).unwrap().0;
        }
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.said.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How an agent attached, as it said each time.
    pub(crate) fn attached(&self) -> Vec<String> {
        let events = self.events();
        let attached = events.iter().filter(|event| event["event"] == "attached");
        attached.map(|event| event["how"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until an agent has attached; says how.
    pub(crate) fn how(&self) -> String {
        self.event("attached", |_| true)["how"].as_str().unwrap().to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// `kill -9`, and returns when it is dead. What keeps its place lives on.
    pub(crate) fn kill(&mut self) {
        self.was_killed = true;
        // One that ended by itself cannot be killed, which is as good.
        self.child.kill().ok();
        self.child.wait().unwrap();
    }

    /// Waits for its end, which something asked for.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while self.has_ended().is_none() {
            assert!(Instant::now() < deadline, "it does not end: {:#?}", self.events());
            let events = self.said.events.lock().unwrap();
            drop(self.said.more.wait_timeout(events, Duration::from_millis(5)).unwrap());
        }
        self.child.wait().unwrap()
    }

    /// Asks it to end by the end of its input.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// Asks it to end by the end of its input, and makes sure that it ended well.
    pub(crate) fn end(&mut self) {
        self.close_input();
        let status = self.ended();
        assert!(status.success(), "{status}: {:#?}", self.events());
    }

    /// The process that keeps an agent's place, if it said that there is one.
    pub(crate) fn pin(&self) -> Option<u32> {
        let events = self.events();
        let pinned = events.iter().rev().find(|event| event["event"] == "pinned")?;
        u32::try_from(pinned["pid"].as_u64()?).ok()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // After a failed test, or for good.
        self.child.kill().ok();
        self.child.wait().ok();
        // A pin survives its agent on purpose. That of a killed one is for the next agent, or for who killed it.
        if let Some(pin) = self.pin()
            && !self.was_killed
        {
            signal(pin, "KILL");
        }
    }
}

/// Sends a signal. A process that has ended cannot be signalled, which a test notices by what it waits for.
pub(crate) fn signal(pid: u32, name: &str) {
    // The shell has this command built in.
    Command::new("sh").args(["-c", &format!("kill -{name} {pid} 2>/dev/null")]).status().unwrap();
}

/// Waits until a process that was killed has nothing open any more.
pub(crate) fn until_gone(pid: u32) {
    let of = |what: &str| format!("/proc/{pid}/{what}");
    let is_gone = || {
        let Ok(stat) = std::fs::read_to_string(of("stat")) else { return true };
        // One that nobody has waited for stays as a zombie; its threads may end after it.
        let is_zombie = stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"));
        is_zombie && std::fs::read_dir(of("task")).map_or(0, Iterator::count) <= 1
    };
    let deadline = Instant::now() + PATIENCE;
    while !is_gone() {
        assert!(Instant::now() < deadline, "process {pid} is not gone");
        std::thread::yield_now();
    }
}

/// A sequencer, its store, and a validator of the stream of `app.db` in one folder.
pub(crate) struct System {
    pub(crate) app: PathBuf,
    pub(crate) home: PathBuf,
    folder: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
    pub(crate) sequencer: Role,
    pub(crate) validator: Role,
    /// Where the sequencer listens; nobody else does while it does not run.
    port: Port,
    pub(crate) key: String,
    validator_url: String,
}

impl System {
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_in(folder, &[])
    }

    /// The same, with something more in the environment of each process.
    pub(crate) fn start_in(folder: &Path, environment: &[(&'static str, PathBuf)]) -> Self {
        let (app, home) = (folder.join("app.db"), folder.join("app.db-synddb"));
        make_store(folder);
        let stream = synddb_agent::stream_of(&home).unwrap();
        let port = Port::take().unwrap();
        let sequencer = start_sequencer(folder, &port.address().to_string(), environment);
        let listening = sequencer.event("listening", |_| true);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (url, key) = (text(&listening["url"]), text(&listening["key"]));
        let mut validator = synddb(["validator", "--listen", "127.0.0.1:0", "--stop-on-eof", "--json"]);
        validator.arg("--replica").arg(folder.join("replica.db")).args(["--store", &store(folder)]);
        validator.args(["--stream", &stream.to_string(), "--sequencer-key", &key, "--sequencer", &url]);
        validator.envs(environment.iter().map(|(name, value)| (name, value)));
        let validator = Role::start(validator);
        let validator_url = text(&validator.event("listening", |_| true)["url"]);
        let (folder, environment) = (folder.to_owned(), environment.to_vec());
        Self { app, home, folder, environment, sequencer, validator, port, key, validator_url }
    }

    /// The command that follows the database.
    pub(crate) fn agent(&self) -> Command {
        self.agent_of(&self.app, &self.home)
    }

    /// The command that follows another database, for the same sequencer.
    pub(crate) fn agent_of(&self, app: &Path, home: &Path) -> Command {
        let mut command = synddb(["follow", "--json", "--stop-on-eof", "--sequencer-key", &self.key]);
        command.args(["--sequencer", &format!("http://{}", self.port.address())]);
        command.arg(app).arg("--dir").arg(home).arg("--token-file").arg(self.folder.join("token"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Follows the database, and returns when it is attached.
    pub(crate) fn follow(&self) -> Role {
        let agent = Role::start(self.agent());
        agent.how();
        agent
    }

    /// Another validator of the same log, and its URL.
    pub(crate) fn another_validator(&self, replica: &Path) -> (Role, String) {
        let mut validator = synddb(["validator", "--listen", "127.0.0.1:0", "--stop-on-eof", "--json"]);
        let stream = synddb_agent::stream_of(&self.home).unwrap().to_string();
        validator.arg("--replica").arg(replica).args(["--store", &self.store()]);
        validator.args(["--stream", &stream, "--sequencer-key", &self.key]);
        validator.args(["--sequencer", &format!("http://{}", self.port.address())]);
        let validator = Role::start(validator);
        let url = validator.event("listening", |_| true)["url"].as_str().unwrap().to_owned();
        (validator, url)
    }

    /// The validator's URL.
    pub(crate) fn validator_url(&self) -> &str {
        &self.validator_url
    }

    /// The store's URL.
    pub(crate) fn store(&self) -> String {
        store(&self.folder)
    }

    /// Kills the sequencer, and starts it again at the same address.
    pub(crate) fn restart_sequencer(&mut self) {
        self.sequencer.kill();
        self.sequencer = start_sequencer(&self.folder, &self.port.address().to_string(), &self.environment);
        self.sequencer.event("listening", |_| true);
    }

    pub(crate) fn replica(&self) -> PathBuf {
        self.folder.join("replica.db")
    }

    /// Waits until everything committed now is in the replica, and makes sure that both are equal. Nobody may write meanwhile. Returns the
    /// state hash.
    pub(crate) fn assert_equal(&self) -> String {
        let arguments = ["wait", self.app.to_str().unwrap(), "--dir", self.home.to_str().unwrap(), "--json"];
        let waits = ["--applied", "--timeout", PATIENCE_TEXT, "--validator", &self.validator_url];
        let (exit, told, errors) = run(synddb(arguments.into_iter().chain(waits)));
        let agent = status(&self.home);
        assert_eq!(exit, 0, "{told}{errors}\n{agent:?}\n{:#?}", self.validator.events());
        let (exit, told, errors) = diff(&self.app, &self.replica());
        assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
        told.trim().rsplit(' ').next().unwrap_or_default().to_owned()
    }

    /// The same, also to the programs of the system; and the validator has not stopped.
    pub(crate) fn assert_replica_equals(&self) {
        self.assert_equal();
        assert_same(&shown(&self.app), &shown_replica(&self.replica()));
        self.assert_not_halted();
    }

    pub(crate) fn assert_not_halted(&self) {
        let halted = self.validator.events().into_iter().find(|event| event["event"] == "halted");
        assert_eq!(halted, None);
    }
}

/// Writes the file with the token that those who may write have.
pub(crate) fn write_token(folder: &Path) {
    std::fs::write(folder.join("token"), TOKEN).unwrap();
    std::fs::set_permissions(folder.join("token"), std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// The file by which a sequencer knows the token of a folder.
pub(crate) fn credentials(folder: &Path) -> PathBuf {
    let file = folder.join("credentials.toml");
    let token = Token::read(&folder.join("token")).unwrap();
    credentials::write(&file, &NewCredential::of_token("test", &token)).unwrap();
    file
}

pub(crate) fn store(folder: &Path) -> String {
    format!("file://{}", folder.join("store").display())
}

/// A folder for the store, and a token.
pub(crate) fn make_store(folder: &Path) {
    std::fs::create_dir(folder.join("store")).unwrap();
    write_token(folder);
}

fn start_sequencer(folder: &Path, address: &str, environment: &[(&str, PathBuf)]) -> Role {
    let mut command = sequencer_as(folder, "sequencer", address);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Role::start(command)
}

/// The command of a sequencer with a journal and a key of its own name, over the store of the folder.
pub(crate) fn sequencer_as(folder: &Path, name: &str, address: &str) -> Command {
    let mut command =
        synddb(["sequencer", "--listen", address, "--batch-age-ms", "5", "--stop-on-eof", "--json"]);
    command.args(["--store", &store(folder)]).arg("--dir").arg(folder.join(name));
    let key = folder.join(format!("{name}.key"));
    command.arg("--credentials-file").arg(credentials(folder)).arg("--key-file").arg(key);
    command
}

/// What the agent of a folder says of itself; `None` when it does not answer.
pub(crate) fn status(home: &Path) -> Option<Value> {
    let mut socket = UnixStream::connect(home.join("agent.sock")).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.write_all(b"GET /status HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).ok()?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    serde_json::from_slice(&answer[body + 4..]).ok()
}

/// Everything that the programs of the system see of a replica, but for the tables in which it keeps its position.
pub(crate) fn shown_replica(replica: &Path) -> String {
    let copy = tempfile::tempdir().unwrap();
    let copy = copy.path().join("copy.db");
    sql(replica, &format!(".backup '{}'", copy.display()));
    sql(
        &copy,
        "DROP TABLE _synddb_position; DROP TABLE _synddb_signers; DROP TABLE _synddb_states; DROP TABLE _synddb_columns; DROP TABLE _synddb_marks;
         DROP TABLE IF EXISTS _synddb_violations; DROP TABLE IF EXISTS _synddb_messages; DROP TABLE IF EXISTS _synddb_outbound; DROP TABLE IF EXISTS _synddb_rules; DROP TABLE IF EXISTS _synddb_judged;",
    );
    shown(&copy)
}
