//! The documents of a validator and of an agent, held against what real ones answer about a real database.

use std::path::Path;

use serde_json::json;
use synddb_servers::Questions;

use super::dev::curl;
use super::programs::sql;
use super::roles::{Role, System};

const SETUP: &str = "
    CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT, balance REAL);
    WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000)
    INSERT INTO account SELECT n, 'account ' || n, n / 4.0 FROM n;
    CREATE INDEX by_name ON account (name);";

/// A system whose replica has the database, its agent, and the URL of that.
fn captured(folder: &Path) -> (System, Role, String) {
    let system = System::start(folder);
    sql(&system.app, SETUP);
    let mut command = system.agent();
    command.args(["--port", "0"]);
    let agent = Role::start(command);
    agent.how();
    let url = agent.event("listening", |_| true)["url"].as_str().unwrap().to_owned();
    sql(&system.app, "UPDATE account SET balance = 0 WHERE id = 1;");
    system.assert_equal();
    (system, agent, url)
}

fn faults(folder: &Path, url: &str, except: Option<&str>, but: &[&str]) -> String {
    let prepared = json!({ "table": "account" });
    let document = synddb_servers::document(url).unwrap();
    let questions = Questions { url, document: &document, token: None, prepared: &prepared, except, folder };
    let answers = questions.ask().unwrap();
    answers.map(|answers| answers.faults(&questions, but)).unwrap_or_default()
}

#[test]
fn every_operation_of_a_validator_can_be_had_and_answers_as_its_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let (system, _agent, _) = captured(folder.path());
    assert_eq!(faults(folder.path(), system.validator_url(), None, &[]), "");
    system.assert_replica_equals();
}

#[test]
fn every_operation_of_an_agent_can_be_had_and_answers_as_its_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let (system, mut agent, url) = captured(folder.path());
    // The one that ends it is asked last.
    assert_eq!(faults(folder.path(), &url, Some("^/stop$"), &["POST /stop"]), "");
    system.assert_replica_equals();
    assert_eq!(curl(&["--request", "POST", &format!("{url}/stop")]).0, 202);
    assert!(agent.ended().success());
}
