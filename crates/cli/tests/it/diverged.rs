//! A replica that is not what the application's database is: told loudly, by the commit or by the comparison.

use super::processes::Mirror;
use super::programs::sql;

/// Has somebody else write to the replica while it is mirrored, then goes on, and returns what the mirror said at its end.
fn tampered(replica: &str, then: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    sql(
        &folder.path().join("app.db"),
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 1), (2, 2);",
    );
    let mut mirror = Mirror::start(folder.path());
    sql(&mirror.target, replica);
    sql(&mirror.source, then);
    mirror.end_input();
    let last = std::iter::from_fn(|| mirror.next()).last().unwrap();
    assert_eq!(mirror.child.wait().unwrap().code(), Some(1), "{last}");
    assert_eq!((&last["event"], &last["exit"]), (&"failed".into(), &1.into()), "{last}");
    last["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_commit_that_does_not_find_what_it_changes_ends_the_mirror() {
    let message = tampered(
        "UPDATE t SET v = 9 WHERE id = 1;",
        "UPDATE t SET v = 5 WHERE id = 2; UPDATE t SET v = 5 WHERE id = 1;",
    );
    assert!(message.contains("commit=`2`"), "{message}");
}

#[test]
fn what_no_commit_touches_is_found_by_the_comparison() {
    let message = tampered("UPDATE t SET v = 9 WHERE id = 1;", "UPDATE t SET v = 5 WHERE id = 2;");
    assert!(message.contains("id=1") && message.contains("column v"), "{message}");
}
