//! How servers end. A server that outlives its test would hold its port and its memory until somebody finds it.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use synddb_servers::{ObjectServer, Platform};

/// Makes a child of this binary start a server and then die without a word.
const ROLE: &str = "SYNDDB_SERVERS_TEST_ROLE";

const PATIENCE: Duration = Duration::from_secs(60);

fn listens(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

fn must_end(address: SocketAddr) {
    let until = Instant::now() + PATIENCE;
    while listens(address) {
        assert!(Instant::now() < until, "a server outlives its test. address=`{address}`");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_server_ends_with_its_value() {
    if !Platform::S3.is_here() {
        return;
    }
    let server = ObjectServer::start(Platform::S3).unwrap();
    let address = server.address();
    assert!(listens(address));
    drop(server);
    assert!(!listens(address));
}

#[test]
fn a_server_ends_with_a_test_that_panics() {
    if !Platform::S3.is_here() {
        return;
    }
    let failed = std::thread::spawn(|| {
        let server = ObjectServer::start(Platform::S3).unwrap();
        std::panic::panic_any(server.address());
    });
    let address = *failed.join().unwrap_err().downcast::<SocketAddr>().unwrap();
    assert!(!listens(address));
}

/// A server that is kept in a static is dropped by nobody, and one that a killed process started neither.
#[test]
fn a_server_ends_with_a_process_that_is_killed() {
    if !Platform::S3.is_here() {
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["ending::starts_a_server_and_waits", "--exact", "--nocapture"]).env(ROLE, "start");
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.find_map(|line| line.strip_prefix("server at ").map(str::to_owned)).unwrap();
    let (address, folder) = told.split_once(" in ").unwrap();
    let address = address.parse().unwrap();
    assert!(listens(address));
    assert!(std::path::Path::new(folder).is_dir());
    child.kill().unwrap();
    child.wait().unwrap();
    must_end(address);
    let until = Instant::now() + PATIENCE;
    while std::path::Path::new(folder).exists() {
        assert!(Instant::now() < until, "a server's folder outlives its test. folder=`{folder}`");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// What the child does; in the parent, nothing.
#[test]
fn starts_a_server_and_waits() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let server = ObjectServer::start(Platform::S3).unwrap();
    println!("\nserver at {} in {}", server.address(), server.folder().display());
    // The parent holds the other end, and kills this process.
    std::io::stdin().read_line(&mut String::new()).ok();
}

#[test]
fn a_server_that_does_not_start_says_why() {
    if !Platform::S3.is_here() {
        return;
    }
    let started = ObjectServer::start_with(Platform::S3, &[("MINIO_ROOT_PASSWORD", "short")]);
    let text = format!("{:#}", started.unwrap_err());
    assert!(text.contains("server ended at its start") && text.contains("at least 8 characters"), "{text}");
}
