//! HTTP by hand, so that a test knows of each request whether it was sent, and can leave before the answer comes.
//!
//! One connection is one client's. A request counts as sent when all of it was written to a connection that was alive; a server that is not
//! there costs nothing but the attempt.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use synddb_protocol::Canonical as _;
use synddb_protocol::http::{Problem, Reason, Receipts};
use synddb_protocol::log::Receipt;

/// How long an answer may take. A sequencer that is dead closes the connection.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all clients count together.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Sent, and neither answered nor given up.
    pub(crate) in_flight: AtomicU64,
    /// Sent, and the connection ended before the answer.
    pub(crate) unanswered: AtomicU64,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// New receipts.
    Taken(Vec<Receipt>),
    /// Receipts of an earlier time.
    Known(Vec<Receipt>),
    /// A success without receipts, with its body.
    Done(Vec<u8>),
    /// A refusal.
    Refused(Reason),
    /// It was sent, and nobody knows what came of it.
    Unanswered,
    /// It was not sent.
    NotSent,
}

/// A connection to the sequencer, made when it is needed.
pub(crate) struct Connection {
    address: SocketAddr,
    counted: Arc<Counted>,
    stream: Option<TcpStream>,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr, counted: &Arc<Counted>) -> Self {
        Self { address, counted: Arc::clone(counted), stream: None }
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        if !self.send(method, path, body) {
            return Answer::NotSent;
        }
        self.answer()
    }

    /// Sends a request. Gives `false` when it was not sent.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &[u8]) -> bool {
        self.stream = self.stream.take().filter(is_alive);
        let Some(mut stream) = self.stream.take().or_else(|| connect(self.address)) else { return false };
        let mut request = head(method, path, body.len()).into_bytes();
        request.extend_from_slice(body);
        if stream.write_all(&request).is_err() {
            return false;
        }
        self.counted.in_flight.fetch_add(1, Ordering::SeqCst);
        self.stream = Some(stream);
        true
    }

    /// Sends a request, or only a part of its body, and goes away.
    pub(crate) fn send_and_leave(&mut self, method: &str, path: &str, body: &[u8], bytes: usize) -> bool {
        let Some(mut stream) = connect(self.address) else { return false };
        let mut request = head(method, path, body.len()).into_bytes();
        request.extend_from_slice(&body[..bytes.min(body.len())]);
        stream.write_all(&request).is_ok()
    }

    /// Waits for the answer to what was sent.
    pub(crate) fn answer(&mut self) -> Answer {
        let read = self.stream.as_mut().and_then(read_answer);
        self.counted.in_flight.fetch_sub(1, Ordering::SeqCst);
        let Some((status, body)) = read else {
            self.stream = None;
            self.counted.unanswered.fetch_add(1, Ordering::SeqCst);
            return Answer::Unanswered;
        };
        match (status, Receipts::from_bytes(&body)) {
            (201, Ok(receipts)) => Answer::Taken(receipts.0),
            (200, Ok(receipts)) => Answer::Known(receipts.0),
            (200 | 201, Err(_)) => Answer::Done(body),
            _ => {
                let problem: Problem = serde_json::from_slice(&body)
                    .unwrap_or_else(|error| panic!("{status}: {error}: {}", String::from_utf8_lossy(&body)));
                assert_eq!(problem.reason().status(), status);
                Answer::Refused(problem.reason().clone())
            }
        }
    }
}

fn head(method: &str, path: &str, length: usize) -> String {
    let token = super::super::roles::TOKEN;
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n"
    )
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// Whether the other end has not closed it.
fn is_alive(stream: &TcpStream) -> bool {
    let peek = || {
        stream.set_nonblocking(true)?;
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false)?;
        peeked
    };
    matches!(peek(), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Reads one answer; `None` when the connection ends before it does.
///
/// # Panics
/// When the server is there and says nothing: it must answer or die.
fn read_answer(stream: &mut TcpStream) -> Option<(u16, Vec<u8>)> {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(read[..end].to_vec()).unwrap().to_ascii_lowercase();
            let status = head.split(' ').nth(1)?.parse().ok()?;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if read.len() >= end + 4 + length {
                return Some((status, read[end + 4..end + 4 + length].to_vec()));
            }
        }
        match stream.read(&mut piece) {
            Ok(0) => return None,
            Ok(bytes) => read.extend_from_slice(&piece[..bytes]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("no answer within {PATIENCE:?}")
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}
