//! A whole relayer: opens its queue, looks, brings, serves, and ends.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use synddb_chain::submit::{Config as Submitting, Depth, Submitter};
use synddb_chain::{Account, Contracts, Deployment, Endpoint, EndpointError};
use synddb_protocol::chain;
use synddb_protocol::id::Address;
use synddb_service::http::{Transport, frame, listen, serve};
use synddb_service::secret::{SecretError, read_secret, signing_key};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;

use crate::carry::Carrier;
use crate::checkpoints::Checkpoints;
use crate::config::{Config, ConfigProblem, Finality};
use crate::discovery::Discovery;
use crate::error::RelayerError;
use crate::folder::OwnedFolder;
use crate::http::{ABOUT, RelayerStatus, View, router};
use crate::journal::Journal;
use crate::payer::Payer;
use crate::peers::{Peers, base, client};
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
    let told = config.told()?;
    let deployment = Deployment::read(&config.deployments_file, told.stream)?;
    let (domain, registry) = (deployment.bridge_domain(), deployment.checkpoint_domain());
    let peers = Peers::at(&told.sequencer, &config.validators, config.ca_file.as_deref(), told.stream)?;
    let transport = Transport::open(config.tls.as_ref())?;
    // Held to the end of this function: everything below is this process's alone.
    let _owned = OwnedFolder::take(&config.dir)?;
    crate::metrics::describe();
    let account = account(&config.account_file)?;
    let payer = account.address();
    let journal = Journal::open(&config.dir, told.stream, &domain)?;
    let queue = Arc::new(SqliteQueue::open(&config.dir, payer)?);
    let endpoint = endpoint(&config, deployment.chain_id).await?;
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
        discovery: Discovery::new(),
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

/// The account whose key is in a file, which is made where it is missing.
pub(crate) fn account(file: &Path) -> Result<Account, RelayerError> {
    signing_key(file)?;
    let malformed = || SecretError::Malformed {
        file: file.to_owned(),
        expected: "64 digits of hex that are a secp256k1 key",
    };
    Ok(read_secret(file)?.parse().map_err(|_| malformed())?)
}

/// The first node that answers and is of the chain; the first of all where none answers, which may come back.
async fn endpoint(config: &Config, chain_id: u64) -> Result<Endpoint, RelayerError> {
    let client = client(None)?;
    let mut first = None;
    for (place, url) in config.rpc.iter().enumerate() {
        let problem = || ConfigProblem::Url { key: "rpc", place };
        let url = url.parse().map_err(|_| problem())?;
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
        depth: match config.finality {
            Finality::Finalized => Depth::Finalized,
            Finality::Depth(depth) => Depth::Blocks(depth),
        },
        poll: config.poll(),
        max_fee_per_gas_max: config.fees.fee_per_gas_wei_max.into(),
        answers: ANSWERS,
        in_flight_max: IN_FLIGHT_MAX,
        ..Submitting::default()
    }
}

/// Looks at what a configuration names on this machine. Nothing is made, locked or asked.
///
/// # Errors
/// [`RelayerError`], as [`run`] would end with it.
pub fn check(config: &Config) -> Result<(), RelayerError> {
    let told = config.told()?;
    base("sequencer", 0, &told.sequencer)?;
    for (place, validator) in config.validators.iter().enumerate() {
        base("validators", place, validator)?;
    }
    Deployment::read(&config.deployments_file, told.stream)?;
    Transport::open(config.tls.as_ref())?;
    match read_secret(&config.account_file) {
        // It is made at the start.
        Err(SecretError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        read => drop(read?),
    }
    Ok(())
}
