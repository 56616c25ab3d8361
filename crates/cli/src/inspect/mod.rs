//! `synddb inspect`: shows an object of a log to people.
//!
//! | module | holds |
//! |---|---|
//! | `object` | what an object is, by its bytes; where it is in a store |
//! | `entry` | what a message carries |
//! | `manifest` | what a replica's snapshot is made of |
//! | `endorsement` | what a validator endorses, and what it refuses |
//! | `rows` | schema and row changes as SQL |
//! | `shown` | what is printed, piece by piece |
//!
//! Objects may be anybody's. The protocol's decoders bound what they take; what is printed is bounded by the limits of the command line,
//! and no character of it moves a terminal. Every piece is printed when it is made, so that nothing is kept.

mod endorsement;
mod entry;
mod manifest;
mod object;
mod rows;
mod shown;

use std::path::PathBuf;

use synddb_agent::Evidence;
use synddb_protocol::DecodeError;
use synddb_protocol::id::{KeyId, Sequence};
use synddb_protocol::limits::BATCH_STORED_MAX;
use synddb_protocol::log::{Batch, Message, Receipt, SignedCheckpoint, SignedEpochRecord};
use synddb_protocol::signing::VerifyingKey;
use synddb_storage::{GetError, ListError, OpenError};

pub use self::shown::{Shown, Signed, Trust};

use self::object::{Object, signed};
use crate::arguments::InspectArguments;
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};

/// Why an object cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file cannot be read.
    #[error("cannot read the object; check the path. file=`{}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is larger than any object.
    #[error("the file is larger than any object of a log. limit=`{BATCH_STORED_MAX}`")]
    TooLarge,
    /// Nothing begins like this.
    #[error("this is no object of a log; it looks like {looks}")]
    Unknown {
        /// What it looks like.
        looks: &'static str,
    },
    /// A zstd frame with something else in it.
    #[error("this is a zstd frame that is no batch; chunks and bodies are not shown")]
    NoBatch(#[source] DecodeError),
    /// It begins like an object and is none.
    #[error("this looks like {looks}, and is none")]
    Malformed {
        /// What it looks like.
        looks: &'static str,
        /// Why it is none.
        source: DecodeError,
    },
    /// It is signed as all things are, and is none of them.
    #[error(
        "this looks like a COSE_Sign1, and is no object of a log. receipt=`{receipt}` checkpoint=`{checkpoint}` epoch_record=`{epoch_record}` manifest=`{manifest}` refusal=`{refusal}`"
    )]
    NothingSigned {
        /// Why it is no receipt.
        receipt: Box<DecodeError>,
        /// Why it is no checkpoint.
        checkpoint: Box<DecodeError>,
        /// Why it is no epoch record.
        epoch_record: Box<DecodeError>,
        /// Why it is no manifest.
        manifest: Box<DecodeError>,
        /// Why it is no refusal.
        refusal: Box<DecodeError>,
    },
    /// A message's body cannot be opened. Everything else was shown.
    #[error("a message's body cannot be opened. sequence=`{sequence}`")]
    Body {
        /// The message.
        sequence: Sequence,
        /// Why not.
        source: DecodeError,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Open(Box<OpenError>),
    /// The store cannot be listed.
    #[error(transparent)]
    List(Box<ListError>),
    /// The store does not give the object.
    #[error(transparent)]
    Get(Box<GetError>),
    /// No batch of the store holds the message.
    #[error(
        "no batch of the store holds this message; check --store, --stream and --sequence. sequence=`{sequence}`"
    )]
    NotStored {
        /// The message.
        sequence: Sequence,
    },
}

impl InspectError {
    /// The exit code that tells this.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::List(_) => Exit::Failed,
            Self::Get(error) if matches!(**error, GetError::Failed { .. }) => Exit::Failed,
            Self::Read { .. }
            | Self::TooLarge
            | Self::Unknown { .. }
            | Self::NoBatch(_)
            | Self::Malformed { .. }
            | Self::NothingSigned { .. }
            | Self::Body { .. }
            | Self::Open(_)
            | Self::NotStored { .. }
            | Self::Get(_) => Exit::Refused,
        }
    }
}

impl From<OpenError> for InspectError {
    fn from(error: OpenError) -> Self {
        Self::Open(Box::new(error))
    }
}

impl From<ListError> for InspectError {
    fn from(error: ListError) -> Self {
        Self::List(Box::new(error))
    }
}

impl From<GetError> for InspectError {
    fn from(error: GetError) -> Self {
        Self::Get(Box::new(error))
    }
}

pub(crate) fn run(arguments: &InspectArguments, output: Output) -> Result<Exit, CommandError> {
    let mut screen = Screen::new(arguments, output);
    match (&arguments.file, &arguments.store, arguments.stream, arguments.sequence) {
        (Some(file), ..) => {
            let bytes = object::read(file)?;
            screen.object(Object::recognise(&bytes)?, bytes.len())?;
        }
        (None, Some(store), Some(stream), Some(sequence)) => {
            let (key, bytes) = object::find(store, stream, sequence)?;
            screen.show(Shown::Found { key: key.to_string() })?;
            let batch = object::batch(&bytes)?;
            screen.batch(&batch, bytes.len(), Some(sequence))?;
        }
        // The command line lets nothing else through.
        (None, ..) => return Err(InspectError::Unknown { looks: "nothing: name a file, or a store" }.into()),
    }
    Ok(Exit::Done)
}

/// Where pieces are shown, and how much of each kind may still be.
pub(crate) struct Screen<'a> {
    output: Output,
    keys: &'a [VerifyingKey],
    limit: u64,
    value_bytes: usize,
    rows: u64,
    commits: u64,
}

impl<'a> Screen<'a> {
    fn new(arguments: &'a InspectArguments, output: Output) -> Self {
        let value_bytes = usize::try_from(arguments.value_bytes).unwrap_or(usize::MAX);
        let (limit, keys) = (arguments.limit, &arguments.sequencer_keys[..]);
        Self { output, keys, limit, value_bytes, rows: limit, commits: limit }
    }

    fn show(&self, shown: Shown) -> Result<(), CommandError> {
        self.output.tell(&Event::Shown(Box::new(shown)))
    }

    /// Says that there is more of something than was shown.
    fn more(&self, what: &str, count: u64) -> Result<(), CommandError> {
        if count == 0 { Ok(()) } else { self.show(Shown::More { what: what.to_owned(), count }) }
    }

    fn object(&mut self, object: Object, bytes: usize) -> Result<(), CommandError> {
        match object {
            Object::Batch(batch) => self.batch(&batch, bytes, None),
            Object::Message(message) => self.message(&message),
            Object::Receipt(receipt) => self.receipt(&receipt),
            Object::Checkpoint(checkpoint) => self.checkpoint(&checkpoint),
            Object::Epoch(record) => self.epoch_record(&record),
            Object::Manifest(manifest) => self.manifest(&manifest),
            Object::Endorsement(endorsement) => self.endorsement(&endorsement),
            Object::Refusal(refusal) => self.refusal(&refusal),
            Object::Evidence(evidence) => self.evidence(&evidence),
        }
    }

    /// A batch with all its messages, or with one.
    fn batch(&mut self, batch: &Batch, bytes: usize, only: Option<Sequence>) -> Result<(), CommandError> {
        let messages = batch.messages();
        let (first, last) = (batch.first(), batch.last());
        self.show(Shown::Batch { first, last, messages: messages.len(), stored_bytes: bytes })?;
        self.checkpoint(batch.checkpoint())?;
        let mut refused = None;
        for message in messages {
            if only.is_some_and(|only| only != message.receipt.header().sequence) {
                continue;
            }
            match self.message(message) {
                Err(CommandError::Inspect(error)) => {
                    self.show(Shown::Note { text: synddb_protocol::chain(&*error) })?;
                    refused.get_or_insert(error);
                }
                shown => shown?,
            }
        }
        refused.map_or(Ok(()), |error| Err(CommandError::Inspect(error)))
    }

    fn message(&mut self, message: &Message) -> Result<(), CommandError> {
        self.receipt(&message.receipt)?;
        self.body(message)
    }

    fn receipt(&self, receipt: &Receipt) -> Result<(), CommandError> {
        let signed = self.signed(receipt.key(), receipt.recover().ok());
        self.show(Shown::receipt(receipt, signed))
    }

    fn checkpoint(&self, checkpoint: &SignedCheckpoint) -> Result<(), CommandError> {
        let signed = self.signed(checkpoint.key(), checkpoint.recover().ok());
        self.show(Shown::checkpoint(checkpoint.claim(), signed))
    }

    fn epoch_record(&self, record: &SignedEpochRecord) -> Result<(), CommandError> {
        let recovered = record.recover().ok().map(|(_, key)| key);
        let signed = self.signed(record.key(), recovered);
        self.show(Shown::epoch_record(record, signed, self.value_bytes))
    }

    /// Evidence, whether it proves what it says, and what it quotes.
    fn evidence(&mut self, evidence: &Evidence) -> Result<(), CommandError> {
        let unproven = evidence.prove().err().map(|error| synddb_protocol::chain(&error));
        self.show(Shown::evidence(evidence, unproven))?;
        for quoted in evidence.quoted().unwrap_or_default() {
            match signed(&quoted)? {
                Object::Receipt(receipt) => self.receipt(&receipt)?,
                Object::Checkpoint(checkpoint) => self.checkpoint(&checkpoint)?,
                // Evidence quotes nothing else.
                Object::Batch(_)
                | Object::Message(_)
                | Object::Epoch(_)
                | Object::Manifest(_)
                | Object::Endorsement(_)
                | Object::Refusal(_)
                | Object::Evidence(_) => {}
            }
        }
        Ok(())
    }

    /// Who signed: the key that is named, and the key that made the signature, if it is that one.
    fn signed(&self, key_id: KeyId, recovered: Option<VerifyingKey>) -> Signed {
        let trust = match recovered {
            _ if self.keys.is_empty() => Trust::NoKeys,
            Some(key) if self.keys.contains(&key) => Trust::Trusted,
            Some(_) | None => Trust::Untrusted,
        };
        Signed { key_id, is_valid: recovered.is_some(), trust }
    }
}
