//! Schema changes: what goes, what is renamed, what is made anew, in which order it is listed.

use synddb_protocol::submission::{ObjectKind, SchemaChange};
use synddb_sqlite::schema::Objects;
use synddb_sqlite::state::RunningState;

use crate::apply_pair::Pair;

fn pair(sql: &str) -> Pair {
    let mut pair = Pair::new();
    pair.commit(sql);
    pair
}

#[test]
fn objects_come_and_go() {
    let mut pair = pair(
        "CREATE TABLE a(x UNIQUE, y, PRIMARY KEY(y, x)); CREATE TABLE b(k PRIMARY KEY, v UNIQUE) WITHOUT ROWID;
         CREATE INDEX a_y ON a(y DESC) WHERE y > 1; CREATE VIEW v AS SELECT * FROM a JOIN b;
         CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; END;
         CREATE TRIGGER vt INSTEAD OF INSERT ON v BEGIN SELECT 1; END; INSERT INTO a VALUES(1, 2), (3, 4)",
    );
    pair.commit("CREATE TABLE c AS SELECT * FROM a; CREATE INDEX c_x ON c(x, y || 'z')");
    pair.commit("DROP VIEW v; DROP INDEX a_y; INSERT INTO a VALUES(5, 6)");
    pair.commit("CREATE VIEW v AS SELECT 1; CREATE TRIGGER vt INSTEAD OF INSERT ON v BEGIN SELECT 2; END");
    pair.commit("DROP TABLE a; DROP TABLE b; CREATE TABLE a(other); INSERT INTO a VALUES(1)");
    pair.commit("DROP VIEW v; CREATE TABLE v(is_a_table); DROP INDEX c_x; CREATE INDEX c_x ON v(is_a_table)");
    pair.commit("DROP TABLE v; CREATE VIEW v AS SELECT 3; CREATE TEMP TABLE not_there(a)");
    pair.commit("CREATE TABLE 'quo\"ted '' name'(\"a\"\"b\" DEFAULT 'x''y', [c d]); CREATE INDEX 'i\"' ON 'quo\"ted '' name'([c d])");
    pair.commit("INSERT INTO 'quo\"ted '' name'([c d]) VALUES(1); DROP TABLE c; DROP TABLE a");
}

#[test]
fn unchanged_triggers_survive_their_table() {
    let mut pair = pair(
        "CREATE TABLE a(x); CREATE TABLE b(x); CREATE TRIGGER \"on A\" AFTER INSERT ON A BEGIN INSERT INTO b VALUES(1); END;
         CREATE VIEW v AS SELECT * FROM a; CREATE TRIGGER on_v INSTEAD OF DELETE ON v BEGIN SELECT 1; END",
    );
    pair.commit("ALTER TABLE a ADD COLUMN y; INSERT INTO a VALUES(1, 2)");
    pair.commit("ALTER TABLE a DROP COLUMN x");
    pair.commit("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE VIEW v AS SELECT 2 AS two' WHERE name = 'v'; PRAGMA writable_schema = RESET");
}

#[test]
fn added_columns_have_their_defaults_in_old_rows() {
    let mut pair = pair(
        "CREATE TABLE t(a); CREATE TABLE lean(v, k PRIMARY KEY) WITHOUT ROWID; CREATE TABLE keyed(id INTEGER PRIMARY KEY);
         INSERT INTO t VALUES(1), (2), (3); INSERT INTO lean VALUES(1, 1), (2, 2); INSERT INTO keyed VALUES(1), (2)",
    );
    pair.commit(
        "ALTER TABLE t ADD COLUMN r REAL DEFAULT 7; ALTER TABLE t ADD COLUMN s TEXT DEFAULT 5; UPDATE t SET r = 8, a = 9 WHERE a = 2;
         DELETE FROM t WHERE a = 3; INSERT INTO t VALUES(4, 4, 4);
         ALTER TABLE lean ADD COLUMN w NOT NULL DEFAULT x'00'; UPDATE lean SET w = 1 WHERE k = 2;
         ALTER TABLE keyed ADD COLUMN g AS (id + 1); ALTER TABLE keyed ADD COLUMN d DEFAULT -0.0; UPDATE keyed SET d = NULL WHERE id = 2",
    );
    pair.commit("UPDATE t SET s = 'x'; UPDATE lean SET v = 3; UPDATE keyed SET d = 1");
}

#[test]
fn renamed_tables_and_columns_keep_their_rows() {
    let mut pair = pair(
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a UNIQUE, b, UNIQUE(b, a)); CREATE INDEX t_b ON t(b);
         CREATE TRIGGER t_log AFTER UPDATE ON t BEGIN SELECT new.b; END; CREATE VIEW t_view AS SELECT b FROM t;
         CREATE TABLE child(p REFERENCES t(id));
         INSERT INTO t(a, b) VALUES(1, 2), (3, 4)",
    );
    pair.commit_renamed(
        "ALTER TABLE t RENAME TO u; INSERT INTO u(a, b) VALUES(5, 6); DELETE FROM u WHERE a = 1",
        &[("t", "u")],
    );
    pair.commit("ALTER TABLE u RENAME COLUMN b TO c; UPDATE u SET c = 7 WHERE a = 3");
    pair.commit_renamed("ALTER TABLE u RENAME TO tmp; ALTER TABLE tmp RENAME TO U", &[("u", "U")]);
    pair.commit_renamed(
        "ALTER TABLE U RENAME TO 'a b\"c'; ALTER TABLE 'a b\"c' ADD COLUMN z DEFAULT 1",
        &[("U", "a b\"c")],
    );
    pair.commit("INSERT INTO 'a b\"c'(a, c) VALUES(8, 9)");
}

#[test]
fn swapped_names_are_told_apart() {
    let mut pair = pair(
        "CREATE TABLE a(x UNIQUE, y); CREATE TABLE b(x UNIQUE, y); CREATE INDEX a_y ON a(y); CREATE INDEX b_y ON b(y);
         INSERT INTO a VALUES(1, 'a'), (2, 'a'); INSERT INTO b VALUES(3, 'b')",
    );
    let swap = "ALTER TABLE a RENAME TO tmp; ALTER TABLE b RENAME TO a; ALTER TABLE tmp RENAME TO b;
                INSERT INTO a VALUES(10, 'was b'); DELETE FROM b WHERE x = 1";
    pair.commit_renamed(swap, &[("a", "b"), ("b", "a")]);
    // Columns that swap their names, under an index whose text stays the same.
    pair.commit(
        "DROP INDEX a_y; ALTER TABLE b RENAME COLUMN x TO tmp; ALTER TABLE b RENAME COLUMN y TO x;
         ALTER TABLE b RENAME COLUMN tmp TO y; CREATE INDEX a_y ON b(y)",
    );
    // One takes the place of another that goes.
    pair.commit_renamed("DROP TABLE a; ALTER TABLE b RENAME TO a; CREATE INDEX b_y ON a(y)", &[("b", "a")]);
}

#[test]
fn an_index_whose_text_stays_may_mean_another_column() {
    let mut pair =
        pair("CREATE TABLE t(x, y); CREATE INDEX i ON t(x); INSERT INTO t VALUES(1, 'one'), (2, 'two')");
    pair.commit(
        "DROP INDEX i; ALTER TABLE t RENAME COLUMN x TO tmp; ALTER TABLE t RENAME COLUMN y TO x;
         ALTER TABLE t RENAME COLUMN tmp TO y; CREATE INDEX i ON t(x); UPDATE t SET y = 3 WHERE y = 2",
    );
    let found: i64 = pair
        .replica()
        .sqlite()
        .query_row("SELECT y FROM t INDEXED BY i WHERE x = 'two'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, 3);
}

#[test]
fn rebuilt_tables_have_their_new_rows() {
    let mut pair = pair(
        "CREATE TABLE t(a UNIQUE, b, c); CREATE INDEX t_c ON t(c); CREATE TRIGGER t_t AFTER DELETE ON t BEGIN SELECT 1; END;
         INSERT INTO t VALUES(1, 2, 3), (4, 5, 6); CREATE TABLE r(x); INSERT INTO r VALUES(1);
         CREATE TABLE n(id INTEGER PRIMARY KEY AUTOINCREMENT, v); INSERT INTO n(v) VALUES(1)",
    );
    pair.commit("ALTER TABLE t DROP COLUMN b; INSERT INTO t VALUES(7, 8)");
    // To WITHOUT ROWID, with other indexes, by the way that SQLite's manual gives.
    pair.commit_renamed(
        "CREATE TABLE new_t(a INT PRIMARY KEY, c UNIQUE) WITHOUT ROWID; INSERT INTO new_t SELECT * FROM t; DROP TABLE t;
         ALTER TABLE new_t RENAME TO t; CREATE INDEX t_c ON t(c)",
        &[],
    );
    pair.commit(
        "UPDATE t SET c = 9 WHERE a = 7; DROP TABLE r; CREATE TABLE r(x TEXT, y); INSERT INTO r VALUES(1, 2)",
    );
    pair.commit("DROP TABLE n; CREATE TABLE n(id INTEGER PRIMARY KEY AUTOINCREMENT, v, w); INSERT INTO n(v) VALUES(5)");
    pair.commit("DROP TABLE n; CREATE TABLE n(id INTEGER PRIMARY KEY, v); INSERT INTO n(v) VALUES(5)");
}

#[test]
fn the_order_of_a_dump_follows() {
    let mut pair = pair(
        "CREATE TABLE a(x); CREATE TABLE b(x UNIQUE); CREATE INDEX a_x ON a(x); CREATE VIEW v AS SELECT 1;
         CREATE TABLE c(x); INSERT INTO a VALUES(1); INSERT INTO b VALUES(2)",
    );
    pair.commit("DROP TABLE a; CREATE TABLE d(x); CREATE VIEW w AS SELECT 2");
    let before = crate::apply_pair::Image::of(&pair.source);
    pair.source.execute("VACUUM").unwrap();
    let captured = before.commit_to(&crate::apply_pair::Image::of(&pair.source), &[]);
    pair.apply(&captured).unwrap();
    pair.check();
    // Places as SQLite never gives them.
    pair.commit(
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rowid = rowid + 1000; UPDATE sqlite_schema SET rowid = rowid - 998;
         PRAGMA writable_schema = RESET",
    );
}

#[test]
fn texts_are_kept_to_the_byte() {
    let mut pair = pair("CREATE TABLE t  ( a /* one */ , b -- two\n);");
    pair.commit(
        "CREATE   UNIQUE  INDEX i  on  t ( a  ) ; CREATE TABLE u(a);
         PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'create  table u(a /* by hand */)' WHERE name = 'u';
         UPDATE sqlite_schema SET sql = 'create  unique index i on t(a)' WHERE name = 'i'; PRAGMA writable_schema = RESET",
    );
    pair.commit("INSERT INTO t VALUES(1, 2); INSERT INTO u VALUES(1)");
}

#[test]
fn virtual_tables_are_their_shadow_tables() {
    let mut pair = pair("CREATE TABLE docs(id INTEGER PRIMARY KEY, body)");
    pair.commit(
        "CREATE VIRTUAL TABLE ft USING fts5(body, content='docs', content_rowid='id'); CREATE VIRTUAL TABLE own USING fts5(a, b);
         CREATE VIRTUAL TABLE box USING rtree(id, x0, x1); CREATE TABLE after_them(x);
         CREATE TRIGGER docs_in AFTER INSERT ON docs BEGIN INSERT INTO ft(rowid, body) VALUES(new.id, new.body); END",
    );
    pair.commit(
        "INSERT INTO docs(body) VALUES('the quick brown fox'), ('lazy dogs'); INSERT INTO own VALUES('alpha', 'beta'), ('gamma', 'fox');
         INSERT INTO box VALUES(1, 0, 10), (2, 5, 6)",
    );
    pair.commit("UPDATE own SET a = 'delta' WHERE rowid = 1; DELETE FROM own WHERE rowid = 2; DELETE FROM box WHERE id = 1");
    let replica = pair.replica();
    let count = |sql: &str| -> i64 { replica.sqlite().query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(count("SELECT count(*) FROM ft WHERE ft MATCH 'fox'"), 1);
    assert_eq!(count("SELECT count(*) FROM own WHERE own MATCH 'delta'"), 1);
    assert_eq!(count("SELECT count(*) FROM own WHERE own MATCH 'gamma'"), 0);
    assert_eq!(count("SELECT id FROM box WHERE x0 >= 1 AND x1 <= 7"), 2);
    replica.execute("BEGIN; INSERT INTO own(own) VALUES('integrity-check'); INSERT INTO ft(ft) VALUES('integrity-check'); ROLLBACK").unwrap();
    drop(replica);
    let shadows = ["data", "idx", "content", "docsize", "config"]
        .map(|part| (format!("own_{part}"), format!("mine_{part}")));
    let shadows: Vec<_> = shadows.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
    pair.commit_renamed("ALTER TABLE own RENAME TO mine; INSERT INTO mine VALUES('x', 'y')", &shadows);
    pair.commit("DROP TABLE mine; DROP TABLE box; DROP TRIGGER docs_in");
    pair.commit("DROP TABLE ft; CREATE VIRTUAL TABLE ft USING fts5(other)");
}

#[test]
fn a_virtual_table_is_never_opened() {
    let mut pair = pair("CREATE TABLE t(a); CREATE TABLE z_data(x)");
    // No such module is there, and nobody asks for it.
    let captured = pair.capture(
        "PRAGMA writable_schema = ON; INSERT INTO sqlite_schema(type, name, tbl_name, rootpage, sql)
             VALUES('table', 'z', 'z', 0, 'CREATE VIRTUAL TABLE z USING nowhere(a)');
         PRAGMA writable_schema = RESET; INSERT INTO z_data VALUES(1)",
    );
    pair.apply(&captured).unwrap();
    let captured = pair.capture("ALTER TABLE t ADD COLUMN b; CREATE INDEX i ON t(b); DROP TABLE z_data");
    pair.apply(&captured).unwrap();
    let hash = RunningState::scan(&pair.source).unwrap().hash();
    assert_eq!(RunningState::scan(&pair.replica()).unwrap().hash(), hash);
    assert_eq!(pair.applier.state().hash(), hash);
}

#[test]
fn another_connection_notices() {
    let mut pair = pair("CREATE TABLE t(a); INSERT INTO t VALUES(1)");
    let reader = pair.replica();
    let mut statement = reader.prepare("SELECT * FROM t").unwrap();
    let columns = |statement: &mut synddb_sqlite::statement::Statement| {
        let mut columns = 0;
        let each = |row: &synddb_sqlite::statement::Row<'_>| {
            columns = row.len();
            Ok::<_, synddb_sqlite::connection::SqliteError>(())
        };
        statement.query(&[], each).unwrap();
        columns
    };
    assert_eq!(columns(&mut statement), 1);
    pair.commit("ALTER TABLE t ADD COLUMN b");
    assert_eq!(columns(&mut statement), 2);
    pair.commit("CREATE VIEW v AS SELECT 5 AS five");
    let five: i64 = reader.sqlite().query_row("SELECT five FROM v", [], |row| row.get(0)).unwrap();
    assert_eq!(five, 5);
}

#[test]
fn several_commits_share_a_transaction() {
    let mut pair = pair("CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE)");
    let commits = [
        "INSERT INTO t VALUES(1, 'a'), (2, 'b')",
        "ALTER TABLE t ADD COLUMN c DEFAULT 'd'; CREATE INDEX i ON t(c)",
        "UPDATE t SET b = NULL WHERE a = 1; UPDATE t SET b = 'a' WHERE a = 2; UPDATE t SET b = 'b' WHERE a = 1",
        "DROP INDEX i; CREATE TABLE u(x); INSERT INTO u VALUES(1)",
        "DROP TABLE u; INSERT INTO t VALUES(3, 'x', 'y'); PRAGMA user_version = 4",
    ];
    let captured = commits.map(|sql| pair.capture(sql));
    let before = pair.applier.state().hash();
    pair.applier.begin().unwrap();
    for captured in &captured[..3] {
        pair.applier.apply(captured.changes()).unwrap();
    }
    pair.applier.rollback().unwrap();
    assert_eq!(pair.applier.state().hash(), before);
    pair.applier.begin().unwrap();
    for (at, captured) in captured.iter().enumerate() {
        pair.applier.apply(captured.changes()).unwrap();
        // Once more does not fit; the ones before stay.
        let hash = pair.applier.state().hash();
        assert!(pair.applier.apply(captured.changes()).is_err(), "commit {at} twice");
        assert_eq!(pair.applier.state().hash(), hash);
    }
    pair.applier.commit().unwrap();
    pair.check();
}

#[test]
fn the_names_of_one_commit_may_come_in_any_order() {
    let mut pair = pair("CREATE TABLE a(x); CREATE INDEX a_x ON a(x); CREATE VIEW v AS SELECT 1");
    let mut captured = pair.capture(
        "DROP VIEW v; CREATE TABLE v(y); CREATE INDEX v_y ON v(y); CREATE TRIGGER t AFTER INSERT ON v BEGIN SELECT 1; END; DROP TABLE a",
    );
    captured.schema.reverse();
    pair.apply(&captured).unwrap();
    pair.check();
}

#[test]
fn the_statistics_of_the_replica_are_its_own() {
    let mut pair = pair("CREATE TABLE a(x); CREATE INDEX a_x ON a(x); INSERT INTO a VALUES(1)");
    pair.source.execute("ANALYZE").unwrap();
    pair.replica().execute("ANALYZE").unwrap();
    // The follower's image has no statistics, and its places have gaps.
    pair.commit("CREATE TABLE b(y); INSERT INTO b VALUES(1)");
    pair.commit("DROP TABLE a");
    let objects = Objects::read(&pair.replica()).unwrap();
    assert!(objects.get(ObjectKind::Table, b"a").is_none());
    let change = SchemaChange::Drop { kind: ObjectKind::Table, name: b"sqlite_stat1".to_vec() };
    let captured = crate::apply_pair::Captured { schema: vec![change], ..Default::default() };
    assert!(pair.apply(&captured).is_err());
}
