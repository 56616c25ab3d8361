//! What must stay true, held against everything that was ever said: every answer, every put, every object.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use synddb_protocol::hash::CommitDigest;
use synddb_protocol::http::Reason;
use synddb_protocol::id::{Epoch, KeyId, Sequence};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{
    Batch, Body, Entry, Leaders, MessageType, Receipt, SignedCheckpoint, SignedEpochRecord, Tip,
};
use synddb_protocol::signing::{SigningKey, TrustedKeys};
use synddb_protocol::submission::Content;
use synddb_storage::Key;

use super::STREAM;
use super::client::Client;
use super::sea::Sea;
use crate::error::LeadError;
use crate::journal::{Journal, JournalError};
use crate::stream::{Answer, Phase};

/// What does not hold.
#[derive(Debug, thiserror::Error)]
pub(super) enum Violation {
    /// I3: what the client forgot is not stored, or not once.
    #[error("I3: {0}")]
    Forgotten(String),
    /// I4: one key signed two things for one place, or the log cannot be read.
    #[error("I4: {0}")]
    Order(String),
    /// I5: what was acknowledged is not durable.
    #[error("I5: {0}")]
    Durable(String),
    /// I6: an object was overwritten, or something was promised before the fence.
    #[error("I6: {0}")]
    Fence(String),
    /// What has its place was refused.
    #[error("refused what has its place: {0}")]
    Refused(String),
    /// Nothing goes on any more.
    #[error("nothing goes on any more: {0}")]
    Halted(String),
    /// A leader ended in trouble that it made itself.
    #[error("a leader ended: {0}")]
    Ended(String),
}

/// A promise that a process gave.
struct Promise {
    by: usize,
    receipt: Receipt,
}

pub(super) struct Oracle {
    keys: [Arc<SigningKey>; 2],
    /// What was signed for a place.
    signed: BTreeMap<(KeyId, Epoch, Sequence), Receipt>,
    /// What was claimed of a size.
    claimed: BTreeMap<(KeyId, Epoch, Sequence), Vec<u8>>,
    promises: Vec<Promise>,
    /// Which promises a crash of their process must leave in its journal: those given since it last began anew.
    owed: [Vec<Receipt>; 2],
    /// Who set out to claim which epoch.
    claims: Vec<(usize, Epoch)>,
    begun_anew: [u32; 2],
    /// Epochs whose message is stored.
    fenced: Vec<Epoch>,
    /// Through which message the log is stored.
    stored_through: u64,
    seen: usize,
    counts: Counts,
}

/// What a schedule came to, so that one sees that it did something.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    /// Receipts of something new.
    pub(super) promised: u64,
    /// Provisional receipts that never came true.
    pub(super) taken_back: u64,
    /// Epochs that were claimed.
    pub(super) epochs: u64,
    /// Leaders that met another one's batch.
    pub(super) deposed: u64,
    /// Journals that began anew, since their tail must never be stored.
    pub(super) begun_anew: u64,
    /// Answers of a full disk.
    pub(super) full: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.promised += other.promised;
        self.taken_back += other.taken_back;
        self.epochs += other.epochs;
        self.deposed += other.deposed;
        self.begun_anew += other.begun_anew;
        self.full += other.full;
    }
}

impl Oracle {
    pub(super) fn new(keys: [Arc<SigningKey>; 2]) -> Self {
        Self {
            keys,
            signed: BTreeMap::new(),
            claimed: BTreeMap::new(),
            promises: Vec::new(),
            owed: [Vec::new(), Vec::new()],
            claims: Vec::new(),
            begun_anew: [0; 2],
            fenced: Vec::new(),
            stored_through: 0,
            seen: 0,
            counts: Counts::default(),
        }
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn take_shown(&mut self, phase: Phase) {
        self.counts.deposed += u64::from(phase == Phase::Deposed);
    }

    pub(super) fn take_answer(&mut self, by: usize, answer: &Answer) -> Result<(), Violation> {
        match answer {
            Answer::Taken(receipt) => {
                let epoch = receipt.header().epoch;
                if !self.fenced.contains(&epoch) {
                    let place = receipt.header().sequence;
                    return Err(Violation::Fence(format!("{place} promised in {epoch} before its fence")));
                }
                self.take_receipt(receipt)?;
                self.owed[by].push(receipt.clone());
                self.promises.push(Promise { by, receipt: receipt.clone() });
                self.counts.promised += 1;
                Ok(())
            }
            Answer::Known(receipts) => receipts.iter().try_for_each(|receipt| self.take_receipt(receipt)),
            Answer::Refused(Reason::DiskFull, _) => {
                self.counts.full += 1;
                Ok(())
            }
            Answer::LookUp(..) | Answer::Refused(..) => Ok(()),
        }
    }

    fn take_receipt(&mut self, receipt: &Receipt) -> Result<(), Violation> {
        let header = receipt.header();
        let place = (receipt.key(), header.epoch, header.sequence);
        match self.signed.get(&place) {
            Some(before) if before != receipt => Err(Violation::Order(format!("two messages for {place:?}"))),
            Some(_) => Ok(()),
            None => {
                self.signed.insert(place, receipt.clone());
                Ok(())
            }
        }
    }

    pub(super) fn take_checkpoint(&mut self, checkpoint: &SignedCheckpoint) -> Result<(), Violation> {
        let claim = checkpoint.claim();
        let place = (checkpoint.key(), claim.epoch, claim.size);
        let bytes = checkpoint.to_bytes();
        let before = self.claimed.entry(place).or_insert_with(|| bytes.clone());
        if *before == bytes { Ok(()) } else { Err(Violation::Order(format!("two checkpoints of {place:?}"))) }
    }

    pub(super) fn take_claim(&mut self, by: usize, epoch: Epoch) {
        self.claims.push((by, epoch));
    }

    /// A batch is put, and this is in the journal. Whoever can read the store on its way has what is in it.
    pub(super) fn take_put(&mut self, object: &Bytes, cut: Option<&[u8]>) -> Result<(), Violation> {
        if cut != Some(object) {
            return Err(Violation::Durable("what is put is not what the journal has".to_owned()));
        }
        let batch = Batch::from_stored(object).map_err(|error| unreadable(&error))?;
        self.take_checkpoint(batch.checkpoint())?;
        batch.messages().iter().try_for_each(|message| self.take_receipt(&message.receipt))
    }

    /// What was acknowledged is in the journal, or stored, unless the journal began anew since.
    pub(super) fn take_crash(&mut self, by: usize, journal: &Journal) -> Result<(), Violation> {
        let stored_through = self.stored_through;
        self.owed[by].retain(|receipt| receipt.header().sequence.get() > stored_through);
        for receipt in &self.owed[by] {
            let sequence = receipt.header().sequence;
            if journal.receipt(sequence).expect("it is read").as_ref() != Some(receipt) {
                return Err(Violation::Durable(format!("{sequence} was promised, and is gone")));
            }
        }
        Ok(())
    }

    /// A journal may begin anew, and give up what is not stored, only where somebody else set out to lead since.
    pub(super) fn note_begun_anew(&mut self, by: usize, journal: &Journal) -> Result<(), Violation> {
        let begun_anew = journal.begun_anew();
        if begun_anew != self.begun_anew[by] {
            let stored_through = self.stored_through;
            let is_waiting = |receipt: &&Receipt| receipt.header().sequence.get() > stored_through;
            for receipt in self.owed[by].iter().filter(is_waiting) {
                let epoch = receipt.header().epoch;
                if !self.claims.iter().any(|(other, claimed)| *other != by && *claimed > epoch) {
                    let sequence = receipt.header().sequence;
                    return Err(Violation::Durable(format!("{sequence} of {epoch} was given up for nobody")));
                }
            }
            self.counts.begun_anew += u64::from(begun_anew - self.begun_anew[by]);
            self.begun_anew[by] = begun_anew;
            self.owed[by].clear();
        }
        Ok(())
    }

    pub(super) fn take_end(&self, how: Result<(), LeadError>) -> Result<(), Violation> {
        match how {
            // Its stream rests, and is opened again.
            Ok(()) | Err(LeadError::Journal(JournalError::Full)) => Ok(()),
            Err(error) => Err(Violation::Ended(synddb_protocol::chain(&error))),
        }
    }

    /// Looks at what has come into the store.
    pub(super) fn look_at(&mut self, sea: &Sea) -> Result<(), Violation> {
        for (key, object) in sea.firsts_after(self.seen) {
            self.seen += 1;
            self.counts.epochs += u64::from(matches!(key, Key::Epoch { .. }));
            if !matches!(key, Key::Batch { .. }) {
                continue;
            }
            let batch = Batch::from_stored(&object).map_err(|error| unreadable(&error))?;
            if batch.first().get() != self.stored_through + 1 {
                return Err(Violation::Order(format!("{} does not follow", batch.first())));
            }
            self.stored_through = batch.last().get();
            let epochs = batch.messages().iter().map(|message| message.receipt.header());
            let fences = epochs.filter(|header| header.message_type == MessageType::Epoch);
            self.fenced.extend(fences.map(|header| header.epoch));
        }
        Ok(())
    }

    /// Judges the log as it is at the end.
    pub(super) fn judge(
        &mut self,
        sea: &Sea,
        client: &Client,
        left: usize,
        verifies: bool,
    ) -> Result<(), Violation> {
        for (key, first) in sea.firsts_after(0) {
            if sea.object(&key) != Some(first) {
                return Err(Violation::Fence(format!("{key} was overwritten")));
            }
        }
        if verifies {
            self.verify(sea)?;
        }
        let (log, commits) = read(sea)?;
        for number in 1..client.kept_from() {
            let places: Vec<&CommitDigest> =
                commits.iter().filter(|(held, _)| *held == number).map(|(_, digest)| digest).collect();
            if places.len() != 1 || places[0] != &client.digests()[&number] {
                let detail = format!("commit {number} is forgotten, and stored {} times", places.len());
                return Err(Violation::Forgotten(detail));
            }
        }
        self.check_promises(&log, left)
    }

    /// A promise is kept, or another leader's later epoch took its place.
    fn check_promises(&mut self, log: &BTreeMap<Sequence, Receipt>, left: usize) -> Result<(), Violation> {
        for Promise { by, receipt } in &self.promises {
            let (sequence, epoch) = (receipt.header().sequence, receipt.header().epoch);
            match log.get(&sequence) {
                Some(stored) if stored == receipt => continue,
                Some(stored) if stored.header().epoch > epoch => {}
                Some(_) => return Err(Violation::Order(format!("{sequence} of {epoch} was taken back"))),
                None if *by == left && self.owed[left].contains(receipt) => {
                    return Err(Violation::Durable(format!("{sequence} of {epoch} is not stored")));
                }
                // The log ends before it: its process is down with it in its journal, or gave it up.
                None => {}
            }
            if log.contains_key(&sequence) && self.owed[*by].contains(receipt) {
                // Its process is down, and still believes in it: it will see at its next start that it is not so.
                let others = log.values().any(|stored| stored.header().epoch > epoch);
                if !others {
                    return Err(Violation::Durable(format!("{sequence} of {epoch} is lost")));
                }
            }
            self.counts.taken_back += 1;
        }
        Ok(())
    }

    /// Reads the whole log as any reader would, and verifies every byte of it.
    fn verify(&self, sea: &Sea) -> Result<(), Violation> {
        let keys = self.keys.iter().map(|key| *key.verifying_key());
        let mut leaders = Leaders::new(STREAM, TrustedKeys::pinned(keys));
        let mut tip = Tip::start(STREAM);
        while let Ok(first) = tip.next()
            && let Some(object) = sea.batch(first)
        {
            let batch = Batch::from_stored(&object).map_err(|error| unreadable(&error))?;
            let through = batch.checkpoint().claim().epoch;
            while let Some(epoch) = leaders.next().filter(|epoch| *epoch <= through) {
                let record = sea.epoch(epoch).expect("whoever signs has claimed");
                let record = SignedEpochRecord::from_bytes(&record).expect("it is one");
                leaders.admit(&record).map_err(|error| unreadable(&error))?;
            }
            tip = batch.verify(&leaders, &tip).map_err(|error| unreadable(&error))?.tip().clone();
        }
        Ok(())
    }
}

/// What stands in a log: the receipt of each message, and each commit with its digest.
type Log = (BTreeMap<Sequence, Receipt>, Vec<(u64, CommitDigest)>);

/// The receipts and the commits in the log, whose epochs only grow.
fn read(sea: &Sea) -> Result<Log, Violation> {
    let (mut log, mut commits) = (BTreeMap::new(), Vec::new());
    let (mut next, mut epoch) = (Some(Sequence::FIRST), None);
    while let Some(first) = next
        && let Some(object) = sea.batch(first)
    {
        let batch = Batch::from_stored(&object).map_err(|error| unreadable(&error))?;
        next = batch.last().next();
        for message in batch.messages() {
            let header = message.receipt.header();
            let begins = header.message_type == MessageType::Epoch && Some(header.epoch) > epoch;
            if !begins && Some(header.epoch) != epoch {
                let detail = format!("{} of {} stands behind {epoch:?}", header.sequence, header.epoch);
                return Err(Violation::Order(detail));
            }
            epoch = Some(header.epoch);
            log.insert(header.sequence, message.receipt.clone());
            if header.message_type == MessageType::Submission {
                let body = Body::read(MessageType::Submission, message.body.clone(), BODY_BYTES_MAX);
                commits.extend(held(body.expect("it is one").entry()));
            }
        }
    }
    Ok((log, commits))
}

fn unreadable(error: &(dyn std::error::Error + 'static)) -> Violation {
    Violation::Order(synddb_protocol::chain(error))
}

fn held(entry: &Entry) -> Vec<(u64, CommitDigest)> {
    let Entry::Submission(submission) = entry else { return Vec::new() };
    let Content::Commits(commits) = &submission.content else { return Vec::new() };
    commits.as_slice().iter().map(|commit| (commit.number.get(), commit.digest())).collect()
}
