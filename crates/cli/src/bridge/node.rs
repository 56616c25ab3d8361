//! Asking a node of a chain something over JSON-RPC. It is believed: what is asked here is shown to people, or is of a chain of this machine.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use synddb_protocol::Uint256;
use synddb_protocol::hash::PayloadHash;
use synddb_protocol::id::Address;

use crate::peer::{Authority, Peer, PeerError};

/// How long a node may take for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Why a node gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Nothing answers there.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// It refuses.
    #[error("the chain's node refuses. method=`{method}` message=`{message}`")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// What it says.
        message: String,
    },
    /// It answers something else than it should.
    #[error(
        "the chain's node answers something else than it should; is it the URL of one? method=`{method}`"
    )]
    Foreign {
        /// What was asked.
        method: &'static str,
    },
}

/// A node of a chain.
pub(crate) struct Node(Peer);

#[derive(Serialize)]
struct Question<'a> {
    jsonrpc: &'static str,
    id: u8,
    method: &'a str,
    params: &'a Value,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Value,
    error: Option<Complaint>,
}

#[derive(Deserialize)]
struct Complaint {
    message: String,
}

impl Node {
    pub(crate) fn at(url: &str) -> Result<Self, PeerError> {
        Ok(Self(Peer::at("the chain's node", url, &Authority::default())?))
    }

    /// What it answers.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &Value,
    ) -> Result<T, NodeError> {
        let question = Question { jsonrpc: "2.0", id: 1, method, params };
        let Answer { result, error } = self.0.post("", &question, ANSWER_MAX).await?;
        if let Some(Complaint { message }) = error {
            return Err(NodeError::Refused { method, message });
        }
        serde_json::from_value(result).map_err(|_| NodeError::Foreign { method })
    }

    /// A number that it answers.
    pub(crate) async fn number(&self, method: &'static str, params: &Value) -> Result<u64, NodeError> {
        let text: String = self.ask(method, params).await?;
        let digits = text.strip_prefix("0x").ok_or(NodeError::Foreign { method })?;
        u64::from_str_radix(digits, 16).map_err(|_| NodeError::Foreign { method })
    }

    /// Whether there is a contract at an address.
    pub(crate) async fn has_code(&self, at: Address) -> Result<bool, NodeError> {
        let code: String = self.ask("eth_getCode", &json!([at, "latest"])).await?;
        Ok(code.len() > "0x".len())
    }

    /// The words that a contract answers.
    pub(crate) async fn call(&self, to: Address, call: &Call) -> Result<Words, NodeError> {
        const METHOD: &str = "eth_call";
        let params = json!([{ "to": to, "data": call.to_string() }, "latest"]);
        let text: String = self.ask(METHOD, &params).await?;
        let foreign = || NodeError::Foreign { method: METHOD };
        let bytes = hex::decode(text.trim_start_matches("0x")).map_err(|_| foreign())?;
        Ok(Words(bytes))
    }
}

/// What a contract answered.
#[derive(Debug)]
pub(crate) struct Words(Vec<u8>);

impl Words {
    /// The word at a place.
    pub(crate) fn word(&self, place: usize) -> Result<[u8; 32], NodeError> {
        let word = self.0.chunks_exact(32).nth(place).and_then(|word| word.try_into().ok());
        word.ok_or(NodeError::Foreign { method: "eth_call" })
    }

    /// The number at a place, where it is one of 64 bits.
    pub(crate) fn number(&self, place: usize) -> Result<u64, NodeError> {
        match self.word(place)?.split_last_chunk::<8>() {
            Some((above, low)) if above.iter().all(|byte| *byte == 0) => Ok(u64::from_be_bytes(*low)),
            _ => Err(NodeError::Foreign { method: "eth_call" }),
        }
    }

    /// The number at a place.
    pub(crate) fn amount(&self, place: usize) -> Result<Uint256, NodeError> {
        Ok(Uint256::from_be_bytes(self.word(place)?))
    }

    /// The address at a place.
    pub(crate) fn address(&self, place: usize) -> Result<Address, NodeError> {
        match self.word(place)?.split_last_chunk::<20>() {
            Some((_, low)) => Ok(Address::from_bytes(*low)),
            None => Err(NodeError::Foreign { method: "eth_call" }),
        }
    }
}

/// A call of a contract, as it is encoded: the function, a word for each argument, and behind them what is of no fixed width.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    function: [u8; 4],
    words: Vec<[u8; 32]>,
    /// Of which arguments the place is still to be filled, with what they hold.
    tails: Vec<(usize, Vec<u8>)>,
}

impl Call {
    /// That of a function, by its signature.
    pub(crate) fn new(signature: &str) -> Self {
        let hash = PayloadHash::of(signature.as_bytes());
        let mut function = [0; 4];
        function.copy_from_slice(&hash.as_bytes()[..4]);
        Self { function, words: Vec::new(), tails: Vec::new() }
    }

    /// With a number as the next argument.
    pub(crate) fn number(self, number: u64) -> Self {
        self.right(&number.to_be_bytes())
    }

    /// With an address as the next argument.
    pub(crate) fn address(self, address: Address) -> Self {
        self.right(address.as_bytes())
    }

    /// With bytes as the next argument.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.tails.push((self.words.len(), bytes.to_vec()));
        self.number(0)
    }

    fn right(mut self, low: &[u8]) -> Self {
        let mut word = [0; 32];
        word[32 - low.len()..].copy_from_slice(low);
        self.words.push(word);
        self
    }
}

/// The call data, in hex.
impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut whole = self.clone();
        let mut tail = Vec::new();
        for (place, bytes) in &self.tails {
            let offset = u64::try_from(self.words.len() * 32 + tail.len()).unwrap_or(u64::MAX);
            whole.words[*place][24..].copy_from_slice(&offset.to_be_bytes());
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            tail.extend([0; 24]);
            tail.extend(length.to_be_bytes());
            tail.extend(bytes);
            tail.resize(tail.len().next_multiple_of(32), 0);
        }
        write!(
            f,
            "0x{}{}{}",
            hex::encode(self.function),
            hex::encode(whole.words.concat()),
            hex::encode(tail)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `cast calldata` has it.
    #[test]
    fn calls_are_encoded_as_contracts_take_them() {
        assert_eq!(Call::new("messageState(uint64)").number(1).to_string(), format!("0x4da5ecf4{:064x}", 1));
        let call = Call::new("registerKey(uint8,bytes,uint256,address,bytes)");
        let call =
            call.number(2).bytes(&[7; 3]).number(5).address(Address::from_bytes([9; 20])).bytes(&[8; 32]);
        let words = [
            format!("{:064x}", 2),
            format!("{:064x}", 160),
            format!("{:064x}", 5),
            format!("{:0>64}", "09".repeat(20)),
            format!("{:064x}", 224),
            format!("{:064x}", 3),
            format!("{:0<64}", "070707"),
            format!("{:064x}", 32),
            "08".repeat(32),
        ];
        assert_eq!(call.to_string(), format!("0xaad682b1{}", words.concat()));
    }

    #[test]
    fn a_number_that_is_too_wide_is_no_answer() {
        let mut word = [0; 32];
        word[31] = 4;
        assert_eq!(Words(word.to_vec()).number(0).unwrap(), 4);
        word[23] = 1;
        assert!(Words(word.to_vec()).number(0).is_err());
        assert!(Words(Vec::new()).number(0).is_err());
    }
}
