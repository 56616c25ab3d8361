//! Which branches of the capture a hunt took, and which never: what no hunt reaches is either dead or not thought of.
//!
//! ```text
//! build, instrumented -> hunt; every process writes a profile -> merge as processes end -> llvm-cov, as JSON -> a table and a list
//! ```
//!
//! A hunt starts thousands of processes and kills some of them: profiles are merged while it runs, and a torn one counts for nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::Message;
use serde::Deserialize;

use super::capture::{Hunt, PROGRAM, TEST, watch};
use crate::process;
use crate::python::Pythons;
use crate::tree::Tree;
use crate::verdict::Verdict;

/// What is looked at: everything that decides where capture begins, what a commit did, and when the WAL may begin anew. What is left out
/// decides nothing of it: `files.rs` reads bytes of files, `wake.rs` waits for commits, `out.rs` cuts pieces, `mod.rs` says what there is;
/// and the recorder, which is no part of the follower.
const SOURCES: [&str; 13] = [
    "capture/attach.rs",
    "capture/database.rs",
    "capture/follower.rs",
    "capture/frames.rs",
    "capture/hold.rs",
    "capture/map.rs",
    "capture/marks.rs",
    "capture/recycle.rs",
    "capture/rows.rs",
    "capture/table.rs",
    "capture/tree.rs",
    "capture/view.rs",
    "schema/change.rs",
];

/// The crate, where cargo would run its tests.
const CRATE: &str = "crates/sqlite";
/// Where the sources are.
const SOURCE_FOLDER: &str = "crates/sqlite/src";
/// How often profiles of processes that have ended are merged.
const MERGE_EVERY: Duration = Duration::from_secs(5);
/// Most profiles merged at once: a command line has an end.
const MERGED_MAX: usize = 256;

/// Hunts, and prints what was reached.
///
/// # Errors
/// When the tools are missing, or the test cannot be built or started.
pub(super) fn run(tree: &Tree, hunt: &Hunt) -> Result<Verdict> {
    let tools = Tools::find(tree)?;
    let pythons = Pythons::provide(tree)?;
    let profiles = tree.scratch("coverage-profiles")?;
    let executable = build(tree, &tools)?;
    // The very program that was built: by now the sources may be others.
    let mut test = process::command(&executable, &tree.root().join(CRATE));
    test.args(TEST).env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"));
    hunt.tell(tree, &pythons, &mut test);
    let merger = Merger { tools: &tools, folder: &profiles };
    // Nothing is ever sent: that one end is gone is the message.
    let (stop, stopped) = sync_channel::<()>(0);
    let merges = &merger;
    let verdict = std::thread::scope(|scope| {
        let merging = scope.spawn(move || merges.until(&stopped));
        let verdict = watch(&mut test);
        drop(stop);
        let merged = merging.join().unwrap_or_else(|_| bail!("the merging of profiles panicked"));
        verdict.and_then(|verdict| merged.map(|()| verdict))
    })?;
    merger.merge(|_| true)?;
    print(&reached(tree, &tools, &executable, &merger.merged())?);
    Ok(verdict)
}

/// LLVM's tools, of the version that the compiler was made with.
struct Tools {
    folder: PathBuf,
    host: String,
}

impl Tools {
    fn find(tree: &Tree) -> Result<Self> {
        let rustc = |argument: &[&str]| process::read(process::command("rustc", tree.root()).args(argument));
        let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?.trim());
        let version = rustc(&["--version", "--verbose"])?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("rustc does not say which host it runs on")?.to_owned();
        let folder = sysroot.join("lib/rustlib").join(&host).join("bin");
        let tools = Self { folder, host };
        if !tools.are_there() {
            process::run(process::command("rustup", tree.root()).args(["component", "add", "llvm-tools"]))
                .context("branch coverage needs the component llvm-tools of this toolchain")?;
        }
        ensure!(
            tools.are_there(),
            "llvm-cov and llvm-profdata are missing; run `rustup component add llvm-tools`. folder=`{}`",
            tools.folder.display()
        );
        Ok(tools)
    }

    fn are_there(&self) -> bool {
        ["llvm-cov", "llvm-profdata"].iter().all(|name| self.folder.join(name).is_file())
    }

    fn command(&self, name: &str, folder: &Path) -> Command {
        process::command(self.folder.join(name), folder)
    }
}

/// Builds the test, instrumented, and says where it is.
fn build(tree: &Tree, tools: &Tools) -> Result<PathBuf> {
    println!("building the test, instrumented");
    let mut cargo = process::cargo(tree);
    // With a target named, build scripts and macros are not instrumented: they would write profiles into the tree.
    cargo.args(["test", "--no-run", "--message-format", "json-render-diagnostics", "--target", &tools.host]);
    cargo.args(PROGRAM).env("CARGO_TARGET_DIR", tree.target().join("coverage"));
    // Branches are counted by an unstable option; this variable lets the stable compiler take it.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-C instrument-coverage -Z coverage-options=branch");
    let messages = process::read(&mut cargo)?;
    let built = Message::parse_stream(messages.as_bytes()).filter_map(|message| match message {
        Ok(Message::CompilerArtifact(artifact)) => artifact.executable,
        _ => None,
    });
    built.last().map(Into::into).context("cargo does not say where the test is")
}

/// Merges profiles while processes still write others.
struct Merger<'m> {
    tools: &'m Tools,
    folder: &'m Path,
}

impl Merger<'_> {
    fn merged(&self) -> PathBuf {
        self.folder.join("merged.profdata")
    }

    /// Merges until the other end of the channel is gone.
    fn until(&self, stopped: &Receiver<()>) -> Result<()> {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(MERGE_EVERY) {
            // A profile is whole when the process that wrote it has ended.
            self.merge(|process| !Path::new("/proc").join(process).exists())?;
        }
        Ok(())
    }

    /// Merges the profiles of the processes that are `done`, and removes them.
    fn merge(&self, done: impl Fn(&str) -> bool) -> Result<()> {
        let mut profiles = Vec::new();
        for entry in fs::read_dir(self.folder).context("cannot read the folder of profiles")? {
            let path = entry.context("cannot read the folder of profiles")?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let process = name.strip_suffix(".profraw").and_then(|name| name.split('-').next());
            if process.is_some_and(&done) {
                profiles.push(path);
            }
        }
        for run in profiles.chunks(MERGED_MAX) {
            let (merged, next) = (self.merged(), self.folder.join("next.profdata"));
            let mut merge = self.tools.command("llvm-profdata", self.folder);
            // A process that was killed while it wrote leaves half a profile.
            merge.args(["merge", "--sparse", "--failure-mode=warn", "--output"]).arg(&next);
            merge.args(run).args(merged.is_file().then_some(&merged));
            process::run(&mut merge)?;
            fs::rename(&next, &merged).context("cannot keep the merged profile")?;
            for profile in run {
                fs::remove_file(profile).context("cannot remove a merged profile")?;
            }
        }
        Ok(())
    }
}

/// What `llvm-cov export` says.
#[derive(Deserialize)]
struct Export {
    data: Vec<Data>,
}

#[derive(Deserialize)]
struct Data {
    files: Vec<FileData>,
}

#[derive(Deserialize)]
struct FileData {
    filename: PathBuf,
    summary: Summary,
    /// Line, column, last line, last column, how often true, how often false, and three more numbers.
    branches: Vec<Vec<u64>>,
}

#[derive(Deserialize)]
struct Summary {
    lines: Lines,
}

#[derive(Deserialize)]
struct Lines {
    count: u64,
    covered: u64,
}

/// How far one source file was reached.
#[derive(Debug, PartialEq, Eq)]
struct Reached {
    name: String,
    lines: u64,
    lines_run: u64,
    /// By line and column: how often the condition was true, and how often false.
    branches: BTreeMap<(u64, u64), [u64; 2]>,
}

impl Reached {
    /// Each branch that was never taken, by line and column, and which way.
    fn never(&self) -> impl Iterator<Item = (u64, u64, bool)> {
        self.branches.iter().flat_map(|((line, column), ways)| {
            [true, false]
                .into_iter()
                .zip(ways)
                .filter(|(_, count)| **count == 0)
                .map(|(way, _)| (*line, *column, way))
        })
    }
}

fn reached(tree: &Tree, tools: &Tools, executable: &Path, merged: &Path) -> Result<Vec<Reached>> {
    ensure!(merged.is_file(), "no process wrote a profile; was any test run?");
    let mut export = tools.command("llvm-cov", tree.root());
    export.args(["export", "--format=text", "--instr-profile"]).arg(merged).arg(executable);
    export.args(SOURCES.map(|source| tree.root().join(SOURCE_FOLDER).join(source)));
    let mut files = read(&process::read(&mut export)?)?;
    for file in &mut files {
        let text = tree.read(Path::new(SOURCE_FOLDER).join(&file.name))?;
        file.branches.retain(|place, _| !is_planted(&text, *place));
    }
    Ok(files)
}

/// Whether the condition at a place is one that only a test of the tests makes true.
fn is_planted(text: &str, (line, column): (u64, u64)) -> bool {
    let at = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
    let found = text.lines().nth(at(line)).and_then(|line| line.get(at(column)..));
    found.is_some_and(|found| found.trim_start_matches('!').starts_with("planted("))
}

/// Reads an export. Code that is compiled for several types has its branches several times; they count together.
fn read(export: &str) -> Result<Vec<Reached>> {
    let export: Export = serde_json::from_str(export).context("cannot understand what llvm-cov says")?;
    let files = export.data.into_iter().flat_map(|data| data.files);
    let mut all = Vec::new();
    for FileData { filename, summary, branches } in files {
        let mut ways: BTreeMap<(u64, u64), [u64; 2]> = BTreeMap::new();
        for branch in branches {
            let [line, column, _, _, yes, no, ..] = branch[..] else {
                bail!("llvm-cov describes a branch otherwise")
            };
            let place = ways.entry((line, column)).or_default();
            place[0] = place[0].saturating_add(yes);
            place[1] = place[1].saturating_add(no);
        }
        let name = filename.to_string_lossy();
        let name = name.rsplit_once("/src/").map_or(&*name, |(_, name)| name).to_owned();
        let Lines { count: lines, covered: lines_run } = summary.lines;
        all.push(Reached { name, lines, lines_run, branches: ways });
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

fn print(files: &[Reached]) {
    let width = files.iter().map(|file| file.name.len()).max().unwrap_or(0);
    println!("\n{:<width$}  lines %  branches taken", "file");
    let (mut taken_all, mut count_all) = (0, 0);
    for file in files {
        let percent = (file.lines_run * 1000).checked_div(file.lines).unwrap_or(1000);
        let count = 2 * file.branches.len();
        let taken = count - file.never().count();
        println!("{:<width$}  {:>5}.{}  {taken:>8}/{count}", file.name, percent / 10, percent % 10);
        (taken_all, count_all) = (taken_all + taken, count_all + count);
    }
    println!("{:<width$}           {taken_all:>8}/{count_all}", "together");
    println!("\nbranches never taken:");
    for file in files {
        for (line, column, way) in file.never() {
            println!("{SOURCE_FOLDER}/{}:{line}:{column} never {way}", file.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_of_one_place_count_together() {
        let export = r#"{"data": [{"files": [{"filename": "/w/crates/sqlite/src/capture/map.rs",
            "summary": {"lines": {"count": 10, "covered": 9, "percent": 90}, "functions": {}},
            "branches": [[3, 8, 3, 20, 5, 0, 0, 0, 4], [3, 8, 3, 20, 0, 0, 0, 0, 4], [7, 1, 7, 9, 0, 2, 0, 0, 4]]}]}],
            "type": "llvm.coverage.json.export", "version": "3.0.1"}"#;
        let files = read(export).expect("it is what llvm-cov writes");
        assert_eq!(files.len(), 1);
        assert_eq!((files[0].name.as_str(), files[0].lines, files[0].lines_run), ("capture/map.rs", 10, 9));
        assert_eq!(files[0].never().collect::<Vec<_>>(), [(3, 8, false), (7, 1, true)]);
    }

    /// They are only names here: whoever moves a file learns of it from this test.
    #[test]
    fn the_sources_that_are_named_are_there() {
        let tree = Tree::here();
        let missing = SOURCES.iter().filter(|source| !tree.has(Path::new(SOURCE_FOLDER).join(source)));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&&str>::new());
    }

    #[test]
    fn planted_faults_are_no_branches() {
        let text = "if a\n    && !planted(Bug::B) {";
        assert!(is_planted(text, (2, 8)) && is_planted(text, (2, 9)));
        assert!(!is_planted(text, (1, 4)) && !is_planted(text, (9, 9)));
    }

    #[test]
    fn another_form_is_an_error() {
        assert!(read("{}").is_err());
    }
}
