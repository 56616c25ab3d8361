//! `synddb bridge status`: what the chain says of the bridge, and each of those on the way of a message.

use serde::{Deserialize, Serialize};
use synddb_chain::{Contracts, Deployment, EndpointError, Role};
use synddb_protocol::http::{OutboundList, OutboundStatus};
use synddb_protocol::id::{Address, KeyId, StreamId};

use super::{BridgeStatusArguments, contracts};
use crate::exit::{CommandError, Exit};
use crate::folder::Folder;
use crate::output::{Event, Output};
use crate::peer::{Authority, Peer};
use crate::process;
use crate::refusal::Refusal;

/// How long a peer may take for a list of messages.
const LIST_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// What a bridge is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeReport {
    /// The stream that it serves.
    pub stream: StreamId,
    /// The chain, by its EIP-155 id.
    pub chain_id: u64,
    /// Where it is.
    pub bridge: Address,
    /// The newest block that the node knows.
    pub block: u64,
    /// How many validators are a quorum.
    pub threshold: u32,
    /// How many validators' keys are live.
    pub validators: u32,
    /// What messages may still move of native currency, in wei: a decimal number.
    pub custody: String,
    /// Until when outbound messages are paused, in seconds since 1970; `None` where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<u64>,
    /// The last message of the newest checkpoint on the chain; 0 for none.
    pub checkpoint: u64,
    /// The highest id of a row that the sequencer knows; `None` where it was not asked, or does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
}

/// The validators that signed a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signatures {
    /// Of those that were asked, the keys of those that signed, and count on the chain.
    pub signed: Vec<KeyId>,
    /// What others say that refuse it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// How many are a quorum.
    pub threshold: u32,
}

/// How far a message is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageReport {
    /// The row's id.
    pub nonce: u64,
    /// What the sequencer says of it.
    pub sequencer: OutboundStatus,
    /// What validators say of it.
    pub validators: Signatures,
    /// Where it is on the chain, as the contract names it.
    pub chain: String,
}

/// Where everything is.
struct Places {
    deployed: Deployment,
    rpc: String,
    sequencer: Option<String>,
    validators: Vec<String>,
}

impl Places {
    /// What is named, else what a running `dev` has written down.
    fn find(arguments: &BridgeStatusArguments) -> Result<Self, CommandError> {
        let folder = arguments.database.as_ref().map(|file| Folder::of(file, arguments.dir.as_deref()));
        let running = folder.as_ref().and_then(Folder::read_running);
        let bridged = running.as_ref().and_then(|running| running.bridge.as_ref());
        if let (Some(database), None) = (&arguments.database, bridged) {
            return Err(Refusal::NoBridge { database: database.clone() }.into());
        }
        let untold = |fix| CommandError::from(Refusal::Untold { fix });
        let stream = match (arguments.of.stream, &folder) {
            (Some(stream), _) => stream,
            (None, Some(folder)) => synddb_agent::stream_of(folder.path())?,
            (None, None) => {
                return Err(untold(
                    "name the stream with --stream, or a database that `dev --chain` follows",
                ));
            }
        };
        let deployments = arguments.of.deployments.clone();
        let deployments = deployments.or_else(|| bridged.map(|bridged| bridged.deployments.clone().into()));
        let deployments =
            deployments.ok_or_else(|| untold("name the record of the deployment with --deployments"))?;
        let rpc = arguments.of.rpc.clone().or_else(|| bridged.map(|bridged| bridged.rpc.clone()));
        let mut validators = arguments.validators.clone();
        if validators.is_empty() {
            validators.extend(running.as_ref().map(|running| running.validator.clone()));
        }
        let known = || running.as_ref().map(|running| running.sequencer.clone());
        Ok(Self {
            deployed: Deployment::read(&deployments, stream)?,
            rpc: rpc.ok_or_else(|| untold("name a node of the chain with --rpc"))?,
            sequencer: arguments.sequencer.clone().or_else(known),
            validators,
        })
    }
}

pub(super) fn run(arguments: &BridgeStatusArguments, output: Output) -> Result<Exit, CommandError> {
    let places = Places::find(arguments)?;
    let authority = Authority::read(arguments.ca_file.as_deref())?;
    let (state, messages) = process::ask(async {
        let contracts = contracts(&places.rpc, places.deployed.clone())?;
        check_chain(&contracts).await?;
        let list = match &places.sequencer {
            Some(url) => {
                listed(&Peer::at("the sequencer", url, &authority)?, "/messages/outbound", arguments.from)
                    .await
            }
            None => None,
        };
        let state = state(&contracts, list.as_ref().map(|list| list.last)).await?;
        let mut validators = Vec::new();
        for url in &places.validators {
            let peer = Peer::at("a validator", url, &authority)?;
            validators.extend(listed(&peer, "/outbound", arguments.from).await);
        }
        let mut messages = Vec::new();
        for sequencer in list.into_iter().flat_map(|list| list.messages) {
            messages.push(message(&contracts, sequencer, &validators, state.threshold).await?);
        }
        Ok::<_, CommandError>((state, messages))
    })?;
    output.tell(&Event::BridgeStatus { bridge: Box::new(state), messages })?;
    Ok(Exit::Done)
}

/// The messages that a service knows; `None` when it does not answer.
async fn listed(peer: &Peer, path: &str, from: u64) -> Option<OutboundList> {
    peer.get(&format!("{path}?from={from}"), LIST_MAX).await.ok()
}

/// Refuses a node of another chain, where something else may be at the same addresses.
async fn check_chain(contracts: &Contracts) -> Result<(), CommandError> {
    contracts.endpoint().check_chain().await?;
    let bridge = contracts.deployment().bridge;
    if !contracts.endpoint().has_code(bridge).await? {
        return Err(Refusal::NotThere { bridge }.into());
    }
    Ok(())
}

async fn state(contracts: &Contracts, last: Option<u64>) -> Result<BridgeReport, EndpointError> {
    let Deployment { stream, chain_id, bridge, .. } = *contracts.deployment();
    let custody = contracts.custody_of(contracts.wrapped_native().await?).await?;
    let (paused, newest) = (contracts.paused_until().await?, contracts.endpoint().latest().await?);
    let (threshold, validators) = contracts.validators().await?;
    Ok(BridgeReport {
        stream,
        chain_id,
        bridge,
        block: newest.number,
        threshold,
        validators,
        custody: custody.to_string(),
        paused_until: (paused > newest.timestamp).then_some(paused),
        checkpoint: contracts.newest_checkpoint().await?,
        last,
    })
}

async fn message(
    contracts: &Contracts,
    sequencer: OutboundStatus,
    lists: &[OutboundList],
    threshold: u32,
) -> Result<MessageReport, EndpointError> {
    let nonce = sequencer.nonce();
    let mut validators = Signatures { signed: Vec::new(), refused: Vec::new(), threshold };
    let said = lists.iter().filter_map(|list| list.messages.iter().find(|said| said.nonce() == nonce));
    for said in said {
        match said {
            OutboundStatus::Signed(signed) => {
                let is_live = contracts.is_live(signed.signer, Role::Validator).await?;
                if is_live && !validators.signed.contains(&signed.signer) {
                    validators.signed.push(signed.signer);
                }
            }
            OutboundStatus::Refused(refused) => validators.refused.push(refused.detail.clone()),
            OutboundStatus::Waiting { .. } => {}
        }
    }
    let chain = contracts.message_state(nonce).await?.to_string();
    Ok(MessageReport { nonce, sequencer, validators, chain })
}

/// What is said to people.
pub(crate) fn in_words(bridge: &BridgeReport, messages: &[MessageReport]) -> String {
    let paused =
        bridge.paused_until.map_or_else(String::new, |until| format!("\n  paused      until {until}"));
    let mut lines = format!(
        "bridge of stream {}\n  at          {}, chain {}, block {}\n  quorum      {} of {} live validators\n  custody     {} wei\n  \
         checkpoint  {}{paused}",
        bridge.stream,
        bridge.bridge,
        bridge.chain_id,
        bridge.block,
        bridge.threshold,
        bridge.validators,
        bridge.custody,
        bridge.checkpoint
    );
    let known = match bridge.last {
        None => "the sequencer does not answer".to_owned(),
        Some(last) => format!("outbound messages: {last}"),
    };
    lines.push_str(&format!("\n{known}"));
    if !messages.is_empty() {
        lines.push_str("\n  nonce  sequencer  signatures  chain");
    }
    for MessageReport { nonce, sequencer, validators, chain } in messages {
        let sequencer = match sequencer {
            OutboundStatus::Signed(_) => "signed",
            OutboundStatus::Refused(_) => "refused",
            OutboundStatus::Waiting { .. } => "waiting",
        };
        let signatures = format!("{} of {}", validators.signed.len(), validators.threshold);
        let refused = if validators.refused.is_empty() { "" } else { "  refused by validators" };
        lines.push_str(&format!("\n  {nonce:<5}  {sequencer:<9}  {signatures:<10}  {chain}{refused}"));
    }
    lines
}
