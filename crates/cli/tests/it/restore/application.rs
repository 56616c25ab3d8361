//! An application that does everything that a database can be asked to do, and whose database SQLite copies after each commit.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::chance::Chance;
use crate::dev::Dev;
use crate::programs::sql;
use crate::roles::PATIENCE_TEXT;

/// What the database begins with.
pub(super) const BEGINS: &str = "
    PRAGMA application_id = 77;
    CREATE TABLE accounts(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, amount REAL, blob BLOB);
    CREATE TABLE plain(a, b);
    INSERT INTO accounts(name, amount) VALUES('first', 0.5), ('second', 1);
    INSERT INTO plain VALUES(NULL, x'00ff'), ('rowid', 2);";

/// One commit each; the schema is of all kinds, and changes all the while.
const SCHEMES: [&str; 17] = [
    "CREATE INDEX by_amount ON accounts(amount DESC) WHERE amount > 1;",
    "CREATE TABLE keyed(a TEXT, b INTEGER, c, PRIMARY KEY(b, a)) WITHOUT ROWID; INSERT INTO keyed VALUES('x', 1, 2.5), ('y', 1, NULL);",
    "CREATE TABLE audit(at, what); CREATE TRIGGER noted AFTER UPDATE ON accounts BEGIN INSERT INTO audit VALUES(new.id, old.amount); END;",
    "CREATE VIEW rich AS SELECT name, amount FROM accounts WHERE amount > 100;",
    "CREATE VIRTUAL TABLE words USING fts5(title, body); INSERT INTO words VALUES('one', 'a quick brown fox'), ('two', 'a lazy dog');",
    "ALTER TABLE plain ADD COLUMN c DEFAULT 'seven'; INSERT INTO plain(a, c) VALUES(3, 4);",
    "UPDATE accounts SET amount = amount * 3 + 1;",
    "CREATE TABLE strict(i INTEGER PRIMARY KEY, t TEXT NOT NULL, g TEXT AS (upper(t)) STORED) STRICT; INSERT INTO strict(t) VALUES('g');",
    "ALTER TABLE plain RENAME COLUMN b TO renamed;",
    "INSERT INTO words VALUES('three', 'the quick fox'); DELETE FROM words WHERE title = 'one';",
    "ALTER TABLE keyed RENAME TO moved; UPDATE moved SET c = 'changed' WHERE a = 'x';",
    "DROP VIEW rich; DROP TRIGGER noted; DROP INDEX by_amount;",
    "VACUUM;",
    "ALTER TABLE plain DROP COLUMN c;",
    "PRAGMA user_version = 12;",
    "DROP TABLE audit; CREATE TABLE audit(other TEXT COLLATE NOCASE UNIQUE); INSERT INTO audit VALUES('A'), ('b');",
    "UPDATE words SET body = body || ' again';",
];

/// A copy of the application's database as it was after a commit.
pub(super) struct Copy {
    pub(super) incarnation: u64,
    pub(super) commit: u64,
    pub(super) file: PathBuf,
}

/// What is written, and every state of it.
pub(super) struct Application {
    pub(super) app: PathBuf,
    folder: PathBuf,
    pub(super) copies: Vec<Copy>,
    pub(super) chance: Chance,
    schemes: std::slice::Iter<'static, &'static str>,
    number: u64,
}

impl Application {
    pub(super) fn begin(folder: &Path, seed: u64) -> Self {
        let (app, copies) = (folder.join("app.db"), folder.join("copies"));
        std::fs::create_dir(&copies).unwrap();
        sql(&app, BEGINS);
        let chance = Chance::new(seed);
        Self { app, folder: copies, copies: Vec::new(), chance, schemes: SCHEMES.iter(), number: 0 }
    }

    /// What comes next in the stream, once everything is applied.
    fn next(dev: &Dev) -> (u64, u64) {
        let (exit, told, errors) = dev.wait_applied(PATIENCE_TEXT);
        assert_eq!(exit, 0, "{told}{errors}");
        let reached: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        let next = &reached["next"];
        (next["incarnation"]["counter"].as_u64().unwrap(), next["commit"].as_u64().unwrap())
    }

    /// Commits each of these as one transaction, with a copy behind each, while the agent stands still: what it finds then shares submissions,
    /// as far as it may.
    pub(super) fn commit(&mut self, dev: &Dev, transactions: &[String]) {
        let (incarnation, first) = Self::next(dev);
        dev.signal("agent", "STOP");
        let mut script = String::new();
        for (commit, transaction) in (first..).zip(transactions) {
            let file = self.folder.join(format!("{incarnation}-{commit}.db"));
            write!(script, "{transaction}\n.backup '{}'\n", file.display()).unwrap();
            self.copies.push(Copy { incarnation, commit, file });
        }
        sql(&self.app, &script);
        dev.signal("agent", "CONT");
        let next = Self::next(dev);
        assert_eq!(next, (incarnation, first + transactions.len() as u64), "{transactions:#?}");
    }

    /// A copy of what became of a gap: one commit of its own kind.
    pub(super) fn copy_reconciled(&mut self, dev: &Dev) -> u64 {
        let (incarnation, next) = Self::next(dev);
        let commit = next - 1;
        let file = self.folder.join(format!("{incarnation}-{commit}.db"));
        sql(&self.app, &format!(".backup '{}'", file.display()));
        self.copies.push(Copy { incarnation, commit, file });
        commit
    }

    /// The next change of the schema, or one of rows.
    pub(super) fn transaction(&mut self) -> String {
        if self.chance.below(3) == 0
            && let Some(scheme) = self.schemes.next()
        {
            // VACUUM and some pragmas stand in no transaction.
            return if scheme.starts_with("VACUUM") || scheme.starts_with("PRAGMA") {
                (*scheme).to_owned()
            } else {
                format!("BEGIN IMMEDIATE; {scheme} COMMIT;")
            };
        }
        self.number += 1;
        let (number, amount) = (self.number, self.chance.below(1000));
        let rows = match self.chance.below(6) {
            0 => format!(
                "INSERT INTO accounts(name, amount, blob) VALUES('n{number}', {amount}, randomblob({amount}));"
            ),
            1 => format!(
                "UPDATE accounts SET amount = amount + {amount}, name = name || '{number}' WHERE id % 2 = {};",
                number % 2
            ),
            2 => format!(
                "INSERT INTO plain(a) VALUES({amount}), ('t{number}'); DELETE FROM plain WHERE rowid % 5 = {};",
                number % 5
            ),
            // Larger than a page, and than a piece of what is sent.
            3 => format!(
                "INSERT INTO accounts(name, blob) VALUES('large {number}', randomblob({}));",
                100_000 + amount * 1000
            ),
            4 => format!(
                "DELETE FROM accounts WHERE id < (SELECT max(id) FROM accounts) - 8; INSERT INTO plain(a) VALUES({number});"
            ),
            _ => format!(
                "INSERT INTO plain(a) WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {amount}) SELECT n FROM c;"
            ),
        };
        format!("BEGIN IMMEDIATE; {rows} COMMIT;")
    }

    /// A commit that is too large for one submission.
    pub(super) fn in_parts(&mut self) -> String {
        self.number += 1;
        format!(
            "BEGIN IMMEDIATE; INSERT INTO accounts(name, blob) WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 6)
             SELECT 'huge {} ' || n, randomblob(2000000) FROM c; COMMIT;",
            self.number
        )
    }

    /// The rest of the schema's changes.
    pub(super) fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| {
            let left = self.schemes.len();
            (left > 0).then(|| self.transaction())
        })
        .collect()
    }
}
