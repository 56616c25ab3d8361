//! The default rules over the message tables (`synddb init-messages`): rows come in order, each once, and none of them goes or changes.
//!
//! - `outbound_messages`: ids are dense from 1 over all incarnations. One that was there once never comes again, whatever the table holds by now.
//!   A snapshot brings none.
//! - `inbound_messages`: what was delivered is acknowledged in order, exactly once, and nothing else is.
//!
//! How far both have come is kept in the replica's file, so that a table that was emptied does not begin anew. What commits acknowledged is counted beside that:
//! what is signed of a message says how much that was, and there acknowledgements count for nothing that a snapshot brought.

use synddb_protocol::id::Sequence;
use synddb_protocol::state::Value;
use synddb_sqlite::connection::has_table;
use synddb_sqlite::messages::{INBOUND, OUTBOUND};
use synddb_sqlite::rules::{CommitView, TableChanges};
use synddb_sqlite::rusqlite::{self, Connection, OptionalExtension as _, params};

/// The tables.
pub(super) const TABLES: [&str; 2] = [OUTBOUND, INBOUND];

/// Messages of one commit whose order is looked at, at most: more than a bridge ever takes in one. A commit of more is a violation, and none of its rows is ever
/// signed, by sequencers neither. It is counted in each commit anew, and counts for nothing that came before.
const ROWS_MAX: usize = 100_000;

/// How far both tables have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Messages {
    /// The highest id that ever stood in the table of outbound messages.
    outbound: u64,
    /// The same of inbound messages: everything up to it is acknowledged.
    inbound: u64,
    /// The highest inbound message that a commit acknowledged. `None` where commits were seen by nobody, and this may be any of those that are acknowledged.
    consumed: Option<u64>,
    /// The same where nobody here saw the commits before, as whoever vouched for the state of then did: acknowledged once, whatever stands there by now.
    believed: u64,
    /// What the log has delivered.
    delivered: u64,
    /// How far they had come at the message that somebody asked about, or in the state that a replica began with.
    marked: Option<Extent>,
}

/// How far messages had come at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Extent {
    /// The highest id that stood in the table of outbound messages by then.
    pub(super) outbound: u64,
    /// The same of inbound messages.
    pub(super) inbound: u64,
    /// The highest inbound message that a commit acknowledged by then.
    consumed: u64,
}

/// What an application has acknowledged of inbound messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// Everything up to here stood in its table, whatever brought it.
    pub(crate) through: u64,
    /// What commits acknowledged, which is never more; `None` where nobody knows.
    pub(crate) counted: Option<u64>,
    /// What others say that commits had acknowledged before anybody looked here.
    pub(crate) believed: u64,
}

impl Acknowledged {
    /// What a checkpoint may claim at most. Rows that an application went back behind stay claimed.
    pub(crate) fn at_most(self) -> u64 {
        self.counted.unwrap_or(self.through).max(self.believed)
    }
}

/// What came with a commit, or with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    Commit,
    /// A snapshot that takes the place of another state.
    Snapshot,
    /// The first state of all: what it holds is taken as it is.
    First,
}

/// Before the log begins.
impl Default for Messages {
    fn default() -> Self {
        Self { outbound: 0, inbound: 0, consumed: Some(0), believed: 0, delivered: 0, marked: None }
    }
}

impl Messages {
    /// Makes the table in a file that has none.
    pub(super) fn create(sqlite: &Connection) -> rusqlite::Result<()> {
        sqlite.execute_batch(
            "CREATE TABLE IF NOT EXISTS main._synddb_messages(
                 one INTEGER PRIMARY KEY CHECK (one = 1),
                 outbound INTEGER NOT NULL,
                 inbound INTEGER NOT NULL,
                 consumed INTEGER,
                 -- The claim at the state that this file began with, and what whoever checked the log before says that was.
                 believed INTEGER NOT NULL,
                 consumed_checked INTEGER,
                 outbound_marked INTEGER,
                 inbound_marked INTEGER,
                 consumed_marked INTEGER
             )",
        )
    }

    /// What comes with this message is behind the one that is asked about, if any is.
    pub(super) fn mark(&mut self, asked: Option<Sequence>, message: Sequence) {
        if asked.is_some_and(|asked| message > asked) {
            self.marked = self.marked.or(Some(self.extent()));
        }
    }

    /// It begins with what there is.
    pub(super) fn note_beginning(&mut self) {
        self.marked = Some(self.extent());
    }

    /// How far they had come at the message that was asked about.
    pub(super) fn at_mark(&self) -> Extent {
        self.marked.unwrap_or(self.extent())
    }

    fn extent(&self) -> Extent {
        let Self { outbound, inbound, .. } = *self;
        Extent { outbound, inbound, consumed: self.consumed.unwrap_or(inbound) }
    }

    /// Writes into a file that they had come so far before it began. What was believed of that is known by now.
    pub(super) fn had_come(sqlite: &Connection, extent: Extent) -> rusqlite::Result<()> {
        let [outbound, inbound, consumed] =
            [extent.outbound, extent.inbound, extent.consumed].map(u64::cast_signed);
        let sql = "UPDATE main._synddb_messages
                   SET outbound = max(outbound, ?1), inbound = max(inbound, ?2), consumed_checked = ?3";
        sqlite.execute(sql, params![outbound, inbound, consumed]).map(drop)
    }

    /// Takes in what somebody wrote so, who has checked the log before.
    pub(super) fn raise(&mut self, sqlite: &Connection) -> rusqlite::Result<()> {
        if let Some(read) = Self::read(sqlite, self.delivered)? {
            (self.outbound, self.inbound) =
                (self.outbound.max(read.outbound), self.inbound.max(read.inbound));
            self.believed = read.believed;
        }
        Ok(())
    }

    /// What the file says; `None` where nobody has looked yet.
    pub(super) fn read(sqlite: &Connection, delivered: u64) -> rusqlite::Result<Option<Self>> {
        if !has_table(sqlite, "_synddb_messages")? {
            return Ok(None);
        }
        let sql = "SELECT outbound, inbound, coalesce(consumed_checked, believed), consumed, outbound_marked, inbound_marked, consumed_marked
                   FROM main._synddb_messages WHERE one = 1";
        let read = sqlite.query_row(sql, [], |row| {
            let number = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
            let perhaps = |at| row.get::<_, Option<i64>>(at).map(|read| read.map(i64::cast_unsigned));
            let marked = match (perhaps(4)?, perhaps(5)?, perhaps(6)?) {
                (Some(outbound), Some(inbound), Some(consumed)) => {
                    Some(Extent { outbound, inbound, consumed })
                }
                _ => None,
            };
            let (outbound, inbound, believed) = (number(0)?, number(1)?, number(2)?);
            Ok(Self { outbound, inbound, consumed: perhaps(3)?, believed, delivered, marked })
        });
        read.optional()
    }

    /// Writes it down, in the transaction that is open.
    pub(super) fn write(&self, sqlite: &Connection) -> rusqlite::Result<()> {
        // Somebody else may have written that they had come further, and what was checked: that stays.
        let sql = "INSERT INTO main._synddb_messages(one, outbound, inbound, consumed, believed, outbound_marked, inbound_marked, consumed_marked)
                   VALUES(1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)
                   ON CONFLICT(one) DO UPDATE SET outbound = max(outbound, excluded.outbound), inbound = max(inbound, excluded.inbound),
                     consumed = excluded.consumed, believed = excluded.believed, outbound_marked = excluded.outbound_marked,
                     inbound_marked = excluded.inbound_marked, consumed_marked = excluded.consumed_marked";
        let Self { outbound, inbound, consumed, believed, marked, .. } = *self;
        let marked_at = |of: fn(Extent) -> u64| marked.map(|marked| of(marked).cast_signed());
        let written = params![
            outbound.cast_signed(),
            inbound.cast_signed(),
            consumed.map(u64::cast_signed),
            believed.cast_signed(),
            marked_at(|marked| marked.outbound),
            marked_at(|marked| marked.inbound),
            marked_at(|marked| marked.consumed),
        ];
        sqlite.prepare_cached(sql)?.execute(written).map(drop)
    }

    /// How many inbound messages commits acknowledged; `None` where that is not known.
    pub(super) const fn consumed(&self) -> Option<u64> {
        self.consumed
    }

    /// What is acknowledged.
    pub(super) const fn acknowledged(&self) -> Acknowledged {
        Acknowledged { through: self.inbound, counted: self.consumed, believed: self.believed }
    }

    /// Nobody saw what commits did up to the state that was just looked at. Where nothing was delivered, no acknowledgement was missed; otherwise the next commit that
    /// acknowledges a message behind all that are known says the number again. That no row stands there says nothing: another state may have taken the place.
    pub(super) fn lose_count(&mut self) {
        // What was seen before is still so.
        self.believed = self.believed.max(self.consumed.unwrap_or_default());
        self.consumed = (self.delivered == 0).then_some(0);
    }

    /// Commits acknowledged so much before the state that a replica begins with, says the checkpoint there. It is as good as that state: nobody endorses behind it
    /// whom no quorum assures of both, and who checks the log before says what was so.
    pub(super) fn believe(&mut self, claimed: u64) {
        self.believed = self.believed.max(claimed);
    }

    /// What others say that commits had acknowledged before anybody looked here.
    pub(super) const fn believed(&self) -> u64 {
        self.believed
    }

    /// So much is delivered.
    pub(super) const fn delivered(&mut self, through: u64) {
        self.delivered = through;
    }

    /// Looks at what a commit did to the tables. Says what must not be, of which table.
    pub(super) fn check(&mut self, view: &CommitView<'_>, came: Came) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if let Some(changes) = view.table(OUTBOUND) {
            let looked = Looked::at(&changes, "id");
            let may_come = came != Came::Snapshot;
            let told = match &looked {
                Looked { count: 1.., .. } if !may_come => Some(format!(
                    "a snapshot brings {} outbound messages; none of them is ever endorsed",
                    looked.count
                )),
                looked if came == Came::First => looked.unreadable(),
                looked => looked.told(self.outbound, None),
            };
            self.outbound = self.outbound.max(looked.last);
            found.extend(told.map(|told| (super::OUTBOUND_RULE, told)));
        }
        if let Some(changes) = view.table(INBOUND) {
            let looked = Looked::at(&changes, "message_id");
            let told = match came {
                Came::First => looked.unreadable(),
                Came::Commit | Came::Snapshot => looked.told(self.known(), Some(self.delivered)),
            };
            if came == Came::Commit {
                self.count(changes.last_inserted());
            }
            self.inbound = self.inbound.max(looked.last);
            found.extend(told.map(|told| (super::INBOUND_RULE, told)));
        }
        found
    }

    /// A commit acknowledged messages up to this one.
    fn count(&mut self, last: Option<i64>) {
        let Some(last) = last.and_then(|last| u64::try_from(last).ok()).filter(|last| *last > 0) else {
            return;
        };
        self.consumed = match self.consumed {
            Some(consumed) => Some(consumed.max(last)),
            None => (last > self.known()).then_some(last),
        };
    }

    /// The highest inbound message that is known to have been acknowledged, whoever saw it.
    pub(super) fn known(&self) -> u64 {
        self.inbound.max(self.believed)
    }
}

/// What a commit did to one of the tables.
#[derive(Debug, Default)]
struct Looked {
    /// Of rows that came, ascending, as many as are looked at.
    ids: Vec<u64>,
    /// How many rows with an id came.
    count: u64,
    /// The highest id of them.
    last: u64,
    /// Rows whose id is none.
    without: bool,
    /// Whether rows were there before that are not, or are others.
    is_rewritten: bool,
    /// Whether the table itself was replaced or altered.
    is_replaced: bool,
}

impl Looked {
    fn at(changes: &TableChanges<'_>, column: &str) -> Self {
        let mut looked = Self {
            is_rewritten: changes.before_count() > 0,
            is_replaced: changes.is_replaced() || changes.is_altered(),
            ..Self::default()
        };
        let at = changes.columns().iter().position(|name| name.eq_ignore_ascii_case(column));
        changes.changed(|row| match at.and_then(|at| row.get(at)) {
            Some(Value::Integer(id)) if *id > 0 => looked.came(id.cast_unsigned()),
            _ => looked.without = true,
        });
        looked.ids.sort_unstable();
        looked
    }

    fn came(&mut self, id: u64) {
        self.count += 1;
        self.last = self.last.max(id);
        if self.ids.len() < ROWS_MAX {
            self.ids.push(id);
        }
    }

    fn unreadable(&self) -> Option<String> {
        self.without.then(|| "a message has no id that is an integer of 1 or more".to_owned())
    }

    /// What must not be, if anything, where the last one before was `last`.
    fn told(&self, last: u64, delivered: Option<u64>) -> Option<String> {
        if self.is_replaced {
            return Some("the table was dropped, replaced or altered".to_owned());
        }
        if self.is_rewritten {
            return Some("a message was changed or deleted; they are only ever inserted".to_owned());
        }
        if let Some(told) = self.unreadable() {
            return Some(told);
        }
        if self.count > self.ids.len() as u64 {
            return Some(format!("more than {ROWS_MAX} messages come in one commit"));
        }
        for (expected, found) in (last + 1..).zip(&self.ids) {
            if expected != *found {
                return Some(format!(
                    "messages come in order, each once. expected=`{expected}` found=`{found}`"
                ));
            }
        }
        delivered.filter(|delivered| self.last > *delivered).map(|delivered| {
            format!(
                "a message is acknowledged that was not delivered. delivered=`{delivered}` found=`{}`",
                self.last
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn looked(ids: &[u64]) -> Looked {
        let mut looked = Looked::default();
        ids.iter().for_each(|id| looked.came(*id));
        looked
    }

    #[test]
    fn messages_come_in_order_each_once_and_are_never_rewritten() {
        assert_eq!(looked(&[]).told(0, None), None);
        assert_eq!(looked(&[1, 2, 3]).told(0, None), None);
        assert_eq!(looked(&[4]).told(3, Some(4)), None);
        assert!(looked(&[5]).told(3, None).unwrap().contains("expected=`4` found=`5`"));
        assert!(looked(&[3]).told(3, None).is_some(), "it was there");
        assert!(looked(&[4, 4]).told(3, None).is_some());
        assert!(looked(&[4]).told(3, Some(3)).unwrap().contains("not delivered"));
        assert!(Looked { is_rewritten: true, ..looked(&[]) }.told(3, None).is_some());
        assert!(Looked { is_replaced: true, ..looked(&[]) }.told(3, None).is_some());
        assert!(Looked { without: true, ..looked(&[4]) }.told(3, None).is_some());
    }

    #[test]
    fn a_commit_of_more_than_are_looked_at_is_told_and_what_it_came_to_is_known() {
        let ids: Vec<u64> = (1..=ROWS_MAX as u64 + 1).collect();
        assert_eq!(looked(&ids[..ROWS_MAX]).told(0, None), None);
        let looked = looked(&ids);
        assert!(looked.told(0, None).unwrap().contains("more than 100000"));
        assert_eq!(looked.unreadable(), None, "whoever looks at all there is, is told of none");
        assert_eq!((looked.last, looked.count), (100_001, 100_001));
    }

    #[test]
    fn what_commits_acknowledged_is_counted_beside_what_stands_there() {
        let mut messages = Messages { inbound: 3, delivered: 4, ..Messages::default() };
        messages.count(Some(2));
        assert_eq!(messages.consumed(), Some(2));
        messages.count(Some(1));
        messages.count(None);
        messages.count(Some(-5));
        assert_eq!(messages.consumed(), Some(2));
        messages.lose_count();
        assert_eq!(messages.consumed(), None);
        messages.count(Some(3));
        assert_eq!(messages.consumed(), None, "a higher one may have come while nobody looked");
        messages.count(Some(4));
        assert_eq!(messages.consumed(), Some(4));
        let mut none = Messages::default();
        none.lose_count();
        assert_eq!(none.consumed(), Some(0), "there is nothing that anybody could have acknowledged");
    }

    #[test]
    fn what_was_acknowledged_once_may_be_claimed_though_fewer_rows_stand_there() {
        let mut messages = Messages { inbound: 3, delivered: 10, ..Messages::default() };
        messages.lose_count();
        assert_eq!(messages.acknowledged().at_most(), 3, "what stands there may all be acknowledged");
        messages.believe(9);
        assert_eq!(messages.acknowledged().at_most(), 9, "an application went back behind what it was");
        messages.count(Some(4));
        assert_eq!(messages.consumed(), None, "it was acknowledged before");
        messages.count(Some(10));
        assert_eq!((messages.consumed(), messages.acknowledged().at_most()), (Some(10), 10));
        let mut counted = Messages { consumed: Some(7), delivered: 9, ..Messages::default() };
        counted.lose_count();
        assert_eq!(counted.acknowledged().at_most(), 7, "it was seen");
    }

    #[test]
    fn how_far_they_have_come_is_kept() {
        let sqlite = Connection::open_in_memory().unwrap();
        Messages::create(&sqlite).unwrap();
        assert_eq!(Messages::read(&sqlite, 7).unwrap(), None);
        let mut messages =
            Messages { outbound: 5, inbound: 3, consumed: Some(2), believed: 1, delivered: 7, marked: None };
        messages.write(&sqlite).unwrap();
        assert_eq!(Messages::read(&sqlite, 7).unwrap(), Some(messages));
        messages.lose_count();
        messages.write(&sqlite).unwrap();
        assert_eq!(Messages::read(&sqlite, 7).unwrap(), Some(messages));
        let asked = Sequence::new(4).ok();
        messages.mark(asked, Sequence::new(4).unwrap());
        messages.outbound = 6;
        let marked = Extent { outbound: 6, inbound: 3, consumed: 3 };
        assert_eq!(messages.at_mark(), marked);
        messages.mark(asked, Sequence::new(5).unwrap());
        messages.outbound = 9;
        messages.mark(asked, Sequence::new(6).unwrap());
        messages.write(&sqlite).unwrap();
        let mut read = Messages::read(&sqlite, 7).unwrap().unwrap();
        assert_eq!((read, read.at_mark()), (messages, marked));
        read.believe(50);
        Messages::had_come(&sqlite, Extent { outbound: 7, inbound: 8, consumed: 6 }).unwrap();
        read.write(&sqlite).unwrap();
        read.raise(&sqlite).unwrap();
        assert_eq!((read.outbound, read.inbound), (9, 8));
        assert_eq!(read.believed, 6, "what was checked counts, and no more what was believed before");
    }
}
