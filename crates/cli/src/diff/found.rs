//! What was found in two databases that are not both on this machine, for programs and in words. Whatever a peer said is printed on one line.

use serde::{Deserialize, Serialize};
use synddb_protocol::contents::Scalar;
use synddb_protocol::hash::StateHash;
use synddb_protocol::id::Sequence;

/// What was compared, and what was found beside the difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The first database.
    pub one: Stand,
    /// The second one.
    pub other: Stand,
    /// The row in which they differ, where it is a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<DifferingRow>,
    /// What both recorded of their past, where they differ now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// How many requests it took.
    pub requests: u32,
}

/// Where one of the two stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// The URL or the path.
    pub name: String,
    /// The last message in it; `None` of a file that keeps no position.
    pub sequence: Option<Sequence>,
    /// The state hash that the log claims there.
    pub claimed: Option<StateHash>,
    /// The state hash that a scan of its contents came to.
    pub scanned: StateHash,
}

impl Stand {
    /// Whether its contents are other than the log claims.
    pub fn is_forged(&self) -> bool {
        self.claimed.is_some_and(|claimed| claimed != self.scanned)
    }
}

/// The first row in which two databases differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferingRow {
    /// The table.
    pub table: String,
    /// The columns that identify the row, and their values.
    pub key: Vec<(String, Scalar)>,
    /// The first column that differs, where both have the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The value in the first database; `None` where it lacks the row. Of a long one the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one: Option<Scalar>,
    /// The value in the second one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Scalar>,
    /// Which of the two has the row, where only one does: `first` or `second`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_in: Option<String>,
}

/// What two replicas of one log recorded when they committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The last message at which both recorded the same state.
    pub equal_at: Option<Sequence>,
    /// The first message behind it at which they recorded different ones. It happened there, or since `equal_at`.
    pub different_at: Option<Sequence>,
}

impl Compared {
    /// What stands below the difference, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = [&self.one, &self.other].into_iter().map(stand).collect();
        lines.extend(self.history.as_ref().map(history));
        lines
    }
}

fn stand(stand: &Stand) -> String {
    let Stand { name, sequence, claimed, scanned } = stand;
    match (sequence, claimed) {
        (Some(sequence), Some(claimed)) if stand.is_forged() => {
            format!(
                "{name} is not what the log claims at message {sequence}: claimed {claimed}, found {scanned}"
            )
        }
        (Some(sequence), _) => format!("{name} is what the log claims at message {sequence}: {scanned}"),
        (None, _) => format!("{name} keeps no position in a log; it holds {scanned}"),
    }
}

fn history(history: &History) -> String {
    match (history.equal_at, history.different_at) {
        (Some(equal), Some(different)) => {
            format!(
                "both recorded the same state at message {equal}, and different ones at message {different}: the log forks in between"
            )
        }
        (None, Some(different)) => {
            format!(
                "they recorded different states as far back as both remember, since message {different} at least"
            )
        }
        (Some(equal), None) => {
            format!(
                "both recorded the same states up to message {equal}: a file was changed beside the log, after it was applied"
            )
        }
        (None, None) => "they committed at no common message, so that their past says nothing".to_owned(),
    }
}
