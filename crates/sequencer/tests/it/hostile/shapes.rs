//! Requests that are none, or are meant to be read in two ways.

use crate::killed::Process;
use crate::sample::{Client, STREAM, noise};
use crate::server::{TOKEN, http};

use super::{address, exchange, head, last, objects, started};

/// What is sent, and whether it may be answered well.
struct Shape {
    name: &'static str,
    bytes: Vec<u8>,
    fine: &'static [u16],
}

/// One that is refused, or closed without an answer.
fn refused(name: &'static str, bytes: impl Into<Vec<u8>>) -> Shape {
    Shape { name, bytes: bytes.into(), fine: &[] }
}

/// Sends each, and asserts that it was refused as a fault of whoever sent it, that nothing was taken, and that others are served.
async fn assert_harmless(folder: &std::path::Path, process: &mut Process, shapes: Vec<Shape>) {
    let http = http();
    let before = (last(process, &http).await, objects(folder));
    for Shape { name, bytes, fine } in shapes {
        let answer = exchange(address(process), &bytes).await;
        if let Some((status, answer)) = answer {
            let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
            assert!((400..500).contains(&status) || fine.contains(&status), "{name}: {sent}: {answer}");
        }
        assert_eq!(http.get(format!("{}/livez", process.base)).send().await.unwrap().status(), 200, "{name}");
        assert_eq!((last(process, &http).await, objects(folder)), before, "{name}: something was taken");
    }
    assert!(process.is_alive());
}

/// A path, as it stands in a request.
fn path(method: &str, target: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 1\r\n\r\nx"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_path_leads_out_of_the_store_or_to_another_stream() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::new(STREAM);
    let mut process = started(folder.path(), &client, "").await;
    // Stored, so that no batch comes in between.
    let url = format!("{}/streams/{}/checkpoint?at_least=2&wait_ms=30000", process.base, STREAM.to_key());
    assert_eq!(http().get(url).send().await.unwrap().status(), 200);
    let stream = STREAM.to_key();
    let gets = [
        "/batches/..%2f..%2ftoken".to_owned(),
        "/batches/../../token".to_owned(),
        "/batches/1_1%00".to_owned(),
        "/batches/1_1%2f..%2f..".to_owned(),
        "/batches/%2e%2e".to_owned(),
        "/batches/1_-1".to_owned(),
        "/batches/+1_1".to_owned(),
        "/batches/1_99999999999999999999999999".to_owned(),
        format!("/batches/{}", "9".repeat(6000)),
        "/streams/..%2f..%2f/status".to_owned(),
        "/streams/%00/status".to_owned(),
        "/streams/%ff%fe/status".to_owned(),
        format!("/streams/{}/status", stream.to_uppercase() + "0"),
        format!("/streams/{stream}%2f..%2f{stream}/status"),
        format!("/streams/{stream}/../../../etc/passwd"),
        "//etc/passwd".to_owned(),
        "/etc/passwd".to_owned(),
        "/leaves/..%2f..%2ftoken".to_owned(),
        format!("/{}", "a".repeat(20_000)),
        format!("/{}", "%2f..".repeat(2000)),
        "http://evil.example/status".to_owned(),
        "http://localhost@evil.example/status".to_owned(),
        "/checkpoint?at_least=%00".to_owned() + &"&a=b".repeat(4000),
        "*".to_owned(),
        "localhost:80".to_owned(),
    ];
    let puts = [
        format!("/streams/{stream}/snapshot/chunks/..%2f..%2ftoken"),
        format!("/streams/{stream}/snapshot/chunks/%00"),
        format!("/streams/{stream}/snapshot/chunks/{}", "0".repeat(63)),
        format!("/streams/{stream}/snapshot/chunks/{}%2f..%2fx", "0".repeat(64)),
        format!("/streams/{stream}/snapshot/chunks/{}", "0".repeat(64)),
        format!("/streams/{}/snapshot/chunks/x", "..%2f".repeat(10)),
    ];
    let fine: &[u16] = &[200];
    let mut shapes: Vec<Shape> = gets
        .iter()
        .map(|target| Shape { name: "get", bytes: path("GET", target).into(), fine: &[] })
        .collect();
    shapes.extend(puts.iter().map(|target| refused("put", path("PUT", target))));
    shapes.extend(
        ["CONNECT", "TRACE", "OPTIONS", "DELETE", "PATCH", "PROPFIND"]
            .map(|m| refused("method", path(m, "/status"))),
    );
    // A target in absolute form that names this machine is a request like any other.
    shapes.push(Shape { name: "absolute", bytes: path("GET", "http://localhost/status").into(), fine });
    assert_harmless(folder.path(), &mut process, shapes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_or_may_be_read_in_two_ways_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::new(STREAM);
    let mut process = started(folder.path(), &client, "").await;
    let url = format!("{}/streams/{}/checkpoint?at_least=2&wait_ms=30000", process.base, STREAM.to_key());
    assert_eq!(http().get(url).send().await.unwrap().status(), 200);
    // A submission that would be taken, hidden where only one of two readers looks.
    let body = client.next_body(1);
    let hidden =
        [head("POST", "submit", &format!("content-length: {}\r\n", body.len())).as_bytes(), &body].concat();
    let behind =
        |more: &str, body: &str| [head("POST", "submit", more).as_bytes(), body.as_bytes(), &hidden].concat();
    let lengths = |value: &str| behind(&format!("content-length: {value}\r\n"), "");
    let chunks = |chunks: &str| behind("transfer-encoding: chunked\r\n", chunks);
    let raw = |text: &str| [text.as_bytes(), &hidden].concat();
    let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &noise(512)].concat();
    let many: String = (0..2000).map(|number| format!("x-{number}: y\r\n")).collect();
    let shapes = vec![
        refused(
            "length, then chunked",
            behind("content-length: 4\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        refused(
            "chunked, then length",
            behind("transfer-encoding: chunked\r\ncontent-length: 4\r\n", "0\r\n\r\n"),
        ),
        refused("two lengths", behind("content-length: 1\r\ncontent-length: 0\r\n", "x")),
        refused("a list of lengths", lengths("0, 0")),
        refused("a signed length", lengths("+0")),
        refused("a negative length", lengths("-1")),
        refused("a length beyond all", lengths("99999999999999999999999")),
        refused("a length in hex", lengths("0x0")),
        refused("a coding that is none", behind("transfer-encoding: xchunked\r\n", "0\r\n\r\n")),
        refused("chunked, and not last", behind("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n")),
        refused("a folded line", behind("transfer-encoding:\r\n chunked\r\n", "0\r\n\r\n")),
        refused("a blank before the colon", behind("transfer-encoding : chunked\r\n", "0\r\n\r\n")),
        refused("a null byte", behind("x: a\0b\r\n", "")),
        refused("a bare return", behind("x: a\rb\r\n", "")),
        refused("no size of a chunk", chunks("\r\n\r\n")),
        refused("a size that is none", chunks("zz\r\nab\r\n0\r\n\r\n")),
        refused("a negative size", chunks("-1\r\na\r\n0\r\n\r\n")),
        refused("a size beyond all", chunks("fffffffffffffffff\r\na\r\n0\r\n\r\n")),
        refused("a chunk that is longer than it says", chunks("1\r\nabc\r\n0\r\n\r\n")),
        refused(
            "an extension of a megabyte",
            chunks(&format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(1 << 20))),
        ),
        refused("trailers of a megabyte", chunks(&format!("0\r\nx: {}\r\n\r\n", "e".repeat(1 << 20)))),
        refused(
            "chunks in HTTP/1.0",
            raw("POST /submit HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        refused("HTTP/0.9", "GET /status\r\n\r\n"),
        refused("HTTP/3.0", "GET /status HTTP/3.0\r\nhost: localhost\r\n\r\n"),
        refused("HTTP/2 at once", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0")),
        refused("TLS", hello),
        refused("noise", noise(4096)),
        refused("zeros", vec![0; 4096]),
        refused("many headers", head("GET", "status", &many)),
        refused("a huge header", head("GET", "status", &format!("x: {}\r\n", "y".repeat(1 << 20)))),
        refused(
            "a huge token",
            format!(
                "POST /submit HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
                "y".repeat(12_000)
            ),
        ),
        refused(
            "two tokens",
            format!(
                "POST /submit HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 0\r\n\r\n"
            ),
        ),
        refused(
            "another scheme",
            format!(
                "POST /submit HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {TOKEN}\r\ncontent-length: 0\r\n\r\n"
            ),
        ),
        Shape {
            name: "an upgrade",
            bytes: head("GET", "status", "connection: upgrade\r\nupgrade: h2c\r\n").into(),
            fine: &[200],
        },
    ];
    assert_harmless(folder.path(), &mut process, shapes).await;
    // What was hidden is taken where it is asked for.
    assert_eq!(exchange(address(&process), &hidden).await.unwrap().0, 201);
}
