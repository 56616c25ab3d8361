//! One seed: a database, connections that take turns, and after every few transactions the question whether the replica equals it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use synddb_sqlite::session::{Keyless, Session};

use super::child::Remote;
use super::mirror::Mirror;
use super::model::{Model, Outcome, Writer};
use super::random::Random;
use super::schemas::{self, Made};
use super::setup::{Local, Settings, connection_settings};
use super::steps::{self, Action, Context, Step};

/// Whether anything follows the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// Nothing: the grammar itself is looked at.
    Bare,
    /// A follower captures, an applier applies.
    Replicated,
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub(super) transactions: u64,
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
    pub(super) session_commits: u64,
    pub(super) session_rows: u64,
    /// Tables that the session oracle could not be asked about, by reason.
    pub(super) session_skipped: BTreeMap<&'static str, u64>,
    /// How often each step was taken, and how often all its statements worked.
    pub(super) features: BTreeMap<&'static str, (u64, u64)>,
    /// Why statements failed.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) settings: Vec<String>,
}

impl Report {
    pub(super) fn add(&mut self, other: Self) {
        self.transactions += other.transactions;
        self.commits += other.commits;
        self.rolled_back += other.rolled_back;
        self.with_ddl += other.with_ddl;
        self.by_other_process += other.by_other_process;
        self.statements_ok += other.statements_ok;
        self.statements_failed += other.statements_failed;
        self.rows_captured += other.rows_captured;
        self.pieces += other.pieces;
        self.polls_inside_transactions += other.polls_inside_transactions;
        self.session_commits += other.session_commits;
        self.session_rows += other.session_rows;
        self.settings.extend(other.settings);
        for (reason, count) in other.session_skipped {
            *self.session_skipped.entry(reason).or_default() += count;
        }
        for (feature, (taken, worked)) in other.features {
            let entry = self.features.entry(feature).or_default();
            *entry = (entry.0 + taken, entry.1 + worked);
        }
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }
}

/// The replica does not equal the application.
#[derive(Debug)]
pub(super) struct Mismatch {
    pub(super) seed: u64,
    pub(super) transaction: u64,
    /// What ran since the whole replica was last found equal.
    pub(super) statements: Vec<String>,
    pub(super) what: String,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {} differs at transaction {}: {}", self.seed, self.transaction, self.what)?;
        writeln!(f, "statements since everything was last found equal:")?;
        self.statements.iter().try_for_each(|statement| writeln!(f, "  {statement}"))
    }
}

/// How many transactions pass between two full comparisons.
const FULL_CHECK_EVERY: u64 = 10;

/// Runs one seed for so many transactions.
pub(super) fn run(seed: u64, transactions: u64, subject: Subject) -> Result<Report, Mismatch> {
    let mut run = Run::start(seed);
    let result = run.follow(subject).and_then(|()| run.all(transactions));
    let transaction = run.report.transactions;
    match result {
        Ok(()) => Ok(std::mem::take(&mut run.report)),
        Err(what) => {
            run.keep_files();
            Err(Mismatch { seed, transaction, statements: std::mem::take(&mut run.log), what })
        }
    }
}

struct Run {
    random: Random,
    settings: Settings,
    report: Report,
    log: Vec<String>,
    // Before the connections, which hold the database open, and the folder, which goes last.
    mirror: Option<Mirror>,
    locals: Vec<Local>,
    remote: Option<Remote>,
    /// Reads, and holds a snapshot now and then.
    reader: Local,
    /// The wal-index. Never closed while a connection is open: closing would drop this process's locks on it.
    index: File,
    /// The changesets of sessions, by the number of their commit since the last poll.
    sessions: BTreeMap<u64, Vec<u8>>,
    /// Commits since the last poll.
    commits: u64,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

/// Which connection writes.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Local(usize),
    Remote,
}

impl Run {
    fn start(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings::choose(&mut random);
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("application.db");
        settings.create(&path);
        let reader = Local::open(&path, &[]);
        let locals: Vec<Local> =
            (0..3).map(|_| Local::open(&path, &connection_settings(&mut random))).collect();
        let remote = Some(Remote::start(&path, &connection_settings(&mut random)));
        let mut report = Report::default();
        report.settings.push(format!("{settings:?}"));
        let index_path = folder.path().join("application.db-shm");
        let mut run = Self {
            random,
            settings,
            report,
            log: Vec::new(),
            mirror: None,
            locals,
            remote,
            reader,
            index: File::open(index_path).unwrap(),
            sessions: BTreeMap::new(),
            commits: 0,
            path,
            _folder: folder,
        };
        run.make_schema();
        run
    }

    fn follow(&mut self, subject: Subject) -> Result<(), String> {
        if subject == Subject::Replicated {
            self.mirror = Some(Mirror::attach(&self.path, &mut self.random)?);
        }
        self.log.clear();
        Ok(())
    }

    /// Copies both databases to where the environment says, for whoever looks into a mismatch. The run is over: nobody needs the
    /// locks any more that closing a copied file drops.
    fn keep_files(&self) {
        let Ok(folder) = std::env::var("SYNDDB_KEEP") else { return };
        for entry in std::fs::read_dir(self.path.parent().unwrap()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), std::path::Path::new(&folder).join(entry.file_name())).unwrap();
        }
    }

    fn make_schema(&mut self) {
        self.make(schemas::foundation());
        for _ in 0..self.random.range(5, 12) {
            let model = Model::read(&mut self.locals[0]);
            let name = schemas::fresh_name(&mut self.random, "");
            let made = schemas::table(&mut self.random, &name, &model);
            self.make(vec![made]);
        }
        for _ in 0..self.random.range(1, 3) {
            let made = schemas::virtual_table(&mut self.random);
            self.make(vec![made]);
        }
        let model = Model::read(&mut self.locals[0]);
        for table in model.plain().into_iter().filter(|table| !table.is_protected()) {
            if self.random.percent(50) {
                let made = schemas::index(&mut self.random, table);
                self.make(vec![made]);
            }
            if self.random.percent(25) {
                let made = schemas::trigger(&mut self.random, table);
                self.make(vec![made]);
            }
            if self.random.percent(12) {
                let made = schemas::view(&mut self.random, table);
                self.make(made);
            }
        }
        for _ in 0..30 {
            let step = self.step(Turn::Local(0), steps::inside);
            if !step.ddl {
                self.take(Turn::Local(0), &step);
            }
        }
    }

    fn make(&mut self, all: Vec<Made>) {
        for Made { feature, sql } in all {
            self.take(Turn::Local(0), &Step::schema(feature, sql));
        }
    }

    fn all(&mut self, transactions: u64) -> Result<(), String> {
        for number in 1..=transactions {
            self.report.transactions = number;
            self.hold_or_release_snapshot();
            self.transaction()?;
            if self.random.percent(60) {
                self.poll()?;
            }
            if number % FULL_CHECK_EVERY == 0 || number == transactions {
                self.poll()?;
                self.check_everything()?;
            }
        }
        Ok(())
    }

    /// A reader that stays keeps the WAL from starting anew; one that goes lets it.
    fn hold_or_release_snapshot(&mut self) {
        if self.random.percent(15) {
            let sql = if self.reader.connection.sqlite().is_autocommit() {
                "BEGIN; SELECT count(*) FROM sqlite_schema"
            } else {
                "COMMIT"
            };
            self.reader.connection.execute(sql).unwrap();
        }
    }

    fn transaction(&mut self) -> Result<(), String> {
        let turn = if self.random.percent(20) {
            Turn::Remote
        } else {
            Turn::Local(self.random.index(self.locals.len()))
        };
        self.log.push(format!("-- transaction {} by {turn:?}", self.report.transactions));
        if matches!(turn, Turn::Remote) {
            self.report.by_other_process += 1;
        }
        let session = match turn {
            // A session makes SQLite delete row by row, so half of the transactions have none.
            Turn::Local(at) if self.random.percent(70) => {
                let mut session = Session::open(&self.locals[at].connection, Keyless::Skip).unwrap();
                session.attach(None).unwrap();
                Some(session)
            }
            _ => None,
        };
        let before = self.commit_count();
        let ddl = match self.random.below(100) {
            0..=9 => self.alone(turn, steps::outside),
            10..=24 => self.alone(turn, steps::inside),
            _ => self.explicit(turn)?,
        };
        let committed = self.commit_count().wrapping_sub(before);
        self.report.with_ddl += u64::from(ddl);
        self.report.commits += u64::from(committed);
        if let Some(mut session) = session
            && !ddl
            && committed == 1
        {
            match session.changeset() {
                Ok(changeset) => drop(self.sessions.insert(self.commits, changeset)),
                Err(_) => *self.report.session_skipped.entry("the session failed").or_default() += 1,
            }
        }
        self.commits += u64::from(committed);
        Ok(())
    }

    /// A step whose statements commit one by one.
    fn alone(&mut self, turn: Turn, maker: fn(&mut Context<'_>) -> Step) -> bool {
        let step = self.step(turn, maker);
        self.take(turn, &step);
        step.ddl
    }

    /// A transaction of several steps, and whether it changed the schema.
    fn explicit(&mut self, turn: Turn) -> Result<bool, String> {
        let begin = *self.random.pick(&["BEGIN", "BEGIN IMMEDIATE"]);
        self.run_sql(turn, begin);
        let mut ddl = false;
        let steps = self.random.weighted(&[(4, 1), (3, 2), (3, 4), (1, 8)]);
        for _ in 0..steps {
            let step = self.step(turn, steps::inside);
            ddl |= step.ddl;
            if !self.take(turn, &step) {
                // A statement gave up the whole transaction.
                self.report.rolled_back += 1;
                return Ok(ddl);
            }
            if self.random.percent(6) {
                self.report.polls_inside_transactions += 1;
                self.poll()?;
            }
        }
        let end = if self.random.percent(8) { "ROLLBACK" } else { "COMMIT" };
        let outcome = self.run_sql(turn, end);
        if outcome.in_transaction {
            // Deferred foreign keys do not hold.
            self.run_sql(turn, "ROLLBACK");
        }
        self.report.rolled_back += u64::from(end == "ROLLBACK" || outcome.error.is_some());
        Ok(ddl)
    }

    fn step(&mut self, turn: Turn, maker: fn(&mut Context<'_>) -> Step) -> Step {
        let model = Model::read(self.writer(turn));
        let ground = self.settings.ground();
        maker(&mut Context { random: &mut self.random, model: &model, ground })
    }

    /// Takes a step, and returns whether the transaction that was open before it, if one was, still is.
    fn take(&mut self, turn: Turn, step: &Step) -> bool {
        let was_open = match turn {
            Turn::Local(at) => !self.locals[at].connection.sqlite().is_autocommit(),
            Turn::Remote => self.writer(turn).run("SELECT 1").in_transaction,
        };
        let mut worked = true;
        for action in &step.actions {
            let outcome = match (action, turn) {
                (Action::Sql(sql), _) => self.run_sql(turn, sql),
                (Action::Blob { .. }, Turn::Remote) => continue,
                (Action::Blob { table, column, bytes }, Turn::Local(at)) => {
                    self.log.push(action.to_string());
                    let outcome = self.locals[at].write_blob(table, column, bytes);
                    self.count(&outcome, step.feature);
                    outcome
                }
            };
            worked &= outcome.error.is_none();
            if was_open && !outcome.in_transaction {
                self.count_feature(step.feature, false);
                return false;
            }
            // What belongs together stops at the first failure, as an application would.
            if !worked && step.ddl {
                break;
            }
        }
        if !was_open {
            // A savepoint that a failed step left open would go on as a transaction.
            self.close_if_open(turn);
        }
        self.count_feature(step.feature, worked);
        true
    }

    fn close_if_open(&mut self, turn: Turn) {
        if self.writer(turn).run("SELECT 1").in_transaction {
            self.run_sql(turn, "COMMIT");
            if self.writer(turn).run("SELECT 1").in_transaction {
                self.run_sql(turn, "ROLLBACK");
            }
        }
    }

    fn run_sql(&mut self, turn: Turn, sql: &str) -> Outcome {
        let outcome = self.writer(turn).run(sql);
        let note = outcome.error.as_ref().map(|error| format!(" -- {error}")).unwrap_or_default();
        self.log.push(format!("{sql};{note}"));
        self.count(&outcome, sql);
        outcome
    }

    fn count(&mut self, outcome: &Outcome, what: &str) {
        match &outcome.error {
            None => self.report.statements_ok += 1,
            Some(error) => {
                self.report.statements_failed += 1;
                let start: String = what.chars().take(60).collect();
                *self.report.errors.entry(format!("{error} | {start}")).or_default() += 1;
            }
        }
    }

    fn count_feature(&mut self, feature: &'static str, worked: bool) {
        let entry = self.report.features.entry(feature).or_default();
        *entry = (entry.0 + 1, entry.1 + u64::from(worked));
    }

    fn writer(&mut self, turn: Turn) -> &mut dyn Writer {
        match turn {
            Turn::Local(at) => &mut self.locals[at],
            Turn::Remote => self.remote.as_mut().unwrap(),
        }
    }

    /// How many transactions were ever committed to the WAL: the `iChange` of the wal-index header (SQLite, "WAL-mode file
    /// format", section 2.1), which commits move and checkpoints do not.
    fn commit_count(&self) -> u32 {
        let mut bytes = [0; 4];
        self.index.read_exact_at(&mut bytes, 8).unwrap();
        u32::from_ne_bytes(bytes)
    }

    fn poll(&mut self) -> Result<(), String> {
        let Some(mirror) = &mut self.mirror else { return Ok(()) };
        let sessions = std::mem::take(&mut self.sessions);
        mirror.poll(self.commits, &sessions, &mut self.random, &mut self.report)?;
        self.commits = 0;
        self.log.push("-- compared".to_owned());
        Ok(())
    }

    fn check_everything(&mut self) -> Result<(), String> {
        let Some(mirror) = &mut self.mirror else { return Ok(()) };
        mirror.check_everything()?;
        self.log.clear();
        Ok(())
    }
}
