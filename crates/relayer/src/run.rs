//! A whole relayer: opens its queue, looks, brings, serves, and ends.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use reqwest::Url;
use synddb_chain::submit::{Config as Submitting, Submitter};
use synddb_chain::{Account, Contracts, Deployment, Endpoint, EndpointError};
use synddb_protocol::chain;
use synddb_protocol::id::Address;
use synddb_service::http::{Transport, frame, listen, serve};
use synddb_service::secret::{SecretError, read_secret, read_signing_key, signing_key};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;

use crate::carry::Carrier;
use crate::checkpoints::Checkpoints;
use crate::config::{Config, ConfigProblem, Told};
use crate::discovery::Discovery;
use crate::error::RelayerError;
use crate::folder::OwnedFolder;
use crate::http::{ABOUT, RelayerStatus, View, router};
use crate::journal::Journal;
use crate::payer::Payer;
use crate::peers::{Peers, client};
use crate::queue::SqliteQueue;

/// How many looks in a row must say the same before the submitter believes a count.
const ANSWERS: u32 = 4;

/// Transactions that may be under way at once. Each is until it is final, so this bounds how many are paid for in the time that takes.
const IN_FLIGHT_MAX: usize = 128;

/// What a relayer is once it serves.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    /// Where it listens.
    pub address: SocketAddr,
    /// The scheme of URLs that lead there: `http`, or `https` where it speaks TLS.
    pub scheme: &'static str,
    /// The account that pays.
    pub account: Address,
}

/// Runs a relayer until it is asked to end. What is under way is in its queue, and gone on with at the next start.
///
/// # Errors
/// [`RelayerError`] when it cannot start or cannot go on.
pub async fn run(
    config: Config,
    metrics: Metrics,
    shutdown: Shutdown,
    started: impl FnOnce(Started),
) -> Result<(), RelayerError> {
    let Named { told, deployment, peers, nodes, transport } = Named::by(&config)?;
    let (domain, registry) = (deployment.bridge_domain(), deployment.checkpoint_domain());
    // Held to the end of this function: everything below is this process's alone.
    let _owned = OwnedFolder::take(&config.dir)?;
    crate::metrics::describe();
    let account = account(&config.account_file)?;
    let payer = account.address();
    let journal = Journal::open(&config.dir, told.stream, &domain)?;
    let queue = Arc::new(SqliteQueue::open(&config.dir, payer)?);
    let endpoint = endpoint(nodes, deployment.chain_id).await?;
    let contracts = Contracts::new(endpoint.clone(), deployment);
    let kept = Arc::<SqliteQueue>::clone(&queue);
    let (submitter, runner) = Submitter::new(account, endpoint, kept, submitter_config(&config))?;

    let view = View::new(
        RelayerStatus {
            stream: told.stream,
            chain_id: domain.chain_id,
            bridge: domain.contract,
            account: payer,
            balance: None,
            known: 0,
            settled: 0,
            open: 0,
            checkpoint: None,
            failing: None,
        },
        config.dir.clone(),
    );
    let checkpoints = config.checkpoints.then(|| Checkpoints {
        stream: told.stream,
        domain: registry,
        every_ms: config.checkpoint_every_s.saturating_mul(1000),
        not_before_ms: 0,
    });
    let carrier = Carrier {
        stream: told.stream,
        domain,
        payer: Payer { contracts, submitter, account: payer, finality: config.finality },
        peers,
        journal,
        queue,
        policy: config.policy(),
        discovery: Discovery::new(told.stream, domain),
        checkpoints,
        view: view.clone(),
    };

    let refused = |source| RelayerError::Listen { address: config.listen, source };
    let listener = listen(config.listen).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let routes = frame(&ABOUT, router(view.clone()), metrics, view.probe());
    started(Started { address, scheme: transport.scheme(), account: payer });
    tracing::info!(%address, account = %payer, stream = %told.stream, chain_id = domain.chain_id, "serving");

    let stop = shutdown.clone();
    let submitting = runner.run(stop.asked());
    let serving = serve(listener, transport, routes, config.http, shutdown.clone());
    let carrying = async {
        let done = carrier.run(&shutdown).await;
        // Nobody serves what cannot be gone on with.
        shutdown.ask();
        done
    };
    let (served, carried, ()) = tokio::join!(serving, carrying, submitting);
    carried?;
    served.map_err(RelayerError::Serve)
}

/// What a configuration names, as far as it can be had before anything is made, locked or asked.
struct Named {
    told: Told,
    deployment: Deployment,
    peers: Peers,
    nodes: Vec<Url>,
    transport: Transport,
}

impl Named {
    fn by(config: &Config) -> Result<Self, RelayerError> {
        let told = config.told()?;
        let deployment = Deployment::read(&config.deployments_file, told.stream)?;
        let peers = Peers::at(&told.sequencer, &config.validators, config.ca_file.as_deref(), told.stream)?;
        let nodes =
            config.rpc.iter().enumerate().map(|(place, url)| node(place, url)).collect::<Result<_, _>>()?;
        let transport = Transport::open(config.tls.as_ref())?;
        Ok(Self { told, deployment, peers, nodes, transport })
    }
}

fn node(place: usize, text: &str) -> Result<Url, ConfigProblem> {
    let url = text.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or(ConfigProblem::Url { key: "rpc", place })
}

/// The account whose key is in a file, which is made where it is missing.
pub(crate) fn account(file: &Path) -> Result<Account, RelayerError> {
    signing_key(file)?;
    Ok(read_account(file)?)
}

fn read_account(file: &Path) -> Result<Account, SecretError> {
    read_signing_key(file)?;
    let malformed = || SecretError::Malformed {
        file: file.to_owned(),
        expected: "64 digits of hex that are a secp256k1 key",
    };
    read_secret(file)?.parse().map_err(|_| malformed())
}

/// The first node that answers and is of the chain; the first of all where none answers, which may come back.
async fn endpoint(nodes: Vec<Url>, chain_id: u64) -> Result<Endpoint, RelayerError> {
    let client = client(None)?;
    let mut first = None;
    for url in nodes {
        let endpoint = Endpoint::new(client.clone(), url, chain_id);
        match endpoint.check_chain().await {
            Ok(()) => return Ok(endpoint),
            Err(error @ EndpointError::OtherChain { .. }) => return Err(RelayerError::Chain(error)),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "a node does not answer");
                first.get_or_insert(endpoint);
            }
        }
    }
    first.ok_or(RelayerError::Config(ConfigProblem::Missing { key: "rpc" }))
}

fn submitter_config(config: &Config) -> Submitting {
    Submitting {
        finality: config.finality,
        poll: config.poll(),
        max_fee_per_gas_max: config.fees.fee_per_gas_wei_max.into(),
        answers: ANSWERS,
        in_flight_max: IN_FLIGHT_MAX,
        ..Submitting::default()
    }
}

/// Looks at everything that a configuration names, as [`run`] does before it begins. Nothing is made, locked or asked.
///
/// # Errors
/// [`RelayerError`], as [`run`] would end with it.
pub fn check(config: &Config) -> Result<(), RelayerError> {
    Named::by(config)?;
    match read_account(&config.account_file) {
        // It is made at the start, after the folder.
        Err(SecretError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            if !can_be_made(config.account_file.parent().unwrap_or(Path::new(""))) {
                let (file, source) = (config.account_file.clone(), io::ErrorKind::NotADirectory.into());
                return Err(SecretError::Io { doing: "draw", file, source }.into());
            }
        }
        read => drop(read?),
    }
    if !can_be_made(&config.dir) {
        let (folder, source) = (config.dir.clone(), io::ErrorKind::NotADirectory.into());
        return Err(RelayerError::Folder { folder, source });
    }
    Ok(())
}

/// Whether a folder is there, or nothing that is there keeps it from being made.
fn can_be_made(folder: &Path) -> bool {
    let nearest = folder.ancestors().find(|above| above.as_os_str().is_empty() || above.exists());
    nearest.is_none_or(|above| above.as_os_str().is_empty() || above.is_dir())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use synddb_protocol::id::StreamId;
    use synddb_service::secret::write_new_secret;

    use super::*;

    /// A configuration that can be run, with its files in a folder.
    fn sound(folder: &Path) -> Config {
        let stream = StreamId::from_bytes([7; 32]);
        let contract = |byte: &str| format!(r#"{{"address": "0x{}", "codeHash": "0x00"}}"#, byte.repeat(20));
        let (bridge, keys, registry) = (contract("aa"), contract("bb"), contract("cc"));
        let record = format!(
            r#"{{"chainId": 31337, "streams": {{"{stream}": {{"block": 5, "configuration": {{"verifiers": [], "images": []}}, "contracts": {{"Bridge": {bridge}, "TeeKeyManager": {keys}, "CheckpointRegistry": {registry}}}}}}}}}"#
        );
        fs::write(folder.join("31337.json"), record).unwrap();
        Config {
            stream: Some(stream),
            rpc: vec!["http://127.0.0.1:1".to_owned(), "https://rpc.example/?key=7".to_owned()],
            deployments_file: folder.join("31337.json"),
            sequencer: Some("http://127.0.0.1:1".to_owned()),
            validators: vec!["http://127.0.0.1:1".to_owned()],
            account_file: folder.join("made/relayer.key"),
            dir: folder.join("made/relayer"),
            ..Config::default()
        }
    }

    #[test]
    fn a_check_makes_nothing_and_finds_what_the_start_would_end_with() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let sound = sound(folder);
        check(&sound).unwrap();
        assert!(!folder.join("made").exists());

        let rpc = vec![sound.rpc[0].clone(), "wss://rpc.example".to_owned()];
        let checked = check(&Config { rpc, ..sound.clone() });
        assert!(
            matches!(checked, Err(RelayerError::Config(ConfigProblem::Url { key: "rpc", .. }))),
            "{checked:?}"
        );
        let checked = check(&Config { ca_file: Some(folder.join("ca.pem")), ..sound.clone() });
        assert!(matches!(checked, Err(RelayerError::Authority { .. })), "{checked:?}");
        let key = folder.join("relayer.key");
        write_new_secret(&key, "no key").unwrap();
        let checked = check(&Config { account_file: key.clone(), ..sound.clone() });
        assert!(matches!(checked, Err(RelayerError::Secret(SecretError::Malformed { .. }))), "{checked:?}");
        let checked = check(&Config { account_file: key.join("relayer.key"), ..sound.clone() });
        assert!(matches!(checked, Err(RelayerError::Secret(SecretError::Io { .. }))), "{checked:?}");
        let checked = check(&Config { dir: key, ..sound });
        assert!(matches!(checked, Err(RelayerError::Folder { .. })), "{checked:?}");
    }
}
