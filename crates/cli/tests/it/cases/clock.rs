//! A clock that jumps by a day, under every process at once.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use crate::programs::{finish, python, sql, start};
use crate::roles::System;

const DAY: i64 = 24 * 60 * 60;

/// Builds the library that moves the clock of whoever loads it. There is a compiler wherever this test was built.
fn library(folder: &Path) -> std::path::PathBuf {
    let library = folder.join("clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/clock.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
    finish(start(compiler, ""));
    library
}

#[test]
fn nothing_depends_on_the_time_of_day() {
    let folder = tempfile::tempdir().unwrap();
    let shift = folder.path().join("shift");
    fs::write(&shift, 0_i64.to_le_bytes()).unwrap();
    // In place: a program that looks while the file is cut, to be written anew, would be ended by SIGBUS.
    let shifted = OpenOptions::new().write(true).open(&shift).unwrap();
    let set = |seconds: i64| shifted.write_all_at(&seconds.to_le_bytes(), 0).unwrap();
    let environment = [("LD_PRELOAD", library(folder.path())), ("SYNDDB_TEST_CLOCK", shift.clone())];
    let seconds = || -> f64 {
        let mut clock = python("import time; print(time.time())", []);
        clock.envs(environment.iter().map(|(name, value)| (name, value)));
        finish(start(clock, "")).trim().parse().unwrap()
    };
    let mut system = System::start_in(folder.path(), &environment);
    sql(&system.app, "CREATE TABLE t (a);");
    let mut agent = system.follow();
    let begun = seconds();
    for (round, days) in [1, -1, 0, -1, 1].into_iter().enumerate() {
        set(days * DAY);
        #[expect(clippy::cast_precision_loss, reason = "a few days")]
        let moved = seconds() - begun - (days * DAY) as f64;
        assert!(moved.abs() < 3600.0, "the clock was not moved");
        sql(&system.app, &format!("INSERT INTO t VALUES ({days}); UPDATE t SET a = a + 1;"));
        system.assert_equal();
        if round == 3 {
            // Its own log is ahead of its clock by two days then.
            system.restart_sequencer();
        }
    }
    system.assert_replica_equals();
    assert_eq!(agent.attached().len(), 1, "{:#?}", agent.events());
    agent.end();
}
