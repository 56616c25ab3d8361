//! A machine whose clock is wrong: platforms refuse what is signed at another time than theirs, and the error must say so and nothing
//! else, because whoever reads "wrong credentials" looks in the wrong place.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use synddb_servers::Platform;
use synddb_storage::{BatchStore as _, GetError, ObjectBatchStore, OpenError, Variables};

use super::refusals::{Expected, told};
use super::{new_url, open, server};
use crate::child::{Role, command, finish};
use crate::{batch, body};

/// The shim's source.
const SHIM: &str = include_str!("clock.c");

/// By how many seconds the shim's clock is ahead.
const AHEAD: &str = "SYNDDB_CLOCK_AHEAD";

/// More than any platform tolerates.
const WRONG_SECONDS: [&str; 2] = ["1200", "-1200"];

/// Says the time, so that the parent sees that the shim was at work, and asks the store.
pub(crate) async fn meet_wrong_clock(store: &str) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    println!("\nit is {}", now.as_secs());
    let store = ObjectBatchStore::open(&store.parse().unwrap()).await.unwrap();
    let GetError::Failed { failure, .. } = store.get(&batch(1)).await.unwrap_err() else {
        panic!("another error");
    };
    // A clock may be set right while the process runs.
    assert!(failure.retry_may_help());
    println!("\ntold {}", told(&failure, Expected::Unavailable));
}

fn compile(folder: &Path) -> std::path::PathBuf {
    let (source, shim) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, SHIM).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&shim).arg(&source);
    assert!(cc.status().unwrap().success());
    shim
}

/// Answers so many requests as Azure answers a signature that it does not take, at a time that is so long ago.
fn refuse(requests: usize, ago: Duration) -> (SocketAddr, JoinHandle<()>) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        for stream in socket.incoming().take(requests) {
            let mut stream = stream.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                asked.push(byte[0]);
            }
            let date = httpdate::fmt_http_date(SystemTime::now() - ago);
            let answer = format!(
                "HTTP/1.1 403 Server failed to authenticate the request.\r\ndate: {date}\r\n\
                 x-ms-error-code: AuthenticationFailed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, answering)
}

/// Azure does not say what it did not take of a signature, and its stand-in does not look at the time. So Azure's answer is given by
/// hand, with the time at which a platform would give it.
#[tokio::test]
async fn azure_is_understood_although_only_its_clock_tells_the_cause() {
    let connection = |address| {
        let text = format!("AccountName=a;AccountKey=a2V5;BlobEndpoint=http://{address}/a");
        [("AZURE_STORAGE_CONNECTION_STRING", text)].into_iter().collect::<Variables>()
    };
    let url = "az://logs".parse().unwrap();

    // A clock is set right while a process runs, so the store opens.
    let (address, answering) = refuse(2, Duration::from_secs(20 * 60));
    let store = ObjectBatchStore::open_with(&url, &connection(address)).await.unwrap();
    let GetError::Failed { failure, .. } = store.get(&batch(1)).await.unwrap_err() else {
        panic!("another error");
    };
    let text = told(&failure, Expected::Unavailable);
    assert!(text.contains("this machine's clock differs") && text.contains("AuthenticationFailed"), "{text}");
    answering.join().unwrap();

    let (address, answering) = refuse(1, Duration::ZERO);
    let Err(OpenError::Failed { failure, .. }) =
        ObjectBatchStore::open_with(&url, &connection(address)).await
    else {
        panic!("another error");
    };
    let text = told(&failure, Expected::Denied);
    assert!(text.contains("does not accept the credentials"), "{text}");
    answering.join().unwrap();
}

#[tokio::test]
async fn s3_names_the_clock_when_it_is_wrong() {
    let Some(server) = server(Platform::S3) else { return };
    let folder = tempfile::tempdir().unwrap();
    let shim = compile(folder.path());
    let url = new_url(server);
    open(server, &url).await.put(&batch(1), body("there")).await.unwrap();
    for ahead in WRONG_SECONDS {
        let binary = std::env::current_exe().unwrap();
        let mut child = command(&binary, Role::Skewed, Path::new(&url.to_string()), "skewed");
        child.envs(server.variables()).env("LD_PRELOAD", &shim).env(AHEAD, ahead);
        let said = finish(child.stdout(Stdio::piped()).spawn().unwrap());
        let line = |begin: &str| said.lines().find_map(|line| line.strip_prefix(begin)).unwrap().to_owned();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let wrong = line("it is ").parse::<i64>().unwrap() - i64::try_from(now).unwrap();
        assert!((wrong - ahead.parse::<i64>().unwrap()).abs() < 120, "the shim was not at work: {wrong} s");
        let told = line("told ");
        assert!(
            told.contains("this machine's clock differs") && told.contains("RequestTimeTooSkewed"),
            "{told}"
        );
    }
}
