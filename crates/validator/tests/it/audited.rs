//! A replica that somebody wrote into with another program is found by the next audit, and the row is named.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use synddb_protocol::http::{Difference, Halt, HaltKind, Naming};
use synddb_service::credentials::{Fingerprint, Kind, NewCredential, add};
use synddb_sqlite::compare::first_difference;
use synddb_sqlite::name::beside;
use synddb_sqlite::rusqlite;
use synddb_validator::{Config, Event, Mode, Report};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::halted::{halt, sequence};
use super::log::Log;
use super::running::{Running, client, equal, rebuild};

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE INDEX tv ON t(v);
    CREATE TABLE w(a TEXT, b, PRIMARY KEY(a)) WITHOUT ROWID; CREATE TABLE other(x);
    INSERT INTO t(v) VALUES('one'), ('two'), (3); INSERT INTO w VALUES('k', x'00ff'); INSERT INTO other VALUES(1)";

/// The real shell, which knows nothing of a validator.
pub(crate) fn shell(file: &Path, sql: &str) {
    let told = Command::new("sqlite3").arg(file).args([".timeout 5000", sql]).output().unwrap();
    assert!(told.status.success() && told.stderr.is_empty(), "{}", String::from_utf8_lossy(&told.stderr));
}

/// A validator that looks at its file only when it is asked to, or in ten seconds.
fn config(log: &Log) -> Config {
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    config.poll_ms_max = 3_600_000;
    config
}

async fn audit(running: &mut Running) -> (u16, Value) {
    let url = running.url("/audit?wait_ms=30000").await;
    let answer = client().post(url).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Runs to the end of the store, forges, audits, and returns the halt.
async fn found(log: &Log, forge: impl FnOnce(&Path)) -> Halt {
    let mut running = Running::start(config(log));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    forge(&log.replica());
    let (status, told) = audit(&mut running).await;
    assert_eq!((status, &told["equal"]), (200, &false.into()), "{told}");
    let events = running.until(|event| matches!(event, Event::Halted(_))).await;
    let Some(Event::Halted(halt)) = events.last().cloned() else { panic!("{events:?}") };
    let (_, status) = running.get_json("/status").await;
    assert_eq!(status["halted"], serde_json::to_value(&halt).unwrap());
    assert_eq!(status["sequence"], Value::Null, "nothing is shown of it");
    assert_eq!(running.query(json!({"sql": "SELECT 1"})).await.0, 503);
    assert_eq!(audit(&mut running).await.0, 503);
    // Nothing is missing of the log: it is the file that is not what it was where it stands.
    assert_eq!(halt.stood_at(), Some(log.last()));
    let ended = running.stop().await.unwrap_err();
    let expected = format!("the replica is not what the log says. sequence=`{}`", log.last());
    assert!(ended.to_string().ends_with(&expected), "{ended}");
    let report = Report::read(&beside(&log.replica(), ".divergence.json")).unwrap();
    assert_eq!((&report.halted, report.sequence, report.state), (&halt, Some(log.last()), Some(log.state())));
    assert!(!beside(&log.replica(), ".reference").exists());
    halt
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_has_the_file_scanned_where_others_are_served() {
    let log = Log::begin(SETUP).await;
    let everywhere = Config { listen: Some("0.0.0.0:0".parse().unwrap()), ..config(&log) };
    let file = log.replica().with_file_name("credentials.toml");
    let token = "0123456789abcdef".repeat(4);
    let sha256 = Fingerprint::of(token.as_bytes());
    let (kind, name) = (Kind::Token, "operator".to_owned());
    add(&file, &NewCredential { kind, name, sha256, streams: [].into(), expires: None }).unwrap();
    let listing = Config { credentials_file: Some(file), ..everywhere.clone() };
    let ask = async |running: &mut Running, token: Option<&str>| {
        let url = running.url("/audit").await.replace("0.0.0.0", "127.0.0.1");
        let request = client().post(url);
        let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for (config, given, expected, says) in [
        (everywhere, Some(token.as_str()), 401, "set `credentials_file`"),
        (listing.clone(), None, 401, "Bearer TOKEN"),
        (listing.clone(), Some("0123456789abcdef0123456789abcdef"), 401, "not accepted"),
        (listing, Some(token.as_str()), 200, "equal"),
    ] {
        let mut running = Running::start(config);
        running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
        let (status, told) = ask(&mut running, given).await;
        assert!(status == expected && told.contains(says), "{status} {told}");
        running.stop().await.unwrap();
    }
}

fn anew(log: &Log) {
    for suffix in ["", "-wal", "-shm", ".divergence.json"] {
        fs::remove_file(beside(&log.replica(), suffix)).ok();
    }
}

/// Object, table, row, column, expected, found.
fn named(halt: &Halt) -> [Option<&str>; 6] {
    let difference = halt.difference.as_deref().unwrap();
    assert_eq!(difference.naming, Naming::Done, "{halt:?}");
    let Difference { object, table, row, column, expected, found, .. } = difference;
    [object, table, row, column, expected, found].map(|part| part.as_deref())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_row_is_named_by_an_audit() {
    let mut log = Log::begin(SETUP).await;
    log.run("UPDATE t SET v = 'deux' WHERE id = 2; INSERT INTO t(v) VALUES('four')");
    log.publish().await;
    let t = (Some("table t"), Some("t"));
    let w = (Some("table w"), Some("w"));
    let row = |(object, table), row, column, expected, found| {
        [object, table, Some(row), column, Some(expected), Some(found)]
    };
    type Case<'c> = (&'c str, [Option<&'c str>; 6], &'c [&'c str]);
    let cases: [Case<'_>; 9] = [
        (
            "UPDATE t SET v = 'forged' WHERE id = 2",
            row(t, "id=2 (integer)", Some("v"), "'deux' (text)", "'forged' (text)"),
            &["t"],
        ),
        (
            "UPDATE t SET v = '3' WHERE id = 3",
            row(t, "id=3 (integer)", Some("v"), "3 (integer)", "'3' (text)"),
            &["t"],
        ),
        ("DELETE FROM t WHERE id = 1", row(t, "id=1 (integer)", None, "a row", "no row"), &["t"]),
        ("INSERT INTO t VALUES(99, 'more')", row(t, "id=99 (integer)", None, "no row", "a row"), &["t"]),
        (
            "UPDATE w SET b = x'00fe'",
            row(w, "a='k' (text)", Some("b"), "x'00ff' (blob)", "x'00fe' (blob)"),
            &["w"],
        ),
        (
            "UPDATE other SET x = 2; UPDATE w SET a = 'l'",
            row(
                (Some("table other"), Some("other")),
                "_rowid_=1 (integer)",
                Some("x"),
                "1 (integer)",
                "2 (integer)",
            ),
            &["other", "w"],
        ),
        (
            "CREATE TABLE strange(a)",
            [Some("table strange"), None, None, None, Some("no table"), Some("a table")],
            &["strange"],
        ),
        ("DROP INDEX tv", [Some("index tv"), None, None, None, Some("an index"), Some("no index")], &[]),
        ("PRAGMA user_version = 7", [Some("user_version"), None, None, None, Some("0"), Some("7")], &[]),
    ];
    for (forge, expected, tables) in cases {
        anew(&log);
        let halt = found(&log, |replica| shell(replica, forge)).await;
        let next = log.last().next().unwrap();
        assert_eq!((halt.kind, halt.from), (HaltKind::Divergence, next), "{forge}");
        let difference = halt.difference.as_deref().unwrap();
        assert_eq!(
            (difference.sequence, &difference.tables[..]),
            (log.last(), &tables.iter().map(|&t| t.to_owned()).collect::<Vec<_>>()[..]),
            "{forge}"
        );
        assert_eq!(difference.expected_state, Some(log.state()));
        assert_eq!(named(&halt), expected, "{forge}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_is_a_difference_and_no_fault_of_the_machine() {
    let mut log = Log::begin(SETUP).await;
    log.run("CREATE TABLE large(v)");
    log.run("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 300) INSERT INTO large SELECT zeroblob(900) FROM c");
    log.publish().await;
    rebuild(&log).await;
    let root: i64 = {
        let sqlite = rusqlite::Connection::open(log.replica()).unwrap();
        sqlite
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'large'", [], |row| row.get(0))
            .unwrap()
    };
    let mut bytes = fs::read(log.replica()).unwrap();
    let at = (usize::try_from(root).unwrap() - 1) * 4096;
    bytes[at..at + 64].fill(0xff);
    fs::write(log.replica(), &bytes).unwrap();
    let (halt, _) = halt(log.config(Mode::Once)).await;
    assert_eq!(halt.kind, HaltKind::Divergence, "{halt:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_position_is_found_by_an_audit() {
    let log = Log::begin(SETUP).await;
    for forge in [
        "UPDATE _synddb_position SET sequence = 1",
        "UPDATE _synddb_position SET checkpoint = x'00'",
        "DELETE FROM _synddb_position",
        "DROP TABLE _synddb_position",
        "CREATE TABLE _synddb_gaps(number INTEGER PRIMARY KEY, report, from_sequence, after_sequence, to_sequence);
         INSERT INTO _synddb_gaps VALUES(1, 'forged', 1, 1, 2)",
    ] {
        anew(&log);
        let halt = found(&log, |replica| shell(replica, forge)).await;
        let [object, table, _, _, expected, found] = named(&halt);
        let wanted = if forge.contains("gaps") { "_synddb_gaps" } else { "_synddb_position" };
        assert_eq!((object, table), (Some(&*format!("table {wanted}")), Some(wanted)), "{forge}");
        assert!(expected.is_some() && found.is_some() && expected != found, "{halt:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_in_the_place_is_found_by_an_audit() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES('four')");
    log.publish().await;
    // First one that holds a forged row, then one that holds the very same: what is applied would go into a file without a name.
    for (forge, row) in
        [("UPDATE t SET v = 'forged' WHERE id = 4", Some("id=4 (integer)")), ("SELECT 1", None)]
    {
        anew(&log);
        let other = log.folder.path().join("other.db");
        let halt = found(&log, |replica| {
            // Nothing of the old file's WAL is read into the new one.
            shell(replica, &format!("PRAGMA wal_checkpoint(TRUNCATE); VACUUM INTO '{}'", other.display()));
            shell(&other, forge);
            fs::rename(&other, replica).unwrap();
        })
        .await;
        assert!(halt.detail.contains("another file"), "{}", halt.detail);
        assert_eq!(named(&halt)[2], row);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forged_while_nothing_comes_is_found_by_looking() {
    let log = Log::begin(SETUP).await;
    let mut config = log.config(Mode::Follow);
    config.audit_interval_ms = 0;
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    shell(&log.replica(), "DELETE FROM w");
    let events = running.until(|event| matches!(event, Event::Halted(_))).await;
    let Some(Event::Halted(halt)) = events.last() else { panic!("{events:?}") };
    assert_eq!(named(halt)[1..5], [Some("w"), Some("a='k' (text)"), None, Some("a row")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_of_what_is_right_finds_nothing_and_goes_on() {
    let mut log = Log::begin(SETUP).await;
    let mut config = config(&log);
    config.poll_ms_max = 50;
    config.audit_interval_ms = 60;
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    // None of these is the application's, or changes anything.
    for harmless in ["UPDATE t SET v = v", "ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"] {
        shell(&log.replica(), harmless);
        log.run("INSERT INTO t(v) VALUES(hex(randomblob(9)))");
        let last = log.publish().await;
        running.until_applied(last).await;
        let (status, told) = audit(&mut running).await;
        assert_eq!(
            (status, &told["equal"], &told["sequence"]),
            (200, &true.into(), &last.get().into()),
            "{told}"
        );
        assert_eq!(
            (&told["state"], &told["scanned"]),
            (&log.state().to_string().into(), &log.state().to_string().into())
        );
        assert_eq!(told["tables"], json!([]));
    }
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_waits_for_the_last_part_of_a_commit() {
    let mut log = Log::begin("CREATE TABLE t(a)").await;
    let parts = log.capture("INSERT INTO t VALUES(randomblob(300000)), (randomblob(300000))");
    let mut running = Running::start(Config { poll_ms_max: 50, ..config(&log) });
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let (last, first) = parts.split_last().unwrap();
    for part in first {
        log.submit(part.clone());
    }
    log.publish().await;
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let url = running.url("/audit?wait_ms=60000").await;
    let asked = tokio::spawn(client().post(url).send());
    log.submit(last.clone());
    let end = log.publish().await;
    running.until_applied(end).await;
    let told: Value = asked.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!((&told["equal"], &told["sequence"]), (&true.into(), &end.get().into()), "{told}");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_replica_says_the_same_at_every_start() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES('four')");
    log.publish().await;
    let once = found(&log, |replica| shell(replica, "UPDATE t SET v = 'forged' WHERE id = 4")).await;
    let id = Report::read(&beside(&log.replica(), ".divergence.json")).unwrap().id;
    // What a killed process left of a replay is not in the way.
    fs::create_dir(beside(&log.replica(), ".reference")).unwrap();
    fs::write(beside(&log.replica(), ".reference").join("replica.db"), "left").unwrap();
    let (again, _) = halt(log.config(Mode::Once)).await;
    assert_eq!(again, once);
    assert_eq!(Report::read(&beside(&log.replica(), ".divergence.json")).unwrap().id, id);
    // Put right by hand, it goes on, and the report goes.
    shell(&log.replica(), "UPDATE t SET v = 'four' WHERE id = 4");
    rebuild(&log).await;
    assert!(!beside(&log.replica(), ".divergence.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_naming_only_tables_are_known() {
    let log = Log::begin(SETUP).await;
    let mut running = Running::start(Config { name_differences: false, ..config(&log) });
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    shell(&log.replica(), "DELETE FROM t WHERE id = 1; INSERT INTO w VALUES('z', 1)");
    let (_, told) = audit(&mut running).await;
    assert_eq!(told["tables"], json!(["t", "w"]));
    let events = running.until(|event| matches!(event, Event::Halted(_))).await;
    let Some(Event::Halted(halt)) = events.last() else { panic!("{events:?}") };
    let difference = halt.difference.as_deref().unwrap();
    assert_eq!((difference.naming, &difference.row), (Naming::Off, &None));
    assert_eq!(difference.tables, ["t", "w"]);
    running.stop().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_log_cannot_be_replayed_nothing_is_named() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES('four')");
    log.publish().await;
    rebuild(&log).await;
    // The replica goes on from its file; the replay needs what is gone.
    fs::remove_file(log.object(&super::log::batch_key(1))).unwrap();
    shell(&log.replica(), "DELETE FROM t WHERE id = 1");
    let (halt, _) = halt(log.config(Mode::Once)).await;
    let difference = halt.difference.as_deref().unwrap();
    assert_eq!((difference.naming, difference.sequence), (Naming::Failed, sequence(3)));
    assert!(first_difference(Path::new(log.app.path().unwrap()), &log.replica()).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_audit_takes_no_connection_of_others() {
    let mut log = Log::begin(SETUP).await;
    let mut running = Running::start(Config { poll_ms_max: 50, ..config(&log) });
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    // The owner is busy: it waits for whoever writes into its file.
    let other = rusqlite::Connection::open(log.replica()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    log.run("INSERT INTO t(v) VALUES('four')");
    let last = log.publish().await;
    while running.get_json("/status").await.1["stored"] != last.get() {}
    let address = running.url("").await.trim_start_matches("http://").to_owned();
    let connect = async |request: &str| {
        let mut to = TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        to.write_all(head.as_bytes()).await.unwrap();
        to
    };
    let told = async |mut from: TcpStream| {
        let mut told = String::new();
        from.read_to_string(&mut told).await.unwrap();
        told
    };
    // As many as connections are taken at a time.
    let mut asking = Vec::new();
    for _ in 0..512 {
        asking.push(connect("POST /audit?wait_ms=100000").await);
    }
    let live = async { told(connect("GET /livez").await).await };
    let live = tokio::time::timeout(Duration::from_secs(20), live).await.expect("it is answered");
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    let refused = told(connect("POST /audit?wait_ms=100000").await).await;
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("\"busy\""), "{refused}");
    // Those who were let in are answered when the owner has time, and then others are let in.
    drop(other);
    let mut answers = Vec::new();
    for asked in asking {
        answers.push(told(asked).await);
    }
    let answered = answers.iter().filter(|told| told.starts_with("HTTP/1.1 200")).count();
    assert!((1..=64).contains(&answered), "{answered}");
    assert_eq!(audit(&mut running).await.0, 200);
    running.stop().await.unwrap();
}
