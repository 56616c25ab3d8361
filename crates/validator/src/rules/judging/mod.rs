//! Every commit is shown to every rule, and what they find is written down.

mod begin;
mod replace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use synddb_protocol::id::{Epoch, InboundNonce, IncarnationCounter, Sequence, Timestamp};
use synddb_protocol::log::VerifiedMessage;
use synddb_protocol::submission::Submission;
use synddb_sqlite::apply::ApplyError;
use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::query::Cell;
use synddb_sqlite::rules::{CommitView, Finding, Judge, Meaning, Rules, Why as FindingWhy, difference};
use synddb_sqlite::rusqlite;
use synddb_sqlite::value::OwnedValue;
use tracing::warn;

pub(crate) use self::replace::{Carried, Replaced, keep};
use super::known::Known;
use super::messages::{Acknowledged, Came, Messages};
use super::outbound::{self, Looked};
use super::violations::{self, How, Kept, Offending, Resolved, Violation, Why};
use super::{INCARNATION_RULE, JUDGED_RULE, NotKept, OUTBOUND_RULE, Rulebook, known, resolution};
use crate::query::written;

/// Rows of a rule in Rust that are kept.
const ROWS_MAX: usize = 16;
/// Violations that were only counted, and are kept for a snapshot that takes the place of the state that they were counted in.
const COUNTED_MAX: usize = 1024;
/// Longest detail, in characters.
const DETAIL_CHARS_MAX: usize = 1000;

/// Where what is judged stands in the log.
#[derive(Debug, Clone, Copy)]
struct Place {
    sequence: Sequence,
    epoch: Epoch,
    timestamp: Timestamp,
    incarnation: IncarnationCounter,
}

/// The rules over one file.
pub(crate) struct Judging {
    rulebook: Rulebook,
    sql: Rules,
    messages: Messages,
    /// The message that this file began with: what is known of outbound messages from there on is in no other file.
    since: Sequence,
    replica: PathBuf,
    place: Place,
    came: Came,
    /// What was found and is not written down.
    new: Vec<Violation>,
    /// What was found since somebody asked last.
    found: Vec<Violation>,
    /// What was only counted since then: there are enough open ones of its rule.
    counted: Vec<Violation>,
    /// Violations that are open.
    open: u64,
}

impl Judging {
    fn over(
        rulebook: &Rulebook,
        connection: &Connection,
        place: Place,
        delivered: u64,
        replica: &Path,
    ) -> rusqlite::Result<Self> {
        let file = connection.sqlite();
        violations::create(file)?;
        Messages::create(file)?;
        outbound::create(file)?;
        known::create(file)?;
        let mut messages = Messages::default();
        messages.delivered(delivered);
        Ok(Self {
            rulebook: rulebook.clone(),
            sql: Rules::new(rulebook.texts.to_vec(), rulebook.bounds),
            messages: Messages::read(file, delivered)?.unwrap_or(messages),
            since: place.sequence,
            replica: replica.to_owned(),
            place,
            came: Came::Commit,
            new: Vec::new(),
            found: Vec::new(),
            counted: Vec::new(),
            open: violations::open(file)?,
        })
    }

    /// Finds that the incarnation is not admitted, once for each, whatever brought it.
    fn admit(&mut self, connection: &Connection) -> Result<(), ApplyError> {
        let incarnation = self.place.incarnation;
        if self.rulebook.admits(incarnation)
            || violations::knows(connection.sqlite(), INCARNATION_RULE, incarnation).map_err(sqlite)?
        {
            return Ok(());
        }
        let detail = format!(
            "the application began incarnation {incarnation}; look why, and admit it by `endorse.incarnation_max`, or resolve this"
        );
        self.find(INCARNATION_RULE, Why::Incarnation, &detail, Offending::default());
        Ok(())
    }

    /// Finds that from a message on nobody judged.
    fn find_unjudged_from(&mut self, sequence: Sequence, detail: &str) {
        let place = self.place;
        self.place.sequence = sequence;
        self.find(JUDGED_RULE, Why::Unevaluated, detail, Offending::default());
        self.place = place;
    }

    /// Everything up to a message is judged: written with the position, in its transaction.
    pub(crate) fn note_judged(&self, connection: &Connection, through: Sequence) -> Result<(), SqliteError> {
        known::write_judged(connection.sqlite(), through)?;
        Ok(())
    }

    /// The tables that somebody looks at.
    pub(crate) fn tables(&self) -> BTreeSet<String> {
        self.rulebook.tables()
    }

    /// What rules that say what they said meant.
    fn meant_by(&self, known: &BTreeMap<String, Known>) -> BTreeMap<String, Meaning> {
        let texts = self.rulebook.texts.iter();
        let meant = texts.filter_map(|text| {
            let known = known.get(&text.name).filter(|known| known.said == known::said_by(text))?;
            Some((text.name.clone(), known.meaning.clone()?))
        });
        meant.collect()
    }

    /// Shows rules all rows in which two states differ, or all rows there are.
    fn look_at_all(
        &mut self,
        before: Option<&Connection>,
        after: &Connection,
        tables: BTreeSet<String>,
    ) -> Result<(), ApplyError> {
        self.sql.set_bounds(self.rulebook.bounds_of_all);
        let folder = self.replica.parent().map(Path::to_owned).unwrap_or_default();
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        let never = AtomicBool::new(false);
        let compared = difference(before, after, tables, &folder, &never, self);
        self.sql.set_bounds(self.rulebook.bounds);
        compared
    }

    /// What is judged from here on comes with this message.
    pub(crate) fn begin_message(&mut self, message: &VerifiedMessage, submission: &Submission) {
        let header = message.header();
        self.place = Place {
            sequence: header.sequence,
            epoch: header.epoch,
            timestamp: header.timestamp,
            incarnation: submission.incarnation.counter,
        };
        self.messages.mark(self.rulebook.mark, header.sequence);
    }

    /// An inbound message came.
    pub(crate) const fn delivered(&mut self, nonce: InboundNonce) {
        self.messages.delivered(nonce.get());
    }

    /// Writes down what was found, in the transaction that applies it.
    pub(crate) fn write(&mut self, connection: &Connection) -> Result<(), SqliteError> {
        for violation in std::mem::take(&mut self.new) {
            if violations::add(connection.sqlite(), &violation)? {
                self.open += 1;
                self.found.push(violation);
            } else if self.counted.len() < COUNTED_MAX {
                self.counted.push(violation);
            }
        }
        if self.sql.take_is_meant_anew() {
            known::write_meant(connection.sqlite(), self.sql.meant())?;
        }
        self.messages.write(connection.sqlite())?;
        Ok(())
    }

    /// Reads again what whoever checked the log before has written down: violations, and how far messages had come.
    pub(crate) fn read_again(&mut self, connection: &Connection) -> Result<(), SqliteError> {
        self.open = violations::open(connection.sqlite())?;
        self.messages.raise(connection.sqlite())?;
        Ok(())
    }

    /// What the application has acknowledged of inbound messages.
    pub(crate) const fn acknowledged(&self) -> Acknowledged {
        self.messages.acknowledged()
    }

    /// How many violations are open.
    pub(crate) const fn open(&self) -> u64 {
        self.open
    }

    /// What was seen, for what takes the place of this state before it is committed. Of outbound messages only where the file `goes`: from one that stays they are
    /// copied, however many there are.
    pub(crate) fn carry(&mut self, goes: Option<&Connection>) -> Result<Carried, SqliteError> {
        let (counted, meant) = (std::mem::take(&mut self.counted), self.sql.meant().clone());
        let outbound = goes.map(|file| outbound::since(file.sqlite(), self.since)).transpose()?;
        let outbound = outbound.unwrap_or_default();
        Ok(Carried { found: self.take_found(), counted, messages: self.messages, outbound, meant })
    }

    /// What was found since this was asked last.
    pub(crate) fn take_found(&mut self) -> Vec<Violation> {
        self.counted.clear();
        std::mem::take(&mut self.found)
    }

    /// This was found as well, and nobody was told.
    pub(crate) fn has_found(&mut self, found: Vec<Violation>) {
        self.found.extend(found);
    }

    /// Takes in what somebody decided, in a transaction of its own.
    pub(crate) fn resolve(&mut self, connection: &Connection) -> Result<Vec<Kept>, SqliteError> {
        let left = resolution::left(&self.replica);
        if left.is_empty() {
            return Ok(Vec::new());
        }
        let mut resolved = Vec::new();
        // The file that said so goes away behind this: it has to be on the disk by then.
        connection.execute("PRAGMA synchronous = FULL; BEGIN IMMEDIATE")?;
        let written = left.iter().try_for_each(|(_, resolution)| {
            let by = Resolved { at: resolution.at, how: How::Resolved, because: resolution.because.clone() };
            let taken = violations::resolve_seen(connection.sqlite(), resolution.id, &resolution.seen, &by)?;
            if taken.is_none() {
                let (id, rule) = (resolution.id, &resolution.seen.rule);
                warn!(
                    id,
                    rule,
                    "a resolution is passed: the violation is resolved, or another one than was looked at"
                );
            }
            resolved.extend(taken);
            Ok::<(), rusqlite::Error>(())
        });
        let ended = connection.execute(if written.is_ok() { "COMMIT" } else { "ROLLBACK" });
        connection.execute("PRAGMA synchronous = NORMAL")?;
        ended?;
        written?;
        self.open = violations::open(connection.sqlite())?;
        left.iter().for_each(|(file, _)| resolution::taken(file));
        Ok(resolved)
    }

    fn find(&mut self, rule: &str, why: Why, detail: &str, offending: Offending) {
        let Place { sequence, epoch, timestamp, incarnation } = self.place;
        let detail = detail.chars().take(DETAIL_CHARS_MAX).collect();
        // So many have a row of their own; of those behind, only that they are counts.
        let before = self.new.iter().filter(|violation| violation.rule == rule).count();
        let offending = if before < violations::OPEN_MAX { offending } else { Offending::default() };
        let (rule, commit) = (rule.to_owned(), None);
        self.new.push(Violation {
            rule,
            sequence,
            epoch,
            timestamp,
            incarnation,
            commit,
            why,
            detail,
            offending,
        });
    }
}

impl Judge for Judging {
    fn commit(&mut self, view: &CommitView<'_>, replica: &Connection) -> Result<(), ApplyError> {
        let first = self.new.len();
        for Finding { rule, why, columns, rows, more } in self.sql.check(view)? {
            let (why, detail) = match why {
                FindingWhy::Rows => {
                    let (more, s) =
                        (if more { "more than " } else { "" }, if rows.len() == 1 { "" } else { "s" });
                    (Why::Rows, format!("{more}{} row{s}", rows.len()))
                }
                FindingWhy::Unevaluated(detail) => (Why::Unevaluated, detail),
                FindingWhy::TooManySteps => {
                    (Why::TookTooLong, "it took more instructions than `rule_steps_max`".to_owned())
                }
                FindingWhy::TookTooLong => {
                    (Why::TookTooLong, "it took longer than this machine gives it".to_owned())
                }
            };
            let rows = rows.into_iter().map(|row| row.into_iter().map(written).collect()).collect();
            self.find(&rule, why, &detail, Offending { columns, rows, more });
        }
        let rules = self.rulebook.rules.clone();
        for rule in rules.iter() {
            if !rule.tables().iter().any(|table| view.table(table).is_some()) {
                continue;
            }
            if let Err(NotKept { detail, columns, rows }) = rule.check(view) {
                let more = rows.len() > ROWS_MAX;
                let row = |row: &Vec<OwnedValue>| {
                    row.iter().map(|value| written(Cell::of(value.borrow(), view.encoding()))).collect()
                };
                let rows = rows.iter().take(ROWS_MAX).map(row).collect();
                self.find(rule.name(), Why::Rows, &detail, Offending { columns, rows, more });
            }
        }
        let found = self.messages.check(view, self.came);
        let told = found.iter().find(|(rule, _)| *rule == OUTBOUND_RULE).map(|(_, told)| told.as_str());
        let looked = Looked {
            came: self.came,
            at: self.place.sequence,
            told,
            inbox_consumed: self.messages.consumed(),
        };
        outbound::look(replica.sqlite(), view, &looked).map_err(sqlite)?;
        for (rule, detail) in found {
            self.find(rule, Why::Messages, &detail, Offending::default());
        }
        for violation in &mut self.new[first..] {
            violation.commit = view.number();
        }
        Ok(())
    }
}

fn sqlite(error: rusqlite::Error) -> ApplyError {
    SqliteError::from(error).into()
}
