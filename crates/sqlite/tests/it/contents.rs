//! Digests of runs of rows add up, and lead to the first row in which two databases differ: compared with what reads both row by row.

use std::path::{Path, PathBuf};

use synddb_protocol::contents::{Cut, Found, Key, LISTED_MAX, ListedRow, RUNS_MAX, RowsQuery, Run, Scalar};
use synddb_protocol::submission::TextEncoding;
use synddb_sqlite::compare::{Difference, RowIdentity, Side, first_difference};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::contents::{self, ContentsError, owned};
use synddb_sqlite::query::Reading;
use synddb_sqlite::rusqlite;
use synddb_sqlite::state::RunningState;

/// Tables of every identity. `n` is the number of a row; keys of several columns have few values in the first ones.
const TABLES: [(&str, &str); 9] = [
    ("CREATE TABLE t(v)", "INSERT INTO t(rowid, v) SELECT n * 3, 'row ' || n FROM n"),
    ("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t SELECT n * 7 - 5000, n FROM n"),
    (
        "CREATE TABLE t(v TEXT PRIMARY KEY, w) WITHOUT ROWID",
        "INSERT INTO t SELECT hex(n * 7919 % 65537) || '-' || n, n FROM n",
    ),
    (
        "CREATE TABLE t(a, b, v, PRIMARY KEY(a, b)) WITHOUT ROWID",
        "INSERT INTO t SELECT n % 3, 'b' || n, n FROM n",
    ),
    (
        "CREATE TABLE t(v, b REAL, a TEXT COLLATE NOCASE, PRIMARY KEY(a DESC, b)) WITHOUT ROWID",
        "INSERT INTO t SELECT n, n / 8.0, iif(n % 2, 'Ab', 'aC') || n % 5 FROM n",
    ),
    (
        "CREATE TABLE t(a, b, c, v, PRIMARY KEY(a, b DESC, c COLLATE RTRIM)) WITHOUT ROWID",
        "INSERT INTO t SELECT iif(n % 2, 1, 'x'), n % 11, x'00' || n || '  ', n FROM n",
    ),
    (
        "CREATE TABLE t(k BLOB, v, PRIMARY KEY(k DESC)) WITHOUT ROWID",
        "INSERT INTO t SELECT CASE n % 4 WHEN 0 THEN n WHEN 1 THEN n + 0.5 WHEN 2 THEN 't' || n ELSE CAST(n AS BLOB) END, n FROM n",
    ),
    (
        "CREATE TABLE t(a, b, v, PRIMARY KEY(a DESC, b DESC)) WITHOUT ROWID",
        "INSERT INTO t SELECT n % 7, n, zeroblob(n % 300) FROM n",
    ),
    ("CREATE TABLE t(\"a\"\"b\" INT UNIQUE, rowid, v)", "INSERT INTO t SELECT n, 0, n FROM n"),
];

fn fill(path: &Path, encoding: &str, table: &(&str, &str), rows: u32) {
    let sqlite = rusqlite::Connection::open(path).unwrap();
    let (create, insert) = table;
    sqlite
        .execute_batch(&format!(
            "PRAGMA encoding = '{encoding}'; PRAGMA synchronous = OFF; {create};
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows}) {insert}"
        ))
        .unwrap();
}

fn query(after: Option<Key>, through: Option<Key>, cut: Cut) -> RowsQuery {
    RowsQuery { table: "t".to_owned(), after, through, cut }
}

fn runs(connection: &Connection, query: &RowsQuery) -> Vec<Run> {
    match contents::rows(connection, query).unwrap().found {
        Found::Runs(runs) => runs,
        Found::Listed { .. } => panic!("the rows are listed"),
    }
}

/// The first row in which two tables differ, found as by two that are far from each other: what it is in each.
fn bisect(one: &Connection, other: &Connection) -> Option<(Option<ListedRow>, Option<ListedRow>)> {
    let mut asked = query(None, None, Cut::Freely);
    for _ in 0..8 {
        let found = contents::rows(one, &asked).unwrap();
        match found.found {
            Found::Listed { rows, more } => {
                assert!(!more);
                asked.cut = Cut::Listed;
                let Found::Listed { rows: others, .. } = contents::rows(other, &asked).unwrap().found else {
                    panic!("they are not listed")
                };
                let same =
                    rows.iter().zip(&others).take_while(|(row, other)| row.digest == other.digest).count();
                let (row, other) = (rows.get(same).cloned(), others.get(same).cloned());
                return (row.is_some() || other.is_some()).then_some((row, other));
            }
            Found::Runs(runs_of_one) => {
                let keys =
                    runs_of_one[..runs_of_one.len() - 1].iter().map(|run| run.through.clone().unwrap());
                let cut = Cut::At(keys.collect());
                let others = runs(other, &RowsQuery { cut, ..asked.clone() });
                let differ =
                    (0..runs_of_one.len()).find(|at| runs_of_one[*at].digest != others[*at].digest)?;
                if let Some(before) = differ.checked_sub(1) {
                    asked.after.clone_from(&runs_of_one[before].through);
                }
                asked.through.clone_from(&runs_of_one[differ].through);
            }
        }
    }
    panic!("the rows of a run become no fewer");
}

/// What identifies a listed row, as the comparison of two files says it.
fn identity(connection: &Connection, row: &ListedRow) -> RowIdentity {
    let rows = contents::rows(connection, &query(None, None, Cut::Listed)).unwrap();
    let encoding = connection.encoding();
    let column = |at: &usize| (rows.columns[*at].clone(), owned(&row.values[*at].value, encoding));
    RowIdentity { columns: rows.key.iter().map(column).collect(), encoding }
}

fn files(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("one.db"), folder.join("other.db"))
}

#[test]
fn the_first_difference_is_found_in_tables_of_every_identity() {
    // From no row to more than one round of runs.
    for (round, table) in TABLES.iter().enumerate() {
        for (rows, encoding) in
            [(3, "UTF-8"), (u32::try_from(LISTED_MAX).unwrap() + 1, "UTF-16le"), (5000, "UTF-8")]
        {
            let folder = tempfile::tempdir().unwrap();
            let (one, other) = files(folder.path());
            fill(&one, encoding, table, rows);
            let place = |at: u32| (at * 7919 + u32::try_from(round).unwrap()) % rows;
            let chosen = |at: u32| {
                let name =
                    if table.0.contains("rowid,") || !table.0.contains("WITHOUT") { "oid" } else { "v" };
                let of = if name == "oid" { "(SELECT oid FROM t" } else { "(SELECT v FROM t" };
                format!("{name} = {of} ORDER BY {name} LIMIT 1 OFFSET {})", place(at))
            };
            let changes = [
                String::new(),
                format!("DELETE FROM t WHERE {}", chosen(1)),
                format!("DELETE FROM t WHERE {}; DELETE FROM t WHERE {}", chosen(2), chosen(3)),
                "DELETE FROM t".to_owned(),
                format!("DELETE FROM t WHERE NOT ({})", chosen(4)),
            ];
            for change in changes {
                std::fs::remove_file(&other).ok();
                std::fs::copy(&one, &other).unwrap();
                rusqlite::Connection::open(&other).unwrap().execute_batch(&change).unwrap();
                // Each is once the one that has less.
                for (one, other) in [(&one, &other), (&other, &one)] {
                    check(one, other, &format!("{} rows={rows} {change}", table.0));
                }
            }
        }
    }
}

#[test]
fn a_changed_value_is_found_whatever_its_class() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = files(folder.path());
    fill(
        &one,
        "UTF-8",
        &("CREATE TABLE t(k, v, PRIMARY KEY(k)) WITHOUT ROWID", "INSERT INTO t SELECT n, 0.0 FROM n"),
        3000,
    );
    for value in ["-0.0", "0", "'0.0'", "x'30'", "NULL", "hex(zeroblob(500))"] {
        std::fs::remove_file(&other).ok();
        std::fs::copy(&one, &other).unwrap();
        let sqlite = rusqlite::Connection::open(&other).unwrap();
        sqlite.execute_batch(&format!("UPDATE t SET v = {value} WHERE k = 1999")).unwrap();
        check(&one, &other, value);
        let (one, other) = (Connection::open(&one).unwrap(), Connection::open(&other).unwrap());
        let (Some(row), Some(changed)) = bisect(&one, &other).unwrap() else {
            panic!("{value}: a row is missing")
        };
        assert_eq!(
            (&row.values[0], row.values[0].value.clone()),
            (&changed.values[0], Scalar::Integer(1999))
        );
        assert_ne!(row.values[1], changed.values[1], "{value}");
    }
}

fn check(one: &Path, other: &Path, what: &str) {
    let expected = first_difference(one, other).unwrap();
    let (one, other) = (Connection::open(one).unwrap(), Connection::open(other).unwrap());
    let found = bisect(&one, &other);
    match (expected, found) {
        (None, None) => {}
        (Some(Difference::Row { identity: expected, only_in: Side::First, .. }), Some((Some(row), _))) => {
            assert_eq!(identity(&one, &row), expected, "{what}");
        }
        (Some(Difference::Row { identity: expected, only_in: Side::Second, .. }), Some((_, Some(row)))) => {
            assert_eq!(identity(&other, &row), expected, "{what}");
        }
        (Some(Difference::Value { identity: expected, .. }), Some((Some(row), Some(_)))) => {
            assert_eq!(identity(&one, &row), expected, "{what}");
        }
        (expected, found) => panic!("{what}: {expected:?}\n{found:?}"),
    }
}

#[test]
fn runs_leave_nothing_out_and_hold_nothing_twice() {
    for table in &TABLES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.db");
        fill(&path, "UTF-16be", table, 2500);
        let connection = Connection::open(&path).unwrap();
        let whole = contents::contents(&connection).unwrap();
        assert_eq!(whole.state, RunningState::scan(&connection).unwrap().hash());
        let cut = runs(&connection, &query(None, None, Cut::Freely));
        assert!(cut.len() > RUNS_MAX / 4 && cut.len() <= RUNS_MAX, "{}", cut.len());
        assert_eq!(cut.iter().map(|run| run.rows).sum::<u64>(), 2500);
        // The same by their keys, each read by itself.
        let keys: Vec<Key> = cut.iter().filter_map(|run| run.through.clone()).collect();
        assert_eq!(runs(&connection, &query(None, None, Cut::At(keys.clone()))), cut, "{}", table.0);
        // Every row is in exactly one of the runs between some of the keys, and their rows make up the table's digest.
        let mut after = None;
        let mut digests = Vec::new();
        let ends: Vec<Option<Key>> = keys.iter().step_by(100).cloned().map(Some).chain([None]).collect();
        for through in ends {
            let mut behind = after.clone();
            loop {
                let listed =
                    contents::rows(&connection, &query(behind.clone(), through.clone(), Cut::Listed))
                        .unwrap();
                let Found::Listed { rows, more } = listed.found else { panic!("they are not listed") };
                digests.extend(rows.iter().map(|row| row.digest));
                if !more {
                    break;
                }
                // Goes on behind the run that ends with the last row.
                let last = runs(
                    &connection,
                    &query(behind.clone(), through.clone(), Cut::At(vec![key_of(table.0, &rows)])),
                );
                assert_eq!(last[0].rows, rows.len() as u64, "{}", table.0);
                behind = last[0].through.clone();
            }
            after = through;
        }
        assert_eq!(digests.len(), 2500, "{}", table.0);
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 2500, "{}: a row is in two runs", table.0);
    }
}

/// The key of the last row, in the order of the key.
fn key_of(create: &str, rows: &[ListedRow]) -> Key {
    let places: &[usize] = match create {
        table if table.contains("a TEXT COLLATE NOCASE, PRIMARY") => &[2, 1],
        table if table.contains("PRIMARY KEY(a, b DESC, c") => &[0, 1, 2],
        table if table.contains("PRIMARY KEY(a") => &[0, 1],
        _ => &[0],
    };
    let last = rows.last().unwrap();
    places.iter().map(|at| last.values[*at].value.clone()).collect()
}

#[test]
fn keys_that_are_too_long_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.db");
    let insert = "INSERT INTO t SELECT iif(n % 10, hex(zeroblob(600)), '') || printf('%06d', n), n FROM n";
    fill(&path, "UTF-8", &("CREATE TABLE t(k PRIMARY KEY, v) WITHOUT ROWID", insert), 2000);
    let connection = Connection::open(&path).unwrap();
    let cut = runs(&connection, &query(None, None, Cut::Freely));
    // One in ten can be an end.
    assert_eq!((cut.len(), cut[0].rows, cut.iter().map(|run| run.rows).sum::<u64>()), (201, 1801, 2000));
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.db");
    fill(&path, "UTF-8", &TABLES[3], 10);
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE _synddb_position(a); CREATE VIEW w AS SELECT 1; CREATE VIRTUAL TABLE f USING fts5(x)")
        .unwrap();
    let connection = Connection::open(&path).unwrap();
    for name in ["none", "w", "f", "_synddb_position", "sqlite_schema", "t\"; DROP TABLE t", "T"] {
        let asked = RowsQuery { table: name.to_owned(), ..query(None, None, Cut::Freely) };
        assert!(matches!(contents::rows(&connection, &asked), Err(ContentsError::NoTable { .. })), "{name}");
    }
    let key = |values: &[Scalar]| query(Some(values.to_vec()), None, Cut::Freely);
    for values in [&[][..], &[Scalar::Integer(1)], &[Scalar::Integer(1), Scalar::Null]] {
        assert!(matches!(contents::rows(&connection, &key(values)), Err(ContentsError::Key { columns: 2 })));
    }
    let many = vec![vec![Scalar::Integer(1), Scalar::Integer(1)]; RUNS_MAX];
    let asked = query(None, None, Cut::At(many));
    assert!(matches!(contents::rows(&connection, &asked), Err(ContentsError::TooLarge { .. })));
    // Keys that run backwards are no fault: nothing is between them.
    let backwards = [2, 1].map(|a| vec![Scalar::Integer(a), Scalar::Text("b".to_owned())]);
    assert_eq!(runs(&connection, &query(None, None, Cut::At(backwards.to_vec())))[1].rows, 0);
    assert_eq!(connection.encoding(), TextEncoding::Utf8);
}

#[test]
fn an_answer_ends_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.db");
    fill(&path, "UTF-8", &TABLES[0], 20_000);
    let bounded = |is_over: bool| {
        let reading = Reading::open(&path).unwrap();
        reading.into_bounded(std::time::Duration::from_secs(60), move || is_over).unwrap()
    };
    contents::contents(&bounded(false)).unwrap();
    let over = contents::contents(&bounded(true)).unwrap_err();
    assert!(over.is_interrupted(), "{over}");
}
