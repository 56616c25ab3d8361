//! Deployments: both scripts on real chains of this machine, and that the check of a deployment finds what was changed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{CONTRACTS, Forge};
use crate::process;
use crate::stage::Outcome;
use crate::tree::Tree;

/// Where records are written here: beside what is built, so that none is taken for one of a real chain.
const RECORDS: &str = "out/deployments";

/// The one chain that the script for development deploys on, and another one.
const LOCAL: u64 = 31_337;
const OTHER: u64 = 31_338;

/// The first account of every anvil, which has money: its secret is in anvil's documentation.
const SECRET: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// What makes a script send its transactions.
const DEPLOY: [&str; 3] = ["--broadcast", "--private-key", SECRET];

/// A configuration that is deployed as it is, so that who copies it begins with one that works.
const EXAMPLE: &str = "deploy.example.json";

/// The stream of the script for development; the example names its own.
const STREAM: &str = "0x00000000000000000000000000000000000000000000000000000000000000dd";

/// Deploys in both ways and has each checked; then changes what was deployed, and wants each change found.
pub(super) fn try_both(tree: &Tree, forge: &Forge) -> Result<Outcome> {
    let records = tree.root().join(CONTRACTS).join(RECORDS);
    if records.exists() {
        std::fs::remove_dir_all(&records)?;
    }
    std::fs::create_dir_all(&records)?;

    let local = Chain::start(forge, LOCAL, STREAM, None)?;
    local.script("DeployLocal", &DEPLOY)?;
    local.script("Check", &[])?;
    println!("deployed for development, and checked");

    let example = tree.read(format!("{CONTRACTS}/{EXAMPLE}"))?;
    let configuration: Value = serde_json::from_str(&example)?;
    let stream = text(&configuration, "/stream")?;
    let other = Chain::start(forge, OTHER, stream, Some(EXAMPLE))?;
    other.refuses("DeployLocal", &DEPLOY, "ChainNotLocal(31338")?;
    println!("refused: the script for development, on another chain");
    deploy(&other, &configuration)?;

    let record = records.join(format!("{OTHER}.json"));
    let deployed: Value = serde_json::from_str(&std::fs::read_to_string(&record)?)?;
    let contracts =
        deployed.pointer(&format!("/streams/{stream}/contracts")).context("names no contracts")?;
    changes_are_found(&other, contracts)?;
    operations_are_found(&other, contracts, text(&configuration, "/proposers/0")?)?;
    later_block_is_found(&other, &record)?;
    other_configuration_is_found(other, &records, &example)?;
    Ok(Outcome::Passed)
}

/// What the example says, on a chain that has what a real one has before: tokens and a verifier. Whether there is code is all that is asked.
fn deploy(chain: &Chain<'_>, configuration: &Value) -> Result<()> {
    chain.refuses("Deploy", &DEPLOY, "ConfigurationUnfit(\"wrappedNative\"")?;
    for account in ["/wrappedNative", "/tokens/0", "/verifiers/0/verifier"] {
        chain.rpc(&["anvil_setCode", text(configuration, account)?, "0x00"])?;
    }
    chain.script("Deploy", &DEPLOY)?;
    chain.script("Check", &[])?;
    chain.script("Deploy", &DEPLOY).context("what is there already must be left as it is")?;
    chain.script("Check", &[])?;
    println!("deployed as {EXAMPLE} says, and checked; then once more, which changed nothing");
    Ok(())
}

/// In slot 0 is the owner, in slot 1 who may accept to become it, and behind that, of the keys, the threshold.
fn changes_are_found(chain: &Chain<'_>, contracts: &Value) -> Result<()> {
    let at = |name: &str| text(contracts, &format!("/{name}/address"));
    let (keys, bridge, executor) = (at("TeeKeyManager")?, at("Bridge")?, at("Executor")?);
    let stranger = word(0xbad);
    let one_validator = format!("0x{:024x}{:040x}", 1, 0);
    let store = |account: &str, slot: u64, value: &str| {
        chain.rpc(&["anvil_setStorageAt", account, &word(slot), value]).map(drop)
    };
    chain.finds("CodeDiffers(\"Executor\"", || chain.rpc(&["anvil_setCode", executor, "0x00"]).map(drop))?;
    chain.finds("owner of the keys", || store(keys, 0, &stranger))?;
    chain.finds("owner of the bridge", || store(bridge, 1, &stranger))?;
    chain.finds("\"threshold\"", || store(keys, 1, &one_validator))?;
    println!("found: other code, another owner, one who may become it, a threshold");
    Ok(())
}

/// Also when somebody has run the deployment once more in between, which must not move the block from which the check looks.
fn operations_are_found(chain: &Chain<'_>, contracts: &Value, proposer: &str) -> Result<()> {
    let timelock = text(contracts, "/TimelockController/address")?;
    let schedule = || {
        const CALL: &str = "schedule(address,uint256,bytes,bytes32,bytes32,uint256)";
        let (none, delay) = (word(0), "172800");
        let data = chain.cast(&["calldata", CALL, timelock, "0", "0x", &none, &none, delay])?;
        let asked = format!(r#"{{"from":"{proposer}","to":"{timelock}","data":"{}"}}"#, data.trim());
        chain.rpc(&["anvil_setBalance", proposer, "0xde0b6b3a7640000"])?;
        // So it may speak without a signature.
        chain.rpc(&["anvil_impersonateAccount", proposer])?;
        chain.rpc(&["eth_sendTransaction", &asked]).map(drop)
    };
    chain.finds("OperationsScheduled(1", schedule)?;
    chain.finds("OperationsScheduled(1", || {
        schedule()?;
        chain.rpc(&["anvil_mine", "0x5"])?;
        chain.script("Deploy", &DEPLOY)
    })?;
    println!("found: an operation of the timelock, also after another run");
    Ok(())
}

/// A check that begins to look too late says so.
fn later_block_is_found(chain: &Chain<'_>, record: &Path) -> Result<()> {
    let before = std::fs::read_to_string(record)?;
    let later = before.replace("\"block\": 0,", "\"block\": 99,");
    ensure!(later != before, "the record names another block than this test knows");
    chain.rpc(&["anvil_mine", "0x70"])?;
    std::fs::write(record, later)?;
    chain.refuses("Check", &[], "BirthNotSeen(")?;
    std::fs::write(record, before)?;
    println!("found: a record of a later block");
    Ok(())
}

/// Whoever holds another configuration for the true one learns that this is not it.
fn other_configuration_is_found(chain: Chain<'_>, records: &Path, example: &str) -> Result<()> {
    let opinion = example.replace("\"threshold\": 2", "\"threshold\": 3");
    ensure!(opinion != example, "the example has another threshold than this test knows");
    std::fs::write(records.join("other.json"), opinion)?;
    let file = format!("{RECORDS}/other.json");
    let reader = Chain { configuration: Some(&file), ..chain };
    reader.refuses("Check", &[], "RecordDiffers(\"TeeKeyManager\"")?;
    println!("refused: another configuration than the one that was deployed");
    Ok(())
}

/// A word, in hexadecimal.
fn word(number: u64) -> String {
    format!("0x{number:064x}")
}

fn text<'json>(json: &'json Value, pointer: &str) -> Result<&'json str> {
    json.pointer(pointer).and_then(Value::as_str).with_context(|| format!("has no text. path=`{pointer}`"))
}

/// A chain of this machine, and what scripts on it are told.
struct Chain<'a> {
    forge: &'a Forge,
    stream: &'a str,
    configuration: Option<&'a str>,
    anvil: Anvil,
}

/// Ends with this value.
struct Anvil {
    child: Child,
    url: String,
}

impl<'a> Chain<'a> {
    fn start(forge: &'a Forge, id: u64, stream: &'a str, configuration: Option<&'a str>) -> Result<Self> {
        let mut command = process::command(forge.other("anvil")?, &forge.folder);
        command.args(["--port", "0", "--hardfork", "osaka", "--chain-id", &id.to_string()]);
        command.env("PATH", &forge.path).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start anvil")?;
        let output = child.stdout.take().context("anvil has no stdout although one was asked for")?;
        let mut anvil = Anvil { child, url: String::new() };
        let mut lines = BufReader::new(output).lines();
        let address = lines.by_ref().find_map(|line| {
            line.ok().and_then(|line| line.strip_prefix("Listening on ").map(str::to_owned))
        });
        anvil.url = format!("http://{}", address.context("anvil ended before it listened")?);
        // What else it says is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { forge, stream, configuration, anvil })
    }

    /// Whether a script succeeds, and what it says.
    fn run(&self, script: &str, more: &[&str]) -> Result<(bool, String)> {
        let mut command = process::command(&self.forge.program, &self.forge.folder);
        let file = format!("script/{script}.s.sol");
        command.args(["script", &file, "--rpc-url", &self.anvil.url]).args(more);
        command.env("PATH", &self.forge.path).env("SYNDDB_DEPLOYMENTS", RECORDS);
        command.env("SYNDDB_STREAM", self.stream).env("SYNDDB_THRESHOLD", "2");
        command.env_remove("SYNDDB_DEPLOY").envs(self.configuration.map(|file| ("SYNDDB_DEPLOY", file)));
        said(&mut command)
    }

    /// Runs a script that must succeed. What it says is shown when it does not.
    fn script(&self, script: &str, more: &[&str]) -> Result<()> {
        let (is_done, told) = self.run(script, more)?;
        ensure!(is_done, "the script failed. script=`{script}`\n{told}");
        Ok(())
    }

    /// Runs a script that must fail, for this reason.
    fn refuses(&self, script: &str, more: &[&str], wanted: &str) -> Result<()> {
        let (is_done, told) = self.run(script, more)?;
        ensure!(!is_done, "the script succeeded. script=`{script}` wanted=`{wanted}`\n{told}");
        ensure!(told.contains(wanted), "the script failed otherwise. wanted=`{wanted}`\n{told}");
        Ok(())
    }

    /// Changes the chain, wants the check to name what is wrong, and takes the change back.
    fn finds(&self, wanted: &str, change: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.rpc(&["evm_snapshot"])?;
        change()?;
        self.refuses("Check", &[], wanted)?;
        self.rpc(&["evm_revert", before.trim().trim_matches('"')])?;
        self.script("Check", &[])
    }

    fn rpc(&self, request: &[&str]) -> Result<String> {
        self.cast(&[&["rpc", "--rpc-url", &self.anvil.url], request].concat())
    }

    fn cast(&self, arguments: &[&str]) -> Result<String> {
        let mut cast = process::command(self.forge.other("cast")?, &self.forge.folder);
        process::read(cast.args(arguments).env("PATH", &self.forge.path))
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Whether a command succeeded, and all that it said.
fn said(command: &mut Command) -> Result<(bool, String)> {
    let line = process::typed(command);
    let output = command.output().with_context(|| format!("cannot start. command=`{line}`"))?;
    let told = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&told).into_owned()))
}
