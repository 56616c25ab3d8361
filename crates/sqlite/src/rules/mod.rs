//! Rules in SQL over what each commit changed.
//!
//! ```text
//! apply/rows.rs --rows that came and went--> gathered.rs (watched tables only; spilled when they are many)
//!                                                |
//!   judge.rs: after each commit                  +--> view.rs: changed_T, removed_T, before_T, as tables that SQLite reads
//!        +--> sql.rs: the rules, compiled once for a schema, stepped for each commit that touches their tables
//!               guard.rs: what they may do and cost; words.rs: what SQLite tells nobody of a query
//! ```
//!
//! What must stay true:
//!
//! - A rule sees the state that the commit left, what of it is new, and what was there before. Nothing that it says comes from anywhere else: no clock, no
//!   chance, no view of the application's, no table of ours.
//! - What cannot be evaluated is a finding. A table of the application's with the name of one of these views hides nothing: the rule cannot be evaluated then.
//! - Where nothing is watched nothing is gathered.
//!
//! Knows nothing of what becomes of a finding.

mod difference;
pub(crate) mod gathered;
mod guard;
mod judge;
mod over;
mod sql;
mod view;
mod words;

use std::time::Duration;

pub use difference::difference;
pub(crate) use difference::{failed as unread, push, spool as spool_failed};
pub(crate) use judge::What;
pub use judge::{CommitView, Judge, TableChanges};
pub use over::open;
pub use sql::{Meaning, RuleProblem, Rules};

use crate::query::Cell;

/// A rule: a query of which every row is a violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleText {
    /// Its name.
    pub name: String,
    /// The tables whose changes have it evaluated.
    pub tables: Vec<String>,
    /// The query.
    pub sql: String,
}

/// What one evaluation of a rule may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Instructions of SQLite's machine, looked at behind each thousand. Every validator counts the same of one commit and one rule.
    pub steps: u64,
    /// The time, for what a machine is slow at though the instructions are few. Only this one depends on the machine: it is to be far behind the other.
    pub time: Duration,
    /// Rows of an answer that are kept.
    pub rows: usize,
    /// Bytes of an answer that are kept.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { steps: 100_000_000, time: Duration::from_secs(30), rows: 16, bytes: 16 << 10 }
    }
}

/// That a rule does not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The rule.
    pub rule: String,
    /// Why.
    pub why: Why,
    /// The columns of its answer.
    pub columns: Vec<String>,
    /// The rows, as many as are kept.
    pub rows: Vec<Vec<Cell>>,
    /// Whether there are more.
    pub more: bool,
}

/// Why a rule does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Its query answers rows.
    Rows,
    /// It cannot be evaluated.
    Unevaluated(String),
    /// It took more instructions than it may, as it does everywhere.
    TooManySteps,
    /// It took longer than it may, on this machine.
    TookTooLong,
}
