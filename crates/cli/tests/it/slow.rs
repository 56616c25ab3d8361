//! A store that is away, or denies access, while an application writes: the agent keeps what was not taken in its outbox, the sequencer what was not stored in its
//! journal, the replica waits; none of them ends, whoever is restarted meanwhile waits too, and at the end the replica is the application's database.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use synddb_servers::{Blackout, Fault, ObjectServer, Platform, Proxy};

use super::processes::{diff, run, synddb};
use super::programs::sql;
use super::roles::{PATIENCE, PATIENCE_TEXT, Role, status, write_token};

/// Commits in each part of the story.
const COMMITS: u64 = 20;

/// All roles over one bucket, which they reach through a proxy.
struct Story {
    _server: ObjectServer,
    proxy: Proxy,
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
    store: String,
    sequencer: Role,
    validator: Role,
    agent: Role,
    address: String,
    key: String,
    commits: u64,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl Story {
    /// `None` where the server's program is not here.
    fn begin(platform: Platform) -> Option<Self> {
        if !platform.is_here() {
            return None;
        }
        let server = ObjectServer::start(platform).unwrap();
        server.bucket("logs").unwrap();
        let proxy = Proxy::before(server.address(), 1).unwrap();
        let variables = server.variables_at(proxy.address());
        let folder = tempfile::tempdir().unwrap();
        write_token(folder.path());
        let store = format!("{}/ours", server.url("logs"));
        sql(
            &folder.path().join("app.db"),
            "PRAGMA journal_mode = WAL; CREATE TABLE t (a INTEGER PRIMARY KEY, b);",
        );
        let sequencer = sequencer(folder.path(), &store, &variables, "127.0.0.1:0");
        let listening = sequencer.event("listening", |_| true);
        let (url, key) = (text(&listening["url"]), text(&listening["key"]));
        let address = url.trim_start_matches("http://").to_owned();
        let agent = agent(folder.path(), &address, &key);
        agent.how();
        let validator = validator(folder.path(), &store, &variables, &key);
        let (_server, commits) = (server, 0);
        Some(Self {
            _server,
            proxy,
            folder,
            variables,
            store,
            sequencer,
            validator,
            agent,
            address,
            key,
            commits,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The application commits, and waits for nobody.
    fn write(&mut self) {
        for _ in 0..COMMITS {
            self.commits += 1;
            sql(&self.path("app.db"), &format!("INSERT INTO t VALUES ({0}, 'row {0}');", self.commits));
        }
    }

    /// Waits until the agent says this of itself.
    fn agent_says(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            let said = status(&self.path("app.db-synddb"));
            if said.as_ref().is_some_and(&is_so) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {said:#?}");
            std::thread::yield_now();
        }
    }

    /// Waits until everything committed has a receipt, although nothing of it is stored.
    fn is_acknowledged(&self) {
        let all = self.commits + 1;
        self.agent_says("it is acknowledged, and not stored", |status| {
            let is_taken = status["next"]["commit"] == all && status["sequenced_next"]["commit"] == all;
            is_taken && status["stored_next"]["commit"].as_u64() < Some(all)
        });
    }

    fn restart_sequencer(&mut self) {
        self.sequencer.kill();
        self.sequencer = sequencer(self.folder.path(), &self.store, &self.variables, &self.address);
        self.sequencer.event("listening", |_| true);
    }

    fn restart_validator(&mut self) {
        self.validator.kill();
        self.validator = validator(self.folder.path(), &self.store, &self.variables, &self.key);
    }

    /// Waits until everything committed is in the replica, and makes sure that both are equal.
    fn assert_equal(&mut self) {
        let url = text(&self.validator.event("listening", |_| true)["url"]);
        let (app, home) = (self.path("app.db"), self.path("app.db-synddb"));
        let arguments = ["wait", app.to_str().unwrap(), "--dir", home.to_str().unwrap(), "--json"];
        let waits = ["--applied", "--timeout", PATIENCE_TEXT, "--validator", &url];
        let (exit, told, errors) = run(synddb(arguments.into_iter().chain(waits)));
        assert_eq!(exit, 0, "{told}{errors}\n{:#?}", self.validator.events());
        let (exit, told, errors) = diff(&app, &self.path("replica.db"));
        assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
        for role in [&mut self.sequencer, &mut self.validator, &mut self.agent] {
            assert_eq!(role.has_ended(), None, "{:#?}", role.events());
        }
    }
}

fn with(mut command: Command, variables: &[(String, String)]) -> Role {
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    Role::start(command)
}

fn sequencer(folder: &Path, store: &str, variables: &[(String, String)], address: &str) -> Role {
    let arguments = ["sequencer", "--listen", address, "--batch-age-ms", "5", "--stop-on-eof", "--json"];
    let mut command = synddb(arguments.into_iter().chain(["--store", store]));
    command.arg("--dir").arg(folder.join("sequencer"));
    command.arg("--credentials-file").arg(super::roles::credentials(folder));
    command.arg("--key-file").arg(folder.join("key"));
    with(command, variables)
}

fn validator(folder: &Path, store: &str, variables: &[(String, String)], key: &str) -> Role {
    let stream = synddb_agent::stream_of(&folder.join("app.db-synddb")).unwrap().to_string();
    let arguments = ["validator", "--listen", "127.0.0.1:0", "--stop-on-eof", "--json", "--store", store];
    let mut command = synddb(arguments.into_iter().chain(["--stream", &stream, "--sequencer-key", key]));
    command.arg("--replica").arg(folder.join("replica.db"));
    with(command, variables)
}

fn agent(folder: &Path, address: &str, key: &str) -> Role {
    let mut command = synddb(["follow", "--json", "--stop-on-eof", "--sequencer-key", key]);
    command.args(["--sequencer", &format!("http://{address}")]);
    command.arg(folder.join("app.db")).arg("--dir").arg(folder.join("app.db-synddb"));
    command.arg("--token-file").arg(folder.join("token"));
    Role::start(command)
}

#[test]
fn an_application_writes_on_while_the_store_is_away_and_its_replica_catches_up() {
    for platform in Platform::ALL {
        let Some(mut story) = Story::begin(platform) else { continue };
        story.write();
        story.assert_equal();

        story.proxy.black_out(Some(Blackout::Refuses));
        story.write();
        // The sequencer takes it, although the store does not.
        story.is_acknowledged();
        story.restart_sequencer();
        story.restart_validator();
        story.write();
        let all = story.commits + 1;
        story.agent_says("the outbox keeps what nobody takes", |status| {
            let is_kept = status["pending"]["submissions"].as_u64() > Some(0);
            is_kept
                && status["next"]["commit"] == all
                && status["sequenced_next"]["commit"].as_u64() < Some(all)
        });
        story.proxy.black_out(None);
        story.assert_equal();

        story.proxy.strike(Fault::Denied, 1000);
        story.write();
        story.is_acknowledged();
        let denied = story.proxy.counts().total();
        let begun = Instant::now();
        // The sequencer and the replica both ask, and are refused.
        while story.proxy.counts().total() < denied + 6 {
            assert!(begun.elapsed() < PATIENCE, "{:?}", story.proxy.counts());
            std::thread::yield_now();
        }
        story.proxy.clear();
        story.assert_equal();
    }
}
