//! The difference between two states, applied to the first, gives the second; and it says no more than that.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use synddb_protocol::submission::{Changes, SchemaChange};
use synddb_sqlite::apply::{Applier, CommitChanges};
use synddb_sqlite::capture::{CommittedState, PIECE_BYTES, Sink, WalPosition};
use synddb_sqlite::changeset::{Reader, RowChange, Step};
use synddb_sqlite::compare::first_difference;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::reconcile::{ReconcileError, difference};
use synddb_sqlite::rusqlite;
use synddb_sqlite::rusqlite::backup::Backup;
use synddb_sqlite::rusqlite::config::DbConfig;
use synddb_sqlite::schema::{Layout, Objects};
use synddb_sqlite::state::RunningState;

use super::apply_random::Random;
use super::cases::{Case, assert_every_case};
use super::mirrored::{Collected, Outcome, integrity, scan};

/// Seeds of an ordinary run of either random test. `SYNDDB_RANDOM_SEEDS` asks for more.
const SEEDS: u64 = 24;

fn seeds() -> u64 {
    std::env::var("SYNDDB_RANDOM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap())
}

/// A database that is open to read, in a transaction.
fn reader(path: &Path) -> Result<(Connection, RunningState), Box<dyn Error>> {
    let connection = Connection::open(path)?;
    connection.execute("BEGIN")?;
    let state = RunningState::scan(&connection)?;
    Ok((connection, state))
}

/// What makes `live` of `base`, and how many rows that are.
fn changes(base: &Connection, live: &Path) -> Result<(Changes, u64), Box<dyn Error>> {
    let (live, state) = reader(live)?;
    let mut collected = Collected::default();
    let rows = difference(base, &live, &state, &AtomicBool::new(false), &mut collected)?;
    let [(changes, hash)] = <[_; 1]>::try_from(collected.commits).map_err(|_| "not one commit")?;
    if hash != state.hash() {
        return Err("the commit has another state".into());
    }
    Ok((changes, rows))
}

/// Makes a replica equal to `live`, and proves that it is, and that nothing is left to do. Returns how many rows differed.
fn reconcile(replica: &Path, live: &Path) -> Result<u64, Box<dyn Error>> {
    let mut applier = Applier::open(replica)?;
    applier.begin()?;
    let (made, rows) = changes(applier.connection(), live)?;
    applier.apply(CommitChanges {
        schema: &made.schema,
        rows: made.rows.as_slice(),
        user_version: made.user_version,
        application_id: made.application_id,
    })?;
    let (left, _) = changes(applier.connection(), live)?;
    applier.commit()?;
    if left != Changes::default() {
        return Err(format!("something is left: {left:?}").into());
    }
    let state = scan(live)?;
    if applier.state().hash() != state || scan(replica)? != state {
        return Err("the replica has another state".into());
    }
    if let Some(difference) = first_difference(live, replica)? {
        return Err(difference.to_string().into());
    }
    // An application may leave its own file unsound: then the replica is as sound at least.
    let (source, copy) = (integrity(live)?, integrity(replica)?);
    if copy.split("; ").any(|problem| problem != "ok" && !source.split("; ").any(|known| known == problem)) {
        return Err(format!("live: {source}; replica: {copy}").into());
    }
    Ok(rows)
}

fn copy(from: &Path, to: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let mut copy = rusqlite::Connection::open(to)?;
    let from = rusqlite::Connection::open(from)?;
    Backup::new(&from, &mut copy)?.run_to_completion(1000, Duration::ZERO, None)?;
    Ok(to.to_owned())
}

/// One replica is reconciled after every line, another one from the first state to the last, and a third one back.
fn run(case: &Case) -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("app.db");
    let writer = rusqlite::Connection::open(&path)?;
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, true)?;
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, true)?;
    writer.execute_batch(&case.setup)?;
    writer.execute_batch("PRAGMA journal_mode = WAL")?;
    let of = |name: &str| folder.path().join(name);
    let second = rusqlite::Connection::open(&path)?;
    let (step_by_step, at_once) = (copy(&path, &of("steps.db"))?, copy(&path, &of("once.db"))?);
    let first = copy(&path, &of("first.db"))?;
    for step in &case.steps {
        let sql = step.strip_prefix("@nopoll ").unwrap_or(step);
        let (sql, connection) = sql.strip_prefix("@second ").map_or((sql, &writer), |sql| (sql, &second));
        connection.execute_batch(sql)?;
        reconcile(&step_by_step, &path).map_err(|error| format!("{sql}: {error}"))?;
    }
    let back = copy(&path, &of("back.db"))?;
    reconcile(&at_once, &path).map_err(|error| format!("at once: {error}"))?;
    reconcile(&back, &first).map_err(|error| format!("back: {error}"))?;
    Ok(())
}

#[test]
fn every_case_is_reconciled() {
    assert_every_case(run);
}

fn database(path: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection.close().unwrap();
}

/// Two databases, the second one made of a copy of the first.
fn pair(base: &str, then: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (replica, live) = (folder.path().join("replica.db"), folder.path().join("live.db"));
    database(&live, base);
    copy(&live, &replica).unwrap();
    database(&live, then);
    (folder, replica, live)
}

const BASE: &str = "
    CREATE TABLE t(id INTEGER PRIMARY KEY, a, b DEFAULT 1);
    CREATE TABLE r(a UNIQUE, g AS (a || 'x') STORED, h AS (a || 'y') VIRTUAL);
    CREATE TABLE w(k TEXT COLLATE NOCASE, n, v, PRIMARY KEY(k DESC, n)) WITHOUT ROWID;
    CREATE TABLE s(id INTEGER PRIMARY KEY AUTOINCREMENT, a);
    CREATE INDEX ta ON t(a);
    CREATE VIEW v AS SELECT a FROM t;
    CREATE TRIGGER tt AFTER DELETE ON r BEGIN DELETE FROM s; END;
    CREATE VIRTUAL TABLE f USING fts5(x);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
        INSERT INTO t SELECT i, 'a' || i, i FROM n;
    INSERT INTO r(a) SELECT a FROM t LIMIT 50;
    INSERT INTO w SELECT a, id, 'v' FROM t;
    INSERT INTO s(a) SELECT a FROM t LIMIT 10;
    INSERT INTO f SELECT a FROM t LIMIT 100;";

/// What happened, and how many rows differ then; `None` where nobody counts.
const GAPS: &[(&str, Option<u64>)] = &[
    ("", Some(0)),
    ("VACUUM; ANALYZE; CREATE TABLE _synddb_x(a); INSERT INTO _synddb_x VALUES(1)", Some(0)),
    (
        "UPDATE t SET a = 'x' WHERE id IN (1, 1000, 2000); DELETE FROM t WHERE id = 7; INSERT INTO t VALUES(-1, 1, 1)",
        Some(5),
    ),
    ("UPDATE t SET a = 'other'; UPDATE t SET a = 'a' || id", Some(0)),
    // Keys that a collation holds for equal are two rows.
    ("UPDATE w SET k = upper(k) WHERE n IN (1, 900, 2000)", Some(6)),
    (
        "UPDATE w SET n = n + 0.0 WHERE n = 5; DELETE FROM w WHERE n IN (1, 1999); INSERT INTO w VALUES('zz', 1, 1), ('', 1, 1)",
        Some(6),
    ),
    ("UPDATE w SET v = n WHERE n % 500 = 0", Some(4)),
    ("DELETE FROM w; INSERT INTO w SELECT 'B' || id, id, 1 FROM t", Some(4000)),
    // Values that must be unique change places.
    (
        "UPDATE r SET a = 'tmp' WHERE a = 'a1'; UPDATE r SET a = 'a1' WHERE a = 'a10'; UPDATE r SET a = 'a10' WHERE a = 'tmp'",
        Some(2),
    ),
    ("INSERT INTO s(a) VALUES(1); DELETE FROM s; UPDATE sqlite_sequence SET seq = 99", None),
    ("DROP TABLE s", None),
    ("DROP TABLE s; VACUUM", None),
    (
        "DROP TABLE t; CREATE TABLE t(id INTEGER PRIMARY KEY, a, b DEFAULT 1); INSERT INTO t VALUES(1, 'a1', 1)",
        Some(1999),
    ),
    ("DROP TABLE t; CREATE TABLE t(id, a PRIMARY KEY) WITHOUT ROWID; INSERT INTO t VALUES(1, 'a1')", Some(1)),
    ("ALTER TABLE t RENAME TO u; INSERT INTO u VALUES(9999, 1, 1)", Some(1)),
    (
        "ALTER TABLE t RENAME COLUMN b TO c; ALTER TABLE t ADD COLUMN d REAL DEFAULT 7; UPDATE t SET d = 8 WHERE id < 4",
        Some(3),
    ),
    ("DROP VIEW v; ALTER TABLE t RENAME TO u; ALTER TABLE w RENAME TO t; ALTER TABLE u RENAME TO w", None),
    (
        "DROP INDEX ta; CREATE UNIQUE INDEX ta ON t(b, a); DROP TRIGGER tt; CREATE TRIGGER tt AFTER INSERT ON t BEGIN SELECT 1; END",
        Some(0),
    ),
    (
        "DROP TABLE r; CREATE TABLE r(a UNIQUE, g AS (a || 'z') STORED, h AS (a || 'y') VIRTUAL); INSERT INTO r(a) VALUES('a1')",
        None,
    ),
    ("INSERT INTO f VALUES('more'); DELETE FROM f WHERE rowid = 3", None),
    ("DROP TABLE f; CREATE VIRTUAL TABLE f USING rtree(id, x, y); INSERT INTO f VALUES(1, 2, 3)", None),
    ("PRAGMA user_version = 7; PRAGMA application_id = -9", Some(0)),
];

#[test]
fn every_gap_is_closed_with_what_differs_and_no_more() {
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        for (gap, expected) in GAPS {
            let (_folder, replica, live) = pair(&format!("PRAGMA encoding = '{encoding}'; {BASE}"), gap);
            let back = copy(&live, &replica.with_extension("back")).unwrap();
            let original = copy(&replica, &replica.with_extension("original")).unwrap();
            let rows =
                reconcile(&replica, &live).unwrap_or_else(|error| panic!("{encoding}: {gap}: {error}"));
            assert!(expected.is_none_or(|expected| expected == rows), "{encoding}: {gap}: {rows}");
            reconcile(&back, &original)
                .unwrap_or_else(|error| panic!("{encoding}: back from {gap}: {error}"));
        }
    }
}

#[test]
fn what_is_gone_stands_before_what_compares_equal_and_comes() {
    let (_folder, replica, live) = pair(BASE, "UPDATE w SET k = 'A1' WHERE k = 'a1'");
    let (made, rows) = changes(&reader(&replica).unwrap().0, &live).unwrap();
    let mut reader = Reader::new(made.rows.as_slice());
    let mut kinds = Vec::new();
    while let Some(step) = reader.step().unwrap() {
        kinds.push(match step {
            Step::Table(table) => table.name.clone(),
            Step::Row(RowChange::Delete { .. }) => "delete".to_owned(),
            Step::Row(RowChange::Insert { .. }) => "insert".to_owned(),
            Step::Row(RowChange::Update { .. }) => "update".to_owned(),
        });
    }
    assert_eq!((kinds, rows), (vec!["w".to_owned(), "delete".to_owned(), "insert".to_owned()], 2));
}

#[test]
fn a_renamed_table_keeps_its_rows() {
    let (_folder, replica, live) = pair(BASE, "ALTER TABLE w RENAME TO x");
    let (made, rows) = changes(&reader(&replica).unwrap().0, &live).unwrap();
    assert_eq!(rows, 0);
    assert!(
        made.schema.iter().all(|change| matches!(change, SchemaChange::Amend { .. })),
        "{:?}",
        made.schema
    );
}

/// The lengths of the pieces, and all their rows.
#[derive(Default)]
struct Pieces {
    lengths: Vec<usize>,
    schemas: Vec<usize>,
}

impl Sink for Pieces {
    type Error = &'static str;

    fn piece(&mut self, changes: Changes) -> Result<(), Self::Error> {
        self.lengths.push(changes.rows.len());
        self.schemas.push(changes.schema.len());
        Ok(())
    }

    fn commit(&mut self, changes: Changes, _: &mut CommittedState<'_>) -> Result<(), Self::Error> {
        self.piece(changes)
    }

    fn persist(&mut self, _: &WalPosition, _: &RunningState) -> Result<(), Self::Error> {
        Err("nothing is persisted by the comparison")
    }
}

#[test]
fn what_is_large_comes_in_pieces() {
    let blobs = "CREATE TABLE b(a); INSERT INTO b VALUES(randomblob(9000000)), (randomblob(100)), (randomblob(5000000));
        UPDATE t SET a = randomblob(3000)";
    let (_folder, replica, live) = pair(BASE, blobs);
    let (connection, state) = reader(&live).unwrap();
    let mut pieces = Pieces::default();
    let base = reader(&replica).unwrap().0;
    difference(&base, &connection, &state, &AtomicBool::new(false), &mut pieces).unwrap();
    assert!(pieces.lengths.len() > 4, "{:?}", pieces.lengths);
    assert!(pieces.lengths.iter().all(|length| *length <= PIECE_BYTES), "{:?}", pieces.lengths);
    assert_eq!(pieces.schemas.iter().position(|count| *count > 0), Some(0));
    assert_eq!(pieces.schemas.iter().sum::<usize>(), 1);
    drop((base, connection));
    reconcile(&replica, &live).unwrap();
}

#[test]
fn other_encodings_and_the_wish_to_end_are_told() {
    let (folder, replica, live) = pair(BASE, "DELETE FROM t");
    let other = folder.path().join("other.db");
    database(&other, &format!("PRAGMA encoding = 'UTF-16le'; {BASE}"));
    let (base, _) = reader(&replica).unwrap();
    let refused = |path: &Path, stop: bool| {
        let (live, state) = reader(path).unwrap();
        difference(&base, &live, &state, &AtomicBool::new(stop), &mut Pieces::default()).unwrap_err()
    };
    assert!(matches!(refused(&other, false), ReconcileError::Encoding { .. }));
    assert!(matches!(refused(&live, true), ReconcileError::Stopped));
}

/// Runs statements as one transaction, those that SQLite takes; as nothing when they leave tables that SQLite itself does not read.
fn transact(source: &Connection, statements: &[String]) {
    source.execute("BEGIN").unwrap();
    for sql in statements {
        // A random statement may well be refused.
        source.execute(sql).ok();
    }
    let objects = Objects::read(source).unwrap();
    let sound = objects.tables().all(|table| Layout::of(table, source.encoding()).is_ok());
    source.execute(if sound { "COMMIT" } else { "ROLLBACK" }).unwrap();
}

#[test]
fn random_gaps_are_closed() {
    for seed in 0..seeds() {
        let folder = tempfile::tempdir().unwrap();
        let live = folder.path().join("live.db");
        let encoding = ["UTF-8", "UTF-16le", "UTF-16be"][usize::try_from(seed % 3).unwrap()];
        database(
            &live,
            &format!("PRAGMA encoding = '{encoding}'; CREATE TABLE scratch(a); DROP TABLE scratch"),
        );
        let source = Connection::open(&live).unwrap();
        source.execute("PRAGMA legacy_alter_table = ON; PRAGMA synchronous = OFF").unwrap();
        let mut random = Random(seed);
        let first: Vec<String> = (0..6).map(|_| random.create()).collect();
        transact(&source, &first);
        let replica = copy(&live, &folder.path().join("replica.db")).unwrap();
        let mut done = first;
        for _ in 0..8 {
            // Some gaps are one transaction wide, some many.
            for _ in 0..=random.next(6) {
                let statements: Vec<String> = (0..=random.next(7)).map(|_| random.statement()).collect();
                transact(&source, &statements);
                done.extend(statements);
            }
            if random.next(4) == 0 {
                source.execute("VACUUM").unwrap();
            }
            reconcile(&replica, &live)
                .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{}", done.join(";\n")));
        }
    }
}

#[test]
fn random_keys_meet() {
    let keys = ["a", "A", "a ", "b", "B ", "ab", "AB", "Ä", "ä", "", " ", "z"];
    let tables = [
        "k TEXT COLLATE NOCASE PRIMARY KEY, n, v",
        "k, n, v, PRIMARY KEY(k COLLATE RTRIM DESC, n)",
        "v, n REAL, k COLLATE NOCASE, PRIMARY KEY(n DESC, k COLLATE BINARY)",
        "v, n, k, PRIMARY KEY(k COLLATE NOCASE, n, k)",
    ];
    for seed in 0..seeds() {
        let mut random = Random(seed);
        let table = tables[random.next(tables.len())];
        let mut fill = || -> String {
            let rows = (0..random.next(60)).map(|_| {
                let (key, number) =
                    (random.of(&keys), random.of(&["0", "1", "1.0", "'1'", "-0.0", "x''", "2.5"]));
                format!("INSERT OR IGNORE INTO w(k, n, v) VALUES('{key}', {number}, {});", random.next(2))
            });
            rows.collect()
        };
        let (base, then) = (fill(), fill());
        let base = format!("CREATE TABLE w({table}) WITHOUT ROWID; {base}");
        let (_folder, replica, live) = pair(&base, &format!("DELETE FROM w; {then}"));
        reconcile(&replica, &live).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{base}\n{then}"));
    }
}
