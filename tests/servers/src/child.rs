//! A server as a child process that never outlives the test that started it.
//!
//! A shell stands between the two and holds the reading end of a pipe. When the test process ends, in whatever way, the pipe ends too;
//! then the shell kills the server and removes its folder. (The kernel's own signal on a parent's death is no help here: it is sent when
//! the *thread* ends that started the child, and every test is a thread.)
//!
//! What the server says goes to a file in its folder, and is shown when it does not start.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long a server may take to start, on a machine that does much else.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// How long it may take to be killed.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// How much of what a server said is shown.
const SHOWN_BYTES_MAX: usize = 8 << 10;

/// Starts the server, kills it when the input ends, and removes the folder. `ended` in the folder says that it ended by itself.
const SHELL: &str = r#"
folder=$1; shift
exec 3<&0 </dev/null
"$@" 3<&- >"$folder/output" 2>&1 &
server=$!
{ cat <&3 >/dev/null; kill -KILL "$server"; } 2>/dev/null &
watcher=$!
exec 3<&-
wait "$server"
echo "$?" >"$folder/ended"
wait "$watcher"
rm -rf "$folder"
"#;

/// A server that runs, in a folder of its own.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    folder: PathBuf,
    shell: Child,
    /// Its end is the server's.
    input: Option<ChildStdin>,
}

impl Server {
    /// Starts `program` in a new folder. Its arguments are made for that folder.
    pub(crate) fn start<S: AsRef<OsStr>>(
        program: &Path,
        arguments: impl FnOnce(&Path) -> Result<Vec<S>>,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        // The shell removes it, which also runs when this process is killed.
        let folder = tempfile::Builder::new().prefix("synddb-server-").tempdir()?.keep();
        let mut command = Command::new("sh");
        command.args(["-c", SHELL, "sh"]).arg(&folder).arg(program).args(arguments(&folder)?);
        // Whatever a server would keep at home, it keeps in its folder.
        command.current_dir(&folder).env("HOME", &folder).env("TMPDIR", &folder);
        command.envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut shell = command.spawn().with_context(|| format!("cannot start server. program=`{name}`"))?;
        let input = shell.stdin.take();
        Ok(Self { name, folder, shell, input })
    }

    /// Waits until `is_ready` says so.
    pub(crate) fn wait_until(&self, address: SocketAddr, is_ready: impl Fn() -> bool) -> Result<()> {
        let until = Instant::now() + START_PATIENCE;
        while !is_ready() {
            if self.folder.join("ended").exists() {
                bail!("server ended at its start. program=`{}` output=`{}`", self.name, self.output());
            }
            if Instant::now() > until {
                bail!(
                    "server is not ready. program=`{}` address=`{address}` output=`{}`",
                    self.name,
                    self.output()
                );
            }
            std::thread::park_timeout(PAUSE);
        }
        Ok(())
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it said last.
    pub(crate) fn output(&self) -> String {
        let said = std::fs::read(self.folder.join("output")).unwrap_or_default();
        String::from_utf8_lossy(&said[said.len().saturating_sub(SHOWN_BYTES_MAX)..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.input = None;
        let until = Instant::now() + END_PATIENCE;
        while matches!(self.shell.try_wait(), Ok(None)) {
            if Instant::now() > until {
                let group = i32::try_from(self.shell.id()).ok().and_then(Pid::from_raw);
                group.map(|group| kill_process_group(group, Signal::KILL));
                // Nothing can be done about one that not even this ends.
                self.shell.wait().ok();
                return;
            }
            std::thread::park_timeout(PAUSE);
        }
    }
}
