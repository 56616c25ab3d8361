//! One request over plain HTTP, sent and answered before anything else happens: for making buckets, and for asking whether a server is ready.
//!
//! It speaks HTTP/1.0, whose answers end where the connection does, so that nothing has to be understood but the first line and the headers.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How long any part of an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Itself, when the request succeeded.
    ///
    /// # Errors
    /// With the status and the body.
    pub fn succeeded(self) -> Result<Self> {
        if !(200..300).contains(&self.status) {
            bail!("the server refused. status=`{}` body=`{}`", self.status, self.text());
        }
        Ok(self)
    }
}

/// Sends one request and waits for its answer. `target` is the path with its query, escaped.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Result<Answer> {
    let asked = || -> Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut head =
            format!("{method} {target} HTTP/1.0\r\nhost: {address}\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n")?;
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut bytes = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
        read(&bytes)
    };
    asked().with_context(|| format!("cannot ask server. method=`{method}` url=`http://{address}{target}`"))
}

fn read(bytes: &[u8]) -> Result<Answer> {
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .context("the answer has no end of its headers")?;
    let head = std::str::from_utf8(&bytes[..end]).context("the headers of the answer are no text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Ok(Answer {
        status: status.context("the answer has no status")?,
        headers,
        body: bytes[end + 4..].to_vec(),
    })
}
