//! `synddb dev`: agent, sequencer and validator of one database under one command, without configuration and network.
//!
//! ```text
//! app.db <- agent -> sequencer -> store -> validator -> replica.db      each a process of its own, in DIR
//! ```
//!
//! With `--chain` there is more, in DIR as well: a node of a chain with the contracts of the stream, and a relayer that brings rows there.
//!
//! The store lies in DIR as well, unless one is named. What a named one needs to be reached is in the environment, which all processes share.
//!
//! Each process is this program again, with other arguments. One that dies is started again; one that refuses, or finds that the
//! replica diverged, ends all. They end in data order, each when it has nothing left to do. Should this process be killed, they
//! notice by the end of their standard input, and drain as well.

mod arguments;
mod chain;
mod children;
mod place;
mod supervise;

use std::path::Path;
use std::time::Duration;

use synddb_chain::Deployment;
use synddb_protocol::id::StreamId;
use synddb_service::credentials::{self, NewCredential};
use synddb_service::secret::{Token, write_new_secret};
use synddb_service::shutdown::Shutdown;
use synddb_storage::StoreUrl;

use crate::exit::{CommandError, Exit};
use crate::folder::{Folder, Running};
use crate::output::{Bridged, Event, Output, Process};
use crate::process;
use crate::refusal::check_database;
pub(crate) use arguments::DevArguments;
pub use chain::ChainError;
use chain::Toolchain;
pub use children::ENVIRONMENT_IS_WHOLE;
use children::{Child, Spec};
use place::Log;
use supervise::Supervisor;

/// Between two looks for a database that does not exist yet.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How old the oldest message of a batch becomes, in milliseconds: a developer looks at the replica, and a put costs nothing.
const BATCH_AGE_MS: u64 = 5;

/// Between two looks of the relayer, in milliseconds: nobody else asks the node.
const RELAYER_POLL_MS: u64 = 200;

pub(crate) fn run(arguments: &DevArguments, output: Output) -> Result<Exit, CommandError> {
    let folder = Folder::of(&arguments.of.database, arguments.of.dir.as_deref());
    let log = place::of_log(arguments.store.as_ref(), &folder)?;
    let chain = arguments.chain.is_on.then(|| Toolchain::find(&arguments.chain)).transpose()?;
    process::serve(output, "dev", arguments.stop_on_eof, async |_, shutdown| {
        if !database_exists(arguments, output, &shutdown).await? {
            return Ok(Exit::Done);
        }
        // A folder, or a file that is no database, is refused before anything is made.
        check_database(&arguments.of.database)?;
        folder.make()?;
        let _lock = folder.lock()?;
        let stream = prepare(&folder, &log.store)?;
        let over = Over { arguments, folder: &folder, log: &log, stream, chain: chain.as_ref() };
        let result = supervised(&over, output, &shutdown).await;
        folder.set_running(None)?;
        result
    })
}

/// Waits for the database; says whether it is there.
async fn database_exists(
    arguments: &DevArguments,
    output: Output,
    shutdown: &Shutdown,
) -> Result<bool, CommandError> {
    let database = &arguments.of.database;
    if !database.exists() {
        let reason = format!("there is no {} yet; create it with any program", database.display());
        output.tell(&Event::Waiting { reason })?;
    }
    while !database.exists() {
        tokio::select! {
            () = shutdown.asked() => return Ok(false),
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
    Ok(true)
}

/// Makes what the processes share: the token, the store's folder where it is the own one, the stream.
fn prepare(folder: &Folder, store: &StoreUrl) -> Result<StreamId, CommandError> {
    if !folder.token().exists() {
        let token = Token::draw().map_err(CommandError::system("draw a token"))?;
        write_new_secret(&folder.token(), token.expose())?;
    }
    // Whatever was listed before: nobody else writes here, and the token may have been put there by hand.
    let token = NewCredential::of_token("dev", &Token::read(&folder.token())?);
    credentials::write(&folder.credentials(), &token)?;
    std::fs::create_dir_all(folder.sequencer()).map_err(CommandError::system("make a folder"))?;
    // Before there is a stream: from then on its log is there and nowhere else.
    place::keep(store, folder)?;
    Ok(synddb_agent::stream_of(folder.path())?)
}

/// What everything runs over.
struct Over<'a> {
    arguments: &'a DevArguments,
    folder: &'a Folder,
    log: &'a Log,
    stream: StreamId,
    chain: Option<&'a Toolchain>,
}

/// A chain that runs, with the contracts on it.
struct OnChain {
    rpc: String,
    deployed: Deployment,
}

async fn supervised(over: &Over<'_>, output: Output, shutdown: &Shutdown) -> Result<Exit, CommandError> {
    let Over { arguments, folder, log, stream, chain } = over;
    let store = log.store.to_string();
    let mut supervisor = Supervisor::new(output, shutdown.clone());
    let on_chain = match chain {
        None => None,
        Some(chain) => match begin_chain(chain, over, &mut supervisor, output).await? {
            Some(on_chain) => Some(on_chain),
            None => return supervisor.drain().await,
        },
    };
    let mut sequencer = Spec::new(Process::Sequencer, "sequencer")
        .with("--listen", format!("127.0.0.1:{}", arguments.port))
        .with("--store", store.clone())
        .with("--dir", text(&folder.sequencer()))
        .with("--credentials-file", text(&folder.credentials()))
        .with("--key-file", text(&folder.sequencer_key()))
        .with("--stream", stream.to_string())
        .with("--batch-age-ms", BATCH_AGE_MS.to_string());
    if let Some(OnChain { rpc, deployed }) = &on_chain {
        sequencer = sequencer
            .with("--rpc", rpc.clone())
            .with("--bridge-chain-id", deployed.chain_id.to_string())
            .with("--bridge", deployed.bridge.to_string());
    }
    let listening = supervisor.listening(Child::start(sequencer, output)?).await;
    if listening.is_err() {
        log.was_refused(folder)?;
    }
    let Some((sequencer_url, key)) = listening? else {
        return supervisor.drain().await;
    };
    let key = key.unwrap_or_default();
    let validator = validator(over, &sequencer_url, &key, on_chain.as_ref());
    let Some((validator_url, _)) = supervisor.listening(Child::start(validator, output)?).await? else {
        return supervisor.drain().await;
    };
    let mut bridge = None;
    if let Some(on_chain) = on_chain {
        let relayer = relayer(over, &on_chain, &sequencer_url, &validator_url);
        let Some((relayer, _)) = supervisor.listening(Child::start(relayer, output)?).await? else {
            return supervisor.drain().await;
        };
        let OnChain { rpc, deployed } = on_chain;
        let deployments = text(&chain::record(folder));
        let Deployment { chain_id, bridge: at, .. } = deployed;
        bridge = Some(Bridged { rpc, chain_id, bridge: at, relayer, deployments });
    }
    let agent = Spec::new(Process::Agent, "follow")
        .operand(text(&arguments.of.database))
        .with("--dir", text(folder.path()))
        .with("--sequencer", sequencer_url.clone())
        .with("--token-file", text(&folder.token()))
        .with("--sequencer-key", key.clone())
        .with("--store", store.clone())
        .with("--wal-limit", arguments.wal.mib.to_string());
    let (sequencer, validator) = (sequencer_url, validator_url);
    folder.set_running(Some(&Running {
        sequencer: sequencer.clone(),
        validator: validator.clone(),
        bridge: bridge.clone(),
    }))?;
    if !supervisor.attached(Child::start(agent, output)?).await? {
        return supervisor.drain().await;
    }
    let (replica, bridge) = (text(&folder.replica()), bridge.map(Box::new));
    output.tell(&Event::Running { stream: *stream, sequencer, validator, store, replica, key, bridge })?;
    supervisor.until_asked().await
}

/// Starts the node, and has on it what belongs there. `None` when `dev` was asked to end.
async fn begin_chain(
    chain: &Toolchain,
    over: &Over<'_>,
    supervisor: &mut Supervisor,
    output: Output,
) -> Result<Option<OnChain>, CommandError> {
    let node = Child::start(chain.node(over.arguments.chain.port, over.folder), output)?;
    let Some((rpc, _)) = supervisor.listening(node).await? else { return Ok(None) };
    let deployed = chain.deploy(&rpc, over.folder, over.stream).await?;
    chain::admit(&rpc, over.folder, &deployed).await?;
    Ok(Some(OnChain { rpc, deployed }))
}

fn validator(over: &Over<'_>, sequencer: &str, key: &str, on_chain: Option<&OnChain>) -> Spec {
    let Over { arguments, folder, .. } = over;
    let mut validator = Spec::new(Process::Validator, "validator")
        .with("--listen", format!("127.0.0.1:{}", arguments.validator_port))
        .with("--store", over.log.store.to_string())
        .with("--stream", over.stream.to_string())
        .with("--sequencer-key", key.to_owned())
        .with("--sequencer", sequencer.to_owned())
        .with("--replica", text(&folder.replica()));
    if arguments.rules.is_some() || on_chain.is_some() {
        validator = validator.with("--endorse-key", text(&folder.endorse_key()));
    }
    if let Some(rules) = &arguments.rules {
        validator = validator.with("--rules", text(rules));
    }
    if let Some(OnChain { rpc, deployed }) = on_chain {
        validator = validator
            .with("--rpc", rpc.clone())
            .with("--chain-id", deployed.chain_id.to_string())
            .with("--registry", deployed.checkpoint_registry.to_string())
            .with("--bridge", deployed.bridge.to_string());
    }
    validator
}

fn relayer(over: &Over<'_>, on_chain: &OnChain, sequencer: &str, validator: &str) -> Spec {
    let folder = over.folder;
    Spec::new(Process::Relayer, "relayer")
        .with("--listen", "127.0.0.1:0".to_owned())
        .with("--stream", over.stream.to_string())
        .with("--rpc", on_chain.rpc.clone())
        .with("--deployments", text(&chain::record(folder)))
        .with("--sequencer", sequencer.to_owned())
        .with("--validator", validator.to_owned())
        .with("--account", text(&folder.relayer_key()))
        .with("--dir", text(&folder.relayer()))
        .with("--poll-ms", RELAYER_POLL_MS.to_string())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
