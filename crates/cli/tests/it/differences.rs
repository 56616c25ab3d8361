//! What `diff` finds, and that it finds nothing else.

use std::path::PathBuf;

use super::processes::{diff, run, synddb};
use super::programs::sql;

const BEFORE: &str = "
    PRAGMA synchronous = OFF;
    PRAGMA user_version = 3;
    CREATE TABLE t (id INTEGER PRIMARY KEY, v, d TEXT DEFAULT 'x');
    INSERT INTO t (id, v) VALUES (1, 1), (2, 'text'), (3, NULL), (4, ''), (5, 1.0), (6, '1'), (7, x'31'), (8, 0.0);
    CREATE TABLE keyless (a);
    INSERT INTO keyless VALUES ('one'), ('two');
    CREATE TABLE pair (a, b, PRIMARY KEY (a, b)) WITHOUT ROWID;
    INSERT INTO pair VALUES (1, 2), ('1', x'');
    CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT);
    INSERT INTO counted VALUES (10);
    CREATE INDEX t_v ON t (v);
    CREATE TRIGGER t_insert AFTER INSERT ON t BEGIN DELETE FROM keyless WHERE a = new.v; END;
    CREATE VIEW w AS SELECT v FROM t;
";

struct Pair {
    _folder: tempfile::TempDir,
    one: PathBuf,
    other: PathBuf,
}

/// Two files with equal content, of which the second was then changed.
fn changed(change: &str) -> Pair {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one.db"), folder.path().join("other.db"));
    sql(&one, BEFORE);
    sql(&other, BEFORE);
    if !change.is_empty() {
        sql(&other, change);
    }
    Pair { _folder: folder, one, other }
}

#[test]
fn each_difference_is_found_and_named() {
    let differences = [
        ("UPDATE t SET v = 2 WHERE id = 1", "t"),
        ("UPDATE t SET v = '' WHERE id = 3", "NULL"),
        ("UPDATE t SET v = NULL WHERE id = 4", "NULL"),
        ("UPDATE t SET v = 1.0 WHERE id = 1", "real"),
        ("UPDATE t SET v = '1' WHERE id = 1", "text"),
        ("UPDATE t SET v = 1 WHERE id = 5", "integer"),
        ("UPDATE t SET v = x'31' WHERE id = 6", "blob"),
        ("UPDATE t SET v = '1' WHERE id = 7", "blob"),
        ("UPDATE t SET v = -0.0 WHERE id = 8", "real"),
        ("UPDATE keyless SET rowid = 9 WHERE a = 'two'", "keyless"),
        ("DELETE FROM keyless WHERE a = 'two'", "only in the first"),
        ("INSERT INTO keyless VALUES ('two')", "only in the second"),
        ("UPDATE pair SET a = 1.0 WHERE b = 2", "pair"),
        ("DROP INDEX t_v", "t_v"),
        ("DROP TRIGGER t_insert", "t_insert"),
        ("DROP VIEW w", "w"),
        ("CREATE INDEX more ON keyless (a)", "more"),
        ("CREATE TABLE more (a)", "more"),
        (
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '''x''', '''y''') WHERE name = 't'",
            "'y'",
        ),
        ("PRAGMA user_version = 4", "user_version"),
        ("PRAGMA application_id = 4", "application_id"),
        ("UPDATE sqlite_sequence SET seq = 11", "sqlite_sequence"),
        ("PRAGMA encoding = 'UTF-16le'", ""),
    ];
    for (change, named) in differences {
        let pair = changed(&format!("{change};"));
        for (one, other) in [(&pair.one, &pair.other), (&pair.other, &pair.one)] {
            let (exit, told, errors) = diff(one, other);
            if named.is_empty() {
                // The encoding of a database that has content stays as it is, so nothing was changed.
                assert_eq!(exit, 0, "{change}: {told}{errors}");
                continue;
            }
            assert_eq!((exit, errors.as_str()), (1, ""), "{change}: {told}");
            let named = match named {
                "only in the first" if one == &pair.other => "only in the second",
                "only in the second" if one == &pair.other => "only in the first",
                named => named,
            };
            assert!(told.contains(named), "{change}: {told}");
        }
    }
}

#[test]
fn no_name_of_a_database_is_obeyed_by_a_terminal() {
    let table = "CREATE TABLE \"t\u{1b}[2J\nequal\" (\"k\u{9b}2J\" INTEGER PRIMARY KEY, \"c\u{1b}\");";
    let row = "INSERT INTO \"t\u{1b}[2J\nequal\" VALUES (1, 'v\u{1b}\u{202e}');";
    let pair = changed(table);
    let differs = |named: &str, lines: usize| {
        let (exit, told, errors) = diff(&pair.one, &pair.other);
        assert_eq!((exit, errors.as_str()), (1, ""), "{told}");
        assert!(told.contains(named), "{told}");
        assert_hidden(&told, lines);
    };
    differs("only in the second", 1);
    sql(&pair.one, table);
    assert_eq!(diff(&pair.one, &pair.other).0, 0);
    sql(&pair.other, row);
    differs("only in the second", 1);
    sql(&pair.one, &row.replace('v', "w"));
    differs("against", 2);
}

/// Fails when a terminal would obey a text, or when it has other lines than ours.
fn assert_hidden(told: &str, lines: usize) {
    assert_eq!(told.trim_end().lines().count(), lines, "{told:?}");
    let obeyed = |one: char| (one.is_control() && one != '\n') || one == '\u{202e}';
    assert!(!told.contains(obeyed), "{told:?}");
}

#[test]
fn equal_databases_are_equal_whatever_their_files_are() {
    for change in [
        "",
        "PRAGMA journal_mode = WAL; INSERT INTO t (v) VALUES (99); DELETE FROM t WHERE v = 99;",
        "PRAGMA page_size = 16384; VACUUM;",
        "PRAGMA auto_vacuum = FULL; VACUUM;",
        "ANALYZE;",
        "CREATE TABLE gone (a); DROP TABLE gone;",
    ] {
        let pair = changed(change);
        let (exit, told, errors) = diff(&pair.one, &pair.other);
        assert_eq!((exit, errors.as_str()), (0, ""), "{change}: {told}");
        assert!(told.starts_with("equal, at state 0x"), "{told}");
    }
}

#[test]
fn a_diff_leaves_nothing_beside_the_files() {
    let pair = changed("PRAGMA journal_mode = WAL;");
    let files = || {
        let mut names: Vec<_> = std::fs::read_dir(pair.one.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let before = files();
    assert_eq!(diff(&pair.one, &pair.other).0, 0);
    assert_eq!(files(), before);
}

#[test]
fn programs_get_one_json_object() {
    for (change, event, exit) in [("", "equal", 0), ("DROP VIEW w;", "different", 1)] {
        let pair = changed(change);
        let names = [pair.one.to_str().unwrap(), pair.other.to_str().unwrap()];
        let (found, told, errors) = run(synddb(["diff", "--json"].into_iter().chain(names)));
        assert_eq!((found, errors.as_str()), (exit, ""));
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["event"], event);
    }
}
