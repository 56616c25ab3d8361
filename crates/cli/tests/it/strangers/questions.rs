//! The worst that one can ask.

use serde_json::{Value, json};

/// Statements that read, and would take all time, memory or disk that there is.
const COSTLY: &[&str] = &[
    // Time.
    "SELECT count(*) FROM big a, big b, big c WHERE a.id + b.id + c.id = 7",
    "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT count(*) FROM n",
    "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT v FROM n WHERE v < 0",
    "SELECT count(*) FROM big a, big b WHERE a.text LIKE '%' || b.id || '%' || b.third || '%'",
    "SELECT count(*) FROM big a, big b WHERE a.text GLOB '*0*0*0*0*0*0*0*0*0*' || b.id",
    "SELECT sum(length(replace(text, '0', text))) FROM big",
    // Memory, and disk where it were used.
    "SELECT group_concat(text) FROM big",
    "SELECT a.text || b.text FROM big a, big b ORDER BY 1 DESC LIMIT 1 OFFSET 1000000",
    "SELECT DISTINCT a.text || b.id FROM big a, big b",
    "SELECT count(DISTINCT a.text || b.id) FROM big a, big b",
    "WITH RECURSIVE n(v, x) AS (SELECT 1, '' UNION SELECT v + 1, printf('%01000d', v) FROM n) SELECT count(*) FROM n",
    "WITH m AS MATERIALIZED (SELECT a.text || b.id AS x FROM big a, big b) SELECT count(*) FROM m one, m other WHERE one.x = other.x",
    "SELECT lead(a.text, 500000) OVER (ORDER BY a.text || b.id) FROM big a, big b",
    "SELECT count(*) FROM (SELECT a.text || b.id FROM big a, big b UNION SELECT text FROM big)",
    "SELECT count(*) FROM big a, big b WHERE a.text || b.id IN (SELECT c.text || d.id FROM big c, big d)",
    "SELECT a.half + b.half, group_concat(a.text || b.text) FROM big a, big b GROUP BY a.text || b.id",
    "SELECT count(*) FROM big WHERE half = 1 OR third = 1 OR half = 0",
    "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT randomblob(1000000) FROM n ORDER BY 1",
    "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT zeroblob(1000000) FROM n",
    "SELECT zeroblob(1000000000)",
    "SELECT randomblob(2000000000)",
    "SELECT hex(randomblob(500000)) || hex(randomblob(500000))",
    "SELECT printf('%2000000000d', 1)",
    "SELECT * FROM big a, big b",
    "SELECT * FROM json_tree((SELECT '[' || group_concat(id) || ']' FROM big)) a, json_tree('[[[1]]]') b",
];

/// Statements that do something else than to read what may be read.
const FORBIDDEN: &[&str] = &[
    "ATTACH '/etc/passwd' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH main",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA writable_schema = ON",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA temp_store_directory = '/tmp'",
    "PRAGMA hard_heap_limit = 1",
    "SELECT * FROM pragma_database_list",
    "SELECT load_extension('/tmp/extension.so')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('/tmp/stranger', 'x')",
    "SELECT fts3_tokenizer('simple')",
    "CREATE TEMP TABLE t AS SELECT * FROM big",
    "CREATE TABLE t(a)",
    "UPDATE sqlite_schema SET sql = ''",
    "INSERT INTO sqlite_schema VALUES('table', 't', 't', 2, 'CREATE TABLE t(a)')",
    "DELETE FROM big",
    "INSERT INTO event VALUES(-1, NULL)",
    "DROP TABLE big",
    "VACUUM INTO '/tmp/stranger.db'",
    "REINDEX",
    "ANALYZE",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "SAVEPOINT s",
    "EXPLAIN DELETE FROM big",
    "SELECT * FROM _synddb_position",
    "SELECT * FROM sqlite_dbpage",
    "SELECT * FROM dbstat",
    "SELECT json_group_array(text) FROM big",
    "SELECT 1; DELETE FROM big",
    "SELECT 'a' REGEXP '(a+)+$'",
    "SELEC",
    "",
];

/// All questions, as bodies.
pub(super) fn all() -> Vec<Value> {
    let mut sql: Vec<String> = COSTLY.iter().chain(FORBIDDEN).map(|sql| (*sql).to_owned()).collect();
    // What is deep, wide and long.
    sql.push(format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000)));
    sql.push(format!("SELECT {}", vec!["1"; 5000].join("+")));
    sql.push(format!("SELECT {}", vec!["text"; 1900].join(", ") + " FROM big"));
    sql.push(format!(
        "SELECT 1 FROM {}",
        (0..60).map(|n| format!("big b{n}")).collect::<Vec<_>>().join(", ")
    ));
    sql.push(vec!["SELECT text FROM big"; 90].join(" UNION "));
    sql.push((0..200).fold("SELECT 1".to_owned(), |inner, _| format!("SELECT * FROM ({inner})")));
    let mut bodies: Vec<Value> = sql.iter().map(|sql| json!({"sql": sql})).collect();
    bodies.extend(sql[..COSTLY.len()].iter().map(|sql| json!({"sql": sql, "truncate": true})));
    let thousand = |count: usize| {
        let marks = vec!["?"; count].join(", ");
        json!({"sql": format!("SELECT count(*) FROM big WHERE id IN ({marks})"), "parameters": vec![7; count]})
    };
    bodies.extend([thousand(1000), thousand(1001), thousand(3)]);
    bodies.push(json!({"sql": "SELECT ?", "parameters": ["x".repeat(900_000)]}));
    bodies.push(json!({"sql": "SELECT count(*) FROM event", "wait_for": {"sequence": 1}}));
    bodies
}
