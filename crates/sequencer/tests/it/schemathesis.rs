//! The document of the sequencer, held against what a real one answers: with a token everything can be had, and without one nothing changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use synddb_protocol::hash::ChunkHash;
use synddb_servers::Questions;

use crate::killed::{Process, configure};
use crate::outbound::{CONTRACT, body, rows};
use crate::sample::{Client, PAGES, STREAM, chunk, snapshot_body};
use crate::server::{TOKEN, http};

/// How long an outbound message is waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// For how long nothing changes where nothing is done any more.
const SETTLED: std::time::Duration = std::time::Duration::from_millis(500);

/// Commits that are in the log before anything is asked.
const COMMITS: u64 = 12;

/// It goes on until whoever reads it has enough.
const ENDLESS: &str = "/messages/(in|out)bound/stream$";
/// The same as operations, and what no bridge has sent here.
const NEVER_HAD: [&str; 6] = [
    "GET /messages/outbound/stream",
    "GET /streams/{stream}/messages/outbound/stream",
    "GET /messages/inbound/stream",
    "GET /streams/{stream}/messages/inbound/stream",
    "GET /messages/inbound/{id}",
    "GET /streams/{stream}/messages/inbound/{id}",
];

/// Submissions that requests may carry, one after the other, and chunks.
const BODIES: u64 = 48;

/// A sequencer that leads the stream anew, so that what was there before is in the store alone, and bodies that follow.
async fn prepared(folder: &Path) -> (Process, Value) {
    let file = configure(folder);
    let bridge = format!("[bridge]\nchain_id = 31337\ncontract = \"{CONTRACT}\"\n");
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + &bridge).unwrap();
    let http = http();
    let mut client = Client::new(STREAM);
    let beginning = snapshot_body(client.beginning());
    let first = Process::start(&file);
    let name = ChunkHash::of(PAGES).to_key();
    first.post(&http, &format!("snapshot/chunks/{name}"), PAGES.to_vec()).await.unwrap();
    first.post(&http, "snapshot", beginning.clone()).await.unwrap();
    let message = body(&mut client, &rows(&[(1, "5")]));
    let commits = std::iter::once(message).chain((1..COMMITS).map(|_| client.next_body(1)));
    for commit in commits.collect::<Vec<_>>() {
        let (status, answer) = first.post(&http, "submit", commit).await.unwrap();
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
    }
    first.signal(rustix::process::Signal::TERM);
    first.end();
    let process = Process::start(&file);
    // Beside the commits there are the snapshot and two epochs, the last of them that of the sequencer that leads now.
    let stored = format!("{}/checkpoint?at_least={}&wait_ms=30000", process.base, COMMITS + 3);
    assert_eq!(http.get(stored).send().await.unwrap().status(), 200);
    // What is stored is read a moment later.
    let message = format!("{}/messages/outbound/1", process.base);
    let until = tokio::time::Instant::now() + PATIENCE;
    while http.get(&message).send().await.unwrap().status() != 200 {
        assert!(tokio::time::Instant::now() < until, "an outbound message is not told of");
    }
    let bodies = folder.join("bodies");
    std::fs::create_dir(&bodies).unwrap();
    std::fs::write(bodies.join("snapshot-0"), beginning).unwrap();
    for number in 0..BODIES {
        std::fs::write(bodies.join(format!("submit-{number:04}")), client.next_body(1)).unwrap();
        let bytes = chunk(u32::try_from(number).unwrap().to_be_bytes());
        let name = ChunkHash::of(&bytes).to_key();
        std::fs::write(bodies.join(format!("chunk-{number:04}-{name}")), bytes).unwrap();
    }
    (process, json!({ "stream": STREAM.to_key(), "bodies": bodies }))
}

/// Every file below a folder, with what is in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_can_be_had_and_answers_as_the_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let (process, prepared) = prepared(folder.path()).await;
    let document = synddb_servers::document(&process.base).unwrap();
    let questions = Questions {
        url: &process.base,
        document: &document,
        token: Some(TOKEN),
        prepared: &prepared,
        except: Some(ENDLESS),
        folder: folder.path(),
    };
    let Some(answers) = questions.ask().unwrap() else { return };
    let faults = answers.faults(&questions, &NEVER_HAD);
    assert_eq!(faults, "");
    // Bodies are new once, to whichever of the two paths took them.
    for path in ["submit", "snapshot/chunks/{hash}"] {
        let of_path = answers.statuses.iter().filter(|(operation, _)| operation.ends_with(path));
        let created: u64 = of_path.filter_map(|(_, statuses)| statuses.get(&201)).sum();
        assert!(created > 0, "{path}: {:?}", answers.statuses);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (process, prepared) = prepared(folder.path()).await;
    let seen = async || {
        let status = http().get(format!("{}/status", process.base)).send().await.unwrap();
        let status: Value = status.json().await.unwrap();
        (status, files(&folder.path().join("store")), files(&folder.path().join("one")))
    };
    let document = synddb_servers::document(&process.base).unwrap();
    // What is stored is read for messages a moment later, and noted how far.
    let before = loop {
        let before = seen().await;
        std::thread::park_timeout(SETTLED);
        if seen().await == before {
            break before;
        }
    };
    let questions = Questions {
        url: &process.base,
        document: &document,
        token: None,
        prepared: &prepared,
        except: Some(ENDLESS),
        folder: folder.path(),
    };
    let Some(answers) = questions.ask().unwrap() else { return };
    let writes: Vec<_> = synddb_servers::operations(&document)
        .into_iter()
        .filter(|operation| !operation.starts_with("GET "))
        .collect();
    let unanswered: Vec<&str> = writes.iter().map(String::as_str).chain(NEVER_HAD).collect();
    let faults = answers.faults(&questions, &unanswered);
    assert_eq!(faults, "");
    assert!(writes.len() >= 6, "{writes:?}");
    for operation in &writes {
        let statuses = &answers.statuses[operation];
        assert!(
            statuses.contains_key(&401) && !statuses.keys().any(|status| *status < 300),
            "{operation}: {statuses:?}"
        );
    }
    let after = seen().await;
    assert_eq!(before.0, after.0);
    assert!(before.1 == after.1 && before.2 == after.2, "the store or the journal changed");
    // The same comparison sees what a token does.
    let body = std::fs::read(folder.path().join("bodies/submit-0000")).unwrap();
    assert_eq!(process.post(&http(), "submit", body).await.unwrap().0, 201);
    assert!(seen().await != before);
}
