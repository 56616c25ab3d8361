//! Each fault does happen, and means for the server behind what it says.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test asks for one answer of many")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Blackout, Fault, Outcome, Proxy};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a client waits that gives up.
const IMPATIENCE: Duration = Duration::from_millis(300);

/// What a server has, and the requests that reached it whole or in part.
#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Vec<u8>>,
    /// The first lines and `Host` headers of whole requests.
    heard: Vec<(String, String)>,
    cut: u64,
}

/// A small real server: it keeps what is put whole, and gives it back.
fn server() -> (SocketAddr, Arc<Mutex<Kept>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, kept) = (listener.local_addr().unwrap(), Arc::new(Mutex::default()));
    let shared = Arc::clone(&kept);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || serve(&stream.unwrap(), &shared));
        }
    });
    (address, kept)
}

fn serve(stream: &TcpStream, kept: &Mutex<Kept>) {
    let mut reader = BufReader::new(stream);
    let Some((first, headers)) = head(&mut reader) else { return };
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    let mut kept = kept.lock().unwrap();
    if reader.read_exact(&mut body).is_err() {
        kept.cut += 1;
        return;
    }
    kept.heard.push((first.clone(), headers["host"].clone()));
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
    let answer = match method {
        "PUT" => {
            kept.objects.insert(path, body);
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec()
        }
        _ => {
            let object = &kept.objects[&path];
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", object.len());
            if method == "HEAD" { head.into_bytes() } else { [head.as_bytes(), object].concat() }
        }
    };
    drop(kept);
    (&*stream).write_all(&answer).ok();
}

fn head(reader: &mut impl std::io::BufRead) -> Option<(String, BTreeMap<String, String>)> {
    let mut lines = reader.lines().map_while(Result::ok);
    let first = lines.next()?;
    let headers = lines.take_while(|line| !line.is_empty());
    let headers = headers.map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    Some((first, headers.collect()))
}

/// What a client saw.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Answer(u16, Vec<u8>),
    /// An answer whose body ended too early.
    Cut,
    Reset,
    /// Nothing, for as long as it waited.
    Nothing,
}

fn ask(to: SocketAddr, method: &str, path: &str, body: &[u8], patience: Duration) -> Seen {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: Store.Example:9\r\ncontent-length: {length}\r\n\r\n");
    // A connection that was reset meanwhile is noticed by reading.
    stream.write_all(&[request.as_bytes(), body].concat()).ok();
    let mut reader = BufReader::new(stream);
    match reader.fill_buf() {
        Ok([]) => panic!("the connection ended in good order"),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            return Seen::Nothing;
        }
        Err(_) => return Seen::Reset,
    }
    let (first, headers) = head(&mut reader).unwrap();
    let status = first.split(' ').nth(1).unwrap().parse().unwrap();
    let length = if method == "HEAD" { 0 } else { headers["content-length"].parse().unwrap() };
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() { Seen::Cut } else { Seen::Answer(status, body) }
}

fn done(body: &[u8]) -> Seen {
    Seen::Answer(200, body.to_vec())
}

#[test]
fn without_faults_everything_passes_as_it_is() {
    let (behind, kept) = server();
    let proxy = Proxy::before(behind, 1).unwrap();
    let (to, body) = (proxy.address(), vec![7; 3 << 20]);
    assert_eq!(ask(to, "PUT", "/b/k%20%2F?x=%2B&y", &body, PATIENCE), done(b""));
    assert_eq!(ask(to, "GET", "/b/k%20%2F?x=%2B&y", b"", PATIENCE), done(&body));
    assert_eq!(ask(to, "HEAD", "/b/k%20%2F?x=%2B&y", b"", PATIENCE), done(b""));
    let heard = kept.lock().unwrap().heard.clone();
    let lines: Vec<&str> = heard.iter().map(|(line, _)| line.as_str()).collect();
    let expected = ["PUT", "GET", "HEAD"].map(|method| format!("{method} /b/k%20%2F?x=%2B&y HTTP/1.1"));
    assert_eq!(lines, expected);
    assert!(heard.iter().all(|(_, host)| host == "Store.Example:9"), "{heard:?}");
    let counts = proxy.counts();
    assert_eq!((counts.total(), counts.of("PUT"), counts.ended(Outcome::Answered)), (3, 1, 3));
    assert_eq!(counts.struck(), 0);
}

#[test]
fn each_fault_happens_and_has_the_effect_that_it_says() {
    let (behind, kept) = server();
    for (number, fault) in (0..).zip(Fault::ALL) {
        let proxy = Proxy::before(behind, number).unwrap();
        let (to, path, body) = (proxy.address(), format!("/{fault:?}"), vec![7; 1 << 20]);
        proxy.strike(fault, 1000);
        let before = kept.lock().unwrap().cut;
        let patience = if fault == Fault::Hang { IMPATIENCE } else { PATIENCE };
        let put = ask(to, "PUT", &path, &body, patience);
        let has_effect = matches!(fault, Fault::ResetAfter | Fault::CutAnswer);
        let expected_status = match fault {
            Fault::Unavailable => Some((503, "SlowDown")),
            Fault::Denied => Some((403, "AccessDenied")),
            Fault::Gone => Some((404, "NoSuchBucket")),
            _ => None,
        };
        match (expected_status, put) {
            (Some((expected, code)), Seen::Answer(status, body)) => {
                assert!(status == expected && String::from_utf8(body).unwrap().contains(code), "{fault:?}");
            }
            (None, Seen::Nothing) => assert_eq!(fault, Fault::Hang),
            (None, Seen::Reset) => assert_ne!(fault, Fault::Hang),
            (_, seen) => panic!("{fault:?}: {seen:?}"),
        }
        let deadline = Instant::now() + PATIENCE;
        while fault == Fault::CutRequest && kept.lock().unwrap().cut == before {
            assert!(Instant::now() < deadline, "the server got no part of it");
            std::thread::yield_now();
        }
        assert_eq!(kept.lock().unwrap().objects.contains_key(&path), has_effect, "{fault:?}");
        if fault == Fault::CutAnswer {
            assert_eq!(ask(to, "GET", &path, b"", PATIENCE), Seen::Cut);
            assert_eq!(proxy.counts().ended(Outcome::Struck(fault)), 1);
        } else {
            assert_eq!(proxy.counts().ended(Outcome::Struck(fault)), 1, "{:?}", proxy.counts());
        }
        assert!(proxy.counts().struck() >= 1 && proxy.counts().ended(Outcome::Answered) == 0);
        proxy.clear();
        assert_eq!(ask(to, "PUT", &path, &body, PATIENCE), done(b""), "{fault:?}");
    }
}

#[test]
fn latency_is_spread_and_the_seed_decides_whom_a_fault_strikes() {
    let (behind, _) = server();
    let struck = |seed| {
        let proxy = Proxy::before(behind, seed).unwrap();
        proxy.strike(Fault::Unavailable, 300);
        proxy.set_latency(Duration::from_millis(1)..=Duration::from_millis(2));
        let answers = (0..200).map(|_| ask(proxy.address(), "PUT", "/k", b"x", PATIENCE));
        let struck: Vec<bool> = answers.map(|seen| seen != done(b"")).collect();
        let count = struck.iter().filter(|struck| **struck).count();
        assert!((30..90).contains(&count), "{count} of 200");
        struck
    };
    assert_eq!(struck(5), struck(5));
    assert_ne!(struck(5), struck(6));
    let proxy = Proxy::before(behind, 1).unwrap();
    proxy.set_latency(IMPATIENCE..=IMPATIENCE);
    let asked = Instant::now();
    assert_eq!(ask(proxy.address(), "PUT", "/k", b"x", PATIENCE), done(b""));
    assert!(asked.elapsed() >= IMPATIENCE);
}

#[test]
fn a_blackout_answers_nobody_and_ends() {
    let (behind, kept) = server();
    let proxy = Proxy::before(behind, 1).unwrap();
    let to = proxy.address();
    proxy.black_out(Some(Blackout::Refuses));
    assert_eq!(ask(to, "PUT", "/refused", b"x", PATIENCE), Seen::Reset);
    assert_eq!((proxy.counts().refused, proxy.counts().total()), (1, 1));
    proxy.black_out(Some(Blackout::Silent));
    assert_eq!(ask(to, "PUT", "/silent", b"x", IMPATIENCE), Seen::Nothing);
    let hung = std::thread::spawn(move || ask(to, "PUT", "/silent", b"x", PATIENCE));
    let deadline = Instant::now() + PATIENCE;
    while proxy.counts().ended(Outcome::BlackedOut) < 2 {
        assert!(Instant::now() < deadline, "{:?}", proxy.counts());
        std::thread::yield_now();
    }
    proxy.black_out(None);
    assert_eq!(hung.join().unwrap(), Seen::Reset);
    assert!(kept.lock().unwrap().heard.is_empty());
    assert_eq!(ask(to, "PUT", "/back", b"x", PATIENCE), done(b""));
}
