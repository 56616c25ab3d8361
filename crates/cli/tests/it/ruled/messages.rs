//! The message tables, as the application's own programs meet them.

use super::*;
use crate::dev::Dev;
use crate::programs::{shell, sql};

#[test]
fn an_application_gets_the_tables_once_and_validators_accept_what_it_does_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, SETUP);
    let path = app.to_str().unwrap().to_owned();
    let dev = Dev::start_with(folder.path(), |command| {
        _ = command.args(["--rules", &write_rules(folder.path(), "")])
    });
    let (exit, made, errors) = told(["init-messages", &path]);
    assert_eq!((exit, &made[0]["made"]), (0, &true.into()), "{errors}");
    let (exit, made, _) = told(["init-messages", &path]);
    assert_eq!((exit, &made[0]["made"]), (0, &false.into()));
    let target = "0x00000000000000000000000000000000000000aa";
    for number in 1..4 {
        sql(&app, &format!("INSERT INTO outbound_messages(target, value) VALUES('{target}', '{number}')"));
    }
    dev.assert_replica_equals();
    let replica = dev.replica().to_str().unwrap().to_owned();
    let (_, listed, _) = told(["rules", "list", &replica]);
    assert_eq!(listed.last().unwrap()["open"], 0, "{listed:?}");
    // Past the triggers, as another program may go.
    sql(&app, "DROP TRIGGER outbound_messages_not_deleted; DELETE FROM outbound_messages WHERE id = 3");
    dev.event("violated", |event| event["rule"] == "outbound messages");
    dev.assert_replica_equals();
    let (exit, _, errors) = told(["init-messages", "/no/such.db"]);
    assert_eq!(exit, 2, "{errors}");
    let other = folder.path().join("other.db");
    sql(&other, "CREATE VIEW inbound_messages AS SELECT 1");
    let (exit, _, errors) = told(["init-messages", other.to_str().unwrap()]);
    assert_eq!(exit, 2);
    assert!(
        errors.contains("`inbound_messages`") && errors.contains("it is a view, not a table"),
        "{errors}"
    );
}

#[test]
fn the_shell_is_told_at_once_what_validators_would_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t(a)");
    assert_eq!(told(["init-messages", app.to_str().unwrap()]).0, 0);
    let target = "'0x' || printf('%040d', 7)";
    let once = format!(
        "INSERT INTO outbound_messages(target, idempotency_key) VALUES({target}, 'one') ON CONFLICT DO NOTHING"
    );
    sql(&app, &format!("{once}; {once}; INSERT INTO outbound_messages(target) VALUES({target})"));
    for (refused, why) in [
        ("UPDATE outbound_messages SET value = '1'".to_owned(), "never change"),
        ("DELETE FROM outbound_messages".to_owned(), "never change"),
        (format!("INSERT INTO outbound_messages(id, target) VALUES(9, {target})"), "leave the id out"),
        (format!("INSERT INTO outbound_messages(id, target) VALUES(-1, {target})"), "id is 1 or more"),
        ("INSERT INTO outbound_messages(target) VALUES('0xAB')".to_owned(), "target is 0x and 40 hex digits"),
        (
            "INSERT INTO inbound_messages(message_id, outcome) VALUES(1, 'maybe')".to_owned(),
            "outcome is done or rejected",
        ),
        (
            format!("INSERT INTO outbound_messages(target, value) VALUES({target}, '5' || char(0))"),
            "value is a decimal number",
        ),
        (
            format!("PRAGMA recursive_triggers = ON; {}", once.replace("INSERT", "INSERT OR REPLACE"))
                .replace(" ON CONFLICT DO NOTHING", ""),
            "never change",
        ),
    ] {
        let mut shell = shell(&app);
        shell.arg(&refused);
        let (exit, _, errors) = run(shell);
        assert!(exit != 0 && errors.contains(why), "{refused}: {errors}");
    }
    let ids = sql(&app, "SELECT group_concat(id) FROM (SELECT id FROM outbound_messages ORDER BY id)");
    assert_eq!(ids.trim(), "1,2");
}

#[test]
fn the_sql_that_is_printed_makes_the_same_tables() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one.db"), folder.path().join("two.db"));
    sql(&one, "CREATE TABLE t(a)");
    sql(&two, "CREATE TABLE t(a)");
    assert_eq!(told(["init-messages", one.to_str().unwrap()]).0, 0);
    let (exit, printed, errors) = run(synddb(["init-messages", "--print"]));
    assert_eq!(exit, 0, "{errors}");
    sql(&two, &printed);
    let schema = |file: &Path| {
        let mut shell = shell(file);
        shell.arg("SELECT sql FROM sqlite_schema ORDER BY name");
        run(shell).1
    };
    assert_eq!(schema(&one), schema(&two));
    assert_eq!(told(["init-messages", two.to_str().unwrap()]).0, 0, "and it is known as that");
}

/// What stands between ``` and a language, and ```.
fn examples<'d>(document: &'d str, language: &str) -> Vec<&'d str> {
    let begins = format!("```{language}\n");
    document.split(&begins).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_examples_of_the_document_work_as_they_are_copied() {
    let document = include_str!("../../../../../docs/rules.md");
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, SETUP);
    let path = app.to_str().unwrap();
    assert_eq!(told(["init-messages", path]).0, 0);
    let statements = examples(document, "sql");
    assert_eq!(statements.len(), 1);
    sql(&app, statements[0]);
    let counts = "SELECT (SELECT count(*) FROM outbound_messages), (SELECT count(*) FROM inbound_messages)";
    assert_eq!(sql(&app, counts).trim(), "1|1");
    let rules = examples(document, "toml");
    assert_eq!(rules.len(), 1);
    let rules = write_rules(folder.path(), rules[0]);
    for line in examples(document, "sh").concat().lines() {
        let command = line.split('#').next().unwrap();
        let words: Vec<&str> = command
            .split_whitespace()
            .map(|word| match word {
                "rules.toml" => rules.as_str(),
                "app.db" => path,
                word => word,
            })
            .collect();
        match words.as_slice() {
            ["synddb", "rules", "check" | "test", ..] => {
                let (exit, _, errors) = told(words[1..].iter().copied());
                assert_eq!(exit, 0, "{line}: {errors}");
            }
            ["synddb", "endorsements", store, ..] => {
                // The command line is understood; nothing else of it is here.
                let here = format!("file://{}", folder.path().display());
                let words: Vec<&str> =
                    words[1..].iter().map(|word| if word == store { here.as_str() } else { word }).collect();
                let (_, _, errors) = told(words);
                assert!(errors.contains("which stream"), "{line}: {errors}");
            }
            _ => {}
        }
    }
}
