//! Accepting without a store: the journal becomes what a sequencer leaves that accepted much while its store took nothing. For benchmarks of what follows.
//!
//! What must stay true: it is what a sequencer does, decided by the same core, but for HTTP: the stream is opened and fenced, and everything is ordered,
//! signed and journalled in groups. Only nothing is put behind the fence.

use std::sync::Arc;

use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::Body;
use synddb_service::secret::signing_key;
use synddb_storage::{BatchStore, Key};
use tokio::sync::oneshot;

use crate::admission::Admission;
use crate::config::Config;
use crate::error::{LeadError, SequencerError};
use crate::journal::{Journal, JournalError};
use crate::leading::{Core, Effect, Event, GROUP_MAX, Leader, Now};
use crate::stream::Command;
use crate::tail;

/// Accepts these bodies of a stream that nobody leads, and ends. Gives the last sequence. What does not follow is left out.
///
/// # Errors
/// [`SequencerError`] when the stream cannot be opened, or the disk takes nothing more.
pub async fn accept_unstored(
    store: Arc<dyn BatchStore>,
    config: &Config,
    stream: StreamId,
    bodies: impl IntoIterator<Item = Body>,
) -> Result<Sequence, SequencerError> {
    let key = Arc::new(signing_key(&config.key_file)?);
    let folder = config.dir.join("streams").join(stream.to_key());
    let journal = Journal::open(&folder, stream);
    let journal = journal.map_err(|source| SequencerError::Journal { stream, source })?;
    let failed = |source| SequencerError::Lead { stream, source: Box::new(source) };
    let mut core = Core::new(Leader::of(config, stream, key), journal);
    let mut last = open(&mut core, &*store).await.map_err(failed)?;
    let admission = Admission::new(GROUP_MAX << 10);
    let mut bodies = bodies.into_iter().peekable();
    while bodies.peek().is_some() {
        let commands = bodies.by_ref().take(GROUP_MAX).filter_map(|body| {
            let room = admission.take(0)?;
            Some(Command { body, is_looked_up: false, acknowledged: 0, answer: oneshot::channel().0, room })
        });
        for effect in core.step(Now::by_the_clock(), Event::Commands(commands.collect())) {
            match effect {
                Effect::Signed(messages) => {
                    last = messages.last().map_or(last, |message| message.receipt.header().sequence);
                }
                Effect::End(how) => how.map_err(failed)?,
                // What is put here stays on its way.
                Effect::Look { .. }
                | Effect::Claim { .. }
                | Effect::Put { .. }
                | Effect::Answer(_)
                | Effect::Opened { .. }
                | Effect::Stored(_)
                | Effect::Deposed
                | Effect::Show(_) => {}
            }
        }
    }
    Ok(last)
}

/// Opens a stream, up to where its fence is stored. Gives the fence.
async fn open(core: &mut Core, store: &dyn BatchStore) -> Result<Sequence, LeadError> {
    let mut effects = vec![core.begin()];
    let mut fence = None;
    loop {
        let mut event = None;
        for effect in effects {
            let (stream, trusted) = (core.leader().stream, &core.leader().trusted);
            match effect {
                Effect::Look { .. } => {
                    let looked = tail::look(store, core.journal(), stream, trusted).await;
                    event = Some(Event::Looked(looked));
                }
                Effect::Claim { epoch, object } => {
                    let answer = store.put(&Key::Epoch { stream, epoch }, object).await;
                    event = Some(Event::Claimed(answer));
                }
                Effect::Put { first, object } => {
                    let answer = store.put(&Key::Batch { stream, first }, object).await;
                    event = Some(Event::Put(answer));
                }
                Effect::Opened { fence: opened, .. } => fence = Some(opened),
                Effect::Stored(stored) if Some(stored.last) == fence => return Ok(stored.last),
                Effect::End(how) => how?,
                Effect::Answer(_)
                | Effect::Signed(_)
                | Effect::Stored(_)
                | Effect::Deposed
                | Effect::Show(_) => {}
            }
        }
        // A core that opens waits for an answer, or for room on the disk; nobody here waits for that.
        let event = event.ok_or(LeadError::Journal(JournalError::Full))?;
        effects = core.step(Now::by_the_clock(), event);
    }
}
