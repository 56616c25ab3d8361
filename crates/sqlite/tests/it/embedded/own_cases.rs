//! Transactions that a recorder may get wrong, as a table: a setup, and one transaction after the other.

/// What is easy to get wrong from inside a connection: a setup, and transactions.
pub(super) const OWN_CASES: &[(&str, &[&str])] = &[
    // Rows that move: both rowids are touched, and what stood there before.
    (
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE, c); INSERT INTO t VALUES(1,'x',1),(2,'y',2),(3,'z',3);
         CREATE TABLE n(a, b UNIQUE); INSERT INTO n VALUES(1,1),(2,2),(NULL,NULL)",
        &[
            "UPDATE t SET a = a + 10",
            "UPDATE OR REPLACE t SET a = 12 WHERE a = 11",
            "UPDATE t SET a = -a; UPDATE t SET a = -a",
            "UPDATE t SET a = 99 WHERE a = 12; INSERT INTO t VALUES(12, 'new', 0); UPDATE t SET c = 5 WHERE a = 99",
            "REPLACE INTO t VALUES(12, 'z', 1), (99, 'new', 2)",
            "INSERT INTO t VALUES(5, 'z', 1) ON CONFLICT(b) DO UPDATE SET c = c + 100, a = 77",
            "UPDATE n SET rowid = rowid + 5; DELETE FROM n WHERE a IS NULL; INSERT INTO n(rowid, a) VALUES(8, NULL)",
            "UPDATE OR IGNORE n SET b = 1; UPDATE OR REPLACE n SET b = 1",
            "DELETE FROM t; INSERT INTO t VALUES(12, 'z', 1)",
        ],
    ),
    // Keys of every kind.
    (
        "CREATE TABLE k(n TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO k VALUES('a',1),('b',2);
         CREATE TABLE m(v, a, b AS (v||'x'), c NUMERIC, PRIMARY KEY(c, a COLLATE NOCASE, a)) WITHOUT ROWID;
         INSERT INTO m(v, a, c) VALUES(1,'q',1),(2,'Q',1),(3,'q',2.5);
         CREATE TABLE p(k TEXT PRIMARY KEY, v); INSERT INTO p VALUES(NULL,1),(NULL,2),('a',3);
         CREATE TABLE r(k REAL PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO r VALUES(1, 1), (2.5, 2)",
        &[
            "UPDATE k SET n = 'A' WHERE n = 'a'",
            "UPDATE k SET n = 5 WHERE n = 'b'; UPDATE k SET v = 9 WHERE n = '5'",
            "UPDATE OR REPLACE k SET n = 'a'; INSERT OR IGNORE INTO k VALUES('A', 7)",
            "DELETE FROM k WHERE n = 'a'; INSERT INTO k VALUES('A', 1)",
            "UPDATE m SET a = a || 'y'; UPDATE m SET c = '3.0' WHERE v = 3; INSERT INTO m(v, a, c) VALUES(4, 'z', '7')",
            "UPDATE m SET c = c + 1; DELETE FROM m WHERE v = 1",
            "UPDATE p SET v = v + 1; DELETE FROM p WHERE v = 2; UPDATE p SET k = NULL; INSERT INTO p VALUES(NULL, 4)",
            "UPDATE r SET k = k + 1; UPDATE r SET k = 7 WHERE k = 2; REPLACE INTO r VALUES(7, 'new')",
            "SAVEPOINT s; UPDATE k SET n = n || 'x'; ROLLBACK TO s; UPDATE k SET v = 3; RELEASE s",
        ],
    ),
    // What a statement or a savepoint takes back, and what others do on its behalf.
    (
        "CREATE TABLE p(a INTEGER PRIMARY KEY, b UNIQUE); CREATE TABLE c(a REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE, b);
         CREATE TABLE l(what, x); CREATE TRIGGER d AFTER DELETE ON p BEGIN INSERT INTO l VALUES('gone', old.b); END;
         CREATE TRIGGER u BEFORE UPDATE ON p WHEN new.b = 'no' BEGIN SELECT RAISE(IGNORE); END;
         INSERT INTO p VALUES(1,1),(2,2),(3,3); INSERT INTO c VALUES(1,1),(1,2),(2,1)",
        &[
            "DELETE FROM p WHERE a = 1; UPDATE p SET a = 20 WHERE a = 2; UPDATE p SET b = 'no'",
            "SAVEPOINT a; DELETE FROM p; SAVEPOINT b; INSERT INTO p VALUES(7,7); ROLLBACK TO a; INSERT INTO p VALUES(8,8); RELEASE a",
            "INSERT INTO c SELECT a, 'same' FROM p; DELETE FROM c WHERE b = 'same'",
            "CREATE TEMP TABLE x(a); INSERT INTO x VALUES(1); INSERT INTO p(b) SELECT a FROM x; DROP TABLE x",
            "CREATE TEMP TRIGGER y AFTER INSERT ON main.p BEGIN INSERT INTO l VALUES('came', new.b); END; INSERT INTO p(b) VALUES('t'); DROP TRIGGER y",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) INSERT INTO l SELECT i, zeroblob(i * 20) FROM n",
            "UPDATE l SET x = y.i FROM (SELECT 5 AS i) y WHERE what = 5; DELETE FROM l WHERE what > 5 RETURNING x",
            "DELETE FROM l",
        ],
    ),
    // Rows that are copied as they are, AUTOINCREMENT, and its table written by hand.
    (
        "CREATE TABLE a(x INTEGER PRIMARY KEY AUTOINCREMENT, y); CREATE TABLE b(x INTEGER PRIMARY KEY, y);
         CREATE TABLE e(x, y); CREATE TABLE f(x, y); CREATE TABLE g(x PRIMARY KEY, y) WITHOUT ROWID; CREATE TABLE h(x PRIMARY KEY, y) WITHOUT ROWID;
         INSERT INTO b VALUES(5,1),(9,2); INSERT INTO e VALUES(1,1),(2,2); INSERT INTO g VALUES('k',1)",
        &[
            "INSERT INTO a SELECT * FROM b; INSERT INTO f SELECT * FROM e; INSERT INTO h SELECT * FROM g",
            "INSERT INTO a(y) VALUES('next')",
            "DELETE FROM a; UPDATE sqlite_sequence SET seq = 100",
            "INSERT INTO a(y) VALUES('after'); INSERT INTO sqlite_sequence VALUES('a', 3), (NULL, x'00')",
            "DELETE FROM sqlite_sequence",
            "PRAGMA user_version = 5; PRAGMA application_id = -7; INSERT INTO a(y) VALUES(1)",
        ],
    ),
    // Values: generated, defaults that are not in the record, reals that are stored as integers, what is longer than a page.
    (
        "CREATE TABLE t(a, v AS (a + 1), b REAL, s AS (a * 2) STORED, w AS (s || 'x')); INSERT INTO t(a, b) VALUES(1, 1),(2, 2.5);
         CREATE TABLE d(a); INSERT INTO d VALUES(1),(2),(3); ALTER TABLE d ADD COLUMN r REAL DEFAULT 7; ALTER TABLE d ADD COLUMN n NUMERIC DEFAULT '12';
         ALTER TABLE d ADD COLUMN x TEXT DEFAULT 5; CREATE TABLE s(a INTEGER, b ANY, c REAL) STRICT",
        &[
            "UPDATE t SET a = a + 1; UPDATE t SET b = 3 WHERE a = 2; INSERT INTO t(a, b) VALUES(zeroblob(9000), '4')",
            "UPDATE d SET a = 10 WHERE a = 1; DELETE FROM d WHERE a = 2; UPDATE d SET r = 7 WHERE a = 3; INSERT INTO d(a) VALUES(4)",
            "UPDATE d SET n = n + 0, x = 5",
            "INSERT INTO s VALUES(1, '1', 1), (2, 1.0, 9007199254740993); UPDATE s SET c = c + 1",
            "INSERT INTO t(a) VALUES(randomblob(70000)); UPDATE t SET b = 1 WHERE length(a) > 60000; DELETE FROM t WHERE length(a) = 9000",
        ],
    ),
    // Virtual tables keep what they are told until they are made to write it.
    (
        "CREATE VIRTUAL TABLE f USING fts5(x, y); CREATE VIRTUAL TABLE g USING fts4(x); CREATE VIRTUAL TABLE r USING rtree(id, a, b);
         CREATE TABLE t(a)",
        &[
            "INSERT INTO f VALUES('one two', 'three'); INSERT INTO g VALUES('one two'); INSERT INTO r VALUES(1, 2, 3)",
            "UPDATE f SET x = 'four' WHERE f MATCH 'one'; DELETE FROM g; INSERT INTO g VALUES('five'); UPDATE r SET b = 9",
            "SAVEPOINT s; INSERT INTO f VALUES('gone', 'again'); ROLLBACK TO s; INSERT INTO f VALUES('stays', 'here'); RELEASE s",
            "INSERT INTO f(f) VALUES('optimize'); INSERT INTO g(g) VALUES('optimize')",
            "INSERT INTO f(f) VALUES('rebuild'); INSERT INTO g(g) VALUES('rebuild'); DELETE FROM r",
            "DELETE FROM f; INSERT INTO t VALUES(1)",
        ],
    ),
    // The schema together with rows.
    (
        "CREATE TABLE t(a, b); INSERT INTO t VALUES(1,1),(2,2),(3,3); CREATE TABLE k(a PRIMARY KEY, b) WITHOUT ROWID; INSERT INTO k VALUES(1,1)",
        &[
            "UPDATE t SET b = 9 WHERE a = 1; ALTER TABLE t ADD COLUMN c DEFAULT 5; UPDATE t SET c = 6 WHERE a = 2; DELETE FROM t WHERE a = 3",
            "ALTER TABLE k ADD COLUMN c REAL DEFAULT 1; UPDATE k SET c = 2; INSERT INTO k VALUES(2, 2, 1)",
            "INSERT INTO t VALUES(4,4,4),(5,5,5); UPDATE t SET b = 0 WHERE a = 4; ALTER TABLE t RENAME TO u",
            "ALTER TABLE u RENAME COLUMN b TO bb; UPDATE u SET bb = bb + 1",
            "CREATE TABLE w AS SELECT * FROM u; DELETE FROM u WHERE a = 5; CREATE INDEX i ON u(a); INSERT INTO w VALUES(1,2,3)",
            "CREATE TABLE n(x, y UNIQUE); INSERT INTO n SELECT a, bb FROM u; DROP TABLE u; ALTER TABLE n RENAME TO u",
            "CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES('words'); CREATE TABLE q(a INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO q VALUES(NULL)",
            "ALTER TABLE f RENAME TO g; INSERT INTO q VALUES(NULL)", "INSERT INTO g VALUES('words'); CREATE INDEX j ON q(a)",
            "SAVEPOINT s; DROP TABLE k; CREATE TABLE zz(a); ROLLBACK TO s; RELEASE s; UPDATE k SET b = 7",
            "ALTER TABLE w DROP COLUMN a; UPDATE w SET c = 1",
            "DROP TABLE g; DROP TABLE q; ANALYZE",
        ],
    ),
];
