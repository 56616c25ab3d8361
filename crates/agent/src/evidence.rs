//! Evidence against a sequencer: two signed objects that contradict one another, kept in the agent's folder for people and for whoever judges.
//!
//! ```text
//! <folder>/evidence/
//!   3-17.json                  one key signed two messages for epoch 3, sequence 17
//!   3-17-checkpoints.json      one key signed two checkpoints of epoch 3, size 17
//!   3-17-inconsistent.json     the log of epoch 3, size 17 does not go on from the one before
//! ```
//!
//! What must stay true: a file is whole and durable under its name, and none is ever overwritten. A file of the first two kinds proves itself: it is
//! checked again whenever it is read, and its key is believed by no agent of the folder as long as it lies there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use synddb_protocol::DecodeError;
use synddb_protocol::id::{Epoch, KeyId, Sequence, StreamId};
use synddb_protocol::log::{Equivocation, NotEquivocation, Receipt, SignedCheckpoint};

use crate::error::AgentError;
use crate::home::{failed, make_folder, write_once};

/// Most files of evidence that one agent keeps. What is found beyond them is told and not kept.
pub const EVIDENCE_FILES_MAX: usize = 64;

/// Most of them when one is kept that proves nothing. Anybody between agent and sequencer can bring those about, by showing old checkpoints again: they must not take
/// the room of a proof.
const INCONSISTENT_FILES_MAX: usize = EVIDENCE_FILES_MAX / 2;

/// Largest file of evidence, in bytes: two checkpoints in hex, and the words around them.
const FILE_BYTES_MAX: u64 = 32 << 10;

/// The folder in the agent's.
const FOLDER: &str = "evidence";

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// One key signed two messages for one place: two receipts.
    Receipts,
    /// One key signed two checkpoints of one size in one epoch.
    Checkpoints,
    /// The log does not go on from the one before. Two checkpoints say so to whoever has the log; they prove nothing by themselves.
    Inconsistent,
}

/// Two signed objects that contradict one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The version of this form: 1.
    pub version: u64,
    /// What was found.
    pub finding: Finding,
    /// The same in words.
    pub detail: String,
    /// The stream.
    pub stream: StreamId,
    /// The name of the key that signed the second object.
    pub key: KeyId,
    /// The epoch of the second object.
    pub epoch: Epoch,
    /// The place: the sequence of two messages, the size of two checkpoints.
    pub sequence: Sequence,
    /// The COSE_Sign1 that was seen first, in hex; nothing where there was none before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// The COSE_Sign1 that contradicts it, in hex.
    pub second: String,
}

/// Why a file is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// It cannot be read.
    #[error("cannot read the evidence")]
    Io(#[from] io::Error),
    /// It is longer than evidence can be.
    #[error("the file is longer than evidence can be. max=`{FILE_BYTES_MAX}`")]
    TooLarge,
    /// It is not evidence.
    #[error("the file is no evidence")]
    Form(#[from] serde_json::Error),
    /// What it quotes is no hex.
    #[error("what the evidence quotes is no hex")]
    Hex(#[from] hex::FromHexError),
    /// What it quotes is not what it says.
    #[error("what the evidence quotes cannot be read")]
    Decode(#[from] DecodeError),
    /// It proves nothing.
    #[error("the evidence proves no equivocation")]
    Nothing(#[from] NotEquivocation),
    /// It says of itself that it proves nothing.
    #[error("two objects that are inconsistent prove nothing without the log")]
    Unproven,
    /// It names another place or key than what it quotes.
    #[error("the evidence names another place or key than it quotes")]
    Mislabelled,
}

impl Evidence {
    /// Two messages that one key signed for one place.
    pub(crate) fn of_receipts(proof: &Equivocation, first: &Receipt, second: &Receipt) -> Self {
        let detail = format!("key {} signed two messages for one place", proof.key);
        Self::of(Finding::Receipts, detail, proof, &first.to_bytes(), &second.to_bytes())
    }

    /// Two checkpoints that one key signed for one size.
    pub(crate) fn of_checkpoints(
        proof: &Equivocation,
        first: &SignedCheckpoint,
        second: &SignedCheckpoint,
    ) -> Self {
        let detail = format!("key {} signed two checkpoints of one size", proof.key);
        Self::of(Finding::Checkpoints, detail, proof, &first.to_bytes(), &second.to_bytes())
    }

    fn of(finding: Finding, detail: String, proof: &Equivocation, first: &[u8], second: &[u8]) -> Self {
        Self {
            version: 1,
            finding,
            detail,
            stream: proof.stream,
            key: proof.key,
            epoch: proof.epoch,
            sequence: proof.sequence,
            first: Some(hex::encode(first)),
            second: hex::encode(second),
        }
    }

    /// A log that does not go on from the one before.
    pub(crate) fn of_logs(
        detail: String,
        first: Option<&SignedCheckpoint>,
        second: &SignedCheckpoint,
    ) -> Self {
        let claim = second.claim();
        Self {
            version: 1,
            finding: Finding::Inconsistent,
            detail,
            stream: claim.stream,
            key: second.key(),
            epoch: claim.epoch,
            sequence: claim.size,
            first: first.map(|first| hex::encode(first.to_bytes())),
            second: hex::encode(second.to_bytes()),
        }
    }

    /// A message that stands where another one was promised, and no proof is in that.
    pub(crate) fn of_place(detail: String, first: &Receipt, second: &Receipt) -> Self {
        let header = second.header();
        Self {
            version: 1,
            finding: Finding::Inconsistent,
            detail,
            stream: header.stream,
            key: second.key(),
            epoch: header.epoch,
            sequence: header.sequence,
            first: Some(hex::encode(first.to_bytes())),
            second: hex::encode(second.to_bytes()),
        }
    }

    /// Reads a file of evidence. Nothing is proven by that.
    ///
    /// # Errors
    /// [`EvidenceError`] when it is none.
    pub fn read(file: &Path) -> Result<Self, EvidenceError> {
        if fs::metadata(file)?.len() > FILE_BYTES_MAX {
            return Err(EvidenceError::TooLarge);
        }
        Self::from_bytes(&fs::read(file)?)
    }

    /// The same from the bytes of a file.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(EvidenceError::TooLarge);
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The objects that it quotes, in the order in which they were seen.
    ///
    /// # Errors
    /// [`EvidenceError::Hex`] when they cannot be read.
    pub fn quoted(&self) -> Result<Vec<Vec<u8>>, EvidenceError> {
        let quoted = self.first.iter().chain([&self.second]).map(hex::decode);
        Ok(quoted.collect::<Result<_, _>>()?)
    }

    /// Checks the proof: both signatures, and that one key signed both for one place.
    ///
    /// # Errors
    /// [`EvidenceError`] with the reason why nothing is proven.
    pub fn prove(&self) -> Result<Equivocation, EvidenceError> {
        let first = hex::decode(self.first.as_deref().unwrap_or_default())?;
        let second = hex::decode(&self.second)?;
        let proof = match self.finding {
            Finding::Receipts => {
                Equivocation::of_receipts(&Receipt::from_bytes(&first)?, &Receipt::from_bytes(&second)?)?
            }
            Finding::Checkpoints => Equivocation::of_checkpoints(
                &SignedCheckpoint::from_bytes(&first)?,
                &SignedCheckpoint::from_bytes(&second)?,
            )?,
            Finding::Inconsistent => return Err(EvidenceError::Unproven),
        };
        let named = (self.key, self.stream, self.epoch, self.sequence);
        if named != (proof.key, proof.stream, proof.epoch, proof.sequence) {
            return Err(EvidenceError::Mislabelled);
        }
        Ok(proof)
    }

    fn name(&self) -> String {
        let kind = match self.finding {
            Finding::Receipts => "",
            Finding::Checkpoints => "-checkpoints",
            Finding::Inconsistent => "-inconsistent",
        };
        format!("{}-{}{kind}.json", self.epoch, self.sequence)
    }

    /// Keeps it in the agent's folder, durably. Says where, and whether it was not there before; nothing when there is no more room.
    pub(crate) fn keep(&self, folder: &Path) -> Result<Option<(PathBuf, bool)>, AgentError> {
        let folder = folder.join(FOLDER);
        make_folder(&folder)?;
        let file = folder.join(self.name());
        if file.exists() {
            return Ok(Some((file, false)));
        }
        let files_max = match self.finding {
            Finding::Receipts | Finding::Checkpoints => EVIDENCE_FILES_MAX,
            Finding::Inconsistent => INCONSISTENT_FILES_MAX,
        };
        if files(&folder)?.len() >= files_max {
            return Ok(None);
        }
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other);
        let text = text.map_err(failed("write evidence", &file))?;
        write_once(&folder, &file, &text).map_err(failed("write evidence", &file))?;
        Ok(Some((file, true)))
    }
}

/// The files of evidence of an agent's folder, at most one more than it keeps.
pub(crate) fn kept(folder: &Path) -> Result<Vec<PathBuf>, AgentError> {
    files(&folder.join(FOLDER))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, AgentError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let is_evidence = |path: &io::Result<PathBuf>| {
            path.as_ref().map_or(true, |path| path.extension().is_some_and(|ending| ending == "json"))
        };
        paths.filter(is_evidence).take(EVIDENCE_FILES_MAX + 1).collect()
    };
    list().map_err(failed("look for evidence", folder))
}

/// The keys of this stream that are proven to have signed twice for one place, each with its file.
pub(crate) fn convicted(folder: &Path, stream: StreamId) -> Result<Vec<(KeyId, PathBuf)>, AgentError> {
    let mut found = Vec::new();
    for file in kept(folder)? {
        match Evidence::read(&file).and_then(|evidence| evidence.prove()) {
            Ok(proof) if proof.stream == stream => found.push((proof.key, file)),
            Ok(_) | Err(EvidenceError::Unproven) => {}
            Err(error) => tracing::warn!(file = %file.display(), %error, "a file is no evidence"),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use synddb_protocol::id::Timestamp;
    use synddb_protocol::log::{MessageHeader, MessageType};
    use synddb_protocol::signing::SigningKey;

    use super::*;

    fn receipt(sequence: u64, body: u8) -> Receipt {
        let header = MessageHeader {
            stream: StreamId::from_bytes([1; 32]),
            epoch: Epoch::FIRST,
            sequence: Sequence::new(sequence).unwrap(),
            timestamp: Timestamp::ZERO,
            message_type: MessageType::Submission,
        };
        Receipt::sign(header, &[body], &SigningKey::from_bytes([7; 32]).unwrap())
    }

    #[test]
    fn what_proves_nothing_leaves_room_for_what_does() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = 0;
        for sequence in 1..=2 * EVIDENCE_FILES_MAX as u64 {
            let evidence = Evidence::of_place(String::new(), &receipt(sequence, 1), &receipt(sequence, 2));
            kept += usize::from(evidence.keep(folder.path()).unwrap().is_some());
        }
        assert!(kept > 0 && kept < EVIDENCE_FILES_MAX, "{kept}");
        let (first, second) = (receipt(9, 1), receipt(9, 2));
        let proof = Equivocation::of_receipts(&first, &second).unwrap();
        let (file, is_new) =
            Evidence::of_receipts(&proof, &first, &second).keep(folder.path()).unwrap().unwrap();
        assert!(is_new);
        // The next agent of this folder knows whom not to believe.
        assert_eq!(convicted(folder.path(), proof.stream).unwrap(), vec![(proof.key, file)]);
    }
}
