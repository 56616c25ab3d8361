//! The vectors of outbound messages.

#[path = "../../tests/it/outbound/cases.rs"]
mod cases;
#[path = "signed_outbound.rs"]
mod signed_outbound;

use serde_json::{Value as Json, json};
use signed_outbound::signed_outbound;

use crate::sample;

pub(crate) fn outbound() -> Json {
    let vectors = cases::all().into_iter().map(|(name, domain, message)| {
        let mut vector = signed_outbound(&domain, &message, &sample::key(7));
        vector["name"] = name.into();
        vector
    });
    json!({
        "about": "Outbound messages: EIP-712 signatures of a sequencer or a validator. Numbers are decimal text.",
        "signer": super::signer(7),
        "vectors": vectors.collect::<Vec<_>>(),
    })
}
