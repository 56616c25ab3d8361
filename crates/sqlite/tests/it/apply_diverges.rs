//! What does not fit is noticed, named, and leaves no trace.

use synddb_protocol::state::Value;
use synddb_protocol::submission::{ObjectKind, SchemaChange, SchemaRow, TextEncoding};
use synddb_sqlite::apply::{ApplyError, Divergence};
use synddb_sqlite::changeset::{self, Table};
use synddb_sqlite::schema::SchemaError;
use synddb_sqlite::state::RunningState;

use crate::apply_pair::{Captured, Pair};

use Value::{Blob, Integer, Null, Real, Text};

fn pair(sql: &str) -> Pair {
    let mut pair = Pair::new();
    pair.commit(sql);
    pair
}

/// A changeset of one table, its identity in the first column.
fn rows(table: &str, columns: usize, write: impl FnOnce(&mut Vec<u8>, &[bool])) -> Captured {
    let key: Vec<bool> = (0..columns).map(|at| at == 0).collect();
    rows_of(table, &key, write)
}

fn rows_of(table: &str, key: &[bool], write: impl FnOnce(&mut Vec<u8>, &[bool])) -> Captured {
    let mut rows = Vec::new();
    changeset::write_table(&mut rows, &Table { name: table.to_owned(), key: key.to_vec() });
    write(&mut rows, key);
    Captured { rows, ..Captured::default() }
}

fn schema(changes: Vec<SchemaChange>) -> Captured {
    Captured { schema: changes, ..Captured::default() }
}

fn row(kind: ObjectKind, name: &str, table: &str, sql: &str) -> SchemaRow {
    SchemaRow { kind, name: name.into(), table: table.into(), sql: Some(sql.into()) }
}

/// Applies what cannot be applied, after something that can, and shows that only that stays.
#[track_caller]
fn refused(pair: &mut Pair, captured: &Captured) -> ApplyError {
    pair.applier.begin().unwrap();
    let before = pair.applier.state().hash();
    let error = pair.applier.apply(captured.changes()).expect_err("it does not fit");
    assert_eq!(pair.applier.state().hash(), before);
    assert_eq!(RunningState::scan(pair.applier.connection()).unwrap().hash(), before);
    pair.applier.commit().unwrap();
    pair.check();
    error
}

#[track_caller]
fn diverges(pair: &mut Pair, captured: &Captured) -> Divergence {
    let error = refused(pair, captured);
    let ApplyError::Divergence(divergence) = error else { panic!("{error:?}") };
    *divergence
}

macro_rules! assert_diverges {
    ($pair:expr, $captured:expr, $pattern:pat $(if $guard:expr)?) => {
        let divergence = diverges($pair, $captured);
        assert!(matches!(&divergence, $pattern $(if $guard)?), "{divergence:?}");
    };
}

#[test]
fn an_old_value_must_be_the_same_by_class_and_bytes() {
    let mut pair = pair(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 1), (2, 'a'), (3, 0.0), (4, NULL);
         CREATE TABLE hidden(v); INSERT INTO hidden VALUES('x');
         CREATE TABLE lean(k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO lean VALUES('a', 'b')",
    );
    let wrong: [(i64, Value<'_>); 6] =
        [(1, Real(1.0)), (1, Text(b"1")), (2, Text(b"A")), (2, Blob(b"a")), (3, Real(-0.0)), (4, Text(b""))];
    for (id, old) in wrong {
        let update = rows("t", 2, |out, key| {
            changeset::write_update(out, key, &[Integer(id), old], &[Integer(id), Integer(77)]);
        });
        assert_diverges!(&mut pair, &update, Divergence::Value { table, column, .. } if table == "t" && column == "v");
        let delete = rows("t", 2, |out, _| changeset::write_delete(out, &[Integer(id), old]));
        assert_diverges!(&mut pair, &delete, Divergence::Value { identity, .. } if *identity == format!("id={id} (integer)"));
    }
    let delete = rows("hidden", 2, |out, _| changeset::write_delete(out, &[Integer(1), Text(b"y")]));
    assert_diverges!(
        &mut pair, &delete,
        Divergence::Value { expected, found, .. } if expected == "'y' (text)" && found == "'x' (text)"
    );
    // The key collates equal and is another one.
    let delete = rows("lean", 2, |out, _| changeset::write_delete(out, &[Text(b"A"), Text(b"b")]));
    assert_diverges!(&mut pair, &delete, Divergence::Value { column, .. } if column == "k");
    let update = rows("lean", 2, |out, key| {
        changeset::write_update(out, key, &[Text(b"A"), Text(b"b")], &[Text(b"A"), Text(b"c")]);
    });
    assert_diverges!(&mut pair, &update, Divergence::Value { column, .. } if column == "k");
}

#[test]
fn a_row_must_be_there_or_not() {
    let mut pair = pair(
        "CREATE TABLE t(id INTEGER PRIMARY KEY ON CONFLICT REPLACE, v UNIQUE ON CONFLICT REPLACE); INSERT INTO t VALUES(1, 1);
         CREATE TABLE lean(k TEXT COLLATE NOCASE PRIMARY KEY ON CONFLICT IGNORE, v) WITHOUT ROWID; INSERT INTO lean VALUES('a', 'b');
         CREATE TABLE hidden(v); INSERT INTO hidden VALUES('x')",
    );
    let delete = rows("t", 2, |out, _| changeset::write_delete(out, &[Integer(2), Integer(1)]));
    assert_diverges!(&mut pair, &delete, Divergence::Missing { identity, .. } if identity == "id=2 (integer)");
    let update = rows("t", 2, |out, key| {
        changeset::write_update(out, key, &[Integer(2), Integer(1)], &[Integer(2), Integer(2)]);
    });
    assert_diverges!(&mut pair, &update, Divergence::Missing { .. });
    let insert = rows("t", 2, |out, _| changeset::write_insert(out, &[Integer(1), Integer(5)]));
    assert_diverges!(&mut pair, &insert, Divergence::Exists { table, .. } if table == "t");
    let insert = rows("hidden", 2, |out, _| changeset::write_insert(out, &[Integer(1), Integer(5)]));
    assert_diverges!(&mut pair, &insert, Divergence::Exists { table, .. } if table == "hidden");
    let insert = rows("lean", 2, |out, _| changeset::write_insert(out, &[Text(b"a"), Integer(5)]));
    assert_diverges!(&mut pair, &insert, Divergence::Exists { table, .. } if table == "lean");
    // In the way, but no row with that identity.
    let insert = rows("lean", 2, |out, _| changeset::write_insert(out, &[Text(b"A"), Integer(5)]));
    assert_diverges!(&mut pair, &insert, Divergence::Refused { .. });
    let insert = rows("t", 2, |out, _| changeset::write_insert(out, &[Integer(2), Integer(1)]));
    assert_diverges!(&mut pair, &insert, Divergence::Refused { identity, .. } if identity == "id=2 (integer)");
}

#[test]
fn a_value_that_sqlite_would_convert_is_noticed() {
    let mut pair = pair(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, i INT, r REAL, s TEXT, n DECIMAL, b);
         INSERT INTO t VALUES(1, 1, 1, '1', 1, 1); CREATE TABLE strict(id INTEGER PRIMARY KEY, i INT) STRICT",
    );
    let good = [Integer(2), Text(b"x"), Real(0.0), Text(b"1"), Real(1.5), Text(b"1")];
    let wrong = [
        (1, Text(b"1")),
        (1, Real(2.0)),
        (2, Integer(1)),
        (2, Text(b"1.5")),
        (2, Text(b" 1")),
        (2, Real(-0.0)),
        (3, Integer(1)),
        (3, Real(1.5)),
        (4, Text(b"1e3")),
        (4, Real(4.0)),
    ];
    for (column, value) in wrong {
        let mut new = good;
        new[column] = value;
        let insert = rows("t", 6, |out, _| changeset::write_insert(out, &new));
        assert_diverges!(&mut pair, &insert, Divergence::Altered { .. });
        let old = [Integer(1), Integer(1), Real(1.0), Text(b"1"), Integer(1), Integer(1)];
        let mut new = old;
        new[column] = value;
        let update = rows("t", 6, |out, key| changeset::write_update(out, key, &old, &new));
        assert_diverges!(&mut pair, &update, Divergence::Altered { identity, .. } if identity == "id=1 (integer)");
    }
    let insert = rows("strict", 2, |out, _| changeset::write_insert(out, &[Integer(1), Text(b"x")]));
    assert_diverges!(&mut pair, &insert, Divergence::Refused { .. });
    let insert = rows("strict", 2, |out, _| changeset::write_insert(out, &[Integer(1), Text(b"1")]));
    assert_diverges!(&mut pair, &insert, Divergence::Altered { .. });
    let insert = rows("strict", 2, |out, _| changeset::write_insert(out, &[Null, Integer(1)]));
    assert_diverges!(&mut pair, &insert, Divergence::Shape { .. });
}

#[test]
fn half_a_unit_of_utf16_is_noticed() {
    let mut pair = Pair::with_encoding(TextEncoding::Utf16Le);
    pair.commit("CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    let insert = rows("t", 2, |out, _| changeset::write_insert(out, &[Integer(1), Text(b"a\0b")]));
    assert_diverges!(&mut pair, &insert, Divergence::Altered { .. });
}

#[test]
fn a_generated_value_that_its_column_does_not_store_is_noticed() {
    let mut pair = pair(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a, g INT AS (a * 2) STORED NOT NULL UNIQUE); INSERT INTO t(id, a) VALUES(1, 2), (2, 3)",
    );
    // One that SQLite would not compute is kept; `apply_generated` shows it. An INT column makes a number of these.
    for value in [Text(b"5"), Real(5.0)] {
        let insert = rows("t", 3, |out, _| changeset::write_insert(out, &[Integer(3), Integer(2), value]));
        assert_diverges!(&mut pair, &insert, Divergence::Altered { column, .. } if column == "g");
        let old = [Integer(1), Integer(2), Integer(4)];
        let new = [Integer(1), Integer(2), value];
        let update = rows("t", 3, |out, key| changeset::write_update(out, key, &old, &new));
        assert_diverges!(&mut pair, &update, Divergence::Altered { column, .. } if column == "g");
    }
    for value in [Null, Integer(6)] {
        let insert = rows("t", 3, |out, _| changeset::write_insert(out, &[Integer(3), Integer(9), value]));
        assert_diverges!(&mut pair, &insert, Divergence::Refused { identity, .. } if identity == "id=3 (integer)");
    }
    // What SQLite was given must be stored as it is, whatever it computes of it.
    let mut pair = self::pair("CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, g AS (a * 2) STORED)");
    let insert = rows("t", 3, |out, _| changeset::write_insert(out, &[Integer(1), Text(b"2"), Integer(4)]));
    assert_diverges!(&mut pair, &insert, Divergence::Altered { column, .. } if column == "a");
}

#[test]
fn rows_must_have_the_form_of_their_table() {
    let mut pair = pair(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE TABLE h(v); CREATE VIRTUAL TABLE f USING fts5(x)",
    );
    let insert = |out: &mut Vec<u8>, key: &[bool]| changeset::write_insert(out, &vec![Integer(1); key.len()]);
    for (table, key) in [
        ("none", &[true, false][..]),
        ("T", &[true, false]),
        ("f", &[true, false]),
        ("sqlite_schema", &[true, false]),
        ("_synddb_position", &[true, false]),
        ("t", &[true, false, false]),
        ("t", &[true]),
        ("t", &[false, true]),
        ("t", &[true, true]),
        ("h", &[true]),
        ("h", &[false, true]),
    ] {
        let captured = rows_of(table, key, insert);
        assert_diverges!(&mut pair, &captured, Divergence::Shape { table: named, .. } if named == table);
    }
    let captured = rows("h", 2, |out, _| changeset::write_insert(out, &[Text(b"1"), Integer(1)]));
    assert_diverges!(&mut pair, &captured, Divergence::Shape { .. });
    let mut cut = rows("h", 2, insert);
    cut.rows.pop();
    assert!(matches!(refused(&mut pair, &cut), ApplyError::Changeset(_)));
}

#[test]
fn the_sequence_must_be_what_it_was() {
    let mut pair =
        pair("CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v); INSERT INTO t VALUES(5, 1)");
    let row = |seq: i64| [Integer(1), Text(b"t"), Integer(seq)];
    let update = rows("sqlite_sequence", 3, |out, key| changeset::write_update(out, key, &row(4), &row(6)));
    assert_diverges!(&mut pair, &update, Divergence::Value { column, .. } if column == "seq");
    let insert = rows("sqlite_sequence", 3, |out, _| changeset::write_insert(out, &row(5)));
    assert_diverges!(&mut pair, &insert, Divergence::Exists { .. });
    let delete = rows("sqlite_sequence", 3, |out, _| changeset::write_delete(out, &[Integer(2), Null, Null]));
    assert_diverges!(&mut pair, &delete, Divergence::Missing { .. });
}

#[test]
fn a_schema_change_must_fit() {
    let mut pair = pair(
        "CREATE TABLE t(a, b); CREATE INDEX i ON t(a); INSERT INTO t VALUES(1, 2), (1, 3); CREATE VIEW v AS SELECT 1;
         CREATE TABLE s(id INTEGER PRIMARY KEY AUTOINCREMENT); CREATE VIRTUAL TABLE f USING fts5(x, content='')",
    );
    use ObjectKind::{Index, Table, Trigger, View};
    let outside = tempfile::tempdir().unwrap();
    let attached = outside.path().join("attached.db");
    let drop = |kind, name: &str| SchemaChange::Drop { kind, name: name.into() };
    let create = |row, place| SchemaChange::Create { row, place };
    let amend = |name: &str, row, place| SchemaChange::Amend { name: name.into(), row, place };
    let rebuild = |name: &str, row, place| SchemaChange::Rebuild { name: name.into(), row, place };
    let wrong = [
        drop(Table, "none"),
        drop(View, "t"),
        // Its index stays behind.
        drop(Table, "t"),
        drop(Table, "sqlite_sequence"),
        create(row(Table, "t", "t", "CREATE TABLE t(a)"), 100),
        create(row(View, "w", "w", "CREATE VIEW w AS SELECT 1"), 1),
        create(row(Table, "n", "n", "CREATE TABLE n(a PRIMARY KEY)"), 100),
        create(row(Table, "n", "n", &format!("ATTACH '{}' AS n", attached.display())), 100),
        create(row(Table, "n", "n", "CREATE TABLE n AS SELECT 1 AS a"), 100),
        create(row(Index, "j", "t", "CREATE UNIQUE INDEX j ON t(a)"), 100),
        create(row(Index, "j", "t", "DROP TABLE t"), 100),
        create(row(Index, "j", "s", "CREATE INDEX j ON t(a)"), 100),
        create(row(Trigger, "r", "none", "CREATE TRIGGER r AFTER INSERT ON none BEGIN SELECT 1; END"), 100),
        create(row(View, "w", "w", "CREATE VIEW w AS SELEKT 1"), 100),
        create(row(View, "w", "w", "CREATE TABLE w(a)"), 100),
        create(row(Trigger, "r", "t", "DROP TABLE t"), 100),
        create(row(View, "w", "w", "CREATE VIEW w AS SELECT 1"), i64::MAX),
        create(row(Table, "sqlite_stat1", "sqlite_stat1", "CREATE TABLE sqlite_stat1(tbl,idx,stat)"), 100),
        amend("t", row(Table, "t", "t", "CREATE TABLE t(a, b INTEGER PRIMARY KEY)"), 1),
        amend("t", row(Table, "t", "t", "CREATE TABLE t(a)"), 1),
        amend("t", row(Table, "t", "t", "CREATE TABLE t(a COLLATE NOCASE, b)"), 1),
        amend("t", row(Table, "t", "t", "CREATE TABLE t(a, b UNIQUE)"), 1),
        amend("t", row(Table, "t", "t", "CREATE VIRTUAL TABLE t USING fts5(a, b)"), 1),
        rebuild("f", row(Table, "f", "f", "CREATE VIRTUAL TABLE f USING fts5(y)"), 7),
        rebuild("v", row(View, "v", "v", "CREATE VIEW v AS SELECT 2"), 3),
    ];
    for change in wrong {
        let error = refused(&mut pair, &schema(vec![change.clone()]));
        if matches!(error, ApplyError::Schema(SchemaError::Foreign { .. })) {
            continue;
        }
        let ApplyError::Divergence(divergence) = error else { panic!("{change:?}: {error:?}") };
        let typed = matches!(*divergence, Divergence::Schema { .. } | Divergence::Unreadable { .. });
        assert!(typed, "{change:?}: {divergence:?}");
    }
    assert!(!attached.exists());
}

#[test]
fn reserved_names_are_refused() {
    let mut pair = pair("CREATE TABLE t(a)");
    for row in [
        row(ObjectKind::Table, "_synddb_x", "_synddb_x", "CREATE TABLE _synddb_x(a)"),
        row(ObjectKind::View, "_SYNDDB", "_SYNDDB", "CREATE VIEW _SYNDDB AS SELECT 1"),
        row(ObjectKind::Index, "i", "_synddb_position", "CREATE INDEX i ON _synddb_position(a)"),
    ] {
        let error = refused(&mut pair, &schema(vec![SchemaChange::Create { row, place: 9 }]));
        assert!(matches!(error, ApplyError::Schema(SchemaError::Reserved { .. })), "{error:?}");
    }
    let drop = SchemaChange::Drop { kind: ObjectKind::Table, name: "_synddb_position".into() };
    assert_diverges!(&mut pair, &schema(vec![drop]), Divergence::Schema { .. });
}

#[test]
fn an_error_late_in_a_commit_takes_all_of_it_back() {
    let mut pair = pair(
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v UNIQUE); INSERT INTO t VALUES(1, 'a'), (2, 'b');
         CREATE TABLE u(x); CREATE TRIGGER r AFTER INSERT ON u BEGIN SELECT 1; END",
    );
    let captured = pair.capture(
        "ALTER TABLE t ADD COLUMN w DEFAULT 1; DROP TABLE u; CREATE TABLE n(a); INSERT INTO n VALUES(1);
         UPDATE t SET v = NULL WHERE id = 1; UPDATE t SET v = 'a' WHERE id = 2; UPDATE t SET v = 'b' WHERE id = 1;
         INSERT INTO t(v) VALUES('c'); PRAGMA user_version = 9",
    );
    let mut wrong = captured.clone();
    let missing = rows("n", 2, |out, _| changeset::write_delete(out, &[Integer(99), Null]));
    wrong.rows.extend(missing.rows);
    let before = pair.applier.state().hash();
    pair.applier.begin().unwrap();
    for _ in 0..2 {
        assert!(matches!(pair.applier.apply(wrong.changes()), Err(ApplyError::Divergence(_))));
        assert_eq!(pair.applier.state().hash(), before);
        assert_eq!(RunningState::scan(pair.applier.connection()).unwrap().hash(), before);
    }
    pair.applier.apply(captured.changes()).unwrap();
    pair.applier.commit().unwrap();
    pair.check();
}

#[test]
fn a_commit_needs_a_transaction() {
    let mut pair = Pair::new();
    let captured = pair.capture("CREATE TABLE t(a)");
    assert!(matches!(pair.applier.apply(captured.changes()), Err(ApplyError::NotBegun)));
    pair.applier.rollback().unwrap();
    pair.applier.begin().unwrap();
    assert!(matches!(pair.applier.begin(), Err(ApplyError::Sqlite(_))));
    pair.applier.apply(captured.changes()).unwrap();
    pair.applier.commit().unwrap();
    pair.check();
}
