//! Random bytes against the decoders, with limits on time and memory.
//!
//! The seeds in the repository are read and never written: what a run discovers goes to the target folder.
//! The compiler is the stable one, told to allow the sanitizer's flags.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use regex::Regex;

use super::packages::{Target, find};
use crate::machine;
use crate::process;
use crate::tools::Tool;
use crate::tree::Tree;
use crate::verdict::Verdict;

/// How much freed memory the address sanitizer keeps back, in MiB: by default so much that the memory of a target says nothing.
const QUARANTINE_MIB: u32 = 16;

/// How many callers it remembers of each allocation: each costs time at every one.
const CONTEXT_FRAMES: u32 = 6;

/// What libFuzzer said about one target at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Inputs tried.
    pub executions: Option<u64>,
    /// Inputs tried per second.
    pub executions_per_s: Option<u64>,
    /// Edges reached.
    pub coverage: Option<u64>,
    /// Inputs kept because they reached something new.
    pub corpus: Option<u64>,
    /// Largest resident memory, in MiB.
    pub rss_mib_max: Option<u64>,
    /// Inputs that made the target fail; libFuzzer stops at the first.
    pub crashes: usize,
}

impl Report {
    /// Reads the log of a run with `-print_final_stats=1`. What the log does not say stays unknown.
    #[must_use]
    pub fn read(log: &str) -> Self {
        let last = |pattern: &str| {
            let pattern = Regex::new(pattern).expect("the pattern is well formed");
            pattern.captures_iter(log).last().and_then(|found| found[1].parse().ok())
        };
        Self {
            executions: last(r"stat::number_of_executed_units:\s*(\d+)"),
            executions_per_s: last(r"stat::average_exec_per_sec:\s*(\d+)"),
            coverage: last(r"\bcov: (\d+)"),
            corpus: last(r"\bcorp: (\d+)"),
            rss_mib_max: last(r"stat::peak_rss_mb:\s*(\d+)"),
            crashes: log.matches("Test unit written to ").count(),
        }
    }
}

/// One target after its run.
struct Run {
    target: Target,
    report: Report,
    passed: bool,
    log: PathBuf,
}

/// Runs one target, or all of them, `jobs` at a time and `seconds` each.
///
/// # Errors
/// When there is no such target, or the targets cannot be built or started.
pub(super) fn run(tree: &Tree, target: &str, seconds: u64, jobs: usize) -> Result<Verdict> {
    let targets = find(tree, target)?;
    if !machine::has_program("g++") {
        machine::install_debian_packages(tree.root(), &["g++"])?;
    }
    println!("building {} fuzz targets", targets.len());
    let packages: BTreeSet<&Path> = targets.iter().map(|target| target.package.as_path()).collect();
    for package in packages {
        process::run(cargo_fuzz(tree, "build")?.args(build_arguments(tree, package)))?;
    }
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    println!("running {seconds} s each, {jobs} at a time: {}", names.join(", "));
    let queue = Mutex::new(VecDeque::from(targets));
    let workers = jobs.max(1);
    let runs: Result<Vec<Vec<Run>>> = std::thread::scope(|scope| {
        let worker = || {
            let mut runs = Vec::new();
            // The lock is released before the target runs, so the others can take the next one.
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(target) = next else { return Ok(runs) };
                runs.push(fuzz(tree, target, seconds)?);
            }
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a worker panicked")))
            .collect()
    });
    let mut runs: Vec<Run> = runs?.into_iter().flatten().collect();
    runs.sort_by(|left, right| left.target.name.cmp(&right.target.name));
    print_table(&runs);
    Ok(if runs.iter().all(|run| run.passed) { Verdict::Passed } else { Verdict::Failed })
}

/// Runs one target. Its output goes to a log, because several run at the same time.
fn fuzz(tree: &Tree, target: Target, seconds: u64) -> Result<Run> {
    let Target { name, package, bounds } = &target;
    let corpus = made(tree.target().join("fuzz-corpus").join(name))?;
    let artifacts = made(tree.target().join("fuzz-artifacts").join(name))?;
    let log = made(tree.target().join("fuzz-logs"))?.join(format!("{name}.log"));
    let output =
        std::fs::File::create(&log).with_context(|| format!("cannot write. file=`{}`", log.display()))?;
    let mut command = cargo_fuzz(tree, "run")?;
    command.args(build_arguments(tree, package)).arg(name).arg(&corpus);
    // libFuzzer writes to the first folder and only reads the others.
    let seeds = tree.root().join(package).join("corpus").join(name);
    if seeds.is_dir() {
        command.arg(&seeds);
    }
    command.args(["--", "-print_final_stats=1"]);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-rss_limit_mb={}", bounds.rss_mib));
    command.arg(format!("-malloc_limit_mb={}", bounds.malloc_mib));
    command.arg(format!("-timeout={}", bounds.seconds));
    if let Some(bytes) = bounds.input_bytes {
        command.arg(format!("-max_len={bytes}"));
    }
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    let options = format!("quarantine_size_mb={QUARANTINE_MIB}:malloc_context_size={CONTEXT_FRAMES}");
    command.env("ASAN_OPTIONS", options);
    command.stdout(output.try_clone().context("cannot share the log")?).stderr(output);
    let passed = command.status().context("cannot start cargo-fuzz")?.success();
    let text = std::fs::read(&log).with_context(|| format!("cannot read. file=`{}`", log.display()))?;
    Ok(Run { target, report: Report::read(&String::from_utf8_lossy(&text)), passed, log })
}

fn cargo_fuzz(tree: &Tree, subcommand: &str) -> Result<std::process::Command> {
    let mut command = Tool::CargoFuzz.command(tree)?;
    // The sanitizer's flags are unstable; this variable lets the stable compiler take them.
    command.arg(subcommand).env("RUSTC_BOOTSTRAP", "1");
    Ok(command)
}

fn build_arguments(tree: &Tree, package: &Path) -> [PathBuf; 4] {
    ["--fuzz-dir".into(), package.into(), "--target-dir".into(), tree.target().join("fuzz")]
}

fn made(folder: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make. folder=`{}`", folder.display()))?;
    Ok(folder)
}

fn print_table(runs: &[Run]) {
    let width = runs.iter().map(|run| run.target.name.len()).chain(["target".len()]).max().unwrap_or(0);
    println!(
        "\n{:<width$}  executions     exec/s  coverage  peak MiB  bound MiB  s/input  corpus  crashes",
        "target"
    );
    for Run { target, report, .. } in runs {
        let cell = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let Report { executions, executions_per_s, coverage, corpus, rss_mib_max, crashes } = report;
        println!(
            "{:<width$}  {:>10}  {:>9}  {:>8}  {:>8}  {:>9}  {:>7}  {:>6}  {crashes:>7}",
            target.name,
            cell(*executions),
            cell(*executions_per_s),
            cell(*coverage),
            cell(*rss_mib_max),
            target.bounds.rss_mib,
            target.bounds.seconds,
            cell(*corpus)
        );
    }
    for run in runs.iter().filter(|run| !run.passed) {
        println!("{} FAILED; its log: {}", run.target.name, run.log.display());
    }
}
