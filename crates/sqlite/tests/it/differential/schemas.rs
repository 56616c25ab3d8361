//! Grammar of schemas: every way in which SQLite lays out, keys, computes, constrains and indexes rows.

use synddb_sqlite::connection::quoted;

use super::model::{Model, ModelTable};
use super::random::Random;
use super::values::Ground;

/// What a statement is made for, and its text.
pub(super) struct Made {
    pub(super) feature: &'static str,
    pub(super) sql: String,
}

fn made(feature: &'static str, sql: String) -> Made {
    Made { feature, sql }
}

/// Names that need quoting, look like others, or mean something else without quotes.
const NAMES: [&str; 24] = [
    "t",
    "t1",
    "T_Upper",
    "order",
    "Select",
    "two words",
    "quo\"te",
    "apo'strophe",
    "semi;colon",
    "na\u{ef}ve",
    "\u{540d}\u{524d}",
    "\u{1f600}",
    "x[y]",
    "per%cent",
    "--dash",
    "t_data",
    "t_content",
    "table",
    "a.b",
    "`tick`",
    "under_score",
    "UPPER",
    "MiXed",
    "0digit",
];

/// A name that nothing has yet.
pub(super) fn fresh_name(random: &mut Random, prefix: &str) -> String {
    let name = random.pick(&NAMES);
    if prefix.is_empty() {
        format!("{name}{}", random.below(100_000))
    } else {
        format!("{prefix} {name}{}", random.below(100_000))
    }
}

const TYPES: [&str; 16] = [
    "INTEGER",
    "INT",
    "TEXT",
    "BLOB",
    "REAL",
    "REAL",
    "NUMERIC",
    "",
    "",
    "VARCHAR(10)",
    "DOUBLE PRECISION",
    "BOOLEAN",
    "FLOATING POINT",
    "DECIMAL(10,5)",
    "TEXT",
    "DATETIME",
];
const STRICT_TYPES: [&str; 6] = ["INT", "INTEGER", "REAL", "TEXT", "BLOB", "ANY"];

const DEFAULTS: [&str; 16] = [
    "DEFAULT 7",
    "DEFAULT -1.5",
    "DEFAULT 'text'",
    "DEFAULT ''",
    "DEFAULT x'00ff'",
    "DEFAULT x''",
    "DEFAULT NULL",
    "DEFAULT 9223372036854775807",
    "DEFAULT 1e3",
    "DEFAULT TRUE",
    "DEFAULT '12'",
    "DEFAULT (1 + 2)",
    "DEFAULT (length('abc') || 'x')",
    "DEFAULT 0x10",
    "DEFAULT +5",
    "DEFAULT 'it''s'",
];

/// A table of a random shape.
pub(super) fn table(random: &mut Random, name: &str, model: &Model) -> Made {
    let strict = random.percent(15);
    let (feature, key) = random.weighted(&[
        (4, ("table without key", "")),
        (5, ("table INTEGER PRIMARY KEY", "k INTEGER PRIMARY KEY")),
        (3, ("table AUTOINCREMENT", "k INTEGER PRIMARY KEY AUTOINCREMENT")),
        (3, ("table TEXT PRIMARY KEY", "k TEXT PRIMARY KEY")),
        (2, ("table INT PRIMARY KEY", "k INT PRIMARY KEY")),
        (1, ("table INTEGER PRIMARY KEY DESC", "k INTEGER PRIMARY KEY DESC")),
        (3, ("table composite key", "k1 TEXT, k2 INT, |PRIMARY KEY(k2, k1)")),
        (2, ("table untyped key", "k ANY PRIMARY KEY")),
        (3, ("table WITHOUT ROWID", "k TEXT PRIMARY KEY| WITHOUT ROWID")),
        (2, ("table WITHOUT ROWID integer", "k INTEGER PRIMARY KEY| WITHOUT ROWID")),
        (4, ("table WITHOUT ROWID composite", "@k1 TEXT, @k2 INT, @|PRIMARY KEY(k2, k1)| WITHOUT ROWID")),
        (
            2,
            (
                "table WITHOUT ROWID NOCASE",
                "k1 TEXT COLLATE NOCASE, k2 INT, |PRIMARY KEY(k1, k2)| WITHOUT ROWID",
            ),
        ),
        (2, ("table WITHOUT ROWID RTRIM", "@k TEXT COLLATE RTRIM PRIMARY KEY| WITHOUT ROWID")),
        (
            2,
            (
                "table WITHOUT ROWID DESC",
                "k1 TEXT, k2 INT, |PRIMARY KEY(k1 DESC, k2 COLLATE BINARY)| WITHOUT ROWID",
            ),
        ),
        (1, ("table WITHOUT ROWID blob key", "@k BLOB PRIMARY KEY| WITHOUT ROWID")),
    ]);
    let without_rowid = key.ends_with("WITHOUT ROWID");
    let key = key.trim_end_matches("| WITHOUT ROWID");
    let (columns, constraints) = key.split_once('|').unwrap_or((key, ""));
    let payload = if random.percent(3) { random.range(70, 140) } else { random.range(1, 6) };
    let mut parts: Vec<String> = Vec::new();
    for part in columns.split(", ").filter(|part| !part.is_empty()) {
        // A key column that is marked so does not stand first.
        if part.starts_with('@') {
            parts.push(column(random, &format!("b{}", parts.len()), strict));
        }
        let part = part.trim_start_matches('@');
        if !part.is_empty() {
            parts.push(part.to_owned());
        }
    }
    for _ in 0..payload {
        parts.push(column(random, &format!("c{}", parts.len()), strict));
    }
    let base = format!("c{}", parts.len() - 1);
    if random.percent(20) {
        parts.push(generated(random, &base, strict));
    }
    if random.percent(15) {
        parts.push(column(random, "late", strict));
    }
    if random.percent(15) {
        let kind = random.pick(&[
            "INTEGER UNIQUE",
            "INTEGER UNIQUE ON CONFLICT REPLACE",
            "TEXT UNIQUE ON CONFLICT IGNORE",
            "TEXT UNIQUE",
        ]);
        parts.push(format!("u{} {kind}", parts.len()));
    }
    if random.percent(25)
        && let Some(parent) = model.plain().iter().find(|table| table.name.starts_with("parent"))
    {
        let action = random.pick(&[
            "ON DELETE CASCADE ON UPDATE CASCADE",
            "ON DELETE SET NULL",
            "ON DELETE SET DEFAULT ON UPDATE SET NULL",
            "",
            "DEFERRABLE INITIALLY DEFERRED",
        ]);
        parts.push(format!("r INTEGER REFERENCES {} {action}", parent.quoted()));
    }
    if random.percent(10) {
        parts.push(format!("CHECK({base} IS NOT 13)"));
    }
    if !constraints.is_empty() {
        parts.push(constraints.to_owned());
    }
    let mut options: Vec<&str> = Vec::new();
    if strict {
        options.push("STRICT");
    }
    if without_rowid {
        options.push("WITHOUT ROWID");
    }
    made(feature, format!("CREATE TABLE {}({}) {}", quoted(name), parts.join(", "), options.join(", ")))
}

fn column(random: &mut Random, name: &str, strict: bool) -> String {
    let declared = if strict { *random.pick(&STRICT_TYPES) } else { *random.pick(&TYPES) };
    let mut text = format!("{name} {declared}");
    // A strict table takes a default only if its class is right.
    if !strict && random.percent(25) {
        text.push_str(&format!(" {}", random.pick(&DEFAULTS)));
        if random.percent(20) && !text.contains("NULL") {
            text.push_str(" NOT NULL");
        }
    }
    if random.percent(8) {
        text.push_str(random.pick::<&str>(&[" COLLATE NOCASE", " COLLATE RTRIM"]));
    }
    text
}

fn generated(random: &mut Random, base: &str, strict: bool) -> String {
    let kind = random.pick(&["STORED", "VIRTUAL"]);
    if strict {
        return format!("g INTEGER AS (length({base})) {kind}");
    }
    let (declared, expression) = random
        .pick(&[
            ("", format!("typeof({base})")),
            ("TEXT", format!("coalesce({base}, '') || '!'")),
            ("INTEGER", format!("length({base})")),
            ("REAL", format!("length({base}) * 2")),
            ("", format!("CAST({base} AS BLOB)")),
        ])
        .clone();
    format!("g {declared} GENERATED ALWAYS AS ({expression}) {kind}")
}

/// What ADD COLUMN adds: every kind of default, also those that a stored record does not hold.
pub(super) fn added_column(random: &mut Random, table: &ModelTable) -> Made {
    let name = format!("a{}", random.below(100_000));
    let base = random.pick(&table.columns).quoted();
    let rest = if table.strict() {
        *random.pick(&[
            "REAL DEFAULT 7",
            "TEXT DEFAULT 'seven'",
            "INT DEFAULT 7",
            "BLOB DEFAULT x'07'",
            "ANY DEFAULT 7",
            "ANY",
        ])
    } else {
        *random.pick(&[
            "",
            "TEXT",
            "REAL DEFAULT 7",
            "REAL DEFAULT 9007199254740993",
            "TEXT DEFAULT 7",
            "TEXT DEFAULT 1.50",
            "INTEGER DEFAULT '12'",
            "NUMERIC DEFAULT '1e3'",
            "BLOB DEFAULT 'x'",
            "DEFAULT x'00ff'",
            "DEFAULT -0.0",
            "INT NOT NULL DEFAULT 3",
            "TEXT COLLATE NOCASE DEFAULT 'Ab'",
            "DEFAULT NULL",
            "DEFAULT TRUE",
            "DEFAULT 9e999",
            "REAL DEFAULT '5'",
            "CHECK(1) DEFAULT 'checked'",
            "DEFAULT +5",
            "DEFAULT -9223372036854775808",
            "DEFAULT ''",
            "DEFAULT x''",
        ])
    };
    let sql = format!("ALTER TABLE {} ADD COLUMN", table.quoted());
    if random.percent(12) {
        let declared = if table.strict() { "TEXT" } else { "" };
        return made("ADD COLUMN virtual", format!("{sql} {name} {declared} AS (typeof({base})) VIRTUAL"));
    }
    let feature = if rest.contains("DEFAULT") { "ADD COLUMN default" } else { "ADD COLUMN" };
    made(feature, format!("{sql} {name} {rest}"))
}

/// An index of a random kind.
pub(super) fn index(random: &mut Random, table: &ModelTable) -> Made {
    let name = quoted(&fresh_name(random, "index"));
    let (on, base) = (table.quoted(), random.pick(&table.columns).quoted());
    let other = random.pick(&table.columns).quoted();
    match random.below(7) {
        0 => made("index DESC", format!("CREATE INDEX {name} ON {on}({base} DESC, {other})")),
        1 => made("index partial", format!("CREATE INDEX {name} ON {on}({base}) WHERE {other} IS NOT NULL")),
        2 => {
            made("index expression", format!("CREATE INDEX {name} ON {on}(length({base}), typeof({other}))"))
        }
        3 => made("index collated", format!("CREATE INDEX {name} ON {on}({base} COLLATE NOCASE)")),
        4 => {
            let unique =
                table.columns.iter().find(|column| column.is_unique()).map_or(base, |column| column.quoted());
            made("index unique", format!("CREATE UNIQUE INDEX {name} ON {on}({unique}, {other})"))
        }
        _ => made("index", format!("CREATE INDEX {name} ON {on}({base})")),
    }
}

/// A trigger on a table that writes the audit table.
pub(super) fn trigger(random: &mut Random, table: &ModelTable) -> Made {
    let name = quoted(&fresh_name(random, "trigger"));
    let on = table.quoted();
    let base = random.pick(&table.columns).quoted();
    let insert = |row: &str| {
        format!("INSERT INTO \"audit\"(what, n) VALUES(typeof({row}.{base}), length({row}.{base}));")
    };
    let (when, body) = match random.below(5) {
        0 => ("AFTER INSERT", insert("new")),
        1 => ("BEFORE DELETE", insert("old")),
        2 => ("AFTER UPDATE", insert("new") + " UPDATE \"audit\" SET n = n + 1 WHERE id % 17 = 3;"),
        3 => ("AFTER DELETE", "DELETE FROM \"audit\" WHERE id % 11 = 5;".to_owned()),
        _ => (
            "BEFORE INSERT",
            "UPDATE \"audit\" SET what = what || '.' WHERE id = (SELECT max(id) FROM \"audit\");".to_owned(),
        ),
    };
    // The audit table grows with what is written by single statements, not with bulk.
    let guard = "WHEN (SELECT count(*) FROM \"audit\") < 2000";
    made("trigger", format!("CREATE TRIGGER {name} {when} ON {on} {guard} BEGIN {body} END"))
}

/// A view, and what makes it writable.
pub(super) fn view(random: &mut Random, table: &ModelTable) -> Vec<Made> {
    let name = quoted(&fresh_name(random, "view"));
    let (from, base) = (table.quoted(), random.pick(&table.columns).quoted());
    let mut all =
        vec![made("view", format!("CREATE VIEW {name}(w, n) AS SELECT {base}, length({base}) FROM {from}"))];
    if random.percent(70) {
        let trigger = quoted(&fresh_name(random, "instead"));
        all.push(made(
            "trigger INSTEAD OF",
            format!("CREATE TRIGGER {trigger} INSTEAD OF INSERT ON {name} BEGIN INSERT INTO \"audit\"(what, n) VALUES(new.w, new.n); END"),
        ));
    }
    all
}

/// What every database begins with: tables that others refer to, and one that writes itself.
pub(super) fn foundation() -> Vec<Made> {
    let trigger = "CREATE TRIGGER \"recursion\" AFTER INSERT ON \"recursive\" WHEN new.n > 0 AND new.n < 30 \
                   BEGIN INSERT INTO \"recursive\"(n) VALUES(new.n - 1); END";
    [
        ("table audit", "CREATE TABLE \"audit\"(id INTEGER PRIMARY KEY, what, n)"),
        ("table parent", "CREATE TABLE \"parent\"(id INTEGER PRIMARY KEY, label TEXT, weight REAL)"),
        (
            "table parent",
            "INSERT INTO \"parent\"(label, weight) VALUES('a', 1), ('b', 2.5), (NULL, NULL), ('d', -0.0)",
        ),
        ("table document", "CREATE TABLE \"document\"(id INTEGER PRIMARY KEY, title TEXT, body TEXT)"),
        ("table recursive", "CREATE TABLE \"recursive\"(n INTEGER)"),
        ("trigger recursive", trigger),
    ]
    .map(|(feature, sql)| made(feature, sql.to_owned()))
    .into()
}

/// A virtual table whose rows live in tables of its own.
pub(super) fn virtual_table(random: &mut Random, ground: Ground) -> Made {
    let name = quoted(&fresh_name(random, "search"));
    // SQLite 3.43 brought `contentless_delete`.
    let contentless = if ground.is_old { "" } else { ", contentless_delete=1" };
    let contentless = format!("fts5(title, body, content=''{contentless})");
    let (feature, using) = random.weighted(&[
        (5, ("FTS5", "fts5(title, body)")),
        (2, ("FTS5 prefix", "fts5(title, body, prefix='2 3', detail=column)")),
        (2, ("FTS5 contentless", contentless.as_str())),
        (2, ("FTS5 external", "fts5(title, body, content='document', content_rowid='id')")),
        (1, ("FTS5 columnsize", "fts5(title, body, columnsize=0, detail=none)")),
        (1, ("FTS4", "fts4(title, body)")),
        (4, ("R-Tree", "rtree(id, x0, x1, y0, y1)")),
        (2, ("R-Tree auxiliary", "rtree(id, x0, x1, +title, +body)")),
        (1, ("R-Tree integer", "rtree_i32(id, x0, x1)")),
    ]);
    made(feature, format!("CREATE VIRTUAL TABLE {name} USING {using}"))
}
