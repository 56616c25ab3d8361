//! The documents of a validator and of an agent, held against what real ones answer about a real database.

use std::path::Path;
use std::time::Instant;

use serde_json::json;
use synddb_servers::Questions;

use super::dev::curl;
use super::programs::sql;
use super::roles::{PATIENCE, Role, System, TOKEN, credentials, write_token};

const REGISTRY: &str = "0x00000000000000000000000000000000000000c0";
const BRIDGE: &str = "0x00000000000000000000000000000000000000b0";

const SETUP: &str = "
    CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT, balance REAL);
    WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000)
    INSERT INTO account SELECT n, 'account ' || n, n / 4.0 FROM n;
    CREATE INDEX by_name ON account (name);";

/// A system whose replica has the database and whose validator goes by credentials and endorses, its agent, and the URL of that.
fn captured(folder: &Path) -> (System, Role, String) {
    write_token(folder);
    let listed = credentials(folder);
    let environment = [
        ("SYNDDB_VALIDATOR_CREDENTIALS_FILE", listed),
        ("SYNDDB_VALIDATOR_ENDORSE__ON", "true".into()),
        ("SYNDDB_VALIDATOR_ENDORSE__KEY_FILE", folder.join("endorse.key")),
        ("SYNDDB_VALIDATOR_ENDORSE__CHAIN_ID", "31337".into()),
        ("SYNDDB_VALIDATOR_ENDORSE__REGISTRY", REGISTRY.into()),
        ("SYNDDB_VALIDATOR_ENDORSE__BRIDGE", BRIDGE.into()),
    ];
    let system = System::start_in(folder, &environment);
    sql(&system.app, SETUP);
    sql(&system.app, synddb_sqlite::messages::SCHEMA);
    let mut command = system.agent();
    command.args(["--port", "0"]);
    let agent = Role::start(command);
    agent.how();
    let url = agent.event("listening", |_| true)["url"].as_str().unwrap().to_owned();
    sql(&system.app, "UPDATE account SET balance = 0 WHERE id = 1;");
    sql(&system.app, &format!("INSERT INTO outbound_messages(target) VALUES('{BRIDGE}');"));
    system.assert_equal();
    // Not every event of that is told.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = curl(&[&format!("{}/status", system.validator_url())]).1;
        let signature = curl(&[&format!("{}/outbound/1/signature", system.validator_url())]);
        if status["endorsing"]["sequence"] == status["sequence"] && signature.0 == 200 {
            break;
        }
        assert!(Instant::now() < deadline, "{status}");
    }
    (system, agent, url)
}

fn faults(folder: &Path, url: &str, token: Option<&str>, except: Option<&str>, but: &[&str]) -> String {
    // Of an agent there is none.
    let endorsed = curl(&[&format!("{url}/endorsements")]).1["sequence"].clone();
    let prepared = json!({ "table": "account", "endorsed": endorsed });
    let document = synddb_servers::document(url).unwrap();
    let questions = Questions { url, document: &document, token, prepared: &prepared, except, folder };
    let answers = questions.ask().unwrap();
    answers.map(|answers| answers.faults(&questions, but)).unwrap_or_default()
}

#[test]
fn every_operation_of_a_validator_can_be_had_and_answers_as_its_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let (system, _agent, _) = captured(folder.path());
    assert_eq!(faults(folder.path(), system.validator_url(), Some(TOKEN), None, &[]), "");
    system.assert_replica_equals();
}

#[test]
fn without_a_token_a_validator_has_nothing_scanned_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (system, _agent, _) = captured(folder.path());
    let url = system.validator_url();
    let seen = || {
        let status = curl(&[&format!("{url}/status")]).1;
        let audits = curl(&[&format!("{url}/metrics")]).1;
        let audits = audits.as_str().unwrap();
        let audits =
            audits.lines().find(|line| line.starts_with("synddb_validator_audits_total")).map(str::to_owned);
        let files = ["replica.db", "replica.db-wal"].map(|name| std::fs::read(folder.path().join(name)).ok());
        (status, audits, files)
    };
    let before = seen();
    assert_eq!(faults(folder.path(), url, None, None, &["POST /audit"]), "");
    assert!(seen() == before, "something changed");
    let audit = format!("{url}/audit");
    assert_eq!(curl(&["--request", "POST", &audit]).0, 401);
    // Who has the token is answered, and the same comparison sees it.
    assert_eq!(
        curl(&["--request", "POST", "--header", &format!("Authorization: Bearer {TOKEN}"), &audit]).0,
        200
    );
    assert!(seen() != before);
}

#[test]
fn every_operation_of_an_agent_can_be_had_and_answers_as_its_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let (system, mut agent, url) = captured(folder.path());
    // The one that ends it is asked last.
    assert_eq!(faults(folder.path(), &url, None, Some("^/stop$"), &["POST /stop"]), "");
    system.assert_replica_equals();
    assert_eq!(curl(&["--request", "POST", &format!("{url}/stop")]).0, 202);
    assert!(agent.ended().success());
}
