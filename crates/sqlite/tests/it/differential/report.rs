//! What runs did.

use std::collections::{BTreeMap, BTreeSet};

/// What a run did, or several.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub(super) transactions: u64,
    /// Transactions that committed something; each commit of a race is one.
    pub(super) committed: u64,
    pub(super) commits: u64,
    pub(super) rolled_back: u64,
    pub(super) with_ddl: u64,
    pub(super) by_other_process: u64,
    pub(super) statements_ok: u64,
    pub(super) statements_failed: u64,
    pub(super) rows_captured: u64,
    /// Pieces of commits that were too large for one.
    pub(super) pieces: u64,
    pub(super) polls_inside_transactions: u64,
    pub(super) attached_again: u64,
    pub(super) races: u64,
    pub(super) race_commits: u64,
    pub(super) session_commits: u64,
    pub(super) session_rows: u64,
    pub(super) recorder_commits: u64,
    /// Whole comparisons of both databases.
    pub(super) comparisons: u64,
    /// How often the WAL began anew.
    pub(super) wal_resets: u64,
    /// Tables that the session oracle could not be asked about, by reason.
    pub(super) session_skipped: BTreeMap<&'static str, u64>,
    /// How often each step was taken, and how often all its statements worked.
    pub(super) steps: BTreeMap<&'static str, (u64, u64)>,
    /// How many committed transactions exercised each feature.
    pub(super) exercised: BTreeMap<&'static str, u64>,
    /// Those with DDL, overflow pages, or pages that were split or merged.
    pub(super) structural: u64,
    /// Connections by kind.
    pub(super) connections: BTreeMap<String, u64>,
    /// Why statements failed.
    pub(super) errors: BTreeMap<String, u64>,
}

/// What makes a transaction one that changed more than rows in place.
const STRUCTURAL: [&str; 4] =
    ["schema change", "overflow pages", "pages split or added", "pages merged or freed"];

impl Report {
    /// A committed transaction exercised these features.
    pub(super) fn exercised(&mut self, features: BTreeSet<&'static str>) {
        self.structural += u64::from(STRUCTURAL.iter().any(|feature| features.contains(feature)));
        for feature in features {
            *self.exercised.entry(feature).or_default() += 1;
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.transactions += other.transactions;
        self.committed += other.committed;
        self.commits += other.commits;
        self.rolled_back += other.rolled_back;
        self.with_ddl += other.with_ddl;
        self.by_other_process += other.by_other_process;
        self.statements_ok += other.statements_ok;
        self.statements_failed += other.statements_failed;
        self.rows_captured += other.rows_captured;
        self.pieces += other.pieces;
        self.polls_inside_transactions += other.polls_inside_transactions;
        self.attached_again += other.attached_again;
        self.races += other.races;
        self.race_commits += other.race_commits;
        self.session_commits += other.session_commits;
        self.session_rows += other.session_rows;
        self.recorder_commits += other.recorder_commits;
        self.comparisons += other.comparisons;
        self.wal_resets += other.wal_resets;
        self.structural += other.structural;
        add_all(&mut self.session_skipped, other.session_skipped);
        add_all(&mut self.exercised, other.exercised);
        add_all(&mut self.connections, other.connections);
        add_all(&mut self.errors, other.errors);
        for (feature, (taken, worked)) in other.steps {
            let entry = self.steps.entry(feature).or_default();
            *entry = (entry.0 + taken, entry.1 + worked);
        }
    }

    pub(super) fn print(&self, seeds: u64) {
        let statements = self.statements_ok + self.statements_failed;
        println!(
            "{seeds} seeds, {} transactions ({} by another process, {} with schema changes, {} rolled back), {} commits \
             ({} in {} races), {statements} statements ({} failed), {} row changes captured, {} pieces, {} polls inside \
             transactions, attached {} times in the middle, {} WAL resets, {} whole comparisons, {} commits with {} row changes confirmed by a session, \
             {} by the embedded recorder",
            self.transactions,
            self.by_other_process,
            self.with_ddl,
            self.rolled_back,
            self.commits,
            self.race_commits,
            self.races,
            self.statements_failed,
            self.rows_captured,
            self.pieces,
            self.polls_inside_transactions,
            self.attached_again,
            self.wal_resets,
            self.comparisons,
            self.session_commits,
            self.session_rows,
            self.recorder_commits,
        );
        println!("  connections: {:?}", self.connections);
        for (reason, count) in &self.session_skipped {
            println!("  no session oracle {count} times: {reason}");
        }
    }
}

fn add_all<K: Ord>(to: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, count) in from {
        *to.entry(key).or_default() += count;
    }
}
