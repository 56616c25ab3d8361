//! All clients on one thread, each with its own stream and connection, and with one submission under way, as agents have.
//!
//! What must stay true: a receipt counts only when it is for the body that was sent, as for an agent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use synddb_protocol::Canonical as _;
use synddb_protocol::hash::{BodyHash, ChunkHash};
use synddb_protocol::http::Receipts;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{MessageType, Receipt, SignedCheckpoint};

use super::client::{Client, PAGES};
use super::connection::{Answer, Connection};
use super::wrong;
use crate::bench::BenchError;
use crate::bench::agent::TOKEN;
use crate::stop::Stop;

/// How long a client waits after it was refused because something is full.
const REFUSED: Duration = Duration::from_millis(5);

/// How long everything may take to be stored.
const STORED_MAX: Duration = Duration::from_secs(600);

/// How long one question waits for something to be stored, in milliseconds.
const STORED_MS: u64 = 1000;

/// A client, its connection, and what was acknowledged to it.
pub(super) struct Driven {
    pub(super) client: Client,
    address: SocketAddr,
    connection: Connection,
    /// The sequence of each acknowledged commit, by its number.
    pub(super) acknowledged: Vec<Sequence>,
    /// From the first byte of each request to the last one of its answer, in nanoseconds.
    pub(super) took_ns: Vec<u64>,
    /// How often it was refused because something was full.
    pub(super) refused: u64,
    /// How many bytes of bodies were acknowledged.
    pub(super) bytes: u64,
}

impl Driven {
    /// Connects.
    pub(super) async fn connect(address: SocketAddr, client: Client) -> Result<Self, BenchError> {
        let connection = Connection::open(address, client.stream(), TOKEN).await.map_err(unanswered())?;
        let (acknowledged, took_ns) = (Vec::new(), Vec::new());
        Ok(Self { client, address, connection, acknowledged, took_ns, refused: 0, bytes: 0 })
    }

    /// Connects, and begins the stream.
    pub(super) async fn begin(address: SocketAddr, client: Client) -> Result<Self, BenchError> {
        let mut driven = Self::connect(address, client).await?;
        let chunk = format!("snapshot/chunks/{}", ChunkHash::of(PAGES).to_key());
        let beginning = driven.client.beginning_body()?.into_stored();
        for (method, path, body) in [("PUT", &*chunk, PAGES), ("POST", "snapshot", &beginning)] {
            let answer = driven.connection.send(method, path, body).await.map_err(unanswered())?;
            if answer.status != 201 {
                return Err(foreign(&answer));
            }
        }
        Ok(driven)
    }

    /// Submits one commit after the other until a time.
    pub(super) async fn drive(mut self, until: Instant, stop: Stop) -> Result<Self, BenchError> {
        while Instant::now() < until {
            let body = self.client.next()?;
            let since = Instant::now();
            let receipt = self.submit(&body, &stop).await?;
            self.took_ns.push(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
            self.acknowledged.push(receipt.header().sequence);
            self.bytes += body.len() as u64;
        }
        Ok(self)
    }

    /// Forgets what was measured so far, not what was acknowledged.
    pub(super) fn begin_to_count(&mut self) {
        self.took_ns.clear();
        (self.refused, self.bytes) = (0, 0);
    }

    /// Submits a body until it is taken.
    async fn submit(&mut self, body: &[u8], stop: &Stop) -> Result<Receipt, BenchError> {
        loop {
            if stop.is_asked() {
                return Err(BenchError::Interrupted);
            }
            let answer = self.connection.send("POST", "submit", body).await.map_err(unanswered())?;
            match answer.status {
                201 => return receipt(&answer, body),
                429 | 507 => {
                    self.refused += 1;
                    tokio::time::sleep(REFUSED).await;
                }
                _ => return Err(foreign(&answer)),
            }
        }
    }

    /// Submits a body until the stream is led and it is taken.
    pub(super) async fn submit_once_led(mut self, body: &[u8], stop: &Stop) -> Result<Receipt, BenchError> {
        let since = Instant::now();
        while since.elapsed() < STORED_MAX {
            if stop.is_asked() {
                return Err(BenchError::Interrupted);
            }
            let answer = self.connection.send("POST", "submit", body).await.map_err(unanswered())?;
            match answer.status {
                201 => return receipt(&answer, body),
                503 => tokio::time::sleep(REFUSED).await,
                _ => return Err(foreign(&answer)),
            }
        }
        Err(too_late("lead its stream"))
    }

    /// Waits until everything acknowledged is stored.
    pub(super) async fn stored(self, stop: Stop) -> Result<Self, BenchError> {
        let Some(last) = self.acknowledged.last().copied() else { return Ok(self) };
        stored(self.address, self.client.stream(), last, &stop).await?;
        Ok(self)
    }
}

/// Waits until a message of a stream is stored.
pub(super) async fn stored(
    address: SocketAddr,
    stream: StreamId,
    last: Sequence,
    stop: &Stop,
) -> Result<(), BenchError> {
    let mut connection = Connection::open(address, stream, TOKEN).await.map_err(unanswered())?;
    let path = format!("checkpoint?at_least={last}&wait_ms={STORED_MS}");
    let since = Instant::now();
    while since.elapsed() < STORED_MAX {
        if stop.is_asked() {
            return Err(BenchError::Interrupted);
        }
        let answer = connection.send("GET", &path, &[]).await.map_err(unanswered())?;
        let checkpoint = SignedCheckpoint::from_bytes(&answer.body).ok().filter(|_| answer.status == 200);
        if checkpoint.ok_or_else(|| foreign(&answer))?.claim().size >= last {
            return Ok(());
        }
    }
    Err(too_late("store everything"))
}

fn too_late(doing: &'static str) -> BenchError {
    BenchError::TooLate { name: "sequencer", doing, waited_s: STORED_MAX.as_secs() }
}

/// The receipt of a submission.
fn receipt(answer: &Answer, body: &[u8]) -> Result<Receipt, BenchError> {
    let receipts = Receipts::from_bytes(&answer.body).map_err(|_| foreign(answer))?.0;
    match <[Receipt; 1]>::try_from(receipts) {
        Ok([receipt])
            if receipt.header().message_type == MessageType::Submission
                && receipt.body_hash() == BodyHash::of(body) =>
        {
            Ok(receipt)
        }
        _ => Err(wrong("a receipt for something else than was sent")),
    }
}

fn foreign(answer: &Answer) -> BenchError {
    let said: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
    wrong(format!("an answer with status {}: {said}", answer.status))
}

fn unanswered() -> impl FnOnce(std::io::Error) -> BenchError {
    BenchError::system("speak to the sequencer")
}
