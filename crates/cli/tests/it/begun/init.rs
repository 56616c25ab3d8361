//! `synddb validator init`: a file and a key, with which a validator runs as they are.

use std::os::unix::fs::PermissionsExt as _;

use synddb_protocol::signing::SigningKey;

use super::*;
use crate::dev::curl;
use crate::programs::sql;

fn init(store: &str, key: &str, folder: &Path, more: &[&str]) -> (i32, String, String) {
    let mut command = synddb(["validator", "init", "--json", "--store", store, "--sequencer-key", key]);
    command.arg("--dir").arg(folder).args(more);
    run(command)
}

#[test]
fn a_validator_runs_with_what_init_wrote() {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
    let system = System::start(folder.path());
    let mut agent = system.follow();
    system.assert_equal();
    agent.end();
    let (store, stream) = (system.store(), synddb_agent::stream_of(&system.home).unwrap().to_string());
    let key = system.sequencer.event("listening", |_| true)["key"].as_str().unwrap().to_owned();
    let home = folder.path().join("validator");

    // What cannot work leaves nothing.
    let (exit, _, errors) = init(&store, &key, &home, &[]);
    assert_eq!(exit, 2, "there is no folder: {errors}");
    std::fs::create_dir(&home).unwrap();
    let (exit, _, errors) = init("https://logs.example/ours", &key, &home, &[]);
    assert_eq!(exit, 2, "{errors}");
    assert!(errors.contains("--stream"), "{errors}");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let (exit, _, errors) = init(&format!("file://{}", empty.display()), &key, &home, &[]);
    assert_eq!(exit, 2, "{errors}");
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);

    let (exit, told, errors) = init(&store, &key, &home, &[]);
    assert_eq!(exit, 0, "{told}{errors}");
    let told: Value = serde_json::from_str(told.trim()).unwrap();
    assert_eq!((&told["event"], &told["stream"]), (&"initialized".into(), &stream.as_str().into()));
    let (config, key_file) = (home.join("validator.toml"), home.join("validator.key"));
    let mode = std::fs::metadata(&key_file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let text = std::fs::read_to_string(&config).unwrap();
    // Every key is there, each with what it means.
    let (exit, default, _) = run(synddb(["config", "default", "validator"]));
    assert_eq!(exit, 0);
    let keys = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with("# ") && line.contains(" = "));
        lines.map(|line| line.trim_start_matches('#').split(" = ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&text), keys(&default));

    let before = (text.clone(), std::fs::read(&key_file).unwrap());
    let (exit, _, errors) = init(&store, &key, &home, &[]);
    assert_eq!(exit, 2, "{errors}");
    let after = (std::fs::read_to_string(&config).unwrap(), std::fs::read(&key_file).unwrap());
    assert_eq!(before, after);

    let config = config.to_str().unwrap();
    let (exit, told, errors) = run(synddb(["config", "check", "validator", config]));
    assert_eq!(exit, 0, "{told}{errors}");
    let mut validator = synddb(["validator", "--json", "--config", config]);
    validator.env("SYNDDB_VALIDATOR_MODE", "once").env("SYNDDB_VALIDATOR_SNAPSHOTS__EVERY_MESSAGES", "1");
    let (exit, told, errors) = run(validator);
    assert_eq!(exit, 0, "{told}{errors}");
    let (exit, told, errors) = diff(&system.app, &home.join("replica.db"));
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");

    // A key that is there is kept, and one stream of several has to be named.
    std::fs::remove_file(config).unwrap();
    let other = format!("{}/{}/epochs", folder.path().join("store").display(), "ab".repeat(32));
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(format!("{other}/000000000001.cbor"), "x").unwrap();
    let (exit, _, errors) = init(&store, &key, &home, &[]);
    assert_eq!(exit, 2, "{errors}");
    assert!(errors.contains(&stream) && errors.contains(&"ab".repeat(32)), "{errors}");
    let (exit, again, errors) = init(&store, &key, &home, &["--stream", &stream]);
    assert_eq!(exit, 0, "{errors}");
    let again: Value = serde_json::from_str(again.trim()).unwrap();
    assert_eq!(again["key_id"], told_key(&before.1));
}

#[test]
fn what_init_wrote_serves_from_where_it_was_told_and_keeps_its_data_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
    let system = System::start(folder.path());
    let mut agent = system.follow();
    system.assert_equal();
    agent.end();
    // A service reads the one and writes into the other, whose name may be a link.
    let (home, data, link) = ["etc", "private", "data"].map(|name| folder.path().join(name)).into();
    std::fs::create_dir(&home).unwrap();
    let absent = ["--data", link.to_str().unwrap()];
    let (exit, _, errors) = init(&system.store(), &system.key, &home, &absent);
    assert_eq!(exit, 2, "{errors}");
    std::fs::create_dir(&data).unwrap();
    std::os::unix::fs::symlink(&data, &link).unwrap();
    let more = ["--data", link.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let (exit, told, errors) = init(&system.store(), &system.key, &home, &more);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    let told: Value = serde_json::from_str(told.trim()).unwrap();
    assert_eq!(told["listen"], "127.0.0.1:0");
    assert_eq!(told["key_file"], link.join("validator.key").to_str().unwrap());
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 1);

    let mut validator = synddb(["validator", "--json", "--stop-on-eof", "--config"]);
    validator.arg(home.join("validator.toml")).env("SYNDDB_VALIDATOR_SNAPSHOTS__EVERY_MESSAGES", "1");
    let mut validator = Role::start(validator);
    let url = validator.event("listening", |_| true)["url"].as_str().unwrap().to_owned();
    validator.event("snapshot", |_| true);
    let (code, status) = curl(&[&format!("{url}/status")]);
    assert_eq!((code, &status["stream"]), (200, &told["stream"]), "{status}");
    let (code, snapshots) = curl(&[&format!("{url}/snapshots")]);
    assert_eq!(code, 200, "{snapshots}");
    assert!(snapshots.to_string().contains(told["key_id"].as_str().unwrap()), "{snapshots}");
    validator.end();
    assert!(data.join("replica.db").exists() && data.join("validator.key").exists());
    let (exit, told, errors) = diff(&system.app, &data.join("replica.db"));
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
}

#[test]
fn a_key_that_leads_nothing_is_refused_where_the_store_knows_who_leads() {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
    let system = System::start(folder.path());
    let mut agent = system.follow();
    system.assert_equal();
    agent.end();
    let stream = synddb_agent::stream_of(&system.home).unwrap().to_string();
    let home = folder.path().join("validator");
    std::fs::create_dir(&home).unwrap();
    let stranger = SigningKey::from_bytes([9; 32]).unwrap().verifying_key().to_string();
    for more in [&[][..], &["--stream", &stream]] {
        let (exit, _, errors) = init(&system.store(), &stranger, &home, more);
        assert_eq!(exit, 2, "{errors}");
        assert!(errors.contains("none of the trusted keys leads this log"), "{errors}");
        assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
    }
    // Beside one that leads it, it may be one that will.
    let (exit, told, errors) = init(&system.store(), &stranger, &home, &["--sequencer-key", &system.key]);
    assert_eq!((exit, errors.as_str(), told.lines().count()), (0, "", 1), "{told}");

    // Where the store does not say, that is said, and the validator may begin before the log.
    let early = folder.path().join("early");
    let empty = folder.path().join("empty");
    let url = format!("file://{}", empty.display());
    for made in [&early, &empty] {
        std::fs::create_dir(made).unwrap();
    }
    let (exit, told, errors) = init(&url, &stranger, &early, &["--stream", &stream]);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    let events: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 2, "{told}");
    assert_eq!(events[0]["event"], "key_unchecked", "{told}");
    assert!(events[0]["why"].as_str().unwrap().contains("holds no log of this stream"), "{told}");
    assert_eq!(events[1]["event"], "initialized", "{told}");
}

/// The key id of a key file.
fn told_key(file: &[u8]) -> String {
    let mut bytes = [0; 32];
    hex::decode_to_slice(file, &mut bytes).unwrap();
    SigningKey::from_bytes(bytes).unwrap().id().to_string()
}
