//! The running state: kept up to date or scanned, it is the same.

use synddb_protocol::state::{State, Value};
use synddb_protocol::submission::TextEncoding;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::state::RunningState;

fn database(sql: &str) -> Connection {
    let connection = Connection::in_memory(TextEncoding::Utf8).unwrap();
    connection.execute(sql).unwrap();
    connection
}

#[test]
fn a_scan_is_what_the_specification_says() {
    let connection = database(
        "CREATE TABLE b(x REAL, y); INSERT INTO b VALUES(1, x'00'); CREATE TABLE a(id INTEGER PRIMARY KEY, v);
         INSERT INTO a VALUES(7, 'x'); CREATE TABLE k(v, k PRIMARY KEY) WITHOUT ROWID; INSERT INTO k VALUES(1, 2);
         PRAGMA user_version = 3; CREATE VIRTUAL TABLE f USING fts5(x); CREATE TABLE _synddb_own(a); ANALYZE",
    );
    let state = RunningState::scan(&connection).unwrap();
    let mut tables = std::collections::BTreeMap::new();
    let mut digest = |name: &str, rowid, columns: &[Value<'_>]| {
        let mut table = synddb_protocol::state::TableHash::default();
        table.add(rowid, columns.iter().copied());
        tables.insert(name.as_bytes().to_vec(), table.digest());
    };
    digest("b", Some(1), &[Value::Real(1.0), Value::Blob(&[0])]);
    digest("a", Some(7), &[Value::Integer(7), Value::Text(b"x")]);
    digest("k", None, &[Value::Integer(1), Value::Integer(2)]);
    let mut running = state.clone();
    for (name, _) in state.layouts().iter().filter(|(name, _)| name.starts_with("f_")) {
        tables.insert(name.as_bytes().to_vec(), running.table(name).digest());
    }
    let expected = State {
        schema: state.objects().rows(),
        encoding: TextEncoding::Utf8,
        user_version: 3,
        application_id: 0,
        tables,
    };
    assert_eq!(state.hash(), expected.hash());
    assert!(
        !state.objects().iter().any(|object| object.name.contains("synddb") || object.name.contains("stat"))
    );
}

#[test]
fn every_part_counts() {
    let connection = database("CREATE TABLE a(x); CREATE TABLE b(x); INSERT INTO a VALUES(1)");
    let state = RunningState::scan(&connection).unwrap();
    let mut seen = std::collections::BTreeSet::from([state.hash()]);
    let mut other = state.clone();
    other.set_user_version(1);
    assert!(seen.insert(other.hash()));
    let mut other = state.clone();
    other.set_application_id(1);
    assert!(seen.insert(other.hash()));
    let mut other = state.clone();
    other.table("b").add(Some(1), [Value::Integer(1)]);
    assert!(seen.insert(other.hash()));
    other.clear_table("b");
    assert_eq!(other.hash(), state.hash());
    other.rename_tables(&[("a".to_owned(), "b".to_owned()), ("b".to_owned(), "a".to_owned())]);
    assert!(seen.insert(other.hash()));
    other.rename_tables(&[("a".to_owned(), "b".to_owned()), ("b".to_owned(), "a".to_owned())]);
    assert_eq!(other.hash(), state.hash());
}

#[test]
fn the_schema_decides_which_rows_count() {
    let before =
        database("CREATE TABLE a(x); CREATE TABLE b(x); INSERT INTO a VALUES(1); INSERT INTO b VALUES(2)");
    let after = database("CREATE TABLE a(x); INSERT INTO a VALUES(1)");
    let mut state = RunningState::scan(&before).unwrap();
    let scanned = RunningState::scan(&after).unwrap();
    state.set_schema(scanned.objects().clone(), scanned.layouts().clone());
    assert_eq!(state.hash(), scanned.hash());
}
