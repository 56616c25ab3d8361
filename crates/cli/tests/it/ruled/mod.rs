//! Rules, refusals and endorsements by the commands and processes that people have.

mod commands;
mod kills;
mod messages;

use std::path::Path;

use serde_json::Value;

use crate::processes::{run, synddb};

const RULES: &str = r#"
[[rule]]
name = "no negative balance"
tables = ["balances"]
sql = "SELECT account, amount FROM changed_balances WHERE amount < 0"
"#;

const SETUP: &str = "CREATE TABLE balances(account INTEGER PRIMARY KEY, amount INT); INSERT INTO balances VALUES(1, 100), (2, 100)";

fn write_rules(folder: &Path, text: &str) -> String {
    let file = folder.join("rules.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// What a command says: its exit code, its events, what it complains of.
fn told<'a>(arguments: impl IntoIterator<Item = &'a str>) -> (i32, Vec<Value>, String) {
    let mut command = synddb(arguments);
    command.arg("--json");
    let (exit, told, errors) = run(command);
    (exit, told.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), errors)
}
