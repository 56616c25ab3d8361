//! One keep-alive connection to a sequencer on this machine. It knows no more of HTTP than its own requests need, and costs next to nothing: what
//! the machine can do is for the sequencer.

use std::io;
use std::net::SocketAddr;

use synddb_protocol::id::StreamId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// The longest body of an answer, in bytes: receipts of one submission, a checkpoint, or a problem.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The status behind which a sequencer ends the connection.
const NOT_LEADING: u16 = 503;

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A connection on which one stream is spoken of.
pub(super) struct Connection {
    address: SocketAddr,
    socket: TcpStream,
    stream: String,
    token: String,
    /// The request, or what came of the answer.
    buffer: Vec<u8>,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(super) async fn open(address: SocketAddr, stream: StreamId, token: &str) -> io::Result<Self> {
        let socket = connect(address).await?;
        Ok(Self { address, socket, stream: stream.to_key(), token: token.to_owned(), buffer: Vec::new() })
    }

    /// Sends something to a path of the stream.
    pub(super) async fn send(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let (stream, token, length) = (&self.stream, &self.token, body.len());
        let head = format!(
            "{method} /streams/{stream}/{path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n\
             content-length: {length}\r\n\r\n"
        );
        self.buffer.clear();
        self.buffer.extend_from_slice(head.as_bytes());
        self.buffer.extend_from_slice(body);
        self.socket.write_all(&self.buffer).await?;
        let answer = self.answer().await?;
        // Whoever does not lead ends the connection, so that a balancer may choose another.
        if answer.status == NOT_LEADING {
            self.socket = connect(self.address).await?;
        }
        Ok(answer)
    }

    async fn answer(&mut self) -> io::Result<Answer> {
        self.buffer.clear();
        loop {
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(head) = head(&self.buffer)? else { continue };
            if let Some(body) = self.buffer.get(head.bytes..head.bytes + head.body_bytes) {
                return Ok(Answer { status: head.status, body: body.to_vec() });
            }
        }
    }
}

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    bytes: usize,
    status: u16,
    body_bytes: usize,
}

/// Reads the head of an answer; `None` while the end of it has not come.
fn head(answer: &[u8]) -> io::Result<Option<Head>> {
    let foreign = || io::Error::new(io::ErrorKind::InvalidData, "an answer that is none of a sequencer");
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if answer.len() > HEAD_BYTES_MAX { Err(foreign()) } else { Ok(None) };
    };
    let text = std::str::from_utf8(&answer[..end]).map_err(|_| foreign())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    match (status, length) {
        (Some(status), Some(body_bytes @ ..=BODY_BYTES_MAX)) => {
            Ok(Some(Head { bytes: end + 4, status, body_bytes }))
        }
        _ => Err(foreign()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_it_is_whole() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Type: application/cbor\r\nContent-Length: 2\r\n\r\nab";
        assert_eq!(head(&answer[..50]).unwrap(), None);
        let bytes = answer.len() - 2;
        assert_eq!(head(answer).unwrap(), Some(Head { bytes, status: 201, body_bytes: 2 }));
        for foreign in [&b"HTTP/1.1 201 Created\r\n\r\n"[..], b"hello\r\n\r\n", &[b'a'; HEAD_BYTES_MAX + 1]] {
            assert!(head(foreign).is_err());
        }
    }
}
