//! Whoever connects may be anybody: crowds that are idle or slow, bodies of a gigabyte, bombs, and what is no HTTP. The process lives
//! through all of it within bounded memory, takes nothing of it, and serves who works meanwhile.

mod bombs;
mod crowd;
mod mutated;
mod shapes;

use std::net::SocketAddr;
use std::path::Path;

use synddb_protocol::hash::ChunkHash;
use synddb_protocol::http::StreamStatus;
use synddb_protocol::id::Sequence;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::killed::{Process, configure};
use crate::sample::{Client, PAGES, STREAM, snapshot_body};
use crate::server::TOKEN;

/// A sequencer as a process that leads a stream, with more at the end of its configuration.
async fn started(folder: &Path, client: &Client, more: &str) -> Process {
    let file = configure(folder);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}{more}")).unwrap();
    let process = Process::start(&file);
    let http = crate::server::http();
    let chunk = format!("snapshot/chunks/{}", ChunkHash::of(PAGES).to_key());
    assert_eq!(process.post(&http, &chunk, PAGES.to_vec()).await.unwrap().0, 201);
    assert_eq!(process.post(&http, "snapshot", snapshot_body(client.beginning())).await.unwrap().0, 201);
    process
}

fn address(process: &Process) -> SocketAddr {
    process.base.strip_prefix("http://").unwrap().parse().unwrap()
}

/// The last sequence of the stream.
async fn last(process: &Process, http: &reqwest::Client) -> Sequence {
    let url = format!("{}/streams/{}/status", process.base, STREAM.to_key());
    let answer = http.get(url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let status: StreamStatus = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    status.sequence.unwrap()
}

/// How many objects the store has.
fn objects(folder: &Path) -> usize {
    fn count(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        entries.map(|entry| if entry.file_type().unwrap().is_dir() { count(&entry.path()) } else { 1 }).sum()
    }
    count(&folder.join("store"))
}

/// The most memory that a process ever had, in MiB.
fn memory_max_mib(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib >> 10
}

/// The head of a request to the stream, with the token.
fn head(method: &str, path: &str, more: &str) -> String {
    let stream = STREAM.to_key();
    format!(
        "{method} /streams/{stream}/{path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n{more}\r\n"
    )
}

/// Sends these bytes, and reads the status and the rest of the first answer. `None` when the connection was closed without one.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<(u16, String)> {
    let mut connection = TcpStream::connect(address).await.unwrap();
    // It may be closed before everything is sent.
    connection.write_all(bytes).await.ok();
    read_answer(&mut connection).await
}

async fn read_answer(connection: &mut TcpStream) -> Option<(u16, String)> {
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if connection.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Some((answer.split(' ').nth(1)?.parse().ok()?, answer))
}
