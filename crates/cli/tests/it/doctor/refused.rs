//! What stops following: said by `doctor`, and refused by whoever follows, in the same words.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::{Application, examine, examine_with};
use crate::processes::{run, synddb};
use crate::programs::sql;

/// Makes sure that `follow` and `dev` refuse in the words of a finding, and make nothing.
fn refused_by_who_follows(database: &Path, seen: &str, prepare: impl Fn(&mut Command)) {
    let folder = database.parent().unwrap();
    let token = tempfile::NamedTempFile::new().unwrap();
    fs::write(token.path(), "a-token-of-more-than-thirty-two-characters").unwrap();
    let (app, token) = (database.to_str().unwrap(), token.path().to_str().unwrap());
    let follow = ["follow", app, "--sequencer", "http://127.0.0.1:9", "--token-file", token];
    let before = fs::read_dir(folder).unwrap().count();
    // What was seen ends with its values, which stand behind the fix in an error.
    let what = seen.split_once(". file=`").map_or(seen, |(what, _)| what);
    for arguments in [&follow[..], &["dev", app, "--port", "0", "--validator-port", "0"]] {
        let mut command = synddb(arguments.iter().copied());
        prepare(&mut command);
        let (exit, told, errors) = run(command);
        assert_eq!((exit, told.as_str()), (2, ""), "{arguments:?}: {errors}");
        assert!(errors.contains(what), "{arguments:?}: {errors}");
        assert_eq!(fs::read_dir(folder).unwrap().count(), before, "{arguments:?} left something");
    }
}

#[test]
fn what_is_no_database_is_told_from_what_is_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a); INSERT INTO t VALUES (randomblob(20000));");
    let plain = fs::read(&app).unwrap();
    let as_it_should_be = |bytes: &[u8], text: &str| {
        fs::write(&app, bytes).unwrap();
        let found = examine(&app);
        let seen = found.says("form", "refused", text);
        refused_by_who_follows(&app, &seen, |_| {});
    };
    as_it_should_be("not a database at all ".repeat(1000).as_bytes(), "no database");
    // A key stream over everything, as SQLCipher leaves a file.
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let mut encrypted = plain.clone();
    for byte in &mut encrypted {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        *byte ^= word.to_le_bytes()[3];
    }
    as_it_should_be(&encrypted, "looks encrypted");
    // With the header left readable.
    encrypted[..100].copy_from_slice(&plain[..100]);
    encrypted[100] = 0x77;
    as_it_should_be(&encrypted, "looks encrypted");
    // As the branch of SQLite with two WALs marks its files.
    let mut wal2 = plain.clone();
    wal2[18..20].fill(3);
    as_it_should_be(&wal2, "WAL2");
    fs::write(&app, &plain).unwrap();
    assert_eq!(examine(&app).exit, 0);
}

#[test]
fn who_keeps_others_out_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a);");
    for statements in [
        "BEGIN EXCLUSIVE",
        "PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t VALUES (1)",
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; INSERT INTO t VALUES (1)",
    ] {
        let application = Application::start(&app, statements);
        let found = examine(&app);
        found.says("lock", "refused", &format!("(process {})", application.child.id()));
        application.end();
        examine(&app).says("lock", "ok", "nobody");
    }
}

#[test]
fn what_this_user_may_not_write_is_refused() {
    const NOBODY: u32 = 65_534;
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a);");
    let is_root = fs::metadata(&app).unwrap().uid() == 0;
    // Root may write everything. Whoever else it runs as must be able to reach the command.
    let binary = tempfile::tempdir().unwrap();
    let copy = binary.path().join("synddb");
    // By a process of its own: a child that another test starts meanwhile would inherit a copy that is still being written.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_synddb")).arg(&copy).status().unwrap().success());
    fs::set_permissions(binary.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let prepare = |command: &mut Command| {
        if is_root {
            let mut as_nobody = Command::new(&copy);
            as_nobody.args(command.get_args()).uid(NOBODY).gid(NOBODY).current_dir("/");
            *command = as_nobody;
        }
    };
    for (of_folder, of_file) in [(0o555, 0o644), (0o755, 0o444)] {
        if is_root {
            chown(&app, Some(NOBODY), None).unwrap();
            chown(folder.path(), Some(NOBODY), None).unwrap();
        }
        fs::set_permissions(&app, PermissionsExt::from_mode(of_file)).unwrap();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(of_folder)).unwrap();
        let mut command = super::command(&app);
        prepare(&mut command);
        let found = examine_with(&app, command);
        let seen = found.says("access", "refused", "may not write");
        refused_by_who_follows(&app, &seen, prepare);
    }
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    if is_root {
        fs::set_permissions(&app, PermissionsExt::from_mode(0o666)).unwrap();
        chown(&app, Some(0), None).unwrap();
        let mut command = super::command(&app);
        prepare(&mut command);
        examine_with(&app, command).says("owner", "warning", "another user's");
    }
}

#[test]
fn everything_in_a_schema_that_cannot_be_replicated_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(
        &app,
        "CREATE TABLE hidden (rowid, oid, _rowid_);
         CREATE TABLE _SYNDDB_mine (a);
         CREATE TABLE plain (a, b);
         CREATE VIRTUAL TABLE words USING fts5(body);
         PRAGMA writable_schema = ON;
         INSERT INTO sqlite_schema VALUES ('table', 'far', 'far', 0, 'CREATE VIRTUAL TABLE far USING nowhere(a)');",
    );
    let application = Application::of(crate::programs::python(
        "
import sqlite3, sys
sqlite = sqlite3.connect(sys.argv[1], isolation_level=None)
sqlite.create_function('theirs', 1, lambda value: value, deterministic=True)
sqlite.execute('CREATE INDEX i ON plain (theirs(a))')
sqlite.execute('CREATE INDEX j ON plain (theirs(b))')
print(1, flush=True)
",
        [app.to_str().unwrap()],
    ));
    application.end();
    let found = examine(&app);
    assert_eq!(found.exit, 2);
    for text in ["table=`hidden`", "object=`_SYNDDB_mine`", "object=`i`", "object=`j`"] {
        found.says("schema", "refused", text);
    }
    assert_eq!(found.all("schema").len(), 4);
    found.says("virtual_tables", "ok", "module=`fts5`");
    found.says("virtual_tables", "warning", "module=`nowhere` table=`far`");
}
