//! The replica's side of a run: what the follower captures is applied, and compared with the application.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use synddb_protocol::hash::StateHash;
use synddb_protocol::submission::Changes;
use synddb_sqlite::apply::{Applier, CommitChanges};
use synddb_sqlite::capture::{CommittedState, Follower, Options, Sink, WalPosition};
use synddb_sqlite::compare;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite::{self, backup::Backup};
use synddb_sqlite::state::RunningState;

use super::oracle;
use super::random::Random;
use super::report::Report;
use super::witness::Testimony;

/// How many commits a poll must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commits {
    Exactly(u64),
    /// Others commit meanwhile.
    Racing,
}

/// A follower on the application's database, and a replica.
pub(super) struct Mirror {
    source: PathBuf,
    replica: PathBuf,
    follower: Follower,
    applier: Applier,
    /// Decides how commits are grouped.
    random: Random,
}

/// Takes commits as they come and puts pieces together.
struct Collected {
    commits: Vec<(Changes, Option<StateHash>)>,
    /// Which commits it asks for their state: that of several is settled at once then.
    asks_each: usize,
    /// The state before the next commit, if it is known.
    before: Option<StateHash>,
    open: Option<Changes>,
    pieces: u64,
    persisted: bool,
}

impl Collected {
    fn new(before: StateHash, asks_each: usize) -> Self {
        Self { commits: Vec::new(), asks_each, before: Some(before), open: None, pieces: 0, persisted: false }
    }
}

impl Sink for Collected {
    type Error = Infallible;

    fn apart(&mut self, state: &mut CommittedState<'_>) -> Result<(), Infallible> {
        let told = state.hash();
        if let Some(before) = self.before {
            assert_eq!(told, before, "the state before a commit is not that behind the one before");
        }
        if let Some((_, last)) = self.commits.last_mut() {
            // If it was not asked for, what is applied has to come to it.
            *last = Some(told);
        }
        Ok(())
    }

    fn piece(&mut self, changes: Changes) -> Result<(), Infallible> {
        let joined = join(self.open.take(), changes);
        self.open = Some(joined);
        self.pieces += 1;
        Ok(())
    }

    fn commit(&mut self, changes: Changes, state: &mut CommittedState<'_>) -> Result<(), Infallible> {
        let joined = join(self.open.take(), changes);
        let asks = self.commits.len().is_multiple_of(self.asks_each);
        self.before = asks.then(|| state.hash());
        self.commits.push((joined, self.before));
        self.persisted = false;
        Ok(())
    }

    fn persist(&mut self, _: &WalPosition, state: &RunningState) -> Result<(), Infallible> {
        let told = state.hash();
        if let Some((_, last)) = self.commits.last_mut() {
            let last = *last.get_or_insert(told);
            assert_eq!(told, last, "the state at the position is not that of the last commit");
        }
        self.before = Some(told);
        self.persisted = true;
        Ok(())
    }
}

fn join(first: Option<Changes>, second: Changes) -> Changes {
    let Some(mut joined) = first else { return second };
    joined.schema.extend(second.schema);
    joined.rows.extend(second.rows);
    joined.user_version = second.user_version.or(joined.user_version);
    joined.application_id = second.application_id.or(joined.application_id);
    joined
}

fn words(doing: &str) -> impl Fn(&dyn std::error::Error) -> String {
    move |error| {
        let mut text = format!("{doing}: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }
}

impl Mirror {
    /// Attaches, and copies the database as the follower sees it.
    pub(super) fn attach(source: &Path, wal_bytes: u64, chance: u64) -> Result<Self, String> {
        let replica = source.with_file_name("replica.db");
        let options = Options::for_wal(wal_bytes);
        let follower = Follower::attach(source, options).map_err(|error| words("attach")(&error))?;
        if replica.exists() {
            std::fs::remove_file(&replica).unwrap();
        }
        let mut copy = rusqlite::Connection::open(&replica).unwrap();
        let reader = follower.reader();
        Backup::new(reader.sqlite(), &mut copy)
            .unwrap()
            .run_to_completion(10_000, Duration::ZERO, None)
            .unwrap();
        copy.close().unwrap();
        let applier = Applier::open(&replica).map_err(|error| words("open the replica")(&error))?;
        if follower.state().hash() != applier.state().hash() {
            return Err("the copy's state hash differs from the follower's".to_owned());
        }
        Ok(Self { source: source.to_owned(), replica, follower, applier, random: Random::new(chance) })
    }

    /// Captures and applies everything since the last call, and says how many commits that were. `testimonies` has
    /// what witnesses say of some of them.
    pub(super) fn poll(
        &mut self,
        commits: Commits,
        testimonies: &BTreeMap<u64, Testimony>,
        report: &mut Report,
    ) -> Result<u64, String> {
        let asks_each = usize::try_from(self.random.range(1, 4)).unwrap();
        let mut sink = Collected::new(self.follower.state().hash(), asks_each);
        let before = self.follower.statistics();
        let mut captured = 0;
        loop {
            match self.follower.poll(&mut sink).map_err(|error| words("poll")(&error))? {
                0 => break,
                more => captured += more,
            }
        }
        let after = self.follower.statistics();
        report.rows_captured += after.rows - before.rows;
        report.wal_resets += after.wal_resets - before.wal_resets;
        report.pieces += sink.pieces;
        if sink.open.is_some() || (captured > 0 && !sink.persisted) || captured != sink.commits.len() as u64 {
            return Err("a poll ends with a persisted whole commit".to_owned());
        }
        if let Commits::Exactly(made) = commits
            && captured != made
        {
            return Err(format!("{made} commits were made, {captured} captured"));
        }
        let mut numbered = (0..).zip(&sink.commits).peekable();
        while numbered.peek().is_some() {
            let group = usize::try_from(self.random.range(1, 4)).unwrap();
            let group: Vec<_> = numbered.by_ref().take(group).collect();
            if self.random.percent(6) {
                self.apply_and_give_up(&group)?;
            }
            self.applier.begin().map_err(|error| words("begin")(&error))?;
            for (number, (changes, state)) in group {
                self.apply(changes)?;
                let applied = self.applier.state().hash();
                if state.is_some_and(|state| state != applied) {
                    return Err(format!(
                        "the state hash differs after captured commit {number} of {captured}"
                    ));
                }
                match testimonies.get(&number) {
                    None => {}
                    Some(Testimony::Session(session)) => {
                        let compared = oracle::compare(&changes.rows, session, &self.applier, report)?;
                        report.session_commits += 1;
                        report.session_rows += compared;
                    }
                    Some(Testimony::Recorder(recorded, after)) => {
                        oracle::compare_recorded(changes, recorded, (applied, *after))?;
                        report.recorder_commits += 1;
                    }
                }
            }
            self.applier.commit().map_err(|error| words("commit")(&error))?;
        }
        if self.follower.state().hash() != self.applier.state().hash() {
            return Err("the state hash of the replica differs from the follower's".to_owned());
        }
        Ok(captured)
    }

    /// What each captured commit did to the pages, by name.
    #[cfg(feature = "probes")]
    pub(super) fn footprints(&mut self) -> Vec<Vec<&'static str>> {
        let named = |seen: &synddb_sqlite::capture::probes::Footprint| {
            let all = [
                (seen.overflow, "overflow pages"),
                (seen.pages_gained > 0, "pages split or added"),
                (seen.pages_lost > 0, "pages merged or freed"),
                (seen.roots_moved > 0, "roots moved"),
                (seen.spilled_frames > 0, "cache spilled"),
                (seen.header_changed, "header changed"),
                (seen.schema_changed, "schema change captured"),
                (seen.pages_before > seen.pages_after, "file truncated"),
            ];
            all.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect()
        };
        self.follower.footprints().iter().map(named).collect()
    }

    /// What each captured commit did to the pages, by name. Nothing without the feature that tells it.
    #[cfg(not(feature = "probes"))]
    pub(super) fn footprints(&mut self) -> Vec<Vec<&'static str>> {
        Vec::new()
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), String> {
        let changes = CommitChanges {
            schema: &changes.schema,
            rows: changes.rows.as_slice(),
            user_version: changes.user_version,
            application_id: changes.application_id,
        };
        self.applier.apply(changes).map_err(|error| words("apply")(&error))
    }

    /// What was applied and given up leaves no trace.
    fn apply_and_give_up(&mut self, group: &[(u64, &(Changes, Option<StateHash>))]) -> Result<(), String> {
        let before = self.applier.state().hash();
        self.applier.begin().map_err(|error| words("begin")(&error))?;
        for (_, (changes, _)) in group {
            self.apply(changes)?;
        }
        self.applier.rollback().map_err(|error| words("roll back")(&error))?;
        if self.applier.state().hash() != before {
            return Err("the replica's state hash differs after a rollback".to_owned());
        }
        Ok(())
    }

    /// Compares whole databases, after a poll that captured everything.
    pub(super) fn check_everything(&mut self) -> Result<(), String> {
        if let Some(difference) = compare::first_difference(&self.source, &self.replica)
            .map_err(|error| words("compare")(&error))?
        {
            return Err(format!("the replica differs: {difference}"));
        }
        let scanned = scan(&self.source)?;
        if scanned != self.follower.state().hash() {
            return Err(
                "a scan of the application's database gives another state hash than capture".to_owned()
            );
        }
        // What a crash leaves: every commit that was captured is synced, so a recovery finds them all. An SQLite that leaves frames
        // unsummed takes that back, until the WAL is cut off.
        if self.follower.statistics().unsummed_frames == 0 && recovered(&self.source)? != scanned {
            return Err("database and WAL recovered without the wal-index have another state hash".to_owned());
        }
        if scanned != scan(&self.replica)? {
            return Err("scans of application and replica give different state hashes".to_owned());
        }
        // A virtual table reports what the application made of it: the same on both sides. An index over what an SQLite of another
        // version computes otherwise is found wrong in the application's database alone: the replica's own is right.
        let replica = integrity(&self.replica);
        if replica != "ok" {
            let source = integrity(&self.source);
            if replica != source {
                return Err(format!(
                    "integrity_check says `{replica}` of the replica, `{source}` of the application"
                ));
            }
        }
        Ok(())
    }
}

fn scan(path: &Path) -> Result<StateHash, String> {
    let connection = Connection::open(path).map_err(|error| words("open")(&error))?;
    connection.execute("BEGIN").map_err(|error| words("begin")(&error))?;
    let state = RunningState::scan(&connection).map_err(|error| words("scan")(&error))?;
    Ok(state.hash())
}

/// The state of a copy of the files without the wal-index. Another process copies: to close them in this one would drop its locks.
fn recovered(path: &Path) -> Result<StateHash, String> {
    let folder = path.with_file_name("recovered");
    std::fs::create_dir_all(&folder).unwrap();
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let copied = Command::new("cp").arg(path).arg(wal).arg(&folder).status().unwrap();
    assert!(copied.success());
    let state = scan(&folder.join(path.file_name().unwrap()));
    std::fs::remove_dir_all(&folder).unwrap();
    state
}

fn integrity(path: &Path) -> String {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.sqlite().prepare("PRAGMA integrity_check(3)").unwrap();
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(|row| row.unwrap_or_else(|error| error.to_string())).collect::<Vec<_>>().join("; ")
}
