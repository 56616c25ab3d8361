//! Sequencer, store and validator lose power while the application and its agent go on: what the sequencer acknowledged is in its journal
//! or the store (I5), what was stored is stored (I4, I6), the replica is whole and goes on (I8).

use std::path::{Path, PathBuf};

use serde_json::Value;
use synddb_storage::Key;

use super::application::{Application, Habits, Work};
use super::disk::{Disk, Mode};
use super::found::Found;
use super::machine::Machine;
use super::told::Told;
use super::world::{MOMENT, Powers, World};
use super::{drawn_mode, number};
use crate::chance::Chance;
use crate::dev::PATIENCE_TEXT;
use crate::processes::{diff, run, synddb};

/// Cuts of each machine, unless the environment says.
const CUTS: u64 = 2;

/// How much a machine records until its cut, in bytes at most.
const RECORDED: [u64; 3] = [20_000, 200_000, 1_500_000];

/// Which machine loses power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The sequencer, with its journal alone.
    Sequencer,
    /// The sequencer with the store on its disk.
    SequencerAndStore,
    /// The validator.
    Validator,
}

struct Case {
    _scratch: tempfile::TempDir,
    scratch: PathBuf,
    app: PathBuf,
    world: World,
    agent: Told,
    habits: Habits,
    chance: Chance,
    who: Who,
    seed: u64,
    life: u64,
}

impl Case {
    fn new(seed: u64, who: Who, unsynced: Option<&'static str>) -> Self {
        let mut chance = Chance::new(seed);
        let habits = Habits::of(&mut chance);
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().canonicalize().unwrap();
        // With a long age, much is acknowledged that is not stored.
        let batch_age_ms = if who == Who::Sequencer { "2000" } else { "5" };
        let mut powers = Powers { unsynced, batch_age_ms, ..Powers::default() };
        let machine = Some(Machine::new(&scratch, "disk"));
        match who {
            Who::Validator => powers.validator = machine,
            Who::Sequencer | Who::SequencerAndStore => {
                powers.sequencer = machine;
                powers.with_store = who == Who::SequencerAndStore;
            }
        }
        let app = scratch.join("app.db");
        habits.create(&app);
        let mut world = World::start_on(&scratch, powers);
        let mut agent = Told::start(world.follow(&app), &world.log());
        let attached = agent.event("attached").unwrap();
        world.follows(attached["stream"].as_str().unwrap()).unwrap();
        Self { _scratch: folder, scratch, app, world, agent, habits, chance, who, seed, life: 0 }
    }

    fn application(&mut self, work: Work) -> Application {
        self.life += 1;
        let (seed, said) = (self.chance.next() >> 1, self.scratch.join("committed"));
        Application::start(&self.app, self.life, &self.habits, work, seed, said, |command| command)
    }

    /// What the agent knows to be acknowledged: it has the receipts.
    fn acknowledged(&self) -> Value {
        let (_, told, _) = run(synddb(["status", self.app.to_str().unwrap(), "--json"]));
        let status: Value = serde_json::from_str(told.lines().next().unwrap_or("null")).unwrap_or_default();
        status["agent"]["sequenced_next"].clone()
    }

    fn cut(&mut self) -> Result<(), Found> {
        let application = self.application(Work::Endless);
        let most = self.chance.one(&RECORDED);
        let until = self.world.recorded() + self.chance.below(most);
        while self.world.recorded() < until {
            if !self.agent.listen(MOMENT) {
                return Err(Found::Stuck(format!("the agent ended: {:?}", self.agent.said("failed"))));
            }
            if self.world.sequencer.child.try_wait().unwrap().is_some() {
                return Err(Found::Stuck("the sequencer ended".to_owned()));
            }
        }
        let (acknowledged, before) = (self.acknowledged(), self.world.status().unwrap_or_default());
        let mode = drawn_mode(&mut self.chance);
        if self.who == Who::Validator {
            return self.cut_validator(mode);
        }
        let mut cut = self.world.cut_sequencer();
        // Before it can send anything again.
        self.agent.child.kill().unwrap();
        self.agent.child.wait().unwrap();
        drop(application);
        cut.finish();
        if let Some(missing) = missing_batch(&cut.disk, mode, before["stored"].as_u64().unwrap_or(0)) {
            return Err(Found::Stored(missing));
        }
        let lost = self.world.restart_sequencer(&cut, mode).map_err(Found::Stuck)?;
        let after = self.world.settle_stored().map_err(Found::Stuck)?;
        println!(
            "cut of seed {}: {:?} {mode:?}, after {} records; lost {} bytes and {} names; acknowledged up to {acknowledged}, stored {} \
             before, {} after",
            self.seed,
            self.who,
            cut.disk.records(),
            lost.bytes,
            lost.names,
            before["stored"],
            after["stored"],
        );
        let (had, has) = (before["stored"].as_u64(), after["stored"].as_u64());
        if had > has {
            return Err(Found::Stored(format!("{had:?} was stored, and now {has:?} is")));
        }
        let next =
            |position: &Value| (position["incarnation"]["counter"].as_u64(), position["commit"].as_u64());
        if next(&acknowledged) > next(&after["sequenced_next"]) {
            let found = &after["sequenced_next"];
            return Err(Found::Acknowledged(format!(
                "acknowledged up to {acknowledged}, found up to {found}"
            )));
        }
        self.agent = Told::start(self.world.follow(&self.app), &self.world.log());
        self.agent.event("attached").map_err(Found::Stuck)?;
        Ok(())
    }

    fn cut_validator(&mut self, mode: Mode) -> Result<(), Found> {
        let mut cut = self.world.cut_validator();
        cut.finish();
        let lost = self.world.restart_validator(&cut, mode).map_err(Found::Stuck)?;
        println!(
            "cut of seed {}: {:?} {mode:?}, after {} records; lost {} bytes and {} names",
            self.seed,
            self.who,
            cut.disk.records(),
            lost.bytes,
            lost.names
        );
        Ok(())
    }

    /// Has the application write more, and makes sure that the replica equals it in the end.
    fn go_on(&mut self) -> Result<(), Found> {
        self.application(Work::Transactions(20)).finish();
        let app = self.app.to_str().unwrap();
        let arguments =
            ["wait", app, "--validator", self.world.validator_url(), "--timeout", PATIENCE_TEXT, "--json"];
        let (exit, told, errors) = run(synddb(arguments));
        if exit != 0 {
            let halted = self.world.validator.as_mut().map(|validator| validator.said("halted"));
            return Err(Found::Stuck(format!("wait: {exit} {told}{errors} {halted:?}")));
        }
        self.assert_same(&self.world.replica())?;
        // Of the store alone.
        let rebuilt = self.scratch.join(format!("rebuilt-{}.db", self.life));
        let (exit, told, errors) = run(self.world.rebuild(&rebuilt));
        if exit != 0 {
            return Err(Found::Stored(format!("replica: {exit} {told}{errors}")));
        }
        self.assert_same(&rebuilt)
    }

    fn assert_same(&self, replica: &Path) -> Result<(), Found> {
        let (exit, told, errors) = diff(&self.app, replica);
        if exit == 0 { Ok(()) } else { Err(Found::Different(format!("{told}{errors}"))) }
    }

    fn run(&mut self, cuts: u64) -> Result<(), Found> {
        for _ in 0..cuts {
            self.cut()?;
            self.go_on()?;
        }
        Ok(())
    }
}

/// A batch that was stored, and is not what is left.
fn missing_batch(disk: &Disk, mode: Mode, stored: u64) -> Option<String> {
    let ((seen, _), (left, _)) = (disk.left(Mode::Uncut), disk.left(mode));
    let is_stored = |path: &str| match path.strip_prefix("store/").map(str::parse) {
        Some(Ok(Key::Batch { first, .. })) => first.get() <= stored,
        _ => false,
    };
    let mut batches = seen.iter().filter(|(path, _)| is_stored(path));
    batches.find(|(path, content)| left.get(*path) != Some(content)).map(|(path, _)| path.clone())
}

fn survives(who: Who) {
    let cuts = number("SYNDDB_POWER_SERVICE_CUTS", CUTS);
    let first = number("SYNDDB_POWER_SEED", 1);
    for seed in first..first + cuts.div_ceil(CUTS) {
        let found = Case::new(seed, who, None).run(CUTS);
        assert!(found.is_ok(), "seed {seed}: {found:?}");
    }
}

#[test]
fn a_journal_keeps_what_was_acknowledged() {
    survives(Who::Sequencer);
}

#[test]
fn a_store_keeps_what_was_put() {
    survives(Who::SequencerAndStore);
}

#[test]
fn a_replica_is_whole_and_goes_on() {
    survives(Who::Validator);
}

/// Seeds within which a planted fault must be found.
const SEEDS: u64 = 8;

/// Has syncs of some files do nothing, and returns what was found first.
fn planted(who: Who, unsynced: &'static str) -> Found {
    for seed in 1..=SEEDS {
        if let Err(found) = Case::new(seed, who, Some(unsynced)).run(CUTS) {
            println!("{unsynced} is not synced, seed {seed}: {found:?}");
            return found;
        }
    }
    panic!("nobody noticed in {SEEDS} seeds that {unsynced} is not synced");
}

#[test]
fn a_journal_that_is_not_synced_is_found() {
    let found = planted(Who::Sequencer, "journal.db");
    assert!(matches!(found, Found::Acknowledged(_) | Found::Stuck(_)), "{found:?}");
}

#[test]
fn a_store_that_is_not_synced_is_found() {
    let found = planted(Who::SequencerAndStore, "/store");
    assert!(matches!(found, Found::Stored(_)), "{found:?}");
}

#[test]
fn a_replica_that_is_not_synced_is_found() {
    let found = planted(Who::Validator, "replica.db");
    assert!(matches!(found, Found::Stuck(_) | Found::Different(_)), "{found:?}");
}
