//! An outbound message with its signature, as JSON.

use serde_json::{Value as Json, json};
use synddb_protocol::log::OutboundMessage;
use synddb_protocol::signing::{Domain, SigningKey};

/// For a domain: the message by the names of its fields, its digest, and a signature. Numbers are decimal text.
pub(crate) fn signed_outbound(domain: &Domain, message: &OutboundMessage, key: &SigningKey) -> Json {
    json!({
        "chain_id": domain.chain_id.to_string(),
        "contract": domain.contract.to_string(),
        "message": {
            "stream": message.stream.to_string(),
            "nonce": message.nonce.to_string(),
            "target": message.target.to_string(),
            "value": message.value.to_string(),
            "token": message.token.to_string(),
            "amount": message.amount.to_string(),
            "payloadHash": message.payload_hash.to_string(),
            "gasLimit": message.gas_limit.to_string(),
            "deadline": message.deadline.to_string(),
            "inboxConsumed": message.inbox_consumed.to_string(),
        },
        "digest": message.digest(domain).to_string(),
        "signature": message.sign(key, domain).to_string(),
    })
}
