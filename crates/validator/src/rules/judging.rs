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
use synddb_sqlite::rules::{CommitView, Finding, Judge, Meant, RuleText, Rules, Why as Found, difference};
use synddb_sqlite::rusqlite::{self, OptionalExtension as _, params};
use synddb_sqlite::value::OwnedValue;
use tracing::{info, warn};

use super::messages::{Came, Messages};
use super::violations::{self, How, Kept, Offending, Resolved, Violation, Why};
use super::{INCARNATION_RULE, JUDGED_RULE, NotKept, Rulebook, resolution};
use crate::query::written;

/// Rows of a rule in Rust that are kept.
const ROWS_MAX: usize = 16;
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

/// What was seen of a state that another one replaces before it was ever committed.
pub(crate) struct Carried {
    found: Vec<Violation>,
    messages: Messages,
    meant: Meant,
}

/// What a snapshot takes the place of.
pub(crate) struct Replaced<'r> {
    /// The state that is committed, where there is one that can be read.
    pub(crate) before: Option<&'r Connection>,
    /// What was seen of it, and of what follows it in the batch of the snapshot, if anybody looked.
    pub(crate) carried: Option<Carried>,
    /// The first message that was left out because somebody went on after a divergence.
    pub(crate) gap: Option<Sequence>,
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
        Replaced { before, carried, gap }: Replaced<'_>,
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
        let mut judging = Self::over(rulebook, after, place, 0, replica).map_err(sqlite)?;
        if let Some(before) = before {
            violations::copy(before.sqlite(), after.sqlite()).map_err(sqlite)?;
        }
        judging.came = if carried.is_some() { Came::Snapshot } else { Came::First };
        if let Some(Carried { found, messages, meant }) = carried {
            judging.sql.mean(meant);
            // How far messages had come counts also where the commits that brought them are taken back with what is replaced.
            (judging.new, judging.messages) = (found, messages);
        }
        judging.admit(after)?;
        if let Some(from) = gap {
            judging.find_left_out(from);
        }
        judging.look_at_all(before, after, judging.rulebook.tables())?;
        judging.came = Came::Commit;
        judging.note_rules(after).map_err(sqlite)?;
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
        file.execute_batch(
            "CREATE TABLE IF NOT EXISTS main._synddb_rules(name TEXT PRIMARY KEY, said TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS main._synddb_judged(one INTEGER PRIMARY KEY CHECK (one = 1), sequence INTEGER NOT NULL)",
        )?;
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
        let Some(judged) = read_judged(connection.sqlite())?.filter(|judged| *judged != self.place.sequence)
        else {
            return Ok(false);
        };
        let (place, through) = (self.place, self.place.sequence);
        self.place.sequence = judged.next().unwrap_or(through).min(through);
        let detail = format!(
            "messages behind {judged} and up to {through} were applied by a run that had no rules, and nobody judged them one by one; `synddb validator resync` does, or resolve this"
        );
        self.find(JUDGED_RULE, Why::Unevaluated, &detail, Offending::default());
        self.place = place;
        Ok(true)
    }

    /// Finds that messages were left out, and what they did was judged by nobody.
    fn find_left_out(&mut self, from: Sequence) {
        let place = self.place;
        self.place.sequence = from;
        let detail = format!(
            "somebody went on after a divergence, so what messages {from} to {} did was judged by nobody; look what the snapshot behind them changed, or resolve this",
            place.sequence
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

    /// What changed with the rules since the replica was kept last.
    fn catch_up(&mut self, connection: &Connection) -> Result<(), ApplyError> {
        let file = connection.sqlite();
        for kept in violations::read(file).map_err(sqlite)? {
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
            violations::resolve(file, kept.id, &resolved).map_err(sqlite)?;
            info!(id = kept.id, rule, because, "a violation is resolved");
        }
        self.admit(connection)?;
        let mut known = known_rules(file).map_err(sqlite)?;
        if self.find_unjudged(connection).map_err(sqlite)? {
            // What all rows show of it is found at least.
            known.clear();
        }
        let new = |name: &str, said: String| known.get(name) != Some(&said);
        let texts: Vec<RuleText> =
            self.rulebook.texts.iter().filter(|text| new(&text.name, said_by(text))).cloned().collect();
        let watched_first = known.is_empty();
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
        // What they mean is what they read now.
        self.sql.problems(connection)?;
        self.note_rules(connection).map_err(sqlite)?;
        self.write(connection)?;
        self.note_judged(connection, self.place.sequence)?;
        self.open = violations::open(file).map_err(sqlite)?;
        Ok(())
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

    /// Which rules have seen all rows.
    fn note_rules(&self, connection: &Connection) -> rusqlite::Result<()> {
        let file = connection.sqlite();
        file.execute("DELETE FROM main._synddb_rules", [])?;
        let mut insert =
            file.prepare("INSERT OR REPLACE INTO main._synddb_rules(name, said) VALUES(?1, ?2)")?;
        for text in self.rulebook.texts.iter() {
            insert.execute(params![text.name, said_by(text)])?;
        }
        for rule in self.rulebook.rules.iter() {
            insert.execute(params![rule.name(), ""])?;
        }
        for name in super::DEFAULT_RULES {
            insert.execute(params![name, ""])?;
        }
        Ok(())
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
            }
        }
        self.messages.write(connection.sqlite())?;
        Ok(())
    }

    /// Counts again how many violations are open: somebody else may have written some down.
    pub(crate) fn recount(&mut self, connection: &Connection) -> Result<(), SqliteError> {
        self.open = violations::open(connection.sqlite())?;
        Ok(())
    }

    /// How many violations are open.
    pub(crate) const fn open(&self) -> u64 {
        self.open
    }

    /// What was seen, for what takes the place of this state before it is committed.
    pub(crate) fn carry(&mut self) -> Carried {
        Carried { found: self.take_found(), messages: self.messages, meant: self.sql.meant() }
    }

    /// What was found since this was asked last.
    pub(crate) fn take_found(&mut self) -> Vec<Violation> {
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
                    (Why::Rows, format!("{}{} rows", if more { "more than " } else { "" }, rows.len()))
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

fn sqlite(error: rusqlite::Error) -> ApplyError {
    SqliteError::from(error).into()
}

/// The rules that have seen all rows, and what each said.
fn known_rules(file: &rusqlite::Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let mut statement = file.prepare("SELECT name, said FROM main._synddb_rules")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// The message up to which every commit was judged; `None` where nobody has judged yet.
fn read_judged(file: &rusqlite::Connection) -> rusqlite::Result<Option<Sequence>> {
    let sql = "SELECT sequence FROM main._synddb_judged WHERE one = 1";
    let read: Option<i64> = file.query_row(sql, [], |row| row.get(0)).optional()?;
    read.map(|sequence| violations::number(0, sequence, Sequence::new)).transpose()
}

/// Whether rules look at a replica.
pub(crate) fn is_judged(file: &rusqlite::Connection) -> rusqlite::Result<bool> {
    let exists = "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name = '_synddb_rules'";
    file.query_row(exists, [], |row| Ok(row.get::<_, i64>(0)? > 0))
}

/// Which rule that looks at a replica is not in a book, or says something else there; `None` where each is.
pub(crate) fn lacking(rulebook: &Rulebook, file: &rusqlite::Connection) -> rusqlite::Result<Option<String>> {
    if !is_judged(file)? {
        return Ok(None);
    }
    let said = |name: &str| rulebook.texts.iter().find(|text| text.name == name).map(said_by);
    let known = known_rules(file)?.into_iter();
    let mut others = known.filter(|(name, _)| !super::DEFAULT_RULES.contains(&name.as_str()));
    Ok(others.find(|(name, text)| said(name).as_ref() != Some(text)).map(|(name, _)| name))
}

/// What a rule says.
fn said_by(text: &RuleText) -> String {
    format!("{}: {}", text.tables.join(", "), text.sql)
}

/// The time by the clock of this machine, for a note to people.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or_default()).unwrap_or(Timestamp::ZERO)
}
