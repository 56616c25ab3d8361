//! An application and its agent lose power while sequencer, store and validator go on: nothing published is missing from what the
//! application recovers (I2), the outbox holds what it promised (I3), and everything goes on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::application::{Application, Habits, Open, Rows, Work, kept, missing, rows_of};
use super::disk::{Disk, Mode};
use super::found::Found;
use super::machine::{Cut, Machine};
use super::told::Told;
use super::world::{MOMENT, World};
use super::{drawn_mode, number};
use crate::chance::Chance;
use crate::dev::PATIENCE_TEXT;
use crate::processes::{diff, run, synddb};

/// Cuts, unless the environment says.
const CUTS: u64 = 6;

/// Cuts in the life of one database.
const CUTS_OF_ONE: u64 = 3;

/// At so many earlier records of each cut the disk is looked at as well, unless the environment says.
const LOOKS: u64 = 4;

/// How much is recorded until a cut, in bytes at most.
const RECORDED: [u64; 4] = [30_000, 300_000, 2_000_000, 6_000_000];

/// How long all run until a cut, in milliseconds at most.
const RUNS_MS: u64 = 3000;

/// What is taken away on purpose.
#[derive(Debug, Clone, Copy, Default)]
struct Planted {
    /// Syncs of the agent on files with this in their path do nothing.
    agent: Option<&'static str>,
    /// The application syncs nothing.
    synchronous_off: bool,
}

/// What was counted over all cuts.
#[derive(Debug, Default)]
struct Tally {
    cuts: u64,
    exactly: u64,
    reconciled: u64,
    anew: u64,
    lost_bytes: usize,
    looks: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cuts, exactly, reconciled, anew, lost_bytes, looks } = self;
        write!(
            f,
            "{cuts} cuts and {looks} earlier looks: {exactly} went on exactly, {reconciled} reconciled, {anew} began anew; \
             {lost_bytes} unsynced bytes lost"
        )
    }
}

/// One application's machine, and the world beside it.
struct Case {
    _scratch: tempfile::TempDir,
    scratch: PathBuf,
    machine: Machine,
    world: World,
    habits: Habits,
    planted: Planted,
    chance: Chance,
    seed: u64,
    life: u64,
}

impl Case {
    fn new(seed: u64, planted: Planted) -> Self {
        let mut chance = Chance::new(seed);
        let mut habits = Habits::of(&mut chance);
        if planted.synchronous_off {
            habits.synchronous = "OFF";
            // A writer that a shell holds up on a busy machine checkpoints nothing that could be lost.
            (habits.has_shell, habits.checkpoint) = (false, 20);
        } else if planted.agent.is_some() {
            // Otherwise the application syncs its WAL itself.
            habits.synchronous = "NORMAL";
        }
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().canonicalize().unwrap();
        let machine = Machine::new(&scratch, "disk");
        habits.create(&machine.root().join("app.db"));
        let world = World::start(&scratch);
        Self { _scratch: folder, scratch, machine, world, habits, planted, chance, seed, life: 0 }
    }

    fn app(&self) -> PathBuf {
        self.machine.root().join("app.db")
    }

    fn agent(&self) -> Told {
        let mut follow = self.machine.run(self.world.follow(&self.app()));
        if let Some(text) = self.planted.agent {
            follow.env("SYNDDB_DISK_UNSYNCED", text);
        }
        Told::start(follow, &self.world.log())
    }

    fn application(&mut self, work: Work) -> Application {
        self.life += 1;
        let (seed, said) = (self.chance.next() >> 1, self.scratch.join("committed"));
        Application::start(&self.app(), self.life, &self.habits, work, seed, said, |command| {
            self.machine.run(command)
        })
    }

    /// Runs both until enough is recorded, cuts the power, looks at what is left, and lays it down.
    fn cut(&mut self, agent: Option<Told>, tally: &mut Tally) -> Result<(), Found> {
        let (mut application, mut agent) = match agent {
            Some(agent) => (self.application(Work::Endless), agent),
            None => self.agent_comes_later()?,
        };
        if self.chance.below(3) == 0 {
            // Killed alone and started again before: what it did not sync, it may now believe to be durable.
            self.record(&mut agent)?;
            self.machine.kill(&mut agent.child);
            agent = self.agent();
        }
        self.record(&mut agent)?;
        let promised = self.world.status();
        let mut children: Vec<_> = application.children().collect();
        children.push(&mut agent.child);
        let mut cut = self.machine.cut(&mut children);
        drop(children);
        self.heard(&mut agent)?;
        self.look_earlier(&mut cut, tally)?;
        cut.finish();
        let mode = drawn_mode(&mut self.chance);
        let (recovered, captured) = look(&cut.disk, &self.looked(), mode)?;
        let settled = self.world.settle().map_err(Found::Stuck)?;
        let published = match self.world.replica() {
            replica if replica.exists() => rows_of(&replica, Open::Reading).map_err(Found::Different)?,
            _ => Rows::new(),
        };
        let lost = cut.disk.lay(self.machine.root(), mode);
        tally.cuts += 1;
        tally.lost_bytes += lost.bytes;
        let committed = application.committed();
        println!(
            "cut {} of seed {}: {:?} {mode:?}, after {} records; lost {} bytes and {} names; rows: {committed} committed by the \
             writer, {} recovered, {} in the outbox, {} published",
            tally.cuts,
            self.seed,
            self.habits,
            cut.disk.records(),
            lost.bytes,
            lost.names,
            recovered.len(),
            captured.as_ref().map_or(0, |captured| captured.rows.len()),
            published.len(),
        );
        if let Some(missing) = missing(&published, &recovered) {
            return Err(Found::Published(missing));
        }
        let own = recovered.keys().filter(|(life, _)| *life == self.life).count() as u64;
        if self.habits.synchronous == "FULL" && own < committed {
            let text = format!("with FULL, {committed} rows were committed and {own} recovered");
            return Err(Found::Application(text));
        }
        for status in [promised, settled].into_iter().flatten() {
            kept_what_was_sent(&status["sequenced_next"], captured.as_ref())?;
        }
        Ok(())
    }

    /// Looks at what a cut would have left at earlier records.
    fn look_earlier(&mut self, cut: &mut Cut, tally: &mut Tally) -> Result<(), Found> {
        let looks = number("SYNDDB_POWER_LOOKS", LOOKS);
        for number in 1..=looks {
            // Offset by chance, so that it is not the same place of each write.
            let place = cut.trace.end() * number / (looks + 1) + self.chance.below(5000);
            cut.disk.follow(&cut.trace, place);
            let mode = drawn_mode(&mut self.chance);
            let at = format!("; after {} records, {mode:?}", cut.disk.records());
            look(&cut.disk, &self.looked(), mode).map_err(|found| found.at(&at))?;
            tally.looks += 1;
        }
        Ok(())
    }

    /// Where a disk is laid to be looked at.
    fn looked(&self) -> PathBuf {
        self.scratch.join("looked")
    }

    /// Lets all run until enough is recorded, or time is up.
    fn record(&mut self, agent: &mut Told) -> Result<(), Found> {
        let most = self.chance.one(&RECORDED);
        let until = self.machine.recorded() + self.chance.below(most);
        let deadline = Instant::now() + Duration::from_millis(self.chance.below(RUNS_MS));
        while self.machine.recorded() < until && Instant::now() < deadline {
            if !agent.listen(MOMENT) {
                return Err(Found::Stuck(format!("the agent ended: {:?}", agent.said("failed"))));
            }
            self.heard(agent)?;
        }
        Ok(())
    }

    /// The application writes before there is an agent, and is busy or quiet while it attaches: what the snapshot holds was perhaps never
    /// synced.
    fn agent_comes_later(&mut self) -> Result<(Application, Told), Found> {
        if self.chance.below(2) == 0 {
            let application = self.application(Work::Endless);
            let until = self.machine.recorded() + self.chance.below(RECORDED[1]);
            while self.machine.recorded() < until {
                std::thread::yield_now();
            }
            return Ok((application, self.agent()));
        }
        let transactions = 1 + u32::try_from(self.chance.below(30)).unwrap();
        self.agent_comes_while_it_is_quiet(transactions)
    }

    /// The application has committed something, and then does nothing while the agent attaches.
    fn agent_comes_while_it_is_quiet(&mut self, transactions: u32) -> Result<(Application, Told), Found> {
        let mut application = self.application(Work::AndStays(transactions));
        while !application.is_idle() {
            std::thread::yield_now();
        }
        let mut agent = self.agent();
        agent.event("attached").map_err(Found::Stuck)?;
        Ok((application, agent))
    }

    /// Notes what the agent follows.
    fn heard(&mut self, agent: &mut Told) -> Result<(), Found> {
        for attached in agent.said("attached") {
            self.world.follows(attached["stream"].as_str().unwrap()).map_err(Found::Stuck)?;
        }
        Ok(())
    }

    /// Has the application write more, and makes sure that the replica equals it in the end.
    fn go_on(&mut self, agent: &mut Told) -> Result<(), Found> {
        self.application(Work::Transactions(20)).finish();
        let app = self.app();
        let app = app.to_str().unwrap();
        let validator = self.world.validator_url();
        let arguments = ["wait", app, "--validator", validator, "--timeout", PATIENCE_TEXT, "--json"];
        let (exit, told, errors) = run(synddb(arguments));
        if exit != 0 {
            return Err(Found::Stuck(format!("wait: {exit} {told}{errors} {:?}", agent.said("warning"))));
        }
        let (exit, told, errors) = diff(Path::new(app), &self.world.replica());
        if exit == 0 { Ok(()) } else { Err(Found::Different(format!("{told}{errors}"))) }
    }

    /// Cuts the power so often, and lets all go on in between.
    fn run(&mut self, cuts: u64, tally: &mut Tally) -> Result<(), Found> {
        self.machine.power_on();
        let mut agent = (self.chance.below(3) > 0).then(|| self.agent());
        for _ in 0..cuts {
            self.cut(agent.take(), tally)?;
            self.machine.power_on();
            match self.chance.below(4) {
                // The next cut meets the agent while it attaches.
                0 => {
                    agent = Some(self.agent());
                    continue;
                }
                1 => continue,
                _ => {}
            }
            let mut comes = self.agent();
            let attached = comes.event("attached").map_err(Found::Stuck)?;
            self.world.follows(attached["stream"].as_str().unwrap()).map_err(Found::Stuck)?;
            let how = attached["continuity"].as_str().unwrap();
            println!("    {how}");
            match how {
                "exact" => tally.exactly += 1,
                "reconciled" => tally.reconciled += 1,
                _ => tally.anew += 1,
            }
            self.go_on(&mut comes)?;
            agent = Some(comes);
        }
        Ok(())
    }
}

/// What the newest outbox held.
struct Captured {
    incarnation: u64,
    next: u64,
    rows: Rows,
}

/// What the application would recover of a disk, and what the newest outbox holds. Everything in any outbox must be recovered.
fn look(disk: &Disk, folder: &Path, mode: Mode) -> Result<(Rows, Option<Captured>), Found> {
    disk.lay(folder, mode);
    let recovered = rows_of(&folder.join("app.db"), Open::Recovering).map_err(Found::Application)?;
    let mut newest = None;
    let incarnations = std::fs::read_dir(folder.join("app.db-synddb/incarnations"));
    for entry in incarnations.into_iter().flatten() {
        let entry = entry.unwrap();
        // One that did not begin yet has another ending.
        let Ok(incarnation) = entry.file_name().to_str().unwrap().parse::<u64>() else { continue };
        let kept = kept(&entry.path().join("outbox.db")).map_err(Found::Outbox)?;
        if let Some(missing) = missing(&kept.rows, &recovered) {
            return Err(Found::Captured(missing));
        }
        if newest.as_ref().is_none_or(|newest: &Captured| newest.incarnation < incarnation) {
            newest = Some(Captured { incarnation, next: kept.next, rows: kept.rows });
        }
    }
    Ok((recovered, newest))
}

/// Nothing is sent that is not in the outbox durably: what the sequencer has, the outbox has, or had and forgot when it was stored.
fn kept_what_was_sent(next: &Value, captured: Option<&Captured>) -> Result<(), Found> {
    let (Some(incarnation), Some(commit)) =
        (next["incarnation"]["counter"].as_u64(), next["commit"].as_u64())
    else {
        return Ok(());
    };
    let has = captured.map(|captured| (captured.incarnation, captured.next));
    if has >= Some((incarnation, commit)) {
        return Ok(());
    }
    Err(Found::Outbox(format!("sent up to {next}, and the outbox has {has:?}")))
}

#[test]
fn nothing_is_published_that_a_power_cut_takes() {
    let (cuts, first) = (number("SYNDDB_POWER_CUTS", CUTS), number("SYNDDB_POWER_SEED", 1));
    let mut tally = Tally::default();
    for seed in first.. {
        let left = cuts - tally.cuts;
        if left == 0 {
            break;
        }
        let mut case = Case::new(seed, Planted::default());
        let found = case.run(left.min(CUTS_OF_ONE), &mut tally);
        assert!(found.is_ok(), "seed {seed}: {found:?}");
    }
    println!("{tally}");
    assert!(tally.lost_bytes > 0, "no cut took anything");
}

#[test]
fn a_snapshot_shows_nothing_that_was_not_synced() {
    let mut case = Case::new(1, Planted::default());
    // It syncs only when it checkpoints, and it does not checkpoint; nor does the agent so small a WAL.
    (case.habits.synchronous, case.habits.checkpoint) = ("NORMAL", 0);
    case.machine.power_on();
    let (mut application, mut agent) = case.agent_comes_while_it_is_quiet(1).unwrap();
    case.heard(&mut agent).unwrap();
    agent.event("snapshot_stored").unwrap();
    case.world.settle().unwrap();
    let mut cut = case.machine.cut(&mut [&mut application.writer, &mut agent.child]);
    cut.finish();
    let (recovered, _) = look(&cut.disk, &case.looked(), Mode::Strict).unwrap();
    let published = rows_of(&case.world.replica(), Open::Reading).unwrap();
    assert!(!published.is_empty());
    assert_eq!(missing(&published, &recovered), None);
}

/// Seeds within which a planted fault must be found: most find it within one or two.
const SEEDS: u64 = 24;

/// Takes something away, and returns what was found first. That somebody does not go on shows no fault of its own: on what such a cut leaves, an agent may
/// rightly refuse to begin.
fn planted(planted: Planted) -> Found {
    let mut tally = Tally::default();
    for seed in 1..=SEEDS {
        match Case::new(seed, planted).run(CUTS_OF_ONE, &mut tally) {
            Ok(()) => {}
            Err(found @ Found::Stuck(_)) => println!("{planted:?}, seed {seed}: {found:?}; the next seed"),
            Err(found) => {
                println!("{planted:?}, seed {seed}: {found:?}");
                return found;
            }
        }
    }
    panic!("nobody noticed in {SEEDS} seeds, {tally}: {planted:?}");
}

#[test]
fn a_wal_that_is_not_synced_is_found() {
    let found = planted(Planted { agent: Some("app.db-wal"), ..Planted::default() });
    assert!(matches!(found, Found::Published(_) | Found::Captured(_)), "{found:?}");
}

#[test]
fn an_outbox_that_is_not_synced_is_found() {
    let found = planted(Planted { agent: Some("outbox.db"), ..Planted::default() });
    assert!(matches!(found, Found::Outbox(_)), "{found:?}");
}

/// An application that syncs nothing can lose what was published, and damage its file. That is its own choice; nobody beside it can
/// make durable what its checkpoints have written. Where pages of two times make a file that SQLite finds whole, only the comparison with the replica shows it.
#[test]
fn an_application_that_does_not_sync_is_found() {
    let found = planted(Planted { synchronous_off: true, ..Planted::default() });
    let of_application = matches!(
        found,
        Found::Application(_) | Found::Published(_) | Found::Captured(_) | Found::Different(_)
    );
    assert!(of_application, "{found:?}");
}

/// `tempfile` renames by raw system calls unless `rustix` goes by libc, as the tests of this package have it.
#[test]
fn what_the_agent_names_is_recorded() {
    let mut case = Case::new(1, Planted::default());
    case.machine.power_on();
    let mut agent = case.agent();
    agent.event("attached").unwrap();
    let mut cut = case.machine.cut(&mut [&mut agent.child]);
    let named: Vec<_> = cut.trace.records(0).filter_map(|(_, record)| record.named()).collect();
    for name in ["/app.db-synddb/stream", "/incarnations/000000000001"] {
        assert!(named.iter().any(|path| path.ends_with(name)), "{name}: {named:?}");
    }
    cut.finish();
}
