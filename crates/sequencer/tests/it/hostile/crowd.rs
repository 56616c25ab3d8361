//! Crowds that are idle or slow, and bodies of a gigabyte, while one client works. Its times are printed; what the process has in memory
//! is bounded.
//!
//! ```sh
//! SYNDDB_HOSTILE_CONNECTIONS=10000 SYNDDB_HOSTILE_SECONDS=60 \
//!     cargo test --release -p synddb-sequencer --test it hostile::crowd -- --nocapture --test-threads 1
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::killed::Process;
use crate::sample::{Client, STREAM};
use crate::server::{TOKEN, http};
use crate::takeover::number;

use super::{address, head, last, memory_max_mib, read_answer, started};

/// How many are connected, unless the environment says.
const CONNECTIONS: u64 = 240;

/// For how long, in seconds, unless the environment says.
const SECONDS: u64 = 3;

/// The most memory that the process may have had with as many as the big run has, in MiB.
const MEMORY_MAX_MIB: u64 = 1024;

/// The longest that one submission may take. It judges that nobody is kept out, and not how quick a machine is.
const SUBMISSION_MAX: Duration = Duration::from_secs(30);

/// Of so many submissions one comes on a new connection.
const ANEW: u64 = 8;

/// Bodies of a gigabyte that are sent at a time.
const HUGE: u64 = 4;

/// What is said to be sent, or is, as far as it is taken.
const HUGE_BYTES: u64 = 1 << 30;

/// How often one who is slow sends a byte, and one who was closed comes again.
const PACE: Duration = Duration::from_secs(1);

/// Addresses of this machine that a crowd comes from: one has too few ports.
const ADDRESSES: u64 = 50;

/// What one of a crowd does.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// Says nothing.
    Idle,
    /// Sends a head, a byte at a time.
    SlowHead,
    /// Sends a body with the token, a byte at a time.
    SlowBody,
    /// Asks many times at once, and reads nothing.
    NeverReads,
    /// Sends a head that never ends, as fast as it can.
    Floods,
}

const MANNERS: [Manner; 10] = [
    Manner::Idle,
    Manner::SlowHead,
    Manner::SlowBody,
    Manner::NeverReads,
    Manner::Idle,
    Manner::SlowHead,
    Manner::SlowBody,
    Manner::Floods,
    Manner::Idle,
    Manner::SlowBody,
];

/// What a crowd met.
#[derive(Default)]
struct Met {
    connected: AtomicU64,
    closed: AtomicU64,
}

async fn connect(to: SocketAddr, number: u64) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let from = Ipv4Addr::new(127, 0, 1, u8::try_from(1 + number % ADDRESSES).unwrap());
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// One of a crowd: it comes again whenever it was closed.
async fn misbehave(to: SocketAddr, number: u64, met: Arc<Met>) {
    let manner = MANNERS[usize::try_from(number).unwrap() % MANNERS.len()];
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        if let Ok(mut connection) = connect(to, number).await {
            met.connected.fetch_add(1, Ordering::Relaxed);
            act(manner, &mut connection, &mut pace).await.ok();
            met.closed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Goes on until it is closed.
async fn act(
    manner: Manner,
    connection: &mut TcpStream,
    pace: &mut tokio::time::Interval,
) -> std::io::Result<()> {
    match manner {
        Manner::Idle => {}
        Manner::SlowHead => {
            let head = "GET /status HTTP/1.1\r\nhost: localhost\r\nx: ";
            for byte in head.bytes().chain(std::iter::repeat(b'y')) {
                connection.write_all(&[byte]).await?;
                pace.tick().await;
            }
        }
        Manner::SlowBody => {
            let head = head("POST", "submit", &format!("content-length: {}\r\n", 8_000_000));
            connection.write_all(head.as_bytes()).await?;
            loop {
                connection.write_all(b"x").await?;
                pace.tick().await;
            }
        }
        Manner::NeverReads => {
            let ask = "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
            loop {
                connection.write_all(ask.as_bytes()).await?;
            }
        }
        Manner::Floods => {
            connection.write_all(b"GET /status HTTP/1.1\r\nhost: localhost\r\n").await?;
            for number in 0u64.. {
                connection.write_all(format!("x-{number}: {}\r\n", "y".repeat(100)).as_bytes()).await?;
            }
        }
    }
    // Until the other side closes it.
    connection.readable().await?;
    let mut ends = [0; 1];
    loop {
        if connection.try_read(&mut ends).is_ok_and(|read| read == 0) {
            return Ok(());
        }
        connection.readable().await?;
    }
}

/// Sends bodies of a gigabyte in each way, and gives how many bytes of the longest were taken.
async fn send_huge(to: SocketAddr, number: u64) -> u64 {
    let announced = format!("content-length: {HUGE_BYTES}\r\n");
    let without = head("POST", "submit", &announced).replace(TOKEN, "another one");
    let with_token = [
        head("POST", "submit", &announced),
        head("POST", "submit", &format!("{announced}expect: 100-continue\r\n")),
    ];
    for (head, expected) in with_token.map(|head| (head, 413)).into_iter().chain([(without, 401)]) {
        let Ok(mut connection) = connect(to, number).await else { continue };
        connection.write_all(head.as_bytes()).await.ok();
        // Where connections are few it may have been closed for somebody else.
        if let Some((status, answer)) = read_answer(&mut connection).await {
            assert_eq!(status, expected, "{answer}");
        }
    }
    let Ok(mut connection) = connect(to, number).await else { return 0 };
    let chunked = head("POST", "submit", "transfer-encoding: chunked\r\n");
    connection.write_all(chunked.as_bytes()).await.ok();
    let chunk = [&b"10000\r\n"[..], &[7; 0x10000], b"\r\n"].concat();
    let mut sent = 0;
    while sent < HUGE_BYTES && connection.write_all(&chunk).await.is_ok() {
        sent += 0x10000;
    }
    sent
}

/// How long submissions took.
#[derive(Default)]
struct Took {
    /// On a connection that is kept.
    kept: Vec<Duration>,
    /// With connecting anew.
    anew: Vec<Duration>,
}

/// Submits one commit after the other for a time, coming again when it was closed: most on one connection, as clients do, and some on new ones.
async fn work(process: &Process, kept: &reqwest::Client, client: &mut Client, time: Duration) -> Took {
    let begun = Instant::now();
    let mut took = Took::default();
    for number in 1.. {
        // A busy machine may need longer until one of each has come through.
        if begun.elapsed() >= time && !took.kept.is_empty() && !took.anew.is_empty() {
            break;
        }
        let body = client.next_body(1);
        let is_anew = number % ANEW == 0;
        let http = &if is_anew { http() } else { kept.clone() };
        let submitted = Instant::now();
        loop {
            match process.post(http, "submit", body.clone()).await {
                Some((200 | 201, _)) => break,
                Some((429 | 503, _)) | None => tokio::task::yield_now().await,
                Some((status, answer)) => panic!("{status}: {}", String::from_utf8_lossy(&answer)),
            }
            assert!(submitted.elapsed() < SUBMISSION_MAX, "who works was kept out");
        }
        let took = if is_anew { &mut took.anew } else { &mut took.kept };
        took.push(submitted.elapsed());
    }
    took
}

fn percentile(sorted: &[Duration], of_hundred: usize) -> Duration {
    sorted[(sorted.len() - 1) * of_hundred / 100]
}

/// A crowd against a process, for a time, while one works.
async fn crowd(connections_max: Option<u64>) {
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: files.maximum, ..files }).unwrap();
    let connections = number("SYNDDB_HOSTILE_CONNECTIONS", CONNECTIONS);
    let time = Duration::from_secs(number("SYNDDB_HOSTILE_SECONDS", SECONDS));
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::new(STREAM);
    let more = connections_max.map(|most| format!("[http]\nconnections_max = {most}\n")).unwrap_or_default();
    let mut process = started(folder.path(), &client, &more).await;
    // It keeps its connection, as clients do.
    let http = http();
    let alone = work(&process, &http, &mut client, time / 3).await;
    let to = address(&process);
    let met = Arc::new(Met::default());
    let mut crowd = JoinSet::new();
    for number in 0..connections {
        crowd.spawn(misbehave(to, number, Arc::clone(&met)));
    }
    let mut looks = interval(Duration::from_millis(10));
    while met.connected.load(Ordering::Relaxed) < connections {
        looks.tick().await;
    }
    let huge: Vec<_> = (0..HUGE).map(|number| tokio::spawn(send_huge(to, number))).collect();
    let took = work(&process, &http, &mut client, time).await;
    for huge in huge {
        let sent = huge.await.unwrap();
        assert!(sent < HUGE_BYTES / 8, "a gigabyte was taken");
    }
    crowd.shutdown().await;

    let memory = memory_max_mib(&process);
    let all = [
        ("alone", alone.kept),
        ("alone, connecting anew", alone.anew),
        ("beside them", took.kept),
        ("beside them, connecting anew", took.anew),
    ];
    let submitted: u64 = all.iter().map(|(_, took)| took.len() as u64).sum();
    for (who, mut took) in all {
        assert!(!took.is_empty(), "{who}");
        took.sort_unstable();
        println!(
            "{who}: {} submissions, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
            took.len(),
            percentile(&took, 50).as_secs_f64() * 1e3,
            percentile(&took, 99).as_secs_f64() * 1e3,
            took.last().unwrap().as_secs_f64() * 1e3,
        );
    }
    println!(
        "{connections} misbehave, at most {}: they connected {} times and were closed {} times; {memory} MiB at most",
        connections_max.map_or_else(|| "as by default".to_owned(), |most| most.to_string()),
        met.connected.load(Ordering::Relaxed),
        met.closed.load(Ordering::Relaxed),
    );
    assert!(memory < MEMORY_MAX_MIB, "{memory} MiB");
    assert!(process.is_alive());
    // The beginning and its epoch, and what was submitted; nothing else.
    assert_eq!(last(&process, &http).await.get(), 2 + submitted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_is_idle_or_slow_keeps_nobody_out_and_takes_bounded_memory() {
    crowd(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_four_times_as_many_as_may_connect_keeps_nobody_out() {
    crowd(Some(number("SYNDDB_HOSTILE_CONNECTIONS", CONNECTIONS) / 4)).await;
}
