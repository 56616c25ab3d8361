//! `fuzz`: random bytes against the decoders, with limits on time and memory.
//!
//! The seeds in the repository are read and never written: what a run discovers goes to the target folder.
//! The compiler is the stable one, told to allow the sanitizer's flags.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use serde::Deserialize;

use crate::machine;
use crate::process;
use crate::tools::Tool;
use crate::tree::Tree;
use crate::verdict::Verdict;

/// The fuzz targets' own package; it has a lock file of its own.
const FOLDER: &str = "crates/protocol/fuzz";

/// Memory of one target, in MiB, above which it counts as a crash.
const RSS_MIB_MAX: u32 = 2048;

/// One allocation, in MiB, above which a decoder has believed a length it should have checked.
const MALLOC_MIB_MAX: u32 = 512;

#[derive(Deserialize)]
struct Manifest {
    #[serde(default, rename = "bin")]
    bins: Vec<Bin>,
}

#[derive(Deserialize)]
struct Bin {
    name: String,
}

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
    target: String,
    report: Report,
    passed: bool,
    log: PathBuf,
}

/// Runs one target, or all of them, `jobs` at a time and `seconds` each.
///
/// # Errors
/// When there is no such target, or the targets cannot be built or started.
pub fn run(tree: &Tree, target: &str, seconds: u64, jobs: usize) -> Result<Verdict> {
    let targets = targets(tree, target)?;
    if !machine::has_program("g++") {
        machine::install_debian_packages(tree.root(), &["g++"])?;
    }
    println!("building {} fuzz targets", targets.len());
    process::run(cargo_fuzz(tree, "build")?.args(build_arguments(tree)))?;
    println!("running {seconds} s each, {jobs} at a time: {}", targets.join(", "));
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
    runs.sort_by(|left, right| left.target.cmp(&right.target));
    print_table(&runs);
    Ok(if runs.iter().all(|run| run.passed) { Verdict::Passed } else { Verdict::Failed })
}

/// The targets meant by a name of the command line.
fn targets(tree: &Tree, wanted: &str) -> Result<Vec<String>> {
    let path = Path::new(FOLDER).join("Cargo.toml");
    let manifest: Manifest = toml::from_str(&tree.read(&path)?)
        .with_context(|| format!("cannot understand. file=`{}`", path.display()))?;
    let all: Vec<String> = manifest.bins.into_iter().map(|bin| bin.name).collect();
    if wanted == "all" {
        return Ok(all);
    }
    ensure!(
        all.iter().any(|name| name == wanted),
        "no such fuzz target; choose `all` or one of: {}",
        all.join(", ")
    );
    Ok(vec![wanted.to_owned()])
}

/// Runs one target. Its output goes to a log, because several run at the same time.
fn fuzz(tree: &Tree, target: String, seconds: u64) -> Result<Run> {
    let corpus = made(tree.target().join("fuzz-corpus").join(&target))?;
    let artifacts = made(tree.target().join("fuzz-artifacts").join(&target))?;
    let log = made(tree.target().join("fuzz-logs"))?.join(format!("{target}.log"));
    let output =
        std::fs::File::create(&log).with_context(|| format!("cannot write. file=`{}`", log.display()))?;
    let mut command = cargo_fuzz(tree, "run")?;
    command.args(build_arguments(tree)).arg(&target).arg(&corpus);
    // libFuzzer writes to the first folder and only reads the others.
    let seeds = tree.root().join(FOLDER).join("corpus").join(&target);
    if seeds.is_dir() {
        command.arg(&seeds);
    }
    command.args(["--", "-print_final_stats=1"]);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-rss_limit_mb={RSS_MIB_MAX}")).arg(format!("-malloc_limit_mb={MALLOC_MIB_MAX}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
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

fn build_arguments(tree: &Tree) -> [PathBuf; 4] {
    ["--fuzz-dir".into(), FOLDER.into(), "--target-dir".into(), tree.target().join("fuzz")]
}

fn made(folder: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make. folder=`{}`", folder.display()))?;
    Ok(folder)
}

fn print_table(runs: &[Run]) {
    let width = runs.iter().map(|run| run.target.len()).chain(["target".len()]).max().unwrap_or(0);
    println!("\n{:<width$}  executions     exec/s  coverage  peak MiB  corpus  crashes", "target");
    for Run { target, report, .. } in runs {
        let cell = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let Report { executions, executions_per_s, coverage, corpus, rss_mib_max, crashes } = report;
        println!(
            "{target:<width$}  {:>10}  {:>9}  {:>8}  {:>8}  {:>6}  {crashes:>7}",
            cell(*executions),
            cell(*executions_per_s),
            cell(*coverage),
            cell(*rss_mib_max),
            cell(*corpus)
        );
    }
    for run in runs.iter().filter(|run| !run.passed) {
        println!("{} FAILED; its log: {}", run.target, run.log.display());
    }
}
