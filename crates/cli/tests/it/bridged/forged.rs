//! A sequencer that signs what no row of the log says.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};
use synddb_protocol::Uint256;
use synddb_protocol::hash::PayloadHash;
use synddb_protocol::http::{OutboundContent, OutboundList, OutboundSignature, OutboundStatus};
use synddb_protocol::id::{Address, Sequence};
use synddb_protocol::log::OutboundMessage;
use synddb_protocol::signing::Domain;
use synddb_service::secret::signing_key;

use super::chain::State;
use super::foundry::Foundry;
use super::world::{RECIPIENT, Size, World};
use crate::keys::get;

const THIEF: &str = "0x00000000000000000000000000000000000071ef";

/// Answers as a sequencer would that has signed this.
fn sequencer(content: OutboundContent) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let nonce = content.signed.nonce;
    let list = OutboundList { messages: vec![OutboundStatus::Signed(content.signed.clone())], last: nonce };
    let answer = move |mut stream: TcpStream| {
        let mut head = [0; 4096];
        let read = stream.read(&mut head).unwrap_or_default();
        let asked = String::from_utf8_lossy(&head[..read]).into_owned();
        let body =
            if asked.contains("/messages/outbound?") { json!(list) } else { json!(content) }.to_string();
        let length = body.len();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
        stream.write_all(format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes()).ok();
    };
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    url
}

#[test]
fn what_a_sequencer_signs_that_is_not_in_the_log_is_signed_by_no_validator() {
    let Some(foundry) = Foundry::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::begin(folder.path(), foundry, Size { validators: 2, threshold: 1 });
    assert_eq!(world.pay(RECIPIENT, 1_000), 1);
    world.until_said(0, 1, "signed");

    // With the key that is registered, for the bridge that there is.
    let key = signing_key(&world.folder.join("sequencer.key")).unwrap();
    let contract: Address = world.chain.bridge().to_ascii_lowercase().parse().unwrap();
    let domain = Domain { chain_id: 31_337, contract };
    for nonce in [1, 2] {
        let message = OutboundMessage {
            stream: world.stream,
            nonce,
            target: THIEF.parse().unwrap(),
            value: Uint256::from(500_000),
            token: Address::ZERO,
            amount: Uint256::ZERO,
            payload_hash: PayloadHash::of(&[]),
            gas_limit: 100_000,
            deadline: u64::MAX,
            inbox_consumed: 0,
        };
        let signature = message.sign(&key, &domain);
        let signed = OutboundSignature::of(&message, Sequence::FIRST, &domain, key.id(), &signature);
        let forger = sequencer(OutboundContent { signed, payload: "0x".to_owned() });
        std::fs::remove_dir_all(world.folder.join("relayer")).ok();
        let chain = world.chain.url.clone();
        world.start_relayer_between(&forger, &chain);
        super::chain::until("the relayer knows of it, and waits", || {
            let told = get(&format!("{}/messages/{nonce}", world.relayer.url()));
            let told: Value = serde_json::from_str(&told).unwrap_or_default();
            let state =
                told["standing"]["state"].as_str().or_else(|| told["state"].as_str()).map(str::to_owned);
            match state.as_deref() {
                Some("waiting" | "held") => Ok(()),
                _ => Err(told.to_string()),
            }
        });
        world.chain.mine(20);
        assert_eq!(world.chain.state(nonce), State::NotStarted);
        assert_eq!(world.chain.balance(THIEF), 0);
        world.relayer.kill();
    }
    // A row that no commit brought is unknown to validators, whoever has signed it.
    for validator in [0, 1] {
        assert!(world.said_by(validator, 2).is_none());
    }
    // The row that is in the log is executed all the same.
    std::fs::remove_dir_all(world.folder.join("relayer")).ok();
    world.start_relayer();
    world.chain.until(1, State::Completed);
    assert_eq!(world.chain.balance(THIEF), 0);
}
