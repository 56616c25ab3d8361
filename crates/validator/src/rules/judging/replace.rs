//! A snapshot takes the place of another state: it is judged as the difference, and nothing that was found before is forgotten.

use std::collections::BTreeMap;
use std::path::Path;

use synddb_protocol::id::Sequence;
use synddb_protocol::log::VerifiedMessage;
use synddb_protocol::submission::Snapshot;
use synddb_sqlite::apply::ApplyError;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rules::Meaning;
use synddb_sqlite::rusqlite;

use super::{Judging, Place, sqlite};
use crate::rules::messages::{Came, Messages};
use crate::rules::outbound::{self, SeenMessage};
use crate::rules::violations::{self, Violation};
use crate::rules::{Rulebook, known};

/// What was seen of a state that another one takes the place of.
pub(crate) struct Carried {
    pub(super) found: Vec<Violation>,
    pub(super) counted: Vec<Violation>,
    pub(super) messages: Messages,
    pub(super) outbound: Vec<SeenMessage>,
    pub(super) meant: BTreeMap<String, Meaning>,
}

/// What a snapshot takes the place of.
#[derive(Default)]
pub(crate) struct Replaced<'r> {
    /// The replica, with what the batch of the snapshot did to it before, and what was seen of that: it stands in its file.
    pub(crate) live: Option<(&'r Connection, Option<Carried>)>,
    /// What was seen of an earlier snapshot of the same batch. Its file is gone.
    pub(crate) staged: Option<Carried>,
    /// A replica whose state is not what it was. What is written beside that counts.
    pub(crate) unread: Option<&'r Connection>,
    /// The first message that was left out because somebody went on after a divergence.
    pub(crate) gap: Option<Sequence>,
    /// What the log has delivered.
    pub(crate) delivered: u64,
}

impl Judging {
    /// Over a snapshot that is to take the place of a replica, or that is the first one. What is written of it is one transaction.
    pub(crate) fn over_snapshot(
        rulebook: &Rulebook,
        replaced: Replaced<'_>,
        after: &Connection,
        (message, snapshot): (&VerifiedMessage, &Snapshot),
        replica: &Path,
    ) -> Result<Self, ApplyError> {
        let header = message.header();
        let incarnation = snapshot.incarnation.counter;
        let place = Place {
            sequence: header.sequence,
            epoch: header.epoch,
            timestamp: header.timestamp,
            incarnation,
        };
        after.execute("BEGIN IMMEDIATE")?;
        let judged = Self::over_replaced(rulebook, replaced, after, place, replica);
        after.execute(if judged.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        judged
    }

    fn over_replaced(
        rulebook: &Rulebook,
        replaced: Replaced<'_>,
        after: &Connection,
        place: Place,
        replica: &Path,
    ) -> Result<Self, ApplyError> {
        let Replaced { live, staged, unread, gap, delivered } = replaced;
        let mut judging = Self::over(rulebook, after, place, delivered, replica).map_err(sqlite)?;
        let (before, seen) = live.map_or((None, None), |(before, seen)| (Some(before), seen));
        if let Some(file) = before.or(unread) {
            violations::copy(file.sqlite(), after.sqlite()).map_err(sqlite)?;
            outbound::copy(file.sqlite(), after.sqlite()).map_err(sqlite)?;
        }
        judging.came = if seen.is_some() || staged.is_some() { Came::Snapshot } else { Came::First };
        match (staged, seen) {
            (Some(seen), _) => {
                outbound::take_over(after.sqlite(), &seen.outbound).map_err(sqlite)?;
                (judging.messages, judging.new) = (seen.messages, seen.found);
                judging.new.extend(seen.counted);
                judging.sql.mean(seen.meant);
            }
            (None, Some(seen)) => {
                (judging.messages, judging.found, judging.counted) =
                    (seen.messages, seen.found, seen.counted);
                judging.sql.mean(seen.meant);
            }
            (None, None) => {
                if let Some(file) = unread.map(Connection::sqlite) {
                    let kept = Messages::read(file, delivered).map_err(sqlite)?;
                    judging.messages = kept.unwrap_or(judging.messages);
                    let meant = judging.meant_by(&known::read(file).map_err(sqlite)?);
                    judging.sql.mean(meant);
                }
            }
        }
        judging.messages.mark(rulebook.mark, place.sequence);
        judging.admit(after)?;
        if let Some(from) = gap {
            judging.find_left_out(from, before.or(unread).is_some());
        }
        judging.look_at_all(before, after, judging.rulebook.tables())?;
        judging.came = Came::Commit;
        if gap.is_some() {
            judging.messages.lose_count();
        }
        known::write(after.sqlite(), rulebook, judging.sql.meant()).map_err(sqlite)?;
        judging.write(after)?;
        judging.note_judged(after, place.sequence)?;
        judging.open = violations::open(after.sqlite()).map_err(sqlite)?;
        Ok(judging)
    }

    /// Finds that messages were left out, and what they did was judged by nobody.
    fn find_left_out(&mut self, from: Sequence, is_known: bool) {
        let detail = format!(
            "somebody went on after a divergence, so what messages {from} to {} did was judged by nobody{}; look what the snapshot behind them changed, or resolve this",
            self.place.sequence,
            if is_known { "" } else { ", and what was violated before is not known any more" }
        );
        self.find_unjudged_from(from, &detail);
    }
}

/// What rules wrote down of one file comes into another one that takes its place while no rule looks: what is open stays open, and that nobody judged is found
/// by the next run that has rules.
pub(crate) fn keep(from: &Connection, to: &Connection) -> rusqlite::Result<()> {
    let (from, to) = (from.sqlite(), to.sqlite());
    if !known::is_judged(from)? {
        return Ok(());
    }
    violations::create(to)?;
    violations::copy(from, to)?;
    outbound::copy(from, to)?;
    Messages::create(to)?;
    Messages::read(from, 0)?.map_or(Ok(()), |messages| messages.write(to))?;
    known::copy(from, to)
}
