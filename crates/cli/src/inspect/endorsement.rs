//! What a validator endorses, and what it refuses.

use std::fmt;

use serde::{Deserialize, Serialize};
use synddb_protocol::id::{
    Address, CommitNumber, Epoch, IncarnationCounter, KeyId, Sequence, StreamId, Timestamp,
};
use synddb_protocol::log::{RefusalWhy, Resolution, ResolvedBy, SignedEndorsement, SignedRefusal};
use synddb_protocol::signing::Domain;
use synddb_service::calendar::utc;

use super::shown::proof;
use super::{Screen, Shown, Signed};
use crate::exit::CommandError;
use crate::output::printable;

/// An endorsement; its checkpoint follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndorsementShown {
    /// The key that signed it. `None` when the signature is no key's.
    pub validator: Option<KeyId>,
    /// The chain that it is for; 0 is none.
    pub chain_id: u64,
    /// The contract there.
    pub contract: Address,
    /// The last message of the checkpoint.
    pub sequence: Sequence,
    /// What is signed.
    pub digest: String,
    /// The signature.
    pub signature: String,
    /// What proves the key.
    pub proof: String,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalShown {
    /// Who signed it.
    #[serde(flatten)]
    pub signed: Signed,
    /// The stream.
    pub stream: StreamId,
    /// The epoch of the message.
    pub epoch: Epoch,
    /// The message that violates the rule.
    pub sequence: Sequence,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// The incarnation that it is of.
    pub incarnation: IncarnationCounter,
    /// The commit; `None` for a snapshot.
    pub commit: Option<CommitNumber>,
    /// The name of the rule.
    pub rule: String,
    /// Why it does not hold.
    pub why: String,
    /// More of it in words.
    pub detail: String,
    /// The rows that show it, as JSON, of at most so many bytes as of a value.
    pub rows: String,
    /// How many later violations it stands for.
    pub further: u64,
    /// What resolved it.
    pub resolved: Option<String>,
}

impl Screen<'_> {
    /// An endorsement: who signed it, for whom, and its checkpoint.
    pub(super) fn endorsement(&self, signed: &SignedEndorsement) -> Result<(), CommandError> {
        let endorsement = signed.endorsement();
        self.show(Shown::Endorsement(Box::new(EndorsementShown {
            validator: signed.recover(),
            chain_id: endorsement.domain.chain_id,
            contract: endorsement.domain.contract,
            sequence: endorsement.sequence(),
            digest: signed.digest().to_string(),
            signature: signed.signature().to_string(),
            proof: proof(&endorsement.proof, self.value_bytes),
        })))?;
        self.checkpoint(&endorsement.checkpoint)
    }

    /// A refusal with the rows that it shows.
    pub(super) fn refusal(&self, signed: &SignedRefusal) -> Result<(), CommandError> {
        let refusal = signed.refusal();
        let why = match refusal.why {
            RefusalWhy::Rows => "rows violate it",
            RefusalWhy::Unevaluated => "it cannot be evaluated",
            RefusalWhy::TookTooLong => "it took too long",
            RefusalWhy::Messages => "the tables of messages changed as they may not",
            RefusalWhy::Incarnation => "an incarnation that nobody has admitted",
        };
        self.show(Shown::Refusal(Box::new(RefusalShown {
            signed: self.signed(signed.key(), signed.recover().ok()),
            stream: refusal.stream,
            epoch: refusal.epoch,
            sequence: refusal.sequence,
            timestamp: refusal.timestamp,
            incarnation: refusal.incarnation,
            commit: refusal.commit,
            rule: refusal.rule.clone(),
            why: why.to_owned(),
            detail: refusal.detail.clone(),
            rows: within(&refusal.rows, self.value_bytes),
            further: refusal.further,
            resolved: refusal.resolution.as_ref().map(resolved),
        })))
    }
}

fn resolved(Resolution { at, by, because }: &Resolution) -> String {
    let by = match by {
        ResolvedBy::Operator => "by an operator",
        ResolvedBy::RuleRemoved => "since the rule was removed",
        ResolvedBy::Admission => "since it was admitted",
    };
    format!("{} {by}: {because}", utc(*at))
}

/// A text of at most so many bytes.
fn within(text: &str, bytes_max: usize) -> String {
    let end = text.floor_char_boundary(bytes_max);
    let more = if end < text.len() { "..." } else { "" };
    format!("{}{more}", &text[..end])
}

impl fmt::Display for EndorsementShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "endorsement of the checkpoint of message {}", self.sequence)?;
        match self.validator {
            Some(key) => writeln!(f, "  signed    by key id {key}, if that is a validator's")?,
            None => writeln!(f, "  signed    by NOBODY: this is no signature")?,
        }
        if self.chain_id == Domain::NONE.chain_id {
            writeln!(f, "  for       no chain")?;
        } else {
            writeln!(f, "  for       the contract {} on chain {}", self.contract, self.chain_id)?;
        }
        writeln!(f, "  proof     {}", self.proof)?;
        writeln!(f, "  digest    {}", self.digest)?;
        write!(f, "  signature {}", self.signature)
    }
}

impl fmt::Display for RefusalShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signed, stream, epoch, sequence, incarnation, .. } = self;
        writeln!(f, "refusal of message {sequence} of epoch {epoch}, at {}", utc(self.timestamp))?;
        writeln!(f, "  signed    {signed}")?;
        writeln!(f, "  stream    {stream}")?;
        match self.commit {
            Some(commit) => writeln!(f, "  of        commit {commit} of incarnation {incarnation}")?,
            None => writeln!(f, "  of        a snapshot of incarnation {incarnation}")?,
        }
        writeln!(f, "  rule      {}: {}", printable(&self.rule), self.why)?;
        writeln!(f, "  detail    {}", printable(&self.detail))?;
        writeln!(f, "  rows      {}", printable(&self.rows))?;
        writeln!(f, "  further   {}", self.further)?;
        write!(f, "  resolved  {}", self.resolved.as_deref().map_or("no".to_owned(), printable))
    }
}
