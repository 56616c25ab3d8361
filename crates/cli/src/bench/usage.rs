//! What processes used, as the kernel counts it in `/proc`.
//!
//! Two looks are compared thread by thread, where the kernel counts nanoseconds. Threads come and go: one that came counts whole, and what
//! one used that has ended is in the process's own count, in ticks. What that count has more than rounding explains is taken.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A tick, of all that Linux runs on today (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// By how many ticks a difference of two looks may be too large: each counts whole ticks, in the program and in the kernel.
const TICKS_OFF: u32 = 2;

/// A look at what processes used since they began.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    /// Of each thread, by its number, which no two threads have.
    threads: BTreeMap<String, Used>,
    /// Of whole processes.
    ticks: Duration,
    processes: u32,
}

/// What was used between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Time on a processor.
    pub(super) cpu: Duration,
    /// How often a thread went to sleep, and so woke up again.
    pub(super) sleeps: u64,
}

impl Usage {
    /// What these processes used so far.
    pub(super) fn of(pids: &[u32]) -> io::Result<Self> {
        let mut usage = Self::default();
        for pid in pids {
            usage.look(*pid)?;
        }
        Ok(usage)
    }

    /// What was used since an earlier look at the same processes.
    pub(super) fn since(&self, before: &Self) -> Used {
        let mut used = Used::default();
        for (thread, now) in &self.threads {
            let Used { cpu, sleeps } = before.threads.get(thread).copied().unwrap_or_default();
            used.cpu += now.cpu.saturating_sub(cpu);
            used.sleeps += now.sleeps.saturating_sub(sleeps);
        }
        let at_least = self.ticks.saturating_sub(before.ticks + self.processes * TICKS_OFF * TICK);
        used.cpu = used.cpu.max(at_least);
        used
    }

    fn look(&mut self, pid: u32) -> io::Result<()> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        for thread in fs::read_dir(folder.join("task"))? {
            let thread = thread?;
            // A thread may end between both looks.
            let read = |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            let used = Used {
                cpu: on_processor(&read("schedstat")).unwrap_or_default(),
                sleeps: field(&read("status"), "voluntary_ctxt_switches:").unwrap_or_default(),
            };
            self.threads.insert(thread.file_name().to_string_lossy().into_owned(), used);
        }
        self.ticks += ticks(&fs::read_to_string(folder.join("stat"))?).unwrap_or_default();
        self.processes += 1;
        Ok(())
    }
}

/// The most memory that a process ever had, in bytes.
pub(super) fn memory_peak_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = field(&status, "VmHWM:").ok_or_else(|| io::Error::other("a process without `VmHWM`"))?;
    Ok(kib << 10)
}

/// Of `schedstat`: nanoseconds on a processor, nanoseconds of waiting for one, how often.
fn on_processor(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// A number of `status`, whose lines are `name: number unit`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Of `stat`: ticks in the program and in the kernel, also those of threads that have ended.
fn ticks(stat: &str) -> Option<Duration> {
    // The program's name is the second field and may hold anything, also spaces and parentheses.
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut numbers = behind_name.split_whitespace().skip(11).map(|number| number.parse::<u64>().ok());
    let ticks = numbers.next()?? + numbers.next()??;
    Some(TICK * u32::try_from(ticks).ok()?)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(on_processor("1234567 890 12\n"), Some(Duration::from_nanos(1_234_567)));
        assert_eq!(on_processor(""), None);
        let status = "Name:\tVmHWM: 7\nVmHWM:\t  123 kB\nvoluntary_ctxt_switches:\t45\nnonvoluntary_ctxt_switches:\t6\n";
        assert_eq!(field(status, "VmHWM:"), Some(123));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(45));
        assert_eq!(field(status, "VmSwap:"), None);
        let stat = "42 (a name) with (more) S 1 42 42 0 -1 4194560 100 200 3 4 70 30 5 6 20 0 9 0 12345 1 1";
        assert_eq!(ticks(stat), Some(Duration::from_secs(1)));
        assert_eq!(ticks("42 (cut"), None);
    }

    #[test]
    fn work_is_seen_also_of_a_thread_that_has_ended() {
        let pid = std::process::id();
        let before = Usage::of(&[pid]).unwrap();
        let worked = std::thread::spawn(|| {
            let since = Instant::now();
            let own = || on_processor(&fs::read_to_string("/proc/thread-self/schedstat").unwrap()).unwrap();
            while own() < Duration::from_millis(100) {
                assert!(since.elapsed() < Duration::from_secs(60), "no processor was given");
            }
        });
        worked.join().unwrap();
        let used = Usage::of(&[pid]).unwrap().since(&before);
        assert!(used.cpu >= Duration::from_millis(60), "{used:?}");
    }

    #[test]
    fn a_thread_that_ended_hides_no_other() {
        let used = |milliseconds, sleeps| Used { cpu: Duration::from_millis(milliseconds), sleeps };
        let look = |threads: &[(&str, Used)], ticks: u32| Usage {
            threads: threads.iter().map(|(thread, used)| ((*thread).to_owned(), *used)).collect(),
            ticks: TICK * ticks,
            processes: 1,
        };
        let before = look(&[("1", used(50, 5)), ("2", used(900, 90))], 94);
        // The second ended, the third came.
        let after = look(&[("1", used(53, 7)), ("3", used(4, 1))], 95);
        assert_eq!(after.since(&before), used(7, 3));
        // What ended had computed meanwhile.
        let after = look(&[("1", used(53, 7)), ("3", used(4, 1))], 194);
        assert_eq!(after.since(&before), used(980, 3));
    }

    #[test]
    fn memory_that_was_written_is_seen() {
        let written = vec![1_u8; 48 << 20];
        let peak = memory_peak_bytes(std::process::id()).unwrap();
        assert!(peak >= written.len() as u64, "{peak}");
    }
}
