//! One seed: chance decides what happens, event by event; the stage does it, and after every few transactions is asked whether the
//! replica equals the application.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::child::is_available;
use super::model::{Model, Outcome};
use super::race;
use super::random::Random;
use super::report::Report;
use super::schemas::{self, Made};
use super::script::{Event, Script, Witness, WriterSetup};
use super::setup::{Kind, Settings, connection_settings};
use super::stage::Stage;
use super::steps::{self, Action, Context, Step};
use super::tables;
use super::values::Ground;

/// Whether anything follows the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// Nothing: the grammar itself is looked at.
    Bare,
    /// A follower captures, an applier applies.
    Replicated,
}

/// The replica does not equal the application.
#[derive(Debug)]
pub(super) struct Mismatch {
    pub(super) seed: u64,
    pub(super) transaction: u64,
    /// Everything that was done, up to where it shows.
    pub(super) script: Script,
    pub(super) what: String,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {} differs at transaction {}: {}", self.seed, self.transaction, self.what)?;
        writeln!(f, "since everything was last found equal:")?;
        let events = &self.script.events;
        let checked = events.iter().rposition(|event| matches!(event, Event::Check | Event::Attach { .. }));
        // The last check is the one that failed, where one did.
        let last = events.len().saturating_sub(1);
        let checked = match checked {
            Some(at) if at == last => {
                events[..at].iter().rposition(|event| matches!(event, Event::Check | Event::Attach { .. }))
            }
            checked => checked,
        };
        events[checked.map_or(0, |at| at + 1)..].iter().try_for_each(|event| writeln!(f, "  {event}"))
    }
}

/// How many transactions pass between two full comparisons.
const FULL_CHECK_EVERY: u64 = 10;

/// Runs one seed for so many transactions.
pub(super) fn run(seed: u64, transactions: u64, subject: Subject) -> Result<Report, Box<Mismatch>> {
    let mut run = Run::start(seed, subject);
    let result = catch_unwind(AssertUnwindSafe(|| {
        run.make_schema()?;
        run.follow()?;
        run.all(transactions)
    }));
    let what = match result {
        Ok(Ok(())) => return Ok(run.stage.report),
        Ok(Err(what)) => what,
        Err(panic) => format!("a panic: {}", words(panic.as_ref())),
    };
    run.stage.keep_files();
    let transaction = run.stage.report.transactions;
    Err(Box::new(Mismatch { seed, transaction, script: run.script, what }))
}

/// What a panic said.
pub(super) fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words").to_owned()
}

struct Run {
    subject: Subject,
    random: Random,
    script: Script,
    stage: Stage,
    /// Which database is looked at for what transactions exercise. Read anew after each schema change.
    model: Option<Model>,
    /// Whether chance wanted a writer with an old SQLite, so that it has to understand every table.
    is_old: bool,
}

impl Run {
    fn start(seed: u64, subject: Subject) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings::choose(&mut random);
        // Drawn for all, wanted or not, there or not. Where one is wanted and not there, a process with this SQLite takes its place,
        // under its own name: so a seed chooses the same everywhere.
        let all = [(100, Kind::Local), (100, Kind::Local), (100, Kind::Local), (100, Kind::Child)];
        let mut writers = Vec::new();
        let mut is_old = false;
        for (share, kind) in all.into_iter().chain([(40, Kind::System), (25, Kind::Apsw)]) {
            let (settings, is_wanted) = (connection_settings(&mut random), random.percent(share));
            if is_wanted {
                is_old |= kind == Kind::System;
                let kind = if is_available(kind) { kind } else { Kind::Child };
                writers.push(WriterSetup { kind, settings });
            }
        }
        let script = Script { settings, writers, events: Vec::new() };
        let stage = Stage::open(&script.settings, &script.writers);
        Self { subject, random, script, stage, model: None, is_old }
    }

    fn perform(&mut self, event: Event) -> Result<Outcome, String> {
        self.script.events.push(event);
        self.stage.perform(self.script.events.last().unwrap())
    }

    /// Attaches, or attaches anew in the middle of everything.
    fn follow(&mut self) -> Result<(), String> {
        if self.subject == Subject::Replicated {
            // From a WAL that begins anew at nearly every poll to one that never does here.
            let wal_bytes = self.random.weighted(&[(2, 1 << 20), (3, 8 << 20), (3, 64 << 20)]);
            let chance = self.random.next();
            self.perform(Event::Attach { wal_bytes, chance })?;
        }
        Ok(())
    }

    fn make_schema(&mut self) -> Result<(), String> {
        self.make(schemas::foundation())?;
        for _ in 0..self.random.range(5, 12) {
            let model = self.stage.model(0);
            let name = schemas::fresh_name(&mut self.random, "");
            let made = schemas::table(&mut self.random, &name, &model);
            self.make(vec![made])?;
        }
        let ground = self.ground();
        for _ in 0..self.random.range(1, 3) {
            let made = schemas::virtual_table(&mut self.random, ground);
            self.make(vec![made])?;
        }
        let model = self.stage.model(0);
        for table in model.plain().into_iter().filter(|table| !table.is_protected()) {
            if self.random.percent(50) {
                let made = schemas::index(&mut self.random, table);
                self.make(vec![made])?;
            }
            if self.random.percent(25) {
                let made = schemas::trigger(&mut self.random, table);
                self.make(vec![made])?;
            }
            if self.random.percent(12) {
                let made = schemas::view(&mut self.random, table);
                self.make(made)?;
            }
        }
        for _ in 0..30 {
            let step = self.step(0, steps::inside);
            if !step.ddl {
                self.take(0, &step)?;
            }
        }
        Ok(())
    }

    fn make(&mut self, all: Vec<Made>) -> Result<(), String> {
        for Made { feature, sql } in all {
            self.take(0, &Step::schema(feature, sql))?;
        }
        Ok(())
    }

    fn all(&mut self, transactions: u64) -> Result<(), String> {
        for number in 1..=transactions {
            self.stage.report.transactions = number;
            self.hold_or_release_snapshot()?;
            self.transaction()?;
            if self.random.percent(60) {
                self.perform(Event::Poll)?;
            }
            if number == transactions / 2 && self.random.percent(25) {
                self.race()?;
            }
            if self.random.percent(2) {
                self.follow()?;
                self.stage.report.attached_again += 1;
            }
            if number % FULL_CHECK_EVERY == 0 || number == transactions {
                self.perform(Event::Check)?;
            }
        }
        Ok(())
    }

    fn race(&mut self) -> Result<(), String> {
        let (model, ground) = (self.stage.model(0), self.ground());
        let runners = race::runners(&mut Context { random: &mut self.random, model: &model, ground });
        self.perform(Event::Race { runners })?;
        self.model = None;
        self.perform(Event::Check).map(drop)
    }

    /// A reader that stays keeps the WAL from starting anew; one that goes lets it.
    fn hold_or_release_snapshot(&mut self) -> Result<(), String> {
        if self.random.percent(15) {
            let held = self.stage.is_reader_in_transaction();
            self.perform(if held { Event::Release } else { Event::Hold })?;
        }
        Ok(())
    }

    fn transaction(&mut self) -> Result<(), String> {
        let others: Vec<usize> = (0..self.script.writers.len())
            .filter(|at| self.script.writers[*at].kind != Kind::Local)
            .collect();
        let writer = if self.random.percent(30) { *self.random.pick(&others) } else { self.random.index(3) };
        let kind = self.script.writers[writer].kind;
        // A witness makes SQLite delete row by row, so some transactions have none.
        let witness = match kind {
            Kind::Local => {
                self.random.weighted(&[(3, Witness::Nobody), (4, Witness::Session), (3, Witness::Recorder)])
            }
            Kind::Child | Kind::System | Kind::Apsw => Witness::Nobody,
        };
        self.perform(Event::Begin { writer, witness })?;
        if kind != Kind::Local {
            self.stage.report.by_other_process += 1;
        }
        match kind {
            Kind::Local => {}
            Kind::Child => self.stage.note("written by another process"),
            Kind::System => self.stage.note("written by the system's SQLite"),
            Kind::Apsw => self.stage.note("written by the newest SQLite"),
        }
        let ddl = match self.random.below(100) {
            0..=8 => self.alone(writer, steps::outside)?,
            9 => self.restore_a_copy(writer)?,
            10..=24 => self.alone(writer, steps::inside)?,
            _ => self.explicit(writer)?,
        };
        self.stage.report.with_ddl += u64::from(ddl);
        if ddl {
            self.stage.note("schema change");
            self.model = None;
        }
        self.perform(Event::End { ddl }).map(drop)
    }

    /// A step whose statements commit one by one.
    fn alone(&mut self, writer: usize, maker: fn(&mut Context<'_>) -> Step) -> Result<bool, String> {
        let step = self.step(writer, maker);
        self.take(writer, &step)?;
        Ok(step.ddl)
    }

    /// `sqlite3_backup` into the followed file.
    fn restore_a_copy(&mut self, writer: usize) -> Result<bool, String> {
        let mut edits = Vec::new();
        for _ in 0..self.random.range(0, 5) {
            let step = if self.random.percent(20) {
                Step::schema("VACUUM", "VACUUM".to_owned())
            } else {
                self.step(writer, steps::inside)
            };
            edits.extend(step.actions.into_iter().filter_map(|action| match action {
                Action::Sql(sql) => Some(sql),
                Action::Blob { .. } => None,
            }));
        }
        let pages = *self.random.pick(&[1, 10, 100_000]);
        let outcome = self.perform(Event::Backup { pages, edits })?;
        self.count(&outcome, "sqlite3_backup into the database");
        self.count_step("sqlite3_backup into it", outcome.error.is_none());
        Ok(true)
    }

    /// A transaction of several steps, and whether it changed the schema.
    fn explicit(&mut self, writer: usize) -> Result<bool, String> {
        let begin = *self.random.pick(&["BEGIN", "BEGIN IMMEDIATE"]);
        self.run_sql(writer, begin)?;
        let mut ddl = false;
        let steps = self.random.weighted(&[(4, 1), (3, 2), (3, 4), (1, 8)]);
        for _ in 0..steps {
            let step = self.step(writer, steps::inside);
            ddl |= step.ddl;
            if !self.take(writer, &step)? {
                // A statement gave up the whole transaction.
                self.stage.report.rolled_back += 1;
                return Ok(ddl);
            }
            if self.random.percent(6) {
                self.stage.report.polls_inside_transactions += 1;
                self.perform(Event::Poll)?;
            }
        }
        if self.script.writers[writer].kind != Kind::Local && self.random.percent(8) {
            self.perform(Event::Kill { writer })?;
            self.count_step("writer killed in a transaction", true);
            self.stage.report.rolled_back += 1;
            return Ok(ddl);
        }
        let end = if self.random.percent(8) { "ROLLBACK" } else { "COMMIT" };
        let outcome = self.run_sql(writer, end)?;
        if outcome.in_transaction {
            // Deferred foreign keys do not hold.
            self.run_sql(writer, "ROLLBACK")?;
        }
        self.stage.report.rolled_back += u64::from(end == "ROLLBACK" || outcome.error.is_some());
        Ok(ddl)
    }

    fn ground(&self) -> Ground {
        self.script.settings.ground(self.is_old)
    }

    fn step(&mut self, writer: usize, maker: fn(&mut Context<'_>) -> Step) -> Step {
        let model = self.stage.model(writer);
        let ground = self.ground();
        maker(&mut Context { random: &mut self.random, model: &model, ground })
    }

    /// Takes a step, and returns whether the transaction that was open before it, if one was, still is.
    fn take(&mut self, writer: usize, step: &Step) -> Result<bool, String> {
        let was_open = self.stage.in_transaction(writer);
        let mut worked = true;
        for action in &step.actions {
            let (event, text) = match action {
                Action::Sql(sql) => (Event::Sql { writer, sql: sql.clone() }, sql.as_str()),
                Action::Blob { .. } if self.script.writers[writer].kind != Kind::Local => continue,
                Action::Blob { table, column, bytes } => {
                    let (table, column) = (table.clone(), column.clone());
                    (Event::Blob { writer, table, column, bytes: bytes.clone() }, step.feature)
                }
            };
            let outcome = self.perform(event)?;
            self.count(&outcome, text);
            worked &= outcome.error.is_none();
            if was_open && !outcome.in_transaction && matches!(action, Action::Sql(_)) {
                self.count_step(step.feature, false);
                return Ok(false);
            }
            // What belongs together stops at the first failure, as an application would.
            if !worked && step.ddl {
                break;
            }
        }
        if !was_open {
            // A savepoint that a failed step left open would go on as a transaction.
            self.close_if_open(writer)?;
        }
        self.count_step(step.feature, worked);
        if worked {
            self.note_tables(step);
        }
        Ok(true)
    }

    /// What the tables exercise that a step names.
    fn note_tables(&mut self, step: &Step) {
        let stage = &mut self.stage;
        let model = self.model.get_or_insert_with(|| stage.model(0));
        let mut seen = BTreeSet::new();
        for action in &step.actions {
            match action {
                Action::Sql(sql) => tables::exercised(model, sql, &mut seen),
                Action::Blob { .. } => {}
            }
        }
        seen.into_iter().for_each(|feature| stage.note(feature));
    }

    fn close_if_open(&mut self, writer: usize) -> Result<(), String> {
        if self.stage.in_transaction(writer) {
            self.run_sql(writer, "COMMIT")?;
            if self.stage.in_transaction(writer) {
                self.run_sql(writer, "ROLLBACK")?;
            }
        }
        Ok(())
    }

    fn run_sql(&mut self, writer: usize, sql: &str) -> Result<Outcome, String> {
        let outcome = self.perform(Event::Sql { writer, sql: sql.to_owned() })?;
        self.count(&outcome, sql);
        Ok(outcome)
    }

    fn count(&mut self, outcome: &Outcome, what: &str) {
        let report = &mut self.stage.report;
        match &outcome.error {
            None => report.statements_ok += 1,
            Some(error) => {
                report.statements_failed += 1;
                let start: String = what.chars().take(60).collect();
                *report.errors.entry(format!("{error} | {start}")).or_default() += 1;
            }
        }
    }

    fn count_step(&mut self, feature: &'static str, worked: bool) {
        let entry = self.stage.report.steps.entry(feature).or_default();
        *entry = (entry.0 + 1, entry.1 + u64::from(worked));
        if worked {
            self.stage.note(feature);
        }
    }
}
