//! Schemas that no SQLite stores, or that would do something.

use synddb_protocol::submission::{Changes, ObjectKind, SchemaChange, SchemaRow};

use super::stage::Stage;

fn create(kind: ObjectKind, name: &str, table: &str, sql: &str) -> SchemaChange {
    let row = SchemaRow {
        kind,
        name: name.into(),
        table: table.into(),
        sql: (!sql.is_empty()).then(|| sql.into()),
    };
    SchemaChange::Create { row, place: 100 }
}

fn table(name: &str, sql: &str) -> Vec<SchemaChange> {
    vec![create(ObjectKind::Table, name, name, sql)]
}

fn index(sql: &str) -> Vec<SchemaChange> {
    vec![create(ObjectKind::Index, "i", "t", sql)]
}

fn view(name: &str, sql: &str) -> Vec<SchemaChange> {
    vec![create(ObjectKind::View, name, name, sql)]
}

fn trigger(sql: &str) -> Vec<SchemaChange> {
    vec![create(ObjectKind::Trigger, "g", "t", sql)]
}

const FOREIGN: &str = "diverged: Submission NotApplicable Schema Foreign";
const RESERVED: &str = "diverged: Submission NotApplicable Schema Reserved";
const DAMAGED: &str = "diverged: Submission NotApplicable Schema Damaged";
const TOO_WIDE: &str = "diverged: Submission NotApplicable Schema TooWide";
const SCHEMA: &str = "diverged: Submission NotApplicable Divergence Schema";
const UNREADABLE: &str = "diverged: Submission NotApplicable Divergence Unreadable";
const TAKEN: &str = "taken";

/// Each with what a reader says of it.
fn lies() -> Vec<(&'static str, Vec<SchemaChange>, &'static str)> {
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let columns = |count: usize| {
        let columns: Vec<String> = (0..count).map(|at| format!("c{at}")).collect();
        format!("CREATE TABLE x({})", columns.join(", "))
    };
    let deep =
        |levels: usize| format!("CREATE TABLE x(a CHECK ({}a{}))", "(".repeat(levels), ")".repeat(levels));
    let long = "n".repeat(32_767);
    let several = "CREATE TABLE x(a); DROP TABLE t";
    let t = ObjectKind::Table;
    vec![
        ("a table of an endless query", table("x", &format!("CREATE TABLE x AS {endless}")), FOREIGN),
        ("several statements", table("x", several), UNREADABLE),
        ("several statements of an index", index("CREATE INDEX i ON t(b); DROP TABLE t"), UNREADABLE),
        ("several statements of a view", view("x", "CREATE VIEW x AS SELECT 1; DROP TABLE t"), UNREADABLE),
        (
            "several statements of a trigger",
            trigger("CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END; DROP TABLE t"),
            UNREADABLE,
        ),
        ("a comment behind it that is never closed", table("x", "CREATE TABLE x(a) /* and"), TAKEN),
        ("attach", table("x", "ATTACH 'other.db' AS x"), SCHEMA),
        ("pragma", table("x", "PRAGMA writable_schema = ON"), SCHEMA),
        ("drop", table("x", "DROP TABLE t"), SCHEMA),
        ("a temporary table", table("x", "CREATE TEMP TABLE x(a)"), SCHEMA),
        ("another name", table("x", "CREATE TABLE y(a)"), DAMAGED),
        ("a table of another schema", table("x", "CREATE TABLE temp.x(a)"), DAMAGED),
        ("if it is not there", table("x", "CREATE TABLE IF NOT EXISTS t(a)"), DAMAGED),
        ("a table that is there", table("t", "CREATE TABLE t(a)"), SCHEMA),
        ("no text", table("x", ""), SCHEMA),
        ("a table with the text of a view", table("x", "CREATE VIEW x AS SELECT 1"), SCHEMA),
        ("a view with the text of a table", view("x", "CREATE TABLE x(a)"), SCHEMA),
        ("a view of another name", view("x", "CREATE VIEW y AS SELECT 1"), UNREADABLE),
        ("a view that is none", view("x", "CREATE VIEW x AS SELECTED"), UNREADABLE),
        ("a view of itself", view("x", "CREATE VIEW x AS SELECT * FROM x"), TAKEN),
        ("a view of what is not there", view("x", "CREATE VIEW x AS SELECT absent(1) FROM nowhere"), TAKEN),
        ("an index of what is not there", index("CREATE INDEX i ON nowhere(a)"), UNREADABLE),
        (
            "an index of more than a value holds",
            index("CREATE INDEX i ON t(zeroblob(2000000000))"),
            UNREADABLE,
        ),
        ("an index of another table", index("CREATE INDEX i ON w(v)"), SCHEMA),
        ("an unknown function in an index", index("CREATE INDEX i ON t(absent(a))"), UNREADABLE),
        ("chance in an index", index("CREATE INDEX i ON t(random())"), UNREADABLE),
        ("an unknown collation in an index", index("CREATE INDEX i ON t(a COLLATE nothing)"), UNREADABLE),
        ("rows that break a unique index", index("CREATE UNIQUE INDEX i ON t(typeof(id))"), UNREADABLE),
        ("an unknown function in a check", table("x", "CREATE TABLE x(a CHECK (absent(a)))"), FOREIGN),
        ("an unknown function in a column", table("x", "CREATE TABLE x(a, b AS (absent(a)))"), FOREIGN),
        ("an unknown function in a default", table("x", "CREATE TABLE x(a DEFAULT (absent(1)))"), TAKEN),
        ("an extension in a default", table("x", "CREATE TABLE x(a DEFAULT (load_extension('x')))"), TAKEN),
        (
            "an extension in a column",
            table("x", "CREATE TABLE x(a, b AS (load_extension(a)) STORED)"),
            FOREIGN,
        ),
        ("a file in a default", table("x", "CREATE TABLE x(a DEFAULT (readfile('/etc/passwd')))"), TAKEN),
        ("an unknown collation", table("x", "CREATE TABLE x(a COLLATE nothing PRIMARY KEY)"), FOREIGN),
        ("columns that need each other", table("x", "CREATE TABLE x(a AS (b), b AS (a))"), FOREIGN),
        ("a query in a check", table("x", "CREATE TABLE x(a CHECK ((SELECT max(id) FROM t)))"), FOREIGN),
        ("a depth within bounds", table("x", &deep(100)), TAKEN),
        ("a depth beyond bounds", table("x", &deep(5_000)), FOREIGN),
        ("a depth far beyond bounds", table("x", &deep(900_000)), FOREIGN),
        ("1,999 columns", table("x", &columns(1_999)), TAKEN),
        ("2,000 columns, which no statement reads with a rowid", table("x", &columns(2_000)), TOO_WIDE),
        ("2,001 columns", table("x", &columns(2_001)), FOREIGN),
        ("a long name", table(&long, &format!("CREATE TABLE {long}(a)")), TAKEN),
        ("a name of ours", table("_synddb_x", "CREATE TABLE _synddb_x(a)"), RESERVED),
        ("a name of ours in capitals", table("_SYNDDB_x", "CREATE TABLE _SYNDDB_x(a)"), RESERVED),
        (
            "an index on the position",
            vec![create(
                ObjectKind::Index,
                "i",
                "_synddb_position",
                "CREATE INDEX i ON _synddb_position(checkpoint)",
            )],
            RESERVED,
        ),
        (
            "a trigger on the position",
            vec![create(
                ObjectKind::Trigger,
                "g",
                "_Synddb_Position",
                "CREATE TRIGGER g AFTER INSERT ON _synddb_position BEGIN SELECT 1; END",
            )],
            RESERVED,
        ),
        (
            "an index on the position that names another table",
            index("CREATE INDEX i ON _synddb_position(checkpoint)"),
            SCHEMA,
        ),
        ("a name of SQLite's", table("sqlite_x", "CREATE TABLE sqlite_x(a)"), FOREIGN),
        ("statistics", table("sqlite_stat1", "CREATE TABLE sqlite_stat1(tbl, idx, stat)"), SCHEMA),
        (
            "a trigger that deletes the position",
            trigger("CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM _synddb_position; END"),
            TAKEN,
        ),
        (
            "a trigger that is none",
            trigger("CREATE TRIGGER g AFTER INSERT ON t BEGIN nothing; END"),
            UNREADABLE,
        ),
        (
            "a module that nobody has",
            vec![create(t, "x", "x", "CREATE VIRTUAL TABLE x USING absent(a)")],
            TAKEN,
        ),
        (
            "a module that shows the file",
            vec![create(t, "x", "x", "CREATE VIRTUAL TABLE x USING sqlite_dbpage")],
            TAKEN,
        ),
        ("fts5 without its tables", vec![create(t, "x", "x", "CREATE VIRTUAL TABLE x USING fts5(a)")], TAKEN),
        (
            "rtree without its tables",
            vec![create(t, "x", "x", "CREATE VIRTUAL TABLE x USING rtree(id, a, b)")],
            TAKEN,
        ),
        (
            "a virtual table and more",
            vec![create(t, "x", "x", "CREATE VIRTUAL TABLE x USING fts5(a); DROP TABLE t")],
            UNREADABLE,
        ),
        ("what is dropped is not there", vec![SchemaChange::Drop { kind: t, name: b"x".to_vec() }], SCHEMA),
        (
            "the schema is dropped",
            vec![SchemaChange::Drop { kind: t, name: b"sqlite_schema".to_vec() }],
            SCHEMA,
        ),
        (
            "the position is dropped",
            vec![SchemaChange::Drop { kind: t, name: b"_synddb_position".to_vec() }],
            SCHEMA,
        ),
        (
            "the sequence is dropped under a table that needs it",
            vec![SchemaChange::Drop { kind: t, name: b"sqlite_sequence".to_vec() }],
            SCHEMA,
        ),
        (
            "a table is renamed to the position",
            vec![amend(
                "t",
                "_synddb_position",
                "CREATE TABLE _synddb_position(id INTEGER PRIMARY KEY, a TEXT, b)",
            )],
            RESERVED,
        ),
        (
            "stored rows mean something else",
            vec![amend("t", "t", "CREATE TABLE t(b, a TEXT, id INTEGER PRIMARY KEY)")],
            SCHEMA,
        ),
        (
            "a table with rows becomes a view of them",
            vec![amend("t", "t", "CREATE VIRTUAL TABLE t USING fts5(a)")],
            SCHEMA,
        ),
        (
            "an amended table and more",
            vec![amend("t", "t", "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b); DROP TABLE w")],
            UNREADABLE,
        ),
        ("a place that no row has", vec![placed(i64::MAX), placed(i64::MIN)], SCHEMA),
    ]
}

fn amend(name: &str, after: &str, sql: &str) -> SchemaChange {
    let row =
        SchemaRow { kind: ObjectKind::Table, name: after.into(), table: after.into(), sql: Some(sql.into()) };
    SchemaChange::Amend { name: name.into(), row, place: 2 }
}

fn placed(place: i64) -> SchemaChange {
    let name = if place > 0 { "x" } else { "y" };
    let SchemaChange::Create { row, .. } =
        create(ObjectKind::Table, name, name, &format!("CREATE TABLE {name}(a)"))
    else {
        unreachable!("it is one")
    };
    SchemaChange::Create { row, place }
}

/// Schemas that an application may have, each with a query that makes SQLite look at them.
pub(super) fn taken() -> Vec<(Vec<SchemaChange>, &'static str)> {
    let module = |sql: &str| vec![create(ObjectKind::Table, "x", "x", sql)];
    let twice = ["CREATE VIEW x AS SELECT * FROM y", "CREATE VIEW y AS SELECT * FROM x"];
    let views = ["x", "y"].iter().zip(twice).flat_map(|(name, sql)| view(name, sql));
    let SchemaChange::Create { row, .. } = view("z", "CREATE VIEW z AS SELECT load_extension('x')").remove(0)
    else {
        unreachable!("it is one")
    };
    vec![
        (view("x", "CREATE VIEW x AS SELECT * FROM x"), "SELECT * FROM x"),
        (placed_one_after_the_other(views), "SELECT * FROM y"),
        (vec![SchemaChange::Create { row, place: 100 }], "SELECT * FROM z"),
        (view("x", "CREATE VIEW x AS SELECT * FROM _synddb_position"), "SELECT * FROM x"),
        (view("x", "CREATE VIEW x AS SELECT absent(1) FROM nowhere"), "SELECT * FROM x"),
        (
            view(
                "x",
                "CREATE VIEW x AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
            ),
            "SELECT max(i) FROM x",
        ),
        (module("CREATE VIRTUAL TABLE x USING sqlite_dbpage"), "SELECT * FROM x"),
        (module("CREATE VIRTUAL TABLE x USING absent(a)"), "SELECT * FROM x"),
        (module("CREATE VIRTUAL TABLE x USING fts5(a)"), "SELECT * FROM x"),
        (module("CREATE VIRTUAL TABLE x USING rtree(id, a, b)"), "SELECT * FROM x"),
    ]
}

/// The same, each in a place of its own.
fn placed_one_after_the_other(changes: impl Iterator<Item = SchemaChange>) -> Vec<SchemaChange> {
    let place = |(change, place)| match change {
        SchemaChange::Create { row, .. } => SchemaChange::Create { row, place },
        other => other,
    };
    changes.zip(100..).map(place).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_no_sqlite_stores_are_refused() {
    let mut stage = Stage::new().await;
    let mut wrong = Vec::new();
    for (name, schema, expected) in lies() {
        let found = stage.commit(&Changes { schema, ..Changes::default() }).await;
        println!("{name:<52} {found}");
        if found != expected {
            wrong.push(format!("{name}: expected `{expected}`, found `{found}`"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
