//! Many small commits over many WAL resets: none lost, none doubled, and the WAL within its limit.
//!
//! The resets are counted by a watcher that knows nothing of what is tested, and the application checkpoints by itself, as SQLite does
//! without being asked and in every mode by another connection. A commit that the application's own file does not have although it was
//! acknowledged, SQLite itself has lost (versions before 3.51.3 can, around a WAL that begins anew); one that the file has and the replica
//! has not, we have. Old and new versions are reported apart.
//!
//! The default is small enough for every run. To soak, with a limit at which the application's own checkpoints come before the follower's:
//!
//! ```sh
//! SYNDDB_SOAK_COMMITS=1000000 SYNDDB_SOAK_BYTES=100 SYNDDB_SOAK_WAL_MIB=32 SYNDDB_SOAK_RATE=6000 \
//!     cargo test --release -p synddb-cli --test it soak -- --nocapture --test-threads=1
//! ```
//!
//! A rate of 0 is as fast as the writer can; then the size of the WAL is reported and not judged. What a follower sees of it is as old as
//! the last step of its work, and a bare loop of inserts writes 150 MB in a second.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::processes::Mirror;
use super::programs::{finish, program, sql};
use super::roles::{Role, System, status};

/// How many commits, unless the environment says.
const COMMITS: u64 = 3000;

/// The rows' payloads are shorter than this, unless the environment says.
const BYTES: u64 = 2000;

/// The limit of the WAL, unless the environment says.
const WAL_MIB: u64 = 2;

/// Commits a second, unless the environment says: a follower that stands still for a second is not caught by its limit yet, and one that
/// lets the WAL grow is.
const RATE: u64 = 2000;

/// Most bytes of the WAL that are captured between two looks at its size, unless its limit is smaller.
const STEP_BYTES: u64 = 8 << 20;

/// What a page takes in the WAL.
const FRAME_BYTES: u64 = 24 + 4096;

/// Which SQLite writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sqlite {
    /// The system's, through Python's own module: often an old one.
    System,
    /// That of the `apsw` package, which is new.
    Apsw,
}

impl Sqlite {
    const fn module(self) -> &'static str {
        match self {
            Self::System => "sqlite3",
            Self::Apsw => "apsw",
        }
    }

    /// A Python that has it; `None` where there is none.
    fn python(self) -> Option<Command> {
        let variable = match self {
            Self::System => return Some(program("python3")),
            Self::Apsw => "SYNDDB_PYTHON_APSW",
        };
        let found = std::env::var_os(variable);
        assert!(found.is_some() || std::env::var_os("CI").is_none(), "{variable} names no Python");
        found.map(Command::new)
    }

    /// Starts a program of this folder.
    fn start(self, script: &str, database: &Path, more: &[String]) -> Child {
        let mut command = self.python().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/soak").join(script);
        command.arg("-B").arg(script).arg(self.module()).arg(database).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// What makes the replica.
enum Through {
    Mirror(Mirror),
    Follow(Box<System>, Role),
}

/// What it saw.
struct Saw {
    commits: u64,
    resets: u64,
    wal_bytes_max: u64,
    write_locks: u64,
}

impl Through {
    fn mirror(folder: &Path, wal_mib: u64) -> Self {
        Self::Mirror(Mirror::start_limited(folder, &wal_mib.to_string()))
    }

    fn follow(folder: &Path, wal_mib: u64) -> Self {
        let system = System::start(folder);
        let mut agent = system.agent();
        agent.args(["--wal-limit", &wal_mib.to_string()]);
        let agent = Role::start(agent);
        agent.how();
        Self::Follow(Box::new(system), agent)
    }

    fn replica(&self) -> PathBuf {
        match self {
            Self::Mirror(mirror) => mirror.target.clone(),
            Self::Follow(system, _) => system.replica(),
        }
    }

    /// Waits until the replica has everything, and makes sure that it is what the application has.
    fn finish(self) -> Saw {
        let told = match self {
            Self::Mirror(mirror) => mirror.stop(),
            Self::Follow(system, mut agent) => {
                system.assert_replica_equals();
                let told = status(&system.home).unwrap()["statistics"].clone();
                assert_eq!(agent.attached().len(), 1, "it was interrupted: {:#?}", agent.events());
                agent.end();
                told
            }
        };
        let number = |field: &str| told[field].as_u64().unwrap();
        Saw {
            commits: number("commits"),
            resets: number("wal_resets"),
            wal_bytes_max: number("wal_bytes_max"),
            write_locks: number("write_locks"),
        }
    }
}

/// A number of the environment.
fn parameter(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What the watcher, which watches already, has seen when it is asked to end.
fn watched(mut watcher: Child, mut output: BufReader<impl std::io::Read>) -> Value {
    drop(watcher.stdin.take());
    let mut told = String::new();
    output.read_to_string(&mut told).unwrap();
    assert!(watcher.wait().unwrap().success());
    serde_json::from_str(&told).unwrap()
}

/// How often each number stands in a database.
fn counts(database: &Path) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for number in sql(database, "SELECT number FROM event;").lines() {
        *counts.entry(number.parse().unwrap()).or_default() += 1;
    }
    counts
}

fn soak(sqlite: Sqlite, begin: fn(&Path, u64) -> Through) {
    if sqlite.python().is_none() {
        println!("left out: no Python with {sqlite:?}; `cargo xtask test` provides it");
        return;
    }
    let commits = parameter("SYNDDB_SOAK_COMMITS", COMMITS);
    let bytes = parameter("SYNDDB_SOAK_BYTES", BYTES);
    let wal_mib = parameter("SYNDDB_SOAK_WAL_MIB", WAL_MIB);
    let rate = parameter("SYNDDB_SOAK_RATE", RATE);
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    // Without a key, so that a row that came twice is there twice.
    sql(&app, "CREATE TABLE event (number INTEGER, payload BLOB);");
    let through = begin(folder.path(), wal_mib);

    let mut watcher = program("python3");
    watcher.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/soak/watcher.py"));
    watcher.arg(folder.path().join("app.db-wal")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut watcher = watcher.spawn().unwrap();
    let mut output = BufReader::new(watcher.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "watching\n");

    let checkpoints = sqlite.start("checkpoints.py", &app, &[]);
    let told =
        finish(sqlite.start("writer.py", &app, &[commits, bytes, rate].map(|number| number.to_string())));
    // Its input ends here.
    let checkpoints = finish(checkpoints);
    let watched = watched(watcher, output);

    let (version, acknowledged) = told.split_once('\n').unwrap();
    let acknowledged: Vec<u64> = acknowledged.lines().map(|number| number.parse().unwrap()).collect();
    assert_eq!(acknowledged.len() as u64, commits);
    let source = counts(&app);
    let lost_by_sqlite = acknowledged.iter().filter(|number| !source.contains_key(number)).count();
    println!(
        "SQLite {version}: {commits} commits acknowledged, {lost_by_sqlite} lost by SQLite itself; watcher: {watched}; \
         {} checkpoints of the application were complete",
        checkpoints.trim()
    );
    if lost_by_sqlite > 0 {
        assert_eq!(sqlite, Sqlite::System, "a new SQLite lost {lost_by_sqlite} commits");
        // Nobody can replicate what is not there, and what became of its frames is anybody's guess.
        return;
    }
    let replica = through.replica();
    let saw = through.finish();
    let copy = counts(&replica);
    let lost = source.keys().filter(|number| !copy.contains_key(number)).count();
    let doubled = copy.values().filter(|count| **count > 1).count();
    let (resets, peak) = (watched["resets"].as_u64().unwrap(), watched["peak"].as_u64().unwrap());
    println!(
        "{lost} lost, {doubled} doubled; {resets} resets of the WAL seen by the watcher, {} by the follower, which took the write lock {} \
         times; largest WAL {peak} bytes, {} captured, limit {wal_mib} MiB",
        saw.resets, saw.write_locks, saw.wal_bytes_max
    );
    assert_eq!((lost, doubled, copy.len() as u64), (0, 0, commits));
    // SQLite may count one that it has padded more than once; the application makes no other commits.
    assert!(saw.commits >= commits, "{} of {commits}", saw.commits);
    assert!(
        resets > 0 && saw.resets >= resets,
        "the watcher saw {resets} resets, the follower {}",
        saw.resets
    );
    // The follower looks at the size after each step of what it captures, and then waits for the transaction under way to end; and a busy
    // machine may keep it from looking for a moment.
    let limit = wal_mib << 20;
    let transaction = (bytes / 4096 + 4) * FRAME_BYTES;
    let moment = rate / 4 * (bytes / 4096 + 1) * FRAME_BYTES;
    let peak_max = limit + STEP_BYTES.min(limit) + transaction + moment;
    assert!(rate == 0 || peak <= peak_max, "the WAL grew to {peak} bytes, which are more than {peak_max}");
}

#[test]
fn no_commit_is_lost_and_none_is_doubled() {
    soak(Sqlite::System, Through::mirror);
}

#[test]
fn no_commit_of_a_new_sqlite_is_lost_and_none_is_doubled() {
    soak(Sqlite::Apsw, Through::mirror);
}

#[test]
fn no_commit_is_lost_on_the_way_through_all_roles() {
    soak(Sqlite::System, Through::follow);
}
