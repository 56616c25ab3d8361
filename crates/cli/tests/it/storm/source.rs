//! An application's database, whose commits are captured inside their own transactions: real changes, which a replica can apply.

use std::path::{Path, PathBuf};

use synddb_protocol::hash::StateHash;
use synddb_protocol::id::{Incarnation, StreamId};
use synddb_protocol::submission::{Changes, Snapshot, SnapshotPlace};
use synddb_sqlite::capture::embedded::{Recorder, Scope};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite;
use synddb_sqlite::snapshot::Writer;
use synddb_sqlite::state::RunningState;

use crate::chance::Chance;

/// Keys of its rows are below this, so that rows are met again.
const KEYS: u64 = 60;

/// The database of one stream. One thread's.
pub(crate) struct Source {
    path: PathBuf,
    connection: Connection,
    recorder: Recorder,
    state: RunningState,
    columns: u64,
}

impl Source {
    pub(crate) fn create(path: &Path) -> Self {
        let made = rusqlite::Connection::open(path).unwrap();
        made.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE accounts(id INTEGER PRIMARY KEY, name TEXT UNIQUE, amount REAL);
             CREATE TABLE events(at, what BLOB);
             CREATE INDEX by_amount ON accounts(amount);
             INSERT INTO accounts VALUES(0, 'first', 0.5)",
        )
        .unwrap();
        drop(made);
        let connection = Connection::open(path).unwrap();
        // Nobody cuts the power of this side.
        connection.execute("PRAGMA synchronous = OFF").unwrap();
        let recorder = Recorder::install(&connection).unwrap();
        let state = RunningState::scan(&connection).unwrap();
        Self { path: path.to_owned(), connection, recorder, state, columns: 0 }
    }

    /// Commits something; what it changed, and the state after it.
    pub(crate) fn commit(&mut self, chance: &mut Chance) -> (Changes, StateHash) {
        let sql = self.statements(chance);
        self.run(&sql)
    }

    /// Commits these statements; what they changed, and the state after it.
    pub(crate) fn run(&mut self, sql: &str) -> (Changes, StateHash) {
        self.connection.execute("BEGIN IMMEDIATE").unwrap();
        self.recorder.begin(&self.state).unwrap();
        self.connection.execute(sql).unwrap();
        let changes = self.recorder.finish(&mut self.state, Scope::Schema).unwrap();
        self.connection.execute("COMMIT").unwrap();
        self.recorder.committed(&mut self.state);
        (changes, self.state.hash())
    }

    fn statements(&mut self, chance: &mut Chance) -> String {
        let (key, other) = (chance.below(KEYS), chance.below(KEYS));
        let amount = chance.below(1 << 40);
        match chance.below(100) {
            0 => {
                self.columns += 1;
                format!("CREATE TABLE made{0}(c); INSERT INTO made{0} VALUES({amount})", self.columns)
            }
            1..=9 => format!("DELETE FROM accounts WHERE id % 7 = {}", key % 7),
            10..=29 => format!("UPDATE accounts SET amount = amount + {amount} WHERE id >= {key}"),
            30..=49 => format!(
                "INSERT INTO events VALUES({amount}, x'{}'); DELETE FROM events WHERE rowid < (SELECT max(rowid) FROM events) - 20",
                (0..chance.below(200)).map(|_| format!("{:016x}", chance.next())).collect::<String>()
            ),
            _ => format!(
                "INSERT OR REPLACE INTO accounts VALUES({key}, 'name {other}', {amount}); INSERT INTO events VALUES('{key}', NULL)"
            ),
        }
    }

    /// A snapshot of what is committed, at a place, with its chunks.
    pub(crate) fn snapshot(
        &self,
        stream: StreamId,
        incarnation: Incarnation,
        place: SnapshotPlace,
    ) -> (Snapshot, Vec<Vec<u8>>) {
        let reader = Connection::open_to_read(&self.path).unwrap();
        let mut writer = Writer::new(&reader).unwrap();
        let (chunks, bytes) = (&mut writer)
            .map(|stored| {
                let stored = stored.unwrap();
                (stored.chunk, stored.bytes)
            })
            .unzip();
        let (encoding, page_size) = (writer.encoding(), writer.page_size());
        let state = self.state.hash();
        (Snapshot { stream, incarnation, place, encoding, page_size, state, chunks }, bytes)
    }

    /// The state that was captured.
    pub(crate) fn state(&self) -> StateHash {
        self.state.hash()
    }
}
