//! Outbound messages that were chosen by hand: one without a zero, the same with one thing other in each, nothing at all, and the largest of everything.

use synddb_protocol::Uint256;
use synddb_protocol::hash::PayloadHash;
use synddb_protocol::id::{Address, StreamId};
use synddb_protocol::log::OutboundMessage;
use synddb_protocol::signing::Domain;

/// The bridge of the message without a zero.
pub(crate) const DOMAIN: Domain = Domain { chain_id: 31_337, contract: Address::from_bytes([0xb1; 20]) };

/// No two fields have one value, so that exchanging two shows.
pub(crate) fn message() -> OutboundMessage {
    OutboundMessage {
        stream: StreamId::from_bytes([0x5d; 32]),
        nonce: 7,
        target: Address::from_bytes([0x7a; 20]),
        value: Uint256::from(1_000_000_000_000_000_001),
        token: Address::from_bytes([0x70; 20]),
        // 2^64 + 5: more than fits the smaller numbers.
        amount: "18446744073709551621".parse().expect("it is a number"),
        payload_hash: PayloadHash::of(b"call data"),
        gas_limit: 200_000,
        deadline: 1_900_086_400,
        inbox_consumed: 3,
    }
}

type Edit = fn(&mut OutboundMessage);

/// Each field, and a change of it alone.
pub(crate) const EDITS: [(&str, Edit); 10] = [
    ("stream", |message| message.stream = StreamId::from_bytes([0x5e; 32])),
    ("nonce", |message| message.nonce += 1),
    ("target", |message| message.target = Address::from_bytes([0x7b; 20])),
    ("value", |message| message.value = Uint256::from(1_000_000_000_000_000_002)),
    ("token", |message| message.token = Address::from_bytes([0x71; 20])),
    ("amount", |message| message.amount = Uint256::from(5)),
    ("payloadHash", |message| message.payload_hash = PayloadHash::of(b"")),
    ("gasLimit", |message| message.gas_limit += 1),
    ("deadline", |message| message.deadline += 1),
    ("inboxConsumed", |message| message.inbox_consumed += 1),
];

/// All, each under its name and for its bridge.
pub(crate) fn all() -> Vec<(String, Domain, OutboundMessage)> {
    let none = OutboundMessage {
        stream: StreamId::from_bytes([0; 32]),
        nonce: 0,
        target: Address::from_bytes([0; 20]),
        value: Uint256::ZERO,
        token: Address::from_bytes([0; 20]),
        amount: Uint256::ZERO,
        payload_hash: PayloadHash::from_bytes([0; 32]),
        gas_limit: 0,
        deadline: 0,
        inbox_consumed: 0,
    };
    let largest = OutboundMessage {
        stream: StreamId::from_bytes([0xff; 32]),
        nonce: u64::MAX,
        target: Address::from_bytes([0xff; 20]),
        value: Uint256::MAX,
        token: Address::from_bytes([0xff; 20]),
        amount: Uint256::MAX,
        payload_hash: PayloadHash::from_bytes([0xff; 32]),
        gas_limit: u64::MAX,
        deadline: u64::MAX,
        inbox_consumed: u64::MAX,
    };
    let everywhere = Domain { chain_id: u64::MAX, contract: Address::from_bytes([0xff; 20]) };
    let mut all = vec![
        ("no field is zero".to_owned(), DOMAIN, message()),
        ("every field is zero, for no chain".to_owned(), Domain::NONE, none),
        ("every field is the largest".to_owned(), everywhere, largest),
        ("for another chain".to_owned(), Domain { chain_id: 1, ..DOMAIN }, message()),
        (
            "for another bridge".to_owned(),
            Domain { contract: Address::from_bytes([0xb2; 20]), ..DOMAIN },
            message(),
        ),
    ];
    all.extend(EDITS.map(|(field, edit)| {
        let mut other = message();
        edit(&mut other);
        (format!("another {field}"), DOMAIN, other)
    }));
    all
}
