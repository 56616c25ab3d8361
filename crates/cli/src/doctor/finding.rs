//! What a look at a database finds: a closed set of codes, and how bad each thing is.

use std::fmt;

use serde::{Deserialize, Serialize};
use synddb_sqlite::inspect::Unfit;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be, or only to be known.
    Ok,
    /// The database can be followed, and something may go wrong.
    Warning,
    /// The database cannot be followed so.
    Refused,
}

/// What a finding is about. Scripts may rely on the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Where the database lies.
    FileSystem,
    /// Whether this user may write it.
    Access,
    /// Whose it is.
    Owner,
    /// What the file is.
    Form,
    /// How commits are kept.
    JournalMode,
    /// The size of its pages.
    PageSize,
    /// Bytes of each page that an extension keeps for itself.
    ReservedBytes,
    /// How text is stored.
    Encoding,
    /// Who keeps it locked.
    Lock,
    /// Whether it can be read as it is.
    Readable,
    /// How large the WAL is.
    WalSize,
    /// Who has it open.
    Users,
    /// Which SQLite they have.
    SqliteVersion,
    /// Who follows it.
    Agent,
    /// What holds the place in the WAL for an agent.
    Pin,
    /// What of the schema cannot be replicated.
    Schema,
    /// Modules that virtual tables need.
    VirtualTables,
    /// What a writer must not switch off.
    Synchronous,
    /// What a writer must have.
    BusyTimeout,
    /// The agent's folder.
    Folder,
    /// What waits in it.
    Outbox,
    /// The room that is left on the disks.
    Room,
    /// What SQLite says of the whole file.
    Integrity,
    /// The state, by a full scan.
    State,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen.
    pub seen: String,
    /// What to do, where something is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// How much was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Findings that are as they should be.
    pub ok: usize,
    /// Warnings.
    pub warnings: usize,
    /// What stops following.
    pub refused: usize,
}

/// Everything that was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn ok(&mut self, code: Code, seen: impl Into<String>) {
        self.0.push(Finding { code, severity: Severity::Ok, seen: seen.into(), fix: None });
    }

    pub(super) fn warn(&mut self, code: Code, seen: impl Into<String>, fix: impl Into<String>) {
        self.add(code, Severity::Warning, seen.into(), fix.into());
    }

    pub(super) fn refuse(&mut self, code: Code, seen: impl Into<String>, fix: impl Into<String>) {
        self.add(code, Severity::Refused, seen.into(), fix.into());
    }

    /// What following refuses before it tries, in the same words.
    pub(super) fn refuse_unfit(&mut self, code: Code, unfit: &Unfit) {
        self.refuse(code, unfit.seen(), unfit.fix());
    }

    fn add(&mut self, code: Code, severity: Severity, seen: String, fix: String) {
        self.0.push(Finding { code, severity, seen, fix: Some(fix) });
    }

    pub(super) fn count(&self) -> Count {
        let of = |severity| self.0.iter().filter(|finding| finding.severity == severity).count();
        Count { ok: of(Severity::Ok), warnings: of(Severity::Warning), refused: of(Severity::Refused) }
    }

    pub(super) fn all(self) -> Vec<Finding> {
        self.0
    }
}

/// As in JSON.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// As in JSON.
impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
