//! Another database under the same name: a backup that was put back, or something else.

use std::fs;
use std::path::Path;

use super::{EXACTLY, kill_with_pin};
use crate::programs::sql;
use crate::roles::{Role, System};

/// How a file comes under the database's name.
#[derive(Debug, Clone, Copy)]
enum By {
    /// Its content is written over the old one: it stays the same file.
    Copy,
    /// It takes the name: another file.
    Rename,
}

impl By {
    /// Exchanges the database as a careful person does: without what the old one left beside it.
    fn exchange(self, from: &Path, app: &Path) {
        for suffix in ["-wal", "-shm"] {
            fs::remove_file(format!("{}{suffix}", app.display())).ok();
        }
        match self {
            Self::Copy => drop(fs::copy(from, app).unwrap()),
            Self::Rename => fs::rename(from, app).unwrap(),
        }
    }
}

/// A system whose agent has seen something, and two files that may take the database's place: a backup, and one that is no kin of it.
fn followed(folder: &Path) -> (System, Role) {
    let system = System::start(folder);
    sql(&system.app, "CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 'in the backup');");
    let agent = system.follow();
    sql(&system.app, &format!(".backup '{}'", folder.join("backup.db").display()));
    sql(
        &system.app,
        "INSERT INTO t VALUES (2, 'not in the backup'); UPDATE t SET b = 'changed' WHERE a = 1;",
    );
    system.assert_equal();
    sql(&folder.join("other.db"), "CREATE TABLE other (x TEXT); INSERT INTO other VALUES ('no kin');");
    (system, agent)
}

fn exchanged_while_followed(by: By) {
    for from in ["backup.db", "other.db"] {
        let folder = tempfile::tempdir().unwrap();
        let (system, mut agent) = followed(folder.path());
        by.exchange(&folder.path().join(from), &system.app);
        sql(&system.app, "CREATE TABLE after (x); INSERT INTO after VALUES (1);");
        system.assert_replica_equals();
        let how = agent.attached();
        println!("{by:?} of {from} while followed: {}", how[how.len() - 1]);
        assert!(how.len() > 1 && !how[how.len() - 1].contains(EXACTLY), "{how:?}");
        agent.end();
    }
}

fn exchanged_while_away(by: By, keeps_pin: bool) {
    for from in ["backup.db", "other.db"] {
        let folder = tempfile::tempdir().unwrap();
        let (system, mut agent) = followed(folder.path());
        if keeps_pin {
            agent.kill()
        } else {
            kill_with_pin(&mut agent)
        }
        by.exchange(&folder.path().join(from), &system.app);
        let mut agent = system.follow();
        sql(&system.app, "CREATE TABLE after (x); INSERT INTO after VALUES (1);");
        system.assert_replica_equals();
        let how = agent.how();
        println!("{by:?} of {from} while nobody followed: {how}");
        assert!(!how.contains(EXACTLY), "{how}");
        agent.end();
    }
}

#[test]
fn a_database_is_copied_over_while_it_is_followed() {
    exchanged_while_followed(By::Copy);
}

#[test]
fn a_database_is_renamed_over_while_it_is_followed() {
    exchanged_while_followed(By::Rename);
}

#[test]
fn a_database_is_copied_over_while_nobody_follows() {
    exchanged_while_away(By::Copy, false);
}

#[test]
fn a_database_is_renamed_over_while_nobody_follows() {
    exchanged_while_away(By::Rename, false);
}

#[test]
fn a_database_is_copied_over_while_its_place_is_kept() {
    exchanged_while_away(By::Copy, true);
}

#[test]
fn a_database_is_renamed_over_while_its_place_is_kept() {
    exchanged_while_away(By::Rename, true);
}
