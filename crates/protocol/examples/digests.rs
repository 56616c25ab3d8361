//! Writes random digests, signatures and pairs of signed objects, for comparison with contracts and wallets:
//! `cargo run -p synddb-protocol --example digests -- SEED COUNT DIR`.
//!
//! | file | a line after the first |
//! |---|---|
//! | `messages.jsonl` | an outbound message for some bridge, its digest, a signature and its signer |
//! | `checkpoints.jsonl` | what an endorsement says of some checkpoint, the same of it |
//! | `pairs.jsonl` | two receipts or checkpoints, the secrets of their keys, and whether they prove equivocation |
//!
//! Each line is one object of JSON whose values are text: hex, or decimal numbers. The first line says how many follow, and from which
//! seed, from which the same files come out everywhere.

#![allow(clippy::unwrap_used, reason = "strategies of the tests")]

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/arbitrary.rs"]
mod arbitrary;
#[path = "digests/draw.rs"]
mod draw;
#[path = "digests/pairs.rs"]
mod pairs;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/sample.rs"]
mod sample;
#[path = "vectors/signed_outbound.rs"]
mod signed_outbound;

use std::path::Path;

use serde_json::{Value as Json, json};
use synddb_protocol::hash::PayloadHash;
use synddb_protocol::id::{Address, StreamId};
use synddb_protocol::log::{Endorsement, OutboundMessage};
use synddb_protocol::signing::{Domain, RegisteredSigner};

use draw::Draw;
use signed_outbound::signed_outbound;

/// Where the test of the contracts puts a bridge and a registry, so that many cases are for those: the chain is forge's.
const DEPLOYED: Domain = Domain { chain_id: 31_337, contract: Address::from_bytes([0xd1; 20]) };

/// Pairs of one place and their controls are made for one in so many digests.
const DIGESTS_PER_PLACE: u64 = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const USAGE: &str = "usage: digests SEED COUNT DIR";
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or(USAGE);
    let (seed, count, dir): (u64, u64, _) = (next()?.parse()?, next()?.parse()?, next()?);
    let mut draw = Draw::from_seed(seed);
    std::fs::create_dir_all(&dir)?;
    let files: [(&str, Vec<Json>); 3] = [
        ("messages", (0..count).map(|number| message(&mut draw, number)).collect()),
        ("checkpoints", (0..count).map(|number| checkpoint(&mut draw, number)).collect()),
        ("pairs", pairs::of_places(&mut draw, count / DIGESTS_PER_PLACE)),
    ];
    for (name, lines) in files {
        let head = json!({
            "lines": lines.len().to_string(),
            "seed": seed.to_string(),
            "chain_id": DEPLOYED.chain_id.to_string(),
            "contract": DEPLOYED.contract.to_string(),
        });
        let text: String = std::iter::once(head).chain(lines).map(|line| format!("{line}\n")).collect();
        std::fs::write(Path::new(&dir).join(format!("{name}.jsonl")), text)?;
    }
    Ok(())
}

fn message(draw: &mut Draw, number: u64) -> Json {
    let domain = domain(draw, number);
    let message = OutboundMessage {
        stream: StreamId::from_bytes(draw.bytes()),
        nonce: draw.number(),
        target: Address::from_bytes(draw.bytes()),
        value: draw.uint256(),
        token: Address::from_bytes(draw.bytes()),
        amount: draw.uint256(),
        payload_hash: PayloadHash::from_bytes(draw.bytes()),
        gas_limit: draw.number(),
        deadline: draw.number(),
        inbox_consumed: draw.number(),
    };
    let key = draw.key().key;
    let mut line = signed_outbound(&domain, &message, &key);
    line["signer"] = key.id().to_string().into();
    line
}

fn checkpoint(draw: &mut Draw, number: u64) -> Json {
    let mut domain = domain(draw, number);
    if domain.chain_id == 0 || domain.contract == Domain::NONE.contract {
        // An endorsement names a chain and a contract, or none of the two.
        domain = Domain::NONE;
    }
    let key = draw.key().key;
    let id = key.id();
    let signer = RegisteredSigner::unattested(key);
    let checkpoint = draw.of(arbitrary::checkpoint_with_state());
    let signed = Endorsement::sign(checkpoint, domain, &signer).expect("it has a state");
    let claim = signed.endorsement().checkpoint.claim();
    json!({
        "chain_id": domain.chain_id.to_string(),
        "contract": domain.contract.to_string(),
        "message": {
            "stream": claim.stream.to_string(),
            "epoch": claim.epoch.to_string(),
            "sequence": claim.size.to_string(),
            "timestamp": claim.timestamp.as_ms().to_string(),
            "root": claim.root().to_string(),
            "stateHash": claim.client.as_ref().expect("it has a state").state.to_string(),
            "inboxConsumed": claim.inbox_consumed.to_string(),
        },
        "digest": signed.digest().to_string(),
        "signature": signed.signature().to_string(),
        "signer": id.to_string(),
    })
}

/// One case in four is for what the test deploys, and another one for the same on a chain that parted from its own.
fn domain(draw: &mut Draw, number: u64) -> Domain {
    match number % 4 {
        0 => DEPLOYED,
        1 => Domain { chain_id: draw.number(), ..DEPLOYED },
        _ => Domain { chain_id: draw.number(), contract: Address::from_bytes(draw.bytes()) },
    }
}
