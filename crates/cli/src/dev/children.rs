//! One process under `dev`: how it is started, what it says, how it is asked to end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

use crate::exit::CommandError;
use crate::output::{Event, Output, Process};

/// Set for a process whose environment is whole: the file `.env` was read by who started it, and what was taken out since stays out.
pub const ENVIRONMENT_IS_WHOLE: &str = "SYNDDB_ENVIRONMENT_IS_WHOLE";

/// Starts a program that knows nothing of `dev`, and asks it to end when the input does.
const SHELL: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- &
program=$!
{ cat <&3; kill -TERM "$program"; } >/dev/null 2>&1 &
exec 3<&-
wait "$program"
"#;

/// What a program says of where it listens, that knows nothing of `dev`.
const LISTENING: &str = "Listening on ";

/// What to start.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    process: Process,
    /// Another program than this one.
    foreign: Option<PathBuf>,
    arguments: Vec<String>,
}

impl Spec {
    pub(super) fn new(process: Process, command: &str) -> Self {
        Self { process, foreign: None, arguments: vec![command.to_owned()] }
    }

    /// A program that is none of ours.
    pub(super) fn foreign(process: Process, program: &Path) -> Self {
        Self { process, foreign: Some(program.to_owned()), arguments: Vec::new() }
    }

    /// Adds an argument without a name.
    pub(super) fn operand(mut self, value: String) -> Self {
        self.arguments.push(value);
        self
    }

    /// Adds an argument with a name, or replaces its value.
    pub(super) fn with(mut self, name: &str, value: String) -> Self {
        match self.arguments.iter().position(|argument| argument == name) {
            Some(at) => self.arguments[at + 1] = value,
            None => self.arguments.extend([name.to_owned(), value]),
        }
        self
    }
}

/// A process that runs.
pub(super) struct Child {
    spec: Spec,
    child: tokio::process::Child,
    /// Its end asks the process to end.
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What a process did.
pub(super) enum Did {
    /// It said something.
    Said(Event),
    /// It ended.
    Ended(ExitStatus),
}

impl Child {
    /// Starts it. It is killed when the value is dropped before it ended.
    pub(super) fn start(spec: Spec, output: Output) -> Result<Self, CommandError> {
        let failed = CommandError::system;
        let mut command = match &spec.foreign {
            None => Command::new(std::env::current_exe().map_err(failed("find this program"))?),
            Some(program) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", SHELL, "sh"]).arg(program);
                shell
            }
        };
        // No configuration is meant, so what the environment says of other services does not count here. What it says of the store does.
        let foreign = |name: &OsStr| {
            let name = name.to_string_lossy();
            ["SYNDDB_AGENT_", "SYNDDB_SEQUENCER_", "SYNDDB_VALIDATOR_", "SYNDDB_RELAYER_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| foreign(name)) {
            command.env_remove(name);
        }
        let mut child = command
            .env(ENVIRONMENT_IS_WHOLE, "1")
            .args(&spec.arguments)
            .args(if spec.foreign.is_none() { &["--json", "--stop-on-eof"][..] } else { &[] })
            // A signal from the terminal is for `dev` alone, which ends its processes in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed("start a process"))?;
        let input = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| {
            failed("read what a process says")(std::io::Error::other("it has no standard output"))
        })?;
        output.tell(&Event::Started { process: spec.process, pid: child.id().unwrap_or_default() })?;
        Ok(Self { spec, child, input, lines: BufReader::new(stdout).lines() })
    }

    pub(super) fn process(&self) -> Process {
        self.spec.process
    }

    /// Starts it again.
    pub(super) fn again(self, output: Output) -> Result<Self, CommandError> {
        Self::start(self.spec, output)
    }

    /// From now on it is started again at this address, whatever port it was given first.
    pub(super) fn stay_at(&mut self, address: &str) {
        let (name, place) = match (&self.spec.foreign, address.rsplit_once(':')) {
            (Some(_), Some((_, port))) => ("--port", port),
            (Some(_), None) | (None, _) => ("--listen", address),
        };
        self.spec = self.spec.clone().with(name, place.to_owned());
    }

    /// The next thing it does.
    pub(super) async fn next(&mut self) -> Result<Did, CommandError> {
        loop {
            let line =
                self.lines.next_line().await.map_err(CommandError::system("read what a process says"))?;
            let Some(line) = line else { break };
            if self.spec.foreign.is_some() {
                let Some(address) = line.strip_prefix(LISTENING) else { continue };
                let (process, url) = (self.spec.process, format!("http://{address}"));
                return Ok(Did::Said(Event::Listening { process, url, key: None, key_id: None }));
            }
            // What is no event was printed by something else in that process; nobody waits for it.
            if let Ok(event) = serde_json::from_str(&line) {
                return Ok(Did::Said(event));
            }
        }
        let status = self.child.wait().await.map_err(CommandError::system("wait for a process"))?;
        Ok(Did::Ended(status))
    }

    /// Asks it to finish what it has promised, and to end.
    pub(super) fn ask_to_end(&mut self) {
        self.input = None;
    }

    /// Ends it at once.
    pub(super) async fn kill(&mut self) {
        // One that ended by itself cannot be killed, which is as good.
        self.child.kill().await.ok();
    }
}
