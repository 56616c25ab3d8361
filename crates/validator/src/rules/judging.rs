//! Every commit is shown to every rule, and what they find is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use synddb_protocol::id::{Epoch, InboundNonce, IncarnationCounter, Sequence, Timestamp};
use synddb_protocol::log::{TrustedCheckpoint, VerifiedMessage};
use synddb_protocol::submission::{Snapshot, Submission};
use synddb_sqlite::apply::ApplyError;
use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::query::Cell;
use synddb_sqlite::rules::{CommitView, Finding, Judge, Meaning, RuleText, Rules, Why as Found, difference};
use synddb_sqlite::rusqlite::{self, OptionalExtension as _};
use synddb_sqlite::value::OwnedValue;
use tracing::{info, warn};

use super::known::Known;
use super::messages::{Came, Messages};
use super::violations::{self, How, Kept, Offending, Resolved, Violation, Why};
use super::{INCARNATION_RULE, JUDGED_RULE, NotKept, Rulebook, known, resolution};
use crate::query::written;
use crate::replica::Started;

/// Rows of a rule in Rust that are kept.
const ROWS_MAX: usize = 16;
/// Violations that were only counted, and are kept for a snapshot that takes the place of the state that they were counted in.
const COUNTED_MAX: usize = 1024;
/// Up to which message every commit was judged.
const JUDGED: &str = "CREATE TABLE IF NOT EXISTS main._synddb_judged(one INTEGER PRIMARY KEY CHECK (one = 1), sequence INTEGER NOT NULL)";
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

/// What was seen of a state that another one takes the place of.
pub(crate) struct Carried {
    found: Vec<Violation>,
    counted: Vec<Violation>,
    messages: Messages,
    meant: BTreeMap<String, Meaning>,
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

/// The rules over one file.
pub(crate) struct Judging {
    rulebook: Rulebook,
    sql: Rules,
    messages: Messages,
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
    /// Over a replica that stands at a checkpoint. Looks at all rows where a rule is new, and resolves what is open of rules that are gone.
    pub(crate) fn begin(
        rulebook: &Rulebook,
        connection: &Connection,
        checkpoint: &TrustedCheckpoint,
        replica: &Path,
    ) -> Result<Self, ApplyError> {
        let claim = checkpoint.claim();
        let incarnation =
            claim.client.as_ref().map_or(IncarnationCounter::FIRST, |client| client.incarnation.counter);
        let place =
            Place { sequence: claim.size, epoch: claim.epoch, timestamp: claim.timestamp, incarnation };
        let delivered = claim.inbound.map_or(0, |inbound| inbound.delivered());
        let mut judging = Self::over(rulebook, connection, place, delivered, replica).map_err(sqlite)?;
        connection.execute("BEGIN IMMEDIATE")?;
        let looked = judging.catch_up(connection);
        connection.execute(if looked.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        looked?;
        Ok(judging)
    }

    /// Over a snapshot that is to take the place of a replica, or that is the first one.
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
        let Replaced { live, staged, unread, gap, delivered } = replaced;
        let mut judging = Self::over(rulebook, after, place, delivered, replica).map_err(sqlite)?;
        let (before, seen) = live.map_or((None, None), |(before, seen)| (Some(before), seen));
        if let Some(file) = before.or(unread) {
            violations::copy(file.sqlite(), after.sqlite()).map_err(sqlite)?;
        }
        judging.came = if seen.is_some() || staged.is_some() { Came::Snapshot } else { Came::First };
        match (staged, seen) {
            (Some(seen), _) => {
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
                    let kept = Messages::read_any(file, delivered).map_err(sqlite)?;
                    judging.messages = kept.unwrap_or(judging.messages);
                    if known::is_judged(file).map_err(sqlite)? {
                        let meant = judging.meant_by(&known::read(file).map_err(sqlite)?);
                        judging.sql.mean(meant);
                    }
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
        known::write(after.sqlite(), rulebook, judging.sql.meant()).map_err(sqlite)?;
        judging.write(after)?;
        judging.note_judged(after, place.sequence)?;
        judging.open = violations::open(after.sqlite()).map_err(sqlite)?;
        Ok(judging)
    }

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
        known::create(file)?;
        file.execute_batch(JUDGED)?;
        let mut messages = Messages::default();
        messages.delivered(delivered);
        Ok(Self {
            rulebook: rulebook.clone(),
            sql: Rules::new(rulebook.texts.to_vec(), rulebook.bounds),
            messages: Messages::read(file, delivered)?.unwrap_or(messages),
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

    /// Finds what was applied while nobody judged. Returns whether there is any.
    fn find_unjudged(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let file = connection.sqlite();
        let judged = match read_judged(file)? {
            Some(judged) => Some(judged),
            // What was before the snapshot that it began with is judged by whoever checks that.
            None => Started::read(file)?.map(|started| started.checkpoint.claim().size),
        };
        let (place, through) = (self.place, self.place.sequence);
        if judged == Some(through) {
            return Ok(false);
        }
        let first = judged.map_or(Some(Sequence::FIRST), Sequence::next).unwrap_or(through).min(through);
        self.place.sequence = first;
        let detail = format!(
            "messages {first} to {through} were applied by a run that had no rules, and nobody judged them one by one; `synddb validator resync` does, or resolve this"
        );
        self.find(JUDGED_RULE, Why::Unevaluated, &detail, Offending::default());
        self.place = place;
        Ok(true)
    }

    /// Finds that messages were left out, and what they did was judged by nobody.
    fn find_left_out(&mut self, from: Sequence, is_known: bool) {
        let place = self.place;
        self.place.sequence = from;
        let detail = format!(
            "somebody went on after a divergence, so what messages {from} to {} did was judged by nobody{}; look what the snapshot behind them changed, or resolve this",
            place.sequence,
            if is_known { "" } else { ", and what was violated before is not known any more" }
        );
        self.find(JUDGED_RULE, Why::Unevaluated, &detail, Offending::default());
        self.place = place;
    }

    /// Everything up to a message is judged: written with the position, in its transaction.
    pub(crate) fn note_judged(&self, connection: &Connection, through: Sequence) -> Result<(), SqliteError> {
        let sql = "INSERT OR REPLACE INTO main._synddb_judged(one, sequence) VALUES(1, ?1)";
        connection.sqlite().prepare_cached(sql)?.execute([through.get().cast_signed()])?;
        Ok(())
    }

    /// The tables that somebody looks at.
    pub(crate) fn tables(&self) -> BTreeSet<String> {
        self.rulebook.tables()
    }

    /// Resolves what is open of rules that are gone, and of incarnations that are admitted by now. Says how many.
    fn resolve_gone(&self, file: &rusqlite::Connection) -> rusqlite::Result<usize> {
        let mut count = 0;
        for kept in violations::read(file)? {
            let Violation { rule, incarnation, .. } = &kept.violation;
            let how = if kept.resolved.is_some() {
                continue;
            } else if !self.rulebook.has(rule) {
                How::RuleRemoved
            } else if rule == INCARNATION_RULE && self.rulebook.admits(*incarnation) {
                How::Admitted
            } else {
                continue;
            };
            let because = match how {
                How::Admitted => "the configuration admits the incarnation",
                How::RuleRemoved | How::Resolved => "there is no such rule any more",
            };
            let resolved = Resolved { at: now(), how, because: because.to_owned() };
            violations::resolve(file, kept.id, &resolved)?;
            info!(id = kept.id, rule, because, "a violation is resolved");
            count += 1;
        }
        Ok(count)
    }

    /// What changed with the rules since the replica was kept last.
    fn catch_up(&mut self, connection: &Connection) -> Result<(), ApplyError> {
        let file = connection.sqlite();
        // So many are read at a time.
        while self.resolve_gone(file).map_err(sqlite)? > 0 {}
        self.admit(connection)?;
        let mut known = known::read(file).map_err(sqlite)?;
        self.sql.mean(self.meant_by(&known));
        if self.find_unjudged(connection).map_err(sqlite)? {
            // What all rows show of it is found at least.
            known.clear();
        }
        let steps = self.rulebook.bounds.steps;
        let is_known = |text: &RuleText| {
            known
                .get(&text.name)
                .is_some_and(|known| known.said == known::said_by(text) && known.steps == steps)
        };
        let texts: Vec<RuleText> =
            self.rulebook.texts.iter().filter(|text| !is_known(text)).cloned().collect();
        let watched_first = known.is_empty();
        let is_beginning = read_judged(file).map_err(sqlite)?.is_none();
        if !texts.is_empty() || watched_first {
            // Only what is new is asked; what others found of these rows is known.
            let all =
                std::mem::replace(&mut self.sql, Rules::new(texts.clone(), self.rulebook.bounds_of_all));
            let rules = self.rulebook.rules.clone();
            if !watched_first {
                self.rulebook.rules =
                    rules.iter().filter(|rule| !known.contains_key(rule.name())).cloned().collect();
            }
            let tables = self.rulebook.tables();
            self.came = Came::First;
            let looked = self.look_at_all(None, connection, tables);
            (self.sql, self.came, self.rulebook.rules) = (all, Came::Commit, rules);
            looked?;
        }
        if is_beginning {
            self.messages.note_beginning();
        }
        // Whoever applied what nobody judged may have changed what they mean.
        self.sql.problems(connection)?;
        for Finding { rule, why, .. } in self.sql.take_turned() {
            if let Found::Unevaluated(detail) = why {
                self.find(&rule, Why::Unevaluated, &detail, Offending::default());
            }
        }
        known::write(file, &self.rulebook, self.sql.meant()).map_err(sqlite)?;
        self.write(connection)?;
        self.note_judged(connection, self.place.sequence)?;
        self.open = violations::open(file).map_err(sqlite)?;
        Ok(())
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

    /// How many violations are open.
    pub(crate) const fn open(&self) -> u64 {
        self.open
    }

    /// What was seen, for what takes the place of this state before it is committed.
    pub(crate) fn carry(&mut self) -> Carried {
        let (counted, meant) = (std::mem::take(&mut self.counted), self.sql.meant().clone());
        Carried { found: self.take_found(), counted, messages: self.messages, meant }
    }

    /// What was found since this was asked last.
    pub(crate) fn take_found(&mut self) -> Vec<Violation> {
        self.counted.clear();
        std::mem::take(&mut self.found)
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
    fn commit(&mut self, view: &CommitView<'_>) -> Result<(), ApplyError> {
        let first = self.new.len();
        for Finding { rule, why, columns, rows, more } in self.sql.check(view)? {
            let (why, detail) = match why {
                Found::Rows => {
                    let (more, s) =
                        (if more { "more than " } else { "" }, if rows.len() == 1 { "" } else { "s" });
                    (Why::Rows, format!("{more}{} row{s}", rows.len()))
                }
                Found::Unevaluated(detail) => (Why::Unevaluated, detail),
                Found::TooManySteps => {
                    (Why::TookTooLong, "it took more instructions than `rule_steps_max`".to_owned())
                }
                Found::TookTooLong => {
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
        for (rule, detail) in self.messages.check(view, self.came) {
            self.find(rule, Why::Messages, &detail, Offending::default());
        }
        for violation in &mut self.new[first..] {
            violation.commit = view.number();
        }
        Ok(())
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
    Messages::create(to)?;
    if let Some(messages) = Messages::read(from, 0)? {
        messages.write(to)?;
    }
    known::create(to)?;
    known::copy(from, to)?;
    to.execute_batch(JUDGED)?;
    if let Some(judged) = read_judged(from)? {
        let sql = "INSERT OR REPLACE INTO main._synddb_judged(one, sequence) VALUES(1, ?1)";
        to.execute(sql, [judged.get().cast_signed()])?;
    }
    Ok(())
}

fn sqlite(error: rusqlite::Error) -> ApplyError {
    SqliteError::from(error).into()
}

/// The message up to which every commit was judged; `None` where nobody has judged yet.
fn read_judged(file: &rusqlite::Connection) -> rusqlite::Result<Option<Sequence>> {
    let sql = "SELECT sequence FROM main._synddb_judged WHERE one = 1";
    let read: Option<i64> = file.query_row(sql, [], |row| row.get(0)).optional()?;
    read.map(|sequence| violations::number(0, sequence, Sequence::new)).transpose()
}

/// The time by the clock of this machine, for a note to people.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or_default()).unwrap_or(Timestamp::ZERO)
}
