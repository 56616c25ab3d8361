//! Faults that are planted into a copy of the contracts, one after the other: the stage that is there for one must fail.
//!
//! The copy lies under the target folder and compiles without the IR pipeline and the optimiser, and with warnings allowed. What does not compile counts as not caught, and
//! each stage must pass on the copy without a fault.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::scratch::Scratch;
use super::snapshots::{SCOPE, Snapshots};
use super::{CONTRACTS, Forge, coverage, halmos, slither};
use crate::counted::Counted;
use crate::stage::Outcome;
use crate::tree::Tree;
use crate::{process, python};

/// What is beside the contracts and read by their tests.
const BESIDE: [&str; 2] = ["spec/vectors", "crates/sqlite/src"];
/// What a copy leaves out.
const LEFT_OUT: [&str; 3] = ["out", "cache", "node_modules"];
const SETTINGS: &str = "foundry.toml";
/// What compiles in seconds. With one way to compile there is no need to say which files are compiled in which.
const FASTER: [(&str, &str); 4] = [
    ("\nvia_ir = true", "\nvia_ir = false"),
    ("\nadditional_compiler_profiles =", "\n# additional_compiler_profiles ="),
    ("\ncompilation_restrictions =", "\n# compilation_restrictions ="),
    ("\ndeny = \"warnings\"", "\ndeny = \"never\""),
];
/// The same for tests, which need no optimiser; code is larger without.
const TESTS_FASTER: [(&str, &str); 2] =
    [("FOUNDRY_OPTIMIZER", "false"), ("FOUNDRY_CODE_SIZE_LIMIT", "1000000")];
/// Few runs of an invariant: a fault that only many find is none to plant here.
const INVARIANT_RUNS: (&str, &str) = ("FOUNDRY_INVARIANT_RUNS", "32");

/// Which stage must fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The tests under this pattern.
    Tests(&'static str),
    /// Interfaces and storage.
    Snapshots,
    Slither,
    /// The proofs of this contract.
    Halmos(&'static str),
    Coverage,
}

enum Change {
    /// This text, which is there once, and what it becomes.
    Text(&'static str, &'static str),
    /// The file is not there.
    Removed,
}

struct Fault {
    name: &'static str,
    /// From the folder of the contracts.
    file: &'static str,
    change: Change,
    stage: Stage,
}

const BRIDGE: &str = "src/Bridge.sol";
const KEYS: &str = "src/attestation/TeeKeyManager.sol";
const PLACE: &str = "src/libraries/SignedPlace.sol";

const UNIT: Stage = Stage::Tests("test/unit/*");
const ATTACKS: Stage = Stage::Tests("test/attacks/*");
const COUNT: Stage = Stage::Tests("test/invariants/CountIsTrue.t.sol");
const CUSTODY: Stage = Stage::Tests("test/invariants/CustodyIsCovered.t.sol");

/// Those of one stage together, so that each copy is near the one before.
const FAULTS: [Fault; 14] = [
    Fault {
        name: "an expired message is executed",
        file: BRIDGE,
        change: Change::Text(
            "if (block.timestamp > message.deadline)",
            "if (block.timestamp > uint256(message.deadline) + 1 days)",
        ),
        stage: UNIT,
    },
    Fault {
        name: "a number is read in a longer form",
        file: PLACE,
        change: Change::Text("if (value < shortest) revert Malformed(4 + offset);", "shortest;"),
        stage: UNIT,
    },
    Fault {
        name: "a denied target is called",
        file: BRIDGE,
        change: Change::Text(
            "if (isTooLarge || isTargetDenied(message.target)) return",
            "if (isTooLarge) return",
        ),
        stage: ATTACKS,
    },
    Fault {
        name: "one validator is a quorum",
        file: KEYS,
        change: Change::Text("if (signer <= previous)", "if (signer < previous)"),
        stage: ATTACKS,
    },
    Fault {
        name: "a key leaves the count twice",
        file: KEYS,
        change: Change::Text("if (!isImageRemoved(known.image)) _validators--;", "_validators--;"),
        stage: COUNT,
    },
    Fault {
        name: "what leaves is not debited",
        file: BRIDGE,
        change: Change::Text("        _debit(token, took);", ""),
        stage: CUSTODY,
    },
    Fault {
        name: "a getter is gone",
        file: BRIDGE,
        change: Change::Text("uint64 public constant PAUSE_MAX", "uint64 internal constant PAUSE_MAX"),
        stage: Stage::Snapshots,
    },
    Fault {
        name: "two variables change places",
        file: KEYS,
        change: Change::Text(
            "uint24 private _threshold;\n    uint24 private _validators;",
            "uint24 private _validators;\n    uint24 private _threshold;",
        ),
        stage: Stage::Snapshots,
    },
    Fault {
        name: "whoever began the transaction counts as the caller",
        file: "src/examples/PriceOracle.sol",
        change: Change::Text("if (msg.sender != EXECUTOR)", "if (tx.origin != EXECUTOR)"),
        stage: Stage::Slither,
    },
    Fault {
        name: "a transfer that failed counts as done",
        file: BRIDGE,
        change: Change::Text(
            "if (!IERC20(token).trySafeTransfer(to, amount)) revert TransferFailed(token, to, amount);",
            "IERC20(token).trySafeTransfer(to, amount);",
        ),
        stage: Stage::Slither,
    },
    Fault {
        name: "the threshold is not asserted when it is read",
        file: KEYS,
        change: Change::Text(
            "        threshold = _threshold;\n        _requireThreshold(threshold);",
            "        threshold = _threshold;",
        ),
        stage: Stage::Halmos("QuorumProof"),
    },
    Fault {
        name: "a key that ended is registered again",
        file: KEYS,
        change: Change::Text("if (_keys[key].state != KeyState.Unknown) revert KeyKnown(key);", ""),
        stage: Stage::Halmos("KeysProof"),
    },
    Fault {
        name: "a message that is done is done again",
        file: BRIDGE,
        change: Change::Text(
            "else if (state != State.NotStarted && state != State.PreExecution) revert StateUnfit(message.nonce, state);",
            "",
        ),
        stage: Stage::Halmos("MessagesProof"),
    },
    Fault {
        name: "reports of equivocation have no tests",
        file: "test/unit/Equivocation.t.sol",
        change: Change::Removed,
        stage: Stage::Coverage,
    },
];

/// Plants all faults.
pub(super) fn run(tree: &Tree, forge: &Forge, run: &mut Counted) {
    let mut copy = None;
    run.stage("contracts copy", "where faults are planted", |_| {
        copy = Some(Copy::new(tree, forge)?);
        Ok(Outcome::Passed)
    });
    let Some(copy) = copy else { return };
    let mut sound = Vec::new();
    for fault in &FAULTS {
        if !sound.contains(&fault.stage) {
            sound.push(fault.stage);
            run.stage(&format!("nothing planted, {:?}", fault.stage), "must pass", |_| {
                copy.restore()?;
                copy.judge(fault.stage)
            });
        }
        run.stage(&format!("planted: {}", fault.name), &format!("{:?} must fail", fault.stage), |_| {
            copy.restore()?;
            copy.plant(fault)?;
            let outcome = copy.judge(fault.stage)?;
            Ok(match outcome {
                Outcome::Failed => Outcome::Passed,
                Outcome::Passed | Outcome::Skipped(_) => {
                    println!("NOT CAUGHT: {}", fault.name);
                    Outcome::Failed
                }
            })
        });
    }
}

struct Copy<'a> {
    home: &'a Tree,
    tree: Tree,
    forge: Forge,
}

impl<'a> Copy<'a> {
    fn new(home: &'a Tree, forge: &Forge) -> Result<Self> {
        let tree = Tree::at(&home.target().join("planted"));
        if tree.root().exists() {
            fs::remove_dir_all(tree.root()).context("cannot remove the copy of an earlier run")?;
        }
        for beside in BESIDE {
            copy(&home.root().join(beside), &tree.root().join(beside))?;
        }
        let folder = tree.root().join(CONTRACTS);
        fs::create_dir_all(&folder).context("cannot make the folder of the copy")?;
        std::os::unix::fs::symlink(forge.folder.join("node_modules"), folder.join("node_modules"))
            .context("cannot link the libraries")?;
        let forge = Forge { folder, program: forge.program.clone(), path: forge.path.clone() };
        Ok(Self { home, tree, forge })
    }

    /// Makes the copy what the contracts are, with settings that compile faster.
    fn restore(&self) -> Result<()> {
        copy(&self.home.root().join(CONTRACTS), &self.forge.folder)?;
        for (before, after) in FASTER {
            self.change(SETTINGS, before, after)?;
        }
        Ok(())
    }

    fn plant(&self, fault: &Fault) -> Result<()> {
        match fault.change {
            Change::Text(before, after) => self.change(fault.file, before, after),
            Change::Removed => fs::remove_file(self.forge.folder.join(fault.file))
                .with_context(|| format!("cannot remove. file=`{}`", fault.file)),
        }
    }

    fn change(&self, file: &str, before: &str, after: &str) -> Result<()> {
        let path = self.forge.folder.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read. file=`{file}`"))?;
        let times = text.matches(before).count();
        ensure!(times == 1, "the text is there {times} times. file=`{file}` text=`{before}`");
        fs::write(&path, text.replace(before, after)).with_context(|| format!("cannot write. file=`{file}`"))
    }

    /// An error, not an outcome: what does not compile is caught by nobody. Analyses compile for themselves, and say the same.
    fn build(&self) -> Result<()> {
        process::run(&mut self.forge_with(&["build"])).context("the fault does not compile")
    }

    fn judge(&self, stage: Stage) -> Result<Outcome> {
        match stage {
            Stage::Tests(pattern) => {
                self.build()?;
                let mut test = self.forge_with(&["test", "--match-path", pattern]);
                let status = test.status().context("cannot start forge")?;
                Ok(if status.success() { Outcome::Passed } else { Outcome::Failed })
            }
            Stage::Snapshots => {
                self.build()?;
                // Code is another one without the IR pipeline.
                let mut problems = Snapshots::of_artifacts(&self.tree)?.problems(&self.tree)?;
                problems.retain(|problem| !problem.contains(SCOPE));
                Ok(Outcome::of_problems(&problems))
            }
            Stage::Slither => {
                let python =
                    python::environment(self.home, slither::ENVIRONMENT, slither::REQUIREMENTS.as_ref())?;
                slither::run(&self.tree, &self.forge, &python, &Scratch::new(&self.tree, "slither")?)
            }
            Stage::Halmos(contract) => {
                let python =
                    python::environment(self.home, halmos::ENVIRONMENT, halmos::REQUIREMENTS.as_ref())?;
                halmos::run(
                    &self.tree,
                    &self.forge,
                    &python,
                    &Scratch::new(&self.tree, "halmos")?,
                    Some(contract),
                )
            }
            Stage::Coverage => coverage::run(&self.forge, &Scratch::new(&self.tree, "coverage")?),
        }
    }

    fn forge_with(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.forge.command(arguments);
        command.envs(TESTS_FASTER).env(INVARIANT_RUNS.0, INVARIANT_RUNS.1);
        command
    }
}

/// Copies a folder over another one, and removes there what is not here.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot copy. from=`{}` to=`{}`", from.display(), to.display());
    fs::create_dir_all(to).with_context(failed)?;
    for entry in fs::read_dir(to).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let (name, is_folder) = (entry.file_name(), entry.file_type().with_context(failed)?.is_dir());
        let is_kept = LEFT_OUT.iter().any(|left| name == *left) || from.join(&name).exists();
        if !is_kept && is_folder {
            fs::remove_dir_all(entry.path()).with_context(failed)?;
        } else if !is_kept {
            fs::remove_file(entry.path()).with_context(failed)?;
        }
    }
    for entry in fs::read_dir(from).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let (name, kind) = (entry.file_name(), entry.file_type().with_context(failed)?);
        if LEFT_OUT.iter().any(|left| name == *left) {
            continue;
        }
        if kind.is_dir() {
            copy(&entry.path(), &to.join(name))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(name)).with_context(failed)?;
        } else {
            bail!("is neither a file nor a folder. path=`{}`", entry.path().display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_can_be_planted_and_every_stage_has_one() {
        let tree = Tree::here();
        for fault in &FAULTS {
            let text = tree.read(Path::new(CONTRACTS).join(fault.file)).unwrap();
            if let Change::Text(before, after) = fault.change {
                assert_eq!(text.matches(before).count(), 1, "{}: {before}", fault.name);
                assert_ne!(before, after);
            }
        }
        let settings = tree.read(Path::new(CONTRACTS).join(SETTINGS)).unwrap();
        for (before, _) in FASTER {
            assert_eq!(settings.matches(before).count(), 1, "{before}");
        }
        for stage in [UNIT, ATTACKS, COUNT, CUSTODY, Stage::Snapshots, Stage::Slither, Stage::Coverage] {
            assert!(FAULTS.iter().any(|fault| fault.stage == stage), "{stage:?}");
        }
        assert!(FAULTS.iter().any(|fault| matches!(fault.stage, Stage::Halmos(_))));
    }

    #[test]
    fn a_copy_is_the_same_whatever_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("src")).unwrap();
        fs::create_dir_all(from.join("out")).unwrap();
        fs::write(from.join("src/A.sol"), "a").unwrap();
        fs::create_dir_all(to.join("src/old")).unwrap();
        fs::create_dir_all(to.join("cache")).unwrap();
        fs::write(to.join("src/A.sol"), "planted").unwrap();
        fs::write(to.join("src/B.sol"), "left over").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("src/A.sol")).unwrap(), "a");
        assert!(!to.join("src/B.sol").exists() && !to.join("src/old").exists() && !to.join("out").exists());
        assert!(to.join("cache").exists());
    }
}
