//! Deployments: both scripts on real chains of this machine, and that the check of a deployment finds what was changed.

use std::io::{BufRead as _, BufReader};
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

    let text_of_example = tree.read(format!("{CONTRACTS}/{EXAMPLE}"))?;
    let example: Value = serde_json::from_str(&text_of_example)?;
    let stream = text(&example, "/stream")?;
    let other = Chain::start(forge, OTHER, stream, Some(EXAMPLE))?;
    other.refuses("DeployLocal", &DEPLOY, "ChainNotLocal(31338")?;
    println!("refused: the script for development, on another chain");

    other.refuses("Deploy", &DEPLOY, "ConfigurationUnfit(\"wrappedNative\"")?;
    // What a real chain has before: tokens and a verifier. Whether there is code is all that deploying asks.
    for account in ["/wrappedNative", "/tokens/0", "/verifiers/0/verifier"] {
        other.rpc(&["anvil_setCode", text(&example, account)?, "0x00"])?;
    }
    other.script("Deploy", &DEPLOY)?;
    other.script("Check", &[])?;
    other.script("Deploy", &DEPLOY).context("what is there already must be left as it is")?;
    other.script("Check", &[])?;
    println!("deployed as {EXAMPLE} says, and checked; then once more, which changed nothing");

    let record: Value = serde_json::from_str(&tree.read(format!("{CONTRACTS}/{RECORDS}/{OTHER}.json"))?)?;
    let at = |name: &str| text(&record, &format!("/streams/{stream}/contracts/{name}/address"));
    let keys = at("TeeKeyManager")?;
    let (bridge, timelock) = (at("Bridge")?, at("TimelockController")?);
    let proposer = text(&example, "/proposers/0")?;
    let stranger = word(0xbad);
    // In slot 0 is the owner, in slot 1 who may accept to become it, and behind that, of the keys, the threshold.
    let one_validator = format!("0x{:024x}{:040x}", 1, 0);
    other.finds("CodeDiffers(\"Executor\"", &[&["anvil_setCode", at("Executor")?, "0x00"]])?;
    other.finds("owner of the keys", &[&["anvil_setStorageAt", keys, &word(0), &stranger]])?;
    other.finds("owner of the bridge", &[&["anvil_setStorageAt", bridge, &word(1), &stranger]])?;
    other.finds("\"threshold\"", &[&["anvil_setStorageAt", keys, &word(1), &one_validator]])?;
    // TimelockController.schedule(keys, 0, "", 0, 0, delay), by the proposer, whom anvil lets speak without a signature.
    let (delay, nothing) = (word(172_800), word(0));
    let schedule = format!(
        "0x01d5062a{:0>64}{nothing}{:064x}{nothing}{nothing}{delay}{nothing}",
        keys.trim_start_matches("0x"),
        0xc0,
        nothing = nothing.trim_start_matches("0x"),
        delay = delay.trim_start_matches("0x"),
    );
    let asked = format!(r#"{{"from":"{proposer}","to":"{timelock}","data":"{schedule}"}}"#);
    let requests: [&[&str]; 3] = [
        &["anvil_setBalance", proposer, "0xde0b6b3a7640000"],
        &["anvil_impersonateAccount", proposer],
        &["eth_sendTransaction", &asked],
    ];
    other.finds("OperationsScheduled(1", &requests)?;
    other.finds_also_after_another_run("OperationsScheduled(1", &requests)?;
    let record = records.join(format!("{OTHER}.json"));
    let true_record = std::fs::read_to_string(&record)?;
    let later = true_record.replace("\"block\": 0,", "\"block\": 99,");
    ensure!(later != true_record, "the record names another block than this test knows");
    other.rpc(&["anvil_mine", "0x70"])?;
    std::fs::write(&record, later)?;
    other.refuses("Check", &[], "BirthNotSeen(")?;
    std::fs::write(&record, true_record)?;
    println!(
        "found: other code, another owner, one who may become it, a threshold, an operation of the timelock, a block too late"
    );

    // Whoever holds another configuration for the true one learns that this is not it.
    let file = format!("{RECORDS}/other.json");
    let opinion = text_of_example.replace("\"threshold\": 2", "\"threshold\": 3");
    ensure!(opinion != text_of_example, "the example has another threshold than this test knows");
    std::fs::write(tree.root().join(CONTRACTS).join(&file), opinion)?;
    let reader = Chain { configuration: Some(&file), ..other };
    reader.refuses("Check", &[], "RecordDiffers(\"TeeKeyManager\"")?;
    println!("refused: another configuration than the one that was deployed");
    Ok(Outcome::Passed)
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

    /// Changes the chain by requests, wants the check to name what is wrong, and takes the change back.
    fn finds(&self, wanted: &str, requests: &[&[&str]]) -> Result<()> {
        let before = self.rpc(&["evm_snapshot"])?;
        for request in requests {
            self.rpc(request)?;
        }
        self.refuses("Check", &[], wanted)?;
        self.rpc(&["evm_revert", before.trim().trim_matches('"')])?;
        self.script("Check", &[])
    }

    /// The same, when somebody has run the deployment once more in between, which must not move the block from which the check looks.
    fn finds_also_after_another_run(&self, wanted: &str, requests: &[&[&str]]) -> Result<()> {
        let before = self.rpc(&["evm_snapshot"])?;
        for request in requests {
            self.rpc(request)?;
        }
        self.rpc(&["anvil_mine", "0x5"])?;
        self.script("Deploy", &DEPLOY)?;
        self.refuses("Check", &[], wanted)?;
        self.rpc(&["evm_revert", before.trim().trim_matches('"')])?;
        self.script("Check", &[])
    }

    fn rpc(&self, request: &[&str]) -> Result<String> {
        let mut cast = process::command(self.forge.other("cast")?, &self.forge.folder);
        cast.args(["rpc", "--rpc-url", &self.anvil.url]).args(request).env("PATH", &self.forge.path);
        process::read(&mut cast)
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
