//! From a transaction to a row: what the bridge tells the application is credited once each and in order, whoever is killed, whatever the chain takes back and
//! a node leaves out, repeats, mixes up and refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use super::application::{credits, make, run};
use super::chain::{OWNER, until};
use super::foundry::Foundry;
use super::front::{address, body_of, listen, pass_on, reply};
use super::world::{CUSTODY, Size, World};

/// Deposits that stay.
const DEPOSITS: u64 = 1_000;

/// Of them, between two kills.
const BETWEEN_KILLS: u64 = 100;

/// After so many kills the sequencer comes back on another machine.
const ELSEWHERE_EVERY: u64 = 3;

/// Deposits that the chain takes back each time.
const TAKEN_BACK: u64 = 3;

/// Blocks that follow one that is final; the chain takes back as many as may be.
const DEPTH: u64 = 3;

/// Blocks that one question may be about.
const BLOCKS_MAX: u64 = 3;

/// What a node did wrong, and how often.
#[derive(Debug, Default)]
struct Faults {
    dropped: AtomicU64,
    left_out: AtomicU64,
    repeated: AtomicU64,
    mixed_up: AtomicU64,
    refused: AtomicU64,
}

/// Starts a node that does what nodes do. Gives its URL.
fn unreliable(node: &str, faults: &Arc<Faults>) -> String {
    let (node, faults, asked) = (address(node).to_owned(), Arc::clone(faults), Arc::new(AtomicU64::new(0)));
    listen(move |mut stream| {
        let body = body_of(&stream)?;
        let question: Value = serde_json::from_slice(&body).unwrap_or_default();
        let count = |fault: &AtomicU64| fault.fetch_add(1, Ordering::Relaxed);
        let asked = asked.fetch_add(1, Ordering::Relaxed);
        if asked % 11 == 10 {
            count(&faults.dropped);
            return Ok(());
        }
        let told = pass_on(&node, &body)?;
        if question["method"] != "eth_getLogs" {
            return reply(&mut stream, &told);
        }
        let block = |key: &str| {
            let text = question["params"][0][key].as_str().unwrap_or_default();
            u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_default()
        };
        if block("toBlock") - block("fromBlock") >= BLOCKS_MAX {
            count(&faults.refused);
            let error = json!({"code": -32005, "message": "query returned more than 10000 results"});
            let answer = json!({"jsonrpc": "2.0", "id": question["id"], "error": error});
            return reply(&mut stream, answer.to_string().as_bytes());
        }
        let mut answer: Value = serde_json::from_slice(&told).unwrap_or_default();
        if let Some(logs) = answer["result"].as_array_mut().filter(|logs| !logs.is_empty()) {
            match asked % 4 {
                0 => {
                    count(&faults.left_out);
                    let place = usize::try_from(asked).unwrap_or_default() % logs.len();
                    logs.remove(place);
                }
                1 => {
                    count(&faults.repeated);
                    logs.extend(logs.clone());
                }
                2 => {
                    count(&faults.mixed_up);
                    logs.reverse();
                }
                _ => {}
            }
        }
        reply(&mut stream, answer.to_string().as_bytes())
    })
}

#[test]
fn each_deposit_is_credited_once_and_in_order_and_none_that_was_taken_back() {
    let Some(foundry) = Foundry::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::prepare(folder.path(), foundry, Size { validators: 1, threshold: 1 });
    let faults = Arc::new(Faults::default());
    let nodes = [unreliable(&world.chain.url, &faults), world.chain.url.clone()];
    let finality = format!("{{depth={DEPTH}}}");
    world.name_nodes(
        &nodes.each_ref().map(String::as_str),
        &[("NODES__FINALITY", &finality), ("NODES__POLL_MS", "100")],
    );
    make(&world.database());
    world.start();
    let stop = Arc::new(AtomicBool::new(false));
    let application = {
        let (stop, database, url) = (Arc::clone(&stop), world.app.clone(), world.sequencer.url());
        std::thread::spawn(move || run(&database, &url, &stop))
    };
    let mut amounts = vec![CUSTODY];
    let (mut lost, mut taken_back) = (0, 0);
    for round in 0..DEPOSITS / BETWEEN_KILLS {
        for number in 0..BETWEEN_KILLS {
            let wei = 1_000 + round * BETWEEN_KILLS + number;
            world.chain.fund_soon(wei.into());
            amounts.push(wei.into());
        }
        // None of these is in a block that is taken back.
        world.chain.mine(DEPTH + 1);
        let before = world.chain.inbound_count();
        for number in 0..TAKEN_BACK {
            world.chain.fund_soon(u128::from(500_000 + lost + number));
        }
        world.chain.mine(1);
        world.chain.rpc("anvil_reorg", &[&DEPTH.to_string(), "[]"]);
        // On a busy machine the first of them may be deeper by now, and stay: which ones the credits at the end show.
        let stayed = world.chain.inbound_count() - before;
        assert!(stayed <= TAKEN_BACK, "{stayed}");
        amounts.extend((0..stayed).map(|number| u128::from(500_000 + lost + number)));
        lost += TAKEN_BACK;
        taken_back += TAKEN_BACK - stayed;
        world.sequencer.kill();
        world.validators[0].kill();
        if round % ELSEWHERE_EVERY == 0 {
            world.start_sequencer_elsewhere();
        } else {
            world.start_sequencer();
        }
        world.start_validator(0);
    }
    world.chain.mine(DEPTH + 1);
    let expected: Vec<(u64, u128)> = (1..).zip(amounts).collect();
    let all = expected.len();
    assert!(taken_back > 0, "the chain took back what it was asked to");
    assert_eq!(world.chain.inbound_count(), all as u64);
    until("every deposit is credited", || {
        let credited = credits(&world.database());
        if credited.len() >= expected.len() { Ok(()) } else { Err(format!("{} of them", credited.len())) }
    });
    stop.store(true, Ordering::Relaxed);
    application.join().unwrap();
    assert_eq!(credits(&world.database()), expected);
    world.assert_replica_equals(0);
    until("a checkpoint says that all are acknowledged", || {
        let claimed = world.newest_endorsed(0)["inbox_consumed"].clone();
        if claimed == json!(all) { Ok(()) } else { Err(claimed.to_string()) }
    });
    let Faults { dropped, left_out, repeated, mixed_up, refused } = &*faults;
    for (fault, what) in [dropped, left_out, repeated, mixed_up, refused]
        .into_iter()
        .zip(["dropped", "left out", "repeated", "mixed up", "refused"])
    {
        assert!(fault.load(Ordering::Relaxed) > 0, "nothing was {what}");
    }
    println!("{DEPOSITS} deposits of {OWNER}, {taken_back} more that were taken back, over {faults:?}");
}
