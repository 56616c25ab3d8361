//! What rules found of a log up to a message, for a replica that began with the state there: as if it had begun with the first message.

use synddb_protocol::id::{IncarnationCounter, Sequence};
use synddb_protocol::log::Checkpoint;
use synddb_sqlite::rusqlite::{self, Connection};

use super::known::is_judged;
use super::messages::{Extent, Messages};
use super::violations::{self, Offending, Violation, Why};
use super::{INBOUND_RULE, OUTBOUND_RULE};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    violations: Vec<Violation>,
    /// How far outbound and inbound messages had come.
    messages: Extent,
}

impl Found {
    /// What stands in a file, of the log up to a message. The rules there were asked to mark that message.
    pub(crate) fn through(file: &Connection, sequence: Sequence) -> rusqlite::Result<Self> {
        let violations = violations::open_through(file, sequence)?;
        let messages = Messages::read(file, 0)?.unwrap_or_default().at_mark();
        Ok(Self { violations, messages })
    }

    /// Writes it into a replica that began at `at`, in the transaction that is open. Its violations are open from here on.
    pub(crate) fn write(&self, replica: &Connection, at: &Checkpoint) -> rusqlite::Result<()> {
        if !is_judged(replica)? {
            return Ok(());
        }
        self.violations.iter().try_for_each(|violation| violations::add(replica, violation).map(drop))?;
        let began = Messages::read(replica, 0)?.unwrap_or_default();
        let outbound = (OUTBOUND_RULE, self.messages.outbound, began.at_mark().outbound);
        let inbound = (INBOUND_RULE, self.messages.inbound, began.at_mark().inbound.max(began.believed()));
        for (rule, had_come, began) in [outbound, inbound] {
            if had_come <= began {
                continue;
            }
            // Since then they were compared with what the snapshot holds alone, and with what its checkpoint claims.
            let incarnation = at.client.as_ref().map(|client| client.incarnation.counter);
            let detail = format!(
                "{rule} had come to {had_come} before the snapshot of message {}, of which none behind {began} was known: those between may have been given again since",
                at.size
            );
            let violation = Violation {
                rule: rule.to_owned(),
                sequence: at.size,
                epoch: at.epoch,
                timestamp: at.timestamp,
                incarnation: incarnation.unwrap_or(IncarnationCounter::FIRST),
                commit: None,
                why: Why::Messages,
                detail,
                offending: Offending::default(),
            };
            violations::add(replica, &violation)?;
        }
        Messages::had_come(replica, self.messages)
    }

    /// How many violations.
    pub(crate) fn count(&self) -> u64 {
        self.violations.len() as u64
    }
}
