//! `synddb validator init`: a file and a key, with which a validator runs as they are.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
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

/// The key id of a key file.
fn told_key(file: &[u8]) -> String {
    let mut bytes = [0; 32];
    hex::decode_to_slice(file, &mut bytes).unwrap();
    synddb_protocol::signing::SigningKey::from_bytes(bytes).unwrap().id().to_string()
}
