//! `synddb endorsements`: who has endorsed what in a store, and whether they are a quorum.

use clap::Args;
use synddb_protocol::id::{Address, KeyId, Sequence, StreamId};
use synddb_protocol::log::{Endorsed, Gathered, Quorum};
use synddb_protocol::signing::Domain;
use synddb_storage::{ObjectBatchStore, StoreUrl};
use synddb_validator::ValidatorError;
use synddb_validator::gathered::{Trusting, gathered_at, places};

use crate::exit::{CommandError, Exit};
use crate::named;
use crate::output::{Event, Output};
use crate::process;
use crate::refusal::Refusal;

#[derive(Debug, Args)]
pub(crate) struct EndorsementsArguments {
    /// The store, as for `validator`. It must be one that can be listed.
    #[arg(value_parser = named::store)]
    store: StoreUrl,
    /// The stream. Without it, the only one that the store holds.
    #[arg(long)]
    stream: Option<StreamId>,
    /// The key id of a validator that counts; several may be named.
    #[arg(long = "validator", required = true, value_name = "KEY_ID", value_parser = named::key_id)]
    validators: Vec<KeyId>,
    /// How many of them are a quorum.
    #[arg(long, default_value_t = 1)]
    threshold: u32,
    /// The chain, by its EIP-155 id, for which they are to be good.
    #[arg(long, default_value_t = 0, requires = "registry")]
    chain_id: u64,
    /// The checkpoint registry there.
    #[arg(long, value_name = "ADDRESS", value_parser = named::key_id, requires = "chain_id")]
    registry: Option<Address>,
    /// The last message of the checkpoint. Without it, the newest ones.
    #[arg(long)]
    sequence: Option<Sequence>,
    /// How many places are told, the newest first.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=256))]
    limit: u64,
}

pub(crate) fn run(arguments: &EndorsementsArguments, output: Output) -> Result<Exit, CommandError> {
    let quorum = Quorum::new(arguments.validators.iter().copied(), arguments.threshold as usize)
        .map_err(|source| Refusal::NoQuorum { source })?;
    if !arguments.store.is_writable() {
        return Err(Refusal::NotListed { store: arguments.store.clone() }.into());
    }
    let contract = arguments.registry.unwrap_or(Domain::NONE.contract);
    let domain = Domain { chain_id: arguments.chain_id, contract };
    let (stream, gathered) = process::ask(async {
        let store = ObjectBatchStore::open_existing(&arguments.store).await.map_err(ValidatorError::from)?;
        let stream = match arguments.stream {
            Some(stream) => stream,
            None => only(&store.streams().await.map_err(|failure| {
                CommandError::from(Box::new(synddb_validator::fsck::Problem::List(failure)))
            })?)?,
        };
        let trusting = Trusting { stream, domain, quorum: &quorum };
        let at = match arguments.sequence {
            Some(sequence) => vec![sequence],
            None => {
                let all = places(&store, trusting).await?;
                let most = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
                all.into_iter().rev().take(most).collect()
            }
        };
        let mut gathered = Vec::new();
        for sequence in at {
            gathered.push((sequence, gathered_at(&store, trusting, sequence).await?));
        }
        Ok::<_, CommandError>((stream, gathered))
    })?;
    let mut best = None;
    for (_, Gathered { endorsed, uncounted }) in gathered {
        for Endorsed { checkpoint, digest, signatures, has_quorum } in endorsed {
            let claim = checkpoint.claim();
            if has_quorum {
                best = best.max(Some(claim.size));
            }
            output.tell(&Event::Gathered {
                sequence: claim.size,
                root: claim.root(),
                state: claim.client.as_ref().map(|client| client.state),
                digest: digest.to_string(),
                has_quorum,
                signers: signatures.keys().copied().collect(),
                signatures: signatures.values().map(ToString::to_string).collect(),
            })?;
        }
        for uncounted in uncounted {
            let why = uncounted.why.to_string();
            output.tell(&Event::NotCounted {
                sequence: uncounted.sequence,
                signer: uncounted.signer,
                why,
            })?;
        }
    }
    output.tell(&Event::Quorum {
        stream,
        threshold: arguments.threshold,
        of: arguments.validators.len() as u64,
        sequence: best,
    })?;
    Ok(if best.is_some() { Exit::Done } else { Exit::Different })
}

fn only(streams: &[StreamId]) -> Result<StreamId, Refusal> {
    match streams {
        [only] => Ok(*only),
        [] => Err(Refusal::WhichStream { found: "none".to_owned() }),
        several => {
            let named: Vec<String> = several.iter().take(10).map(ToString::to_string).collect();
            Err(Refusal::WhichStream { found: named.join(" ") })
        }
    }
}
