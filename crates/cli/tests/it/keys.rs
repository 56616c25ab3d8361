//! A validator whose trusted keys are in a file, beside a sequencer that changes its key: admitted and revoked without a restart.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::processes::{diff, run, synddb};
use super::programs::sql;
use super::roles::{PATIENCE, PATIENCE_TEXT, Role};

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// What a URL answers.
pub(crate) fn get(url: &str) -> String {
    let answer = Command::new("curl").args(["--silent", "--show-error", url]).output().unwrap();
    String::from_utf8(answer.stdout).unwrap()
}

/// Asks until the answer is as wanted.
fn until(url: &str, wanted: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = get(url);
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{answer}");
    }
}

/// One folder with everything in it.
struct World {
    folder: PathBuf,
}

impl World {
    fn begin(folder: &Path) -> Self {
        for store in ["store", "elsewhere"] {
            std::fs::create_dir(folder.join(store)).unwrap();
        }
        std::fs::write(folder.join("token"), "a-token-of-more-than-thirty-two-characters").unwrap();
        std::fs::set_permissions(folder.join("token"), std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { folder: folder.to_owned() }
    }

    fn store(&self, name: &str) -> String {
        format!("file://{}", self.folder.join(name).display())
    }

    /// A sequencer with a key of its own, which goes on behind these; its URL and its key.
    fn sequencer(&self, key: &str, store: &str, trusted: &[&String]) -> (Role, String, String) {
        let file = |name: &str| self.folder.join(name);
        let mut command = synddb(["sequencer", "--listen", "127.0.0.1:0", "--batch-age-ms", "5"]);
        command.args(["--stop-on-eof", "--json", "--store", &self.store(store)]);
        command.arg("--dir").arg(file(&format!("{store}-sequencer"))).arg("--credentials-file");
        command.arg(super::roles::credentials(&self.folder));
        command.arg("--key-file").arg(file(key)).env("SYNDDB_SEQUENCER_TRUSTED_KEYS", format!("{trusted:?}"));
        let role = Role::start(command);
        let listening = role.event("listening", |_| true);
        (role, text(&listening["url"]), text(&listening["key"]))
    }

    fn agent(&self, url: &str, key: &str) -> Role {
        let mut command =
            synddb(["follow", "--json", "--stop-on-eof", "--sequencer", url, "--sequencer-key", key]);
        command
            .arg(self.app())
            .arg("--dir")
            .arg(self.home())
            .arg("--token-file")
            .arg(self.folder.join("token"));
        let role = Role::start(command);
        role.how();
        role
    }

    fn app(&self) -> PathBuf {
        self.folder.join("app.db")
    }

    fn home(&self) -> PathBuf {
        self.folder.join("app.db-synddb")
    }

    fn keys(&self) -> PathBuf {
        self.folder.join("keys.toml")
    }

    fn validator(&self) -> Command {
        let stream = synddb_agent::stream_of(&self.home()).unwrap().to_string();
        let mut command = synddb(["validator", "--listen", "127.0.0.1:0", "--stop-on-eof", "--json"]);
        command.args(["--stream", &stream, "--store", &self.store("store")]);
        command.arg("--replica").arg(self.folder.join("replica.db")).arg("--keys-file").arg(self.keys());
        command
    }

    /// Another file in the place of the one that is there.
    fn say(&self, text: &str) {
        let new = self.folder.join("keys.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.keys()).unwrap();
    }

    fn assert_applied(&self, validator: &str) {
        let (app, home) = (self.app(), self.home());
        let arguments = ["wait", app.to_str().unwrap(), "--dir", home.to_str().unwrap(), "--json"];
        let waits = ["--applied", "--timeout", PATIENCE_TEXT, "--validator", validator];
        let (exit, told, errors) = run(synddb(arguments.into_iter().chain(waits)));
        assert_eq!(exit, 0, "{told}{errors}");
        let (exit, told, errors) = diff(&app, &self.folder.join("replica.db"));
        assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    }
}

#[test]
fn keys_of_a_file_are_admitted_and_revoked_while_a_validator_runs() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::begin(folder.path());
    // Which key the second machine has is known before it leads.
    let (mut elsewhere, _, second) = world.sequencer("second.key", "elsewhere", &[]);
    elsewhere.end();
    let (mut sequencer, url, first) = world.sequencer("first.key", "store", &[]);
    let listed =
        |keys: &[&String]| keys.iter().map(|key| format!("[[key]]\nkey = \"{key}\"\n")).collect::<String>();

    // Refused with the line while nobody is trusted yet.
    world.say("[[key]]\nkey = \"0x02\"\n");
    let (exit, _, errors) = run(world.validator());
    assert_eq!(exit, 2, "{errors}");
    assert!(errors.contains("keys.toml") && errors.contains("line=`2`"), "{errors}");
    let mut both = world.validator();
    both.args(["--sequencer-key", &first]);
    let (exit, _, errors) = run(both);
    assert_eq!(exit, 2, "{errors}");

    world.say(&listed(&[&first]));
    let mut validator = Role::start(world.validator());
    let validator_url = text(&validator.event("listening", |_| true)["url"]);
    sql(&world.app(), "CREATE TABLE t(a INTEGER PRIMARY KEY, b); INSERT INTO t(b) VALUES('one')");
    let mut agent = world.agent(&url, &first);
    sql(&world.app(), ".timeout 5000\nINSERT INTO t(b) VALUES('two')");
    world.assert_applied(&validator_url);
    let status: Value = serde_json::from_str(&get(&format!("{validator_url}/status"))).unwrap();
    let by_first = status["sequence"].as_u64().unwrap();

    // A spoilt file changes nothing, and says so.
    world.say("[[key]]\nkey = 7\n");
    let gauge = "synddb_validator_keys_file_refused";
    let metrics = format!("{validator_url}/metrics");
    until(&metrics, |answer| answer.contains(&format!("{gauge} 1")));
    world.say(&listed(&[&first, &second]));
    until(&metrics, |answer| answer.contains(&format!("{gauge} 0")));

    // The second machine takes over, and nobody starts the validator again.
    agent.end();
    sequencer.end();
    let (mut sequencer, url, key) = world.sequencer("second.key", "store", &[&first]);
    assert_eq!(key, second);
    let mut agent = world.agent(&url, &second);
    sql(&world.app(), ".timeout 5000\nINSERT INTO t(b) VALUES('three')");
    world.assert_applied(&validator_url);

    // What the first one signed up to where it was replaced is believed: nothing happens.
    let revoked = |size: u64| {
        format!("{}[[revoked]]\nkey = \"{first}\"\nepoch = 1\nsize = {size}\n", listed(&[&first, &second]))
    };
    world.say(&revoked(by_first));
    sql(&world.app(), ".timeout 5000\nINSERT INTO t(b) VALUES('four')");
    world.assert_applied(&validator_url);
    assert!(!validator.events().iter().any(|event| event["event"] == "halted"), "{:#?}", validator.events());

    // One message less, and the validator stands on what nobody believes any more.
    world.say(&revoked(by_first - 1));
    let halted = validator.event("halted", |_| true);
    assert_eq!((&halted["kind"], &halted["from"]), (&"revoked".into(), &by_first.into()), "{halted}");
    let status = until(&format!("{validator_url}/status"), |answer| answer.contains("revoked"));
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["halted"]["kind"], &status["sequence"]), (&"revoked".into(), &Value::Null));
    let detail = text(&status["halted"]["detail"]);
    assert!(detail.contains("resync") && detail.contains(&format!("size {}", by_first - 1)), "{detail}");
    validator.signal("TERM");
    assert_eq!(validator.ended().code(), Some(1));
    agent.end();
    sequencer.end();
}
