//! Rules begin over a replica: what changed with them since it was kept last, and what was applied meanwhile.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use synddb_protocol::id::{IncarnationCounter, Sequence, Timestamp};
use synddb_protocol::log::TrustedCheckpoint;
use synddb_sqlite::apply::ApplyError;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rules::{Finding, RuleText, Rules, Why as FindingWhy};
use synddb_sqlite::rusqlite;
use tracing::info;

use super::{Judging, Place, sqlite};
use crate::replica::Started;
use crate::rules::messages::Came;
use crate::rules::violations::{self, How, Offending, Resolved, Violation, Why};
use crate::rules::{INCARNATION_RULE, Rulebook, known};

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

    /// What changed with the rules since the replica was kept last.
    fn catch_up(&mut self, connection: &Connection) -> Result<(), ApplyError> {
        let file = connection.sqlite();
        // So many are read at a time.
        while self.resolve_gone(file).map_err(sqlite)? > 0 {}
        self.admit(connection)?;
        let mut known = known::read(file).map_err(sqlite)?;
        self.sql.mean(self.meant_by(&known));
        let is_unjudged = self.find_unjudged(connection).map_err(sqlite)?;
        if is_unjudged {
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
        let is_beginning = known::judged(file).map_err(sqlite)?.is_none();
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
        if is_unjudged || is_beginning {
            self.messages.lose_count();
        }
        if is_beginning {
            if let Some(started) = Started::read(file).map_err(sqlite)? {
                self.messages.believe(started.checkpoint.claim().inbox_consumed);
            }
            self.messages.note_beginning();
        }
        // Whoever applied what nobody judged may have changed what they mean.
        self.sql.problems(connection)?;
        for Finding { rule, why, .. } in self.sql.take_turned() {
            if let FindingWhy::Unevaluated(detail) = why {
                self.find(&rule, Why::Unevaluated, &detail, Offending::default());
            }
        }
        known::write(file, &self.rulebook, self.sql.meant()).map_err(sqlite)?;
        self.write(connection)?;
        self.note_judged(connection, self.place.sequence)?;
        self.open = violations::open(file).map_err(sqlite)?;
        Ok(())
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

    /// Finds what was applied while nobody judged. Returns whether there is any.
    fn find_unjudged(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let file = connection.sqlite();
        let judged = match known::judged(file)? {
            Some(judged) => Some(judged),
            // What was before the snapshot that it began with is judged by whoever checks that.
            None => Started::read(file)?.map(|started| started.checkpoint.claim().size),
        };
        let through = self.place.sequence;
        if judged == Some(through) {
            return Ok(false);
        }
        let first = judged.map_or(Some(Sequence::FIRST), Sequence::next).unwrap_or(through).min(through);
        let detail = format!(
            "messages {first} to {through} were applied by a run that had no rules, and nobody judged them one by one; `synddb validator resync` does, or resolve this"
        );
        self.find_unjudged_from(first, &detail);
        Ok(true)
    }
}

/// The time by the clock of this machine, for a note to people.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or_default()).unwrap_or(Timestamp::ZERO)
}
