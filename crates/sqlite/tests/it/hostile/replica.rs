//! Changes that a stranger made up, against a small replica.

use synddb_protocol::Canonical as _;
use synddb_protocol::submission::{Changes, TextEncoding};
use synddb_sqlite::apply::{Applier, CommitChanges};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::state::RunningState;

/// What is in the replica.
const CONTENT: &str = "
    CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b);
    CREATE TABLE w(k TEXT, n, v, PRIMARY KEY(k, n)) WITHOUT ROWID;
    CREATE TABLE r(a UNIQUE, b REAL DEFAULT 1.5, c AS (a || b) STORED);
    CREATE TABLE s(id INTEGER PRIMARY KEY AUTOINCREMENT, x NOT NULL CHECK (x > 0));
    CREATE INDEX ta ON t(a);
    CREATE VIEW v AS SELECT a FROM t;
    CREATE TRIGGER tt AFTER INSERT ON t BEGIN DELETE FROM w; END;
    INSERT INTO t VALUES(1, 'one', NULL), (2, 'two', x'0102'), (5, NULL, 2.5);
    INSERT INTO w VALUES('a', 1, 'x'), ('b', 2, NULL);
    INSERT INTO r(a) VALUES('p'), ('q');
    INSERT INTO s(x) VALUES(3), (4);";

/// The changes of one commit: they become part of the replica, or leave no trace. Memory: a few times the input, and what SQLite takes for a small
/// database.
pub(crate) fn apply(bytes: &[u8]) -> bool {
    let Ok(changes) = Changes::from_bytes(bytes) else { return false };
    let connection = Connection::in_memory(TextEncoding::Utf8).expect("there is memory");
    connection.execute(CONTENT).expect("the statements are right");
    let mut applier = Applier::over(connection).expect("the replica is whole");
    let before = applier.state().hash();
    applier.begin().expect("no transaction is open");
    let commit = CommitChanges {
        schema: &changes.schema,
        rows: changes.rows.as_slice(),
        user_version: changes.user_version,
        application_id: changes.application_id,
    };
    let applied = applier.apply(commit).is_ok();
    assert!(applier.is_open(), "nothing of this makes SQLite give a transaction up");
    let scanned = RunningState::scan(applier.connection()).expect("the replica can be read");
    assert_eq!(scanned.hash(), applier.state().hash(), "the state is that of the replica");
    assert!(applied || scanned.hash() == before, "what fails leaves no trace");
    applier.rollback().expect("a transaction can be given up");
    let scanned = RunningState::scan(applier.connection()).expect("the replica can be read");
    assert_eq!(scanned.hash(), before, "what is given up leaves no trace");
    assert_eq!(applier.state().hash(), before);
    applied
}
