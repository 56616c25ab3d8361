//! Databases as applications leave them.

use std::fs;

use super::{Application, command, examine, examine_with, look};
use crate::processes::{diff, run, synddb};
use crate::programs::sql;

#[test]
fn every_way_in_which_a_database_may_lie_there_is_read_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("a b%3f?.db");
    // The name needs every care, and so do the forms.
    fs::write(&app, "").unwrap();
    examine(&app).says("form", "ok", "nothing was written");

    sql(&app, "PRAGMA page_size = 8192; PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (a);");
    let found = examine(&app);
    assert_eq!((found.exit, &found.count["refused"]), (0, &0.into()));
    found.says("journal_mode", "ok", "switches it to WAL");
    found.says("page_size", "ok", "8192");
    found.says("encoding", "ok", "UTF-16le");
    found.says("readable", "ok", "reads");
    found.says("schema", "ok", "everything");
    found.says("agent", "ok", "nobody");
    found.says("folder", "ok", "will be made");
    found.says("users", "ok", "no application");

    // Closed by its last user, in WAL mode.
    sql(&app, "PRAGMA journal_mode = WAL;");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    examine(&app).says("journal_mode", "ok", "is in WAL mode");
    // An index alone, as a crash may leave it: SQLite would make a WAL.
    let beside = |suffix: &str| {
        let mut name = app.clone().into_os_string();
        name.push(suffix);
        std::path::PathBuf::from(name)
    };
    for index in [Vec::new(), vec![0; 32_768]] {
        fs::write(beside("-shm"), index).unwrap();
        examine(&app).says("readable", "ok", "reads");
        assert!(!beside("-wal").exists());
    }
    fs::remove_file(beside("-shm")).unwrap();

    // Open, with commits in the WAL: what is only there is seen.
    let application = Application::start(&app, "CREATE TABLE _synddb_mine (a)");
    examine(&app).says("schema", "refused", "_synddb_mine");
    application.kill();
    examine(&app).says("schema", "refused", "_synddb_mine");

    // Copied without the index.
    fs::remove_file(beside("-shm")).unwrap();
    examine(&app).says("readable", "warning", "without its index");

    let found = examine(&app);
    assert_eq!(found.exit, 0, "what only the WAL holds is not looked at, and said so");
}

#[test]
fn a_transaction_that_a_crash_left_half_done_is_told_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(100000));");
    // With so small a cache, pages are written before COMMIT.
    Application::start(&app, "PRAGMA cache_size = 1; BEGIN; UPDATE t SET a = zeroblob(200000)").kill();
    assert!(folder.path().join("app.db-journal").metadata().unwrap().len() > 0);
    let found = examine(&app);
    found.says("readable", "warning", "taken back");
    assert_eq!(found.exit, 0, "following takes it back");
}

#[test]
fn an_application_is_named_with_its_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "PRAGMA journal_mode = WAL; CREATE TABLE t (a);");
    let application = Application::start(&app, "SELECT * FROM t");
    let version: Vec<u32> = application.sqlite.split('.').map(|number| number.parse().unwrap()).collect();
    let is_weak = version < vec![3, 51, 3];
    let severity = if is_weak { "warning" } else { "ok" };
    let found = examine(&app);
    let said = found.says("sqlite_version", severity, &format!("(process {})", application.child.id()));
    assert!(said.contains(&format!("SQLite {}", application.sqlite)), "{said}");
    assert_eq!(said.contains("can lose commits"), is_weak, "{said}");
    application.end();
    assert_eq!(look(command(&app)).all("sqlite_version"), Vec::<serde_json::Value>::new());
}

/// Keeps a connection of the newest SQLite.
const NEW: &str = "
import apsw, sys
sqlite = apsw.Connection(sys.argv[1])
sqlite.execute('SELECT * FROM t').fetchall()
print(apsw.sqlite_lib_version(), flush=True)
sys.stdin.read()
";

#[test]
fn a_repaired_sqlite_is_no_warning() {
    let Some(python) = std::env::var_os("SYNDDB_PYTHON_APSW") else {
        println!("SYNDDB_PYTHON_APSW is not set: no new SQLite to look at");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "PRAGMA journal_mode = WAL; CREATE TABLE t (a);");
    let mut program = std::process::Command::new(python);
    program.args(["-c", NEW, app.to_str().unwrap()]);
    let application = Application::of(program);
    examine(&app).says("sqlite_version", "ok", &format!("SQLite {}", application.sqlite));
    application.end();
}

#[test]
fn a_database_in_memory_is_warned_of() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a);");
    let found = examine(&app);
    found.says("file_system", "warning", "tmpfs");
    assert_eq!(found.exit, 0);
}

#[test]
fn limits_are_compared_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "PRAGMA journal_mode = WAL; CREATE TABLE t (a);");
    let application =
        Application::start(&app, "PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES (zeroblob(3000000))");
    examine(&app).says("wal_size", "ok", "2.8 MiB");
    let with = |arguments: &[&str]| {
        let mut command = command(&app);
        command.args(arguments);
        examine_with(&app, command)
    };
    with(&["--wal-limit", "1"]).says("wal_size", "warning", "2.8 MiB");
    // No disk has so much room.
    with(&["--outbox-limit", "1048576"]).says("room", "warning", "outbox");
    with(&["--outbox-limit", "1"]).says("room", "ok", "outbox");
    application.end();
}

#[test]
fn a_full_look_reads_every_page_and_row() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(
        &app,
        "CREATE TABLE t (a); CREATE INDEX i ON t (a); INSERT INTO t SELECT value FROM generate_series(1, 5000);",
    );
    let full = || {
        let mut command = command(&app);
        command.arg("--full");
        examine_with(&app, command)
    };
    let found = full();
    found.says("integrity", "ok", "finds nothing");
    let copy = folder.path().join("copy.db");
    fs::copy(&app, &copy).unwrap();
    let (_, equal, _) = diff(&app, &copy);
    let state = equal.trim().rsplit(' ').next().unwrap();
    found.says("state", "ok", state);

    // A page in the middle, which the schema does not need.
    let mut bytes = fs::read(&app).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0);
    fs::write(&app, bytes).unwrap();
    let found = full();
    found.says("integrity", "refused", "integrity_check");
    assert_eq!(found.exit, 2);
    assert_eq!(examine(&app).exit, 0, "a short look does not read that page");
}

#[test]
fn what_is_no_file_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.db");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (exit, _, errors) = run(synddb(["doctor", pipe.to_str().unwrap()]));
    assert_eq!(exit, 2, "{errors}");
}

#[test]
fn people_read_a_line_and_below_it_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE _synddb_mine (a);");
    let (exit, told, errors) = run(synddb(["doctor", app.to_str().unwrap()]));
    assert_eq!((exit, errors.as_str()), (2, ""));
    let mut lines = told.lines().skip_while(|line| !line.starts_with("refused  schema: "));
    assert!(lines.next().is_some_and(|line| line.contains("_synddb_mine")), "{told}");
    assert!(lines.next().is_some_and(|line| line.starts_with("         ")), "{told}");
    assert!(told.trim_end().lines().last().unwrap().starts_with("the database cannot be followed"), "{told}");
    let (exit, _, errors) = run(synddb(["doctor", "nowhere.db"]));
    assert_eq!(exit, 2);
    assert!(errors.contains("check the path"), "{errors}");
}
