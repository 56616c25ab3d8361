//! The chunks that the log names: those of every snapshot message, which a full replay needs for ever.
//!
//! Nobody is believed here, and no signature is checked: what any batch names stays. That is more than a reader with keys would name and never
//! less, because both read the same bytes. What cannot be read might name anything, so it ends the whole run.

use synddb_protocol::encoding::DecodeError;
use synddb_protocol::hash::{BodyHash, ChunkHash};
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{Batch, Body, Entry, Message, MessageType, Versions};
use synddb_storage::{GetError, Key, PageLimit, Start};
use tokio::task::spawn_blocking;

use super::Problem;
use super::chunks::Chunks;
use crate::ahead::AheadOfChain;
use crate::error::ValidatorError;
use crate::fetch::{NoAnswer, PatientStore};

/// How often a batch that is listed is asked for before a store that never gives it counts as broken.
const ASKED_MAX: u32 = 3;

/// Why the log cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum LogFault {
    /// An object is no batch, or a body no body.
    #[error("a batch is damaged")]
    Damaged(#[from] DecodeError),
    /// It is too large to be one.
    #[error("a batch is too large")]
    TooLarge(#[source] GetError),
    /// It begins elsewhere, or is of another stream.
    #[error("a batch is another one than its name says. first=`{first}` stream=`{stream}`")]
    Misplaced {
        /// With which message it begins.
        first: Sequence,
        /// Of which stream.
        stream: StreamId,
    },
    /// The body of a message is not the one that was signed.
    #[error("the body of a message is not the one that was signed. sequence=`{sequence}`")]
    Body {
        /// The message.
        sequence: Sequence,
    },
    /// A batch is missing between others.
    #[error("a batch is missing, and a later one is there. found=`{found}`")]
    Hole {
        /// The later one.
        found: Sequence,
    },
    /// A batch is listed and cannot be got.
    #[error("a batch is listed, and is not there when it is asked for")]
    Vanishing,
    /// The log follows rules of a later release.
    #[error(
        "the log follows newer rules: use the release of whoever leads it. protocol=`{protocol}` apply=`{apply}`"
    )]
    Newer {
        /// The leader's protocol version.
        protocol: u64,
        /// The leader's apply version.
        apply: u64,
    },
}

/// Reads the log, from its beginning and then whatever came since.
pub(super) struct Log {
    store: PatientStore,
    stream: StreamId,
    batches: AheadOfChain,
    next: Sequence,
    last: Option<Sequence>,
}

impl Log {
    pub(super) fn new(store: PatientStore, stream: StreamId) -> Self {
        let batches = AheadOfChain::new(store.clone(), stream);
        Self { store, stream, batches, next: Sequence::FIRST, last: None }
    }

    /// The last message that was read.
    pub(super) const fn size(&self) -> Option<Sequence> {
        self.last
    }

    /// Reads up to the end that the store has now, and names in `chunks` what it names.
    pub(super) async fn read_on(
        &mut self,
        chunks: &mut Chunks,
        mut on_batch: impl FnMut(Sequence, usize) + Send,
    ) -> Result<(), Problem> {
        let mut asked = 0;
        loop {
            self.store.goes_on()?;
            let next = self.next;
            let Some(stored) = self.get(next).await? else {
                match self.listed_after(next).await? {
                    None => return Ok(()),
                    // It was stored meanwhile.
                    Some(found) if found == next && asked < ASKED_MAX => {
                        asked += 1;
                        continue;
                    }
                    Some(found) if found == next => return Err(fault(next, LogFault::Vanishing)),
                    Some(found) => return Err(fault(next, LogFault::Hole { found })),
                }
            };
            asked = 0;
            let (stream, bytes) = (self.stream, stored.len());
            let read = spawn_blocking(move || named_in(&stored, stream, next)).await;
            let Ok(read) = read else { return Err(ValidatorError::Fault { part: "decoder" }.into()) };
            let Read { last, named } = read.map_err(|why| fault(next, why))?;
            for (sequence, hash) in named {
                let by = || format!("message {sequence}");
                chunks.name(&hash).map_err(|_| Problem::Needed { hash, by: by() })?;
            }
            self.last = Some(last);
            on_batch(last, bytes);
            // At the end of the numbers there is no next batch.
            let Some(after) = last.next() else { return Ok(()) };
            self.next = after;
        }
    }

    async fn get(&mut self, first: Sequence) -> Result<Option<bytes::Bytes>, Problem> {
        match self.batches.get(first).await {
            Ok(found) => Ok(found),
            Err(NoAnswer::Failed(error @ GetError::TooLarge { .. })) => {
                Err(fault(first, LogFault::TooLarge(error)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The first batch that the store lists from a place on.
    async fn listed_after(&self, first: Sequence) -> Result<Option<Sequence>, Problem> {
        let mut start = Some(Start::At(Key::Batch { stream: self.stream, first }));
        while let Some(from) = start {
            let page = self.store.list_once(&from, PageLimit::ONE).await.map_err(Problem::List)?;
            if let Some(Key::Batch { first, .. }) = page.keys.first() {
                return Ok(Some(*first));
            }
            start = page.next;
        }
        Ok(None)
    }
}

fn fault(sequence: Sequence, source: LogFault) -> Problem {
    Problem::Log { sequence, source: Box::new(source) }
}

struct Read {
    last: Sequence,
    named: Vec<(Sequence, ChunkHash)>,
}

/// What a stored batch names.
fn named_in(stored: &[u8], stream: StreamId, first: Sequence) -> Result<Read, LogFault> {
    let batch = Batch::from_stored(stored)?;
    let foreign = batch.messages().iter().map(|message| message.receipt.header().stream);
    let foreign = foreign.chain([batch.checkpoint().claim().stream]).find(|found| *found != stream);
    if batch.first() != first || foreign.is_some() {
        return Err(LogFault::Misplaced { first: batch.first(), stream: foreign.unwrap_or(stream) });
    }
    let mut named = Vec::new();
    for message in batch.messages() {
        let header = message.receipt.header();
        match header.message_type {
            // Changes of rows name no chunk.
            MessageType::Submission | MessageType::Inbound | MessageType::Status => continue,
            MessageType::Snapshot | MessageType::Epoch => {}
        }
        match open(message)? {
            Entry::Snapshot(snapshot) => {
                named.extend(snapshot.chunks.iter().map(|chunk| (header.sequence, chunk.hash)));
            }
            // What a later release's messages name is not known here.
            Entry::Epoch(start) if !start.versions.are_known_to(Versions::SUPPORTED) => {
                let Versions { protocol, apply } = start.versions;
                return Err(LogFault::Newer { protocol, apply });
            }
            Entry::Epoch(_) | Entry::Submission(_) | Entry::Inbound(_) | Entry::Status(_) => {}
        }
    }
    Ok(Read { last: batch.last(), named })
}

fn open(message: &Message) -> Result<Entry, LogFault> {
    let header = message.receipt.header();
    if BodyHash::of(&message.body) != message.receipt.body_hash() {
        return Err(LogFault::Body { sequence: header.sequence });
    }
    Ok(Body::read(header.message_type, message.body.clone(), BODY_BYTES_MAX)?.into_entry())
}
