//! The program itself, killed at any moment of taking and of beginning.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use synddb_sqlite::state::RunningState;

use super::super::killed::{configuration, validator};
use super::super::rebuilt::position;
use super::*;

/// How often each is killed, unless the environment says otherwise.
fn rounds() -> u32 {
    std::env::var("SYNDDB_SNAPSHOT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn with(config: &PathBuf, more: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).open(config).unwrap();
    file.write_all(more.as_bytes()).unwrap();
}

/// Waits until a line says one of these, and a moment more: until the process ends by itself, or the moment is over.
fn live(child: &mut Process, marks: &[&str], moment: Duration) {
    let lines = BufReader::new(child.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let (told, hears) = std::sync::mpsc::sync_channel(1 << 16);
    let reader = std::thread::spawn(move || lines.for_each(|line| drop(told.try_send(line))));
    let begins = |line: &String| marks.iter().any(|mark| line.contains(mark));
    assert!(hears.iter().any(|line| begins(&line)), "the process ended by itself");
    // Its end closes the channel; a moment is what is waited for here, and nothing depends on how long it is.
    let until = std::time::Instant::now() + moment;
    while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
        if hears.recv_timeout(left).is_err() {
            break;
        }
    }
    child.0.kill().ok();
    child.0.wait().ok();
    drop(hears);
    reader.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_takes_it_leaves_snapshots_that_are_whole() {
    let mut random = SmallRng::seed_from_u64(11);
    let mut log = Log::begin(SETUP).await;
    for _ in 0..8 {
        log.run(GROW);
    }
    log.publish().await;
    let config = configuration(&log, "follow");
    let key_file = log.folder.path().join("validator.key");
    with(&config, &format!("[snapshots]\nevery_messages = 1\nkey_file = \"{}\"\n", key_file.display()));
    for round in 0..rounds() {
        log.run(&format!("UPDATE t SET v = v || '{round}' WHERE id % {} = 0", round + 2));
        log.publish().await;
        let mut child = Process(validator(&config).spawn().unwrap());
        // From behind the start to behind the end of taking.
        live(&mut child, &["CaughtUp"], Duration::from_millis(random.random_range(0..400)));
        let equal = Connection::open(&log.replica()).unwrap();
        let (sequence, claimed) = position(equal.sqlite());
        assert_eq!(RunningState::scan(&equal).unwrap().hash(), claimed, "at {sequence}");
        // Whatever is named is whole.
        for key in stored(&log).await {
            for chunk in manifest(&log, &key).await.chunks() {
                let object = Key::Chunk { stream: STREAM, hash: chunk.hash };
                let bytes = log.store.get(&object).await.unwrap().unwrap();
                assert_eq!(synddb_protocol::hash::ChunkHash::of(&bytes), chunk.hash);
            }
        }
    }
    // The last one may have taken the newest place already, which is not taken again.
    log.run("UPDATE t SET v = v || 'last' WHERE id = 1");
    log.publish().await;
    let taken = take(&log).await;
    println!("{} snapshots after {} kills", stored(&log).await.len(), rounds());
    for (index, key) in stored(&log).await.iter().enumerate().rev() {
        let Key::Snapshot { sequence, .. } = key else { panic!("{key}") };
        assert!(*sequence <= taken);
        let began = begin(&log, &format!("begun{index}.db")).await;
        assert_eq!(began.map(|(sequence, _)| sequence), Some(*sequence));
        std::fs::remove_file(log.object(key)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_begins_it_leaves_nothing_half() {
    let mut random = SmallRng::seed_from_u64(13);
    let mut log = Log::begin(SETUP).await;
    for _ in 0..8 {
        log.run(GROW);
    }
    log.publish().await;
    let at = take(&log).await;
    log.run("UPDATE t SET v = 'tail' WHERE id % 5 = 0");
    log.publish().await;
    let config = configuration(&log, "follow");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("from_snapshot = \"newest\"\n{text}")).unwrap();
    std::fs::remove_file(log.replica()).unwrap();
    let (mut none, mut begun) = (0, 0);
    for round in 0..rounds() {
        let mut child = Process(validator(&config).spawn().unwrap());
        // In turn: from its first chunk on, and from its last step on.
        let (mark, moment) = if round % 2 == 0 {
            ("beginning from a snapshot", random.random_range(0..300))
        } else {
            ("the replica begins with a snapshot", random.random_range(0..200))
        };
        live(&mut child, &[mark], Duration::from_millis(moment));
        if !log.replica().exists() {
            none += 1;
            continue;
        }
        begun += 1;
        let replica = Connection::open(&log.replica()).unwrap();
        let (sequence, claimed) = position(replica.sqlite());
        assert!(sequence >= at);
        assert_eq!(RunningState::scan(&replica).unwrap().hash(), claimed, "round {round}, at {sequence}");
        drop(replica);
        assert_eq!(started(&log.replica()).map(|(sequence, _)| sequence), Some(at));
        for suffix in ["", "-wal", "-shm"] {
            std::fs::remove_file(format!("{}{suffix}", log.replica().display())).ok();
        }
    }
    assert!(begun > 0, "half of them lived long enough");
    println!("killed {none} times before there was a replica, {begun} times behind that");
    let end = Running::start(Config { replica: log.replica(), ..beginning(&log, "x") }).end().await.unwrap();
    assert_eq!(end.sequence, Some(log.last()));
    equal(&log);
    assert_eq!(started(&log.replica()).map(|(sequence, _)| sequence), Some(at));
}
