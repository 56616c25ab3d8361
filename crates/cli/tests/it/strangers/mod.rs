//! A crowd of strangers asks a read replica the worst that they can, while a program writes and the replica follows.
//!
//! Every answer is bounded or a problem with a code, nothing is written to sort in, memory and WAL stay within their bounds, who writes reads
//! what it wrote, and the replica is the application. How far the replica lags is measured without the crowd and with it, from the
//! commit's return in the writer until `/status` shows it.
//!
//! ```sh
//! SYNDDB_STRANGERS_SECONDS=60 SYNDDB_STRANGERS=50 SYNDDB_STRANGERS_RATE=200 \
//!     cargo test --release -p synddb-cli --test it strangers -- --nocapture
//! ```

mod asking;
mod questions;
mod watching;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::programs::{python, sql};
use super::roles::System;
use asking::{Answered, Asker, push};
use watching::{Seen, Watched};

/// How long each half takes, unless the environment says.
const SECONDS: u64 = 4;
/// How many strangers ask at a time, unless the environment says.
const STRANGERS: u64 = 50;
/// Commits a second, unless the environment says.
const RATE: u64 = 50;
/// Most MiB of the WAL before readers are kept out for a moment, unless the environment says.
const WAL_MIB: u64 = 4;
/// Longest time of a query in milliseconds, unless the environment says.
const QUERY_MS: u64 = 500;

const ROWS_MAX: usize = 1000;
const BYTES_MAX: usize = 1 << 20;
const MEMORY_MAX: usize = 16 << 20;
const CONCURRENT_MAX: usize = 4;
const WAITING_MS_MAX: u64 = 10_000;

/// What is beside the memory of queries: answers and bodies on their way, connections, what the allocator keeps.
const BESIDE_BYTES: usize = 192 << 20;
/// How much the WAL grows while the last readers leave.
const WAL_SLACK: u64 = 16 << 20;
const BETWEEN_PUSHES: Duration = Duration::from_millis(200);

/// What is sorted is sorted to its end, and a busy machine is slow.
const SLACK: Duration = Duration::from_secs(20);

/// Commits numbers, and says of each that its commit has returned.
const WRITER: &str = r#"
import select, sqlite3, sys, time
path, first, count, rate = sys.argv[1], *map(int, sys.argv[2:])
sqlite = sqlite3.connect(path, isolation_level=None)
sqlite.execute("PRAGMA busy_timeout = 60000")
begun = time.monotonic()
for number in range(first, first + count):
    select.select([], [], [], max(0, begun + (number - first) / rate - time.monotonic()))
    sqlite.execute("INSERT INTO event VALUES (?, randomblob(2000))", (number,))
    print(number, flush=True)
"#;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

fn wal_max() -> u64 {
    number("SYNDDB_STRANGERS_WAL_MIB", WAL_MIB) << 20
}

/// When each commit returned.
fn written(child: &mut Child) -> Vec<Instant> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map(|line| (line.unwrap(), Instant::now()).1).collect()
}

/// What happened in one half.
struct Half {
    commits: Vec<Instant>,
    seen: Vec<Seen>,
    /// The commit of the first row.
    first: u64,
    /// How long it took to read what was pushed.
    read: Vec<f64>,
}

impl Half {
    /// Milliseconds from a commit's return until it was shown.
    fn lags(&self) -> Vec<f64> {
        let lag = |(place, returned): (u64, &Instant)| {
            let shown = self.seen.iter().find(|seen| seen.next > self.first + place);
            millis(shown.expect("each commit is shown in the end").at, *returned)
        };
        sorted((0..).zip(&self.commits).map(lag).collect())
    }

    /// Milliseconds from when the replica heard that a message is stored until it was shown: its own part of the lag.
    fn own_lags(&self) -> Vec<f64> {
        let mut lags = Vec::new();
        let mut heard = 0;
        for (place, seen) in self.seen.iter().enumerate().filter(|(_, seen)| seen.stored.is_some()) {
            let stored = seen.stored.unwrap_or_default();
            if stored > heard {
                heard = stored;
                let shown = self.seen[place..].iter().find(|later| later.sequence >= seen.stored);
                lags.extend(shown.map(|shown| millis(shown.at, seen.at)));
            }
        }
        sorted(lags)
    }

    fn tell(&self, name: &str) {
        println!("{}", told(&format!("lag {name}"), &self.lags()));
        println!("{}", told(&format!("of it the replica's {name}"), &self.own_lags()));
        println!("{}", told(&format!("what was pushed is read {name}"), &self.read));
    }
}

fn millis(later: Instant, earlier: Instant) -> f64 {
    later.saturating_duration_since(earlier).as_secs_f64() * 1000.0
}

fn sorted(mut times: Vec<f64>) -> Vec<f64> {
    times.sort_unstable_by(f64::total_cmp);
    times
}

fn told(name: &str, sorted: &[f64]) -> String {
    let at = |permille: usize| {
        sorted.get(sorted.len().saturating_sub(1) * permille / 1000).copied().unwrap_or(0.0)
    };
    format!("{name}: n={} p50={:.0} p99={:.0} max={:.0} ms", sorted.len(), at(500), at(990), at(1000))
}

/// The system, and what is known of it before anybody asks.
struct World {
    system: System,
    seconds: u64,
    rate: u64,
    rows: u64,
}

impl World {
    /// The commit that comes next, as the replica shows it.
    fn next(&self) -> u64 {
        let status: Value = Asker::at(self.system.validator_url()).get("/status").json();
        status["next"]["commit"].as_u64().unwrap()
    }

    /// Writes for the time of a half, and watches how the replica follows.
    fn half(&mut self) -> Half {
        let first = self.next();
        let count = self.seconds * self.rate;
        let arguments = [self.rows, count, self.rate].map(|number| number.to_string());
        self.rows += count;
        let app = self.system.app.to_str().unwrap();
        let mut writer = python(WRITER, [app].into_iter().chain(arguments.iter().map(String::as_str)));
        let mut writer = writer.stdout(Stdio::piped()).spawn().unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (home, url, over) = (&self.system.home, self.system.validator_url(), &over);
            // Whatever fails, the others end.
            let ends = Ends(over);
            let reading = scope.spawn(move || author(home, url, over));
            let watching = scope.spawn(move || watching::shown(url, first + count));
            let commits = written(&mut writer);
            assert!(writer.wait().unwrap().success());
            assert_eq!(commits.len() as u64, count);
            let seen = watching.join().unwrap();
            drop(ends);
            Half { commits, seen, first, read: reading.join().unwrap() }
        })
    }
}

/// What a stranger may be answered, and nothing else.
fn assert_bounded(answered: &Answered, question: &str, query_ms: u64) {
    let shown: String = question.chars().take(80).collect();
    let longest = Duration::from_millis(query_ms + WAITING_MS_MAX) + SLACK;
    assert!(answered.took < longest, "{shown} took {:?}", answered.took);
    // A blob is hex in JSON.
    assert!(answered.body.len() <= 3 * BYTES_MAX, "{shown}: {} bytes", answered.body.len());
    let json = answered.json();
    if answered.status == 200 {
        assert!(json["rows"].as_array().unwrap().len() <= ROWS_MAX, "{shown}");
        return;
    }
    let code = json["code"].as_str().unwrap_or_else(|| panic!("{shown}: {json}"));
    let may = ["unprocessable", "malformed", "too_large", "unavailable", "busy"].contains(&code);
    assert!(may && answered.kind == "application/problem+json", "{shown}: {json}");
}

/// Asks one question after the other until it is over; says how often each code was answered, and what took longest.
fn stranger(url: &str, place: usize, query_ms: u64, over: &AtomicBool) -> (BTreeMap<String, u64>, Duration) {
    let questions = questions::all();
    let mut answers = BTreeMap::new();
    let mut longest = Duration::ZERO;
    for question in questions.iter().cycle().skip(place * 7 % questions.len()) {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let answered = Asker::at(url).post("/query", question);
        assert_bounded(&answered, &question["sql"].to_string(), query_ms);
        let json = answered.json();
        let code = json["code"].as_str().unwrap_or("answered").to_owned();
        longest = longest.max(answered.took);
        *answers.entry(code).or_insert(0) += 1;
    }
    (answers, longest)
}

/// Pushes what is committed, and reads it: from another address than the crowd.
fn author(home: &Path, url: &str, over: &AtomicBool) -> Vec<f64> {
    let mut took = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let pushed = push(home);
        let body = json!({"sql": "SELECT count(*) FROM event", "wait_for": pushed["stored_next"], "wait_ms": 30_000});
        let answered = Asker::at(url).from([127, 0, 0, 2]).post("/query", &body);
        assert_eq!(answered.status, 200, "{}", answered.json());
        took.push(answered.took.as_secs_f64() * 1000.0);
        // A push hurries what would be sent together, so that many would be measured and not the replica.
        watching::pause(BETWEEN_PUSHES);
    }
    sorted(took)
}

fn begin(folder: &Path) -> World {
    let temporary = folder.join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let query_ms = number("SYNDDB_STRANGERS_QUERY_MS", QUERY_MS);
    let setting = |value: u64| PathBuf::from(value.to_string());
    let system = System::start_in(
        folder,
        &[
            ("SYNDDB_VALIDATOR_QUERY__ROWS_MAX", setting(ROWS_MAX as u64)),
            ("SYNDDB_VALIDATOR_QUERY__BYTES_MAX", setting(BYTES_MAX as u64)),
            ("SYNDDB_VALIDATOR_QUERY__MEMORY_BYTES_MAX", setting(MEMORY_MAX as u64)),
            ("SYNDDB_VALIDATOR_QUERY__CONCURRENT_MAX", setting(CONCURRENT_MAX as u64)),
            ("SYNDDB_VALIDATOR_QUERY__WAITING_MS_MAX", setting(WAITING_MS_MAX)),
            ("SYNDDB_VALIDATOR_QUERY__MS_MAX", setting(query_ms)),
            ("SYNDDB_VALIDATOR_WAL_BYTES_MAX", setting(wal_max())),
            ("TMPDIR", temporary.clone()),
            ("SQLITE_TMPDIR", temporary),
        ],
    );
    sql(
        &system.app,
        "PRAGMA journal_mode = WAL; CREATE TABLE event (number INTEGER PRIMARY KEY, payload BLOB);
        CREATE TABLE big (id INTEGER PRIMARY KEY, half INTEGER, third INTEGER, text TEXT);
        CREATE INDEX big_half ON big(half); CREATE INDEX big_third ON big(third);
        WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 30000)
        INSERT INTO big SELECT v, v % 2, v % 3, printf('%0600d', v) FROM n;",
    );
    let (seconds, rate) =
        (number("SYNDDB_STRANGERS_SECONDS", SECONDS), number("SYNDDB_STRANGERS_RATE", RATE));
    World { system, seconds, rate, rows: 0 }
}

#[test]
fn a_crowd_of_strangers_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = begin(folder.path());
    let mut agent = world.system.follow();
    world.system.assert_equal();
    let pid = world.system.validator.pid();
    let quiet = world.half();
    let (before, query_ms) = (watching::peak_bytes(pid), number("SYNDDB_STRANGERS_QUERY_MS", QUERY_MS));
    let over = AtomicBool::new(false);
    let url = world.system.validator_url().to_owned();
    let replica = world.system.replica();
    let (besieged, watched, crowd) = std::thread::scope(|scope| {
        let (over, url) = (&over, &url);
        let ends = Ends(over);
        let strangers: Vec<_> = (0..usize::try_from(number("SYNDDB_STRANGERS", STRANGERS)).unwrap())
            .map(|place| scope.spawn(move || stranger(url, place, query_ms, over)))
            .collect();
        let watching = scope.spawn(|| Watched::until(pid, &replica, &folder.path().join("temporary"), over));
        let besieged = world.half();
        drop(ends);
        let crowd: Vec<_> = strangers.into_iter().map(|stranger| stranger.join().unwrap()).collect();
        (besieged, watching.join().unwrap(), crowd)
    });
    quiet.tell("without strangers");
    besieged.tell("with strangers");
    let mut answers: BTreeMap<String, u64> = BTreeMap::new();
    for (code, count) in crowd.iter().flat_map(|(answers, _)| answers) {
        *answers.entry(code.clone()).or_default() += count;
    }
    let longest = crowd.iter().map(|(_, longest)| *longest).max().unwrap_or_default();
    let after = watching::peak_bytes(pid);
    println!("answers {answers:?}, the longest took {longest:?}");
    println!("peak memory before={before} after={after} bytes; {watched:?}");
    for code in ["answered", "unprocessable", "malformed", "too_large", "unavailable"] {
        assert!(answers.contains_key(code), "no `{code}` among {answers:?}");
    }
    assert!(after <= before + CONCURRENT_MAX * (MEMORY_MAX + 8 * BYTES_MAX) + BESIDE_BYTES);
    assert_eq!((watched.temporary_files, watched.temporary_bytes), (0, 0));
    assert!(watched.wal_bytes <= wal_max() + WAL_SLACK, "{watched:?}");
    assert!(watched.samples > 10, "{watched:?}");
    world.system.assert_replica_equals();
    let counted = sql(&world.system.app, "SELECT count(*), sum(number) FROM event;");
    assert_eq!(counted.trim(), format!("{}|{}", world.rows, world.rows * (world.rows - 1) / 2));
    agent.end();
}

/// Says that it is over, also where something failed.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
