//! An agent's side of one stream: a snapshot, and commits that follow each other, one in each submission.
//!
//! What must stay true: what it makes is what an agent would send, numbered, chained and packed the same way; a sequencer cannot tell. Only
//! a replica could: the rows are noise, and the snapshot's pages are no database.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use synddb_protocol::hash::{ChunkHash, CommitDigest, StateHash};
use synddb_protocol::id::{CommitNumber, Incarnation, IncarnationCounter, IncarnationNonce, StreamId};
use synddb_protocol::log::{Body, Entry};
use synddb_protocol::submission::{
    Changes, Chunk, Commit, CommitKind, Commits, Content, PageSize, Snapshot, SnapshotPlace, StateClaim,
    Submission, TextEncoding,
};

use super::wrong;
use crate::bench::BenchError;

/// The chunk of every snapshot: a zstd frame with one raw block (RFC 8878, section 3.1.1).
pub(super) const PAGES: &[u8] = b"\x28\xb5\x2f\xfd\x20\x0f\x79\x00\x00pages as stored";

/// Where rows begin in the noise moves by this from one commit to the next, so that no two are equal.
const STEP: usize = 61;
/// How many places there are to begin.
const PLACES: usize = 4096;

/// One stream, and where its client stands in it.
pub(super) struct Client {
    stream: StreamId,
    incarnation: Incarnation,
    /// The commit that is made next.
    next: u64,
    /// The digest of what was made last.
    last: CommitDigest,
    /// Rows that do not compress.
    noise: Arc<[u8]>,
    row_bytes: usize,
    /// Bodies that were made before they are sent.
    made: VecDeque<Vec<u8>>,
}

impl Client {
    /// The client of the stream with this number, whose bodies have about this many bytes. None has fewer than a commit without rows.
    pub(super) fn new(number: u8, body_bytes: usize, noise: &Arc<[u8]>) -> Result<Self, BenchError> {
        let mut stream = [0x5d; 32];
        stream[0] = number;
        let mut client = Self {
            stream: StreamId::from_bytes(stream),
            incarnation: Incarnation {
                counter: IncarnationCounter::new(1).map_err(unmade)?,
                nonce: IncarnationNonce::from_bytes([number; 16]),
            },
            next: 1,
            last: CommitDigest::from_bytes([0; 32]),
            noise: Arc::clone(noise),
            row_bytes: 1,
            made: VecDeque::new(),
        };
        client.last = client.beginning()?.digest();
        // Twice, because the length of rows has a length of its own.
        for _ in 0..2 {
            let (body, _) = client.body()?;
            client.row_bytes = (client.row_bytes + body_bytes).saturating_sub(body.as_stored().len()).max(1);
        }
        Ok(client)
    }

    /// Noise for bodies of up to this many bytes.
    pub(super) fn noise(body_bytes: usize) -> Arc<[u8]> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        words.flatten().take(body_bytes + STEP * PLACES).collect()
    }

    /// The stream.
    pub(super) const fn stream(&self) -> StreamId {
        self.stream
    }

    /// The body of the snapshot that begins the stream.
    pub(super) fn beginning_body(&self) -> Result<Body, BenchError> {
        Body::of(&Entry::Snapshot(self.beginning()?)).map_err(unmade)
    }

    /// Makes bodies of the next commits, for as long as there is time.
    pub(super) fn make(&mut self, bodies: usize, until: Instant) -> Result<(), BenchError> {
        for _ in 0..bodies {
            if Instant::now() >= until {
                break;
            }
            let body = self.next_body()?;
            self.made.push_back(body.into_stored());
        }
        Ok(())
    }

    /// The body of the next commit.
    pub(super) fn next(&mut self) -> Result<Vec<u8>, BenchError> {
        match self.made.pop_front() {
            Some(body) => Ok(body),
            None => self.next_body().map(Body::into_stored),
        }
    }

    /// The same, made now.
    pub(super) fn next_body(&mut self) -> Result<Body, BenchError> {
        let (body, digest) = self.body()?;
        self.next += 1;
        self.last = digest;
        Ok(body)
    }

    fn body(&self) -> Result<(Body, CommitDigest), BenchError> {
        let place = usize::try_from(self.next).unwrap_or_default() % PLACES * STEP;
        let mut state = [0; 32];
        state[..8].copy_from_slice(&self.next.to_be_bytes());
        let commit = Commit {
            number: CommitNumber::new(self.next).map_err(unmade)?,
            prev: self.last,
            kind: CommitKind::Transaction,
            changes: Changes {
                rows: self.noise[place..place + self.row_bytes].to_vec(),
                ..Changes::default()
            },
            state: Some(StateClaim { state: StateHash::from_bytes(state), scanned: None }),
        };
        let digest = commit.digest();
        let content = Content::Commits(Commits::new(vec![commit]).map_err(unmade)?);
        let submission = Submission { stream: self.stream, incarnation: self.incarnation, content };
        Ok((Body::carrying(submission).map_err(unmade)?, digest))
    }

    fn beginning(&self) -> Result<Snapshot, BenchError> {
        Ok(Snapshot {
            stream: self.stream,
            incarnation: self.incarnation,
            place: SnapshotPlace::Begins { predecessor: None },
            encoding: TextEncoding::Utf8,
            page_size: PageSize::new(4096).map_err(unmade)?,
            state: StateHash::from_bytes([0; 32]),
            chunks: vec![Chunk { hash: ChunkHash::of(PAGES), pages: 1, stored_bytes: PAGES.len() as u64 }],
        })
    }
}

/// Something that the protocol does not allow was to be made.
fn unmade(error: impl std::fmt::Display) -> BenchError {
    wrong(format!("what was to be sent: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use synddb_protocol::limits::BODY_BYTES_MAX;
    use synddb_protocol::log::MessageType;

    use super::*;

    #[test]
    fn bodies_have_their_size_and_follow_each_other() {
        for bytes in [200, 10_000, 1_000_000] {
            let mut client = Client::new(3, bytes, &Client::noise(bytes)).unwrap();
            client.make(1, Instant::now() + Duration::from_secs(60)).unwrap();
            assert_eq!(client.made.len(), 1);
            let mut last = client.beginning().unwrap().digest();
            for number in 1..=2 {
                let stored = client.next().unwrap();
                assert!(stored.len().abs_diff(bytes) <= bytes / 50, "{bytes}: {}", stored.len());
                let body = Body::read(MessageType::Submission, stored, BODY_BYTES_MAX).unwrap();
                let Entry::Submission(Submission { content: Content::Commits(commits), .. }) = body.entry()
                else {
                    panic!()
                };
                let commit = commits.first();
                assert_eq!((commit.number.get(), commit.prev), (number, last));
                last = commit.digest();
            }
        }
    }
}
