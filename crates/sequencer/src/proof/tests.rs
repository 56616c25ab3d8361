//! Proofs over logs that are made up: every one of a small log, and what those of a large one cost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use synddb_protocol::id::{Epoch, KeyId, Timestamp};
use synddb_protocol::log::{
    Batch, Leader, Message, MessageHeader, MessageType, Receipt, SignedCheckpoint, StatusLevel, Versions,
};
use synddb_protocol::signing::SigningKey;
use synddb_storage::{GetError, Key, ListError, Page, PageLimit, Put, PutError, Start};

use super::*;

const STREAM: StreamId = StreamId::from_bytes([0x5d; 32]);

/// A zstd frame with one raw block (RFC 8878, section 3.1.1), as every body of these logs.
const BODY: &[u8] = b"\x28\xb5\x2f\xfd\x20\x0f\x79\x00\x00pages as stored";

fn at(sequence: u64) -> Sequence {
    Sequence::new(sequence).unwrap()
}

fn key() -> SigningKey {
    SigningKey::from_bytes([7; 32]).unwrap()
}

/// Receipts whose signatures are those of others: a large log is made quickly, and nothing here looks at signatures.
#[derive(Default)]
struct Forger(BTreeMap<usize, Vec<u8>>);

impl Forger {
    fn receipt(&mut self, sequence: u64) -> Receipt {
        // As CBOR writes the number: the length tells which receipt it fits into.
        let number = number(sequence);
        let (width, model) = (number.len(), at([1, 24, 256, 65_536][number.len().min(4) - 1]));
        let bytes = self.0.entry(width).or_insert_with(|| {
            let header = MessageHeader {
                stream: STREAM,
                epoch: Epoch::FIRST,
                sequence: model,
                timestamp: Timestamp::ZERO,
                message_type: MessageType::Submission,
            };
            Receipt::sign(header, BODY, &key()).to_bytes()
        });
        // -65537, the label of the sequence, and the number behind it.
        const LABEL: [u8; 5] = [0x3a, 0, 1, 0, 0];
        let place = bytes.windows(5).position(|window| window == LABEL).unwrap() + LABEL.len();
        let mut bytes = bytes.clone();
        bytes[place..place + width].copy_from_slice(&number);
        Receipt::from_bytes(&bytes).unwrap()
    }
}

fn number(sequence: u64) -> Vec<u8> {
    let mut writer = synddb_protocol::encoding::cbor::Writer::default();
    writer.uint(sequence);
    writer.into_bytes()
}

/// A log in batches, and the requests that were made for it.
struct Log {
    leaves: Vec<TreeHash>,
    /// By first message: the batch's receipts and the frontier behind it.
    batches: BTreeMap<Sequence, (Vec<Receipt>, Frontier)>,
    requests: AtomicU64,
}

impl Log {
    fn new(lengths: impl IntoIterator<Item = u64>) -> Arc<Self> {
        let (mut forger, mut frontier) = (Forger::default(), Frontier::default());
        let (mut leaves, mut batches) = (Vec::new(), BTreeMap::new());
        for length in lengths {
            let first = frontier.size() + 1;
            let receipts: Vec<_> = (first..first + length).map(|sequence| forger.receipt(sequence)).collect();
            for receipt in &receipts {
                leaves.push(receipt.leaf());
                frontier.push(receipt.leaf());
            }
            batches.insert(at(first), (receipts, frontier.clone()));
        }
        Arc::new(Self { leaves, batches, requests: AtomicU64::new(0) })
    }

    fn checkpoint(frontier: &Frontier) -> SignedCheckpoint {
        let key = key();
        let leader = Leader { epoch: Epoch::FIRST, key: KeyId::from(key.id()) };
        let claim = Checkpoint {
            stream: STREAM,
            epoch: Epoch::FIRST,
            size: at(frontier.size()),
            timestamp: Timestamp::ZERO,
            last_leader: leader,
            client: None,
            inbound: None,
            inbox_consumed: 0,
            status: StatusLevel::Healthy,
            frontier: frontier.clone(),
            versions: Versions::SUPPORTED,
        };
        claim.sign(&key).unwrap()
    }

    fn newest(&self) -> Checkpoint {
        let (_, frontier) = self.batches.values().next_back().unwrap();
        Self::checkpoint(frontier).claim().clone()
    }

    fn roots(&self) -> Vec<TreeHash> {
        let mut frontier = Frontier::default();
        let grow = |leaf: &TreeHash| {
            frontier.push(*leaf);
            frontier.root()
        };
        self.leaves.iter().map(grow).collect()
    }

    fn take_requests(&self) -> u64 {
        self.requests.swap(0, Ordering::SeqCst)
    }
}

#[async_trait]
impl BatchStore for Log {
    async fn put(&self, _: &Key, _: Bytes) -> Result<Put, PutError> {
        unreachable!("nothing is written for a proof")
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let Key::Batch { first, .. } = key else { return Ok(None) };
        let Some((receipts, frontier)) = self.batches.get(first) else { return Ok(None) };
        let message = |receipt: &Receipt| Message { receipt: receipt.clone(), body: BODY.to_vec() };
        let batch = Batch::new(receipts.iter().map(message).collect(), Self::checkpoint(frontier)).unwrap();
        Ok(Some(Bytes::from(batch.to_stored().unwrap())))
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let Start::At(Key::Batch { first, .. }) = start else { unreachable!("listings begin at a batch") };
        let mut keys =
            self.batches.range(first..).map(|(first, _)| Key::Batch { stream: STREAM, first: *first });
        let page: Vec<Key> = keys.by_ref().take(limit.get()).collect();
        Ok(Page { keys: page, next: keys.next().map(Start::At) })
    }
}

#[tokio::test]
async fn every_proof_of_a_log_in_batches_holds_and_no_other() {
    // Batches of every small length, in no order.
    let log = Log::new((0..40).map(|turn| turn * 7 % 9 + 1));
    let (newest, roots) = (log.newest(), log.roots());
    let size_max = log.leaves.len();
    assert!(size_max > 150, "{size_max}");
    let prover = Prover::new(Arc::clone(&log) as Arc<dyn BatchStore>);
    for size in 1..=size_max {
        let root = roots[size - 1];
        for sequence in 1..=size {
            let proof = prover.inclusion(&newest, at(sequence as u64), at(size as u64)).await.unwrap();
            assert!(proof.verify(log.leaves[sequence - 1], root), "{sequence} of {size}");
            let wrong = log.leaves[sequence % size_max];
            assert!(!proof.verify(wrong, root), "{sequence} of {size} with another leaf");
            let proof = prover.consistency(&newest, at(sequence as u64), at(size as u64)).await.unwrap();
            assert!(proof.verify(roots[sequence - 1], root), "{sequence} to {size}");
            assert!(!proof.verify(wrong, root) || size == sequence && wrong == root);
        }
    }
    assert!(prover.inclusion(&newest, at(2), at(1)).await.is_err());
}

#[tokio::test]
async fn a_proof_of_a_large_log_costs_few_requests() {
    // As many batches as a log of a million messages has where batches are full, sixteen times over.
    let log = Log::new(std::iter::repeat_n(16, 4096).chain([11]));
    let (newest, roots) = (log.newest(), log.roots());
    let size = newest.size.get();
    let mut worst = (0, 0);
    for turn in 0..16u64 {
        let sequence = turn * 1_000_003 * 65_537 % size + 1;
        let prover = Prover::new(Arc::clone(&log) as Arc<dyn BatchStore>);
        let proof = prover.inclusion(&newest, at(sequence), newest.size).await.unwrap();
        let index = usize::try_from(sequence - 1).unwrap();
        assert!(proof.verify(log.leaves[index], newest.root()));
        worst.0 = worst.0.max(log.take_requests());
        prover.inclusion(&newest, at(sequence), newest.size).await.unwrap();
        assert_eq!(log.take_requests(), 0, "what never changes is kept");

        let prover = Prover::new(Arc::clone(&log) as Arc<dyn BatchStore>);
        let proof = prover.consistency(&newest, at(sequence), newest.size).await.unwrap();
        assert!(proof.verify(roots[index], newest.root()));
        worst.1 = worst.1.max(log.take_requests());
    }
    println!("requests for {size} messages in {} batches: {worst:?}", log.batches.len());
    // Two batches and a listing for each level above a batch, and some for the last levels.
    let levels = u64::from(log.batches.len().ilog2()) + 1;
    assert!(worst.0 <= 3 * levels + 6 && worst.1 <= 3 * levels + 6, "{worst:?}");
}

#[tokio::test]
async fn leaves_are_those_of_the_messages_and_end_at_a_bound() {
    let log = Log::new((0..100).map(|turn| turn % 3 + 1));
    let prover = Prover::new(Arc::clone(&log) as Arc<dyn BatchStore>);
    let (start, end) = (at(5), at(40));
    assert_eq!(prover.leaves(STREAM, start, end).await.unwrap(), log.leaves[4..40]);
    let all = prover.leaves(STREAM, at(1), at(log.leaves.len() as u64)).await.unwrap();
    assert!(all.len() < log.leaves.len() && all[..] == log.leaves[..all.len()], "{}", all.len());
}

#[tokio::test]
async fn what_does_not_add_up_is_no_proof_and_not_kept() {
    let log = Log::new([3, 4, 5]);
    let newest = log.newest();
    let prover = Prover::new(Arc::clone(&log) as Arc<dyn BatchStore>);
    prover.known().learn(STREAM, Node { level: 0, index: 1 }, log.leaves[7]);
    let refused = prover.inclusion(&newest, at(1), newest.size).await;
    assert!(matches!(refused, Err(ProofError::DoesNotAddUp)), "{refused:?}");
    let proof = prover.inclusion(&newest, at(1), newest.size).await.unwrap();
    assert!(proof.verify(log.leaves[0], newest.root()));
}
