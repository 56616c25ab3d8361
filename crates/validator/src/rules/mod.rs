//! Rules: what must hold after every commit. A violation stops endorsement, and never replication.
//!
//! ```text
//! commit applied --> judging/ --> SQL rules    (of a file: file.rs; evaluated by synddb_sqlite::rules)
//!                            --> Rust rules    (trait Rule, of whoever builds a validator)
//!                            --> default rules (messages.rs: outbound and inbound; incarnations)
//!                    found   --> violations.rs (in the replica's file, in the transaction that applies the message)
//!                    and     --> known.rs      (there too: which rules looked, what they read, and up to where)
//! a row of outbound messages  --> outbound.rs   (there too: what it said, for whoever signs it)
//! an inbound message          --> inbound.rs    (there too, whether or not a rule looks: what it said, for whoever compares it with the chain)
//! somebody decides            --> resolution.rs (a file beside the replica) --> resolved
//! a log before a snapshot     --> found.rs      (what rules found there, for the replica that began with it)
//! ```
//!
//! What must stay true:
//!
//! - Every commit is shown to every rule whose tables it touches, on the state that it left, and before the next commit. A snapshot is shown as the rows that differ
//!   (`tests/it/ruled/replaced.rs`). What nobody judged is a violation (`refused::what_a_run_without_rules_applied_is_endorsed_by_no_later_one`).
//! - What cannot be evaluated is a violation (`refused::a_rule_that_cannot_be_evaluated_is_violated`).
//! - A state that takes the place of another one forgets nothing (`refused::a_run_without_rules_forgets_nothing_also_over_a_snapshot`).
//! - Contents and what was found of them commit together (`refused::what_is_found_is_there_only_with_what_was_applied`).

mod file;
mod found;
mod http;
mod inbound;
mod judging;
mod known;
mod messages;
mod outbound;
mod resolution;
mod violations;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use synddb_protocol::id::{IncarnationCounter, Sequence};
use synddb_sqlite::apply::ApplyError;
use synddb_sqlite::apply::position::{self, NoPosition};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::name::beside;
use synddb_sqlite::rules::{Bounds, Judge, RuleText, difference, open};
use synddb_sqlite::value::OwnedValue;

pub use self::file::{RulesFile, RulesFileError};
pub use self::resolution::{BECAUSE_BYTES_MAX, Resolution, ResolutionError};
pub use self::violations::{How, Kept, Offending, Resolved, Seen, VIOLATIONS_MAX, Violation, Why};
pub use synddb_protocol::state::Value;
pub use synddb_sqlite::rules::{CommitView, TableChanges};

pub(crate) use self::found::Found;
pub use self::http::ServedRefusal;
pub(crate) use self::http::routes;
pub(crate) use self::inbound::{
    CameInbound, copy_inbound, digest, inbound_between, keep_inbound, oldest_inbound,
};
pub(crate) use self::judging::{Carried, Judging, Replaced, keep};
pub(crate) use self::known::{is_judged, lacking, steps_of};
pub(crate) use self::messages::Acknowledged;
pub(crate) use self::outbound::{SeenMessage, last_seen, seen};
pub(crate) use self::violations::open_in;
pub use crate::query::written;
use crate::{Config, ReplicaError, ValidatorError};

/// The default rule over the table of outbound messages.
pub const OUTBOUND_RULE: &str = "outbound messages";
/// The default rule over the table of inbound messages.
pub const INBOUND_RULE: &str = "inbound messages";
/// The default rule that an incarnation is admitted.
pub const INCARNATION_RULE: &str = "incarnation";
/// The default rule that every commit was judged.
pub const JUDGED_RULE: &str = "every commit is judged";
/// How many times the instructions for one commit a rule has for all rows there are.
const STEPS_OF_ALL: u64 = 60;
/// Names that no rule of others may have.
pub const DEFAULT_RULES: [&str; 4] = [OUTBOUND_RULE, INBOUND_RULE, INCARNATION_RULE, JUDGED_RULE];

/// A rule in Rust, of whoever builds a validator of their own ([`crate::run_with_rules`]).
///
/// It must be deterministic: what it decides follows from the commit and the state alone. Validators that decide otherwise of one commit reach no quorum.
pub trait Rule: Send + Sync {
    /// Its name, by which violations are told: as unique as the rules' in the file.
    fn name(&self) -> &str;

    /// The tables that it looks at: it is asked of commits that touch one of them, and of no others.
    fn tables(&self) -> Vec<String>;

    /// Looks at a commit that was just applied.
    ///
    /// # Errors
    /// [`NotKept`] when the rule does not hold.
    fn check(&self, commit: &CommitView<'_>) -> Result<(), NotKept>;
}

/// That a rule does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotKept {
    /// Why not, in words.
    pub detail: String,
    /// The columns of the rows that show it.
    pub columns: Vec<String>,
    /// Those rows.
    pub rows: Vec<Vec<OwnedValue>>,
}

impl NotKept {
    /// That a rule does not hold, for this reason.
    pub fn because(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..Self::default() }
    }
}

/// What one evaluation of a rule may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RuleCost {
    /// Instructions, for one commit.
    pub(crate) steps: u64,
    /// The time, for one commit.
    pub(crate) one: Duration,
    /// The time, for all rows there are.
    pub(crate) all: Duration,
}

/// All rules of one validator. Clones are the same.
#[derive(Clone)]
pub(crate) struct Rulebook {
    /// In SQL.
    texts: Arc<[RuleText]>,
    /// In Rust.
    rules: Arc<[Arc<dyn Rule>]>,
    /// What one evaluation may cost.
    bounds: Bounds,
    /// The same of all rows at once: of a snapshot, or of a rule that is new.
    bounds_of_all: Bounds,
    /// The last incarnation that is admitted; 0 for all.
    incarnation_max: u64,
    /// The message about which is asked how far messages had come by then.
    mark: Option<Sequence>,
}

impl Rulebook {
    pub(crate) fn new(
        texts: Vec<RuleText>,
        rules: Vec<Arc<dyn Rule>>,
        cost: RuleCost,
        incarnation_max: u64,
    ) -> Self {
        let RuleCost { steps, one, all } = cost;
        let bounds = Bounds { steps, time: one, ..Bounds::default() };
        let steps = steps.saturating_mul(STEPS_OF_ALL);
        let bounds_of_all = Bounds { steps, time: all.max(one), ..Bounds::default() };
        Self { texts: texts.into(), rules: rules.into(), bounds, bounds_of_all, incarnation_max, mark: None }
    }

    /// Of a file of rules, or the default rules alone, for who looks at a whole log: every incarnation is admitted there.
    pub(crate) fn of_file(file: Option<&Path>) -> Result<Self, RulesFileError> {
        let texts = file.map(RulesFile::read).transpose()?.unwrap_or_default().rules;
        let config = Config::default();
        let (one, all) =
            (Duration::from_millis(config.rule_ms_max), Duration::from_millis(config.scan_ms_max));
        Ok(Self::new(texts, Vec::new(), RuleCost { steps: config.rule_steps_max, one, all }, 0))
    }

    /// The same, as costly as they may be elsewhere, and with a note how far messages had come by this message.
    pub(crate) const fn looking(mut self, steps: u64, mark: Sequence) -> Self {
        self.bounds.steps = steps;
        self.bounds_of_all.steps = steps.saturating_mul(STEPS_OF_ALL);
        self.mark = Some(mark);
        self
    }

    /// Whether an incarnation is admitted.
    const fn admits(&self, incarnation: IncarnationCounter) -> bool {
        self.incarnation_max == 0 || incarnation.get() <= self.incarnation_max
    }

    /// Whether there is a rule of this name.
    fn has(&self, name: &str) -> bool {
        DEFAULT_RULES.contains(&name)
            || self.texts.iter().any(|text| text.name == name)
            || self.rules.iter().any(|rule| rule.name() == name)
    }

    /// The tables that anybody looks at.
    fn tables(&self) -> BTreeSet<String> {
        let of_texts = self.texts.iter().flat_map(|text| text.tables.iter().cloned());
        let of_rules = self.rules.iter().flat_map(|rule| rule.tables());
        of_texts.chain(of_rules).chain(messages::TABLES.map(str::to_owned)).collect()
    }
}

impl fmt::Debug for Rulebook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<&str> = self.rules.iter().map(|rule| rule.name()).collect();
        f.debug_struct("Rulebook").field("texts", &self.texts).field("rules", &rules).finish_non_exhaustive()
    }
}

/// What a replica has of violations, also of one that a running process keeps: the open ones first, at most [`VIOLATIONS_MAX`].
///
/// # Errors
/// [`ValidatorError`] when the file is no replica, or cannot be read.
pub fn violations_of(replica: &Path) -> Result<Vec<Kept>, ValidatorError> {
    let file = || replica.to_owned();
    let unread = |source| ReplicaError::Sqlite { doing: "read", file: file(), source };
    let connection = Connection::open_to_read(replica).map_err(unread)?;
    if let Err(NoPosition::None) = position::read(connection.sqlite()) {
        return Err(ReplicaError::NotOurs { file: file() }.into());
    }
    Ok(violations::read(connection.sqlite()).map_err(|error| unread(error.into()))?)
}

/// Whether a process keeps the replica of this name.
pub fn is_kept(replica: &Path) -> bool {
    let Ok(lock) = File::open(beside(replica, ".lock")) else { return false };
    matches!(synddb_sqlite::lock::take(&lock), Err(TryLockError::WouldBlock))
}

/// Tries a rule in Rust on what makes one database of another, or on all rows of one: for tests of rules.
///
/// # Errors
/// [`ApplyError`] when a database cannot be read.
pub fn try_rule(
    rule: &dyn Rule,
    before: Option<&Path>,
    after: &Path,
) -> Result<Result<(), NotKept>, ApplyError> {
    struct Trying<'r>(&'r dyn Rule, Result<(), NotKept>);
    impl Judge for Trying<'_> {
        fn commit(&mut self, commit: &CommitView<'_>, _: &Connection) -> Result<(), ApplyError> {
            if self.0.tables().iter().any(|table| commit.table(table).is_some()) {
                self.1 = self.0.check(commit);
            }
            Ok(())
        }
    }
    let before = before.map(open).transpose()?;
    let after = open(after)?;
    let watched = rule.tables().into_iter().collect();
    let mut trying = Trying(rule, Ok(()));
    let (folder, never) = (std::env::temp_dir(), AtomicBool::new(false));
    difference(before.as_ref(), &after, watched, &folder, &never, &mut trying)?;
    Ok(trying.1)
}
