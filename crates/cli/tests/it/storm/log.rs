//! What is stored, read by somebody who believes nothing but a key, against what was sent and promised.

use std::collections::BTreeMap;
use std::path::Path;

use synddb_protocol::id::{Epoch, StreamId};
use synddb_protocol::log::{Batch, Entry, Leaders, SignedEpochRecord, Tip, VerifiedMessage};
use synddb_protocol::signing::{TrustedKeys, VerifyingKey};
use synddb_protocol::submission::{Content, SnapshotPlace};
use synddb_storage::Key;

use super::client::Sent;

/// A log in a store of files, verified as far as it goes.
pub(super) struct Log {
    pub(super) messages: Vec<VerifiedMessage>,
    pub(super) batches: u64,
    pub(super) epochs: u64,
}

impl Log {
    pub(super) fn read(store: &Path, stream: StreamId, key: VerifyingKey) -> Self {
        let object = |key: Key| std::fs::read(store.join(key.to_string())).ok();
        let mut leaders = Leaders::new(stream, TrustedKeys::pinned([key]));
        let mut tip = Tip::start(stream);
        let mut log = Self { messages: Vec::new(), batches: 0, epochs: 0 };
        while let Ok(first) = tip.next()
            && let Some(bytes) = object(Key::Batch { stream, first })
        {
            let batch = Batch::from_stored(&bytes).unwrap();
            admit(&mut leaders, batch.checkpoint().claim().epoch, object);
            let verified = batch.verify(&leaders, &tip).unwrap();
            tip = verified.tip().clone();
            log.messages.extend_from_slice(verified.messages());
            log.batches += 1;
        }
        let is_epoch = |message: &&VerifiedMessage| matches!(message.entry(), Entry::Epoch(_));
        log.epochs = log.messages.iter().filter(is_epoch).count() as u64;
        log
    }

    /// Everything that was sent is stored once, nothing else is, and every receipt that was ever given is the stored one. Gives the number of
    /// commits.
    pub(super) fn assert_holds(&self, sent: &Sent) -> u64 {
        let stream = sent.stream;
        for (number, message) in (1..).zip(&self.messages) {
            assert_eq!(message.header().sequence.get(), number, "stream {stream}");
        }
        for (place, receipt) in &sent.promised {
            let stored = &self.messages[usize::try_from(place.get() - 1).unwrap()];
            assert_eq!(
                stored.receipt(),
                receipt,
                "stream {stream}: place {place} was promised to something else"
            );
        }
        let mut commits = Vec::new();
        let mut snapshots = BTreeMap::new();
        let mut begun = Vec::new();
        for message in &self.messages {
            match message.entry() {
                Entry::Epoch(_) => {}
                Entry::Snapshot(snapshot) => {
                    *snapshots.entry(snapshot.digest()).or_insert(0) += 1;
                    if matches!(snapshot.place, SnapshotPlace::Begins { .. }) {
                        begun.push(snapshot.digest());
                    }
                }
                Entry::Submission(submission) => {
                    let Content::Commits(held) = &submission.content else { panic!("nobody sent parts") };
                    let held = held.as_slice().iter();
                    commits
                        .extend(held.map(|commit| (submission.incarnation, commit.number, commit.digest())));
                }
                other => panic!("stream {stream}: nobody sent {other:?}"),
            }
        }
        let expected = sent.lives.iter().flat_map(|life| {
            life.commits.iter().map(|commit| (life.incarnation, commit.number, commit.digest()))
        });
        let expected: Vec<_> = expected.collect();
        assert_eq!(
            commits.len(),
            expected.len(),
            "stream {stream}: commits are stored that were sent and no others"
        );
        assert!(commits == expected, "stream {stream}: each is stored once, in order, as it was sent");
        assert_eq!(begun, sent.begun, "stream {stream}");
        let expected = sent.begun.iter().chain(&sent.shown).map(|digest| (*digest, 1)).collect();
        assert_eq!(snapshots, expected, "stream {stream}: each snapshot is stored once");
        commits.len() as u64
    }
}

fn admit(leaders: &mut Leaders, through: Epoch, object: impl Fn(Key) -> Option<Vec<u8>>) {
    let stream = leaders.stream();
    while let Some(epoch) = leaders.next()
        && epoch <= through
    {
        let record = object(Key::Epoch { stream, epoch }).expect("an epoch that was led was claimed");
        leaders.admit(&SignedEpochRecord::from_bytes(&record).unwrap()).unwrap();
    }
}
