//! What leaves the capture, or a reconcile: the changes of one commit, in pieces when they are large.

use synddb_protocol::submission::{Changes, SchemaChange};

use super::tally::Counting;
use super::{CommittedState, PIECE_BYTES, PollError, Sink};

/// Most room that is kept from one commit to the next, in bytes.
const ROOM_MAX: usize = 256 << 10;

/// The changes of one commit on their way to the sink.
pub(crate) struct Out<'s, S> {
    sink: &'s mut S,
    /// Row changes that were not handed over yet.
    pub(in crate::capture) rows: &'s mut Vec<u8>,
    changes: Changes,
    count: u64,
}

impl<'s, S: Sink> Out<'s, S> {
    /// Begins with these schema changes. `rows` is room for what is written, emptied here and by [`Self::finish`].
    pub(crate) fn new(sink: &'s mut S, schema: Vec<SchemaChange>, rows: &'s mut Vec<u8>) -> Self {
        rows.clear();
        Self { sink, rows, changes: Changes { schema, ..Changes::default() }, count: 0 }
    }

    /// A row change was written to `rows`. Hands a piece over when there is a whole one; it is cut at any byte.
    pub(in crate::capture) fn row_written(
        &mut self,
        counting: Option<&mut Counting<'_>>,
    ) -> Result<(), PollError<S::Error>> {
        self.count += 1;
        if let Some(counting) = counting {
            counting.row_written(self.sink, self.rows.len())?;
        }
        let mut at = 0;
        while self.rows.len() - at > PIECE_BYTES {
            let rows = self.rows[at..at + PIECE_BYTES].to_vec();
            at += PIECE_BYTES;
            let schema = std::mem::take(&mut self.changes.schema);
            self.sink.piece(Changes { schema, rows, ..Changes::default() }).map_err(PollError::Sink)?;
        }
        self.rows.drain(..at);
        if at > PIECE_BYTES {
            // One large row must not keep its memory for the rest of the commit.
            self.rows.shrink_to(PIECE_BYTES);
        }
        Ok(())
    }

    /// How many rows changed up to here.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The header of the database has these values now.
    pub(crate) fn set_header(&mut self, user_version: Option<i32>, application_id: Option<i32>) {
        self.changes.user_version = user_version;
        self.changes.application_id = application_id;
    }

    /// Hands over the rest, and returns how many rows changed.
    pub(crate) fn finish(mut self, state: &mut CommittedState<'_>) -> Result<u64, PollError<S::Error>> {
        self.changes.rows = if self.rows.capacity() > ROOM_MAX {
            std::mem::take(self.rows)
        } else {
            // A commit that waits in a submission holds its own bytes only, and the room stays.
            self.rows.clone()
        };
        self.rows.clear();
        self.sink.commit(self.changes, state).map_err(PollError::Sink)?;
        Ok(self.count)
    }
}
