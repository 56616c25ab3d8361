//! What a client sends, changed at random: nothing that is not valid gets a sequence, and no fault is the service's.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use synddb_protocol::Canonical as _;
use synddb_protocol::hash::{ChunkHash, CommitDigest};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{Body, Entry, MessageType};
use synddb_protocol::submission::Content;

use crate::sample::{Client, PAGES, STREAM, noise, snapshot_body, submission_body};
use crate::server::{Answer, Server, config, file_store};
use crate::takeover::number;

use super::bombs::framed;

/// How many are sent, unless the environment says.
const CASES: u64 = 1500;

/// One of so many is sent as it should be.
const AS_IS_EVERY: u64 = 10;

/// Changes bytes in one of the ways that break formats.
fn mutate(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.random()),
            2 => {
                let end = random.random_range(at..=bytes.len()).min(at + 64);
                bytes.drain(at..end);
            }
            3 => {
                let end = random.random_range(at..=bytes.len()).min(at + 64);
                let copied = bytes[at..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                bytes.splice(to..to, copied);
            }
            4 if at < bytes.len() => {
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, 0x9b, 0xbb, 0xf6][random.random_range(0..8)]
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            _ => {}
        }
    }
}

/// The commits of a body that is a submission to the stream.
fn commits(body: &[u8]) -> Option<Vec<(u64, CommitDigest, CommitDigest)>> {
    let body = Body::read(MessageType::Submission, body.to_vec(), BODY_BYTES_MAX).ok()?;
    let Entry::Submission(submission) = body.entry() else { return None };
    let Content::Commits(commits) = &submission.content else { return Some(Vec::new()) };
    let commits = commits.as_slice().iter();
    Some(commits.map(|commit| (commit.number.get(), commit.prev, commit.digest())).collect())
}

/// A path as an address has it: what has a meaning there stays.
fn written(path: &[u8]) -> String {
    let written = path.iter().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'?' | b'=' | b'&' | b'_' | b'.' => {
            char::from(*byte).to_string()
        }
        other => format!("%{other:02x}"),
    });
    written.collect()
}

/// No fault of the service is told but those that are documented.
fn assert_documented(answer: &Answer, what: &str) {
    let is_documented = matches!(answer.status, 200 | 201 | 400..=499 | 503 | 507);
    assert!(is_documented, "{what}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_valid_submissions_gets_a_sequence() {
    let cases = number("SYNDDB_HOSTILE_CASES", CASES);
    let seed = number("SYNDDB_HOSTILE_SEED", 1);
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let mut client = Client::new(STREAM);
    server.begin(&client).await.receipt();
    let mut random = StdRng::seed_from_u64(seed);
    let (mut taken, mut refused) = (0u64, 0u64);
    for case in 0..cases {
        let mut next = client.clone();
        let rows = noise(random.random_range(0..200));
        let made = next.commits_with(random.random_range(1..4), &rows);
        let submission = next.submit(&made);
        // It is as it should be, or its frame is changed, or what is inside it, in a frame that is right.
        let body = if case % AS_IS_EVERY == 0 {
            submission_body(submission)
        } else if random.random_bool(0.3) {
            let mut body = submission_body(submission);
            mutate(&mut body, &mut random);
            body
        } else {
            let mut content = submission.to_bytes();
            mutate(&mut content, &mut random);
            framed(&content)
        };
        let answer = server.submit(STREAM, body.clone()).await;
        assert_documented(&answer, "submit");
        if answer.status != 201 {
            assert!(case % AS_IS_EVERY != 0, "a valid submission was refused: {answer:?}");
            refused += 1;
            continue;
        }
        taken += 1;
        let place = format!("seed {seed}, case {case}: taken, and not valid: {}", hex::encode(&body));
        let valid = commits(&body).unwrap_or_else(|| panic!("{place}"));
        for (number, prev, digest) in valid {
            assert_eq!((number, prev), (client.next, client.last), "{place}");
            (client.next, client.last) = (number + 1, digest);
        }
    }
    let last = server.status(STREAM).await.sequence.unwrap().get();
    println!(
        "seed {seed}: {cases} submissions changed at random: {refused} refused, {taken} still valid and taken"
    );
    assert_eq!(last, 2 + taken, "each that was taken has one sequence, and nothing else has");
    assert!(refused > cases / 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_chunks_and_queries_changed_at_random_are_refused_and_use_no_sequence() {
    let cases = number("SYNDDB_HOSTILE_CASES", CASES);
    let seed = number("SYNDDB_HOSTILE_SEED", 1);
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let server = Server::start(&store, config(folder.path(), "one")).await;
    let client = Client::new(STREAM);
    let begun = server.begin(&client).await.sequence();
    server.stored(STREAM, begun).await;
    let mut random = StdRng::seed_from_u64(seed);
    let beginning = client.beginning().to_bytes();
    let prefix = format!("streams/{}/", STREAM.to_key());
    let queries = [
        "checkpoint?at_least=1",
        "batches/1_2",
        "leaves/1_2",
        "proof/inclusion?sequence=1&size=2",
        "proof/consistency?from=1&size=2",
        "log/stream?from=9999999",
        "status",
    ];
    for _ in 0..cases {
        let mut content = beginning.clone();
        mutate(&mut content, &mut random);
        let is_same = content == beginning;
        let body = if random.random_bool(0.8) {
            framed(&content)
        } else {
            let mut body = snapshot_body(client.beginning());
            mutate(&mut body, &mut random);
            body
        };
        let answer = server.post(STREAM, "snapshot", body).await;
        assert_documented(&answer, "snapshot");
        assert!(answer.status != 201 || is_same, "another snapshot began the stream again");

        let mut chunk = PAGES.to_vec();
        mutate(&mut chunk, &mut random);
        let named = if random.random_bool(0.5) { ChunkHash::of(&chunk) } else { ChunkHash::of(PAGES) };
        let url = format!("{}/{prefix}snapshot/chunks/{}", server.base, named.to_key());
        let put = server.http.put(url).bearer_auth(crate::server::TOKEN).body(chunk.clone());
        let answer = server.send(put).await;
        assert_documented(&answer, "chunk");
        assert!(
            answer.status >= 400 || named == ChunkHash::of(&chunk),
            "a chunk is stored under another name"
        );

        let mut path = queries[random.random_range(0..queries.len())].as_bytes().to_vec();
        mutate(&mut path, &mut random);
        // Its answer is not read: a log as it grows has no end.
        let url = format!("{}/{prefix}{}", server.base, written(&path));
        let status = server.http.get(url).send().await.unwrap().status().as_u16();
        assert!(matches!(status, 200 | 400..=499 | 503), "{status}: {}", written(&path));
    }
    let last = server.status(STREAM).await.sequence.unwrap().get();
    assert_eq!(last, begun);
    server.stop().await;
}
