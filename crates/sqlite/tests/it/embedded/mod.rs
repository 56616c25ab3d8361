//! The recorder against the follower: of the same transaction both capture the same, and what the recorder captured makes a replica equal.
//!
//! Every case of `cases.txt` is gone through too, each line as one transaction.

mod hostile;
mod own_cases;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use synddb_protocol::hash::StateHash;
use synddb_protocol::submission::{Changes, SchemaChange, SchemaRow};
use synddb_sqlite::apply::{Applier, CommitChanges};
use synddb_sqlite::capture::embedded::{RecordError, Recorder, Scope};
use synddb_sqlite::capture::{CommittedState, Follower, Options, Sink, WalPosition};
use synddb_sqlite::changeset::{Reader, RowChange, Step};
use synddb_sqlite::compare::first_difference;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite::backup::Backup;
use synddb_sqlite::rusqlite::config::DbConfig;
use synddb_sqlite::rusqlite::{self, ffi};
use synddb_sqlite::schema::SchemaError;
use synddb_sqlite::session::{Keyless, Session};
use synddb_sqlite::state::RunningState;

use own_cases::OWN_CASES;

const CASES: &str = include_str!("../cases.txt");

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Row changes by table, in words, sorted: neither the order of tables nor that of rows is promised.
pub(crate) type ByTable = BTreeMap<String, Vec<String>>;

/// What a changeset says.
pub(crate) fn by_table(rows: &[u8]) -> ByTable {
    let mut tables = ByTable::new();
    let mut reader = Reader::new(rows);
    let mut table = String::new();
    while let Some(step) = reader.step().unwrap() {
        match step {
            Step::Table(next) => table = format!("{} {:?}", next.name, next.key),
            Step::Row(change) => {
                let words = match change {
                    RowChange::Insert { new } => format!("insert {new:?}"),
                    RowChange::Delete { old } => format!("delete {old:?}"),
                    RowChange::Update { old, new } => format!("update {old:?} {new:?}"),
                };
                tables.entry(table.clone()).or_default().push(words);
            }
        }
    }
    tables.values_mut().for_each(|rows| rows.sort_unstable());
    tables
}

fn schema_words(change: &SchemaChange) -> String {
    let text = String::from_utf8_lossy;
    let row = |row: &SchemaRow, place: &i64| {
        format!("{:?} {} {} {place}", row.kind, text(&row.name), text(row.sql.as_deref().unwrap_or_default()))
    };
    match change {
        SchemaChange::Drop { kind, name } => format!("drop {kind:?} {}", text(name)),
        SchemaChange::Create { row: new, place } => format!("create {}", row(new, place)),
        SchemaChange::Amend { name, row: new, place } => format!("amend {} {}", text(name), row(new, place)),
        SchemaChange::Rebuild { name, row: new, place } => {
            format!("rebuild {} {}", text(name), row(new, place))
        }
    }
}

/// How two captures of one commit differ, in words; `None` when they say the same.
pub(crate) fn capture_difference(one: &Changes, other: &Changes) -> Option<String> {
    if one.schema != other.schema {
        let words = |changes: &Changes| changes.schema.iter().map(schema_words).collect::<Vec<_>>();
        return Some(format!("schema: {:#?} and {:#?}", words(one), words(other)));
    }
    let header = |changes: &Changes| (changes.user_version, changes.application_id);
    if header(one) != header(other) {
        return Some(format!("header: {:?} and {:?}", header(one), header(other)));
    }
    let (one, other) = (by_table(&one.rows), by_table(&other.rows));
    (one != other).then(|| format!("rows: {one:#?} and {other:#?}"))
}

#[derive(Default)]
struct Collected(Vec<(Changes, StateHash)>);

impl Sink for Collected {
    type Error = Infallible;

    fn piece(&mut self, _: Changes) -> Result<(), Infallible> {
        panic!("no case here is large enough for pieces")
    }

    fn commit(&mut self, changes: Changes, state: &mut CommittedState<'_>) -> Result<(), Infallible> {
        self.0.push((changes, state.hash()));
        Ok(())
    }

    fn persist(&mut self, _: &WalPosition, _: &RunningState) -> Result<(), Infallible> {
        Ok(())
    }
}

/// One connection that is recorded, a follower beside it, and a replica made of what was recorded.
struct Pair {
    path: PathBuf,
    replica: PathBuf,
    writer: Connection,
    recorder: Recorder,
    state: RunningState,
    follower: Follower,
    applier: Applier,
    /// Tables that travelled whole, of which the follower told rows apart.
    rebuilt: usize,
}

impl Pair {
    fn open(folder: &Path, setup: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let (path, replica) = (folder.join("app.db"), folder.join("replica.db"));
        let sqlite = rusqlite::Connection::open(&path)?;
        sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, true)?;
        sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, true)?;
        sqlite.execute_batch(setup)?;
        let follower = Follower::attach(&path, Options::default())?;
        let mut copy = rusqlite::Connection::open(&replica)?;
        Backup::new(follower.reader().sqlite(), &mut copy)?.run_to_completion(1000, Duration::ZERO, None)?;
        drop(copy);
        let writer = Connection::over(sqlite)?;
        let state = RunningState::scan(&writer)?;
        let recorder = Recorder::install(&writer)?;
        let applier = Applier::open(&replica)?;
        Ok(Self { path, replica, writer, recorder, state, follower, applier, rebuilt: 0 })
    }

    /// Runs a transaction; a refusal takes it back.
    fn record(
        &mut self,
        scope: Scope,
        run: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<()>,
    ) -> Result<Changes, Box<dyn std::error::Error>> {
        self.writer.execute("BEGIN IMMEDIATE")?;
        self.recorder.begin(&self.state)?;
        let before = self.state.hash();
        let recorded = run(self.writer.sqlite())
            .map_err(Box::<dyn std::error::Error>::from)
            .and_then(|()| Ok(self.recorder.finish(&mut self.state, scope)?))
            .and_then(|changes| {
                self.writer.execute("COMMIT")?;
                Ok(changes)
            });
        if recorded.is_ok() {
            self.recorder.committed(&mut self.state);
            return recorded;
        }
        if !self.writer.sqlite().is_autocommit() {
            self.writer.execute("ROLLBACK")?;
        }
        self.recorder.rolled_back(&mut self.state);
        assert_eq!(self.state.hash(), before, "a transaction that was taken back moved the state");
        recorded
    }

    fn apply(&mut self, changes: &Changes) -> Outcome {
        self.applier.begin()?;
        self.applier.apply(CommitChanges {
            schema: &changes.schema,
            rows: changes.rows.as_slice(),
            user_version: changes.user_version,
            application_id: changes.application_id,
        })?;
        Ok(self.applier.commit()?)
    }

    /// Records one transaction and compares everything.
    fn step(&mut self, sql: &str) -> Outcome {
        self.step_with(|sqlite| sqlite.execute_batch(sql)).map_err(|error| format!("{sql}: {error}").into())
    }

    /// The same, with a scope.
    fn step_in(&mut self, scope: Scope, sql: &str) -> Outcome {
        self.compare(scope, |sqlite| sqlite.execute_batch(sql))
            .map_err(|error| format!("{sql}: {error}").into())
    }

    fn step_with(&mut self, run: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<()>) -> Outcome {
        self.compare(Scope::Schema, run)
    }

    fn compare(
        &mut self,
        scope: Scope,
        run: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<()>,
    ) -> Outcome {
        let recorded = self.record(scope, run)?;
        let mut followed = Collected::default();
        while self.follower.poll(&mut followed)? > 0 {}
        let nothing = Changes::default();
        let captured = match followed.0.as_slice() {
            [] => &nothing,
            [(changes, _)] => changes,
            more => return Err(format!("{} commits", more.len()).into()),
        };
        // Of a table that travels whole the follower tells rows apart.
        if rebuilds(captured) == rebuilds(&recorded)
            && let Some(difference) = capture_difference(captured, &recorded)
        {
            return Err(format!("follower and recorder differ: {difference}").into());
        }
        self.rebuilt += rebuilds(&recorded) - rebuilds(captured);
        self.apply(&recorded)?;
        self.agree()
    }

    /// Runs something that cannot be recorded, and goes on from what it made.
    fn resync(&mut self, sql: &str) -> Outcome {
        self.writer.sqlite().execute_batch(sql).map_err(|error| format!("{sql}: {error}"))?;
        let mut followed = Collected::default();
        while self.follower.poll(&mut followed)? > 0 {}
        for (changes, _) in &followed.0 {
            self.apply(changes)?;
        }
        self.state = RunningState::scan(&self.writer)?;
        self.agree()
    }

    fn agree(&self) -> Outcome {
        let scanned = RunningState::scan(&Connection::open(&self.path)?)?.hash();
        for (whose, hash) in [
            ("recorder", self.state.hash()),
            ("follower", self.follower.state().hash()),
            ("applier", self.applier.state().hash()),
        ] {
            if hash != scanned {
                return Err(format!("the {whose}'s state is not that of a scan").into());
            }
        }
        match first_difference(&self.path, &self.replica)? {
            None => Ok(()),
            Some(difference) => Err(difference.to_string().into()),
        }
    }
}

/// How many tables travel whole although they stay.
fn rebuilds(changes: &Changes) -> usize {
    changes.schema.iter().filter(|change| matches!(change, SchemaChange::Rebuild { .. })).count()
}

fn pair(setup: &str) -> (tempfile::TempDir, Pair) {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::open(folder.path(), setup).unwrap();
    (folder, pair)
}

/// A line of `cases.txt` as one transaction; `None` where it cannot be one.
fn transaction(line: &str) -> Option<&str> {
    let line = line.strip_prefix("@nopoll ").unwrap_or(line).trim().trim_end_matches(';');
    let upper = line.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| upper.contains(word));
    if line.starts_with('@')
        || has(&[
            "VACUUM",
            "WRITABLE_SCHEMA",
            "JOURNAL_MODE",
            "ROLLBACK",
            "FOREIGN_KEYS",
            "LEGACY_",
            "ATTACH",
            "PRAGMA",
        ])
    {
        return None;
    }
    let inner = line.strip_prefix("BEGIN;").and_then(|line| line.strip_suffix("COMMIT")).unwrap_or(line);
    (!inner.to_ascii_uppercase().contains("COMMIT")).then_some(inner)
}

#[test]
fn every_case_is_captured_as_the_follower_captures_it() {
    let mut failed = Vec::new();
    let (mut recorded, mut resynced) = (0, 0);
    for case in CASES.split("\n== ").map(|case| case.trim_start_matches("== ")) {
        let mut lines = case.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        // What stands before the first case says how they are written.
        let Some(name) = lines.next() else { continue };
        let (setup, steps): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("setup: "));
        let setup: String = setup.iter().map(|line| line.trim_start_matches("setup: ")).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut pair = Pair::open(folder.path(), &setup).unwrap();
        for step in steps.iter().map(|step| step.replace("\\n", "\n")) {
            let outcome = match transaction(&step) {
                Some(sql) => {
                    recorded += 1;
                    pair.step(sql)
                }
                None => {
                    resynced += 1;
                    let sql = step.trim_start_matches("@nopoll ").trim_start_matches("@second ");
                    pair.resync(sql)
                }
            };
            if let Err(error) = outcome {
                failed.push(format!("{name}: {error}"));
                break;
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(recorded > 150 && resynced * 3 < recorded, "{recorded} recorded, {resynced} not");
}

#[test]
fn what_is_easy_to_get_wrong_is_captured_as_the_follower_captures_it() {
    for encoding in ["", "PRAGMA encoding = 'UTF-16le'; ", "PRAGMA encoding = 'UTF-16be'; "] {
        for (setup, transactions) in OWN_CASES {
            let (_folder, mut pair) = pair(&format!("{encoding}{setup}"));
            for sql in *transactions {
                pair.step(sql).unwrap();
                assert_eq!(pair.rebuilt, 0, "{sql}");
            }
        }
    }
}

#[test]
fn text_that_is_no_text_is_captured_as_it_is() {
    for (encoding, broken) in [("UTF-8", "ff00fe"), ("UTF-16le", "00d84100"), ("UTF-16be", "d8000041")] {
        let setup = format!(
            "PRAGMA encoding = '{encoding}'; CREATE TABLE k(a TEXT PRIMARY KEY, b) WITHOUT ROWID; INSERT INTO k VALUES(CAST(x'{broken}' AS TEXT), 1)"
        );
        let (_folder, mut pair) = pair(&setup);
        pair.step("UPDATE k SET b = 2").unwrap();
        pair.step(&format!("UPDATE k SET a = a || CAST(x'{broken}' AS TEXT)")).unwrap();
        pair.step("DELETE FROM k").unwrap();
    }
}

#[test]
fn tables_that_are_made_again_travel_whole() {
    let (_folder, mut pair) = pair(
        "CREATE TABLE t(a, b); INSERT INTO t VALUES(1,1),(2,2); CREATE TABLE x(a PRIMARY KEY); CREATE TABLE y(a PRIMARY KEY);
         INSERT INTO x VALUES(1),(2); INSERT INTO y VALUES(2),(3)",
    );
    for (sql, rebuilt) in [
        ("DROP TABLE t; CREATE TABLE t(a, b); INSERT INTO t VALUES(1,1),(2,3)", 1),
        // What goes with DROP TABLE is told by nobody, so that the same rows again look like more of them.
        ("DROP TABLE t; CREATE TABLE t(a, b); INSERT INTO t VALUES(1,1),(2,3)", 1),
        // Rows that come by another name are the same rows, and that is seen.
        ("CREATE TABLE n(a, b); INSERT INTO n SELECT * FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t", 0),
        (
            "ALTER TABLE x RENAME TO z; ALTER TABLE y RENAME TO x; ALTER TABLE z RENAME TO y; INSERT INTO x VALUES(9); DELETE FROM y WHERE a = 1",
            2,
        ),
        // Rows that are written under a name that was not there before.
        ("ALTER TABLE t RENAME TO v; INSERT INTO v VALUES(3,3); ALTER TABLE v RENAME TO t", 1),
        // Only the column that is added differs from its default.
        (
            "CREATE TABLE n(a, b, c DEFAULT 5); INSERT INTO n SELECT a, b, 6 FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t",
            1,
        ),
    ] {
        let before = pair.rebuilt;
        pair.step(sql).unwrap();
        assert_eq!(pair.rebuilt - before, rebuilt, "{sql}");
    }
}

#[test]
fn statements_compiled_before_are_captured_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut pair) =
        (&folder, Pair::open(folder.path(), "CREATE TABLE t(a); INSERT INTO t VALUES(1),(2)").unwrap());
    // Without the hook this one is compiled into a truncation of the whole table.
    let Pair { recorder, writer, .. } = &mut pair;
    drop(std::mem::replace(recorder, {
        let other = Connection::in_memory(synddb_protocol::submission::TextEncoding::Utf8).unwrap();
        Recorder::install(&other).unwrap()
    }));
    let sqlite = writer.sqlite();
    drop(sqlite.prepare_cached("DELETE FROM t").unwrap());
    pair.recorder = Recorder::install(&pair.writer).unwrap();
    pair.step_with(|sqlite| sqlite.prepare_cached("DELETE FROM t")?.execute([]).map(drop)).unwrap();
}

#[test]
fn writes_into_blobs_are_captured() {
    let (_folder, mut pair) =
        pair("CREATE TABLE t(a, b); INSERT INTO t VALUES(1, zeroblob(9000)), (2, zeroblob(3))");
    pair.step_with(|sqlite| {
        use std::io::Write as _;
        let mut blob = sqlite.blob_open("main", "t", "b", 1, false)?;
        blob.write_all(b"written past every statement").unwrap();
        blob.reopen(2)?;
        blob.write_all(b"too").unwrap();
        Ok(())
    })
    .unwrap();
}

fn refusal(pair: &mut Pair, scope: Scope, sql: &str) -> RecordError {
    let refused = pair.record(scope, |sqlite| sqlite.execute_batch(sql)).expect_err(sql);
    *refused.downcast::<RecordError>().unwrap()
}

#[test]
fn what_cannot_be_captured_is_refused_and_the_next_transaction_is_well() {
    let (_folder, mut pair) = pair("CREATE TABLE t(a, b); INSERT INTO t VALUES(1,1)");
    let write = "INSERT INTO t VALUES('doomed', 1); ";
    let found = refusal(&mut pair, Scope::Rows, &format!("{write}CREATE TABLE u(a)"));
    assert!(matches!(found, RecordError::SchemaMoved), "{found:?}");
    let by_hand = "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = sql || ' '; PRAGMA writable_schema = OFF";
    let found = refusal(&mut pair, Scope::Schema, &format!("{write}{by_hand}"));
    assert!(matches!(found, RecordError::SchemaWritten), "{found:?}");
    let found = refusal(&mut pair, Scope::Schema, &format!("{write}CREATE TABLE h(rowid, oid, _rowid_)"));
    assert!(matches!(found, RecordError::Schema(SchemaError::HiddenRowid { .. })), "{found:?}");
    let found = refusal(&mut pair, Scope::Schema, &format!("{write}CREATE TABLE _SynddB_x(a)"));
    assert!(matches!(found, RecordError::Schema(SchemaError::Reserved { .. })), "{found:?}");
    pair.step("UPDATE t SET b = 2; CREATE TABLE u(a); INSERT INTO u VALUES(1)").unwrap();
    pair.step("INSERT INTO u SELECT b FROM t").unwrap();
}

#[test]
fn nothing_is_committed_that_was_not_captured() {
    let (_folder, mut pair) = pair("CREATE TABLE t(a)");
    pair.writer.execute("BEGIN").unwrap();
    pair.recorder.begin(&pair.state).unwrap();
    pair.writer.execute("INSERT INTO t VALUES(1)").unwrap();
    let early = pair.writer.execute("COMMIT").unwrap_err();
    assert_eq!(early.code(), ffi::SQLITE_CONSTRAINT_COMMITHOOK);
    pair.recorder.rolled_back(&mut pair.state);

    pair.writer.execute("BEGIN").unwrap();
    pair.recorder.begin(&pair.state).unwrap();
    pair.writer.execute("INSERT INTO t VALUES(1)").unwrap();
    pair.recorder.finish(&mut pair.state, Scope::Rows).unwrap();
    pair.writer.execute("INSERT INTO t VALUES(2)").unwrap();
    let more = pair.writer.execute("COMMIT").unwrap_err();
    assert_eq!(more.code(), ffi::SQLITE_CONSTRAINT_COMMITHOOK);
    pair.recorder.rolled_back(&mut pair.state);
    assert!(matches!(pair.recorder.begin(&pair.state), Err(RecordError::NoTransaction)));
    assert!(matches!(pair.recorder.finish(&mut pair.state, Scope::Rows), Err(RecordError::NotBegun)));
    pair.step("INSERT INTO t VALUES(3)").unwrap();
}

#[test]
fn a_session_and_a_recorder_keep_off_each_others_connection() {
    let connection = Connection::in_memory(synddb_protocol::submission::TextEncoding::Utf8).unwrap();
    let session = Session::open(&connection, Keyless::Skip).unwrap();
    assert!(matches!(Recorder::install(&connection).err(), Some(RecordError::Taken)));
    drop(session);
    let recorder = Recorder::install(&connection).unwrap();
    assert!(Session::open(&connection, Keyless::Skip).is_err());
    assert!(matches!(Recorder::install(&connection).err(), Some(RecordError::Taken)));
    drop(recorder);
    let sessions = (Session::open(&connection, Keyless::Skip), Session::open(&connection, Keyless::Skip));
    assert!(sessions.0.is_ok() && sessions.1.is_ok());
}
