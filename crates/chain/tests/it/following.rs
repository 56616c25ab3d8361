//! The core that follows a bridge, over a node that leaves out, repeats, reorders, lags and refuses, with restarts at any place.

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use synddb_chain::follow::{Ask, Core, Cursor, Fault, Head, RANGE_MAX};
use synddb_protocol::hash::ChainHash;
use synddb_protocol::id::{Address, InboundNonce};
use synddb_protocol::log::Inbound;

const SEEDS: u64 = 400;
const LOOKS: u64 = 300;
const LOOKS_MAX: u64 = 2_000;

fn message(nonce: u64, block: u64) -> Inbound {
    Inbound {
        chain_id: 1,
        bridge: Address::from_bytes([1; 20]),
        nonce: InboundNonce::new(nonce).unwrap(),
        block_number: block,
        block_hash: ChainHash::from_bytes([u8::try_from(block % 251).unwrap(); 32]),
        transaction_hash: ChainHash::from_bytes([2; 32]),
        log_index: u32::try_from(nonce % 7).unwrap(),
        event: nonce.to_be_bytes().to_vec(),
    }
}

const BEGINNING: Cursor = Cursor { next: InboundNonce::FIRST, block: 5 };

/// A node that is as bad as they come, and says nothing that is not so.
struct Node {
    rng: StdRng,
    /// How many messages each block has, from block 5 on.
    blocks: Vec<u64>,
    is_lying: bool,
    /// It takes no question over more blocks; with 0, none whose answer has more than one message either.
    cap: u64,
}

impl Node {
    fn lies(&mut self, of: f64) -> bool {
        self.is_lying && self.rng.random_bool(of)
    }

    fn all(&self) -> Vec<Inbound> {
        let mut all = Vec::new();
        for (place, count) in self.blocks.iter().enumerate() {
            for _ in 0..*count {
                let nonce = u64::try_from(all.len()).unwrap() + 1;
                all.push(message(nonce, BEGINNING.block + u64::try_from(place).unwrap()));
            }
        }
        all
    }

    fn head(&mut self) -> Option<Head> {
        if self.lies(0.1) {
            return None;
        }
        let behind = if self.lies(0.3) { self.rng.random_range(0..20) } else { 0 };
        let block = BEGINNING.block + u64::try_from(self.blocks.len()).unwrap() - 1;
        let block = block.saturating_sub(behind);
        let sent = self.all().iter().filter(|message| message.block_number <= block).count();
        Some(Head { block, sent: u64::try_from(sent).unwrap() })
    }

    fn messages(&mut self, asked: Ask) -> Option<Vec<Inbound>> {
        if self.lies(0.1) || asked.to - asked.from >= self.cap.max(1) {
            return None;
        }
        let mut found = self.all();
        found.retain(|message| (asked.from..=asked.to).contains(&message.block_number));
        if let Some(only) = asked.only {
            found.retain(|message| message.nonce == only);
        } else if self.cap == 0 && found.len() > 1 {
            return None;
        }
        if self.lies(0.2) {
            let left = self.rng.random_range(0.0..1.0);
            found.retain(|_| !self.rng.random_bool(left));
        }
        if self.lies(0.2) {
            found.extend(found.clone());
        }
        if self.lies(0.3) {
            found.shuffle(&mut self.rng);
        }
        Some(found)
    }
}

fn play(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let cap = [0, 1, 3, 50, RANGE_MAX][rng.random_range(0..5)];
    let mut node = Node { rng, blocks: vec![0], is_lying: true, cap };
    let mut core = Core::new(BEGINNING);
    let mut given = Vec::new();
    let mut look = 0;
    while look < LOOKS || given.len() < node.all().len() {
        assert!(look < LOOKS_MAX, "it stands still. seed=`{seed}` core=`{core:?}`");
        node.is_lying = look < LOOKS;
        if node.is_lying {
            let more = node.rng.random_range(0..3);
            node.blocks.extend((0..more).map(|_| 0));
            let count = u64::from(node.rng.random_bool(0.3)) * node.rng.random_range(0..5);
            node.blocks.push(count);
        }
        look += 1;
        let Some(head) = node.head() else { continue };
        let mut ask = match core.at(head) {
            Ok(ask) => ask,
            Err(Fault::TakenBack { .. }) => continue,
            Err(fault) => panic!("{fault}"),
        };
        for _ in 0..64 {
            let Some(asked) = ask else { break };
            match node.messages(asked) {
                None => {
                    core.refused();
                }
                Some(found) => match core.answered(asked, found) {
                    Ok(next) => {
                        given.extend(next);
                        // Whoever is given something remembers it with where to go on, and may be killed then.
                        if node.lies(0.3) {
                            core = Core::new(core.cursor());
                            break;
                        }
                    }
                    Err(Fault::LeftOut { .. }) => break,
                    Err(fault) => panic!("{fault}"),
                },
            }
            ask = core.ask();
        }
    }
    assert_eq!(given, node.all(), "each is given once and in order. seed=`{seed}`");
}

#[test]
fn each_message_is_given_once_and_in_order_whatever_a_node_leaves_out() {
    for seed in 0..SEEDS {
        play(seed);
    }
}

#[test]
fn what_does_not_fit_is_told_and_nothing_of_it_is_given() {
    let mut core = Core::new(BEGINNING);
    let asked = core.at(Head { block: 20, sent: 3 }).unwrap().unwrap();
    assert_eq!(asked, Ask { from: 5, to: 20, only: None });
    let missing = InboundNonce::FIRST;
    assert_eq!(core.answered(asked, vec![message(2, 9)]), Err(Fault::LeftOut { missing }));
    assert_eq!(core.answered(asked, Vec::new()), Err(Fault::LeftOut { missing }));
    assert_eq!(core.answered(asked, vec![message(1, 21)]), Err(Fault::Elsewhere { block: 21 }));
    assert_eq!(core.answered(asked, vec![message(1, 9)]), Ok(vec![message(1, 9)]));
    // The count says that there are two more, in a block that was asked for or behind the first.
    assert_eq!(core.ask(), Some(Ask { from: 9, to: 20, only: None }));
    let found = vec![message(3, 12), message(1, 9), message(2, 12)];
    assert_eq!(core.answered(asked, found), Ok(vec![message(2, 12), message(3, 12)]));
    assert_eq!((core.ask(), core.cursor().block, core.cursor().next.get()), (None, 21, 4));
    assert!(!core.is_behind(), "nothing is left to be looked at");
    assert_eq!(core.at(Head { block: 30, sent: 2 }), Err(Fault::TakenBack { sent: 2, taken: 3 }));
}

#[test]
fn what_is_refused_is_asked_in_smaller_pieces() {
    let mut core = Core::new(BEGINNING);
    let head = Head { block: 1 << 40, sent: 1 };
    let mut sizes = Vec::new();
    assert!(!core.is_behind());
    core.at(head).unwrap();
    assert!(core.is_behind());
    while core.refused() {
        let Ask { from, to, only } = core.ask().unwrap();
        sizes.push((to - from + 1, only.is_some()));
    }
    let sizes: Vec<_> = sizes.into_iter().map(|(size, is_single)| if is_single { 0 } else { size }).collect();
    assert_eq!(sizes, [500, 250, 125, 62, 31, 15, 7, 3, 1, 0], "at last one message is asked for");
    let asked = core.ask().unwrap();
    assert_eq!(asked, Ask { from: 5, to: 5, only: Some(InboundNonce::FIRST) });
    assert_eq!(core.answered(asked, Vec::new()), Ok(Vec::new()));
    assert_eq!(core.ask(), Some(Ask { from: 6, to: 7, only: None }));
}
