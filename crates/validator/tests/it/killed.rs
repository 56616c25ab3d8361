//! The program itself: killed at any moment it goes on from its file, and its exit code says how it ended.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use synddb_sqlite::connection::Connection;
use synddb_sqlite::state::RunningState;
use synddb_validator::Mode;

use super::log::{Log, key};
use super::rebuilt::position;
use super::running::{equal, rebuild};

/// How many processes are killed. Each next one lives for a little more.
const ROUNDS: usize = 12;

pub(crate) fn configuration(log: &Log, mode: &str) -> PathBuf {
    let file = log.folder.path().join(format!("{mode}.toml"));
    let config = log.config(Mode::Once);
    let text = format!(
        "store = \"{}\"\nstream = \"{}\"\nreplica = \"{}\"\nsequencer_keys = [\"{}\"]\nmode = \"{mode}\"\npoll_ms_max = 20\n",
        config.store,
        config.stream.unwrap(),
        config.replica.display(),
        key(1).verifying_key(),
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub(crate) fn validator(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synddb-validator"));
    // Commits are told at this level.
    command.env("SYNDDB_LOG", "debug");
    command.arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Waits until the process restored or committed for the `count`th time, or has nothing more to do.
fn until(child: &mut Process, count: usize) {
    let lines = BufReader::new(child.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut done = 0;
    for line in lines {
        done += usize::from(line.contains("restoring a snapshot") || line.contains("committed"));
        if done > count || line.contains("CaughtUp") {
            return;
        }
    }
    panic!("the process ended by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_goes_on_from_its_file() {
    let mut log = Log::begin("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").await;
    let grow = "INSERT INTO t(v) SELECT hex(randomblob(200)) FROM (WITH RECURSIVE n(v) AS
        (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 1000) SELECT v FROM n)";
    let config = configuration(&log, "follow");
    let mut last = None;
    for round in 0..ROUNDS {
        // Some follow while the log grows, some catch up.
        let early = (round % 2 == 0).then(|| Process(validator(&config).spawn().unwrap()));
        for step in 0..4 {
            match (round + step) % 5 {
                0 => log.run_and_publish_each(grow).await,
                1 => {
                    log.run_and_publish_each(
                        "UPDATE t SET v = v || '.' WHERE id % 7 = 0; DELETE FROM t WHERE id % 11 = 1",
                    )
                    .await
                }
                2 => {
                    log.run_and_publish_each(&format!(
                        "CREATE TABLE IF NOT EXISTS r{round}(a); INSERT INTO r{round} VALUES(1)"
                    ))
                    .await
                }
                3 if step > 0 => {
                    let setup = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES(1)";
                    log.begin_anew(&format!("anew{round}.db"), setup).await;
                    log.publish().await;
                }
                _ => log.run_and_publish_each("INSERT INTO t(v) VALUES(random())").await,
            }
        }
        let mut child = early.unwrap_or_else(|| Process(validator(&config).spawn().unwrap()));
        until(&mut child, round / 3);
        drop(child);
        if !log.replica().exists() {
            continue;
        }
        // Whatever it was doing: contents and position go together, and never back.
        let replica = Connection::open(&log.replica()).unwrap();
        let (sequence, claimed) = position(replica.sqlite());
        assert_eq!(RunningState::scan(&replica).unwrap().hash(), claimed, "round {round}, at {sequence}");
        assert!(last <= Some(sequence), "round {round}: {sequence} after {last:?}");
        last = Some(sequence);
    }
    assert!(last.is_some(), "no process lived long enough to make a replica");
    rebuild(&log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_how_it_ended() {
    let mut log = Log::begin("CREATE TABLE t(a)").await;
    let config = configuration(&log, "once");
    assert_eq!(validator(&config).status().unwrap().code(), Some(0));
    equal(&log);
    log.run("INSERT INTO t VALUES(1)");
    log.publish().await;
    // The other way to name the file.
    let mut by_environment = Command::new(env!("CARGO_BIN_EXE_synddb-validator"));
    by_environment.env("SYNDDB_VALIDATOR_CONFIG", &config);
    let output = by_environment.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    equal(&log);
    log.forge(2, 1).await;
    assert_eq!(validator(&config).status().unwrap().code(), Some(1));
    let mut nothing = Command::new(env!("CARGO_BIN_EXE_synddb-validator"));
    let output = nothing.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("set `stream`"));
    std::fs::remove_dir_all(log.folder.path().join("store")).unwrap();
    assert_eq!(validator(&config).status().unwrap().code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_when_the_store_is_applied() {
    let mut log = Log::begin("CREATE TABLE t(a)").await;
    let mut child = Process(validator(&configuration(&log, "follow")).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("CaughtUp")));
    log.run("INSERT INTO t VALUES(1)");
    log.publish().await;
    let kill = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.0.id())]).status().unwrap();
    assert!(kill.success());
    assert!(lines.count() > 0);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    equal(&log);
}
