//! The chain of `dev`: a node on this machine, and on it the contracts of the stream, which are deployed once.
//!
//! The node is anvil, whose state is in the folder, at most a second old should it be killed. Its first account deploys and registers the keys of sequencer and
//! validator; the verifier there believes everything, which its script refuses on any other chain. The relayer pays with an account of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use synddb_chain::{Account, Contracts, Deployment, Endpoint, Role, Unsigned, calls};
use synddb_protocol::id::{Address, StreamId};
use synddb_protocol::signing::VerifyingKey;
use synddb_service::secret::signing_key;
use tokio::process::Command;

use super::arguments::ChainArguments;
use super::children::Spec;
use crate::bridge::contracts;
use crate::exit::CommandError;
use crate::folder::Folder;
use crate::output::Process;

/// The one chain on which the script deploys a verifier that believes everything.
const CHAIN_ID: u64 = 31_337;

/// The secret of the first account of every anvil, which is in its documentation: nothing is worth anything there.
const DEPLOYER_SECRET: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// What deploys.
const SCRIPT: &str = "script/DeployLocal.s.sol";

/// Where scripts may write, in the folder of the contracts.
const RECORDS: &str = "out/deployments";

/// What the account of the relayer has at every start, in wei: 1000 of the unit.
const PURSE_WEI: &str = "0x3635c9adc5dea00000";

/// The most that is paid for a unit of gas, in wei: enough for any block of a chain that nobody else uses.
const FEE_MAX: u128 = 1_000_000_000_000;

/// Gas of the registration of a key, at most.
const REGISTER_GAS: u64 = 1_000_000;

/// How much of what forge said is shown.
const SAID_BYTES_MAX: usize = 8 << 10;

/// How long a transaction may take on a chain that nobody else uses.
const RECEIPT_MAX: Duration = Duration::from_secs(30);

/// Between two looks for a receipt.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Why there is no chain, or nothing on it.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A program is missing.
    #[error(
        "there is no program `{program}`; run `npm ci` in the folder `contracts` and name it with --{program} or {variable}, or install Foundry. looked=`{looked}`"
    )]
    NoProgram {
        /// Which.
        program: &'static str,
        /// What names it.
        variable: &'static str,
        /// Where it was looked for.
        looked: String,
    },
    /// The contracts are missing.
    #[error("the contracts are not there; name their folder, of a checkout of the repository, with --contracts. folder=`{}`", folder.display())]
    NoContracts {
        /// Where they were looked for.
        folder: PathBuf,
    },
    /// The contracts were not deployed.
    #[error("the contracts cannot be deployed; what forge said says why. {status}\n{said}")]
    NotDeployed {
        /// How forge ended.
        status: std::process::ExitStatus,
        /// What it said last.
        said: String,
    },
    /// The record of the deployment lacks what registers keys.
    #[error("the record of the deployment names no {lacks}; remove it and start again. file=`{}`", file.display())]
    NoRegistrar {
        /// What.
        lacks: &'static str,
        /// The record.
        file: PathBuf,
    },
    /// A transaction was undone.
    #[error(
        "the chain has undone a transaction; remove the chain of this folder and start again. doing=`{doing}`"
    )]
    Reverted {
        /// What it was to do.
        doing: &'static str,
    },
    /// A transaction was not executed.
    #[error("the chain does not execute a transaction. doing=`{doing}`")]
    NotExecuted {
        /// What it was to do.
        doing: &'static str,
    },
}

/// The programs that a chain needs, and the contracts: looked for before anything is made.
#[derive(Debug)]
pub(super) struct Toolchain {
    anvil: PathBuf,
    forge: PathBuf,
    contracts: PathBuf,
}

impl Toolchain {
    pub(super) fn find(arguments: &ChainArguments) -> Result<Self, ChainError> {
        let contracts = fs::canonicalize(&arguments.contracts).ok();
        let contracts = contracts.filter(|folder| folder.join(SCRIPT).is_file());
        let missing = || ChainError::NoContracts { folder: arguments.contracts.clone() };
        Ok(Self {
            anvil: program("anvil", "SYNDDB_ANVIL", arguments.anvil.as_deref())?,
            forge: program("forge", "SYNDDB_FORGE", arguments.forge.as_deref())?,
            contracts: contracts.ok_or_else(missing)?,
        })
    }

    /// What starts the node.
    pub(super) fn node(&self, port: u16, folder: &Folder) -> Spec {
        Spec::foreign(Process::Chain, &self.anvil)
            .with("--port", port.to_string())
            .with("--chain-id", CHAIN_ID.to_string())
            .with("--hardfork", "osaka".to_owned())
            .with("--state", folder.chain().display().to_string())
            .with("--state-interval", "1".to_owned())
            // What is executed is final after two blocks, which come by themselves.
            .with("--slots-in-an-epoch", "1".to_owned())
            .with("--block-time", "1".to_owned())
    }

    /// Deploys the contracts of a stream, unless they are there.
    pub(super) async fn deploy(
        &self,
        rpc: &str,
        folder: &Folder,
        stream: StreamId,
    ) -> Result<Deployment, CommandError> {
        let record = record(folder);
        if let Ok(known) = Deployment::read(&record, stream) {
            let bridge = known.bridge;
            if contracts(rpc, known.clone())?.endpoint().has_code(bridge).await? {
                return Ok(known);
            }
        }
        let records = Path::new(RECORDS).join(stream.to_string());
        // It runs in another folder.
        let broadcast = std::path::absolute(folder.deployments());
        let broadcast = broadcast.map_err(CommandError::system("find the folder of the deployment"))?;
        let mut forge = Command::new(&self.forge);
        forge.current_dir(&self.contracts).args(["script", SCRIPT, "--broadcast", "--rpc-url", rpc]);
        forge.args(["--private-key", DEPLOYER_SECRET]);
        forge.env("SYNDDB_STREAM", stream.to_string()).env("SYNDDB_THRESHOLD", "1");
        forge.env("SYNDDB_DEPLOYMENTS", &records).env("FOUNDRY_BROADCAST", broadcast);
        let run = forge.stdin(Stdio::null()).kill_on_drop(true).output().await;
        let run = run.map_err(CommandError::system("start forge"))?;
        if !run.status.success() {
            let said = [run.stdout, run.stderr].concat();
            let said = String::from_utf8_lossy(&said[said.len().saturating_sub(SAID_BYTES_MAX)..]);
            return Err(ChainError::NotDeployed { status: run.status, said: said.into_owned() }.into());
        }
        let written = self.contracts.join(records);
        keep(&written, &record).map_err(CommandError::system("keep the record of the deployment"))?;
        Ok(Deployment::read(&record, stream)?)
    }
}

/// The record of what is deployed there.
pub(super) fn record(folder: &Folder) -> PathBuf {
    folder.deployments().join(format!("{CHAIN_ID}.json"))
}

/// Moves the record to where it stays.
fn keep(written: &Path, record: &Path) -> io::Result<()> {
    if let Some(above) = record.parent() {
        fs::create_dir_all(above)?;
    }
    fs::copy(written.join(format!("{CHAIN_ID}.json")), record)?;
    fs::remove_dir_all(written)
}

/// Admits the keys of sequencer and validator, and gives the relayer what it pays with.
pub(super) async fn admit(rpc: &str, folder: &Folder, deployed: &Deployment) -> Result<(), CommandError> {
    let contracts = contracts(rpc, deployed.clone())?;
    let sequencer = signing_key(&folder.sequencer_key())?;
    let validator = signing_key(&folder.endorse_key())?;
    for (role, key) in
        [(Role::Sequencer, sequencer.verifying_key()), (Role::Validator, validator.verifying_key())]
    {
        register(&contracts, folder, role, key).await?;
    }
    let relayer = signing_key(&folder.relayer_key())?.id();
    let given = contracts.endpoint().ask::<Option<bool>>("anvil_setBalance", json!([relayer, PURSE_WEI]));
    given.await?;
    Ok(())
}

/// Registers a key, unless it is.
async fn register(
    contracts: &Contracts,
    folder: &Folder,
    role: Role,
    key: &VerifyingKey,
) -> Result<(), CommandError> {
    if contracts.is_live(key.id(), role).await? {
        return Ok(());
    }
    let deployed = contracts.deployment();
    let lacks = |lacks| ChainError::NoRegistrar { lacks, file: record(folder) };
    let verifier = *deployed.verifiers.first().ok_or_else(|| lacks("verifier"))?;
    let image = deployed.image(role).ok_or_else(|| lacks("image of its keys"))?;
    // The hash of the newest block is known in the next one.
    let block = contracts.endpoint().latest().await?.number.saturating_sub(1);
    let data = calls::register_key(role, &key.to_point(), block, verifier, &image.digest);
    send(contracts.endpoint(), deployed.key_manager, data, "register a key").await
}

/// Sends a transaction of the account that deploys, which nobody else uses now, and waits until it is executed.
async fn send(
    endpoint: &Endpoint,
    to: Address,
    data: Vec<u8>,
    doing: &'static str,
) -> Result<(), CommandError> {
    let account: Account = DEPLOYER_SECRET.parse().map_err(|_| ChainError::NotExecuted { doing })?;
    let nonce = endpoint.transaction_count(account.address()).await?;
    let (chain_id, value, gas_limit) = (endpoint.chain_id(), 0, REGISTER_GAS);
    let fees = endpoint.fees(FEE_MAX).await?;
    let signed = account.sign(&Unsigned { chain_id, nonce, to, value, data, gas_limit, fees });
    endpoint.send(&signed.bytes).await?;
    let deadline = Instant::now() + RECEIPT_MAX;
    while Instant::now() < deadline {
        match endpoint.receipt(&signed.hash).await? {
            Some(receipt) if receipt.succeeded => return Ok(()),
            Some(_) => return Err(ChainError::Reverted { doing }.into()),
            None => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
    Err(ChainError::NotExecuted { doing }.into())
}

/// A program: the one that is named, else the one on the search path.
fn program(
    program: &'static str,
    variable: &'static str,
    named: Option<&Path>,
) -> Result<PathBuf, ChainError> {
    let missing = |looked: String| ChainError::NoProgram { program, variable, looked };
    if let Some(named) = named {
        return fs::canonicalize(named).map_err(|_| missing(named.display().to_string()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    found.ok_or_else(|| missing("PATH".to_owned()))
}
