//! What processes call of the kernel, as `strace` sees it, where it is there and may look.
//!
//! A call that waits is interrupted when `strace` comes and made again; so what is called in the first moments does not count.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use super::BenchError;

/// What helps where it is not there.
const MISSING: &str = "`strace` is not there; `apt-get install strace` brings it";

/// Calls that send something. A request over HTTP takes one or more; over a connection that is open already it is a `writev`.
const SENDS: [&str; 5] = ["sendto", "sendmsg", "sendmmsg", "writev", "connect"];

/// How long processes go on after `strace` has come, before what they call counts.
const SETTLE: Duration = Duration::from_secs(1);

/// Calls in some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Calls {
    /// All calls.
    pub(super) all: u64,
    /// Those that send something.
    pub(super) sent: u64,
}

/// Counts what processes, with all their threads, call in some time; or says why that cannot be seen. `pause` lets time pass.
pub(super) fn calls(
    pids: &[u32],
    folder: &Path,
    time: Duration,
    pause: impl Fn(Duration) -> Result<(), BenchError>,
) -> Result<Result<Calls, String>, BenchError> {
    let failed = BenchError::system;
    let log = folder.join("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "-ttt", "-e", "signal=none", "-o"]).arg(&log);
    for pid in pids {
        command.args(["-p", &pid.to_string()]);
    }
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut strace = match spawned {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(MISSING.to_owned())),
        spawned => spawned.map_err(failed("start `strace`"))?,
    };
    let mut said = strace.stderr.take().map(BufReader::new).into_iter().flat_map(BufRead::lines);
    // It says of each process that it is attached to it, or why it is not.
    let attached: Vec<String> = said.by_ref().take(pids.len()).map_while(Result::ok).collect();
    let refused = attached.iter().find(|line| !line.contains("attached"));
    let paused = if refused.is_none() { pause(SETTLE) } else { Ok(()) };
    let from = SystemTime::now();
    let paused = if refused.is_none() { paused.and_then(|()| pause(time)) } else { paused };
    if let Some(pid) = i32::try_from(strace.id()).ok().and_then(Pid::from_raw) {
        // One that could not look has ended by itself.
        kill_process(pid, Signal::INT).ok();
    }
    said.for_each(drop);
    strace.wait().map_err(failed("wait for `strace`"))?;
    paused?;
    if let Some(refused) = refused {
        return Ok(Err(format!("`strace` may not look; try as the superuser: {refused}")));
    }
    let log = fs::read_to_string(&log).map_err(failed("read what `strace` saw"))?;
    let from = from.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Ok(count(&log, from, from + time)))
}

/// Of lines like `PID SECONDS.FRACTION call(...) = result`, those of some time. The end of a call that took a while has a line of its own,
/// and a call that was made again begins with other letters.
fn count(log: &str, from: Duration, to: Duration) -> Calls {
    let mut counted = Calls { all: 0, sent: 0 };
    for line in log.lines() {
        let mut words = line.split_whitespace().skip(1);
        let at =
            words.next().and_then(|at| at.parse().ok()).and_then(|at| Duration::try_from_secs_f64(at).ok());
        let name = words.next().and_then(|call| call.split_once('('));
        let (Some(at), Some((name, _))) = (at, name) else { continue };
        if (from..to).contains(&at) {
            counted.all += 1;
            counted.sent += u64::from(SENDS.contains(&name));
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_the_time_are_counted_once() {
        let log = "\
7 100.500000 restart_syscall(<... resuming interrupted read ...> <unfinished ...>
7 101.000000 futex(0x1, FUTEX_WAIT, 1, NULL <unfinished ...>
8 101.250000 sendto(5, \"a (b\", 4, MSG_NOSIGNAL, NULL, 0) = 4
7 101.500000 <... futex resumed>) = 0
7 101.750000 connect(6, {sa_family=AF_INET}, 16) = -1 EINPROGRESS
8 102.000000 write(1, \"x\", 1) = 1
7 102.000000 +++ exited with 0 +++
";
        let at = Duration::from_secs;
        assert_eq!(count(log, at(101), at(102)), Calls { all: 3, sent: 2 });
        assert_eq!(count(log, at(100), at(103)), Calls { all: 5, sent: 2 });
        assert_eq!(count("", at(0), at(103)), Calls { all: 0, sent: 0 });
    }
}
