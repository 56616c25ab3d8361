//! Queries of strangers: what they may read, what they may not do, and where their answers end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use synddb_sqlite::query::{Answer, Cell, Limits, Oversize, QueryError, Reading, SQL_BYTES_MAX};
use synddb_sqlite::rusqlite;

const SETUP: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES('one'), (2), (x'33'), (NULL), (5.5);
    CREATE TABLE _synddb_position(a); INSERT INTO _synddb_position VALUES('secret');
    CREATE VIEW shown AS SELECT v FROM t; CREATE VIEW peeks AS SELECT a FROM _synddb_position;
    CREATE VIEW unsafe AS SELECT load_extension('x');
    CREATE VIRTUAL TABLE words USING fts5(text); INSERT INTO words VALUES('hello');
    CREATE VIRTUAL TABLE boxes USING rtree(id, a, b);
    CREATE TRIGGER tt AFTER INSERT ON t BEGIN DELETE FROM t; END";

/// A database that a stranger may ask.
struct Asked {
    path: PathBuf,
    writer: rusqlite::Connection,
    _folder: tempfile::TempDir,
}

impl Asked {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replica.db");
        let writer = rusqlite::Connection::open(&path).unwrap();
        writer.execute_batch(SETUP).unwrap();
        Self { path, writer, _folder: folder }
    }

    fn ask(&self, sql: &str) -> Result<Answer, QueryError> {
        self.ask_with(sql, &[], Limits::default(), Oversize::Refuse)
    }

    fn ask_with(
        &self,
        sql: &str,
        parameters: &[Cell],
        limits: Limits,
        oversize: Oversize,
    ) -> Result<Answer, QueryError> {
        Reading::open(&self.path)?.query(sql, parameters, limits, oversize)
    }
}

#[test]
fn what_reads_is_answered() {
    let asked = Asked::new();
    let answer = asked.ask("SELECT id, v AS value FROM t ORDER BY id; -- the end").unwrap();
    assert_eq!(answer.columns, ["id", "value"]);
    let values: Vec<_> = answer.rows.into_iter().map(|mut row| row.remove(1)).collect();
    let expected =
        [Cell::Text("one".into()), Cell::Integer(2), Cell::Blob(vec![0x33]), Cell::Null, Cell::Real(5.5)];
    assert_eq!(values, expected);
    for sql in [
        "SELECT count(*) FROM t",
        "SELECT * FROM shown",
        "WITH c AS (SELECT v FROM t) SELECT count(*) FROM c",
        "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 9) SELECT sum(v) OVER () FROM n",
        "SELECT (SELECT max(id) FROM t), upper(v), json_extract('{\"a\":1}', '$.a') FROM t LEFT JOIN shown USING (v)",
        "SELECT key, value FROM json_each('[1,2]')",
        "SELECT count(*) FROM json_tree('[1,2]')",
        "SELECT name, sql FROM sqlite_schema",
        "VALUES (1), (2)",
        "EXPLAIN QUERY PLAN SELECT * FROM t",
        "SELECT c0 FROM words_content",
        "SELECT group_concat(v), total(id) FROM t GROUP BY v HAVING id > 0 ORDER BY 1 COLLATE NOCASE",
    ] {
        assert!(asked.ask(sql).is_ok_and(|answer| !answer.rows.is_empty() || sql.contains("c0")), "{sql}");
    }
}

#[test]
fn what_does_anything_else_is_refused() {
    let asked = Asked::new();
    let other = asked.path.with_file_name("other.db");
    let before = std::fs::read(&asked.path).unwrap();
    let attach = format!("ATTACH '{}' AS other", other.display());
    let vacuum = format!("VACUUM INTO '{}'", other.display());
    for sql in [
        "INSERT INTO t(v) VALUES(1)",
        "INSERT INTO t(v) VALUES(1) RETURNING id",
        "UPDATE t SET v = 1 RETURNING v",
        "DELETE FROM t",
        "CREATE TABLE n(a)",
        "CREATE TEMP TABLE n(a)",
        "CREATE TEMP TABLE n AS SELECT 1",
        "CREATE VIRTUAL TABLE n USING fts5(a)",
        "CREATE VIRTUAL TABLE temp.n USING dbstat",
        "DROP TABLE t",
        "ALTER TABLE t ADD COLUMN w",
        "PRAGMA user_version",
        "PRAGMA writable_schema = ON",
        "PRAGMA query_only = OFF",
        "SELECT * FROM pragma_table_info('t')",
        "SELECT count(*) FROM pragma_database_list",
        &attach,
        &vacuum,
        "VACUUM",
        "REINDEX",
        "ANALYZE",
        "DETACH main",
        "BEGIN",
        "COMMIT",
        "SAVEPOINT a",
        "SELECT a FROM _synddb_position",
        "SELECT count(*) FROM _SyndDB_Position",
        "SELECT 1 FROM t WHERE EXISTS (SELECT 1 FROM _synddb_position)",
        "SELECT * FROM peeks",
        "SELECT * FROM words",
        "SELECT count(*) FROM words",
        "SELECT * FROM words WHERE words MATCH 'hello'",
        "SELECT * FROM boxes",
        "SELECT * FROM sqlite_dbpage",
        "SELECT count(*) FROM sqlite_dbpage",
        "SELECT * FROM dbstat",
        "SELECT load_extension('x')",
        "SELECT * FROM unsafe",
        "SELECT fts3_tokenizer('simple')",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE t",
        "",
        "-- nothing",
    ] {
        let refused = asked.ask(sql);
        let told = matches!(refused, Err(QueryError::NotARead { .. }))
            // A module that was taken away is one that SQLite does not know; a view calls no function that is not harmless.
            || matches!(&refused, Err(QueryError::Sql(error))
                if ["no such", "unsafe use"].iter().any(|told| error.message().contains(told)));
        assert!(told, "{sql}: {refused:?}");
    }
    assert_eq!(std::fs::read(&asked.path).unwrap(), before);
    assert!(!other.exists());
}

#[test]
fn what_sqlite_does_not_understand_comes_with_its_message() {
    let asked = Asked::new();
    for (sql, message) in [
        ("SELEC 1", "near \"SELEC\""),
        ("SELECT missing FROM t", "no such column: missing"),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELECT abs(-9223372036854775808)", "integer overflow"),
        ("SELECT json('x')", "malformed JSON"),
    ] {
        let Err(QueryError::Sql(error)) = asked.ask(sql) else { panic!("{sql}") };
        assert!(error.message().contains(message), "{sql}: {error}");
    }
}

#[test]
fn parameters_are_bound_by_place() {
    let asked = Asked::new();
    let ask = |parameters: &[Cell]| {
        let limits = Limits::default();
        asked.ask_with("SELECT typeof(?1), ?1, ?2 IS NULL", parameters, limits, Oversize::Refuse)
    };
    for (cell, class) in [
        (Cell::Integer(7), "integer"),
        (Cell::Real(0.5), "real"),
        (Cell::Text("né".into()), "text"),
        (Cell::Bytes(vec![0xff]), "text"),
        (Cell::Blob(vec![0, 1]), "blob"),
        (Cell::Null, "null"),
    ] {
        let answer = ask(&[cell.clone(), Cell::Null]).unwrap();
        assert_eq!(answer.rows, [vec![Cell::Text(class.into()), cell, Cell::Integer(1)]]);
    }
    let refused = ask(&[Cell::Null]);
    assert!(matches!(refused, Err(QueryError::Parameters { expected: 2, found: 1 })), "{refused:?}");
    assert!(ask(&[Cell::Null, Cell::Null, Cell::Null]).is_err());
}

#[test]
fn answers_end_at_their_bounds() {
    let asked = Asked::new();
    let many =
        "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 1000) SELECT v FROM n";
    let rows = Limits { rows: 10, ..Limits::default() };
    let refused = asked.ask_with(many, &[], rows, Oversize::Refuse);
    assert!(matches!(refused, Err(QueryError::TooLarge { limit: 10, .. })), "{refused:?}");
    let answer = asked.ask_with(many, &[], rows, Oversize::Truncate).unwrap();
    assert_eq!((answer.rows.len(), answer.truncated), (10, true));
    let exact = asked.ask_with(many, &[], Limits { rows: 1000, ..rows }, Oversize::Refuse).unwrap();
    assert_eq!((exact.rows.len(), exact.truncated), (1000, false));
    let bytes = Limits { bytes: 10_000, ..Limits::default() };
    let refused = asked.ask_with(many, &[], bytes, Oversize::Refuse);
    assert!(matches!(refused, Err(QueryError::TooLarge { limit: 10_000, .. })), "{refused:?}");
    for sql in [
        "SELECT zeroblob(10001)",
        "SELECT length(hex(zeroblob(6000)))",
        "SELECT group_concat(v, '----------') FROM (WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 1000)
         SELECT v FROM n)",
        "SELECT printf('%20000d', 1)",
    ] {
        let refused = asked.ask_with(sql, &[], bytes, Oversize::Refuse);
        assert!(matches!(refused, Err(QueryError::TooLarge { .. })), "{sql}: {refused:?}");
    }
    let long = format!("SELECT '{}'", "x".repeat(SQL_BYTES_MAX));
    assert!(matches!(asked.ask(&long), Err(QueryError::TooLarge { limit: SQL_BYTES_MAX, .. })));
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(asked.ask(&deep).is_err());
}

#[test]
fn what_takes_too_long_is_ended() {
    let asked = Asked::new();
    let limits = Limits { time: Duration::from_millis(100), ..Limits::default() };
    for sql in [
        "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT count(*) FROM n",
        "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n LIMIT 3000)
         SELECT count(*) FROM n a, n b, n c WHERE a.v + b.v + c.v = 7",
    ] {
        let began = Instant::now();
        let refused = asked.ask_with(sql, &[], limits, Oversize::Refuse);
        assert!(matches!(refused, Err(QueryError::TooSlow { .. })), "{sql}: {refused:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{sql}");
    }
}

#[test]
fn a_reading_is_one_committed_state() {
    let asked = Asked::new();
    let reading = Reading::open(&asked.path).unwrap();
    asked.writer.execute_batch("DROP TRIGGER tt; DELETE FROM t").unwrap();
    let count: i64 = reading.trusted().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    let answer = reading.query("SELECT count(*) FROM t", &[], Limits::default(), Oversize::Refuse).unwrap();
    assert_eq!((count, answer.rows), (5, vec![vec![Cell::Integer(5)]]));
    assert_eq!(asked.ask("SELECT count(*) FROM t").unwrap().rows, [[Cell::Integer(0)]]);
}

#[test]
fn a_database_in_utf_16_is_answered_in_utf_8() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.db");
    let writer = rusqlite::Connection::open(&path).unwrap();
    writer
        .execute_batch("PRAGMA encoding = 'UTF-16be'; CREATE TABLE t(v); INSERT INTO t VALUES('né')")
        .unwrap();
    let ask = |path: &Path| {
        let parameters = [Cell::Text("né".into())];
        Reading::open(path)?.query(
            "SELECT v FROM t WHERE v = ?",
            &parameters,
            Limits::default(),
            Oversize::Refuse,
        )
    };
    assert_eq!(ask(&path).unwrap().rows, [[Cell::Text("né".into())]]);
    assert!(matches!(ask(&folder.path().join("missing.db")), Err(QueryError::Unreadable(_))));
}
