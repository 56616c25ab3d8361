//! A machine whose power can fail: a folder that is its disk, the processes that write there, and the records of what they did.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};

use super::disk::Disk;
use super::trace::Trace;

const SHIM: &str = include_str!("shim.c");

/// Under this name a process knows where its records go. Who has it in its environment is on the machine.
const TRACE: &str = "SYNDDB_DISK_TRACE";

/// How many microseconds a sync takes at most: long enough that others do something meanwhile.
const SYNC_MICROS: &str = "1500";

/// A machine.
pub(super) struct Machine {
    root: PathBuf,
    trace: PathBuf,
    /// The disk as it was when the power came on.
    disk: Option<Disk>,
}

/// What a cut leaves behind: the disk as it was when the power came on, and what was recorded since.
pub(super) struct Cut {
    pub(super) disk: Disk,
    pub(super) trace: Trace,
}

impl Cut {
    /// Follows the records to their end, and makes sure that they tell everything.
    pub(super) fn finish(&mut self) {
        self.disk.follow(&self.trace, self.trace.end());
        self.disk.assert_complete();
    }
}

impl Machine {
    /// A machine whose disk is `folder/name`, which is made where it is missing.
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        let root = folder.join(name);
        fs::create_dir_all(&root).unwrap();
        let root = root.canonicalize().unwrap();
        let trace = folder.canonicalize().unwrap().join(format!("{name}.trace"));
        Self { root, trace, disk: None }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// From here on everything is recorded. What is on the disk is durable.
    pub(super) fn power_on(&mut self) {
        File::create(&self.trace).unwrap();
        self.disk = Some(Disk::of(&self.root));
    }

    /// Has a program run on this machine.
    pub(super) fn run(&self, mut program: Command) -> Command {
        program.env("LD_PRELOAD", shim()).env("SYNDDB_DISK", &self.root).env(TRACE, &self.trace);
        program.env("SYNDDB_DISK_SLOW", SYNC_MICROS);
        program
    }

    /// How much was recorded, in bytes.
    pub(super) fn recorded(&self) -> u64 {
        fs::metadata(&self.trace).unwrap().len()
    }

    /// Kills one process, between two records.
    pub(super) fn kill(&self, child: &mut Child) {
        let trace = File::open(&self.trace).unwrap();
        trace.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        trace.unlock().unwrap();
    }

    /// Cuts the power: all processes at once, between two records.
    pub(super) fn cut(&mut self, children: &mut [&mut Child]) -> Cut {
        let trace = File::open(&self.trace).unwrap();
        trace.lock().unwrap();
        loop {
            let running = self.processes();
            if running.is_empty() {
                break;
            }
            for pid in running {
                // Who ended meanwhile cannot be killed.
                kill_process(pid, Signal::KILL).ok();
            }
            for child in &mut *children {
                child.wait().unwrap();
            }
        }
        trace.unlock().unwrap();
        Cut { disk: self.disk.take().unwrap(), trace: Trace::read(&self.trace) }
    }

    fn processes(&self) -> Vec<Pid> {
        let mut mark = format!("{TRACE}={}", self.trace.display()).into_bytes();
        mark.push(0);
        let is_here = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.windows(mark.len()).any(|found| found == mark)
        };
        let entries = fs::read_dir("/proc").unwrap().map_while(Result::ok);
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(is_here).filter_map(Pid::from_raw).collect()
    }
}

/// The shim, compiled once by each run of the tests.
fn shim() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let pid = std::process::id();
        let (source, library) =
            (folder.join(format!("disk-shim-{pid}.c")), folder.join(format!("disk-shim-{pid}.so")));
        fs::write(&source, SHIM).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).args([&library, &source]);
        let output = cc.args(["-ldl", "-lpthread"]).output();
        let output =
            output.expect("this test needs `cc`, as building SQLite does; on Debian: apt-get install gcc");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // The same name for everybody, whole at any time.
        let named = folder.join("disk-shim.so");
        fs::rename(library, &named).unwrap();
        fs::remove_file(source).unwrap();
        named
    })
}
