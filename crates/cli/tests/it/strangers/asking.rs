//! Questions over HTTP, from an address of this machine.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::Value;

use crate::roles::PATIENCE;

/// Whom one asks, and where one comes from.
pub(super) struct Asker {
    address: SocketAddr,
    from: Ipv4Addr,
}

/// An answer.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) kind: String,
    pub(super) body: Vec<u8>,
    pub(super) took: Duration,
}

impl Answered {
    pub(super) fn json(&self) -> Value {
        let shown = || String::from_utf8_lossy(&self.body[..self.body.len().min(200)]).into_owned();
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{} {}", self.status, shown()))
    }
}

impl Asker {
    pub(super) fn at(url: &str) -> Self {
        let address = url.trim_start_matches("http://").parse().unwrap();
        Self { address, from: Ipv4Addr::LOCALHOST }
    }

    pub(super) fn from(self, address: [u8; 4]) -> Self {
        Self { from: address.into(), ..self }
    }

    pub(super) fn get(&self, path: &str) -> Answered {
        self.ask(&format!("GET {path} HTTP/1.0\r\n\r\n"), b"")
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Answered {
        let body = serde_json::to_vec(body).unwrap();
        self.ask(&format!("POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len()), &body)
    }

    /// By HTTP/1.0, so that an answer ends with its connection.
    fn ask(&self, head: &str, body: &[u8]) -> Answered {
        let began = Instant::now();
        let mut stream = self.connect();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let took = began.elapsed();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
        Answered { status, kind: kind.to_owned(), body: answer[end + 4..].to_vec(), took }
    }

    fn connect(&self) -> TcpStream {
        let stream = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&stream, &SocketAddrV4::new(self.from, 0)).unwrap();
        connect(&stream, &self.address).unwrap();
        stream.into()
    }
}

/// Has everything stored that is committed; what the agent answers then.
pub(super) fn push(home: &Path) -> Value {
    let mut socket = UnixStream::connect(home.join("agent.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
        .write_all(
            b"POST /push?until=stored&wait_ms=30000 HTTP/1.0\r\nHost: agent\r\nContent-Length: 0\r\n\r\n",
        )
        .unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    serde_json::from_slice(&answer[body + 4..]).unwrap()
}
