//! A sequencer alone, asked with `curl` and checked-in bodies: what any client in any language would send.
//!
//! ```sh
//! SYNDDB_WRITE_BODIES=1 cargo test -p synddb-cli --test it bodies    # writes the bodies anew
//! ```

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;
use synddb_protocol::hash::{CommitDigest, StateHash};
use synddb_protocol::id::{CommitNumber, Incarnation, IncarnationCounter, IncarnationNonce, StreamId};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{Body, Entry};
use synddb_protocol::submission::{
    Changes, Chunk, Commit, CommitKind, Commits, Content, PageSize, Snapshot, SnapshotPlace, StateClaim,
    Submission, TextEncoding,
};

use super::served::curl;
use crate::processes::synddb;

const STREAM: StreamId = StreamId::from_bytes([0x5d; 32]);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("fixtures").join("bodies")
}

fn incarnation() -> Incarnation {
    Incarnation { counter: IncarnationCounter::FIRST, nonce: IncarnationNonce::from_bytes([1; 16]) }
}

/// One page of nothing, as a chunk.
fn chunk() -> (Chunk, Vec<u8>) {
    Chunk::seal(&[0; 4096], PageSize::new(4096).unwrap()).unwrap()
}

fn snapshot() -> Snapshot {
    Snapshot {
        stream: STREAM,
        incarnation: incarnation(),
        place: SnapshotPlace::Begins { predecessor: None },
        encoding: TextEncoding::Utf8,
        page_size: PageSize::new(4096).unwrap(),
        state: StateHash::from_bytes([2; 32]),
        chunks: vec![chunk().0],
    }
}

/// One commit that sets `user_version` to its own number.
fn submission(number: u64, prev: CommitDigest) -> Submission {
    let user_version = i32::try_from(number).ok();
    let commit = Commit {
        number: CommitNumber::new(number).unwrap(),
        prev,
        kind: CommitKind::Transaction,
        changes: Changes { user_version, ..Changes::default() },
        state: Some(StateClaim { state: StateHash::from_bytes([3; 32]), scanned: None }),
    };
    let content = Content::Commits(Commits::new(vec![commit]).unwrap());
    Submission { stream: STREAM, incarnation: incarnation(), content }
}

/// The bodies by the names of their files.
fn bodies() -> [(&'static str, Entry); 3] {
    let snapshot = snapshot();
    let digest = snapshot.digest();
    [
        ("snapshot", Entry::Snapshot(snapshot)),
        ("submission-1", Entry::Submission(submission(1, digest))),
        ("submission-9", Entry::Submission(submission(9, digest))),
    ]
}

#[test]
fn checked_in_bodies_say_what_they_should() {
    let folder = folder();
    let (chunk, bytes) = chunk();
    let write = std::env::var_os("SYNDDB_WRITE_BODIES").is_some();
    let chunk_file = folder.join(format!("chunk-{}", chunk.hash.to_key()));
    if write {
        fs::create_dir_all(&folder).unwrap();
        fs::write(&chunk_file, &bytes).unwrap();
    }
    // Another release of the compressor may make other bytes of the same page.
    assert_eq!(chunk.open(&fs::read(chunk_file).unwrap(), PageSize::new(4096).unwrap()).unwrap(), [0; 4096]);
    for (name, entry) in bodies() {
        let file = folder.join(name);
        if write {
            fs::write(&file, Body::of(&entry).unwrap().as_stored()).unwrap();
        }
        assert_eq!(
            Body::read(entry.message_type(), fs::read(file).unwrap(), BODY_BYTES_MAX).unwrap().into_entry(),
            entry,
            "{name}"
        );
    }
}

/// A sequencer that runs.
struct Sequencer {
    child: Child,
    url: String,
    token: String,
}

impl Sequencer {
    fn start(folder: &Path) -> Self {
        let token = "a1".repeat(16);
        fs::write(folder.join("token"), &token).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(folder.join("token"), private).unwrap();
        for made in ["store", "sequencer"] {
            fs::create_dir(folder.join(made)).unwrap();
        }
        let store = format!("file://{}", folder.join("store").display());
        let mut command = synddb(["sequencer", "--listen", "127.0.0.1:0", "--json", "--store", &store]);
        crate::roles::credentials(folder);
        for (name, file) in
            [("--dir", "sequencer"), ("--credentials-file", "credentials.toml"), ("--key-file", "key")]
        {
            command.arg(name).arg(folder.join(file));
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], "listening", "{event}");
        let url = format!("{}/streams/{}", event["url"].as_str().unwrap(), STREAM.to_key());
        Self { child, url, token }
    }

    /// Sends a file with the token.
    fn send(&self, method: &str, path: &str, file: &Path) -> (u16, Value) {
        let header = format!("Authorization: Bearer {}", self.token);
        self.curl(&["--header", &header, "--request", method], path, file)
    }

    fn curl(&self, more: &[&str], path: &str, file: &Path) -> (u16, Value) {
        let (body, url) = (format!("@{}", file.display()), format!("{}{path}", self.url));
        // The receipts are no text.
        let answer = tempfile::NamedTempFile::new().unwrap();
        let output = answer.path().to_str().unwrap();
        let media_type = if path.contains("/chunks/") { "octet-stream" } else { "cbor" };
        let header = format!("Content-Type: application/{media_type}");
        let mut arguments = vec!["--data-binary", &body, "--header", &header, "--output", output];
        arguments.extend(more);
        arguments.push(&url);
        let (code, _) = curl(&arguments);
        let bytes = fs::read(output).unwrap();
        let hex = || Value::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| hex()))
    }

    fn sequence(&self) -> Value {
        curl(&[&format!("{}/status", self.url)]).1["sequence"].clone()
    }
}

impl Drop for Sequencer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn what_is_sent_twice_has_one_place_and_what_is_refused_has_none() {
    let scratch = tempfile::tempdir().unwrap();
    let sequencer = Sequencer::start(scratch.path());
    let file = |name: &str| folder().join(name);

    // Nothing goes without the token, and a stream begins with a snapshot whose chunks are stored.
    let (code, answer) = sequencer.curl(&["--request", "POST"], "/snapshot", &file("snapshot"));
    assert_eq!((code, answer["code"].as_str()), (401, Some("unauthorized")), "{answer}");
    let (code, answer) = sequencer.send("POST", "/snapshot", &file("snapshot"));
    assert_eq!((code, answer["code"].as_str()), (422, Some("missing_chunks")), "{answer}");
    let missing = answer["missing"][0].as_str().unwrap().trim_start_matches("0x").to_owned();
    let chunk = file(&format!("chunk-{missing}"));
    let (code, answer) = sequencer.send("PUT", &format!("/snapshot/chunks/{}", "0".repeat(64)), &chunk);
    assert_eq!(code, 422, "{answer}");
    assert_eq!(sequencer.send("PUT", &format!("/snapshot/chunks/{missing}"), &chunk).0, 201);
    assert_eq!(sequencer.send("PUT", &format!("/snapshot/chunks/{missing}"), &chunk).0, 200);
    let (code, begun) = sequencer.send("POST", "/snapshot", &file("snapshot"));
    assert_eq!(code, 201, "{begun}");
    assert_eq!(sequencer.send("POST", "/snapshot", &file("snapshot")), (200, begun));

    let (code, first) = sequencer.send("POST", "/submit", &file("submission-1"));
    assert_eq!(code, 201, "{first}");
    let sequence = sequencer.sequence();
    let (code, again) = sequencer.send("POST", "/submit", &file("submission-1"));
    println!("the same submission again: {code}, the same receipt: {}", first == again);
    assert_eq!((code, &again), (200, &first));

    let (code, gap) = sequencer.send("POST", "/submit", &file("submission-9"));
    println!("a gap: {code} {gap}");
    assert_eq!((code, gap["code"].as_str()), (409, Some("gap")), "{gap}");
    assert_eq!(gap["expected"]["commit"], 2, "{gap}");

    let (code, answer) = sequencer.curl(&["--request", "POST"], "/submit", &file("submission-1"));
    println!("no token: {code} {answer}");
    assert_eq!((code, answer["code"].as_str()), (401, Some("unauthorized")), "{answer}");
    let wrong = ["--header", "Authorization: Bearer 00000000000000000000000000000000", "--request", "POST"];
    assert_eq!(sequencer.curl(&wrong, "/submit", &file("submission-1")).0, 401);
    assert_eq!(sequencer.send("POST", "/submit", &file("snapshot")).0, 400);
    assert_eq!(sequencer.sequence(), sequence, "a sequence was used by what was refused");
}
