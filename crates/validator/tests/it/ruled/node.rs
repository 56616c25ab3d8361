//! A node of a scripted chain: JSON-RPC over HTTP, as far as whoever follows a bridge asks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use synddb_chain::follow::BridgeEvent;
use synddb_protocol::hash::{ChainHash, PayloadHash};
use synddb_protocol::id::{Address, InboundNonce};
use synddb_protocol::log::Inbound;
use synddb_protocol::signing::Domain;

/// The block in which the bridge was made.
pub(crate) const FIRST_BLOCK: u64 = 100;

/// What the chain has.
#[derive(Debug)]
struct Chain {
    bridge: Domain,
    sent: Vec<BridgeEvent>,
    /// When each was sent, in seconds: each has a block of its own.
    at: Vec<u64>,
    is_down: bool,
    /// The first blocks that were asked for events.
    asked_from: Vec<u64>,
}

/// A node of it. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) url: String,
    chain: Arc<Mutex<Chain>>,
}

impl Node {
    pub(crate) fn start(bridge: Domain) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let chain =
            Chain { bridge, sent: Vec::new(), at: Vec::new(), is_down: false, asked_from: Vec::new() };
        let node = Self { url, chain: Arc::new(Mutex::new(chain)) };
        let answering = node.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let node = answering.clone();
                // Whoever ends goes away in the middle.
                std::thread::spawn(move || node.answer(stream).ok());
            }
        });
        node
    }

    /// Somebody sends the application this, so many seconds ago. Gives it as the log should have it.
    pub(crate) fn send(&self, data: &str, ago: u64) -> Inbound {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut chain = self.chain.lock().unwrap();
        chain.sent.push(BridgeEvent {
            sender: Address::from_bytes([0x51; 20]),
            token: Address::ZERO,
            amount: 7.into(),
            data: data.as_bytes().to_vec(),
        });
        chain.at.push(now - ago);
        chain.inbound(chain.sent.len() - 1)
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.chain.lock().unwrap().is_down = is_down;
    }

    /// The first blocks that were asked for events since this was asked last.
    pub(crate) fn take_asked(&self) -> Vec<u64> {
        std::mem::take(&mut self.chain.lock().unwrap().asked_from)
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(&stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? <= 2 {
                break;
            }
            if let Some(said) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = said.trim().parse().unwrap_or_default();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let asked: Value = serde_json::from_slice(&body)?;
        let mut chain = self.chain.lock().unwrap();
        if chain.is_down {
            return Ok(());
        }
        let result = chain.result(asked["method"].as_str().unwrap(), &asked["params"]);
        drop(chain);
        let body = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
        stream.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())
    }
}

impl Chain {
    /// The newest block, which is final.
    fn head(&self) -> u64 {
        FIRST_BLOCK + self.sent.len() as u64
    }

    fn inbound(&self, place: usize) -> Inbound {
        let nonce = place as u64 + 1;
        let block_number = FIRST_BLOCK + nonce;
        Inbound {
            chain_id: self.bridge.chain_id,
            bridge: self.bridge.contract,
            nonce: InboundNonce::new(nonce).unwrap(),
            block_number,
            block_hash: ChainHash::from_bytes(word(block_number)),
            transaction_hash: ChainHash::from_bytes(word(nonce)),
            log_index: 0,
            event: self.sent[place].to_bytes(),
        }
    }

    fn result(&mut self, method: &str, params: &Value) -> Value {
        let number = |value: &Value| match value.as_str().unwrap() {
            "finalized" | "latest" => self.head(),
            text => u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap(),
        };
        match method {
            "eth_chainId" => quantity(self.bridge.chain_id),
            "eth_getBlockByNumber" => match number(&params[0]) {
                block if block > self.head() => Value::Null,
                block => {
                    let place =
                        block.checked_sub(FIRST_BLOCK + 1).and_then(|place| usize::try_from(place).ok());
                    let at = place.map_or(1, |place| self.at[place]);
                    json!({"number": quantity(block), "hash": hexed(&word(block)), "timestamp": quantity(at)})
                }
            },
            "eth_call" => {
                let sent = number(&params[1]).saturating_sub(FIRST_BLOCK);
                json!(hexed(&word(sent)))
            }
            "eth_getLogs" => {
                let (from, to) = (number(&params[0]["fromBlock"]), number(&params[0]["toBlock"]));
                self.asked_from.push(from);
                let found = (0..self.sent.len()).map(|place| (place, self.inbound(place)));
                let found = found.filter(|(_, inbound)| (from..=to).contains(&inbound.block_number));
                found.map(|(place, inbound)| self.logged(place, &inbound)).collect()
            }
            other => panic!("{other}"),
        }
    }

    fn logged(&self, place: usize, inbound: &Inbound) -> Value {
        let BridgeEvent { sender, token, amount, data } = &self.sent[place];
        let topic = PayloadHash::of(b"InboundMessageSent(uint64,address,address,uint256,bytes)");
        let padded = |address: &Address| {
            let mut word = [0; 32];
            word[12..].copy_from_slice(address.as_bytes());
            hexed(&word)
        };
        // The event without what is indexed: the amount, where the data is, how long it is, and the data.
        let mut rest = amount.as_be_bytes().to_vec();
        rest.extend(word(64));
        rest.extend(word(data.len() as u64));
        rest.extend(data);
        rest.resize(rest.len().next_multiple_of(32), 0);
        json!({
            "address": inbound.bridge,
            "topics": [topic.to_string(), hexed(&word(inbound.nonce.get())), padded(sender), padded(token)],
            "data": hexed(&rest),
            "blockNumber": quantity(inbound.block_number),
            "blockHash": inbound.block_hash,
            "transactionHash": inbound.transaction_hash,
            "logIndex": "0x0",
        })
    }
}

fn word(number: u64) -> [u8; 32] {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&number.to_be_bytes());
    word
}

fn hexed(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn quantity(number: u64) -> Value {
    json!(format!("{number:#x}"))
}
