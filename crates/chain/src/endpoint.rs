//! One node of the chain, over JSON-RPC and HTTP.
//!
//! Believed as little as possible: every answer is bounded, must be for what was asked, and the chain must be the one that was meant. What a node says of
//! nonces and receipts is judged by whoever asks ([`crate::submit`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use synddb_protocol::id::Address;
use url::Url;

use crate::account::Fees;

/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Longest text of a refusal that is kept, in characters.
const REFUSAL_CHARS_MAX: usize = 500;

/// Why a node does not tell.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// It does not answer.
    #[error("the node does not answer. node=`{node}`")]
    Unreachable {
        /// The node, without what of its URL is secret.
        node: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// It answers something that cannot be read.
    #[error("the node answers what cannot be read: {why}. node=`{node}` method=`{method}`")]
    Nonsense {
        /// The node.
        node: String,
        /// What it was asked.
        method: &'static str,
        /// What is wrong with the answer.
        why: String,
    },
    /// It refuses.
    #[error("the node refuses: {message}. node=`{node}` method=`{method}` code=`{code}`")]
    Refused {
        /// The node.
        node: String,
        /// What it was asked.
        method: &'static str,
        /// Its number of the refusal.
        code: i64,
        /// Its words.
        message: String,
        /// What the contract reverted with, if the node tells.
        data: Option<Vec<u8>>,
    },
    /// It is of another chain.
    #[error("the node is of chain {found}; name a node of chain {expected}. node=`{node}`")]
    OtherChain {
        /// The node.
        node: String,
        /// The chain that was meant.
        expected: u64,
        /// The chain that it is of.
        found: u64,
    },
}

impl EndpointError {
    /// What the contract reverted with, where it did.
    pub fn reverted(&self) -> Option<&[u8]> {
        match self {
            Self::Refused { data, code, message, .. } => match data {
                Some(data) => Some(data),
                // Some nodes tell only in words that it was the contract.
                None => (*code == 3 || message.contains("execution reverted")).then_some(&[]),
            },
            Self::Unreachable { .. } | Self::Nonsense { .. } | Self::OtherChain { .. } => None,
        }
    }
}

/// A block, as far as anybody here looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: [u8; 32],
    /// When it was made, in seconds since 1970.
    pub timestamp: u64,
    /// What is burnt for a unit of gas, in wei.
    pub base_fee: u128,
}

/// Which block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockTag {
    /// The newest.
    Latest,
    /// The newest that the chain will not take back.
    Finalized,
    /// By its number.
    Number(u64),
}

impl BlockTag {
    fn text(self) -> String {
        match self {
            Self::Latest => "latest".to_owned(),
            Self::Finalized => "finalized".to_owned(),
            Self::Number(number) => quantity(number.into()),
        }
    }
}

/// What became of a transaction that is in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The transaction.
    pub hash: [u8; 32],
    /// The block.
    pub block: u64,
    /// The block's hash.
    pub block_hash: [u8; 32],
    /// Whether it was not reverted.
    pub succeeded: bool,
    /// Gas that it used.
    pub gas_used: u64,
    /// What was paid for a unit of it, in wei.
    pub gas_price: u128,
    /// What contracts told.
    pub logs: Vec<Log>,
}

/// What a contract told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The contract.
    pub address: Address,
    /// Its indexed words, the first of which names the event.
    pub topics: Vec<[u8; 32]>,
    /// The rest.
    pub data: Vec<u8>,
}

/// What a contract told, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    /// What it told.
    pub log: Log,
    /// The block.
    pub block: u64,
    /// The block's hash.
    pub block_hash: [u8; 32],
    /// The transaction.
    pub transaction: [u8; 32],
    /// Its place among what contracts told in the block.
    pub index: u32,
}

/// A log as nodes write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerLog {
    address: String,
    topics: Vec<String>,
    data: String,
    #[serde(default)]
    block_number: String,
    #[serde(default)]
    block_hash: String,
    #[serde(default)]
    transaction_hash: String,
    #[serde(default)]
    log_index: String,
    #[serde(default)]
    removed: bool,
}

/// A node of one chain. Clones are the same.
#[derive(Clone)]
pub struct Endpoint {
    client: reqwest::Client,
    url: Url,
    chain_id: u64,
    ids: std::sync::Arc<AtomicU64>,
}

/// Its URL is not shown: keys stand in it.
impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("node", &self.node()).field("chain_id", &self.chain_id).finish()
    }
}

impl Endpoint {
    /// The node at a URL. Nothing is asked yet; see [`Self::check_chain`].
    pub fn new(client: reqwest::Client, url: Url, chain_id: u64) -> Self {
        Self { client, url, chain_id, ids: std::sync::Arc::default() }
    }

    /// The chain that is meant.
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The node, for people: keys stand in the paths of URLs.
    pub fn node(&self) -> String {
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", self.url.scheme(), self.url.host_str().unwrap_or_default())
    }

    /// Asks whether the node is of the chain that is meant.
    ///
    /// # Errors
    /// [`EndpointError`], [`EndpointError::OtherChain`] among them.
    pub async fn check_chain(&self) -> Result<(), EndpointError> {
        let found = self.number("eth_chainId", json!([])).await?;
        let found = self.narrow("eth_chainId", found)?;
        if found == self.chain_id {
            return Ok(());
        }
        Err(EndpointError::OtherChain { node: self.node(), expected: self.chain_id, found })
    }

    /// A block; `None` where there is none, as before anything is final.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn block(&self, tag: BlockTag) -> Result<Option<Block>, EndpointError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            number: String,
            hash: String,
            timestamp: String,
            #[serde(default)]
            base_fee_per_gas: Option<String>,
        }
        const METHOD: &str = "eth_getBlockByNumber";
        let answer: Option<Answer> = self.ask(METHOD, json!([tag.text(), false])).await?;
        let Some(answer) = answer else { return Ok(None) };
        Ok(Some(Block {
            number: self.read_u64(METHOD, &answer.number)?,
            hash: self.word(METHOD, &answer.hash)?,
            timestamp: self.read_u64(METHOD, &answer.timestamp)?,
            base_fee: answer.base_fee_per_gas.map_or(Ok(0), |fee| self.read(METHOD, &fee))?,
        }))
    }

    /// The newest block.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn latest(&self) -> Result<Block, EndpointError> {
        let latest = self.block(BlockTag::Latest).await?;
        latest.ok_or_else(|| self.nonsense("eth_getBlockByNumber", "there is no newest block"))
    }

    /// What block makers are paid now beside the base fee, in wei.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn priority_fee(&self) -> Result<u128, EndpointError> {
        self.number("eth_maxPriorityFeePerGas", json!([])).await
    }

    /// Gas that a transaction of this account would use.
    ///
    /// # Errors
    /// [`EndpointError`]; where it would revert, [`EndpointError::reverted`] has the reason.
    pub async fn estimate_gas(&self, from: Address, to: Address, data: &[u8]) -> Result<u64, EndpointError> {
        let call = json!({"from": from, "to": to, "data": hexed(data)});
        let gas = self.number("eth_estimateGas", json!([call])).await?;
        self.narrow("eth_estimateGas", gas)
    }

    /// What a call would return behind a block.
    ///
    /// # Errors
    /// [`EndpointError`]; where it would revert, [`EndpointError::reverted`] has the reason.
    pub async fn call(
        &self,
        from: Address,
        to: Address,
        data: &[u8],
        at: BlockTag,
    ) -> Result<Vec<u8>, EndpointError> {
        let call = json!({"from": from, "to": to, "data": hexed(data)});
        let text: String = self.ask("eth_call", json!([call, at.text()])).await?;
        self.bytes("eth_call", &text)
    }

    /// How many transactions of an account are in blocks, by this node.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn transaction_count(&self, account: Address) -> Result<u64, EndpointError> {
        self.transaction_count_at(account, BlockTag::Latest).await
    }

    /// The same for the blocks up to one.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn transaction_count_at(&self, account: Address, tag: BlockTag) -> Result<u64, EndpointError> {
        let count = self.number("eth_getTransactionCount", json!([account, tag.text()])).await?;
        self.narrow("eth_getTransactionCount", count)
    }

    /// Sends a signed transaction.
    ///
    /// # Errors
    /// [`EndpointError`]. A refusal does not say that the node, or another one, has it not.
    pub async fn send(&self, transaction: &[u8]) -> Result<(), EndpointError> {
        let _: Value = self.ask("eth_sendRawTransaction", json!([hexed(transaction)])).await?;
        Ok(())
    }

    /// The receipt of a transaction; `None` while it is in no block.
    ///
    /// # Errors
    /// [`EndpointError`], also for the receipt of another one.
    pub async fn receipt(&self, hash: &[u8; 32]) -> Result<Option<Receipt>, EndpointError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            transaction_hash: String,
            block_number: String,
            block_hash: String,
            status: String,
            gas_used: String,
            #[serde(default)]
            effective_gas_price: Option<String>,
            logs: Vec<AnswerLog>,
        }
        const METHOD: &str = "eth_getTransactionReceipt";
        let answer: Option<Answer> = self.ask(METHOD, json!([hexed(hash)])).await?;
        let Some(answer) = answer else { return Ok(None) };
        let found = self.word(METHOD, &answer.transaction_hash)?;
        if found != *hash {
            return Err(self.nonsense(METHOD, "it is the receipt of another transaction"));
        }
        Ok(Some(Receipt {
            hash: found,
            block: self.read_u64(METHOD, &answer.block_number)?,
            block_hash: self.word(METHOD, &answer.block_hash)?,
            succeeded: self.read(METHOD, &answer.status)? == 1,
            gas_used: self.read_u64(METHOD, &answer.gas_used)?,
            gas_price: answer.effective_gas_price.map_or(Ok(0), |price| self.read(METHOD, &price))?,
            logs: answer
                .logs
                .iter()
                .map(|log| self.log(METHOD, log))
                .collect::<Result<_, EndpointError>>()?,
        }))
    }

    /// What a contract told in some blocks, in whatever order the node gives it: events that begin with these topics.
    ///
    /// # Errors
    /// [`EndpointError`]: nodes refuse what they call too much, so ask for fewer blocks then.
    pub async fn events(
        &self,
        of: Address,
        topics: &[[u8; 32]],
        from: u64,
        to: u64,
    ) -> Result<Vec<LoggedEvent>, EndpointError> {
        const METHOD: &str = "eth_getLogs";
        let filter = json!({
            "address": of,
            "topics": topics.iter().map(|topic| hexed(topic)).collect::<Vec<_>>(),
            "fromBlock": quantity(from.into()),
            "toBlock": quantity(to.into()),
        });
        let answer: Vec<AnswerLog> = self.ask(METHOD, json!([filter])).await?;
        let event = |log: &AnswerLog| {
            Ok(LoggedEvent {
                log: self.log(METHOD, log)?,
                block: self.read_u64(METHOD, &log.block_number)?,
                block_hash: self.word(METHOD, &log.block_hash)?,
                transaction: self.word(METHOD, &log.transaction_hash)?,
                index: u32::try_from(self.read_u64(METHOD, &log.log_index)?)
                    .map_err(|_| self.nonsense(METHOD, "a number is too large"))?,
            })
        };
        // What was taken back is no event of the chain.
        answer.iter().filter(|log| !log.removed).map(event).collect()
    }

    fn log(&self, method: &'static str, log: &AnswerLog) -> Result<Log, EndpointError> {
        let address = log.address.to_ascii_lowercase().parse();
        let topics = log.topics.iter().map(|topic| self.word(method, topic));
        Ok(Log {
            address: address.map_err(|_| self.nonsense(method, "a log has no address"))?,
            topics: topics.collect::<Result<_, EndpointError>>()?,
            data: self.bytes(method, &log.data)?,
        })
    }

    /// Whether there is a contract at an address.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn has_code(&self, address: Address) -> Result<bool, EndpointError> {
        const METHOD: &str = "eth_getCode";
        let code: String = self.ask(METHOD, json!([address, "latest"])).await?;
        Ok(!self.bytes(METHOD, &code)?.is_empty())
    }

    /// What an account has, in wei; what is more than 2^128 - 1 is told as that.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn balance(&self, account: Address) -> Result<u128, EndpointError> {
        const METHOD: &str = "eth_getBalance";
        let text: String = self.ask(METHOD, json!([account, "latest"])).await?;
        Ok(self.read(METHOD, &text).unwrap_or(u128::MAX))
    }

    /// What a transaction should pay now: twice the base fee of the newest block, and what block makers are paid, capped.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn fees(&self, max_fee_max: u128) -> Result<Fees, EndpointError> {
        let (block, priority_fee) = (self.latest().await?, self.priority_fee().await?);
        let max_fee = block.base_fee.saturating_mul(2).saturating_add(priority_fee).min(max_fee_max);
        Ok(Fees { max_fee, priority_fee: priority_fee.min(max_fee) })
    }

    async fn number(&self, method: &'static str, params: Value) -> Result<u128, EndpointError> {
        let text: String = self.ask(method, params).await?;
        self.read(method, &text)
    }

    /// Asks something and reads what is answered.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, EndpointError> {
        #[derive(Deserialize)]
        struct Answer {
            id: Value,
            #[serde(default)]
            result: Value,
            #[serde(default)]
            error: Option<Refusal>,
        }
        #[derive(Deserialize)]
        struct Refusal {
            #[serde(default)]
            code: i64,
            #[serde(default)]
            message: String,
            #[serde(default)]
            data: Option<Value>,
        }
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let asked = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let bytes = self.post(method, &asked).await?;
        let answer: Answer =
            serde_json::from_slice(&bytes).map_err(|error| self.nonsense(method, &error.to_string()))?;
        if answer.id != json!(id) {
            return Err(self.nonsense(method, "it answers another question"));
        }
        if let Some(Refusal { code, message, data }) = answer.error {
            let message = message.chars().take(REFUSAL_CHARS_MAX).collect();
            let text = data.as_ref().and_then(|data| data.as_str().or_else(|| data.get("data")?.as_str()));
            let data = text.and_then(|text| hex::decode(text.strip_prefix("0x")?).ok());
            return Err(EndpointError::Refused { node: self.node(), method, code, message, data });
        }
        serde_json::from_value(answer.result).map_err(|error| self.nonsense(method, &error.to_string()))
    }

    async fn post(&self, method: &'static str, asked: &Value) -> Result<Vec<u8>, EndpointError> {
        // Keys stand in URLs, and errors in logs.
        let unreachable = |source: reqwest::Error| EndpointError::Unreachable {
            node: self.node(),
            source: source.without_url(),
        };
        let sent = self.client.post(self.url.clone()).timeout(TIMEOUT).json(asked).send();
        let mut answer = sent.await.map_err(unreachable)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.nonsense(method, "it is too long"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn nonsense(&self, method: &'static str, why: &str) -> EndpointError {
        let why = why.chars().take(REFUSAL_CHARS_MAX).collect();
        EndpointError::Nonsense { node: self.node(), method, why }
    }

    fn read(&self, method: &'static str, text: &str) -> Result<u128, EndpointError> {
        let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
        let number = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        number.ok_or_else(|| self.nonsense(method, "a number is none"))
    }

    fn narrow(&self, method: &'static str, number: u128) -> Result<u64, EndpointError> {
        u64::try_from(number).map_err(|_| self.nonsense(method, "a number is too large"))
    }

    fn read_u64(&self, method: &'static str, text: &str) -> Result<u64, EndpointError> {
        let number = self.read(method, text)?;
        self.narrow(method, number)
    }

    fn bytes(&self, method: &'static str, text: &str) -> Result<Vec<u8>, EndpointError> {
        let bytes = text.strip_prefix("0x").and_then(|digits| hex::decode(digits).ok());
        bytes.ok_or_else(|| self.nonsense(method, "bytes are not in hex"))
    }

    fn word(&self, method: &'static str, text: &str) -> Result<[u8; 32], EndpointError> {
        let word = self.bytes(method, text)?.try_into();
        word.map_err(|_| self.nonsense(method, "a hash has not 32 bytes"))
    }
}

fn hexed(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn quantity(number: u128) -> String {
    format!("{number:#x}")
}
