//! The world of a run: a database, connections that take turns, and a replica. It does what events say, and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use synddb_sqlite::rusqlite::{self, backup::Backup};

use super::mirror::{Commits, Mirror};
use super::model::{Model, Outcome, Writer};
use super::report::Report;
use super::script::{Event, Runner, Script, Witness, WriterSetup};
use super::setup::{Local, Settings, open};
use super::witness::{Testimony, Watching};

/// How long a runner of a race waits for a lock.
const RACE_PATIENCE: &str = "PRAGMA busy_timeout = 5000";

pub(super) struct Stage {
    /// The transaction under way. Its witness goes before the connection that it watches.
    under_way: Option<UnderWay>,
    // Before the connections, which hold the database open, and the folder, which goes last.
    mirror: Option<Mirror>,
    writers: Vec<Box<dyn Writer>>,
    setups: Vec<WriterSetup>,
    /// Reads, and holds a snapshot now and then.
    reader: Local,
    /// The wal-index. Never closed while a connection is open: closing would drop this process's locks on it.
    index: File,
    /// What witnesses say, by the number of the commit since the last poll.
    testimonies: BTreeMap<u64, Testimony>,
    /// The commit count up to which everything was polled.
    polled: u32,
    /// What the transactions that made them exercised, with how many each made.
    exercised: Vec<(u64, BTreeSet<&'static str>)>,
    pub(super) report: Report,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

struct UnderWay {
    writer: usize,
    witness: Watching,
    /// The commit count when it began.
    before: u32,
    exercised: BTreeSet<&'static str>,
}

/// What an event that runs no statement comes to.
const DONE: Outcome = Outcome { error: None, in_transaction: false };

impl Stage {
    pub(super) fn open(settings: &Settings, writers: &[WriterSetup]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("application.db");
        settings.create(&path);
        let reader = Local::open(&path, &[]);
        let mut report = Report::default();
        for writer in writers {
            *report.connections.entry(writer.kind.to_string()).or_default() += 1;
        }
        let setups = writers.to_vec();
        let writers = writers.iter().map(|writer| open(writer.kind, &path, &writer.settings)).collect();
        Self {
            under_way: None,
            mirror: None,
            writers,
            setups,
            reader,
            index: File::open(folder.path().join("application.db-shm")).unwrap(),
            testimonies: BTreeMap::new(),
            polled: 0,
            exercised: Vec::new(),
            report,
            path,
            _folder: folder,
        }
    }

    /// Does it, and says what a statement came to.
    pub(super) fn perform(&mut self, event: &Event) -> Result<Outcome, String> {
        match event {
            Event::Attach { wal_bytes, chance } => {
                // What is attached already is given up, and what it captured with it.
                self.mirror = None;
                self.testimonies.clear();
                self.exercised.clear();
                self.mirror = Some(Mirror::attach(&self.path, *wal_bytes, *chance)?);
                self.polled = self.commit_count();
            }
            Event::Begin { writer, witness } => self.begin(*writer, *witness),
            Event::Sql { writer, sql } => return self.run(*writer, sql),
            Event::Blob { writer, table, column, bytes } => {
                let Some(local) = self.writers[*writer].local() else { return Ok(DONE) };
                return Ok(local.write_blob(table, column, bytes));
            }
            Event::Backup { pages, edits } => return Ok(self.restore_a_copy(*pages, edits)),
            Event::Race { runners } => self.race(runners)?,
            Event::Kill { writer } => {
                self.writers[*writer].kill();
                let WriterSetup { kind, settings } = &self.setups[*writer];
                self.writers[*writer] = open(*kind, &self.path, settings);
            }
            Event::End { ddl } => self.end(*ddl),
            Event::Hold => drop(self.reader.run("BEGIN; SELECT count(*) FROM sqlite_schema")),
            Event::Release => drop(self.reader.run("COMMIT")),
            Event::Poll => self.poll()?,
            Event::Check => self.check()?,
        }
        Ok(DONE)
    }

    pub(super) fn model(&mut self, writer: usize) -> Model {
        Model::read(self.writers[writer].as_mut())
    }

    pub(super) fn in_transaction(&mut self, writer: usize) -> bool {
        self.writers[writer].run("SELECT 1").in_transaction
    }

    /// The transaction under way exercised this.
    pub(super) fn note(&mut self, feature: &'static str) {
        if let Some(under_way) = &mut self.under_way {
            under_way.exercised.insert(feature);
        }
    }

    pub(super) fn is_reader_in_transaction(&self) -> bool {
        !self.reader.connection.sqlite().is_autocommit()
    }

    fn run(&mut self, writer: usize, sql: &str) -> Result<Outcome, String> {
        let connection = self.writers[writer].local().map(|local| local.connection.clone());
        let mut run = || self.writers[writer].run(sql);
        match (connection, &mut self.under_way) {
            (Some(connection), Some(under_way)) if under_way.writer == writer => {
                under_way.witness.run(&connection, sql, run)
            }
            _ => Ok(run()),
        }
    }

    fn begin(&mut self, writer: usize, witness: Witness) {
        let witness = Watching::begin(witness, self.writers[writer].local());
        let before = self.commit_count();
        self.under_way = Some(UnderWay { writer, witness, before, exercised: BTreeSet::new() });
    }

    fn end(&mut self, ddl: bool) {
        let Some(UnderWay { writer, witness, before, exercised }) = self.under_way.take() else { return };
        if self.in_transaction(writer) {
            // In a script that lost its COMMIT. A recorder would refuse what comes now.
            self.writers[writer].run("ROLLBACK");
        }
        let committed = self.commit_count().wrapping_sub(before);
        // A session records no schema change.
        let is_heard = committed == 1 && !(ddl && matches!(witness, Watching::Session(_)));
        if is_heard {
            match witness.testimony() {
                Ok(Some(testimony)) => {
                    self.testimonies.insert(u64::from(before.wrapping_sub(self.polled)), testimony);
                }
                Ok(None) => {}
                Err(why) => *self.report.session_skipped.entry(why).or_default() += 1,
            }
        }
        self.report.commits += u64::from(committed);
        if committed > 0 {
            self.report.committed += 1;
            self.exercised.push((committed.into(), exercised));
        }
    }

    /// Restores the database from a copy of itself that was changed: `sqlite3_backup` into the followed file, so many pages a step.
    fn restore_a_copy(&self, pages: u32, edits: &[String]) -> Outcome {
        let copy = self.path.with_file_name("copy.db");
        let restore = || -> Result<(), rusqlite::Error> {
            for suffix in ["", "-wal", "-shm", "-journal"] {
                let mut name = copy.clone().into_os_string();
                name.push(suffix);
                std::fs::remove_file(name).ok();
            }
            let (mut from, mut to) =
                (rusqlite::Connection::open(&self.path)?, rusqlite::Connection::open(&copy)?);
            Backup::new(&from, &mut to)?.run_to_completion(1000, Duration::ZERO, None)?;
            for edit in edits {
                // One that fails changes nothing.
                to.execute_batch(edit).ok();
            }
            let pages = i32::try_from(pages).unwrap();
            Backup::new(&to, &mut from)?.run_to_completion(pages, Duration::ZERO, None)
        };
        Outcome { error: restore().err().map(|error| error.to_string()), in_transaction: false }
    }

    /// Several connections at once, and the follower beside them.
    fn race(&mut self, runners: &[Runner]) -> Result<(), String> {
        self.poll()?;
        let before = self.commit_count();
        let running = AtomicUsize::new(runners.len());
        let (path, mirror, report) = (self.path.as_path(), &mut self.mirror, &mut self.report);
        let mut captured = 0;
        std::thread::scope(|scope| {
            for runner in runners {
                let running = &running;
                scope.spawn(move || {
                    let ended = Ended(running);
                    run(runner, path);
                    drop(ended);
                });
            }
            while running.load(Ordering::SeqCst) > 0 {
                if let Some(mirror) = mirror {
                    captured += mirror.poll(Commits::Racing, &BTreeMap::new(), report)?;
                }
                std::thread::yield_now();
            }
            Ok::<(), String>(())
        })?;
        if let Some(mirror) = &mut self.mirror {
            captured += mirror.poll(Commits::Racing, &BTreeMap::new(), &mut self.report)?;
        }
        self.polled = self.commit_count();
        let made = u64::from(self.polled.wrapping_sub(before));
        self.report.races += 1;
        self.report.race_commits += made;
        self.report.commits += made;
        self.report.committed += made;
        *self.report.exercised.entry("race of several processes").or_default() += made;
        if self.mirror.is_some() && captured != made {
            return Err(format!("{made} commits were made in a race, {captured} captured"));
        }
        Ok(())
    }

    /// How many transactions were ever committed to the WAL: the `iChange` of the wal-index header (SQLite, "WAL-mode file
    /// format", section 2.1), which commits move and checkpoints do not.
    fn commit_count(&self) -> u32 {
        let mut bytes = [0; 4];
        self.index.read_exact_at(&mut bytes, 8).unwrap();
        u32::from_ne_bytes(bytes)
    }

    fn poll(&mut self) -> Result<(), String> {
        let testimonies = std::mem::take(&mut self.testimonies);
        let exercised = std::mem::take(&mut self.exercised);
        let now = self.commit_count();
        let commits = u64::from(now.wrapping_sub(std::mem::replace(&mut self.polled, now)));
        let Some(mirror) = &mut self.mirror else { return Ok(()) };
        mirror.poll(Commits::Exactly(commits), &testimonies, &mut self.report)?;
        let mut done = mirror.footprints().into_iter();
        for (commits, mut features) in exercised {
            let commits = usize::try_from(commits).unwrap();
            done.by_ref().take(commits).for_each(|seen| features.extend(seen));
            self.report.exercised(features);
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        self.poll()?;
        self.report.comparisons += 1;
        self.mirror.as_mut().map_or(Ok(()), Mirror::check_everything)
    }

    /// Copies both databases to where the environment says, for whoever looks into a mismatch. The run is over: nobody needs the
    /// locks any more that closing a copied file drops.
    pub(super) fn keep_files(&self) {
        let Ok(folder) = std::env::var("SYNDDB_KEEP") else { return };
        for entry in std::fs::read_dir(self.path.parent().unwrap()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), Path::new(&folder).join(entry.file_name())).unwrap();
        }
    }
}

/// Counts a runner that has ended, however it did.
struct Ended<'c>(&'c AtomicUsize);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn run(runner: &Runner, path: &Path) {
    let mut writer = open(runner.kind, path, &[RACE_PATIENCE.to_owned()]);
    let mut in_transaction = false;
    for statement in &runner.statements {
        in_transaction = writer.run(statement).in_transaction;
    }
    if in_transaction {
        writer.run("COMMIT");
        writer.run("ROLLBACK");
    }
}

/// Does a whole script. The error is a mismatch.
pub(super) fn replay(script: &Script) -> Result<(), String> {
    let mut stage = Stage::open(&script.settings, &script.writers);
    let result = script.events.iter().try_for_each(|event| stage.perform(event).map(drop));
    if result.is_err() {
        stage.keep_files();
    }
    result
}
