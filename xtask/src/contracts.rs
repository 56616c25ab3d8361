//! `contracts`: the Solidity of `contracts/`: its toolchain from npm, format, build, tests, invariants, digests as the protocol has them, and the snapshots of gas, interfaces and storage.
//!
//! Everything that runs is what `contracts/package-lock.json` names; forge downloads nothing. Knows nothing about what a contract does.

mod deployment;
mod digests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process;
use crate::runtimes::{self, Node};
use crate::stage::{Outcome, Stages};
use crate::tree::Tree;
use crate::verdict::Verdict;

const CONTRACTS: &str = "contracts";
const LOCK: &str = "contracts/package-lock.json";

/// What was installed: a copy of the lock file, inside the folder that is installed.
const INSTALLED: &str = "contracts/node_modules/.installed.json";

/// Where contracts are whose interface and storage are kept as snapshots.
const SOURCES: [&str; 5] = ["src", "src/attestation", "src/modules", "src/examples", "src/interfaces"];

/// Prints which snapshots to write, when they differ.
const FIX: &str = "`cargo xtask contracts --write` writes it anew";

/// Checks and tests the contracts; with `write` it writes the snapshots instead of comparing them.
///
/// # Errors
/// Never because of what a stage finds; that is the verdict.
pub fn run(tree: &Tree, write: bool) -> Result<Verdict> {
    let mut stages = Stages::default();
    let mut forge = None;
    stages.run("contracts toolchain", "forge, solc and libraries, as the lock file names them", || {
        forge = Some(Forge::provide(tree)?);
        Ok(Outcome::Passed)
    });
    let Some(forge) = forge else { return Ok(stages.finish()) };
    stages.run("contracts format", "forge fmt --check; `forge fmt` puts it right", || {
        forge.judge(&["fmt", "--check"], &[])
    });
    let built =
        stages.run("contracts build", "forge build, warnings denied", || forge.judge(&["build"], &[]));
    if built != Outcome::Passed {
        return Ok(stages.finish());
    }
    stages.run("contracts interfaces and storage", "what others call and what lies in which slot", || {
        let generated = interfaces_and_storage(tree)?;
        if write {
            generated.write(tree)?;
            return Ok(Outcome::Passed);
        }
        Ok(Outcome::of_problems(&generated.problems(tree)?))
    });
    let not = "test/{invariants,gas,digests}/*";
    stages.run("contracts tests", "unit, fuzz and attacks", || {
        forge.judge(&["test", "--no-match-path", not], &[])
    });
    stages.run("contracts invariants", "one sentence per file, under any order of calls", || {
        forge.judge(&["test", "--match-path", "test/invariants/*"], &[])
    });
    stages.run("contracts digests", "random messages: Rust, the contracts and viem agree", || {
        digests::compare(tree, &forge)
    });
    let check = if write { "false" } else { "true" };
    let what = format!("whole transactions, each slot cold; where a figure differs, {FIX}");
    stages.run("contracts gas", &what, || {
        forge.judge(&["test", "--isolate", "--match-path", "test/gas/*"], &[("FORGE_SNAPSHOT_CHECK", check)])
    });
    stages.run(
        "contracts deployment",
        "both scripts on a chain of this machine, and what was changed is found",
        || deployment::try_both(tree, &forge),
    );
    Ok(stages.finish())
}

/// The installed forge.
struct Forge {
    folder: PathBuf,
    program: PathBuf,
    /// The search path, with the Node.js that forge and solc are started by at its head.
    path: std::ffi::OsString,
}

impl Forge {
    /// Installs what the lock file names, unless that is what is installed.
    fn provide(tree: &Tree) -> Result<Self> {
        let folder = tree.root().join(CONTRACTS);
        let Node { node, npm } = runtimes::node(tree)?;
        let beside = node.parent().context("the program of Node.js lies in no folder")?.to_owned();
        let before = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(beside).chain(std::env::split_paths(&before)))?;
        let wanted = tree.read(LOCK)?;
        let known = program(&folder, "forge")
            .filter(|_| tree.read(INSTALLED).is_ok_and(|installed| installed == wanted));
        if let Some(program) = known {
            println!("installed as {LOCK} says");
            return Self { program, folder, path }.that_fails();
        }
        println!("npm ci, because node_modules is not what {LOCK} says");
        let mut install = process::command(npm, &folder);
        // Programs come as packages of their platform, so none needs a script to be installed.
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]);
        process::run(install.env("PATH", &path))?;
        let program = program(&folder, "forge")
            .with_context(|| format!("npm installed no forge. folder=`{}`", folder.display()))?;
        // Written last, so an interrupted installation is made again.
        fs::write(tree.root().join(INSTALLED), wanted).context("cannot write what was installed")?;
        Self { program, folder, path }.that_fails()
    }

    /// The same, once it has shown that it does not end with 0 whatever happens: every stage is judged by that.
    fn that_fails(self) -> Result<Self> {
        let mut wrong = process::command(&self.program, &self.folder);
        let ended = wrong.arg("no-such-command").output().context("cannot start forge")?.status;
        ensure!(!ended.success(), "forge ends with 0 where it fails. program=`{}`", self.program.display());
        Ok(self)
    }

    /// Another program of the same installation.
    fn other(&self, name: &str) -> Result<PathBuf> {
        program(&self.folder, name)
            .with_context(|| format!("npm installed no {name}. folder=`{}`", self.folder.display()))
    }

    fn judge(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Outcome> {
        let mut command: Command = process::command(&self.program, &self.folder);
        command.args(arguments).env("PATH", &self.path).envs(environment.iter().copied());
        println!("{}", process::typed(&command));
        process::run(&mut command)?;
        Ok(Outcome::Passed)
    }
}

/// The program that the package of this platform holds. What npm puts under `.bin` is a script that starts it and ends with 0 whatever it says.
fn program(folder: &Path, name: &str) -> Option<PathBuf> {
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let packages = fs::read_dir(folder.join("node_modules/@foundry-rs")).ok()?;
    packages.flatten().map(|package| package.path().join("bin").join(&name)).find(|program| program.is_file())
}

/// Files that follow from what was compiled, by their names from the root.
struct Snapshots(BTreeMap<PathBuf, String>);

impl Snapshots {
    fn folder() -> [PathBuf; 2] {
        ["abi", "storage"].map(|name| Path::new(CONTRACTS).join("snapshots").join(name))
    }

    fn write(&self, tree: &Tree) -> Result<()> {
        for folder in Self::folder() {
            let folder = tree.root().join(folder);
            if folder.exists() {
                fs::remove_dir_all(&folder)
                    .with_context(|| format!("cannot remove. folder=`{}`", folder.display()))?;
            }
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make. folder=`{}`", folder.display()))?;
        }
        for (file, text) in &self.0 {
            fs::write(tree.root().join(file), text)
                .with_context(|| format!("cannot write. file=`{}`", file.display()))?;
        }
        println!("wrote {} snapshots", self.0.len());
        Ok(())
    }

    fn problems(&self, tree: &Tree) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        for (file, text) in &self.0 {
            if tree.read(file).ok().as_ref() != Some(text) {
                problems.push(format!("{}: is not what was compiled; {FIX}", file.display()));
            }
        }
        for folder in Self::folder() {
            let present = tree.root().join(&folder);
            if !present.exists() {
                continue;
            }
            for entry in fs::read_dir(&present)? {
                let file = folder.join(entry?.file_name());
                if !self.0.contains_key(&file) {
                    problems.push(format!("{}: is of no contract; {FIX}", file.display()));
                }
            }
        }
        Ok(problems)
    }
}

fn interfaces_and_storage(tree: &Tree) -> Result<Snapshots> {
    let mut files = BTreeMap::new();
    for source in SOURCES {
        let folder = tree.root().join(CONTRACTS).join(source);
        for entry in
            fs::read_dir(&folder).with_context(|| format!("cannot list. folder=`{}`", folder.display()))?
        {
            let path = entry?.path();
            let (Some(name), true) = (
                path.file_stem().and_then(|stem| stem.to_str()),
                path.extension().is_some_and(|end| end == "sol"),
            ) else {
                continue;
            };
            let artifact = format!("{CONTRACTS}/out/{name}.sol/{name}.json");
            let artifact: Value = serde_json::from_str(&tree.read(&artifact)?)
                .with_context(|| format!("is no JSON. file=`{artifact}`"))?;
            let [abi, storage] = Snapshots::folder().map(|folder| folder.join(format!("{name}.json")));
            files.insert(abi, pretty(artifact.get("abi").context("an artifact has no abi")?)?);
            let layout = storage_of(&artifact)?;
            if layout.as_array().is_some_and(|slots| !slots.is_empty()) {
                files.insert(storage, pretty(&layout)?);
            }
        }
    }
    Ok(Snapshots(files))
}

/// Which variable lies where. The compiler's names of types hold numbers that change with any file, so their labels are taken.
fn storage_of(artifact: &Value) -> Result<Value> {
    let Some(layout) = artifact.get("storageLayout") else { return Ok(Value::Array(Vec::new())) };
    let slots = layout.get("storage").and_then(Value::as_array).context("a storage layout has no list")?;
    let slots = slots.iter().map(|slot| {
        let kind = slot.get("type").and_then(Value::as_str).context("a slot has no type")?;
        let label = layout.pointer(&format!("/types/{}/label", kind.replace('~', "~0").replace('/', "~1")));
        let field = |name: &str| slot.get(name).cloned().unwrap_or_default();
        Ok(serde_json::json!({
            "label": field("label"), "slot": field("slot"), "offset": field("offset"),
            "type": label.cloned().unwrap_or_default(),
        }))
    });
    slots.collect::<Result<Vec<_>>>().map(Value::Array)
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(tree: &Tree) -> Snapshots {
        let file = Snapshots::folder()[0].join("Bridge.json");
        let snapshots = Snapshots([(file, "[]\n".to_owned())].into());
        snapshots.write(tree).unwrap();
        snapshots
    }

    #[test]
    fn a_snapshot_that_differs_is_missing_or_is_left_over_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::at(folder.path());
        let snapshots = generated(&tree);
        assert_eq!(snapshots.problems(&tree).unwrap(), Vec::<String>::new());
        let [abi, storage] = Snapshots::folder().map(|name| folder.path().join(name));
        fs::write(abi.join("Bridge.json"), "[1]\n").unwrap();
        fs::write(storage.join("Gone.json"), "[]\n").unwrap();
        assert_eq!(snapshots.problems(&tree).unwrap().len(), 2);
        fs::remove_file(abi.join("Bridge.json")).unwrap();
        assert_eq!(snapshots.problems(&tree).unwrap().len(), 2);
    }

    #[test]
    fn forge_is_the_program_of_a_platform_and_never_the_script_that_starts_it() {
        let folder = tempfile::tempdir().unwrap();
        let installed = folder.path().join("node_modules");
        assert_eq!(program(folder.path(), "forge"), None);
        let name = format!("forge{}", std::env::consts::EXE_SUFFIX);
        for place in [".bin", "@foundry-rs/forge", "@foundry-rs/anvil-linux-amd64/bin"] {
            fs::create_dir_all(installed.join(place)).unwrap();
        }
        fs::write(installed.join(".bin").join(&name), "").unwrap();
        assert_eq!(program(folder.path(), "forge"), None);
        let real = installed.join("@foundry-rs/forge-linux-amd64/bin");
        fs::create_dir_all(&real).unwrap();
        fs::write(real.join(&name), "").unwrap();
        assert_eq!(program(folder.path(), "forge"), Some(real.join(&name)));
    }

    #[test]
    fn a_storage_layout_has_labels_of_types_and_no_numbers_of_the_compiler() {
        let artifact = serde_json::json!({"storageLayout": {
            "storage": [{"astId": 7, "label": "_keys", "slot": "2", "offset": 0, "type": "t_mapping(t_address,t_struct(Key)77_storage)"}],
            "types": {"t_mapping(t_address,t_struct(Key)77_storage)": {"label": "mapping(address => struct Key)"}},
        }});
        let expected = serde_json::json!([{"label": "_keys", "slot": "2", "offset": 0, "type": "mapping(address => struct Key)"}]);
        assert_eq!(storage_of(&artifact).unwrap(), expected);
    }
}
