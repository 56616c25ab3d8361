//! A replica of an honest log, what a leader that lies appends to it, and the honest log going on in its place.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use synddb_protocol::hash::StateHash;
use synddb_protocol::id::{Incarnation, IncarnationCounter, Sequence};
use synddb_protocol::log::{Entry, Leaders, Tip};
use synddb_protocol::submission::{
    Changes, Chunk, Commit, CommitKind, Commits, Content, PageSize, Predecessor, Snapshot, SnapshotPlace,
    StateClaim, Submission, TextEncoding,
};
use synddb_sqlite::apply::SubmissionError;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite;
use synddb_sqlite::snapshot::RestoreError;
use synddb_sqlite::state::RunningState;
use synddb_storage::Key;
use synddb_validator::{Divergence, End, HaltCause, ValidatorError};

use crate::flipped::{Objects, kind, named, verified};
use crate::log::{Log, STREAM};
use crate::mutated::{Cut, Said, publish};
use crate::rebuilt::position;

/// What the honest application has before the lie.
pub(super) const SETUP: &str = "
    CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b);
    CREATE TABLE w(k TEXT, n, v, PRIMARY KEY(k, n)) WITHOUT ROWID;
    CREATE TABLE r(a UNIQUE, b REAL DEFAULT 1.5, c AS (a || b) STORED);
    CREATE TABLE s(id INTEGER PRIMARY KEY AUTOINCREMENT, x NOT NULL CHECK (x > 0));
    CREATE INDEX ta ON t(a);
    INSERT INTO t VALUES(1, 'one', NULL), (2, 'two', x'0102');
    INSERT INTO w VALUES('a', 1, 'x'); INSERT INTO r(a) VALUES('p'); INSERT INTO s(x) VALUES(3);";
/// How long a reader may take for one lie; each of them is small.
const LIE_MAX: Duration = Duration::from_secs(30);

pub(super) struct Stage {
    folder: tempfile::TempDir,
    log: Log,
    before: Objects,
    after: Objects,
    tip: Tip,
    leaders: Leaders,
    stands: End,
    random: SmallRng,
}

impl Stage {
    pub(super) async fn new() -> Self {
        let mut log = Log::begin(SETUP).await;
        log.run("INSERT INTO t(a) VALUES('three')");
        log.publish().await;
        let before = Objects::of(&log).await;
        let stands = End { sequence: Some(log.last()), state: Some(log.state()) };
        log.run("INSERT INTO t(a) VALUES('four'); DELETE FROM w; INSERT INTO s(x) VALUES(4)");
        log.publish().await;
        let after = Objects::of(&log).await;
        let (leaders, stood) = verified(&before);
        let tip = stood.last().unwrap().batch.tip().clone();
        let folder = tempfile::tempdir().unwrap();
        let stage =
            Self { folder, log, before, after, tip, leaders, stands, random: SmallRng::seed_from_u64(1) };
        assert_eq!(stage.before.read(&stage.kept()).await.unwrap(), stands);
        stage
    }

    fn kept(&self) -> PathBuf {
        self.folder.path().join("kept.db")
    }

    pub(super) const fn tip(&self) -> &Tip {
        &self.tip
    }

    /// The honest objects with this under the next key.
    pub(super) fn next(&self, stored: Vec<u8>) -> Objects {
        self.before.with(self.next_key(), stored)
    }

    pub(super) fn next_key(&self) -> Key {
        named(self.tip.next().unwrap())
    }

    /// These entries, signed by the leader and stored, with the chunks that they name.
    pub(super) fn signed(&self, entries: &[Entry], chunks: &[(Chunk, Vec<u8>)]) -> Objects {
        let leader = self.tip.last_leader().unwrap();
        let said = entries.iter().map(|entry| Said {
            epoch: leader.epoch,
            key: 1,
            timestamp: self.tip.timestamp(),
            entry: entry.clone(),
            skips: 0,
        });
        let cut = Cut { said: said.collect(), epoch: leader.epoch, key: 1 };
        let mut objects = self.before.clone();
        for (first, bytes) in publish(&self.tip, &[cut], &self.leaders, |_, _| {}) {
            objects = objects.with(named(first), bytes);
        }
        for (chunk, bytes) in chunks {
            objects = objects.with(Key::Chunk { stream: STREAM, hash: chunk.hash }, bytes.clone());
        }
        objects
    }

    /// What a reader makes of a commit. A leader that can know what it leads to claims that: whoever is refused for the claim alone is asked again.
    pub(super) async fn commit(&mut self, changes: &Changes) -> String {
        let (told, lie) = self.best(changes).await;
        match lie {
            Some(lie) => self.told(&lie).await.what,
            None => told.what,
        }
    }

    /// The objects of a commit with the claim that it leads to, if it leads to any.
    pub(super) async fn led(&mut self, changes: &Changes) -> Objects {
        self.best(changes).await.1.expect("it can be applied")
    }

    async fn best(&mut self, changes: &Changes) -> (Told, Option<Objects>) {
        let claimed = StateHash::from_bytes(self.random.random());
        let told = self.told(&self.signed(&[self.submission(changes, claimed)], &[])).await;
        let lie = told.found.map(|found| self.signed(&[self.submission(changes, found)], &[]));
        (told, lie)
    }

    pub(super) fn submission(&self, changes: &Changes, state: StateHash) -> Entry {
        let client = self.tip.client().unwrap();
        let commit = Commit {
            number: client.next,
            prev: client.last,
            kind: CommitKind::Transaction,
            changes: changes.clone(),
            state: Some(StateClaim { state, scanned: None }),
        };
        let content = Content::Commits(Commits::new(vec![commit]).unwrap());
        Entry::Submission(Submission { stream: STREAM, incarnation: client.incarnation, content })
    }

    /// What a reader makes of a new incarnation that begins with these pages.
    pub(super) async fn pages(&mut self, page_size: u64, pages: &[u8]) -> String {
        let (chunk, bytes) = Chunk::seal(pages, PageSize::new(page_size).unwrap()).unwrap();
        self.snapshot(page_size, &[chunk], &[(chunk, bytes)]).await
    }

    /// The same with a list of chunks.
    pub(super) async fn snapshot(
        &mut self,
        page_size: u64,
        listed: &[Chunk],
        stored: &[(Chunk, Vec<u8>)],
    ) -> String {
        let client = self.tip.client().unwrap().clone();
        let mut snapshot = Snapshot {
            stream: STREAM,
            incarnation: Incarnation {
                counter: IncarnationCounter::new(client.incarnation.counter.get() + 1).unwrap(),
                nonce: client.incarnation.nonce,
            },
            place: SnapshotPlace::Begins {
                predecessor: Some(Predecessor {
                    incarnation: client.incarnation,
                    next: client.next,
                    next_part: None,
                    last: client.last,
                    abandoned_through: None,
                }),
            },
            encoding: TextEncoding::Utf8,
            page_size: PageSize::new(page_size).unwrap(),
            state: StateHash::from_bytes(self.random.random()),
            chunks: listed.to_vec(),
        };
        let told = self.told(&self.signed(&[Entry::Snapshot(snapshot.clone())], stored)).await;
        let Some(found) = told.found else { return told.what };
        snapshot.state = found;
        self.told(&self.signed(&[Entry::Snapshot(snapshot)], stored)).await.what
    }

    /// Reads a lie with a replica of what was before it. Whatever comes of it, the file is whole; where the lie is refused it is what it was, and
    /// goes on with the honest log.
    pub(super) async fn told(&self, lie: &Objects) -> Told {
        let replica = self.folder.path().join("replica.db");
        for suffix in ["", "-wal", "-shm"] {
            std::fs::remove_file(self.folder.path().join(format!("replica.db{suffix}"))).ok();
        }
        std::fs::copy(self.kept(), &replica).unwrap();
        let began = Instant::now();
        let ended = lie.read(&replica).await;
        assert!(began.elapsed() < LIE_MAX, "{:?}", began.elapsed());
        assert_eq!(integrity(&replica), "ok", "{ended:?}");
        let found = self.stands(&replica);
        let told = match &ended {
            Ok(end) => {
                assert_eq!((found.sequence, found.state), (end.sequence, end.state));
                let what = if *end == self.stands { "nothing of it" } else { "taken" };
                return Told { what: what.to_owned(), found: None };
            }
            Err(error) => {
                let what = kind(error).unwrap_or_else(|| format!("blames something else: {error:?}"));
                Told { what, found: reached(error) }
            }
        };
        assert_eq!(found, self.stands, "{}", told.what);
        let end = self.after.read(&replica).await.unwrap();
        assert_eq!(
            end,
            End { sequence: Some(self.log.last()), state: Some(self.log.state()) },
            "{}",
            told.what
        );
        told
    }

    /// Where a replica stands, by its position and by a full scan.
    fn stands(&self, replica: &Path) -> End {
        let (sequence, claimed): (Sequence, StateHash) =
            position(&rusqlite::Connection::open(replica).unwrap());
        let scanned = RunningState::scan(&Connection::open(replica).unwrap()).unwrap().hash();
        assert_eq!(scanned, claimed);
        End { sequence: Some(sequence), state: Some(scanned) }
    }
}

/// What came of a lie.
pub(super) struct Told {
    pub(super) what: String,
    /// The state that it leads to, where only the claim of it was wrong.
    found: Option<StateHash>,
}

fn reached(error: &ValidatorError) -> Option<StateHash> {
    let ValidatorError::Halted { source, .. } = error else { return None };
    match &**source {
        HaltCause::Diverged {
            source: Divergence::Submission(SubmissionError::State { found, .. }), ..
        }
        | HaltCause::Diverged { source: Divergence::Snapshot(RestoreError::State { found, .. }), .. } => {
            Some(*found)
        }
        _ => None,
    }
}

/// What SQLite's own shell says of a file; where there is none, the library.
fn integrity(file: &Path) -> String {
    let check = "PRAGMA integrity_check(1)";
    match Command::new("sqlite3").arg(file).arg(check).output() {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap().trim().to_owned(),
        // An older shell may not know what a newer library wrote, and then says why.
        Ok(_) | Err(_) => {
            rusqlite::Connection::open(file).unwrap().query_row(check, [], |row| row.get(0)).unwrap()
        }
    }
}
