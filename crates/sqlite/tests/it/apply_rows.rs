//! Rows: every kind of table and value, what cannot be done in place, and what SQLite would do by itself.

use synddb_protocol::submission::TextEncoding;

use crate::apply_pair::Pair;

#[test]
fn rows_of_every_kind_of_table_follow() {
    let mut pair = Pair::new();
    pair.commit(
        "CREATE TABLE plain(a, b TEXT, c REAL, d NUMERIC);
         CREATE TABLE keyed(id INTEGER PRIMARY KEY, v, UNIQUE(v));
         CREATE TABLE textual(k TEXT PRIMARY KEY, v);
         CREATE TABLE lean(v, k TEXT COLLATE NOCASE, n INT, w, PRIMARY KEY(n, k)) WITHOUT ROWID;
         CREATE TABLE strict(id INTEGER PRIMARY KEY, a ANY, r REAL, t TEXT, b BLOB) STRICT;
         CREATE TABLE rowid_taken(rowid TEXT, _rowid_ INT);",
    );
    pair.commit(
        "INSERT INTO plain VALUES(1, 'x', 2, '3.0'), (NULL, 7, 2.5, 'abc'), (1.0, x'00', -0.0, 9007199254740993),
            (-0.0, 'a' || char(0) || 'b', 9007199254740993, 1e300), ('1', '', 1e999, -1e999), (x'', cast(x'ff' AS TEXT), 1, 2);
         INSERT INTO plain(rowid, a) VALUES(-5, 1), (9223372036854775807, 2), (-9223372036854775808, 3);
         INSERT INTO keyed VALUES(1, 'a'), (2, 'b'), (-3, NULL), (4, NULL);
         INSERT INTO textual VALUES('a', 1), (NULL, 2), (NULL, 3), (x'61', 4);
         INSERT INTO lean VALUES(1, 'a', 1, 'w'), (2, 'b', 1, 'w'), (3, 'a', 2, 'w');
         INSERT INTO strict VALUES(1, '1', 3, '4', x'05'), (2, 1.0, 2, '', NULL);
         INSERT INTO rowid_taken VALUES('x', 1), ('y', 2)",
    );
    pair.commit(
        "UPDATE plain SET a = 'new', d = 5 WHERE rowid < 4; DELETE FROM plain WHERE rowid = 5;
         UPDATE keyed SET v = 'c' WHERE id = 2; DELETE FROM keyed WHERE id = 4; UPDATE keyed SET id = 10 WHERE id = -3;
         UPDATE textual SET v = 5 WHERE k IS NULL; DELETE FROM textual WHERE k = x'61';
         UPDATE lean SET w = NULL, v = 7 WHERE n = 1 AND k = 'A'; DELETE FROM lean WHERE n = 2;
         UPDATE strict SET a = 1; DELETE FROM rowid_taken WHERE _rowid_ = 1",
    );
    pair.commit(
        "DELETE FROM plain; DELETE FROM lean; DELETE FROM textual; INSERT INTO plain VALUES(1, 2, 3, 4)",
    );
}

#[test]
fn a_key_that_changes_only_its_case_follows() {
    let mut pair = Pair::new();
    pair.commit(
        "CREATE TABLE lean(k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID;
         CREATE TABLE numbers(k PRIMARY KEY, v) WITHOUT ROWID;
         INSERT INTO lean VALUES('a', 1), ('b', 2); INSERT INTO numbers VALUES(1, 1), (2, 2)",
    );
    pair.commit("UPDATE lean SET k = upper(k); UPDATE numbers SET k = k + 0.0 WHERE k = 1");
    pair.commit("UPDATE lean SET k = 'B', v = 3 WHERE k = 'a' AND 0; UPDATE numbers SET k = 1 WHERE k = 1; UPDATE lean SET v = 9");
}

#[test]
fn a_key_is_compared_as_its_index_compares_it() {
    let mut pair = Pair::new();
    pair.commit(
        "CREATE TABLE finer(k TEXT COLLATE NOCASE, v, PRIMARY KEY(k COLLATE BINARY)) WITHOUT ROWID;
         CREATE TABLE coarser(k TEXT, n, v, PRIMARY KEY(n, k COLLATE NOCASE)) WITHOUT ROWID;
         CREATE TABLE twice(k TEXT, v, PRIMARY KEY(k COLLATE NOCASE, k COLLATE BINARY)) WITHOUT ROWID;
         INSERT INTO finer VALUES('a', 1), ('A', 2), ('b', 3); INSERT INTO coarser VALUES('a', 1, 1), ('b', 1, 2);
         INSERT INTO twice VALUES('a', 1), ('A', 2)",
    );
    pair.commit("UPDATE finer SET v = 4 WHERE k COLLATE BINARY = 'a'; UPDATE coarser SET v = 5; UPDATE twice SET v = v + 5");
    pair.commit("DELETE FROM finer WHERE k COLLATE BINARY = 'A'; UPDATE coarser SET k = 'A' WHERE k = 'a'");
    pair.commit("DELETE FROM twice WHERE k = 'a'; INSERT INTO finer VALUES('B', 6)");
}

#[test]
fn values_that_swap_under_a_constraint_follow() {
    let mut pair = Pair::new();
    pair.commit(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE ON CONFLICT REPLACE, w, g AS (v || w) STORED);
         CREATE UNIQUE INDEX lower_w ON t(w COLLATE NOCASE) WHERE w > '';
         CREATE TABLE hidden(a UNIQUE ON CONFLICT IGNORE, b);
         INSERT INTO t(id, v, w) VALUES(1, 'a', 'x'), (2, 'b', 'y'), (3, 'c', 'z'), (4, 'd', ''), (5, NULL, '');
         INSERT INTO hidden VALUES(1, 1), (2, 2)",
    );
    pair.commit(
        "UPDATE t SET v = 'tmp' WHERE id = 1; UPDATE t SET v = 'a' WHERE id = 2; UPDATE t SET v = 'b' WHERE id = 1;
         UPDATE hidden SET a = 3 - a + 10; UPDATE hidden SET a = a - 10",
    );
    pair.commit(
        "UPDATE t SET w = 'tmp' WHERE id = 1; UPDATE t SET w = 'X' WHERE id = 2; UPDATE t SET w = 'Y' WHERE id = 1;
         DELETE FROM t WHERE id = 3; INSERT INTO t(id, v, w) VALUES(6, 'c', 'Z')",
    );
    // Replaced rows are plain deletes in a capture.
    pair.commit(
        "INSERT INTO t(id, v, w) VALUES(7, 'a', 'q'); INSERT OR REPLACE INTO t(id, v, w) VALUES(1, 'n', 'm')",
    );
}

#[test]
fn generated_columns_are_computed_and_compared() {
    let mut pair = Pair::new();
    pair.commit(
        "CREATE TABLE g(a INT, v AS (a + 1) VIRTUAL, s TEXT AS (a * 2) STORED, b, t AS (s || b) STORED UNIQUE);
         CREATE INDEX g_v ON g(v);
         INSERT INTO g(a, b) VALUES(1, 'x'), (2, 'y'), (NULL, NULL)",
    );
    pair.commit("UPDATE g SET a = a + 10 WHERE b = 'x'; DELETE FROM g WHERE b = 'y'; INSERT INTO g(a, b) VALUES(7, 'z')");
    pair.commit("UPDATE g SET b = 'only b'");
}

#[test]
fn sqlite_sequence_is_what_the_application_made_it() {
    let mut pair = Pair::new();
    pair.commit(
        "CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, v); INSERT INTO counted(v) VALUES(1), (2), (3)",
    );
    pair.commit(
        "CREATE TABLE other(id INTEGER PRIMARY KEY AUTOINCREMENT, v); INSERT INTO counted(v) VALUES(4)",
    );
    pair.commit("INSERT INTO other VALUES(100, 1); DELETE FROM counted WHERE id = 2");
    // By hand: lowered, odd classes, twice the same name, no row at all.
    pair.commit("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'counted'");
    pair.commit("INSERT INTO counted VALUES(2, 'below')");
    pair.commit("UPDATE sqlite_sequence SET seq = 'many' WHERE name = 'other'");
    pair.commit("DELETE FROM other; INSERT INTO other(v) VALUES(2); UPDATE sqlite_sequence SET seq = 0.5");
    pair.commit("INSERT INTO sqlite_sequence(rowid, name, seq) VALUES(77, 'counted', 9), (78, NULL, NULL)");
    pair.commit("INSERT INTO counted(v) VALUES(5)");
    pair.commit("INSERT INTO counted(v) VALUES(6); DELETE FROM sqlite_sequence WHERE rowid = 1");
    pair.commit("INSERT INTO counted(v) VALUES(7); DELETE FROM sqlite_sequence");
    pair.commit("INSERT INTO other(v) VALUES(8); INSERT INTO counted(v) VALUES(9)");
    // The swap takes the second way, in which SQLite counts again.
    pair.commit("CREATE UNIQUE INDEX counted_v ON counted(v)");
    pair.commit(
        "UPDATE counted SET v = 'x' WHERE id = (SELECT min(id) FROM counted);
         INSERT INTO counted(v) SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM counted WHERE v = 1);
         UPDATE sqlite_sequence SET seq = 3",
    );
    pair.commit("DROP TABLE other");
    pair.commit("DROP TABLE counted");
    pair.commit("CREATE TABLE again(id INTEGER PRIMARY KEY AUTOINCREMENT)");
}

#[test]
fn nothing_of_the_application_runs() {
    let mut pair = Pair::new();
    pair.commit(
        "CREATE TABLE parent(id INTEGER PRIMARY KEY, v CHECK(v < 100));
         CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES parent(id) ON DELETE CASCADE ON UPDATE SET NULL);
         CREATE TABLE log(what);
         CREATE TRIGGER parent_insert AFTER INSERT ON parent BEGIN INSERT INTO log VALUES('in ' || new.id); END;
         CREATE TRIGGER parent_delete BEFORE DELETE ON parent BEGIN INSERT INTO log VALUES('out ' || old.id); END;
         CREATE TRIGGER no_child BEFORE DELETE ON child WHEN old.id = 99 BEGIN SELECT raise(ABORT, 'no'); END",
    );
    pair.commit(
        "INSERT INTO parent VALUES(1, 1), (2, 2), (3, 3); INSERT INTO child VALUES(1, 1), (2, 1), (3, 2)",
    );
    pair.commit("DELETE FROM parent WHERE id = 1; UPDATE parent SET id = 20 WHERE id = 2; UPDATE parent SET v = 5 WHERE id = 3");
    // A CHECK that a row breaks, as `PRAGMA ignore_check_constraints` lets it.
    pair.source.execute("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF").unwrap();
    pair.commit("UPDATE parent SET v = 1000; INSERT INTO child VALUES(9, 12345)");
}

#[test]
fn text_keeps_its_bytes_in_every_encoding() {
    for encoding in [TextEncoding::Utf8, TextEncoding::Utf16Le, TextEncoding::Utf16Be] {
        let mut pair = Pair::with_encoding(encoding);
        pair.commit(
            "CREATE TABLE \"tàble\"(k TEXT PRIMARY KEY, \"cölumn\" TEXT DEFAULT 'dëfault') WITHOUT ROWID;
             CREATE TABLE n(a NUMERIC, b REAL); CREATE VIEW \"vïew\" AS SELECT 'é𝄞' AS x;
             CREATE INDEX \"ïndex\" ON \"tàble\"(\"cölumn\")",
        );
        // Byte order marks of both kinds, lone surrogates, a NUL, numbers in text.
        pair.commit(
            "INSERT INTO \"tàble\" VALUES('é𝄞', 'x'), (cast(x'fffe4100' AS TEXT), cast(x'feff0041' AS TEXT)),
                (cast(x'fefffffe' AS TEXT), cast(x'fffefffe' AS TEXT)), (cast(x'00d8' AS TEXT), cast(x'd800' AS TEXT)),
                (cast(x'4100000042004200' AS TEXT), ''), ('12', '12');
             INSERT INTO n VALUES('12', '13'), ('12x', 'x13'), (' 1', '1 '), (1.5, 2)",
        );
        pair.commit(
            "UPDATE \"tàble\" SET \"cölumn\" = \"cölumn\" || 'é'; DELETE FROM \"tàble\" WHERE k = '12'",
        );
        pair.commit("ALTER TABLE \"tàble\" ADD COLUMN late DEFAULT 'ñ'; UPDATE \"tàble\" SET late = 'ü' WHERE k = 'é𝄞'");
        pair.commit_renamed("ALTER TABLE \"tàble\" RENAME TO \"tåble\"", &[("tàble", "tåble")]);
    }
}

#[test]
fn the_numbers_in_the_header_follow() {
    let mut pair = Pair::new();
    pair.commit("PRAGMA user_version = -7; PRAGMA application_id = 252006673");
    pair.commit("PRAGMA user_version = 0; CREATE TABLE t(a)");
}
