//! What stands before anvil, which now and then stands still for ever when it is asked while it makes a block: nothing reaches it but one by one, and blocks
//! are made in the same line, one each second.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between two blocks.
const BLOCK_TIME: Duration = Duration::from_secs(1);

/// The line before a node. Clones are the same one.
#[derive(Clone)]
pub(super) struct Front {
    node: Arc<Mutex<String>>,
}

impl Front {
    /// Begins to let requests to a node through, and to have it make blocks, for as long as it lives. Gives the URL to ask.
    pub(super) fn start(node: &str) -> String {
        let front = Self { node: Arc::new(Mutex::new(address(node).to_owned())) };
        let miner = front.clone();
        std::thread::spawn(move || {
            const MINE: &[u8] = br#"{"jsonrpc": "2.0", "id": 1, "method": "evm_mine", "params": []}"#;
            loop {
                std::thread::park_timeout(BLOCK_TIME);
                if miner.pass_on(MINE).is_err() {
                    return;
                }
            }
        });
        listen(move |mut stream| {
            let answer = front.pass_on(&body_of(&stream)?)?;
            reply(&mut stream, &answer)
        })
    }

    fn pass_on(&self, body: &[u8]) -> std::io::Result<Vec<u8>> {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        pass_on(&node, body)
    }
}

/// Answers each request on a thread of its own, for as long as the test runs. Gives the URL to ask.
pub(super) fn listen(answer: impl Fn(TcpStream) -> std::io::Result<()> + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            // Whoever is let down goes away in the middle.
            std::thread::spawn(move || answer(stream).ok());
        }
    });
    url
}

/// Where a URL leads.
pub(super) fn address(url: &str) -> &str {
    url.trim_start_matches("http://")
}

/// Asks somebody at an address.
pub(super) fn pass_on(address: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut node = TcpStream::connect(address)?;
    let head = "POST / HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\nconnection: close";
    node.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes())?;
    node.write_all(body)?;
    body_of(&node)
}

/// The body of a request, or of an answer.
pub(super) fn body_of(stream: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut reader = BufReader::new(stream);
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
    Ok(body)
}

/// Answers a request.
pub(super) fn reply(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
    stream.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes())?;
    stream.write_all(body)
}
