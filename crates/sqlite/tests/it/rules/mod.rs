//! Rules over what commits changed: the views, what rules may do, and what is found.

mod cost;
mod states;
mod views;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use synddb_protocol::hash::CommitDigest;
use synddb_protocol::id::CommitNumber;
use synddb_protocol::submission::{Changes, Commit, CommitKind, Commits, Content, StateClaim, TextEncoding};
use synddb_sqlite::apply::{Applier, ApplyError, SubmissionApplier};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::query::Cell;
use synddb_sqlite::rules::{Bounds, CommitView, Finding, Judge, RuleText, Rules, Why, difference};
use synddb_sqlite::rusqlite;

use crate::apply_pair::{Captured, Image, Pair};
use crate::apply_random::Random;

/// Rules, and what they found of the last commits.
struct Judging {
    rules: Rules,
    found: Vec<Finding>,
}

impl Judge for Judging {
    fn commit(&mut self, commit: &CommitView<'_>, _: &Connection) -> Result<(), ApplyError> {
        self.found.extend(self.rules.check(commit)?);
        Ok(())
    }
}

/// A source, and a replica that is judged.
struct Judged {
    pair: Pair,
    replica: SubmissionApplier,
    judging: Judging,
    number: u64,
    folder: tempfile::TempDir,
}

fn rule(name: &str, tables: &[&str], sql: &str) -> RuleText {
    let tables = tables.iter().map(|table| (*table).to_owned()).collect();
    RuleText { name: name.to_owned(), tables, sql: sql.to_owned() }
}

const BOUNDS: Bounds =
    Bounds { steps: u64::MAX, time: Duration::from_secs(20), rows: 100_000, bytes: 64 << 20 };

impl Judged {
    fn new(encoding: TextEncoding, rules: Vec<RuleText>) -> Self {
        let pair = Pair::with_encoding(encoding);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("judged.db");
        let fresh = rusqlite::Connection::open(&path).unwrap();
        let name = match encoding {
            TextEncoding::Utf8 => "UTF-8",
            TextEncoding::Utf16Le => "UTF-16le",
            TextEncoding::Utf16Be => "UTF-16be",
        };
        fresh.execute_batch(&format!("PRAGMA encoding = '{name}'; CREATE TABLE _synddb_x(a)")).unwrap();
        drop(fresh);
        let mut replica = SubmissionApplier::new(Applier::open(&path).unwrap(), folder.path());
        let rules = Rules::new(rules, BOUNDS);
        replica.watch(rules.tables());
        Self { pair, replica, judging: Judging { rules, found: Vec::new() }, number: 0, folder }
    }

    /// Runs SQL as one commit of the source, and says what rules found of it.
    fn commit(&mut self, sql: &str) -> Vec<Finding> {
        let captured = self.pair.capture(sql);
        self.take(&[captured])
    }

    fn take(&mut self, captured: &[Captured]) -> Vec<Finding> {
        self.judging.found.clear();
        let last = captured.len() - 1;
        let mut commits = Vec::new();
        for (at, captured) in captured.iter().enumerate() {
            self.number += 1;
            let changes = Changes {
                schema: captured.schema.clone(),
                rows: captured.rows.clone(),
                user_version: captured.user_version,
                application_id: captured.application_id,
            };
            let state = synddb_sqlite::state::RunningState::scan(&self.pair.source).unwrap().hash();
            commits.push(Commit {
                number: CommitNumber::new(self.number).unwrap(),
                prev: commits.last().map_or(CommitDigest::from_bytes([0; 32]), Commit::digest),
                kind: CommitKind::Transaction,
                changes,
                state: (at == last).then_some(StateClaim { state, scanned: None }),
            });
        }
        self.replica.begin().unwrap();
        let content = Content::Commits(Commits::new(commits).unwrap());
        self.replica.take_judged(&content, &mut self.judging).unwrap();
        self.replica.commit().unwrap();
        std::mem::take(&mut self.judging.found)
    }

    /// What one rule finds of it: its rows.
    fn rows(&mut self, sql: &str) -> Vec<Vec<Cell>> {
        let found = self.commit(sql);
        assert!(found.iter().all(|finding| finding.why == Why::Rows), "{found:?}");
        found.into_iter().flat_map(|finding| finding.rows).collect()
    }
}

/// The rules that found something.
fn names(found: &[Finding]) -> Vec<&str> {
    found.iter().map(|finding| finding.rule.as_str()).collect()
}

fn ints(rows: &[Vec<Cell>]) -> Vec<Vec<i64>> {
    let int = |cell: &Cell| match cell {
        Cell::Integer(value) => *value,
        other => panic!("{other:?}"),
    };
    rows.iter().map(|row| row.iter().map(int).collect()).collect()
}

fn unevaluated(found: &[Finding]) -> &str {
    match found {
        [Finding { why: Why::Unevaluated(why), .. }] => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_violation_is_found_at_its_commit_and_not_at_the_next() {
    let sql = "SELECT account, amount FROM changed_balances WHERE amount < 0";
    let mut judged = Judged::new(TextEncoding::Utf8, vec![rule("no negative balance", &["balances"], sql)]);
    assert_eq!(judged.commit("CREATE TABLE other(a); INSERT INTO other VALUES(-1)"), []);
    assert_eq!(judged.commit("CREATE TABLE balances(account INTEGER PRIMARY KEY, amount INT)"), []);
    assert_eq!(judged.commit("INSERT INTO balances VALUES(1, 5), (2, 0)"), []);
    // Three commits of one submission, of which the last one mends what the second one did.
    let commits = [
        "UPDATE balances SET amount = 1 WHERE account = 1",
        "UPDATE balances SET amount = amount - 3",
        "UPDATE balances SET amount = 7",
    ]
    .map(|sql| judged.pair.capture(sql));
    let found = judged.take(&commits);
    let [finding] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((finding.rule.as_str(), &finding.why), ("no negative balance", &Why::Rows));
    assert_eq!(finding.columns, ["account", "amount"]);
    assert_eq!(ints(&finding.rows), [[1, -2], [2, -3]]);
    assert_eq!(judged.commit("INSERT INTO other VALUES(-5)"), [], "another table");
    assert_eq!(judged.commit("UPDATE balances SET amount = 8"), []);
}

#[test]
fn views_have_types_collations_and_rowids_of_their_table() {
    let tables =
        "CREATE TABLE t(id INTEGER PRIMARY KEY, n NUMERIC, k TEXT COLLATE NOCASE, g AS (n + 1) STORED);
                  CREATE TABLE hidden(v); CREATE TABLE lean(k TEXT PRIMARY KEY, v) WITHOUT ROWID";
    for (sql, expected) in [
        ("SELECT id FROM changed_t WHERE k = 'ABC'", 1),
        ("SELECT id FROM changed_t WHERE n < '10'", 1),
        ("SELECT id FROM changed_t WHERE g = 6", 1),
        ("SELECT rowid FROM changed_t WHERE rowid = 7", 1),
        ("SELECT c.rowid FROM changed_hidden AS c JOIN hidden AS h ON h.rowid = c.rowid AND h.v = c.v", 1),
        ("SELECT k FROM changed_lean WHERE k > 'a'", 1),
        ("SELECT t.id FROM changed_t JOIN t ON t.id = changed_t.id WHERE t.n <> changed_t.n", 0),
        ("SELECT 1 FROM before_t", 0),
    ] {
        let mut judged = Judged::new(TextEncoding::Utf8, vec![rule("r", &["t", "hidden", "lean"], sql)]);
        judged.commit(tables);
        let insert = "INSERT INTO t(id, n, k) VALUES(7, 5, 'abc'); INSERT INTO hidden VALUES('x'); INSERT INTO lean VALUES('b', 1)";
        assert_eq!(judged.rows(insert).len(), expected, "{sql}");
    }
}

#[test]
fn text_of_databases_in_utf_16_is_text() {
    for encoding in [TextEncoding::Utf16Le, TextEncoding::Utf16Be] {
        let sql = "SELECT k FROM changed_t WHERE k LIKE 'n\u{e9}%'";
        let mut judged = Judged::new(encoding, vec![rule("r", &["t"], sql)]);
        judged.commit("CREATE TABLE t(k TEXT)");
        let found = judged.rows("INSERT INTO t VALUES('n\u{e9}e'), ('other')");
        assert_eq!(found, [[Cell::Text("n\u{e9}e".to_owned())]]);
    }
}

#[test]
fn commits_that_cannot_be_applied_in_place_show_each_row_once() {
    let rules = || {
        ["changed", "before", "removed"]
            .map(|set| rule(set, &["t"], &format!("SELECT id, v FROM {set}_t ORDER BY id")))
    };
    let mut judged = Judged::new(TextEncoding::Utf8, rules().to_vec());
    judged.commit("CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)");
    judged.commit("INSERT INTO t VALUES(1, 10), (2, 20), (3, 30)");
    let found = judged.commit("UPDATE t SET v = -v; UPDATE t SET v = 30 + v; DELETE FROM t WHERE id = 3");
    let rows: Vec<_> = found.iter().map(|finding| (finding.rule.as_str(), ints(&finding.rows))).collect();
    assert_eq!(
        rows,
        [
            ("changed", vec![vec![1, 20], vec![2, 10]]),
            ("before", vec![vec![1, 10], vec![2, 20], vec![3, 30]]),
            ("removed", vec![vec![3, 30]]),
        ]
    );
}

#[test]
fn a_table_that_is_altered_shows_all_rows_and_one_that_is_replaced_cannot_be_looked_back_at() {
    let forward = rule("forward", &["t"], "SELECT id FROM changed_t WHERE v < 0");
    let back = rule("back", &["t"], "SELECT id FROM before_t WHERE v < 0");
    let mut judged = Judged::new(TextEncoding::Utf8, vec![forward, back]);
    judged.commit("CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 1), (2, 2)");
    let rules = vec![rule("added", &["t"], "SELECT id, w FROM changed_t WHERE w < 0")];
    judged.judging.rules = Rules::new(rules, BOUNDS);
    let found = judged.commit("ALTER TABLE t ADD COLUMN w DEFAULT -5");
    assert_eq!(ints(&found[0].rows), [[1, -5], [2, -5]], "{found:?}");
    let rules = vec![
        rule("forward", &["t"], "SELECT id FROM changed_t WHERE v < 0"),
        rule("back", &["t"], "SELECT id FROM before_t WHERE v < 0"),
    ];
    judged.judging.rules = Rules::new(rules, BOUNDS);
    assert_eq!(judged.commit("INSERT INTO t VALUES(4, 4, 4)"), []);
    let found =
        judged.commit("DROP TABLE t; CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(9, -9)");
    assert_eq!(ints(&found[0].rows), [[9]]);
    assert!(matches!(&found[1].why, Why::Unevaluated(why) if why.contains("replaced")), "{found:?}");
    let found = judged.commit("DROP TABLE t");
    assert!(
        found.iter().all(|finding| matches!(&finding.why, Why::Unevaluated(why) if why.contains("no table"))),
        "{found:?}"
    );
    assert_eq!(found.len(), 2);
    let found = judged.commit("CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, -1)");
    assert_eq!(ints(&found[0].rows), [[1]], "it is there again");
    let found = judged.commit("ALTER TABLE t RENAME COLUMN v TO amount");
    assert!(
        found
            .iter()
            .all(|finding| matches!(&finding.why, Why::Unevaluated(why) if why.contains("no such column"))),
        "{found:?}"
    );
}

#[test]
fn a_vacuum_shows_nothing_of_tables_that_keep_their_rows() {
    let mut judged = Judged::new(TextEncoding::Utf8, vec![rule("any", &["t"], "SELECT id FROM changed_t")]);
    judged.commit("CREATE TABLE gone(a); CREATE TABLE t(id INTEGER PRIMARY KEY); INSERT INTO t VALUES(1)");
    judged.commit("DROP TABLE gone");
    let before = Image::of(&judged.pair.source);
    judged.pair.source.execute("VACUUM").unwrap();
    let captured = before.commit_to(&Image::of(&judged.pair.source), &[]);
    assert_eq!(judged.take(&[captured]), []);
}

#[test]
fn what_would_hide_a_view_of_rows_is_found() {
    let mut judged =
        Judged::new(TextEncoding::Utf8, vec![rule("r", &["t"], "SELECT id FROM changed_t WHERE id < 0")]);
    judged.commit("CREATE TABLE t(id INTEGER PRIMARY KEY)");
    judged.commit("CREATE TABLE Changed_T(id)");
    let found = judged.commit("INSERT INTO t VALUES(-1)");
    assert!(unevaluated(&found).contains("hides the rows"), "{found:?}");
    judged.commit("DROP TABLE Changed_T");
    assert_eq!(ints(&judged.rows("INSERT INTO t VALUES(-2)")), [[-2]]);
    judged.commit("CREATE VIEW changed_t AS SELECT 1 AS id WHERE 0");
    assert!(unevaluated(&judged.commit("INSERT INTO t VALUES(-3)")).contains("hides the rows"));
}

#[test]
fn what_a_rule_may_not_do_is_refused_and_found() {
    for (sql, expected) in [
        ("DELETE FROM t", "one query that reads"),
        ("INSERT INTO t VALUES(1) RETURNING id", "one query that reads"),
        ("SELECT 1; SELECT 2", "several statements"),
        ("SELECT ?1 FROM changed_t", "parameters"),
        ("SELECT id FROM changed_t WHERE random() > 0", "does not answer the same"),
        ("SELECT id FROM changed_t WHERE datetime('now') > 0", "does not answer the same"),
        ("SELECT current_timestamp FROM changed_t", "does not answer the same"),
        ("SELECT sqlite_version() FROM changed_t", "does not answer the same"),
        ("SELECT load_extension('x')", "not for rules"),
        ("SELECT * FROM v", "is a view"),
        ("SELECT * FROM (SELECT * FROM v)", "is a view"),
        ("SELECT count(*) FROM v", "is a view"),
        ("SELECT one FROM constant", "is a view"),
        ("SELECT 1 FROM constant", "is a view"),
        ("SELECT rootpage FROM sqlite_schema", "not the same in every replica"),
        ("SELECT count(*) FROM sqlite_master", "not the same in every replica"),
        ("SELECT * FROM _synddb_x", "belongs to the replica"),
        ("SELECT * FROM pragma_table_list", "virtual table"),
        ("SELECT * FROM f", "virtual table"),
        ("PRAGMA user_version", "one query that reads"),
        ("ATTACH 'x' AS y", "one query that reads"),
        ("SELECT id FROM changed_u", "not in its `tables`"),
        ("SELECT absent FROM changed_t", "no such column"),
        ("SELEC", "syntax error"),
        ("SELECT id FROM changed_t /* by */ natural JOIN u", "NATURAL"),
        ("SELECT 'frozen' FROM changed_t JOIN u USING(id)", "USING"),
    ] {
        let rules = vec![rule("r", &["t"], sql), rule("other", &["u"], "SELECT id FROM changed_u")];
        let mut judged = Judged::new(TextEncoding::Utf8, rules);
        judged.commit(
            "CREATE TABLE t(id INTEGER PRIMARY KEY); CREATE TABLE u(id); CREATE VIEW v AS SELECT id FROM t;
             CREATE VIEW constant AS SELECT 1 AS one; CREATE VIRTUAL TABLE f USING fts5(body)",
        );
        let found = judged.commit("INSERT INTO t VALUES(1)");
        assert!(unevaluated(&found).contains(expected), "{sql}: {found:?}");
        let problems =
            Rules::new(vec![rule("r", &["t"], sql)], BOUNDS).problems(&judged.pair.source).unwrap();
        assert_eq!(problems.len(), 1, "{sql}");
    }
    let fine = [
        "SELECT id FROM changed_t WHERE id IN (SELECT value FROM json_each('[5]'))",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT i FROM n, changed_t WHERE i = id",
        "SELECT sum(id) AS total FROM t HAVING total < 0",
    ];
    for sql in fine {
        let mut judged = Judged::new(TextEncoding::Utf8, vec![rule("r", &["t"], sql)]);
        judged.commit("CREATE TABLE t(id INTEGER PRIMARY KEY)");
        let found = judged.commit("INSERT INTO t VALUES(77)");
        assert_eq!(found, [], "{sql}");
    }
}

#[test]
fn a_rule_over_no_rows_is_passed_over_only_where_it_can_say_nothing_new() {
    let rules = [
        ("count", "SELECT 1 AS x WHERE (SELECT count(*) FROM t) > 1"),
        ("exists", "SELECT 1 AS x WHERE EXISTS (SELECT 1 FROM t WHERE id = 2)"),
        ("in", "SELECT 1 AS x WHERE 2 IN t"),
        ("both", "SELECT 1 AS x WHERE (SELECT count(*) FROM removed_t) = (SELECT count(*) - 2 FROM t)"),
        ("none gone", "SELECT 1 AS x WHERE NOT EXISTS (SELECT 1 FROM removed_t)"),
        ("gone", "SELECT id FROM removed_t"),
        ("listed", "SELECT value FROM json_each('[]'), removed_t"),
    ];
    let rules = rules.map(|(name, sql)| rule(name, &["t"], sql)).to_vec();
    let mut judged = Judged::new(TextEncoding::Utf8, rules);
    let mut names =
        |sql: &str| -> Vec<String> { judged.commit(sql).into_iter().map(|finding| finding.rule).collect() };
    names("CREATE TABLE t(id INTEGER PRIMARY KEY)");
    assert_eq!(names("INSERT INTO t VALUES(1)"), ["none gone"]);
    assert_eq!(names("INSERT INTO t VALUES(2)"), ["count", "exists", "in", "both", "none gone"]);
    assert_eq!(names("DELETE FROM t WHERE id = 2"), ["gone"]);
    assert_eq!(names("INSERT INTO t VALUES(3)"), ["count", "both", "none gone"]);
}

#[test]
fn a_name_that_becomes_that_of_another_column_is_found() {
    let outer = "SELECT a.id FROM changed_t AS a WHERE limit_of < 0 AND NOT EXISTS (SELECT 1 FROM u WHERE u.t = limit_of)";
    let qualified = outer.replace("limit_of", "a.limit_of");
    // The result has the name before the table has.
    let result = "SELECT id, 2 * id + limit_of AS free FROM changed_t WHERE free < 0";
    let rules = || {
        vec![rule("bare", &["t"], outer), rule("whole", &["t"], &qualified), rule("result", &["t"], result)]
    };
    let setup =
        "CREATE TABLE t(id INTEGER PRIMARY KEY, limit_of); CREATE TABLE u(t); INSERT INTO t VALUES(1, 1)";
    let mut judged = Judged::new(TextEncoding::Utf8, rules());
    judged.commit(setup);
    assert_eq!(names(&judged.commit("INSERT INTO t VALUES(2, 2)")), [""; 0]);
    // Nobody watches `u`; with its own `limit_of`, the rule would compare that with itself.
    let found = judged.commit("ALTER TABLE u ADD COLUMN limit_of");
    assert_eq!(names(&found), ["bare"]);
    assert!(
        matches!(&found[0].why, Why::Unevaluated(why) if why.contains("`changed_t.limit_of`")),
        "{found:?}"
    );
    // Said once: who resolves it has looked.
    assert_eq!(names(&judged.commit("INSERT INTO t VALUES(3, 2)")), [""; 0]);
    assert_eq!(names(&judged.commit("ALTER TABLE t ADD COLUMN other")), [""; 0]);
    assert_eq!(names(&judged.commit("ALTER TABLE u RENAME COLUMN limit_of TO x")), ["bare"]);
    assert_eq!(names(&judged.commit("INSERT INTO t(id, limit_of) VALUES(2000, -7)")), ["bare", "whole"]);
    assert_eq!(names(&judged.commit("ALTER TABLE t ADD COLUMN free DEFAULT 0")), ["result", "bare", "whole"]);
    // What is gone is found when it goes, whoever watches it; and what comes in its place is not what it was.
    assert_eq!(names(&judged.commit("DROP TABLE u")), ["bare", "whole"]);
    assert_eq!(names(&judged.commit("CREATE TABLE aside(a)")), [""; 0]);
    assert_eq!(names(&judged.commit("CREATE TABLE u(t, limit_of)")), ["bare"]);
    // What comes with the commit that turns a rule is looked at by what the rule is now.
    let both = "ALTER TABLE u RENAME COLUMN limit_of TO x; INSERT INTO t(id, limit_of) VALUES(3000, -9)";
    let found = judged.commit(both);
    assert_eq!(names(&found), ["bare", "bare", "whole"]);
    assert!(matches!(found[0].why, Why::Unevaluated(_)) && found[1].why == Why::Rows, "{found:?}");
}

/// A query that does not end.
const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0";

#[test]
fn what_is_too_much_is_so_whatever_was_asked_before() {
    // So many numbers are counted until it is too much.
    let counted = |commits_before: u64| {
        let long = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000) \
                    SELECT max(i) FROM n, changed_t WHERE i > 0 HAVING max(i) < 0";
        let (mut low, mut high) = (1_u64, 1000_u64);
        while low < high {
            let steps = u64::midpoint(low, high);
            let mut judged = Judged::new(TextEncoding::Utf8, vec![rule("r", &["t"], long)]);
            judged.commit("CREATE TABLE t(id INTEGER PRIMARY KEY)");
            judged.judging.rules.set_bounds(BOUNDS);
            for commit in 0..commits_before {
                assert!(
                    judged.commit(&format!("INSERT INTO t VALUES({})", -1 - commit.cast_signed())).is_empty()
                );
            }
            judged.judging.rules.set_bounds(Bounds { steps: steps * 1000, ..BOUNDS });
            let found = judged.commit("INSERT INTO t VALUES(1)");
            match found.as_slice() {
                [] => high = steps,
                [Finding { why: Why::TooManySteps, .. }] => low = steps + 1,
                other => panic!("{other:?}"),
            }
        }
        low
    };
    let first = counted(0);
    assert!(first > 10, "{first}");
    assert_eq!([counted(1), counted(7)], [first, first]);
}

#[test]
fn a_rule_that_takes_too_long_is_ended_and_the_replica_goes_on() {
    let mut judged = Judged::new(TextEncoding::Utf8, vec![rule("r", &["t"], ENDLESS)]);
    judged.judging.rules.set_bounds(Bounds { time: Duration::from_millis(20), ..BOUNDS });
    judged.commit("CREATE TABLE t(id INTEGER PRIMARY KEY)");
    let found = judged.commit("INSERT INTO t VALUES(1)");
    assert!(matches!(found.as_slice(), [Finding { why: Why::TookTooLong, .. }]), "{found:?}");
    let found = judged.commit("INSERT INTO t VALUES(2)");
    assert_eq!(found.len(), 1);
}

#[test]
fn an_answer_is_kept_up_to_its_bounds() {
    let mut judged = Judged::new(TextEncoding::Utf8, vec![rule("r", &["t"], "SELECT id, b FROM changed_t")]);
    judged.judging.rules.set_bounds(Bounds { rows: 3, bytes: 1000, ..BOUNDS });
    judged.commit("CREATE TABLE t(id INTEGER PRIMARY KEY, b)");
    let found = judged.commit("INSERT INTO t VALUES(1, 1), (2, 2), (3, 3), (4, 4)");
    assert_eq!((found[0].rows.len(), found[0].more), (3, true));
    let found = judged.commit("INSERT INTO t VALUES(5, zeroblob(100000)), (6, 6)");
    assert_eq!((found[0].rows.len(), found[0].more), (1, true), "the first one is told, and cut");
    let Cell::Blob(kept) = &found[0].rows[0][1] else { panic!("{found:?}") };
    assert!(kept.len() < 1000);
}

#[test]
fn a_commit_of_very_many_rows_is_seen_whole() {
    let sql = "SELECT count(*) AS rows, sum(id) AS ids, max(length(v)) AS most FROM changed_t";
    let mut judged = Judged::new(TextEncoding::Utf8, vec![rule("r", &["t"], sql)]);
    judged.commit("CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    let many =
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
                SELECT i, zeroblob(100) FROM n";
    assert_eq!(ints(&judged.rows(many)), [[100_000, 5_000_050_000, 100]]);
    let left: Vec<_> =
        std::fs::read_dir(judged.folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().starts_with("judged.db")), "{left:?}");
}

/// What the views show of a step from one image to another, by comparing rows.
fn expected(before: &Image, after: &Image, table: &str, set: &str) -> BTreeSet<String> {
    let rows = |image: &Image| -> BTreeSet<String> {
        let hidden = image.layouts.get(table).map_or(0, |layout| usize::from(layout.has_hidden_rowid()));
        let rows = image.rows.get(table).into_iter().flatten();
        rows.map(|row| format!("{:?} {:?}", &row[..1.max(hidden)], row)).collect()
    };
    let (was, is) = (rows(before), rows(after));
    let id = |row: &String| row.split_once(']').unwrap().0.to_owned();
    let ids = |rows: &BTreeSet<String>| rows.iter().map(id).collect::<BTreeSet<_>>();
    let is_ids = ids(&is);
    match set {
        "changed" => is.difference(&was).cloned().collect(),
        "before" => was.difference(&is).cloned().collect(),
        _ => was.difference(&is).filter(|row| !is_ids.contains(&id(row))).cloned().collect(),
    }
}

/// Counts the rows of each view, and adds up what is in them.
fn summing() -> Vec<RuleText> {
    let mut rules = Vec::new();
    for set in ["changed", "removed", "before"] {
        for (table, key) in [("t", "id"), ("lean", "k")] {
            let sql = format!(
                "SELECT count(*) AS n, group_concat(quote({key}) || '=' || quote(v) || ';', '') AS all_rows FROM (SELECT * FROM {set}_{table} ORDER BY {key})"
            );
            rules.push(rule(&format!("{set} {table}"), &["t", "lean"], &sql));
        }
    }
    rules
}

fn step(random: &mut Random) -> String {
    let (id, v) = (random.next(12), random.next(12));
    match random.next(6) {
        0 => format!("INSERT OR REPLACE INTO t VALUES({id}, {v})"),
        1 => format!("UPDATE OR REPLACE t SET v = {v}, id = id + 1 WHERE id = {id}"),
        2 => format!("DELETE FROM t WHERE id = {id}"),
        3 => format!("INSERT OR REPLACE INTO lean VALUES('k{id}', {v})"),
        4 => format!("DELETE FROM lean WHERE k >= 'k{id}'"),
        _ => format!("UPDATE lean SET v = v + {v}"),
    }
}

/// Of each view: how many rows, and which, as [`summing`] finds them; a view without rows says 0.
fn by_images(before: &Image, after: &Image) -> Vec<(String, usize)> {
    let mut counts = Vec::new();
    for set in ["changed", "removed", "before"] {
        for table in ["t", "lean"] {
            counts.push((format!("{set} {table}"), expected(before, after, table, set).len()));
        }
    }
    counts
}

fn counted(found: &[Finding]) -> Vec<(String, usize)> {
    let count = |finding: &Finding| match finding.rows[0][0] {
        Cell::Integer(count) => usize::try_from(count).unwrap(),
        _ => panic!("{finding:?}"),
    };
    found.iter().map(|finding| (finding.rule.clone(), count(finding))).collect()
}

#[test]
fn views_and_differences_show_what_images_tell() {
    for seed in 0..24 {
        let mut random = Random(seed);
        let mut judged = Judged::new(TextEncoding::Utf8, summing());
        judged.commit("CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE TABLE lean(k TEXT PRIMARY KEY, v) WITHOUT ROWID");
        judged.commit(
            "INSERT INTO t VALUES(1, 1), (2, 2), (3, 3); INSERT INTO lean VALUES('k1', 1), ('k2', 2)",
        );
        for number in 0..6 {
            let statements: Vec<String> = (0..1 + random.next(4)).map(|_| step(&mut random)).collect();
            let before = Image::of(&judged.pair.source);
            let copy = judged.folder.path().join(format!("before{number}.db"));
            judged.pair.source.execute(&format!("VACUUM INTO '{}'", copy.display())).unwrap();
            let found = judged.commit(&statements.join(";"));
            let after = Image::of(&judged.pair.source);
            let expected = by_images(&before, &after);
            if expected.iter().all(|(_, count)| *count == 0) {
                assert_eq!(found, [], "seed {seed}: {statements:?}");
                continue;
            }
            assert_eq!(counted(&found), expected, "seed {seed}: {statements:?}");
            // The same by comparing the two states.
            let mut other = Judging { rules: Rules::new(summing(), BOUNDS), found: Vec::new() };
            let (copy, watched) = (Connection::open(&copy).unwrap(), other.rules.tables());
            let (folder, never) = (judged.folder.path(), AtomicBool::new(false));
            difference(Some(&copy), &judged.pair.source, watched, folder, &never, &mut other).unwrap();
            assert_eq!(other.found, found, "seed {seed}: {statements:?}");
        }
    }
}

#[test]
fn all_rows_are_new_where_there_was_nothing() {
    let pair = Pair::new();
    pair.source
        .execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 5), (2, -5)")
        .unwrap();
    let sql = "SELECT id FROM changed_t WHERE v < 0";
    let mut judging = Judging { rules: Rules::new(vec![rule("r", &["t"], sql)], BOUNDS), found: Vec::new() };
    let (watched, never) = (judging.rules.tables(), AtomicBool::new(false));
    difference(None, &pair.source, watched, std::env::temp_dir().as_path(), &never, &mut judging).unwrap();
    assert_eq!(ints(&judging.found[0].rows), [[2]]);
}

#[test]
fn a_table_that_a_new_state_lacks_is_found() {
    let (one, two) = (Pair::new(), Pair::new());
    one.source.execute("CREATE TABLE t(id INTEGER PRIMARY KEY); INSERT INTO t VALUES(1)").unwrap();
    two.source.execute("CREATE TABLE u(id)").unwrap();
    let rules = vec![rule("r", &["t"], "SELECT id FROM removed_t")];
    let mut judging = Judging { rules: Rules::new(rules, BOUNDS), found: Vec::new() };
    let (watched, never) = (judging.rules.tables(), AtomicBool::new(false));
    let folder = std::env::temp_dir();
    difference(Some(&one.source), &two.source, watched, &folder, &never, &mut judging).unwrap();
    assert!(unevaluated(&judging.found).contains("no table"));
}

#[test]
fn rules_that_saw_all_rows_see_the_commits_that_come_then() {
    let sql = "SELECT id FROM changed_t WHERE v < 0";
    let mut judged = Judged::new(TextEncoding::Utf8, vec![rule("r", &["t"], sql)]);
    judged.commit("CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 1)");
    let mut judging =
        std::mem::replace(&mut judged.judging, Judging { rules: Rules::new(vec![], BOUNDS), found: vec![] });
    let (watched, never, folder) =
        (judging.rules.tables(), AtomicBool::new(false), judged.folder.path().to_owned());
    let replica = judged.replica.applier().connection().clone();
    difference(None, &replica, watched, &folder, &never, &mut judging).unwrap();
    assert_eq!(judging.found, []);
    judged.judging = judging;
    assert_eq!(ints(&judged.rows("UPDATE t SET v = -1")), [[1]]);
}
