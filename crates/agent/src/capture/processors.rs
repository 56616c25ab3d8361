//! Leaving a processor to the application, where there are few.
//!
//! Who captures much keeps two processors busy, and an application that waits for its disk is then woken where somebody is at work: a commit that
//! syncs takes 2 ms instead of 0.2. A scheduler finds an idle processor where there are more than a few (ADR 25).

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What names interrupts of timers and between processors, which have numbers on some machines.
const NO_DEVICES: [&str; 5] = ["timer", "percpu", "pmu", "resched", "callfunc"];

/// With so many processors there is an idle one.
const MANY: u32 = 4;

/// Where so much of the largest WAL is committed and not captured, the application outruns the capture, and will be made to wait for it.
const OUTRUN: u64 = 8;
/// Down to such a part of that it is caught up with.
const CAUGHT_UP: u64 = 8;
/// So little in bytes of the WAL is captured in no time, and soonest where the disk answers.
const LITTLE_BYTES: u64 = 64 << 10;

/// On which processors a thread runs that may leave one alone.
#[derive(Default)]
pub(super) struct Processors {
    /// `None` where none is left alone.
    few: Option<Few>,
    leaves_one: bool,
    is_outrun: bool,
    outrun_bytes: u64,
}

struct Few {
    all: CpuSet,
    but_one: CpuSet,
}

impl Processors {
    /// Has this thread, and those that it starts meanwhile, leave one of the processors that it may run on alone while it has much to do, if
    /// these are few.
    ///
    /// Where that cannot be had, everything works without it.
    pub(super) fn of_this_thread(wal_bytes_max: u64) -> Self {
        Self {
            few: Few::of_this_thread(),
            leaves_one: false,
            is_outrun: false,
            outrun_bytes: wal_bytes_max / OUTRUN,
        }
    }

    /// Takes how much is about to be captured. While the application outruns this thread it runs on all of them: what the application waits for
    /// then is not its disk. What was started before stays where it is.
    pub(super) fn note_behind(&mut self, bytes: u64) {
        let is_outrun = bytes >= self.outrun_bytes;
        let was_outrun = self.is_outrun && bytes > self.outrun_bytes / CAUGHT_UP;
        self.is_outrun = is_outrun || was_outrun;
        self.set(!self.is_outrun && bytes >= LITTLE_BYTES);
    }

    fn set(&mut self, leaves_one: bool) {
        let Some(few) = self.few.as_ref().filter(|_| self.leaves_one != leaves_one) else { return };
        // Whoever gave this thread other processors meanwhile is not overruled.
        let is_ours = sched_getaffinity(None).is_ok_and(|now| now == *few.processors(self.leaves_one));
        if !is_ours || sched_setaffinity(None, few.processors(leaves_one)).is_err() {
            tracing::warn!(
                "the processors of the capture were changed from outside, or cannot be: they stay as they are"
            );
            self.few = None;
        }
        self.leaves_one = leaves_one;
    }
}

impl Few {
    const fn processors(&self, leaves_one: bool) -> &CpuSet {
        if leaves_one { &self.but_one } else { &self.all }
    }

    fn of_this_thread() -> Option<Self> {
        let all = sched_getaffinity(None).ok().filter(|all| (2..MANY).contains(&all.count()))?;
        let interrupts = std::fs::read_to_string("/proc/interrupts").unwrap_or_default();
        let candidates: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|at| all.is_set(*at)).collect();
        let mut but_one = all;
        but_one.unset(left_to_application(&candidates, &interrupts)?);
        Some(Self { all, but_one })
    }
}

/// The processor that serves most interrupts of devices: where a disk has one queue, whoever waits for it is woken there soonest. The last one where
/// nothing tells.
fn left_to_application(candidates: &[usize], interrupts: &str) -> Option<usize> {
    let mut lines = interrupts.lines();
    let columns: Vec<usize> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map_while(|name| name.strip_prefix("CPU")?.parse().ok())
        .collect();
    let mut served = vec![0_u64; columns.len()];
    for line in lines {
        // Interrupts of devices have numbers.
        let Some((number, counts)) = line.split_once(':') else { continue };
        if number.trim().parse::<u32>().is_ok() && !NO_DEVICES.iter().any(|name| line.contains(name)) {
            for (sum, count) in served.iter_mut().zip(counts.split_whitespace()) {
                *sum += count.parse().unwrap_or(0);
            }
        }
    }
    let of = |processor: usize| columns.iter().position(|column| *column == processor).map(|at| served[at]);
    candidates.iter().copied().max_by_key(|processor| of(*processor))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERRUPTS: &str = "           CPU0       CPU2       CPU3
  1:          9          0          0   IO-APIC   1-edge      i8042
 36:          0          7      90000  PCI-MSIX   1-edge      virtio1-req.0
 37:          0         50          0  PCI-MSIX   0-edge      virtio2-input.0
 11:     900000          0          0     GICv3  27 Level     arch_timer
LOC:     100000      90000     800000  Local timer interrupts
ERR:          3
";

    #[test]
    fn the_processor_of_the_disk_is_left() {
        assert_eq!(left_to_application(&[0, 2, 3], INTERRUPTS), Some(3));
        assert_eq!(left_to_application(&[0, 2], INTERRUPTS), Some(2));
        assert_eq!(left_to_application(&[0, 1], INTERRUPTS), Some(0));
        assert_eq!(left_to_application(&[0, 1], "not such a file"), Some(1), "nothing tells");
        assert_eq!(left_to_application(&[], INTERRUPTS), None);
    }

    #[test]
    fn a_thread_and_those_that_it_starts_leave_one_of_few() {
        let count = || sched_getaffinity(None).unwrap().count();
        let before = count();
        let seen = std::thread::spawn(move || {
            let mut processors = Processors::of_this_thread(64 << 20);
            let mut seen = Vec::new();
            for behind in [LITTLE_BYTES - 1, LITTLE_BYTES, 8 << 20, (1 << 20) + 1, 1 << 20] {
                processors.note_behind(behind);
                seen.push((count(), std::thread::spawn(count).join().unwrap()));
            }
            seen
        });
        let few = if (2..MANY).contains(&before) { before - 1 } else { before };
        let expected = [before, few, before, before, few].map(|count| (count, count));
        assert_eq!(seen.join().unwrap(), expected);
        assert_eq!(count(), before, "nobody else does");
    }
}
