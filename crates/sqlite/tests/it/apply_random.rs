//! Random commits, rows and schema changes mixed, from fixed seeds.

use synddb_protocol::submission::TextEncoding;

use crate::apply_pair::Pair;

/// Seeds of an ordinary run. `SYNDDB_RANDOM_SEEDS` asks for more.
const SEEDS: u64 = 24;
const COMMITS: usize = 25;

/// A small generator (SplitMix64), so that a seed means the same run everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((value ^ (value >> 31)) % below as u64).unwrap()
    }

    pub(crate) fn of(&mut self, choices: &[&str]) -> String {
        choices[self.next(choices.len())].to_owned()
    }

    fn value(&mut self) -> String {
        let number = self.next(6);
        let choices = [
            "NULL",
            "''",
            "'a'",
            "'A'",
            "'1'",
            "' 2'",
            "1.0",
            "-0.0",
            "2.5",
            "x'00ff'",
            "'é𝄞'",
            "1e300",
            "9223372036854775807",
        ];
        if self.next(2) == 0 { number.to_string() } else { self.of(&choices) }
    }

    fn table(&mut self) -> String {
        self.of(&["t0", "t1", "t2", "t3"])
    }

    fn column(&mut self) -> String {
        self.of(&["a", "b", "c", "d"])
    }

    pub(crate) fn create(&mut self) -> String {
        let (table, kind) = (self.table(), self.of(&["", "INT", "TEXT COLLATE NOCASE", "REAL", "NUMERIC"]));
        let bodies = [
            format!("(a {kind}, b, c)"),
            format!(
                "(a {kind} UNIQUE ON CONFLICT REPLACE, b UNIQUE, c AS (a || b) STORED, d AS (b) VIRTUAL)"
            ),
            format!("(a INTEGER PRIMARY KEY, b {kind}, c UNIQUE)"),
            format!("(a INTEGER PRIMARY KEY AUTOINCREMENT, b {kind}, c)"),
            format!("(c, a {kind}, b TEXT COLLATE NOCASE, d, PRIMARY KEY(b, a)) WITHOUT ROWID"),
            "(a ANY PRIMARY KEY, b INT, c REAL) STRICT".to_owned(),
            "(a ANY PRIMARY KEY, b ANY UNIQUE) STRICT, WITHOUT ROWID".to_owned(),
        ];
        format!("CREATE TABLE {table}{}", bodies[self.next(bodies.len())])
    }

    fn alter(&mut self) -> String {
        let (table, column, other) = (self.table(), self.column(), self.column());
        match self.next(5) {
            0 => format!("ALTER TABLE {table} RENAME TO {}", self.table()),
            1 => {
                let swap = |one: &str, two: &str| format!("ALTER TABLE {one} RENAME TO {two}; ");
                let two = self.table();
                swap(&table, "tmp") + &swap(&two, &table) + &swap("tmp", &two)
            }
            2 => format!("ALTER TABLE {table} RENAME COLUMN {column} TO {other}"),
            3 => {
                let default =
                    self.of(&["", "DEFAULT 7", "REAL DEFAULT 7", "TEXT DEFAULT 7", "AS (a) VIRTUAL"]);
                format!("ALTER TABLE {table} ADD COLUMN {column} {default}")
            }
            _ => format!("ALTER TABLE {table} DROP COLUMN {column}"),
        }
    }

    fn rows(&mut self) -> String {
        let (table, column, other) = (self.table(), self.column(), self.column());
        let (one, two, three) = (self.value(), self.value(), self.value());
        match self.next(9) {
            0..=2 => format!("INSERT INTO {table}(a, b) VALUES({one}, {two}), ({three}, {one})"),
            3 => format!("INSERT OR REPLACE INTO {table}(a, b, c) VALUES({one}, {two}, {three})"),
            4 => format!("UPDATE {table} SET {column} = {one} WHERE {other} > {two}"),
            5 => format!("UPDATE OR REPLACE {table} SET {column} = {other}"),
            // Chains and swaps of unique values.
            6 => {
                format!("UPDATE OR IGNORE {table} SET a = 1000 - a; UPDATE OR IGNORE {table} SET a = a - 994")
            }
            7 => format!("DELETE FROM {table} WHERE {column} IS {one} OR a = {two}"),
            _ => format!("INSERT OR IGNORE INTO {table}(a, b) SELECT b, a FROM {}", self.table()),
        }
    }

    pub(crate) fn statement(&mut self) -> String {
        let (name, table, column) = (self.next(3), self.table(), self.column());
        match self.next(24) {
            0 => self.create(),
            1 => format!("DROP TABLE {table}"),
            2..=4 => self.alter(),
            5 => format!("CREATE INDEX i{name} ON {table}({column}, a DESC)"),
            6 => format!("CREATE UNIQUE INDEX i{name} ON {table}({column}) WHERE a > 2"),
            7 => format!("DROP INDEX i{name}"),
            8 => format!("CREATE VIEW v{name} AS SELECT 1 FROM {table}"),
            9 => format!("DROP VIEW v{name}"),
            10 => format!(
                "CREATE TRIGGER r{name} AFTER INSERT ON {table} BEGIN DELETE FROM t0 WHERE a IS new.{column}; END"
            ),
            11 => format!("UPDATE sqlite_sequence SET seq = {} WHERE name = '{table}'", self.value()),
            _ => self.rows(),
        }
    }
}

#[test]
fn random_commits_follow() {
    let seeds = std::env::var("SYNDDB_RANDOM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let encoding = [TextEncoding::Utf8, TextEncoding::Utf16Le, TextEncoding::Utf16Be];
        let mut pair = Pair::with_encoding(encoding[usize::try_from(seed % 3).unwrap()]);
        // Renames that break a view or trigger for good are common in a random schema.
        pair.source.execute("PRAGMA legacy_alter_table = ON").unwrap();
        let mut random = Random(seed);
        let first: Vec<String> = (0..6).map(|_| random.create()).collect();
        let captured = pair.capture_some(&first);
        pair.follow(&captured, &first.join(";\n"));
        for _ in 0..COMMITS {
            let statements: Vec<String> = (0..=random.next(7)).map(|_| random.statement()).collect();
            let captured = pair.capture_some(&statements);
            pair.follow(&captured, &format!("seed {seed}\n{}", statements.join(";\n")));
        }
    }
}
