//! Requests to a service on this machine, over plain HTTP or TLS.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A request, and what is in it beside its path.
#[derive(Clone, Copy, Default)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a str,
}

impl Request<'_> {
    /// Sends it to `127.0.0.1:N`; the status and everything that is answered.
    pub(super) fn send(&self, address: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (method, path, length) = (self.method, self.path, self.body.len());
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{}",
            self.body
        );
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no answer: {answer}")), answer)
    }
}

/// What Prometheus is shown.
pub(super) fn metrics(address: &str) -> String {
    Request { method: "GET", path: "/metrics", ..Request::default() }.send(address).1
}

/// Whether a submission with this token would be read.
pub(super) fn is_admitted(address: &str, stream: &str, token: &str) -> bool {
    let (path, bearer) = (format!("/streams/{stream}/submit"), format!("Bearer {token}"));
    let headers = [("authorization", bearer.as_str())];
    let request = Request { method: "POST", path: &path, headers: &headers, body: "no submission" };
    match request.send(address).0 {
        400 => true,
        401 => false,
        status => panic!("{status}"),
    }
}
