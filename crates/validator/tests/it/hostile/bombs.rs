//! Frames that open to more than they may, in place of batches and of bodies.

use synddb_protocol::id::Sequence;
use synddb_protocol::log::{Message, MessageHeader, MessageType, Receipt, Tip};

use super::stage::Stage;
use crate::log::key;
use crate::mutated::pack;

/// Opened, far more than any bound.
const HUGE: usize = 1 << 30;

/// A frame of zeros that states its size.
fn stated(bytes: usize) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.set_pledged_src_size(Some(bytes as u64)).unwrap();
    encoder.include_contentsize(true).unwrap();
    fill(&mut encoder, bytes);
    encoder.finish().unwrap()
}

/// A frame of zeros that does not.
fn open_ended(bytes: usize) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    fill(&mut encoder, bytes);
    encoder.finish().unwrap()
}

fn fill(encoder: &mut impl std::io::Write, bytes: usize) {
    let zeros = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        encoder.write_all(&zeros).unwrap();
    }
}

/// A frame of a few bytes that states `size`, and holds nothing of it.
fn claims(size: u64) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    frame.extend(size.to_le_bytes());
    frame.extend([1, 0, 0]);
    frame
}

fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let small = zstd::bulk::compress(b"small", 3).unwrap();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &small].concat();
    vec![
        ("a gibibyte", stated(HUGE)),
        ("a gibibyte without a size", open_ended(HUGE)),
        ("all that there is", claims(u64::MAX)),
        ("more than memory", claims(1 << 45)),
        ("as much as may be, and nothing in it", claims(32 << 20)),
        ("10,000 frames", small.repeat(10_000)),
        ("a frame that is skipped", skippable),
        ("noise", vec![0x5a; 10_000]),
        ("nothing", Vec::new()),
    ]
}

/// The body of the next message, signed as it is.
fn body(tip: &Tip, message_type: MessageType, bytes: &[u8]) -> Vec<u8> {
    let leader = tip.last_leader().unwrap();
    let header = MessageHeader {
        stream: tip.stream(),
        epoch: leader.epoch,
        sequence: tip.next().unwrap(),
        timestamp: tip.timestamp(),
        message_type,
    };
    let receipt = Receipt::sign(header, bytes, &key(1));
    let mut claim = tip.checkpoint(leader.epoch, 0).unwrap();
    claim.frontier.push(receipt.leaf());
    claim.size = Sequence::new(claim.frontier.size()).unwrap();
    let checkpoint = claim.sign(&key(1)).unwrap();
    pack(&[Message { receipt, body: bytes.to_vec() }], &checkpoint)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_opens_to_too_much_is_not_opened() {
    let stage = Stage::new().await;
    let before = peak_kib();
    for (name, frame) in bombs() {
        let told = stage.told(&stage.next(frame.clone())).await.what;
        assert!(told.starts_with("refused: Decode"), "a batch of {name}: {told}");
        println!("a batch of {name:<40} {told}");
        for message_type in [MessageType::Submission, MessageType::Snapshot, MessageType::Status] {
            let told = stage.told(&stage.next(body(stage.tip(), message_type, &frame))).await.what;
            assert!(told.starts_with("refused: "), "a body of {name}: {told}");
            println!("a body of {name:<41} {told}");
        }
    }
    // Other tests of this process take some of it.
    let grown = peak_kib() - before;
    println!("peak memory grew by {grown} KiB");
    assert!(grown < 700 << 10, "{grown} KiB");
}

/// The most memory that this process ever had, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
