//! The row changes of the log, for whoever subscribes: by names of columns, from any place that is kept, without an end.
//!
//! ```text
//! owner --applied, committed--> ring --------------------------+
//!                                                               +--> rendering --> one piece at a time --> connection
//! store --fetch--> verify --> what the replica stands on ------+
//! ```
//!
//! What must stay true:
//!
//! - Nothing is shown that is not committed in the replica. What is read again from the store is verified again, from a checkpoint that the replica
//!   stood at, and held against what the replica stands at.
//! - Every event names its place, and whoever comes back with a place is shown what is behind it: once, and in order.
//! - The owner waits for no reader. A reader has a place and one message, and the store is read for few of them at a time.
//! - A commit that the replica never stood behind, because a snapshot of the same batch replaced it, or one that came while a commit in parts was not whole,
//!   is not shown, from the store as from the ring. So of a commit in parts nothing is shown before it is whole.
//!
//! | file | holds |
//! |---|---|
//! | `place` | the place of a reader, which is the `id` of an event |
//! | `history` | how columns were called |
//! | `marks` | where reading may begin |
//! | `ring` | what was applied last |
//! | `render` | messages as events |
//! | `shape` | rows as JSON |
//! | `log` | messages that went from the ring, from the store |
//! | `seats` | who reads, by client |
//! | `reader` | one reader on its way |
//! | `http` | what is asked and told over HTTP |

pub(crate) mod history;
mod http;
mod log;
pub(crate) mod marks;
mod place;
mod reader;
mod render;
mod ring;
mod seats;
mod shape;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use synddb_protocol::id::Sequence;
use synddb_protocol::log::TrustedCheckpoint;
use synddb_service::shutdown::Shutdown;
use tokio::sync::{Semaphore, watch};

use crate::config::ChangesConfig;
use crate::door::Client;
use crate::view::View;
use history::History;
pub(crate) use http::routes;
pub(crate) use log::Log;
use marks::Marks;
use place::Place;
pub(crate) use reader::Pieces;
use reader::Reader;
pub(crate) use render::Anew;
pub(crate) use ring::{Ring, Shown};
use seats::Seats;

/// Most readers for whom the store is read at a time.
const TURNS_MAX: usize = 2;

/// How many messages a place may be past what the replica holds: whoever was shown them by another replica, or by this one before it lost what was not on
/// its disk, waits until it holds them.
const AHEAD_MAX: u64 = 1 << 16;

/// What the replica holds, as far as readers need to know.
#[derive(Debug)]
struct Applied {
    ring: Ring,
    history: Arc<History>,
    marks: Arc<Marks>,
    /// What the replica stands at.
    tail: Option<TrustedCheckpoint>,
}

impl Applied {
    /// The size of the log that the replica stands at.
    fn size(&self) -> u64 {
        self.tail.as_ref().map_or(0, |tail| tail.claim().size.get())
    }
}

/// The owner's side.
pub(crate) struct Live {
    applied: watch::Sender<Applied>,
    log: Arc<OnceLock<Log>>,
}

/// The readers' side. Clones are the same.
#[derive(Clone)]
pub(crate) struct Feed {
    applied: watch::Receiver<Applied>,
    log: Arc<OnceLock<Log>>,
    view: View,
    turns: Arc<Semaphore>,
    seats: Seats,
    /// How long a reader may take nothing.
    stall_max: Duration,
}

/// Why nobody reads from some place on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotShown {
    /// There is no replica.
    #[error("there is no verified replica whose changes could be shown; see /status")]
    NoReplica,
    /// As many read as may, and no client that has more makes room.
    #[error("as many read changes as may at a time; try again")]
    Busy,
    /// The replica does not stand there yet, nor nearly.
    #[error("the replica does not hold what is before this place. from=`{from}` next=`{next}`")]
    Past {
        /// The place asked for.
        from: u64,
        /// The next message of the replica.
        next: u64,
    },
    /// What is there is not kept.
    #[error("changes are kept here from a later place on; begin anew. from=`{from}` first=`{first}`")]
    NotKept {
        /// The place asked for.
        from: u64,
        /// The first place that can be shown.
        first: Sequence,
    },
}

impl Live {
    /// A feed that shows nothing yet.
    pub(crate) fn new(view: View, config: &ChangesConfig) -> (Self, Feed) {
        let nothing = Applied {
            ring: Ring::default(),
            history: Arc::default(),
            marks: Arc::new(Marks::none()),
            tail: None,
        };
        let ((live, applied), log) = (watch::channel(nothing), Arc::default());
        let (turns, seats) = (Arc::new(Semaphore::new(TURNS_MAX)), Seats::new(config.readers_max));
        let stall_max = Duration::from_millis(config.stall_ms_max);
        let feed = Feed { applied, log: Arc::clone(&log), view, turns, seats, stall_max };
        (Self { applied: live, log }, feed)
    }

    /// This is where the log is read again.
    pub(crate) fn reads(&self, log: Log) {
        // A process has one log.
        self.log.set(log).ok();
    }

    /// The replica stands here, by what was applied since the last time.
    pub(crate) fn stands(
        &self,
        shown: Ring,
        history: &Arc<History>,
        marks: &Arc<Marks>,
        tail: &TrustedCheckpoint,
    ) {
        self.applied.send_modify(|applied| {
            applied.ring.append(shown);
            applied.history = Arc::clone(history);
            applied.marks = Arc::clone(marks);
            applied.tail = Some(tail.clone());
        });
    }
}

impl Feed {
    /// What stands behind `place`, or what is yet to come, of these tables or all; through a message, or until the process is asked to end.
    ///
    /// # Errors
    /// [`NotShown`].
    pub(crate) fn read(
        &self,
        client: Client,
        place: Option<Place>,
        through: Option<Sequence>,
        tables: Option<BTreeSet<String>>,
        shutdown: Shutdown,
    ) -> Result<Pieces, NotShown> {
        if self.view.is_withheld() {
            return Err(NotShown::NoReplica);
        }
        if self.is_shown() {
            self.place(place)?;
        }
        let seat = self.seats.take(client).ok_or(NotShown::Busy)?;
        let through = through.map_or(u64::MAX, Sequence::get);
        Ok(Reader::new(self.clone(), place, through, tables, shutdown).start(seat))
    }

    /// Where a reader begins.
    fn place(&self, asked: Option<Place>) -> Result<Place, NotShown> {
        let applied = self.applied.borrow();
        let size = applied.size();
        let place = asked.unwrap_or(Place::Behind(size));
        let from = place.next();
        if from > size.saturating_add(AHEAD_MAX + 1) {
            return Err(NotShown::Past { from, next: size + 1 });
        }
        let first = applied.marks.first().unwrap_or(size) + 1;
        if from < first {
            let first = Sequence::new(first).map_err(|_| NotShown::NoReplica)?;
            return Err(NotShown::NotKept { from, first });
        }
        Ok(place)
    }

    /// Whether what the replica holds may be shown.
    fn is_shown(&self) -> bool {
        self.view.is_shown()
    }
}
