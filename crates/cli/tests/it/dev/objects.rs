//! `dev` with its log in an object store: a real server of each kind, the `sqlite3` shell as the writer.
//!
//! What a client needs to reach the store comes to `dev` by its environment and, when it is started again, by the file `.env`; its processes
//! have nothing else.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use synddb_servers::{ObjectServer, Platform};

use super::Dev;
use crate::processes::{diff, run, synddb};
use crate::programs::sql;

/// A server with a bucket, and where in it logs go.
struct Objects {
    server: ObjectServer,
    store: String,
}

impl Objects {
    fn start(platform: Platform) -> Self {
        let server = ObjectServer::start(platform).unwrap();
        server.bucket("logs").unwrap();
        let store = format!("{}/of/applications", server.url("logs"));
        Self { server, store }
    }

    fn dev(&self, folder: &Path) -> Dev {
        Dev::start_with(folder, |command| {
            command.args(["--store", &self.store]).envs(self.server.variables());
        })
    }

    /// The same where the environment lacks what the file `.env` has.
    fn dev_told_by_file(&self, folder: &Path) -> Dev {
        let mut text = String::new();
        for (name, value) in self.server.variables() {
            writeln!(text, "{name}='{value}'").unwrap();
        }
        fs::write(folder.join(".env"), text).unwrap();
        Dev::start_with(folder, |command| {
            command.args(["--store", &self.store]).current_dir(folder);
        })
    }

    /// Runs a command that reads the log, and makes sure that it succeeds.
    fn read(&self, arguments: &[&str]) -> String {
        let mut command = synddb(arguments.iter().copied());
        command.envs(self.server.variables());
        let (exit, told, errors) = run(command);
        assert_eq!(exit, 0, "{arguments:?}: {told}{errors}");
        told
    }
}

fn the_whole_walk(platform: Platform) {
    if !platform.is_here() {
        return;
    }
    let objects = Objects::start(platform);
    let (folder, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a PRIMARY KEY, b); INSERT INTO t VALUES (1, 'one');");
    let dev = objects.dev(folder.path());
    sql(&app, "INSERT INTO t VALUES (2, x'00ff'); ALTER TABLE t ADD COLUMN c DEFAULT 2.5;");
    dev.assert_replica_equals();
    assert!(!dev.folder.join("store").exists(), "there is a store in the folder as well");

    // Another database beside it in one bucket, at the same time.
    sql(&second.path().join("app.db"), "CREATE TABLE other (a); INSERT INTO other VALUES ('x');");
    let beside = objects.dev(second.path());
    sql(&beside.app, "INSERT INTO other VALUES ('y');");
    sql(&app, "DELETE FROM t WHERE a = 1;");
    beside.assert_replica_equals();
    assert_ne!(beside.running("stream"), dev.running("stream"));
    beside.stop();

    sql(
        &app,
        "WITH RECURSIVE n(n) AS (SELECT 10 UNION ALL SELECT n + 1 FROM n WHERE n < 500) INSERT INTO t SELECT n, 'row', n FROM n;",
    );
    dev.kill_everything();
    sql(&app, "UPDATE t SET b = 'while nobody looked' WHERE a % 7 = 0;");
    let dev = objects.dev_told_by_file(folder.path());
    sql(&app, "DELETE FROM t WHERE a % 5 = 0; PRAGMA user_version = 9;");
    dev.assert_replica_equals();
    let (stream, key) = (dev.running("stream"), dev.running("key"));
    dev.stop();

    // Whoever has the bucket and the key needs nothing else.
    let rebuilt = second.path().join("rebuilt.db");
    let log = ["--stream", &stream, "--sequencer-key", &key];
    let rebuild = ["replica", rebuilt.to_str().unwrap(), "--once", "--store", &objects.store];
    objects.read(&[&rebuild[..], &log].concat());
    let (exit, told, errors) = diff(&app, &rebuilt);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    let told = objects.read(&[&["verify", &objects.store, "--full"][..], &log].concat());
    assert!(told.contains("the log is whole") && told.contains("beside    nothing"), "{told}");
    let shown = ["inspect", "--store", &objects.store, "--stream", &stream, "--sequence", "3"];
    assert!(objects.read(&shown).contains("message"));
}

#[test]
fn a_log_in_google_cloud_storage() {
    the_whole_walk(Platform::Gcs);
}

#[test]
fn a_log_in_s3() {
    the_whole_walk(Platform::S3);
}

#[test]
fn a_log_in_azure() {
    the_whole_walk(Platform::Azure);
}
