//! Whether the chunks of a snapshot are in the store, once its message is.
//!
//! A sequencer looks for them before it accepts the message, and it may be long until that is stored: to whoever removes what nobody
//! needs, the chunks are old by then and named by nobody (`spec/storage.md`, section 10). From a stored message on they stay. So they are
//! looked for once more behind it, and what is gone is put again; only then is the snapshot removed here.
//!
//! What must stay true: a check that is not answered holds up no commit, and no snapshot is forgotten by it.

use std::time::Instant;

use synddb_protocol::hash::ChunkHash;
use synddb_protocol::http::{Problem as Refused, Reason};

use super::client::Answer;
use super::{Shipper, problems};
use crate::error::AgentError;
use crate::event::Event;

/// What one question about a snapshot came to.
enum Came {
    /// Everything of it is stored.
    Whole,
    /// These chunks are not.
    Lacks(Vec<ChunkHash>),
    /// A chunk that was gone is stored again.
    Put,
    /// To no answer; it is asked again.
    Nothing,
}

impl Shipper {
    /// When the next question about a stored snapshot is due, if there is one left.
    pub(super) fn checks_at(&self) -> Option<Instant> {
        self.legs.iter().any(|leg| leg.unchecked.is_some()).then_some(self.check_not_before).flatten()
    }

    /// Asks one question about the snapshots that are stored and not known to be whole; says whether there was one to ask.
    pub(super) fn check_snapshots(&mut self) -> bool {
        if self.check_not_before.is_some_and(|time| time > Instant::now()) {
            return false;
        }
        let Some(at) = self.legs.iter().position(|leg| leg.unchecked.is_some()) else { return false };
        let came = self.check_one(at);
        self.check_not_before = None;
        match came {
            Came::Nothing => {
                self.check_not_before = Some(Instant::now() + self.check_backoff.after_failure(None));
            }
            Came::Lacks(_) => {
                // The first time puts follow at once; what was put and is gone again is put more slowly.
                self.check_not_before = Some(Instant::now() + self.check_backoff.after_failure(None));
            }
            Came::Put => {}
            Came::Whole => self.check_backoff.reset(),
        }
        let noted = self.note_checked(at, came);
        if let Err(error) = noted {
            let detail = synddb_protocol::chain(&error);
            self.stop(detail, "look at the disk, then start the agent again");
        }
        true
    }

    fn check_one(&mut self, at: usize) -> Came {
        let within = self.within();
        let Some(unchecked) = &self.legs[at].unchecked else { return Came::Whole };
        let Some(hash) = unchecked.lacking.last().copied() else {
            let body = &unchecked.spooled.body;
            return match self.client.snapshot(body, within) {
                // What it promises again is kept already: its message was seen stored.
                Ok(Answer::Done(_)) => Came::Whole,
                Ok(Answer::Refused(refused, _)) => {
                    if let Reason::MissingChunks { missing } = refused.reason() {
                        let chunks = &unchecked.spooled.snapshot.chunks;
                        let listed = |hash: &&ChunkHash| chunks.iter().any(|chunk| chunk.hash == **hash);
                        return Came::Lacks(missing.iter().filter(listed).copied().collect());
                    }
                    self.tell_unchecked(&refused)
                }
                Err(_) => Came::Nothing,
            };
        };
        let bytes = match self.legs[at].folder.chunk(hash) {
            Ok(bytes) => bytes,
            Err(error) => {
                let detail = format!("a chunk of the snapshot cannot be read. chunk=`{hash}`: {error}");
                self.stop(detail, "look at the disk, then start the agent again");
                return Came::Nothing;
            }
        };
        match self.client.put_chunk(hash, &bytes, within) {
            Ok(Answer::Done(())) => Came::Put,
            Ok(Answer::Refused(refused, _)) => self.tell_unchecked(&refused),
            Err(_) => Came::Nothing,
        }
    }

    /// What passes is told by what is sent beside this.
    fn tell_unchecked(&self, refused: &Refused) -> Came {
        let passes = matches!(
            refused.reason(),
            Reason::Busy
                | Reason::TooSlow
                | Reason::NotLeading
                | Reason::NotYet
                | Reason::Unavailable
                | Reason::Internal
                | Reason::DiskFull
        );
        if !passes {
            self.tell(problems::refused(self.client.url(), refused));
        }
        Came::Nothing
    }

    fn note_checked(&mut self, at: usize, came: Came) -> Result<(), AgentError> {
        let leg = &mut self.legs[at];
        let Some(unchecked) = &mut leg.unchecked else { return Ok(()) };
        match came {
            Came::Nothing => Ok(()),
            Came::Lacks(missing) => {
                unchecked.lacking = missing;
                Ok(())
            }
            Came::Put => {
                unchecked.lacking.pop();
                Ok(())
            }
            Came::Whole => {
                leg.folder.forget_snapshot()?;
                leg.unchecked = None;
                let incarnation = leg.incarnation;
                self.events.say(Event::SnapshotStored { incarnation });
                self.forget_legs()
            }
        }
    }
}
