//! Grammar of races: what several connections do at the same time, each in its own process or thread.

use super::random::Random;
use super::script::Runner;
use super::setup::Kind;
use super::steps::{self, Action, Context};

/// Who takes part. Every race has an old writer and a checkpointer.
const RUNNERS: [Kind; 4] = [Kind::Child, Kind::System, Kind::Local, Kind::Apsw];

/// The runners of one race, and what each does. They all know the tables as they were before it.
pub(super) fn runners(context: &mut Context<'_>) -> Vec<Runner> {
    let mut runners = Vec::new();
    for kind in RUNNERS {
        let mut statements = Vec::new();
        for _ in 0..context.random.range(3, 10) {
            transaction(context, &mut statements);
        }
        runners.push(Runner { kind, statements });
    }
    runners.push(Runner { kind: Kind::Child, statements: checkpoints(context.random) });
    runners
}

fn transaction(context: &mut Context<'_>, statements: &mut Vec<String>) {
    let alone = context.random.percent(40);
    if !alone {
        statements.push("BEGIN IMMEDIATE".to_owned());
    }
    for _ in 0..context.random.range(1, 3) {
        let step = steps::inside(context);
        statements.extend(step.actions.into_iter().filter_map(|action| match action {
            Action::Sql(sql) => Some(sql),
            Action::Blob { .. } => None,
        }));
    }
    if !alone {
        statements.push(if context.random.percent(10) { "ROLLBACK" } else { "COMMIT" }.to_owned());
    }
}

/// Checkpoints of every mode, without patience: FULL and the others would wait for the follower's reader.
fn checkpoints(random: &mut Random) -> Vec<String> {
    let mut statements = vec!["PRAGMA busy_timeout = 10".to_owned()];
    for _ in 0..random.range(10, 40) {
        let mode = random.pick(&["PASSIVE", "FULL", "RESTART", "TRUNCATE"]);
        statements.push(format!("PRAGMA wal_checkpoint({mode})"));
    }
    statements
}
