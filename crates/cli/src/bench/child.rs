//! A process that a benchmark starts: it says one JSON object a line, and ends when its standard input does.
//!
//! What must stay true: no process outlives its value, and nothing is waited for once the benchmark was asked to end.
//!
//! Knows nothing of what the lines mean.

use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Bench, BenchError};
use crate::exit::Exit;
use crate::stop::Stop;

/// Lines that wait to be read. A process that says more waits: none says so much.
const LINES_MAX: usize = 1024;

/// How much of a process's standard error is kept, in bytes: enough for the message with which it ends.
const SAID_BYTES_MAX: usize = 4096;

/// Between two looks at whether the benchmark was asked to end: seldom, because somebody writes meanwhile and is measured.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Between two looks at whether a process ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long a process may take to end once its input has.
const END_MAX: Duration = Duration::from_secs(60);

/// A process of a benchmark.
pub(super) struct Child {
    name: &'static str,
    child: std::process::Child,
    /// Its end asks the process to end.
    input: Option<std::process::ChildStdin>,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
    stop: Stop,
}

impl Child {
    /// Starts a process; `name` is what errors call it.
    pub(super) fn start(bench: &Bench, name: &'static str, mut command: Command) -> Result<Self, BenchError> {
        let failed = || BenchError::system("start a process");
        let mut child = command
            // Where no file `.env` says what is meant for others.
            .current_dir(bench.folder.path())
            // A signal from the terminal is for the benchmark alone, which ends its processes in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed())?;
        let missing = || failed()(std::io::Error::other("a pipe is missing"));
        let input = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let (sender, lines) = sync_channel(LINES_MAX);
        let thread = std::thread::Builder::new;
        thread().name(name.to_owned()).spawn(move || forward(stdout, &sender)).map_err(failed())?;
        let errors = thread().name(name.to_owned()).spawn(move || last_of(stderr)).map_err(failed())?;
        let stop = bench.stop.clone();
        Ok(Self { name, child, input, lines, errors: Some(errors), stop })
    }

    /// Its number for the operating system.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to it.
    pub(super) fn say(&mut self, line: &str) -> Result<(), BenchError> {
        let Some(input) = &mut self.input else { return Ok(()) };
        match writeln!(input, "{line}").and_then(|()| input.flush()) {
            // It reads to its end, so that is what came. How says more.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(self.ended()),
            said => said.map_err(BenchError::system("write to a process")),
        }
    }

    /// The next line it says, waited for until a deadline; `doing` says what it is taking its time for.
    pub(super) fn next(&mut self, doing: &'static str, patience: Duration) -> Result<String, BenchError> {
        let since = Instant::now();
        loop {
            match self.lines.recv_timeout(LOOK_UP) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
                Err(RecvTimeoutError::Timeout) if self.stop.is_asked() => {
                    return Err(BenchError::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) if since.elapsed() >= patience => {
                    return Err(BenchError::TooLate { name: self.name, doing, waited_s: patience.as_secs() });
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// An error when it has ended.
    pub(super) fn go_on(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait().map_err(BenchError::system("wait for a process"))? {
            Some(_) => Err(self.ended()),
            None => Ok(()),
        }
    }

    /// What it says is none of our words.
    pub(super) fn foreign(&self, said: &str) -> BenchError {
        BenchError::Foreign { name: self.name, said: said.chars().take(200).collect() }
    }

    /// Has it end, and makes sure that it ended well.
    pub(super) fn end(self) -> Result<(), BenchError> {
        self.end_with(&[Exit::Done])
    }

    /// Has it end, and makes sure that it ended with one of these exit codes.
    pub(super) fn end_with(mut self, exits: &[Exit]) -> Result<(), BenchError> {
        self.input = None;
        let since = Instant::now();
        while since.elapsed() < END_MAX {
            match self.child.try_wait().map_err(BenchError::system("wait for a process"))? {
                Some(status) => {
                    let exit = status.code().and_then(Exit::from_code);
                    return if exit.is_some_and(|exit| exits.contains(&exit)) {
                        Ok(())
                    } else {
                        Err(self.ended())
                    };
                }
                None => std::thread::sleep(LOOK_AGAIN),
            }
            // A process that still speaks is listened to, so that it can end.
            while self.lines.try_recv().is_ok() {}
        }
        Err(BenchError::TooLate { name: self.name, doing: "end", waited_s: END_MAX.as_secs() })
    }

    /// It ended by itself: how, and with which words.
    fn ended(&mut self) -> BenchError {
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(source) => return BenchError::System { doing: "wait for a process", source },
        };
        let said = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
        BenchError::Ended { name: self.name, status, said: said.trim().to_owned() }
    }
}

impl Drop for Child {
    /// A process that is not needed any more is asked to end before it is killed: an agent that is killed leaves its pin.
    fn drop(&mut self) {
        self.input = None;
        let since = Instant::now();
        while since.elapsed() < END_MAX {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(LOOK_AGAIN),
                Ok(Some(_)) | Err(_) => return,
            }
            while self.lines.try_recv().is_ok() {}
        }
        // One that ended meanwhile cannot be killed, which is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Hands lines on until nobody says or wants any.
fn forward(output: impl Read, lines: &SyncSender<String>) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        if lines.send(line).is_err() {
            return;
        }
    }
}

/// Reads to the end, and keeps the last of it.
fn last_of(mut output: impl Read) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = output.read(&mut piece) {
        kept.extend_from_slice(&piece[..read]);
        let excess = kept.len().saturating_sub(SAID_BYTES_MAX);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
