//! What queries of strangers keep in memory, and that nothing of it goes to disk.

use std::time::{Duration, Instant};

use synddb_sqlite::query::{Answer, Limits, Oversize, QueryError, Reading};
use synddb_sqlite::rusqlite;

const MIB: usize = 1 << 20;

/// A database with more rows than the memory of a query holds.
struct Large(tempfile::TempDir);

impl Large {
    fn new(encoding: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let writer = rusqlite::Connection::open(folder.path().join("replica.db")).unwrap();
        writer
            .execute_batch(&format!(
                "PRAGMA encoding = '{encoding}'; CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, text);
                CREATE INDEX ta ON t(a); CREATE INDEX tb ON t(b);
                WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 100000)
                INSERT INTO t SELECT v, v % 2, v % 3, printf('%0100d', v) FROM n"
            ))
            .unwrap();
        Self(folder)
    }

    fn ask(&self, sql: &str, memory: usize) -> Result<Answer, QueryError> {
        let limits = Limits { time: Duration::from_secs(60), memory, ..Limits::default() };
        Reading::open(&self.0.path().join("replica.db"))?.query(sql, &[], limits, Oversize::Refuse)
    }
}

/// Each keeps all rows in another way.
const GREEDY: [&str; 9] = [
    "SELECT text FROM t ORDER BY text DESC LIMIT 1 OFFSET 99999",
    "SELECT count(*) FROM (SELECT DISTINCT text || id FROM t)",
    "SELECT count(DISTINCT text) FROM t",
    "WITH m AS MATERIALIZED (SELECT * FROM t) SELECT count(*) FROM m a, m b WHERE a.id = b.id AND a.text > ''",
    "WITH RECURSIVE n(v, x) AS (SELECT 1, '' UNION SELECT v + 1, printf('%0100d', v) FROM n) SELECT count(*) FROM n",
    "SELECT count(*) FROM t WHERE text IN (SELECT text || id FROM t)",
    "SELECT sum(x) FROM (SELECT lead(id, 90000) OVER (ORDER BY text) AS x FROM t)",
    "SELECT count(*) FROM (SELECT text FROM t UNION SELECT id || text FROM t)",
    "SELECT max(c) FROM (SELECT text, count(*) c FROM t GROUP BY text || id)",
];

#[test]
fn what_a_query_keeps_has_a_bound() {
    for encoding in ["UTF-8", "UTF-16le"] {
        let large = Large::new(encoding);
        for sql in GREEDY {
            let began = Instant::now();
            let refused = large.ask(sql, 4 * MIB);
            let is_bound = |error: &QueryError| matches!(error, QueryError::TooLarge { what: "bytes of memory", limit } if *limit == 4 * MIB);
            assert!(refused.as_ref().is_err_and(is_bound), "{sql}: {refused:?}");
            assert!(began.elapsed() < Duration::from_secs(30), "{sql}");
        }
    }
}

#[test]
fn what_fits_is_answered_and_counted() {
    let large = Large::new("UTF-8");
    let sorted =
        large.ask("SELECT text FROM t WHERE id <= 10000 ORDER BY text DESC LIMIT 1", 4 * MIB).unwrap();
    assert!(sorted.memory <= 4 * MIB, "{}", sorted.memory);
    // The same without a bound that it meets takes what the rows take.
    let sorted = large.ask("SELECT text FROM t ORDER BY text DESC LIMIT 1 OFFSET 99999", 64 * MIB).unwrap();
    assert!((10 * MIB..64 * MIB).contains(&sorted.memory), "{}", sorted.memory);
    // A list of rowids counts too.
    let either = large.ask("SELECT count(*) FROM t WHERE a = 1 OR b = 1", 64 * MIB).unwrap();
    assert!(either.memory > MIB / 2, "{}", either.memory);
}

#[test]
fn an_answer_in_utf_16_at_the_bound_is_refused_or_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.db");
    let writer = rusqlite::Connection::open(&path).unwrap();
    writer
        .execute_batch(
            "PRAGMA encoding = 'UTF-16be'; CREATE TABLE t(v);
            INSERT INTO t SELECT printf('%400000c', 'a') FROM (VALUES(1), (2), (3), (4), (5), (6))",
        )
        .unwrap();
    let mut answered = 0;
    // Somewhere between, memory ends while a text is converted for its reader.
    for step in 0..200 {
        let limits = Limits { memory: (1 + step) * (MIB / 32), ..Limits::default() };
        let answer = Reading::open(&path).unwrap().query("SELECT v FROM t", &[], limits, Oversize::Refuse);
        match answer {
            Ok(answer) => {
                assert_eq!(answer.rows.len(), 6);
                answered += 1;
            }
            Err(error) => assert!(matches!(error, QueryError::TooLarge { .. }), "{error:?}"),
        }
    }
    assert!((1..200).contains(&answered), "{answered}");
}

#[test]
fn nothing_is_written_to_sort_in() {
    // Who sorts in files has them open, also where they have no name any more.
    let large = Large::new("UTF-8");
    let files = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let names = open.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        names.filter(|name| name.to_string_lossy().contains("etilqs_")).count()
    };
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            for sql in GREEDY {
                large.ask(sql, 16 * MIB).ok();
            }
        });
        while !asking.is_finished() {
            assert_eq!(files(), 0);
            std::thread::yield_now();
        }
    });
}
