//! A log whose rows are updated again and again, and two new replicas of it: one replays everything, the other begins from a snapshot that a validator
//! took beside all that. Real processes, from the application's file to `synddb verify --full`.
//!
//! ```sh
//! SYNDDB_SNAPSHOT_COMMITS=1000000 cargo test --release -p synddb-cli --test it begun -- --nocapture
//! ```

mod init;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use synddb_sqlite::apply::position;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite;

use crate::chance::Chance;
use crate::processes::{diff, run, synddb};
use crate::roles::{PATIENCE_TEXT, Role, System, status};

/// Commits of the log, unless the environment says.
const COMMITS: u64 = 3000;
/// So many commits for each account: the history is so many times as long as the database.
const COMMITS_OF_ACCOUNT: u64 = 20;
/// From how many commits on it is measured whether beginning from a snapshot is worth it. What a process costs by itself is more than a short replay.
const MEASURED_MIN: u64 = 100_000;
/// How many times as fast it has to be then.
const FASTER_MIN: u32 = 10;
/// How many commits the writer may be ahead of the agent, so that the application's WAL stays what it is in life.
const AHEAD_MAX: u64 = 20_000;

/// After so many commits it is said how far it is.
const TOLD: u64 = 20_000;

fn commits() -> u64 {
    std::env::var("SYNDDB_SNAPSHOT_COMMITS").ok().and_then(|text| text.parse().ok()).unwrap_or(COMMITS)
}

/// An application that moves money between accounts, and keeps the last moves of each.
struct Application {
    sqlite: rusqlite::Connection,
    accounts: u64,
    chance: Chance,
    done: u64,
}

impl Application {
    fn begin(file: &Path, accounts: u64) -> Self {
        let sqlite = rusqlite::Connection::open(file).unwrap();
        sqlite.busy_timeout(Duration::from_secs(5)).unwrap();
        sqlite.pragma_update(None, "journal_mode", "WAL").unwrap();
        sqlite
            .execute_batch(
                "CREATE TABLE accounts(id INTEGER PRIMARY KEY, owner TEXT NOT NULL, balance INTEGER NOT NULL);
                 CREATE TABLE moves(account INTEGER, slot INTEGER, amount INTEGER, at INTEGER, PRIMARY KEY(account, slot)) WITHOUT ROWID;
                 CREATE INDEX by_balance ON accounts(balance);
                 BEGIN",
            )
            .unwrap();
        let mut insert =
            sqlite.prepare("INSERT INTO accounts VALUES(?1, printf('owner %080d', ?1), 1000)").unwrap();
        for id in 0..accounts {
            insert.execute([id.cast_signed()]).unwrap();
        }
        drop(insert);
        sqlite.execute_batch("COMMIT; PRAGMA synchronous = NORMAL").unwrap();
        Self { sqlite, accounts, chance: Chance::new(5), done: 0 }
    }

    fn commit(&mut self) {
        let (from, to) = (self.chance.below(self.accounts), self.chance.below(self.accounts));
        let amount = self.chance.below(100).cast_signed();
        self.done += 1;
        let immediate = rusqlite::TransactionBehavior::Immediate;
        let transaction = rusqlite::Transaction::new_unchecked(&self.sqlite, immediate).unwrap();
        for (account, amount) in [(from, -amount), (to, amount)] {
            let account = account.cast_signed();
            let mut update = transaction
                .prepare_cached("UPDATE accounts SET balance = balance + ?2 WHERE id = ?1")
                .unwrap();
            update.execute([account, amount]).unwrap();
            let mut keep =
                transaction.prepare_cached("INSERT OR REPLACE INTO moves VALUES(?1, ?2, ?3, ?4)").unwrap();
            let (slot, at) = ((self.done % 4).cast_signed(), self.done.cast_signed());
            keep.execute([account, slot, amount, at]).unwrap();
        }
        transaction.commit().unwrap();
    }

    /// Commits so many times, never far ahead of the agent.
    fn commit_through(&mut self, commits: u64, home: &Path) {
        while self.done < commits {
            for _ in 0..(commits - self.done).min(AHEAD_MAX / 4) {
                self.commit();
            }
            if self.done.is_multiple_of(TOLD) {
                println!("{} commits", self.done);
            }
            let deadline = Instant::now() + crate::roles::PATIENCE;
            while captured(home).is_none_or(|captured| captured + AHEAD_MAX < self.done) {
                assert!(Instant::now() < deadline, "the agent does not come after");
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
    }
}

/// The commits that the agent has captured.
fn captured(home: &Path) -> Option<u64> {
    status(home)?["next"]["commit"].as_u64()
}

/// A new replica of the log, and how long it took to come to its end; with the events that the command told.
fn replica(log: &[String], target: &Path, more: &[&str]) -> (Duration, Vec<Value>) {
    let mut command = synddb(["replica", "--once", "--json"]);
    command.args(log).args(more).arg(target);
    let began = Instant::now();
    let (exit, told, errors) = run(command);
    let took = began.elapsed();
    assert_eq!(exit, 0, "{told}{errors}");
    (took, told.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn named<'e>(events: &'e [Value], name: &str) -> Option<&'e Value> {
    events.iter().rev().find(|event| event["event"] == name)
}

/// Waits until the validator has stored a snapshot of this place or a later one.
fn until_snapshot(validator: &Role, at: u64) -> u64 {
    let stored = validator.event("snapshot", |event| event["sequence"].as_u64() >= Some(at));
    stored["sequence"].as_u64().unwrap()
}

fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| {
            let found = entry.metadata().unwrap();
            if found.is_dir() { size_of(&entry.path()) } else { found.len() }
        })
        .sum()
}

#[test]
fn a_new_replica_comes_to_the_tip_by_a_snapshot_and_a_tail() {
    let commits = commits();
    let folder = tempfile::tempdir().unwrap();
    let key_file: PathBuf = folder.path().join("validator.key");
    let environment = [
        ("SYNDDB_VALIDATOR_SNAPSHOTS__EVERY_MS", PathBuf::from("500")),
        ("SYNDDB_VALIDATOR_SNAPSHOTS__KEY_FILE", key_file),
    ];
    let mut application =
        Application::begin(&folder.path().join("app.db"), (commits / COMMITS_OF_ACCOUNT).max(100));
    let mut system = System::start_in(folder.path(), &environment);
    let mut agent = system.follow();
    let began = Instant::now();
    application.commit_through(commits - commits / 100, &system.home);
    system.assert_equal();
    let stands = position::read(Connection::open_to_read(&system.replica()).unwrap().sqlite()).unwrap();
    let at = until_snapshot(&system.validator, stands.claim().size.get());
    // The tail: what no snapshot has.
    system.validator.end();
    application.commit_through(commits, &system.home);
    let mut push = synddb(["push", system.app.to_str().unwrap(), "--stored", "--timeout", PATIENCE_TEXT]);
    push.arg("--dir").arg(&system.home);
    let (exit, told, errors) = run(push);
    assert_eq!(exit, 0, "{told}{errors}");
    let wrote = began.elapsed();
    let (store, stream) = (system.store(), synddb_agent::stream_of(&system.home).unwrap().to_string());
    let key = system.sequencer.event("listening", |_| true)["key"].as_str().unwrap().to_owned();
    let log: Vec<String> =
        ["--store", &store, "--stream", &stream, "--sequencer-key", &key].map(str::to_owned).to_vec();
    let app = system.app.clone();
    agent.end();
    drop(system);

    let (replayed, begun) = (folder.path().join("replayed.db"), folder.path().join("begun.db"));
    let (replay, told) = replica(&log, &replayed, &[]);
    assert!(named(&told, "began").is_none(), "nothing is begun from unless somebody asks for it");
    let tip = named(&told, "caught_up").unwrap().clone();
    let (by_snapshot, told) = replica(&log, &begun, &["--from-snapshot"]);
    let began = named(&told, "began").unwrap_or_else(|| panic!("{told:#?}"));
    assert!(began["sequence"].as_u64() >= Some(at) && began["sequence"].as_u64() < tip["sequence"].as_u64());
    assert_eq!(named(&told, "caught_up").unwrap(), &tip);
    for replica in [&replayed, &begun] {
        let (exit, told, errors) = diff(&app, replica);
        assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    }

    // Root and state are those of the whole log, and the replica that began late is told so.
    let started = "SELECT count(*) FROM _synddb_started";
    let count = |sql: &str| -> i64 {
        Connection::open_to_read(&begun).unwrap().sqlite().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(started), 1);
    let mut verify = synddb(["verify", &store, "--full", "--json", "--stream", &stream]);
    verify.args(["--sequencer-key", &key, "--of"]).arg(&begun);
    let (exit, told, errors) = run(verify);
    assert_eq!(exit, 0, "{told}{errors}");
    let report: Value = told.lines().filter_map(|line| serde_json::from_str(line).ok()).next_back().unwrap();
    assert_eq!((&report["size"], &report["state"]), (&tip["sequence"], &tip["state"]));
    assert_eq!(report["replica"]["began"], "checked");
    assert_eq!(report["replica"]["sequence"], began["sequence"]);
    assert_eq!(count(started), 0);
    let stands = position::read(Connection::open_to_read(&begun).unwrap().sqlite()).unwrap();
    assert_eq!(stands.claim().root().to_string(), report["root"].as_str().unwrap());

    let faster = replay.as_secs_f64() / by_snapshot.as_secs_f64();
    println!(
        "{commits} commits in {} messages, written and followed in {wrote:.1?}; database {} bytes, store {} bytes; replayed in {replay:.2?}, by the \
         snapshot of message {} and a tail in {by_snapshot:.2?}: {faster:.1} times as fast",
        tip["sequence"],
        std::fs::metadata(&app).unwrap().len(),
        size_of(&folder.path().join("store")),
        began["sequence"],
    );
    if commits >= MEASURED_MIN {
        assert!(replay >= by_snapshot * FASTER_MIN, "{replay:?} and {by_snapshot:?}");
    }
}
