//! Many small commits over many WAL resets: none lost, none doubled.
//!
//! The default is small enough for every run. To soak:
//!
//! ```sh
//! SYNDDB_SOAK_COMMITS=100000 SYNDDB_SOAK_BYTES=100 SYNDDB_SOAK_WAL_MIB=4 cargo test --release -p synddb-cli --test it soak -- --nocapture
//! ```

use std::collections::BTreeMap;

use super::processes::Mirror;
use super::programs::{finish, python, sql, start};

/// How many commits, unless the environment says.
const COMMITS: &str = "3000";

/// The rows' payloads are shorter than this, unless the environment says.
const BYTES: &str = "3000";

/// The limit of the WAL, unless the environment says.
const WAL_MIB: &str = "1";

/// Commits one row after the other, and says of each commit that returned.
const WRITER: &str = "
import sqlite3, sys
sqlite = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
sqlite.execute('PRAGMA synchronous = NORMAL')
for number in range(int(sys.argv[2])):
    sqlite.execute('INSERT INTO event VALUES (?, ?)', (number, bytes(number % int(sys.argv[3]))))
    print(number)
";

#[test]
fn no_commit_is_lost_and_none_is_doubled() {
    let commits = std::env::var("SYNDDB_SOAK_COMMITS").unwrap_or_else(|_| COMMITS.to_owned());
    let bytes = std::env::var("SYNDDB_SOAK_BYTES").unwrap_or_else(|_| BYTES.to_owned());
    let folder = tempfile::tempdir().unwrap();
    // Without a key, so that a row that came twice is there twice.
    sql(&folder.path().join("app.db"), "CREATE TABLE event (number INTEGER, payload BLOB);");
    let limit = std::env::var("SYNDDB_SOAK_WAL_MIB").unwrap_or_else(|_| WAL_MIB.to_owned());
    let mirror = Mirror::start_limited(folder.path(), &limit);
    let target = mirror.target.clone();
    let acknowledged = finish(start(python(WRITER, [mirror.source.to_str().unwrap(), &commits, &bytes]), ""));
    let stopped = mirror.stop();

    let mut seen = BTreeMap::<String, u64>::new();
    for number in sql(&target, "SELECT number FROM event;").lines() {
        *seen.entry(number.to_owned()).or_default() += 1;
    }
    let lost = acknowledged.lines().filter(|number| !seen.contains_key(*number)).count();
    let doubled = seen.values().filter(|count| **count > 1).count();
    println!("{lost} lost, {doubled} doubled, {stopped}");
    assert_eq!((lost, doubled), (0, 0));
    let expected: usize = commits.parse().unwrap();
    assert_eq!((acknowledged.lines().count(), seen.len()), (expected, expected));
    assert_eq!(stopped["commits"].as_u64(), Some(expected as u64));
    assert!(stopped["wal_resets"].as_u64() > Some(0), "the WAL never began anew: {stopped}");
}
