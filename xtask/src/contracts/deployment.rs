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

    let local = Chain::start(forge, LOCAL)?;
    local.script("DeployLocal", STREAM, &["--broadcast", "--private-key", SECRET])?;
    local.check(STREAM)?;
    println!("deployed for development, and checked");

    let other = Chain::start(forge, OTHER)?;
    let told = other.refused("DeployLocal", STREAM, &["--broadcast", "--private-key", SECRET])?;
    ensure!(told.contains("ChainNotLocal(31338"), "the script for development failed otherwise: {told}");
    println!("refused: the script for development, on another chain");

    let example: Value = serde_json::from_str(&tree.read(format!("{CONTRACTS}/{EXAMPLE}"))?)?;
    let stream = text(&example, "/stream")?;
    // What a real chain has before: the wrapped native currency, and a verifier. Whether there is code is all that deploying asks.
    for account in [text(&example, "/wrappedNative")?, text(&example, "/verifiers/0")?] {
        other.rpc(&["anvil_setCode", account, "0x00"])?;
    }
    other.script("Deploy", stream, &["--broadcast", "--private-key", SECRET])?;
    other.check(stream)?;
    println!("deployed as {EXAMPLE} says, and checked");

    let record: Value = serde_json::from_str(&tree.read(format!("{CONTRACTS}/{RECORDS}/{OTHER}.json"))?)?;
    let at = |name: &str| text(&record, &format!("/streams/{stream}/contracts/{name}/address"));
    other.finds(stream, "CodeDiffers(\"Executor\"", &["anvil_setCode", at("Executor")?, "0x00"])?;
    // Slot 0 has the owner, slot 1 the one who may accept to become it.
    let stranger = format!("0x{:064x}", 0xbad);
    other.finds(
        stream,
        "owner of the keys",
        &["anvil_setStorageAt", at("TeeKeyManager")?, &slot(0), &stranger],
    )?;
    other.finds(
        stream,
        "owner of the bridge",
        &["anvil_setStorageAt", at("Bridge")?, &slot(1), &stranger],
    )?;
    println!("found: other code, and an owner who waits to accept or already has");
    Ok(Outcome::Passed)
}

fn slot(number: u64) -> String {
    format!("0x{number:064x}")
}

fn text<'json>(json: &'json Value, pointer: &str) -> Result<&'json str> {
    json.pointer(pointer).and_then(Value::as_str).with_context(|| format!("has no text. path=`{pointer}`"))
}

/// An anvil that ends with this value.
struct Chain<'forge> {
    forge: &'forge Forge,
    anvil: Child,
    url: String,
}

impl<'forge> Chain<'forge> {
    fn start(forge: &'forge Forge, id: u64) -> Result<Self> {
        let mut command = process::command(forge.other("anvil")?, &forge.folder);
        command.args(["--port", "0", "--hardfork", "osaka", "--chain-id", &id.to_string()]);
        command.env("PATH", &forge.path).stdout(Stdio::piped());
        let mut anvil = command.spawn().context("cannot start anvil")?;
        let output = anvil.stdout.take().context("anvil has no stdout although one was asked for")?;
        let mut lines = BufReader::new(output).lines();
        let address = lines.by_ref().find_map(|line| {
            line.ok().and_then(|line| line.strip_prefix("Listening on ").map(str::to_owned))
        });
        let Some(address) = address else {
            anvil.kill().ok();
            anyhow::bail!("anvil ended before it listened. chain={id}");
        };
        // What else it says is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { forge, anvil, url: format!("http://{address}") })
    }

    fn forge_script(&self, script: &str, stream: &str, more: &[&str]) -> Command {
        let mut command = process::command(&self.forge.program, &self.forge.folder);
        let file = format!("script/{script}.s.sol");
        command.args(["script", &file, "--rpc-url", &self.url]).args(more);
        command.env("PATH", &self.forge.path).env("SYNDDB_DEPLOYMENTS", RECORDS);
        command.env("SYNDDB_STREAM", stream).env("SYNDDB_THRESHOLD", "2").env("SYNDDB_DEPLOY", EXAMPLE);
        command
    }

    /// Runs a script that must succeed. What it says is shown when it does not.
    fn script(&self, script: &str, stream: &str, more: &[&str]) -> Result<()> {
        let (is_done, told) = said(&mut self.forge_script(script, stream, more))?;
        ensure!(is_done, "the script failed. script=`{script}`\n{told}");
        Ok(())
    }

    /// Runs a script that must fail, and returns what it says.
    fn refused(&self, script: &str, stream: &str, more: &[&str]) -> Result<String> {
        let (is_done, told) = said(&mut self.forge_script(script, stream, more))?;
        ensure!(!is_done, "the script succeeded. script=`{script}`\n{told}");
        Ok(told)
    }

    fn check(&self, stream: &str) -> Result<()> {
        self.script("Check", stream, &[])
    }

    /// Changes the chain by a request, wants the check to name what is wrong, and takes the change back.
    fn finds(&self, stream: &str, wanted: &str, request: &[&str]) -> Result<()> {
        let before = self.rpc(&["evm_snapshot"])?;
        self.rpc(request)?;
        let told = self
            .refused("Check", stream, &[])
            .with_context(|| format!("the check does not find a change. wanted=`{wanted}`"))?;
        ensure!(told.contains(wanted), "the check found something else. wanted=`{wanted}`\n{told}");
        self.rpc(&["evm_revert", before.trim().trim_matches('"')])?;
        self.check(stream)
    }

    fn rpc(&self, request: &[&str]) -> Result<String> {
        let mut cast = process::command(self.forge.other("cast")?, &self.forge.folder);
        process::read(cast.args(["rpc", "--rpc-url", &self.url]).args(request).env("PATH", &self.forge.path))
    }
}

impl Drop for Chain<'_> {
    fn drop(&mut self) {
        self.anvil.kill().ok();
        self.anvil.wait().ok();
    }
}

/// Whether a command succeeded, and all that it said.
fn said(command: &mut Command) -> Result<(bool, String)> {
    let line = process::typed(command);
    let output = command.output().with_context(|| format!("cannot start. command=`{line}`"))?;
    let told = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&told).into_owned()))
}
