//! Every kind of difference is found and named, and nothing is created or changed.

use std::path::{Path, PathBuf};

use synddb_protocol::submission::ObjectKind;
use synddb_sqlite::compare::{CompareError, Difference, Side, first_difference};
use synddb_sqlite::rusqlite::Connection;
use tempfile::TempDir;

const BASE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b DEFAULT 1);
    CREATE TABLE r(a);
    CREATE TABLE w(k TEXT COLLATE NOCASE, n, v, PRIMARY KEY(k DESC, n)) WITHOUT ROWID;
    CREATE TABLE s(id INTEGER PRIMARY KEY AUTOINCREMENT, a);
    CREATE INDEX ta ON t(a);
    CREATE TRIGGER tt AFTER DELETE ON r BEGIN DELETE FROM s; END;
    CREATE VIEW v AS SELECT a FROM t;
    CREATE VIRTUAL TABLE f USING fts5(x);
    CREATE VIRTUAL TABLE g USING rtree(id, x0, x1);
    INSERT INTO t VALUES(1, 'one', 1), (2, NULL, 2), (3, x'6f6e65', 3);
    INSERT INTO r VALUES('a'), ('b');
    INSERT INTO w VALUES('a', 1, 'v'), ('b', 1, 'v'), ('c', 1, 'v');
    INSERT INTO s(a) VALUES(1), (2);
    INSERT INTO f VALUES('hello world');
    INSERT INTO g VALUES(1, 0.5, 2.5);";

fn database(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection.close().unwrap();
}

fn two(first: &str, second: &str) -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one.db"), folder.path().join("other.db"));
    database(&one, first);
    database(&other, second);
    (folder, one, other)
}

fn difference_of(first: &str, second: &str) -> Option<Difference> {
    let (_folder, one, other) = two(first, second);
    first_difference(&one, &other).unwrap()
}

/// What makes the difference, and how it is told, in both directions.
fn assert_differs(change: &str, told: &str, told_back: &str) {
    let changed = format!("{BASE} {change}");
    let told_now = difference_of(BASE, &changed).expect(change).to_string();
    assert_eq!(told_now, told, "{change}");
    let told_now = difference_of(&changed, BASE).expect(change).to_string();
    assert_eq!(told_now, told_back, "{change}");
}

#[test]
fn equal_databases_do_not_differ() {
    assert_eq!(difference_of(BASE, BASE), None);
    assert_eq!(difference_of("", ""), None);
    // Statistics, our own tables and where a page lies are no part of the database.
    let noise = "CREATE TABLE noise(a); INSERT INTO noise VALUES(zeroblob(10000)); DROP TABLE noise; ANALYZE;
        CREATE TABLE _synddb_x(a); INSERT INTO _synddb_x VALUES(1);";
    assert_eq!(difference_of(BASE, &format!("{BASE} {noise}")), None);
    // R-Tree makes its nodes as large as a page, so that it is left out here.
    let plain =
        BASE.replace("CREATE VIRTUAL TABLE g USING rtree(id, x0, x1);", "CREATE TABLE g(id, x0, x1);");
    assert_eq!(difference_of(&format!("PRAGMA page_size = 512; {plain}"), &plain), None);
}

#[test]
fn values_differ_by_class_and_bytes() {
    let cell = |first: &str, second: &str| {
        let with = |value: &str| format!("CREATE TABLE t(a, b); INSERT INTO t VALUES(1, {value});");
        difference_of(&with(first), &with(second)).map(|difference| difference.to_string())
    };
    let told = |first: &str, second: &str| {
        Some(format!("table t, row _rowid_=1 (integer), column b: {first}\n  against {second}"))
    };
    assert_eq!(cell("1", "2"), told("1 (integer)", "2 (integer)"));
    assert_eq!(cell("NULL", "''"), told("NULL", "'' (text)"));
    assert_eq!(cell("1", "1.0"), told("1 (integer)", "1.0 (real)"));
    assert_eq!(cell("1", "'1'"), told("1 (integer)", "'1' (text)"));
    assert_eq!(cell("1.0", "'1'"), told("1.0 (real)", "'1' (text)"));
    assert_eq!(cell("0.0", "-0.0"), told("0.0 (real)", "-0.0 (real)"));
    assert_eq!(cell("'ab'", "x'6162'"), told("'ab' (text)", "x'6162' (blob)"));
    assert_eq!(
        cell("CAST(x'ff' AS TEXT)", "'a''b' || char(10)"),
        told("x'ff' (text, no valid UTF-8, 1 bytes)", "'a''b\\n' (text)")
    );
    assert_eq!(cell("'a'", "'a' || char(0) || 'b'"), told("'a' (text)", "'a\\u{0}b' (text)"));
    let long = cell("zeroblob(1000)", "CAST(zeroblob(500) || x'01' AS BLOB)").unwrap();
    assert!(long.contains("1000 bytes") && long.ends_with("from byte 500 on"), "{long}");
    assert_eq!(cell("x'00'", "x'00'"), None);
}

#[test]
fn rows_differ() {
    let one_changed = "table t, row id=2 (integer), column a: NULL\n  against 'x' (text)";
    let back = "table t, row id=2 (integer), column a: 'x' (text)\n  against NULL";
    assert_differs("UPDATE t SET a = 'x' WHERE id = 2;", one_changed, back);
    assert_differs(
        "UPDATE r SET rowid = 7 WHERE rowid = 2;",
        "table r, row _rowid_=2 (integer): only in the first database",
        "table r, row _rowid_=7 (integer): only in the first database",
    );
    assert_differs(
        "INSERT INTO t VALUES(9, 1, 1);",
        "table t, row id=9 (integer): only in the second database",
        "table t, row id=9 (integer): only in the first database",
    );
    assert_differs(
        "DELETE FROM t WHERE id = 1;",
        "table t, row id=1 (integer): only in the first database",
        "table t, row id=1 (integer): only in the second database",
    );
    assert_differs(
        "UPDATE sqlite_sequence SET seq = 9;",
        "table sqlite_sequence, row _rowid_=1 (integer), column seq: 2 (integer)\n  against 9 (integer)",
        "table sqlite_sequence, row _rowid_=1 (integer), column seq: 9 (integer)\n  against 2 (integer)",
    );
}

#[test]
fn rows_of_keyed_tables_differ() {
    assert_differs(
        "DELETE FROM w WHERE k = 'b';",
        "table w, row k='b' (text), n=1 (integer): only in the first database",
        "table w, row k='b' (text), n=1 (integer): only in the second database",
    );
    assert_differs(
        "UPDATE w SET v = NULL WHERE k = 'a';",
        "table w, row k='a' (text), n=1 (integer), column v: 'v' (text)\n  against NULL",
        "table w, row k='a' (text), n=1 (integer), column v: NULL\n  against 'v' (text)",
    );
    // Keys that SQL holds for equal.
    assert_differs(
        "DELETE FROM w WHERE k = 'b'; INSERT INTO w VALUES('B', 1, 'v');",
        "table w, row k='b' (text), n=1 (integer), column k: 'b' (text)\n  against 'B' (text)",
        "table w, row k='B' (text), n=1 (integer), column k: 'B' (text)\n  against 'b' (text)",
    );
    assert_differs(
        "DELETE FROM w WHERE k = 'b'; INSERT INTO w VALUES('b', 1.0, 'v');",
        "table w, row k='b' (text), n=1 (integer), column n: 1 (integer)\n  against 1.0 (real)",
        "table w, row k='b' (text), n=1.0 (real), column n: 1.0 (real)\n  against 1 (integer)",
    );
}

#[test]
fn header_values_differ() {
    assert_differs("PRAGMA user_version = 7;", "user_version: 0 against 7", "user_version: 7 against 0");
    assert_differs(
        "PRAGMA application_id = -7;",
        "application_id: 0 against -7",
        "application_id: -7 against 0",
    );
    let wide = format!("PRAGMA encoding = 'UTF-16be'; {BASE}");
    let difference = difference_of(BASE, &wide).unwrap();
    assert_eq!(difference.to_string(), "text encoding: UTF-8 against UTF-16be");
    assert_eq!(difference_of(&wide, &wide), None);
    let changed = format!("{wide} UPDATE t SET a = 'ö' WHERE id = 1");
    let told = difference_of(&wide, &changed).unwrap().to_string();
    assert_eq!(told, "table t, row id=1 (integer), column a: 'one' (text)\n  against 'ö' (text)");
}

#[test]
fn schemas_differ() {
    for (change, told, told_back) in [
        ("DROP INDEX ta;", "index ta: only in the first database", "index ta: only in the second database"),
        (
            "DROP TRIGGER tt;",
            "trigger tt: only in the first database",
            "trigger tt: only in the second database",
        ),
        ("DROP VIEW v;", "view v: only in the first database", "view v: only in the second database"),
        (
            "DROP TRIGGER tt; DROP TABLE r; CREATE TABLE r(a DEFAULT 1);",
            "table r, sql: CREATE TABLE r(a)\n  against CREATE TABLE r(a DEFAULT 1)",
            "table r, sql: CREATE TABLE r(a DEFAULT 1)\n  against CREATE TABLE r(a)",
        ),
        (
            "ALTER TABLE r ADD COLUMN b;",
            "table r, sql: CREATE TABLE r(a)\n  against CREATE TABLE r(a, b)",
            "table r, sql: CREATE TABLE r(a, b)\n  against CREATE TABLE r(a)",
        ),
    ] {
        assert_differs(change, told, told_back);
    }
    let order = difference_of("CREATE TABLE t(a, b)", "CREATE TABLE t(b, a)").unwrap();
    assert!(matches!(order, Difference::Sql { kind: ObjectKind::Table, .. }));
    let long = |name: &str| format!("CREATE TABLE t(a,\n{}b{name})", " ".repeat(300));
    let told = difference_of(&long("1"), &long("2")).unwrap().to_string();
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.lines().next().unwrap().ends_with("b1)") && told.ends_with("b2)"), "{told}");
    let unique = difference_of("CREATE TABLE t(a UNIQUE)", "CREATE TABLE t(a)").unwrap();
    assert!(matches!(unique, Difference::Sql { kind: ObjectKind::Table, .. }));
    let virtual_only = difference_of(
        &format!("{BASE} DROP TABLE g;"),
        &format!("{BASE} PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name LIKE 'g_%'"),
    );
    let expected = Difference::Object { kind: ObjectKind::Table, name: "g".into(), only_in: Side::Second };
    assert_eq!(virtual_only, Some(expected));
}

#[test]
fn the_order_of_the_schema_comes_last() {
    let first = "CREATE TABLE a(x); CREATE TABLE b(x);";
    let second = "CREATE TABLE b(x); CREATE TABLE a(x);";
    let expected = Difference::Place { first: "a".into(), second: "b".into() };
    assert_eq!(difference_of(first, second), Some(expected));
    let rows = difference_of(first, &format!("{second} INSERT INTO b VALUES(1)"));
    assert!(matches!(rows, Some(Difference::Row { .. })));
    // Other rowids, the same order: what is outside of replication took one.
    let shifted = "CREATE TABLE a(x); CREATE TABLE _synddb_x(x); CREATE TABLE b(x);";
    assert_eq!(difference_of(first, shifted), None);
}

#[test]
fn shadow_tables_are_compared() {
    let difference = difference_of(BASE, &format!("{BASE} INSERT INTO f VALUES('more')")).unwrap();
    assert!(
        matches!(&difference, Difference::Value { table, .. } | Difference::Row { table, .. }
        if table.starts_with("f_")),
        "{difference}"
    );
}

#[test]
fn many_rows_and_overflow_are_compared() {
    let rows = "CREATE TABLE t(a, b);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
        INSERT INTO t SELECT i, CAST(zeroblob(i) AS TEXT) FROM n;";
    assert_eq!(difference_of(rows, rows), None);
    let difference =
        difference_of(rows, &format!("{rows} UPDATE t SET b = b || 'x' WHERE rowid = 4999")).unwrap();
    let told = difference.to_string();
    assert!(told.starts_with("table t, row _rowid_=4999 (integer), column b:"), "{told}");
    assert!(told.ends_with("from byte 4999 on"), "{told}");
}

#[test]
fn one_file_is_refused_under_any_name() {
    let (folder, one, _) = two(BASE, BASE);
    let (symbolic, hard) = (folder.path().join("symbolic"), folder.path().join("hard"));
    std::os::unix::fs::symlink(&one, &symbolic).unwrap();
    std::fs::hard_link(&one, &hard).unwrap();
    for path in [&one, &symbolic, &hard] {
        let refused = first_difference(&one, path);
        assert!(matches!(refused, Err(CompareError::SameFile { .. })), "{refused:?}");
    }
}

#[test]
fn what_is_no_database_is_refused_and_not_created() {
    let (folder, one, _) = two(BASE, BASE);
    let missing = folder.path().join("missing.db");
    assert!(matches!(first_difference(&one, &missing), Err(CompareError::Open { .. })));
    assert!(matches!(first_difference(&missing, &one), Err(CompareError::Open { .. })));
    assert!(!missing.exists());
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, "no database at all, but long enough to have a header".repeat(20)).unwrap();
    assert!(matches!(first_difference(&one, &garbage), Err(CompareError::Read { .. })));
    assert!(matches!(first_difference(&one, folder.path()), Err(CompareError::Read { .. })));
    let cut = folder.path().join("cut.db");
    let bytes = std::fs::read(&one).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(first_difference(&one, &cut), Err(CompareError::Read { .. })));
}

fn listing(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn files_stay_as_they_are() {
    let wal = format!("PRAGMA journal_mode = WAL; {BASE}");
    for (first, second) in [(BASE, BASE), (&wal, &wal), (&wal, BASE)] {
        let (folder, one, other) = two(first, second);
        let before = listing(folder.path());
        assert_eq!(first_difference(&one, &other).unwrap(), None);
        assert!(before == listing(folder.path()));
    }
}

#[test]
fn commits_in_a_wal_count_and_stay_there() {
    let (folder, one, other) = two(&format!("PRAGMA journal_mode = WAL; {BASE}"), BASE);
    let writer = Connection::open(&one).unwrap();
    writer.execute_batch("INSERT INTO t VALUES(9, 1, 1)").unwrap();
    let difference = first_difference(&one, &other).unwrap();
    assert!(matches!(difference, Some(Difference::Row { only_in: Side::First, .. })));
    // The same of an application that crashed: its files without the one that is memory.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["one.db", "one.db-wal"] {
        std::fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    let before = listing(crashed.path());
    assert_eq!(first_difference(&crashed.path().join("one.db"), &other).unwrap(), difference);
    let after: Vec<_> =
        listing(crashed.path()).into_iter().filter(|(name, _)| name != "one.db-shm").collect();
    assert!(before == after);
    drop(writer);
}

#[test]
fn what_sqlite_lacks_is_named_only_where_it_is_needed() {
    // Texts as an application leaves them that brings a collation of its own.
    let odd = "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'rtrim', 'odd')";
    let index =
        format!("CREATE TABLE t(a); CREATE INDEX i ON t(a COLLATE rtrim); INSERT INTO t VALUES(1); {odd}");
    assert_eq!(difference_of(&index, &index), None);
    let key = format!("CREATE TABLE odd_table(a COLLATE rtrim PRIMARY KEY) WITHOUT ROWID; {odd}");
    let (_folder, one, other) = two(&key, &key);
    let refused = first_difference(&one, &other);
    assert!(
        matches!(&refused, Err(CompareError::Schema { source, .. }) if source.to_string().contains("odd_table")),
        "{refused:?}"
    );
}
