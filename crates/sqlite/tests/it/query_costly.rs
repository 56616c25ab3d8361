//! Queries of strangers that would cost much in one function call, in one row or while they are compiled.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use synddb_sqlite::query::{Answer, Cell, Limits, Oversize, QueryError, Reading};
use synddb_sqlite::rusqlite;

/// A database that strangers may ask.
struct Asked {
    writer: rusqlite::Connection,
    folder: tempfile::TempDir,
}

impl Asked {
    fn new(setup: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let writer = rusqlite::Connection::open(folder.path().join("replica.db")).unwrap();
        writer.execute_batch(setup).unwrap();
        Self { writer, folder }
    }

    fn ask(&self, sql: &str, time: Duration) -> Result<Answer, QueryError> {
        let limits = Limits { time, ..Limits::default() };
        Reading::open(&self.folder.path().join("replica.db"))?.query(sql, &[], limits, Oversize::Refuse)
    }
}

#[test]
fn no_function_call_outlives_the_time_of_a_query() {
    let asked = Asked::new("");
    let zeros = "zeroblob(500000) || x'01'";
    let text = "printf('%1000000c', 'a')";
    let mut calls = vec![
        "instr(zeroblob(8388000), zeroblob(4000000) || x'01')".to_owned(),
        format!("instr(zeroblob(1000000), {zeros})"),
        format!("replace({text}, printf('%500000c', 'a') || 'b', '')"),
        "json_patch('{}', '{}')".to_owned(),
        format!("unhex({text}, {text})"),
        format!("{text} LIKE '%' || printf('%500c', 'a') || 'b'"),
        format!("{text} GLOB '*' || printf('%500c', 'a') || 'b'"),
    ];
    for function in ["trim", "ltrim", "rtrim"] {
        calls.push(format!("{function}({text}, printf('%500000c', 'b') || 'a')"));
    }
    // What stays allowed, as often as one row may call it.
    for call in [
        format!("instr({text}, printf('%99c', 'a') || 'b')"),
        format!("replace({text}, printf('%99c', 'a') || 'b', '')"),
        format!("{text} LIKE '%' || printf('%70c', 'a') || 'b%'"),
        "hex(randomblob(500000))".to_owned(),
    ] {
        calls.push(vec![call; 30].join(" || "));
    }
    for call in calls {
        let began = Instant::now();
        let answer = asked.ask(&format!("SELECT length({call})"), Duration::from_millis(300));
        let took = began.elapsed();
        let shown: String = call.chars().take(60).collect();
        assert!(took < Duration::from_secs(10), "{shown} took {took:?}: {answer:?}");
    }
}

#[test]
fn no_query_holds_many_large_values() {
    let asked = Asked::new("CREATE TABLE t(v)");
    let time = Duration::from_secs(5);
    let from = "FROM (SELECT printf('%1000000c', 'a') AS x)";
    let columns: Vec<String> = (0..700).map(|number| format!("x || {number}")).collect();
    let wide = format!("SELECT {} {from}", columns.join(", "));
    // Each level keeps a value while the next is computed.
    let nested = (0..90).fold("1".to_owned(), |inner, number| format!("(x || {number} < {inner})"));
    let nested = format!("SELECT {} {from}", vec![nested; 9].join(", "));
    let narrow = format!("SELECT {} {from}", columns[..9].join(", "));
    for sql in [
        &wide,
        &nested,
        &narrow,
        "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT json_group_array(zeroblob(1000000)) FROM n",
        "SELECT json_pretty('[[[[1]]]]', printf('%1000000c', ' '))",
    ] {
        let answer = asked.ask(sql, time);
        let shown: String = sql.chars().take(60).collect();
        let refused = matches!(
            answer,
            Err(QueryError::TooLarge { .. } | QueryError::NotARead { .. } | QueryError::Sql(_))
        );
        assert!(refused, "{shown}");
    }
}

#[test]
fn compiling_ends_too() {
    let asked = Asked::new("CREATE TABLE t(v)");
    let mut tenfold = "WITH a0(x) AS (SELECT 1)".to_owned();
    for level in 1..20 {
        let from: Vec<String> = (0..20).map(|number| format!("a{} b{number}", level - 1)).collect();
        write!(tenfold, ", a{level}(x) AS (SELECT 1 FROM {})", from.join(", ")).unwrap();
    }
    tenfold += " SELECT count(*) FROM a19";
    let mut doubling = "WITH a0(x) AS (SELECT 1)".to_owned();
    for level in 1..40 {
        write!(doubling, ", a{level}(x) AS (SELECT 1 FROM a{0}, a{0} b)", level - 1).unwrap();
    }
    doubling += " SELECT count(*) FROM a39";
    let many = (0..64).map(|number| format!("t AS t{number}"));
    let joins = format!("SELECT count(*) FROM {}", many.collect::<Vec<_>>().join(", "));
    for sql in [tenfold, doubling, joins] {
        let began = Instant::now();
        let answer = asked.ask(&sql, Duration::from_millis(300));
        assert!(began.elapsed() < Duration::from_secs(10), "{answer:?}");
    }
}

#[test]
fn bounded_functions_answer_what_those_of_sqlite_answer() {
    let asked = Asked::new("");
    let values = [
        "NULL",
        "''",
        "x''",
        "'a'",
        "'abcabc'",
        "'né né'",
        "x'c3'",
        "x'00ff00'",
        "x'ff00'",
        "12",
        "1.5",
        "'é'",
        "'bc'",
        "'aab'",
        "CAST(x'80806180' AS TEXT)",
        "CAST(x'80' AS TEXT)",
        "CAST(x'610062' AS TEXT)",
        "CAST(x'00' AS TEXT)",
        "' x '",
    ];
    for one in values {
        for two in values {
            for call in [
                format!("instr({one}, {two})"),
                format!("trim({one}, {two})"),
                format!("ltrim({one}, {two})"),
                format!("rtrim({one}, {two})"),
                format!("replace({one}, {two}, '-+')"),
                format!("replace({one}, 'a', {two})"),
                format!("replace({one}, {two}, NULL)"),
            ] {
                let sql = format!("SELECT typeof({call}), hex({call}), quote({call})");
                let expected: [Option<String>; 3] = asked
                    .writer
                    .query_row(&sql, [], |row| {
                        Ok([0, 1, 2].map(|column| {
                            let value = row.get_ref(column).unwrap().as_bytes_or_null().unwrap();
                            value.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
                        }))
                    })
                    .unwrap();
                let found = asked.ask(&sql, Duration::from_secs(5)).unwrap().rows.remove(0);
                let found: Vec<_> = found
                    .into_iter()
                    .map(|cell| match cell {
                        Cell::Text(text) => Some(text),
                        Cell::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                        Cell::Null | Cell::Integer(_) | Cell::Real(_) | Cell::Blob(_) => None,
                    })
                    .collect();
                assert_eq!(found, expected, "{call}");
            }
        }
    }
}

#[test]
fn queries_as_applications_write_them_fit() {
    let mut setup = String::new();
    for number in 0..6 {
        let columns: Vec<String> = (0..20).map(|column| format!("c{column} TEXT")).collect();
        write!(
            setup,
            "CREATE TABLE t{number}(id INTEGER PRIMARY KEY, other INTEGER, {});",
            columns.join(", ")
        )
        .unwrap();
    }
    let asked = Asked::new(&setup);
    let joined = "SELECT t0.*, t1.*, t2.c1, upper(t3.c2), count(*), group_concat(t4.c3, ', ') FROM t0
        JOIN t1 ON t1.other = t0.id LEFT JOIN t2 ON t2.other = t1.id JOIN t3 USING (id) LEFT JOIN t4 ON t4.id = t3.other
        WHERE t0.c1 LIKE '%a%' AND t1.c2 IN ('a', 'b', 'c') AND EXISTS (SELECT 1 FROM t5 WHERE t5.other = t0.id)
        GROUP BY t0.id HAVING count(*) > 1 ORDER BY t0.c5 DESC, t1.c7 LIMIT 50";
    let windowed = "WITH r AS (SELECT id, row_number() OVER (PARTITION BY other ORDER BY c1) n, sum(id) OVER w s,
            lag(c2) OVER w FROM t0 WINDOW w AS (ORDER BY id))
        SELECT r.*, t1.c1, coalesce(json_extract(t1.c2, '$.a'), trim(t1.c3), replace(t1.c4, 'a', 'b')) FROM r JOIN t1 USING (id)
        WHERE n = 1 UNION ALL SELECT 1, 2, 3, 4, strftime('%Y', 'now'), NULL ORDER BY 1";
    for sql in [joined, windowed] {
        asked.ask(sql, Duration::from_secs(5)).unwrap();
    }
}
