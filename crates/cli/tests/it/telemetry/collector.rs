//! A collector of traces: keeps what it is sent, or does what a broken one does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;

/// What it does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    Takes,
    /// Answers 500 with a page.
    Fails,
    /// Sends the client elsewhere.
    Redirects,
    /// Reads, and never answers.
    IsSilent,
    /// Answers with a body that has no end.
    HasNoEnd,
    /// Closes the connection in the middle of its answer.
    BreaksOff,
}

/// How long a test waits for a request.
const PATIENCE: Duration = Duration::from_secs(30);

/// A collector that runs until the test's process ends.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    said: Arc<Said>,
}

#[derive(Default)]
struct Said {
    requests: Mutex<Vec<ExportTraceServiceRequest>>,
    /// Requests that came, whatever was done with them.
    count: AtomicUsize,
    changed: Condvar,
}

impl Collector {
    /// Does the first of these with the first request, the last one with all that follow.
    pub(crate) fn start(script: &'static [Does]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let said = Arc::new(Said::default());
        let kept = Arc::clone(&said);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, kept) = (stream.unwrap(), Arc::clone(&kept));
                // Whoever goes away in the middle is no fault of the test's.
                std::thread::spawn(move || serve(stream, script, &kept).ok());
            }
        });
        Self { address, said }
    }

    /// Waits for so many requests.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        let until = Instant::now() + PATIENCE;
        let mut requests = self.said.requests.lock().unwrap();
        while self.said.count.load(Ordering::SeqCst) < count {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{count} requests did not come");
            requests = self.said.changed.wait_timeout(requests, left).unwrap().0;
        }
    }

    /// What it took.
    pub(crate) fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        self.said.requests.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, script: &[Does], said: &Said) -> std::io::Result<()> {
    let body = read(&stream)?;
    let number = said.count.fetch_add(1, Ordering::SeqCst);
    let does = script[number.min(script.len() - 1)];
    {
        let mut requests = said.requests.lock().unwrap();
        if does == Does::Takes {
            requests.push(ExportTraceServiceRequest::decode(body.as_slice()).unwrap());
        }
        said.changed.notify_all();
    }
    let head = "Content-Type: application/x-protobuf\r\nConnection: close\r\n";
    match does {
        Does::Takes => {
            let answer = ExportTraceServiceResponse::default().encode_to_vec();
            write!(stream, "HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n", answer.len())?;
            stream.write_all(&answer)
        }
        Does::Fails => {
            write!(stream, "HTTP/1.1 500 Internal Server Error\r\n{head}Content-Length: 5\r\n\r\nfault")
        }
        Does::Redirects => {
            write!(
                stream,
                "HTTP/1.1 307 Elsewhere\r\n{head}Location: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
            )
        }
        Does::IsSilent => stream.read(&mut [0]).map(drop),
        Does::HasNoEnd => {
            write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n")?;
            loop {
                stream.write_all(&[0; 8192])?;
            }
        }
        Does::BreaksOff => write!(stream, "HTTP/1.1 200 OK\r\n{head}Content-Length: 100\r\n\r\nhalf"),
    }
}

fn read(stream: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line)? > 2 {
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        assert!(!lower.starts_with("transfer-encoding:"), "{line}");
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}
