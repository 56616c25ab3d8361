//! Money is neither made nor lost: what the accounts have more after a commit is what it minted.
//!
//! ```sql
//! CREATE TABLE accounts(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
//! CREATE TABLE mints(id INTEGER PRIMARY KEY, amount INTEGER NOT NULL, reason TEXT NOT NULL);
//! ```

use synddb_validator::rules::{CommitView, NotKept, Rule, TableChanges, Value};

/// The rule.
pub(crate) struct Conserved;

impl Rule for Conserved {
    fn name(&self) -> &str {
        "money is only minted"
    }

    fn tables(&self) -> Vec<String> {
        ["accounts", "mints"].map(str::to_owned).to_vec()
    }

    fn check(&self, commit: &CommitView<'_>) -> Result<(), NotKept> {
        let more = match commit.table("accounts") {
            None => 0,
            // What a table that was dropped held is not known.
            Some(accounts) if accounts.is_replaced() => {
                return Err(NotKept::because("the table of accounts was replaced"));
            }
            Some(accounts) => {
                sum(&accounts, "balance", Rows::After)? - sum(&accounts, "balance", Rows::Before)?
            }
        };
        let minted = match commit.table("mints") {
            None => 0,
            Some(mints) if mints.before_count() > 0 || mints.is_replaced() => {
                return Err(NotKept::because("a mint was changed or deleted"));
            }
            Some(mints) => sum(&mints, "amount", Rows::After)?,
        };
        if more == minted {
            return Ok(());
        }
        Err(NotKept::because(format!("accounts have {more} more, and {minted} were minted")))
    }
}

#[derive(Clone, Copy)]
enum Rows {
    Before,
    After,
}

fn sum(table: &TableChanges<'_>, column: &str, rows: Rows) -> Result<i128, NotKept> {
    let at = table.columns().iter().position(|name| name.eq_ignore_ascii_case(column));
    let at = at.ok_or_else(|| NotKept::because(format!("there is no column `{column}`")))?;
    let (mut sum, mut other) = (0, false);
    let mut add = |row: &[Value<'_>]| match row.get(at) {
        Some(Value::Integer(value)) => sum += i128::from(*value),
        _ => other = true,
    };
    match rows {
        Rows::Before => table.before(&mut add),
        Rows::After => table.changed(&mut add),
    }
    if other { Err(NotKept::because(format!("`{column}` is no integer somewhere"))) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use synddb_sqlite::rusqlite::Connection;
    use synddb_validator::rules::try_rule;

    use super::*;

    /// What the rule says of a commit.
    fn said(commit: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, commit: &str| {
            let file = folder.path().join(name);
            let database = Connection::open(&file).unwrap();
            let setup = "CREATE TABLE accounts(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
                         CREATE TABLE mints(id INTEGER PRIMARY KEY, amount INTEGER NOT NULL, reason TEXT NOT NULL);
                         INSERT INTO mints VALUES(1, 100, 'begin'); INSERT INTO accounts VALUES(1, 60), (2, 40);";
            database.execute_batch(&format!("{setup}{commit}")).unwrap();
            file
        };
        let (before, after): (_, _) = (make("before.db", ""), make("after.db", commit));
        let before: &Path = &before;
        try_rule(&Conserved, Some(before), &after).unwrap().map_err(|not_kept| not_kept.detail)
    }

    #[test]
    fn money_moves_and_is_minted() {
        assert_eq!(said(""), Ok(()));
        assert_eq!(
            said(
                "UPDATE accounts SET balance = balance - 5 WHERE id = 1; UPDATE accounts SET balance = balance + 5 WHERE id = 2"
            ),
            Ok(())
        );
        assert_eq!(said("INSERT INTO mints VALUES(2, 7, 'gift'); INSERT INTO accounts VALUES(3, 7)"), Ok(()));
        assert_eq!(
            said("DELETE FROM accounts WHERE id = 2; UPDATE accounts SET balance = 100 WHERE id = 1"),
            Ok(())
        );
    }

    #[test]
    fn money_that_comes_from_nowhere_is_found() {
        assert_eq!(
            said("UPDATE accounts SET balance = 61 WHERE id = 1").unwrap_err(),
            "accounts have 1 more, and 0 were minted"
        );
        assert!(said("DELETE FROM accounts WHERE id = 2").unwrap_err().contains("-40 more"));
        assert!(said("INSERT INTO mints VALUES(2, 7, 'gift')").is_err());
        assert_eq!(said("UPDATE mints SET amount = 500").unwrap_err(), "a mint was changed or deleted");
        assert!(
            said(
                "DROP TABLE accounts; CREATE TABLE accounts(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)"
            )
            .is_err()
        );
    }
}
