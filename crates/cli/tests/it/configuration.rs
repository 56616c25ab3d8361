//! What processes can be told: the printed defaults, the reference, and what a configuration comes to.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use super::processes::{run, synddb};
use super::programs::sql;
use super::roles::{credentials, write_token};

const ROLES: [&str; 4] = ["agent", "sequencer", "validator", "relayer"];

/// Checks a configuration; gives how that ended, each key's value and origin, and what was complained about.
fn check(
    role: &str,
    file: Option<&Path>,
    environment: &[(&str, &str)],
) -> (i32, BTreeMap<String, (Value, Value)>, String) {
    let mut command = synddb(["config", "check", role, "--json"]);
    command.args(file).envs(environment.iter().copied());
    let (exit, told, errors) = run(command);
    let lines = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let settings = lines.filter(|line| line["event"] == "setting");
    let setting = |line: Value| {
        (line["key"].as_str().unwrap().to_owned(), (line["value"].clone(), line["origin"].clone()))
    };
    (exit, settings.map(setting).collect(), errors)
}

#[test]
fn the_printed_defaults_read_as_a_file_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for role in ROLES {
        let (exit, printed, _) = run(synddb(["config", "default", role]));
        assert_eq!(exit, 0);
        let file = folder.path().join(format!("{role}.toml"));
        fs::write(&file, &printed).unwrap();
        let (_, without, _) = check(role, None, &[]);
        let (_, with, errors) = check(role, Some(&file), &[]);
        assert!(with.len() > 10, "{role}: {errors}");
        let values = |of: &BTreeMap<String, (Value, Value)>| -> Vec<(String, Value)> {
            of.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect()
        };
        assert_eq!(values(&with), values(&without), "{role}");
        for (key, (value, origin)) in &with {
            let expected = if value.is_null() { "default" } else { "file" };
            assert!(origin.to_string().contains(expected), "{role} {key}: {origin}");
        }
        for (key, (value, _)) in &without {
            let name = key.rsplit('.').next().unwrap();
            let line = match value.as_str() {
                Some(value) => format!("\n{name} = {value}\n"),
                None => format!("\n#{name} = "),
            };
            assert!(printed.contains(&line), "{role}: {line}");
        }
    }
}

/// Everything of `docs/reference` is written by the command: run `cargo xtask codegen` after a change of a configuration or of the command line.
#[test]
fn the_reference_is_what_the_command_writes() {
    let written = tempfile::tempdir().unwrap();
    let (exit, _, errors) = run(synddb(["reference", written.path().to_str().unwrap()]));
    assert_eq!((exit, errors.as_str()), (0, ""));
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let mut files = 0;
    for entry in fs::read_dir(written.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let same =
            fs::read(written.path().join(&name)).unwrap() == fs::read(kept.join(&name)).unwrap_or_default();
        assert!(same, "docs/reference/{} differs; run `cargo xtask codegen`", name.display());
        files += 1;
    }
    assert_eq!(files, ROLES.len() + 2);
    let page = fs::read_to_string(kept.join("configuration.md")).unwrap();
    assert!(
        !page.contains("](") && !page.contains("|  |"),
        "a key says nothing of itself, or something for Rust alone"
    );
}

#[test]
fn what_a_configuration_comes_to_is_said_with_where_it_is_from() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_token(folder);
    let file = folder.join("sequencer.toml");
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let text = format!(
        "dir = {:?}\ncredentials_file = {:?}\nkey_file = {:?}\n[batch]\nage_ms = 7\n",
        at("journals"),
        credentials(folder).to_str().unwrap(),
        at("key")
    );
    fs::write(&file, &text).unwrap();
    let environment =
        [("SYNDDB_SEQUENCER_LEASE__HEARTBEAT_MS", "600"), ("SYNDDB_SEQUENCER_LISTEN", "127.0.0.1:1")];
    let (exit, settings, errors) = check("sequencer", Some(&file), &environment);
    assert_eq!((exit, errors.as_str()), (0, ""));
    let of = |key: &str| {
        let (value, origin) = &settings[key];
        (value.as_str().unwrap().to_owned(), origin.clone())
    };
    let is_from = |variable: &str| serde_json::json!({ "variable": variable });
    assert_eq!(of("batch.age_ms"), ("7".to_owned(), serde_json::json!({ "file": file })));
    assert_eq!(of("batch.messages_max").1, "default");
    assert_eq!(of("lease.heartbeat_ms"), ("600".to_owned(), is_from("SYNDDB_SEQUENCER_LEASE__HEARTBEAT_MS")));
    assert_eq!(of("listen"), ("\"127.0.0.1:1\"".to_owned(), is_from("SYNDDB_SEQUENCER_LISTEN")));
    let made: Vec<_> = ["journals", "key"].iter().filter(|name| folder.join(name).exists()).collect();
    assert!(made.is_empty(), "a check made something: {made:?}");
}

#[test]
fn what_could_not_begin_is_refused_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_token(folder);
    sql(&folder.join("app.db"), "CREATE TABLE t (a);");
    let refused = |role: &str, text: &str, environment: &[(&str, &str)], fix: &str| {
        let file = folder.join("config.toml");
        fs::write(&file, text).unwrap();
        let (exit, _, errors) = check(role, Some(&file), environment);
        assert_eq!(exit, 2, "{text}: {errors}");
        assert!(errors.contains(fix), "{text}: {errors}");
    };
    let token = folder.join("token").to_str().unwrap().to_owned();
    let agent = format!("token_file = {token:?}\nsequencer = \"http://127.0.0.1:1\"\n");
    refused("agent", &agent, &[], "set `database`");
    refused("agent", "", &[], "set `sequencer`");
    refused("agent", "sequencer = \"http://127.0.0.1:1\"", &[], "set `token_file`");
    refused("agent", &agent, &[("SYNDDB_AGENT_DATABASE", "/no/such.db")], "check the path");
    refused("agent", "wal_limit_mib = 0", &[], "from 1 to 1048576 MiB");
    refused("agent", "sequencers = []", &[], "sequencers");
    for telemetry in ["otlp = \"nonsense\"", "filter = \"=,,=bad\""] {
        let word = if telemetry.starts_with("otlp") { "http://127.0.0.1:4318" } else { "write it like" };
        for role in ROLES {
            refused(role, &format!("[telemetry]\n{telemetry}\n"), &[], word);
        }
    }
    refused("agent", "", &[("SYNDDB_LOG_FORMAT", "yaml")], "`text` or `json`");
    refused("validator", "", &[], "set `stream`");
    refused("validator", "lagmax = 1", &[], "lagmax");
    refused("sequencer", "", &[("SYNDDB_SEQUENCER_LISTN", "x")], "listn");
    refused("sequencer", "role = \"standby\"\nstore = \"memory:\"", &[], "memory:");
    refused("sequencer", "", &[("SYNDDB_SEQUENCER_CREDENTIALS_FILE", "/no/such.toml")], "synddb token new");
    let listed = credentials(folder);
    let sequencer = format!("credentials_file = {:?}\n", listed.to_str().unwrap());
    refused("sequencer", &format!("{sequencer}key_file = {:?}", format!("{token}/key")), &[], "key");
    let tls = "[tls]\ncertificate_file = \"/no/such.pem\"\nkey_file = \"/no/such.key\"\n";
    refused("sequencer", &format!("{sequencer}{tls}"), &[], "/no/such");
    fs::set_permissions(&listed, fs::Permissions::from_mode(0o666)).unwrap();
    refused("sequencer", &sequencer, &[], "chmod go-w");
    fs::set_permissions(folder.join("token"), fs::Permissions::from_mode(0o644)).unwrap();
    refused("agent", &agent, &[("SYNDDB_AGENT_DATABASE", "/no/such.db")], "chmod 600");
}

#[test]
fn a_password_in_a_url_is_not_shown() {
    for (url, shown) in [
        ("https://me:hunter2@host:1", "https://***@host:1"),
        ("https://me:hun@ter2@host/path?key=hunter2", "https://***@host/path?***"),
        ("https://host/at@path", "https://host/at@path"),
    ] {
        let (_, settings, errors) = check("validator", None, &[("SYNDDB_VALIDATOR_SEQUENCER", url)]);
        assert_eq!(settings["sequencer"].0, format!("\"{shown}\""));
        assert!(!errors.contains("ter2"), "{errors}");
    }
}

#[test]
fn an_agent_runs_as_its_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let missing = folder.join("missing.db");
    let file = folder.join("agent.toml");
    fs::write(&file, format!("database = {:?}\n", missing.to_str().unwrap())).unwrap();
    let mut command = synddb(["follow", "--config"]);
    let (exit, told, errors) = run({
        command.arg(&file);
        command
    });
    assert_eq!((exit, told.as_str()), (2, ""));
    assert!(errors.contains("missing.db") && errors.contains("check the path"), "{errors}");
}
