//! A state that takes the place of another one shows rules no less than the commits between them would have.

use std::sync::atomic::AtomicBool;

use synddb_protocol::submission::TextEncoding;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rules::{Finding, RuleText, Rules, Why, difference};

use super::{BOUNDS, Judged, Judging, ints, rule};
use crate::apply_pair::Pair;

/// What rules find of a state that takes the place of another.
fn found_between(before: Option<&Connection>, after: &Connection, rules: Vec<RuleText>) -> Vec<Finding> {
    let mut judging = Judging { rules: Rules::new(rules, BOUNDS), found: Vec::new() };
    let (watched, never) = (judging.rules.tables(), AtomicBool::new(false));
    let folder = tempfile::tempdir().unwrap();
    difference(before, after, watched, folder.path(), &never, &mut judging).unwrap();
    judging.found
}

fn negative() -> Vec<RuleText> {
    vec![rule("negative", &["t"], "SELECT id, v FROM changed_t WHERE v < 0 ORDER BY id")]
}

/// Databases before and after, of which the first is in the folder.
fn between(before: &str, step: &str) -> (tempfile::TempDir, Connection, Pair) {
    let pair = Pair::new();
    pair.source.execute(before).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("before.db");
    pair.source.execute(&format!("VACUUM INTO '{}'", copy.display())).unwrap();
    let copy = Connection::open(&copy).unwrap();
    pair.source.execute(step).unwrap();
    (folder, copy, pair)
}

#[test]
fn a_step_in_the_schema_shows_what_its_commit_shows() {
    let rows =
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v, u DEFAULT 1); INSERT INTO t VALUES(1, 1, -1), (2, 2, 2);";
    let aside = "CREATE TABLE aside(id INTEGER PRIMARY KEY, v); INSERT INTO aside VALUES(7, -7);";
    for (before, step, expected) in [
        // A column that is another one now, and one with a default.
        (rows, "ALTER TABLE t RENAME COLUMN v TO w; ALTER TABLE t RENAME COLUMN u TO v", vec![vec![1, -1]]),
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY); INSERT INTO t VALUES(1)",
            "ALTER TABLE t ADD COLUMN v DEFAULT -5",
            vec![vec![1, -5]],
        ),
        // A table under the name of a table that is watched.
        (aside, "ALTER TABLE aside RENAME TO t", vec![vec![7, -7]]),
        (&[rows, aside].concat(), "DROP TABLE t; ALTER TABLE aside RENAME TO t", vec![vec![7, -7]]),
        (
            &[rows, aside].concat(),
            "ALTER TABLE t RENAME TO old; ALTER TABLE aside RENAME TO t",
            vec![vec![7, -7]],
        ),
        (rows, "ALTER TABLE t RENAME COLUMN u TO x; UPDATE t SET v = -v WHERE id = 2", vec![vec![2, -2]]),
    ] {
        let (_folder, copy, pair) = between(before, step);
        let found = found_between(Some(&copy), &pair.source, negative());
        let [finding] = found.as_slice() else { panic!("{step}: {found:?}") };
        assert_eq!(ints(&finding.rows), expected, "{step}");
        let mut judged = Judged::new(TextEncoding::Utf8, negative());
        judged.commit(before);
        assert_eq!(judged.commit(step), found, "{step}");
    }
}

#[test]
fn what_a_replaced_table_held_is_not_known() {
    let back = || vec![rule("back", &["t"], "SELECT id FROM before_t WHERE v < 0")];
    let before = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 1);
                  CREATE TABLE aside(id INTEGER PRIMARY KEY, v)";
    for step in [
        "DROP TABLE t; CREATE TABLE t(id, v)",
        "DROP TABLE aside; ALTER TABLE t RENAME TO old; CREATE TABLE t(id TEXT PRIMARY KEY, v) WITHOUT ROWID",
    ] {
        let (_folder, copy, pair) = between(before, step);
        let found = found_between(Some(&copy), &pair.source, back());
        assert!(matches!(&found[0].why, Why::Unevaluated(why) if why.contains("replaced")), "{found:?}");
    }
}

#[test]
fn text_in_another_encoding_is_compared_with_nothing() {
    let setup =
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES(1, 'paid'), (2, 'open')";
    let rules = || {
        vec![
            rule("all", &["t"], "SELECT id FROM changed_t WHERE v IN ('paid', 'open')"),
            rule("back", &["t"], "SELECT b.id FROM before_t AS b WHERE b.v = 'paid'"),
        ]
    };
    let (was, is) = (Pair::new(), Pair::with_encoding(TextEncoding::Utf16Le));
    was.source.execute(setup).unwrap();
    is.source.execute(setup).unwrap();
    assert_eq!(found_between(Some(&was.source), &was.source, rules()), []);
    let found = found_between(Some(&was.source), &is.source, rules());
    let [all, back] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&*all.rule, ints(&all.rows)), ("all", vec![vec![1], vec![2]]));
    assert!(matches!(&back.why, Why::Unevaluated(why) if why.contains("not known")), "{found:?}");
}

#[test]
fn a_table_without_rows_is_new_too() {
    let rules = || vec![rule("somebody", &["t"], "SELECT 1 AS nobody WHERE NOT EXISTS (SELECT 1 FROM t)")];
    let (_folder, copy, pair) = between("CREATE TABLE u(a)", "CREATE TABLE t(id INTEGER PRIMARY KEY)");
    assert_eq!(found_between(Some(&copy), &pair.source, rules()).len(), 1);
    assert_eq!(found_between(None, &pair.source, rules()).len(), 1);
    let nothing = found_between(Some(&pair.source), &pair.source, rules());
    assert_eq!(nothing, [], "nothing came");
}

#[test]
fn old_rows_of_an_altered_table_are_those_that_changed() {
    let rules = || {
        ["changed", "before", "removed"]
            .map(|set| rule(set, &["t"], &format!("SELECT id, v FROM {set}_t ORDER BY id")))
            .to_vec()
    };
    let before = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 1), (2, 2), (3, 3)";
    let step = "ALTER TABLE t ADD COLUMN w; UPDATE t SET v = 20 WHERE id = 2; DELETE FROM t WHERE id = 3";
    let (_folder, copy, pair) = between(before, step);
    let found = found_between(Some(&copy), &pair.source, rules());
    let rows: Vec<_> = found.iter().map(|finding| ints(&finding.rows)).collect();
    assert_eq!(
        rows,
        [vec![vec![1, 1], vec![2, 20]], vec![vec![2, 2], vec![3, 3]], vec![vec![3, 3]]],
        "{found:?}"
    );
    let mut judged = Judged::new(TextEncoding::Utf8, rules());
    judged.commit(before);
    assert_eq!(judged.commit(step), found);
}
