//! What is asked of the contracts of a stream, what they are sent, and what they tell.

use alloy_primitives::{Bytes, U256};
use alloy_sol_types::{SolCall, SolEventInterface as _, SolInterface as _};
use serde::Deserialize;
use synddb_protocol::Uint256;
use synddb_protocol::id::{Address, KeyId};
use synddb_protocol::log::OutboundMessage;
use synddb_protocol::signing::RecoverableSignature;

use crate::bindings::bridge::Bridge;
use crate::bindings::checkpoints::CheckpointRegistry;
use crate::bindings::keys::TeeKeyManager;
use crate::deployment::Deployment;
use crate::endpoint::{BlockTag, Endpoint, EndpointError, Receipt};
use crate::words::{address, our_uint, ours, uint, word};

/// Longest description of what a contract reverted with, in characters.
const REVERT_CHARS_MAX: usize = 300;

/// Where a message is in its life, by the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageState {
    /// Unknown there.
    NotStarted,
    /// Brought, and not executed yet; or told to wait by a module.
    PreExecution,
    /// The call is running.
    Executing,
    /// The call has returned.
    PostExecution,
    /// Executed.
    Completed,
    /// Undone; anyone may retry it.
    Failed,
    /// Refused for ever.
    Rejected,
    /// Brought after its deadline.
    Expired,
}

impl MessageState {
    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::NotStarted,
            1 => Self::PreExecution,
            2 => Self::Executing,
            3 => Self::PostExecution,
            4 => Self::Completed,
            5 => Self::Failed,
            6 => Self::Rejected,
            7 => Self::Expired,
            _ => return None,
        })
    }

    /// Whether nothing changes it any more.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Rejected | Self::Expired => true,
            Self::NotStarted | Self::PreExecution | Self::Executing | Self::PostExecution | Self::Failed => {
                false
            }
        }
    }
}

/// As the contract names it.
impl std::fmt::Display for MessageState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// What a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The log, and outbound messages as the first of two.
    Sequencer,
    /// Endorsements, and outbound messages as one of a quorum.
    Validator,
}

impl Role {
    const fn number(self) -> u8 {
        match self {
            Self::Sequencer => 1,
            Self::Validator => 2,
        }
    }
}

/// A message with everything that a bridge asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorized {
    /// What is signed.
    pub message: OutboundMessage,
    /// The call data.
    pub payload: Vec<u8>,
    /// The sequencer's signature.
    pub sequencer: RecoverableSignature,
    /// The validators', in strictly ascending order of their addresses.
    pub validators: Vec<RecoverableSignature>,
}

/// What a contract reverted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reverted {
    /// The name of its error; empty where it is none of theirs.
    pub name: String,
    /// The error with its values, for people.
    pub text: String,
}

impl std::fmt::Display for Reverted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a transaction made of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BroughtTo {
    /// It was executed.
    Completed,
    /// It was undone.
    Failed(Reverted),
    /// It is refused for ever.
    Rejected,
    /// It came after its deadline.
    Expired,
    /// A module told it to wait.
    Delayed,
}

/// What contracts are sent.
pub mod calls {
    use super::{
        Address, Authorized, Bridge, Bytes, CheckpointRegistry, RecoverableSignature, Role, SolCall as _,
        TeeKeyManager, bridge_message, concatenated, word,
    };
    use synddb_protocol::log::Endorsement;

    /// Brings a message and executes it; also one that failed before.
    pub fn initialize_and_handle(authorized: &Authorized) -> Vec<u8> {
        Bridge::initializeAndHandleMessageCall {
            message: bridge_message(&authorized.message),
            payload: Bytes::copy_from_slice(&authorized.payload),
            sequencerSignature: Bytes::copy_from_slice(authorized.sequencer.as_bytes()),
            validatorSignatures: concatenated(&authorized.validators),
        }
        .abi_encode()
    }

    /// Records a checkpoint that a quorum endorsed; `None` for one that nobody can endorse.
    pub fn record_checkpoint(
        endorsement: &Endorsement,
        validators: &[RecoverableSignature],
        store: &str,
    ) -> Option<Vec<u8>> {
        let claim = endorsement.checkpoint.claim();
        let checkpoint = super::CheckpointOnChain {
            stream: word(claim.stream.as_bytes()),
            epoch: claim.epoch.get(),
            sequence: claim.size.get(),
            timestamp: claim.timestamp.as_ms(),
            root: word(claim.root().as_bytes()),
            stateHash: word(claim.client.as_ref()?.state.as_bytes()),
            inboxConsumed: claim.inbox_consumed,
        };
        let (signatures, store) = (concatenated(validators), store.to_owned());
        Some(CheckpointRegistry::recordCheckpointCall { checkpoint, signatures, store }.abi_encode())
    }

    /// Shows that a key equivocated.
    pub fn report_equivocation(first: &[u8], second: &[u8]) -> Vec<u8> {
        let (first, second) = (Bytes::copy_from_slice(first), Bytes::copy_from_slice(second));
        TeeKeyManager::reportEquivocationCall { first, second }.abi_encode()
    }

    /// Registers a key. `public_key` is the uncompressed point without its head.
    pub fn register_key(
        role: Role,
        public_key: &[u8; 64],
        block: u64,
        verifier: Address,
        evidence: &[u8],
    ) -> Vec<u8> {
        TeeKeyManager::registerKeyCall {
            role: role.number(),
            publicKey: Bytes::copy_from_slice(public_key),
            blockNumber: alloy_primitives::U256::from(block),
            verifier: crate::words::address(verifier),
            evidence: Bytes::copy_from_slice(evidence),
        }
        .abi_encode()
    }
}

use crate::bindings::bridge::Bridge::Message as MessageOnChain;
use crate::bindings::checkpoints::CheckpointRegistry::Checkpoint as CheckpointOnChain;

fn bridge_message(message: &OutboundMessage) -> MessageOnChain {
    MessageOnChain {
        stream: word(message.stream.as_bytes()),
        nonce: message.nonce,
        target: address(message.target),
        value: uint(message.value),
        token: address(message.token),
        amount: uint(message.amount),
        payloadHash: word(message.payload_hash.as_bytes()),
        gasLimit: message.gas_limit,
        deadline: message.deadline,
        inboxConsumed: message.inbox_consumed,
    }
}

fn concatenated(signatures: &[RecoverableSignature]) -> Bytes {
    signatures.iter().flat_map(|signature| *signature.as_bytes()).collect()
}

impl Reverted {
    /// Reads what a contract reverted with.
    pub fn of(data: &[u8]) -> Self {
        if data.is_empty() {
            return Self { name: String::new(), text: "without a reason".to_owned() };
        }
        let error = read_error::<Bridge::BridgeErrors>(data)
            .or_else(|| read_error::<TeeKeyManager::TeeKeyManagerErrors>(data))
            .or_else(|| read_error::<CheckpointRegistry::CheckpointRegistryErrors>(data));
        if let Some(read) = error {
            return read;
        }
        if let Ok(standard) = alloy_sol_types::GenericContractError::abi_decode(data) {
            return Self::new(String::new(), &standard.to_string());
        }
        Self::new(String::new(), &format!("0x{}", hex::encode(data)))
    }

    fn new(name: String, text: &str) -> Self {
        Self { name, text: text.chars().take(REVERT_CHARS_MAX).collect() }
    }
}

/// An error as Rust shows it, `CustodyTooLow(CustodyTooLow { token: 0x.., held: 1, asked: 2 })`, without the outer name.
fn read_error<E: alloy_sol_types::SolInterface + std::fmt::Debug>(data: &[u8]) -> Option<Reverted> {
    let shown = format!("{:?}", E::abi_decode(data).ok()?);
    let (name, rest) = shown.split_once('(')?;
    let text = rest.strip_suffix(')').unwrap_or(rest);
    Some(Reverted::new(name.to_owned(), text))
}

/// What a transaction made of a message, by the bridge's own words; `None` where it tells nothing of it.
pub fn outcome_of(receipt: &Receipt, bridge: Address, nonce: u64) -> Option<BroughtTo> {
    let told = |log: &crate::endpoint::Log| {
        if log.address != bridge {
            return None;
        }
        let topics: Vec<_> = log.topics.iter().map(word).collect();
        Bridge::BridgeEvents::decode_raw_log(&topics, &log.data).ok()
    };
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "events that are about no message, and more of them later"
    )]
    let outcome = |event| match event {
        Bridge::BridgeEvents::MessageCompleted(event) if event.nonce == nonce => Some(BroughtTo::Completed),
        Bridge::BridgeEvents::MessageFailed(event) if event.nonce == nonce => {
            Some(BroughtTo::Failed(Reverted::of(&event.reason)))
        }
        Bridge::BridgeEvents::MessageRejected(event) if event.nonce == nonce => Some(BroughtTo::Rejected),
        Bridge::BridgeEvents::MessageExpired(event) if event.nonce == nonce => Some(BroughtTo::Expired),
        Bridge::BridgeEvents::MessageDelayed(event) if event.nonce == nonce => Some(BroughtTo::Delayed),
        _ => None,
    };
    receipt.logs.iter().rev().filter_map(told).find_map(outcome)
}

/// The contracts of a stream, asked through one node.
#[derive(Debug, Clone)]
pub struct Contracts {
    endpoint: Endpoint,
    deployment: Deployment,
}

impl Contracts {
    /// Those of a deployment.
    pub const fn new(endpoint: Endpoint, deployment: Deployment) -> Self {
        Self { endpoint, deployment }
    }

    /// The node.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where they are.
    pub const fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The state of a message.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn message_state(&self, nonce: u64) -> Result<MessageState, EndpointError> {
        self.message_state_at(nonce, BlockTag::Latest).await
    }

    /// The same behind another block, of which the node must have the state.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn message_state_at(&self, nonce: u64, at: BlockTag) -> Result<MessageState, EndpointError> {
        let call = Bridge::messageStateCall { nonce };
        let state = self.ask_at(self.deployment.bridge, &call, at).await?;
        MessageState::of(state).ok_or_else(|| self.nonsense("the state of a message is none"))
    }

    /// How many validators are a quorum. It reverts with `ThresholdInvalid` while there are fewer.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn threshold(&self) -> Result<u32, EndpointError> {
        self.ask(self.deployment.key_manager, &TeeKeyManager::validatorThresholdCall {}).await
    }

    /// The threshold as it was set, and how many validators there are.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn validators(&self) -> Result<(u32, u32), EndpointError> {
        let keys = self.deployment.key_manager;
        let threshold = self.ask(keys, &TeeKeyManager::configuredThresholdCall {}).await?;
        Ok((threshold, self.ask(keys, &TeeKeyManager::validatorCountCall {}).await?))
    }

    /// Whether a key counts now.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn is_live(&self, key: KeyId, role: Role) -> Result<bool, EndpointError> {
        let call = TeeKeyManager::isLiveCall { key: address(key), role: role.number() };
        self.ask(self.deployment.key_manager, &call).await
    }

    /// What messages may still move of a token; native currency is under [`Self::wrapped_native`].
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn custody_of(&self, token: Address) -> Result<Uint256, EndpointError> {
        let call = Bridge::custodyOfCall { token: address(token) };
        self.ask(self.deployment.bridge, &call).await.map(our_uint)
    }

    /// The wrapped native currency.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn wrapped_native(&self) -> Result<Address, EndpointError> {
        self.ask(self.deployment.bridge, &Bridge::wrappedNativeCall {}).await.map(ours)
    }

    /// Until when outbound messages are paused, in seconds since 1970: a time that may be over.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn paused_until(&self) -> Result<u64, EndpointError> {
        let switches = self.ask(self.deployment.bridge, &Bridge::switchesCall {}).await?;
        Ok(switches.outboundPausedUntil)
    }

    /// The newest checkpoint that is recorded; 0 for none.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn newest_checkpoint(&self) -> Result<u64, EndpointError> {
        let call = CheckpointRegistry::newestSequenceCall {};
        self.ask(self.deployment.checkpoint_registry, &call).await
    }

    /// What the bridge says to a call by this account, at the newest block: what became of the message, or what it reverts with.
    ///
    /// # Errors
    /// [`EndpointError`], where the node does not tell.
    pub async fn simulate(
        &self,
        from: Address,
        data: &[u8],
    ) -> Result<Result<MessageState, Reverted>, EndpointError> {
        match self.endpoint.call(from, self.deployment.bridge, data, BlockTag::Latest).await {
            Ok(answer) => {
                let state = U256::try_from_be_slice(&answer).and_then(|state| u8::try_from(state).ok());
                let state = state.and_then(MessageState::of);
                state.map(Ok).ok_or_else(|| self.nonsense("what a call returns is no state"))
            }
            Err(error) => match error.reverted() {
                Some(data) => Ok(Err(Reverted::of(data))),
                None => Err(error),
            },
        }
    }

    async fn ask<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, EndpointError> {
        self.ask_at(to, call, BlockTag::Latest).await
    }

    async fn ask_at<C: SolCall>(
        &self,
        to: Address,
        call: &C,
        at: BlockTag,
    ) -> Result<C::Return, EndpointError> {
        ask_at(&self.endpoint, to, call, at).await
    }

    fn nonsense(&self, why: &str) -> EndpointError {
        nonsense(&self.endpoint, why)
    }
}

/// How many inbound messages a bridge had sent behind a block, of which the node must have the state.
pub(crate) async fn inbound_count(
    endpoint: &Endpoint,
    bridge: Address,
    at: BlockTag,
) -> Result<u64, EndpointError> {
    ask_at(endpoint, bridge, &Bridge::inboundCountCall {}, at).await
}

async fn ask_at<C: SolCall>(
    endpoint: &Endpoint,
    to: Address,
    call: &C,
    at: BlockTag,
) -> Result<C::Return, EndpointError> {
    let nobody = Address::from_bytes([0; 20]);
    let answer = endpoint.call(nobody, to, &call.abi_encode(), at).await?;
    C::abi_decode_returns(&answer).map_err(|error| nonsense(endpoint, &error.to_string()))
}

fn nonsense(endpoint: &Endpoint, why: &str) -> EndpointError {
    let why = format!("{why}; are the contracts those of the record?");
    EndpointError::Nonsense { node: endpoint.node(), method: "eth_call", why }
}

#[cfg(test)]
mod tests {
    use alloy_sol_types::{SolError as _, SolEvent as _, SolStruct as _};
    use synddb_protocol::hash::PayloadHash;
    use synddb_protocol::id::StreamId;
    use synddb_protocol::signing::Domain;

    use super::*;

    fn message() -> OutboundMessage {
        OutboundMessage {
            stream: StreamId::from_bytes([1; 32]),
            nonce: 2,
            target: Address::from_bytes([3; 20]),
            value: 4.into(),
            token: Address::from_bytes([5; 20]),
            amount: Uint256::MAX,
            payload_hash: PayloadHash::of(b"7"),
            gas_limit: 8,
            deadline: u64::MAX,
            inbox_consumed: 9,
        }
    }

    #[test]
    fn what_is_signed_is_what_the_contract_hashes() {
        let contract = Address::from_bytes([0xbb; 20]);
        let digest = message().digest(&Domain { chain_id: 31337, contract });
        let domain = alloy_sol_types::eip712_domain! {
            name: "SyndDB", version: "1", chain_id: 31337, verifying_contract: address(contract),
        };
        assert_eq!(bridge_message(&message()).eip712_signing_hash(&domain).0, *digest.as_bytes());
    }

    #[test]
    fn what_a_contract_reverts_with_is_said_in_words() {
        let (token, held, asked) = (alloy_primitives::Address::ZERO, U256::from(1), U256::from(2));
        let data = Bridge::CustodyTooLow { token, held, asked }.abi_encode();
        let reverted = Reverted::of(&data);
        assert_eq!(reverted.name, "CustodyTooLow");
        assert!(reverted.text.contains("held: 1, asked: 2"), "{reverted}");
        let data = TeeKeyManager::QuorumNotMet { signatures: U256::from(1), threshold: 2 }.abi_encode();
        assert_eq!(Reverted::of(&data).name, "QuorumNotMet");
        assert!(Reverted::of(&[1, 2, 3, 4]).text.contains("0x01020304"));
        assert_eq!(Reverted::of(&[]).text, "without a reason");
    }

    #[test]
    fn the_last_word_of_the_bridge_about_a_message_counts() {
        let bridge = Address::from_bytes([0xbb; 20]);
        let log = |from: Address, data: alloy_primitives::LogData| crate::endpoint::Log {
            address: from,
            topics: data.topics().iter().map(|topic| topic.0).collect(),
            data: data.data.to_vec(),
        };
        let digest = word(&[0; 32]);
        let completed = |nonce| Bridge::MessageCompleted { nonce, digest }.encode_log_data();
        let logs = vec![
            log(bridge, completed(1)),
            log(Address::from_bytes([0; 20]), completed(2)),
            log(bridge, Bridge::MessageFailed { nonce: 3, digest, reason: Bytes::new() }.encode_log_data()),
        ];
        let receipt = Receipt {
            hash: [0; 32],
            block: 1,
            block_hash: [0; 32],
            succeeded: true,
            gas_used: 1,
            gas_price: 1,
            logs,
        };
        assert_eq!(outcome_of(&receipt, bridge, 1), Some(BroughtTo::Completed));
        assert_eq!(outcome_of(&receipt, bridge, 2), None, "somebody else said it");
        assert!(matches!(outcome_of(&receipt, bridge, 3), Some(BroughtTo::Failed(_))));
    }
}
