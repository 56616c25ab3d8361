//! A node that drops, delays and repeats what it is asked, denies receipts, and lies about how many transactions an account has sent.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::chain::State;
use super::foundry::Foundry;
use super::front::{address, body_of, listen, pass_on, reply};
use super::world::{CUSTODY, RECIPIENT, Size, World};

/// Rows that are paid through that node.
const ROWS: u64 = 12;

/// How long an answer is late.
const LATE: Duration = Duration::from_millis(400);

/// What a node did wrong, and how often.
#[derive(Debug, Default)]
struct Faults {
    dropped: AtomicU64,
    late: AtomicU64,
    repeated: AtomicU64,
    stale: AtomicU64,
    lied: AtomicU64,
    refused: AtomicU64,
}

/// Between the relayer and its node.
struct Node {
    upstream: String,
    faults: Arc<Faults>,
    /// What it answered last.
    last: Mutex<Vec<u8>>,
    /// Where chance is.
    chance: AtomicU64,
}

impl Node {
    fn start(upstream: &str) -> (String, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        let node = Arc::new(Self {
            upstream: address(upstream).to_owned(),
            faults: Arc::clone(&faults),
            last: Mutex::default(),
            chance: AtomicU64::new(15),
        });
        let url = listen(move |stream| node.answer(stream));
        (url, faults)
    }

    /// One of so many.
    fn one_of(&self, sides: u64) -> u64 {
        let step = |state: u64| {
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
        };
        let state = self.chance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| Some(step(state)));
        (step(state.unwrap_or_else(|state| state)) >> 33) % sides
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let body = body_of(&stream)?;
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        let method = asked["method"].as_str().unwrap_or_default().to_owned();
        let count = |fault: &AtomicU64| fault.fetch_add(1, Ordering::Relaxed);
        match self.one_of(12) {
            0 => {
                count(&self.faults.dropped);
                return Ok(());
            }
            1 => {
                count(&self.faults.late);
                std::thread::park_timeout(LATE);
            }
            2 => {
                count(&self.faults.repeated);
                pass_on(&self.upstream, &body)?;
            }
            3 => {
                count(&self.faults.stale);
                let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
                return reply(&mut stream, &last);
            }
            _ => {}
        }
        let told = pass_on(&self.upstream, &body)?;
        let mut answer: Value = serde_json::from_slice(&told).unwrap_or_default();
        match method.as_str() {
            "eth_getTransactionCount" if self.one_of(2) == 0 => {
                count(&self.faults.lied);
                let high = self.one_of(2) == 0;
                answer["result"] = json!(if high { "0xff" } else { "0x0" });
            }
            "eth_getTransactionReceipt" if self.one_of(3) == 0 => {
                count(&self.faults.lied);
                answer["result"] = Value::Null;
            }
            // It has it, and says that it has not.
            "eth_sendRawTransaction" if self.one_of(2) == 0 => {
                count(&self.faults.refused);
                let why = ["nonce too low", "already known", "replacement transaction underpriced"];
                let message = why[usize::try_from(self.one_of(3)).unwrap()];
                answer = json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32000, "message": message}});
            }
            _ => {}
        }
        let answer = answer.to_string().into_bytes();
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&answer);
        reply(&mut stream, &answer)
    }
}

#[test]
fn a_node_that_drops_delays_repeats_and_lies_costs_no_message_and_no_gas_twice() {
    let Some(foundry) = Foundry::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::begin(folder.path(), foundry, Size { validators: 2, threshold: 2 });
    let (node, faults) = Node::start(&world.chain.url);
    let sequencer = world.sequencer.url();
    world.start_relayer_between(&sequencer, &node);
    for nonce in 1..=ROWS {
        assert_eq!(world.pay(RECIPIENT, 1_000), nonce);
        if nonce == ROWS / 2 {
            world.relayer.kill();
            world.start_relayer_between(&sequencer, &node);
        }
    }
    for nonce in 1..=ROWS {
        world.chain.until(nonce, State::Completed);
    }
    world.chain.mine(20);
    let paid = u128::from(ROWS) * 1_000;
    assert_eq!(world.chain.balance(RECIPIENT), paid);
    assert_eq!(world.chain.custody(&world.chain.wrapped()), CUSTODY - paid);
    assert_eq!(
        world.chain.transactions(&world.account()),
        ROWS,
        "one transaction for each, whatever was said"
    );
    let Faults { dropped, late, repeated, stale, lied, refused } = &*faults;
    for (fault, what) in [dropped, late, repeated, stale, lied, refused]
        .into_iter()
        .zip(["dropped", "late", "repeated", "stale", "lied", "refused"])
    {
        assert!(fault.load(Ordering::Relaxed) > 0, "nothing was {what}");
    }
    println!("{ROWS} rows, one transaction each, over {faults:?}");
}
