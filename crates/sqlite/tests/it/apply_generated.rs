//! STORED generated columns that hold another value than this SQLite computes, because another version of it wrote them.
//!
//! Such rows are made by hand: the source's table has a plain column for a moment. Where there is a Python with an older SQLite, it
//! writes them too.

use std::process::Command;

use synddb_protocol::hash::CommitDigest;
use synddb_protocol::id::CommitNumber;
use synddb_protocol::submission::{
    Changes, Commit, CommitKind, Commits, Content, ObjectKind, SchemaChange, SchemaRow, StateClaim,
    TextEncoding,
};
use synddb_sqlite::apply::{Applier, ApplyError, Divergence, SubmissionApplier, SubmissionError};
use synddb_sqlite::compare;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::state::RunningState;

use crate::apply_pair::{Captured, Image, Pair};

/// A table whose text has `{g}` where its generated column stands, and what else is in the schema.
struct Case<'t> {
    table: &'t str,
    rest: &'static str,
}

const GENERATED: &str = "g TEXT GENERATED ALWAYS AS (coalesce(c, '') || '!') STORED";
const PLAIN: &str = "g TEXT";

/// Seeds of the random test, some of each case.
const SEEDS: u64 = 28;

const CASES: [Case<'static>; 14] = [
    Case { table: "CREATE TABLE t(id, b, c, {g})", rest: "" },
    Case { table: "CREATE TABLE t(id INTEGER PRIMARY KEY, {g}, b, c)", rest: "" },
    Case { table: "CREATE TABLE t(b, {g}, c, id INT PRIMARY KEY) WITHOUT ROWID", rest: "CREATE INDEX i ON t(g, b)" },
    Case { table: "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, b, c, {g} UNIQUE)", rest: "" },
    Case {
        table: "CREATE TABLE t(id TEXT PRIMARY KEY ON CONFLICT REPLACE, b UNIQUE ON CONFLICT IGNORE, c, \
                {g} NOT NULL COLLATE NOCASE UNIQUE ON CONFLICT FAIL, UNIQUE(g DESC, b), UNIQUE(c COLLATE RTRIM, id))",
        rest: "CREATE INDEX i ON t(g)",
    },
    Case {
        table: "CREATE TABLE t(id INTEGER PRIMARY KEY DESC, b, c, {g})",
        rest: "CREATE UNIQUE INDEX i ON t(lower(g)); CREATE INDEX j ON t(length(g) + b, g || c)",
    },
    Case {
        table: "CREATE TABLE t(id INTEGER, b INT, c TEXT, {g}, PRIMARY KEY(id)) STRICT, WITHOUT ROWID",
        rest: "",
    },
    Case {
        table: "CREATE TABLE t(id INTEGER PRIMARY KEY, b, c, {g})",
        rest: "CREATE INDEX i ON t(b) WHERE g LIKE '<%'; CREATE UNIQUE INDEX j ON t(g) WHERE g > '<'",
    },
    Case {
        table: "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT AS (g || '?') VIRTUAL, b, c, {g}, w AS (v || b), x INT AS (b + 1))",
        rest: "CREATE UNIQUE INDEX i ON t(v, b); CREATE INDEX j ON t(upper(w)) WHERE w > 'a'; CREATE INDEX k ON t(x, g)",
    },
    Case {
        table: "CREATE TABLE t(b, v TEXT COLLATE NOCASE UNIQUE AS (g || b), {g}, id, c, PRIMARY KEY(id COLLATE NOCASE, id)) WITHOUT ROWID",
        rest: "CREATE INDEX i ON t(g, v)",
    },
    Case {
        table: "CREATE TABLE t(id INTEGER PRIMARY KEY, b REAL DEFAULT 1.5, c TEXT, {g}, v REAL AS (b * 2), CHECK(length(g) < 100), \
                FOREIGN KEY(b) REFERENCES p(\"select\"))",
        rest: "CREATE TABLE p(\"select\" REAL PRIMARY KEY); INSERT INTO p VALUES(1), (2), (3), (4), (5), (6), (7), (11), (12), (20);
               CREATE INDEX i ON t(v); CREATE VIEW w AS SELECT * FROM t, absent;
               CREATE TRIGGER r AFTER UPDATE OF g ON t BEGIN INSERT OR IGNORE INTO p VALUES(new.id + 1000); END",
    },
    Case {
        table: "CREATE TABLE t(id INTEGER PRIMARY KEY, \"order\" VARCHAR(10) DEFAULT word, \"a \"\"b\" DEFAULT \"x\", b, c, {g}, d AS (\"order\" || g) STORED)",
        rest: "CREATE INDEX \"group\" ON t(\"order\", g, \"a \"\"b\", d)",
    },
    Case {
        table: "CREATE TABLE t(id INTEGER PRIMARY KEY, b INT, c TEXT, {g}, d ANY DEFAULT 5) STRICT",
        rest: "CREATE UNIQUE INDEX i ON t(g COLLATE NOCASE DESC)",
    },
    Case { table: "CREATE TABLE t(oid, id INTEGER PRIMARY KEY, b NUMERIC, c, {g}, v AS (g) VIRTUAL UNIQUE)", rest: "" },
];

impl Case<'_> {
    fn text(&self, column: &str) -> String {
        self.table.replace("{g}", column)
    }

    fn pair(&self, encoding: TextEncoding) -> Pair {
        let mut pair = Pair::with_encoding(encoding);
        pair.commit(&format!("{}; {}", self.text(GENERATED), self.rest));
        pair
    }

    /// Runs SQL on the source as an SQLite that lets it give `g`.
    fn capture(&self, pair: &Pair, sql: &str) -> Captured {
        let before = Image::of(&pair.source);
        pair.source.execute("BEGIN").unwrap();
        set_text(&pair.source, &self.text(PLAIN));
        pair.source.execute(sql).unwrap_or_else(|error| panic!("{error}\n{sql}\n{}", self.table));
        set_text(&pair.source, &self.text(GENERATED));
        pair.source.execute("COMMIT").unwrap();
        before.commit_to(&Image::of(&pair.source), &[])
    }

    fn commit(&self, pair: &mut Pair, sql: &str) {
        let captured = self.capture(pair, sql);
        assert!(!captured.rows.is_empty() && captured.schema.is_empty(), "{sql}");
        pair.follow(&captured, &format!("{sql}\n{}", self.table));
        equal(pair);
    }
}

fn set_text(source: &Connection, text: &str) {
    source.execute("PRAGMA writable_schema = ON").unwrap();
    let sql = "UPDATE sqlite_schema SET sql = ?1 WHERE type = 'table' AND name = 't'";
    assert_eq!(source.sqlite().execute(sql, [text]).unwrap(), 1);
    source.execute("PRAGMA writable_schema = RESET").unwrap();
}

fn integrity(connection: &Connection) -> String {
    connection.sqlite().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

/// `follow` has compared rows and hashes; this asks the oracle, and SQLite about both files.
#[track_caller]
fn equal(pair: &Pair) {
    let replica = pair.replica();
    let path = |connection: &Connection| connection.sqlite().path().unwrap().to_owned();
    let difference = compare::first_difference(path(&pair.source).as_ref(), path(&replica).as_ref());
    assert_eq!(difference.unwrap(), None);
    assert_eq!(integrity(&replica), "ok");
    assert_eq!(integrity(&pair.source), "ok");
}

#[test]
fn a_stored_value_is_kept_as_it_was_captured() {
    for case in &CASES {
        for encoding in [TextEncoding::Utf8, TextEncoding::Utf16Le, TextEncoding::Utf16Be] {
            let pair = &mut case.pair(encoding);
            case.commit(
                pair,
                "INSERT INTO t(id, b, c, g) VALUES(1, 1, 'x', '<x>'), (2, 2, 'y', 'y!'), (3, 3, 'z', '<é𝄞>'), (4, 4, NULL, '')",
            );
            // Another column of a row whose value is another one, by both.
            case.commit(pair, "UPDATE t SET b = b + 10 WHERE id IN (1, 2)");
            // Values that swap, and one that agrees again.
            case.commit(
                pair,
                "UPDATE t SET g = 'tmp' WHERE id = 1; UPDATE t SET g = '<x>' WHERE id = 3; UPDATE t SET g = '<é𝄞>' WHERE id = 1;
                 UPDATE t SET g = 'y?' WHERE id = 2; UPDATE t SET g = '!' WHERE id = 4",
            );
            case.commit(
                pair,
                "UPDATE t SET c = 'n', g = 'n!' WHERE id = 1; UPDATE t SET g = 'y!' WHERE id = 2",
            );
            case.commit(
                pair,
                "DELETE FROM t WHERE id = 3; INSERT OR REPLACE INTO t(id, b, c, g) VALUES(4, 5, 'q', '<q>'), (5, 6, 'y', '<r>')",
            );
            // What this SQLite writes, beside such rows and over them.
            pair.commit("INSERT INTO t(id, b, c) VALUES(7, 7, 'own'); DELETE FROM t WHERE id = 4");
            equal(pair);
            case.commit(pair, "DELETE FROM t WHERE id > 1; UPDATE t SET g = '<1>'");
            pair.commit("DELETE FROM t");
            equal(pair);
        }
    }
}

#[test]
fn a_value_that_this_sqlite_computes_anew_leaves_no_index_behind() {
    for case in &CASES {
        let pair = &mut case.pair(TextEncoding::Utf8);
        case.commit(pair, "INSERT INTO t(id, b, c, g) VALUES(1, 1, 'x', '<x>'), (2, 2, 'y', '<y>')");
        // The source's own indexes still hold the old value: its SQLite takes no notice that it changed.
        let captured = pair.capture("UPDATE t SET b = 20 WHERE id = 1");
        pair.follow(&captured, case.table);
        pair.source.execute("REINDEX").unwrap();
        equal(pair);
        pair.commit("DELETE FROM t WHERE id = 1");
        equal(pair);
    }
}

#[test]
fn values_that_only_clash_as_they_are_computed_follow() {
    for case in &CASES {
        let pair = &mut case.pair(TextEncoding::Utf8);
        pair.commit("INSERT INTO t(id, b, c) VALUES(1, 1, 'x')");
        // Computed, both would be `x!`.
        let captured =
            case.capture(pair, "INSERT INTO t(id, b, c, g) VALUES(2, 2, 'x', 'x!!'), (3, 3, 'x', 'x!!!')");
        pair.follow(&captured, case.table);
        case.commit(pair, "UPDATE t SET c = 'z', g = 'z!!' WHERE id = 1; UPDATE t SET g = 'x!' WHERE id = 3");
    }
}

/// Statements of both kinds, in any order. Whatever breaks a constraint is left out by the source.
#[test]
fn random_commits_of_both_kinds_follow() {
    for seed in 1..=SEEDS {
        let case = &CASES[usize::try_from(seed).unwrap() % CASES.len()];
        let pair = &mut case.pair([TextEncoding::Utf8, TextEncoding::Utf16Le][usize::from(seed % 3 == 0)]);
        let mut random = Random(seed);
        for _ in 0..12 {
            let (mut sql, is_given) = (String::new(), random.below(2) == 0);
            for _ in 0..=random.below(4) {
                let [id, b, c, g, other] = [4, 7, 3, 3, 4].map(|bound| random.below(bound) + 1);
                let (column, value) =
                    if is_given { (", g", format!(", '<{g}>'")) } else { ("", String::new()) };
                sql.push_str(&match random.below(5) {
                    0 | 1 => {
                        format!("INSERT OR IGNORE INTO t(id, b, c{column}) VALUES({id}, {b}, '{c}'{value});")
                    }
                    2 => {
                        format!("INSERT OR REPLACE INTO t(id, b, c{column}) VALUES({id}, {b}, '{c}'{value});")
                    }
                    3 if is_given => format!(
                        "UPDATE OR IGNORE t SET g = '<{g}>', c = '{c}' WHERE id = {id} OR id = {other};"
                    ),
                    3 => {
                        format!("UPDATE OR IGNORE t SET b = {b}, c = '{c}' WHERE id = {id} OR id = {other};")
                    }
                    _ => format!("DELETE FROM t WHERE id = {id};"),
                });
            }
            let captured = if is_given { case.capture(pair, &sql) } else { pair.capture(&sql) };
            pair.follow(&captured, &format!("seed {seed}: {sql}\n{}", case.table));
        }
        equal(pair);
    }
}

/// A small generator (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

#[test]
fn many_rows_of_one_commit_follow() {
    let case = &CASES[8];
    let pair = &mut case.pair(TextEncoding::Utf8);
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)";
    case.commit(
        pair,
        &format!("{numbers} INSERT INTO t(id, b, c, g) SELECT i, i, i, i || iif(i % 3, '<', '!') FROM n"),
    );
    case.commit(
        pair,
        "UPDATE t SET b = -b; DELETE FROM t WHERE id % 7 = 0; UPDATE t SET g = g || g WHERE id % 2",
    );
}

#[test]
fn records_that_are_shorter_than_the_table_keep_their_defaults() {
    let case = &Case {
        table: "CREATE TABLE t(id INTEGER PRIMARY KEY, b, c, {g}, d TEXT DEFAULT 12, e DEFAULT (-2), f REAL DEFAULT 3, \
                i DEFAULT x'00ff', j DEFAULT 'it''s', k DEFAULT -1.5, l DEFAULT TRUE)",
        rest: "",
    };
    for encoding in [TextEncoding::Utf8, TextEncoding::Utf16Le] {
        let pair = &mut Pair::with_encoding(encoding);
        pair.commit(&format!("CREATE TABLE t(id INTEGER PRIMARY KEY, b, c, {GENERATED})"));
        pair.commit("INSERT INTO t(id, b, c) VALUES(1, 1, 'x'), (2, 2, 'y')");
        let parts = case.table.split_once("{g}, ").unwrap().1.trim_end_matches(')');
        // The texts of both must be the same in the end.
        for part in ["d TEXT DEFAULT 12", "e DEFAULT (-2)", "f REAL DEFAULT 3", "i DEFAULT x'00ff'"] {
            assert!(parts.contains(part));
            pair.commit(&format!("ALTER TABLE t ADD COLUMN {part}"));
        }
        for part in ["j DEFAULT 'it''s'", "k DEFAULT -1.5", "l DEFAULT TRUE"] {
            pair.commit(&format!("ALTER TABLE t ADD COLUMN {part}"));
        }
        case.commit(pair, "UPDATE t SET g = '<x>' WHERE id = 1");
        case.commit(pair, "UPDATE t SET b = 3");
    }
}

#[test]
fn rows_follow_in_the_commit_that_changes_their_table() {
    let case = &CASES[8];
    let pair = &mut case.pair(TextEncoding::Utf8);
    case.commit(pair, "INSERT INTO t(id, b, c, g) VALUES(1, 1, 'x', '<x>')");
    let before = Image::of(&pair.source);
    pair.source.execute("BEGIN").unwrap();
    set_text(&pair.source, &case.text(PLAIN));
    pair.source
        .execute("INSERT INTO t(id, b, c, g) VALUES(2, 2, 'y', '<y>'); UPDATE t SET b = 9 WHERE id = 1")
        .unwrap();
    set_text(&pair.source, &case.text(GENERATED));
    pair.source
        .execute(
            "DROP INDEX j; CREATE UNIQUE INDEX l ON t(g); ALTER TABLE t ADD COLUMN late DEFAULT 'd';
             CREATE TABLE other(a, g AS (a) STORED); INSERT INTO other VALUES(1); CREATE VIEW seen AS SELECT g FROM t;
             CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END; COMMIT",
        )
        .unwrap();
    let captured = before.commit_to(&Image::of(&pair.source), &[]);
    assert!(!captured.schema.is_empty());
    pair.follow(&captured, "schema and rows");
    equal(pair);
}

#[test]
fn a_commit_that_fails_after_such_rows_leaves_no_trace() {
    let case = &CASES[8];
    let pair = &mut case.pair(TextEncoding::Utf8);
    case.commit(pair, "INSERT INTO t(id, b, c, g) VALUES(1, 1, 'x', '<x>')");
    let good = case.capture(pair, "INSERT INTO t(id, b, c, g) VALUES(2, 2, 'y', '<y>')");
    let mut twice = good.clone();
    twice.rows.extend(good.rows.clone());
    let hash = pair.applier.state().hash();
    pair.applier.begin().unwrap();
    for _ in 0..2 {
        let error = pair.applier.apply(twice.changes()).unwrap_err();
        let ApplyError::Divergence(divergence) = error else { panic!("{error:?}") };
        assert!(matches!(*divergence, Divergence::Exists { .. }), "{divergence:?}");
        assert_eq!(pair.applier.state().hash(), hash);
    }
    // No text can call what stands in for the VIRTUAL columns, neither in the commit that needs it nor later.
    let row = SchemaRow {
        kind: ObjectKind::Index,
        name: b"caller".to_vec(),
        table: b"t".to_vec(),
        sql: Some(b"CREATE INDEX caller ON t(_synddb_virtual(0))".to_vec()),
    };
    let calls = Captured { schema: vec![SchemaChange::Create { row, place: 99 }], ..good.clone() };
    let error = pair.applier.apply(calls.changes()).unwrap_err();
    let ApplyError::Divergence(divergence) = error else { panic!("{error:?}") };
    assert!(
        matches!(&*divergence, Divergence::Unreadable { name, .. } if name == "caller"),
        "{divergence:?}"
    );
    let sql = "SELECT _synddb_virtual(0)";
    assert!(pair.applier.connection().prepare(sql).is_err());
    pair.applier.apply(good.changes()).unwrap();
    assert!(pair.applier.connection().prepare(sql).is_err());
    pair.applier.commit().unwrap();
    pair.check();
    equal(pair);
}

/// Captured commits as a client sends them.
#[derive(Default)]
struct Client {
    commits: Vec<Commit>,
}

impl Client {
    fn add(&mut self, pair: &Pair, captured: Captured) {
        let changes = Changes {
            schema: captured.schema,
            rows: captured.rows,
            user_version: captured.user_version,
            application_id: captured.application_id,
        };
        let state = RunningState::scan(&pair.source).unwrap().hash();
        let before = self.commits.last();
        self.commits.push(Commit {
            number: before.map_or(CommitNumber::FIRST, |before| before.number.next().unwrap()),
            prev: before.map_or(CommitDigest::from_bytes([0; 32]), Commit::digest),
            kind: CommitKind::Transaction,
            changes,
            state: Some(StateClaim { state, scanned: None }),
        });
    }

    fn submission(&self, from: usize) -> Content {
        Content::Commits(Commits::new(self.commits[from..].to_vec()).unwrap())
    }
}

#[test]
fn the_commits_of_one_submission_leave_every_table_with_its_own_text() {
    let case = &CASES[8];
    let pair = &Pair::new();
    let mut client = Client::default();
    let own = |client: &mut Client, sql: &str| client.add(pair, pair.capture(sql));
    let given = |client: &mut Client, sql: &str| client.add(pair, case.capture(pair, sql));
    own(
        &mut client,
        &format!("{}; {}; CREATE TABLE u(a UNIQUE, g AS (a) STORED)", case.text(GENERATED), case.rest),
    );
    given(&mut client, "INSERT INTO t(id, b, c, g) VALUES(1, 1, 'x', '<x>')");
    own(&mut client, "INSERT INTO t(id, b, c) VALUES(2, 2, 'y'); INSERT INTO u VALUES(1), (2)");
    // In the way of each other, while values are given.
    own(
        &mut client,
        "UPDATE u SET a = 9 WHERE a = 1; UPDATE u SET a = 1 WHERE a = 2; UPDATE u SET a = 2 WHERE a = 9",
    );
    own(&mut client, "CREATE INDEX late ON t(c, v); INSERT INTO t(id, b, c) VALUES(3, 3, 'z')");
    given(&mut client, "UPDATE t SET g = g || '>' WHERE id > 1; DELETE FROM t WHERE id = 1");
    own(&mut client, "DELETE FROM t WHERE id = 2");

    let folder = tempfile::tempdir().unwrap();
    let replica = Connection::in_memory(TextEncoding::Utf8).unwrap();
    let mut applier = SubmissionApplier::new(Applier::over(replica).unwrap(), folder.path());
    let sound = |applier: &SubmissionApplier| {
        let scanned = RunningState::scan(applier.applier().connection()).unwrap().hash();
        assert_eq!(scanned, applier.applier().state().hash());
        assert_eq!(integrity(applier.applier().connection()), "ok");
        scanned
    };
    applier.begin().unwrap();
    let applied = applier.take(&client.submission(0)).unwrap();
    assert_eq!(applied.commits, 7);
    let first = sound(&applier);
    assert_eq!(first, RunningState::scan(&pair.source).unwrap().hash());
    applier.commit().unwrap();

    // One that does not apply, after one that does, and one that a save point of the caller takes back.
    let from = client.commits.len();
    given(&mut client, "INSERT INTO t(id, b, c, g) VALUES(5, 5, 'n', '<n>')");
    let good = RunningState::scan(&pair.source).unwrap().hash();
    let again = pair.capture("UPDATE t SET b = 6 WHERE id = 5");
    client.add(pair, again.clone());
    client.add(pair, again);
    for take_back in [true, false] {
        applier.begin().unwrap();
        applier.applier().connection().execute("SAVEPOINT caller").unwrap();
        let error = applier.take(&client.submission(from)).unwrap_err();
        assert!(
            matches!(error, SubmissionError::NotApplicable { commit, .. } if commit.get() == 10),
            "{error:?}"
        );
        assert_ne!(sound(&applier), good, "the second commit is applied");
        if take_back {
            applier.applier().connection().execute("ROLLBACK TO caller; RELEASE caller").unwrap();
            assert_eq!(RunningState::scan(applier.applier().connection()).unwrap().hash(), first);
            applier.rollback().unwrap();
            assert_eq!(sound(&applier), first);
        } else {
            applier.commit().unwrap();
            assert_eq!(sound(&applier), RunningState::scan(&pair.source).unwrap().hash());
        }
    }
}

/// Where there is no Python, the tests above stand alone.
#[test]
fn rows_of_an_older_sqlite_follow() {
    let Some(python) = std::env::var_os("SYNDDB_PYTHON_SYSTEM") else {
        assert!(std::env::var_os("CI").is_none(), "no Python; run `cargo xtask test`");
        return;
    };
    let mut pair = Pair::new();
    pair.commit(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, b, c, g TEXT GENERATED ALWAYS AS (coalesce(c, '') || '!') STORED, v AS (g || b));
         CREATE UNIQUE INDEX i ON t(g); CREATE INDEX j ON t(v)",
    );
    for sql in [
        "INSERT INTO t(id, b, c) VALUES(1, 1, 26750.0 / 7), (2, 2, 'x'), (3, 3, 1.0 / 3)",
        "UPDATE t SET b = 10",
        "UPDATE t SET c = 2.0 / 3 WHERE id = 2; INSERT OR REPLACE INTO t(id, b, c) VALUES(3, 9, 26750.0 / 7 + 1)",
        "DELETE FROM t WHERE id = 1",
    ] {
        let before = Image::of(&pair.source);
        let script =
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2]); c.close()";
        let path = pair.source.sqlite().path().unwrap().to_owned();
        let status = Command::new(&python)
            .args(["-B", "-c", script])
            .args([&path, &format!("BEGIN; {sql}; COMMIT")])
            .status();
        assert!(status.unwrap().success());
        let captured = before.commit_to(&Image::of(&pair.source), &[]);
        pair.follow(&captured, sql);
        equal(&pair);
    }
}

/// SQLite takes any text for a type if it is quoted, and keeps it without the quotes.
#[test]
fn types_of_any_words_have_a_stand_in() {
    for declared in [
        "\"order\"",
        "\"INT UNIQUE\"",
        "\"int -- x\"",
        "\"double-precision\"",
        "\"enum('a','b')\"",
        "\"timestamp(3) without time zone\"",
        "\"text[]\"",
        "VARCHAR(10, 5)",
        "UNSIGNED BIG INT",
        "'INTEGER'",
    ] {
        let table = format!("CREATE TABLE t(id INTEGER PRIMARY KEY, b {declared}, c, {{g}})");
        let case = Case { table: &table, rest: "" };
        let mut pair = case.pair(TextEncoding::Utf8);
        case.commit(&mut pair, "INSERT INTO t(id, b, c, g) VALUES(1, 1, 'x', '<x>')");
        equal(&pair);
    }
}
