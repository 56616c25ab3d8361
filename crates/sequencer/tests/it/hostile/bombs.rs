//! Bodies that are small and open to much, or nest and count beyond all bounds.

use synddb_protocol::hash::ChunkHash;
use synddb_protocol::limits::BODY_BYTES_MAX;

use crate::sample::{Client, PAGES, STREAM, noise};
use crate::server::http;

use super::{last, memory_max_mib, objects, started};

/// The most memory that all of it may take, in MiB: what one body may open to, a few times.
const MEMORY_MAX_MIB: u64 = 256;

/// Bytes that one block of a frame holds at most (RFC 8878, section 3.1.1.2).
const BLOCK_BYTES: usize = 128 << 10;

const MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";

/// The head of a frame that states this size, in one segment.
fn stating(bytes: u64) -> Vec<u8> {
    [MAGIC, b"\xe0", &bytes.to_le_bytes()].concat()
}

/// Blocks of runs that open to so many bytes.
fn runs(bytes: usize) -> Vec<u8> {
    let count = bytes.div_ceil(BLOCK_BYTES);
    let blocks = (1..=count).flat_map(|number| {
        let head = u32::try_from(BLOCK_BYTES << 3 | 1 << 1 | usize::from(number == count)).unwrap();
        [&head.to_le_bytes()[..3], b"\0"].concat()
    });
    blocks.collect()
}

/// A frame that holds this as it is.
pub(super) fn framed(content: &[u8]) -> Vec<u8> {
    let mut frame = stating(content.len() as u64);
    let count = content.len().div_ceil(BLOCK_BYTES).max(1);
    for number in 0..count {
        let block = &content[number * BLOCK_BYTES..content.len().min((number + 1) * BLOCK_BYTES)];
        let head = u32::try_from(block.len() << 3 | usize::from(number + 1 == count)).unwrap();
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.extend_from_slice(block);
    }
    frame
}

/// Frames that are not what they say, or say what no frame of ours may.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let window = |exponent: u8| [MAGIC, &[0x00, exponent << 3], &runs(BODY_BYTES_MAX)].concat();
    vec![
        ("states little, opens to much", [stating(16), runs(BODY_BYTES_MAX)].concat()),
        (
            "states as much as may be, is much more",
            [stating(BODY_BYTES_MAX as u64), runs(8 * BODY_BYTES_MAX)].concat(),
        ),
        ("states 2^63", [stating(1 << 63), runs(BLOCK_BYTES)].concat()),
        ("states all ones", [stating(u64::MAX), runs(BLOCK_BYTES)].concat()),
        ("states nothing, window of 2^31", window(21)),
        ("states nothing, window of 2^41", window(31)),
        ("states nothing, window of a kibibyte", window(0)),
        ("many frames", framed(PAGES).repeat(10_000)),
        ("many empty frames", framed(b"").repeat(100_000)),
        ("skippable frames", [&b"\x50\x2a\x4d\x18\x00\x00\x00\x00"[..]].concat().repeat(100_000)),
        ("a skippable frame that states 4 GiB", b"\x50\x2a\x4d\x18\xff\xff\xff\xff".to_vec()),
        ("a dictionary", [MAGIC, b"\x23\x01\x02\x03\x04\x05\x00\x00\x00", &runs(BLOCK_BYTES)].concat()),
        ("a reserved block", [stating(5), b"\x07\x00\x00".to_vec()].concat()),
        ("a head and nothing else", stating(BODY_BYTES_MAX as u64)),
        ("nothing", Vec::new()),
        ("noise", noise(1 << 20)),
    ]
}

/// CBOR that nests or counts beyond all bounds, in frames as they should be.
fn values() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |byte: u8, times: usize| framed(&vec![byte; times]);
    let long = |head: &[u8]| framed(&[head, &[0xff; 8]].concat());
    vec![
        ("arrays in arrays", deep(0x81, 4 << 20)),
        ("maps in maps", deep(0xa1, 4 << 20)),
        ("tags on tags", deep(0xc1, 4 << 20)),
        ("arrays without end", deep(0x9f, 4 << 20)),
        ("an array of 2^64", long(&[0x9b])),
        ("a map of 2^64", long(&[0xbb])),
        ("bytes of 2^64", long(&[0x5b])),
        ("text of 2^64", long(&[0x7b])),
        ("a map whose first value is such an array", long(&[0xa1, 0x01, 0x9b])),
        ("no value", framed(b"")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_are_refused_within_the_memory_of_a_few_bodies() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::new(STREAM);
    let mut process = started(folder.path(), &client, "").await;
    let http = http();
    let url = format!("{}/streams/{}/checkpoint?at_least=2&wait_ms=30000", process.base, STREAM.to_key());
    assert_eq!(http.get(url).send().await.unwrap().status(), 200);
    let before = (last(&process, &http).await, objects(folder.path()));
    let mut sent = 0;
    for (name, bomb) in frames().into_iter().chain(values()) {
        for path in ["submit", "snapshot"] {
            let (status, answer) = process.post(&http, path, bomb.clone()).await.unwrap();
            assert!(
                matches!(status, 400 | 413),
                "{path}: {name}: {status}: {}",
                String::from_utf8_lossy(&answer)
            );
            sent += 1;
        }
    }
    for (name, bomb) in frames() {
        let path = format!("snapshot/chunks/{}", ChunkHash::of(&bomb).to_key());
        let (status, answer) = process.post(&http, &path, bomb).await.unwrap();
        assert_eq!(status, 422, "{name}: {}", String::from_utf8_lossy(&answer));
        sent += 1;
    }
    let memory = memory_max_mib(&process);
    println!("{sent} bombs, {memory} MiB at most");
    assert!(memory < MEMORY_MAX_MIB, "{memory} MiB");
    assert!(process.is_alive());
    assert_eq!((last(&process, &http).await, objects(folder.path())), before, "something was taken");
    assert_eq!(process.post(&http, "submit", client.next_body(1)).await.unwrap().0, 201);
}
