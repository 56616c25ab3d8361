//! The tip: all that must be known of a log to add to it, or to check what was added.
//!
//! It is a pure fold over messages. A leader signs through it, a reader advances it
//! to check; both compare the outcome with the same signed [`Checkpoint`].

use crate::id::{Epoch, KeyId, Sequence, StreamId, Timestamp};
use crate::log::{
    Body, Checkpoint, ClientState, ContinuityError, Entry, EpochStart, Frontier, InboundError, InboundState,
    Leader, Message, MessageHeader, StatusLevel, TrustedCheckpoint, VerifiedMessage, Versions,
};
use crate::signing::SigningKey;

/// Why a message or checkpoint does not follow the log so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The message is not the next one.
    #[error("this is not the next message. expected=`{expected}` found=`{found}`")]
    Sequence {
        /// The place that is free.
        expected: Sequence,
        /// The place named.
        found: Sequence,
    },
    /// The log is full.
    #[error("the log has no sequence left")]
    Full,
    /// Log time went back.
    #[error("log time goes back. last_ms=`{}` found_ms=`{}`", last.as_ms(), found.as_ms())]
    Timestamp {
        /// The last message's.
        last: Timestamp,
        /// The one found.
        found: Timestamp,
    },
    /// An epoch began, ended or came back where it may not.
    #[error("the epoch changes only upwards and with an epoch message. last=`{last:?}` found=`{found}`")]
    Epoch {
        /// The epoch of the last message or checkpoint, if there is one.
        last: Option<Epoch>,
        /// The one found.
        found: Epoch,
    },
    /// Another key signed in an epoch than the one that began it.
    #[error("an epoch has one key. epoch=`{epoch}` expected=`{expected}` found=`{found}`")]
    Key {
        /// The epoch.
        epoch: Epoch,
        /// The key that began it.
        expected: KeyId,
        /// The key that signed.
        found: KeyId,
    },
    /// The leader follows newer rules.
    #[error(
        "upgrade required: the log is written by newer rules. protocol=`{}` apply=`{}` supported_protocol=`{}` supported_apply=`{}`",
        found.protocol, found.apply, supported.protocol, supported.apply
    )]
    UpgradeRequired {
        /// The leader's versions.
        found: Versions,
        /// The reader's.
        supported: Versions,
    },
    /// The message was verified for another stream.
    #[error("the message belongs to another stream. expected=`{expected}` found=`{found}`")]
    ForeignStream {
        /// The stream of this log.
        expected: StreamId,
        /// The stream named.
        found: StreamId,
    },
    /// What the client sent does not follow.
    #[error(transparent)]
    Continuity(#[from] ContinuityError),
    /// An inbound message does not follow.
    #[error(transparent)]
    Inbound(#[from] InboundError),
    /// A checkpoint claims something that the messages do not add up to.
    #[error("the checkpoint claims what the messages do not add up to. field=`{field}`")]
    Checkpoint {
        /// The first field that differs.
        field: &'static str,
    },
}

/// The end of a log: what its next message must follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    stream: StreamId,
    timestamp: Timestamp,
    /// Who signed the last message.
    last_leader: Option<Leader>,
    /// Who signed the last checkpoint. After a restart it is ahead of the last message's leader.
    last_signer: Option<Leader>,
    client: Option<ClientState>,
    inbound: Option<InboundState>,
    inbox_consumed: u64,
    status: StatusLevel,
    frontier: Frontier,
    /// `None` before the first epoch message.
    versions: Option<Versions>,
    /// The newest rules that whoever holds this tip knows.
    supported: Versions,
}

impl Tip {
    /// The tip of a log that has no message yet.
    pub fn start(stream: StreamId) -> Self {
        Self {
            stream,
            timestamp: Timestamp::ZERO,
            last_leader: None,
            last_signer: None,
            client: None,
            inbound: None,
            inbox_consumed: 0,
            status: StatusLevel::Healthy,
            frontier: Frontier::default(),
            versions: None,
            supported: Versions::SUPPORTED,
        }
    }

    /// The same tip for a reader that knows other rules than this build does: one of an older or of a later release.
    #[must_use]
    pub fn supporting(self, supported: Versions) -> Self {
        Self { supported, ..self }
    }

    /// The tip at a checkpoint whose signer is believed, without the messages before it.
    ///
    /// Nothing shows that messages add up to it. Whoever joins a log here first compares what it claims
    /// with something else it trusts: a quorum of endorsements, and the recomputed hash of a snapshot.
    /// Inside an open group the parts so far are missing, so a replica joins at an earlier checkpoint.
    ///
    /// # Errors
    /// [`LogError::UpgradeRequired`] when the log is written by newer rules.
    pub fn trusting(checkpoint: &TrustedCheckpoint) -> Result<Self, LogError> {
        Self::trusting_as(checkpoint, Versions::SUPPORTED)
    }

    /// The same for a reader that knows these rules.
    ///
    /// # Errors
    /// [`LogError::UpgradeRequired`] when the log is written by newer rules.
    pub fn trusting_as(checkpoint: &TrustedCheckpoint, supported: Versions) -> Result<Self, LogError> {
        let claim = checkpoint.claim();
        check_versions(claim.versions, supported)?;
        Ok(Self {
            stream: claim.stream,
            timestamp: claim.timestamp,
            last_leader: Some(claim.last_leader),
            last_signer: Some(Leader { epoch: claim.epoch, key: checkpoint.key() }),
            client: claim.client.clone(),
            inbound: claim.inbound,
            inbox_consumed: claim.inbox_consumed,
            status: claim.status,
            frontier: claim.frontier.clone(),
            versions: Some(claim.versions),
            supported,
        })
    }

    /// The stream.
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// The sequence of the last message.
    pub fn last(&self) -> Option<Sequence> {
        Sequence::new(self.frontier.size()).ok()
    }

    /// The sequence of the next message.
    ///
    /// # Errors
    /// [`LogError::Full`] when there is none left.
    pub fn next(&self) -> Result<Sequence, LogError> {
        Sequence::new(self.frontier.size() + 1).map_err(|_| LogError::Full)
    }

    /// Log time: the timestamp of the last message.
    pub const fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Who signed the last message.
    pub const fn last_leader(&self) -> Option<Leader> {
        self.last_leader
    }

    /// What the log has of its client.
    pub const fn client(&self) -> Option<&ClientState> {
        self.client.as_ref()
    }

    /// What the log has of its bridge.
    pub const fn inbound(&self) -> Option<&InboundState> {
        self.inbound.as_ref()
    }

    /// The system's status, by the last message that said one.
    pub const fn status(&self) -> StatusLevel {
        self.status
    }

    /// Signs `body` into the next place, if it may stand there, and gives the tip after it.
    ///
    /// This is how a leader signs: what a reader would refuse is refused before it is signed, so that no
    /// place is ever signed twice.
    ///
    /// # Errors
    /// [`LogError`] when it does not follow. Nothing is signed then, and this tip stays as it is.
    pub fn sign(
        &self,
        epoch: Epoch,
        timestamp: Timestamp,
        body: Body,
        key: &SigningKey,
    ) -> Result<(Message, Self), LogError> {
        let message_type = body.entry().message_type();
        let header =
            MessageHeader { stream: self.stream, epoch, sequence: self.next()?, timestamp, message_type };
        let mut after = self.following(&header, key.id(), body.entry(), body.content_bytes())?;
        let message = Message::sign(header, body, key);
        after.frontier.push(message.receipt.leaf());
        Ok((message, after))
    }

    /// The tip after `message`.
    ///
    /// # Errors
    /// [`LogError`] when it does not follow; this tip stays as it is.
    pub fn after(&self, message: &VerifiedMessage) -> Result<Self, LogError> {
        let receipt = message.receipt();
        let mut after =
            self.following(message.header(), receipt.key(), message.entry(), message.body_bytes())?;
        after.frontier.push(receipt.leaf());
        Ok(after)
    }

    /// The tip after an entry in this place by this key, but for the leaf.
    fn following(
        &self,
        header: &MessageHeader,
        key: KeyId,
        entry: &Entry,
        body_bytes: usize,
    ) -> Result<Self, LogError> {
        let named = entry.stream().unwrap_or(header.stream);
        if let Some(found) = [header.stream, named].into_iter().find(|stream| *stream != self.stream) {
            return Err(LogError::ForeignStream { expected: self.stream, found });
        }
        let expected = self.next()?;
        if header.sequence != expected {
            return Err(LogError::Sequence { expected, found: header.sequence });
        }
        if header.timestamp < self.timestamp {
            return Err(LogError::Timestamp { last: self.timestamp, found: header.timestamp });
        }
        let leader = Leader { epoch: header.epoch, key };
        match entry {
            Entry::Epoch(start) => self.check_new_leader(leader, start)?,
            Entry::Submission(_) | Entry::Snapshot(_) | Entry::Inbound(_) | Entry::Status(_) => {
                self.check_same_leader(leader)?;
            }
        }
        let mut after = self.clone();
        after.apply(entry, body_bytes)?;
        after.timestamp = header.timestamp;
        after.last_leader = Some(leader);
        Ok(after)
    }

    fn apply(&mut self, entry: &Entry, body_bytes: usize) -> Result<(), LogError> {
        match entry {
            Entry::Submission(submission) => {
                let client = self.client.as_ref().ok_or(ContinuityError::NotBegun)?;
                self.client = Some(client.after_submission(submission, body_bytes as u64)?);
            }
            Entry::Snapshot(snapshot) => {
                self.client = Some(ClientState::after_snapshot(self.client.as_ref(), snapshot)?);
            }
            Entry::Inbound(inbound) => {
                self.inbound = Some(InboundState::after(self.inbound.as_ref(), inbound)?);
            }
            Entry::Status(status) => self.status = status.level,
            Entry::Epoch(start) => self.versions = Some(start.versions),
        }
        Ok(())
    }

    fn check_new_leader(&self, leader: Leader, start: &EpochStart) -> Result<(), LogError> {
        check_versions(start.versions, self.supported)?;
        let last = self.last_leader.map(|leader| leader.epoch);
        if last.is_some_and(|last| leader.epoch <= last) {
            return Err(LogError::Epoch { last, found: leader.epoch });
        }
        // It may lie below the last checkpoint's: a leader that restarts twice publishes journals of more
        // than one epoch under its own checkpoints.
        match self.last_signer {
            Some(signer) if signer.epoch == leader.epoch => check_key(signer, leader),
            Some(_) | None => Ok(()),
        }
    }

    fn check_same_leader(&self, leader: Leader) -> Result<(), LogError> {
        match self.last_leader {
            Some(last) if last.epoch == leader.epoch => check_key(last, leader),
            last => Err(LogError::Epoch { last: last.map(|leader| leader.epoch), found: leader.epoch }),
        }
    }

    /// The signer of a checkpoint is at or past every signer before.
    fn check_signer(&self, leader: Leader) -> Result<(), LogError> {
        for last in [self.last_leader, self.last_signer].into_iter().flatten() {
            if leader.epoch < last.epoch {
                return Err(LogError::Epoch { last: Some(last.epoch), found: leader.epoch });
            }
            if leader.epoch == last.epoch {
                check_key(last, leader)?;
            }
        }
        Ok(())
    }

    /// What a checkpoint at this tip claims when the leader of `epoch` signs it.
    ///
    /// `inbox_consumed` is counted by whoever reads the rows; the log itself does not.
    ///
    /// Gives `None` for a log without a message.
    pub fn checkpoint(&self, epoch: Epoch, inbox_consumed: u64) -> Option<Checkpoint> {
        Some(Checkpoint {
            stream: self.stream,
            epoch,
            size: self.last()?,
            timestamp: self.timestamp,
            last_leader: self.last_leader?,
            client: self.client.clone(),
            inbound: self.inbound,
            inbox_consumed,
            status: self.status,
            frontier: self.frontier.clone(),
            versions: self.versions?,
        })
    }

    /// The tip after a checkpoint that claims what this tip adds up to.
    ///
    /// # Errors
    /// [`LogError`] naming the first field that differs; this tip stays as it is.
    pub fn after_checkpoint(&self, checkpoint: &TrustedCheckpoint) -> Result<Self, LogError> {
        let claim = checkpoint.claim();
        let differs = |field| Err(LogError::Checkpoint { field });
        let signer = Leader { epoch: claim.epoch, key: checkpoint.key() };
        self.check_signer(signer)?;
        if claim.inbox_consumed < self.inbox_consumed {
            return differs("inbox consumed");
        }
        let Some(expected) = self.checkpoint(claim.epoch, claim.inbox_consumed) else {
            return differs("size");
        };
        let fields: [(&'static str, bool); 9] = [
            ("stream", expected.stream == claim.stream),
            ("size", expected.size == claim.size),
            ("root", expected.frontier == claim.frontier),
            ("timestamp", expected.timestamp == claim.timestamp),
            ("last leader", expected.last_leader == claim.last_leader),
            ("client", expected.client == claim.client),
            ("inbound", expected.inbound == claim.inbound),
            ("versions", expected.versions == claim.versions),
            ("status", expected.status == claim.status),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, equal)| !equal) {
            return differs(field);
        }
        // The list above names the field; this line cannot miss one that is added later.
        if expected != *claim {
            return differs("another field");
        }
        let mut after = self.clone();
        after.last_signer = Some(signer);
        after.inbox_consumed = claim.inbox_consumed;
        Ok(after)
    }
}

fn check_versions(found: Versions, supported: Versions) -> Result<(), LogError> {
    if found.are_known_to(supported) { Ok(()) } else { Err(LogError::UpgradeRequired { found, supported }) }
}

fn check_key(expected: Leader, found: Leader) -> Result<(), LogError> {
    if expected.key != found.key {
        let (epoch, expected, found) = (found.epoch, expected.key, found.key);
        return Err(LogError::Key { epoch, expected, found });
    }
    Ok(())
}
