//! What the bridge tells the application, as a follower gives it: each message once and in order, and nothing that the chain takes back.

use std::cell::RefCell;

use synddb_chain::follow::{BridgeEvent, Cursor, Follower};
use synddb_chain::{Deployment, Endpoint, Finality};
use synddb_protocol::id::{InboundNonce, StreamId};
use synddb_protocol::signing::Domain;

use super::chain::{CHAIN_ID, Chain, until};
use super::foundry::Foundry;

/// Blocks that follow one that is final.
const DEPTH: u64 = 3;

fn follower(chain: &Chain, stream: StreamId, cursor: Cursor) -> Follower {
    rustls::crypto::ring::default_provider().install_default().ok();
    let deployment = Deployment::read(&chain.record, stream).unwrap();
    let chain_id = CHAIN_ID.parse().unwrap();
    let node = || Endpoint::new(reqwest::Client::new(), chain.url.parse().unwrap(), chain_id);
    let bridge = Domain { chain_id, contract: deployment.bridge };
    Follower::new(vec![node(), node()], bridge, Finality::Depth(DEPTH), cursor)
}

#[test]
fn what_the_chain_takes_back_is_never_given_and_everything_else_once() {
    let Some(foundry) = Foundry::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let stream = StreamId::from_bytes([7; 32]);
    let chain = Chain::start(foundry, folder.path(), stream, 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let beginning = Cursor { next: InboundNonce::FIRST, block: 0 };
    let follower = RefCell::new(follower(&chain, stream, beginning));
    let given = RefCell::new(Vec::new());
    let until_given = |count: usize| {
        until(&format!("{count} messages are given"), || {
            let looked = runtime.block_on(follower.borrow_mut().look());
            // A block that is taken back while it is looked at.
            given.borrow_mut().extend(looked.unwrap_or_default());
            let amounts: Vec<_> = given.borrow().iter().map(amount).collect();
            if amounts.len() >= count { Ok(amounts) } else { Err(format!("{amounts:?}")) }
        })
    };
    chain.fund(11);
    chain.fund(12);
    chain.mine(DEPTH);
    assert_eq!(until_given(2), [11, 12]);

    // In the newest blocks, which the chain takes back.
    let mut all = vec![11, 12];
    loop {
        let before = chain.inbound_count();
        chain.fund(13);
        chain.rpc("anvil_reorg", &[&DEPTH.to_string(), "[]"]);
        if chain.inbound_count() == before {
            break;
        }
        // On a busy machine it was deeper by then, and stays.
        all.push(13);
    }
    chain.fund(14);
    chain.mine(DEPTH);
    all.push(14);
    assert_eq!(until_given(all.len()), all);

    // Whoever has forgotten everything is given the same again; whoever goes on from the cursor is not.
    let cursor = follower.borrow().cursor();
    follower.replace(self::follower(&chain, stream, beginning));
    let before = given.take();
    until_given(all.len());
    assert_eq!(given.take(), before);
    follower.replace(self::follower(&chain, stream, cursor));
    chain.fund(15);
    chain.mine(DEPTH);
    assert_eq!(until_given(1), [15]);
    assert_eq!(given.borrow()[0].nonce.get(), all.len() as u64 + 1);
}

fn amount(message: &synddb_protocol::log::Inbound) -> u128 {
    BridgeEvent::from_bytes(&message.event).unwrap().amount.to_string().parse().unwrap()
}
