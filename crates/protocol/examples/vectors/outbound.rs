//! The vectors of outbound messages.

#[path = "../../tests/it/outbound/cases.rs"]
mod cases;

use serde_json::{Value as Json, json};

use crate::sample;

pub(crate) fn outbound() -> Json {
    let vectors = cases::all().into_iter().map(|(name, domain, message)| {
        json!({
            "name": name,
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
            "digest": message.digest(&domain).to_string(),
            "signature": message.sign(&sample::key(7), &domain).to_string(),
        })
    });
    json!({
        "about": "Outbound messages: EIP-712 signatures of a sequencer or a validator. Numbers are decimal text.",
        "signer": super::signer(7),
        "vectors": vectors.collect::<Vec<_>>(),
    })
}
