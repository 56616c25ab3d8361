//! An embedded database in this process, and everything behind it as processes: sequencer, store, replica.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use synddb_client::{Database, Ended, Error, Location, Options, Until};

use super::processes::{diff, run, synddb};
use super::programs::{assert_same, shown, sql};
use super::roles::{PATIENCE, shown_replica};

const TOKEN: &str = "a-token-of-more-than-thirty-two-characters";

/// `synddb sequencer` over a store in the same folder.
pub(crate) struct Sequencer {
    child: Child,
    pub(crate) url: String,
    key: String,
    store: String,
}

impl Sequencer {
    pub(crate) fn start(folder: &Path) -> Self {
        let path = |name: &str| folder.join(name).display().to_string();
        let store = format!("file://{}", path("store"));
        std::fs::create_dir(path("store")).unwrap();
        std::fs::write(path("token"), TOKEN).unwrap();
        std::fs::set_permissions(path("token"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let credentials = super::roles::credentials(folder).display().to_string();
        let (dir, key) = (path("sequencer"), path("sequencer.key"));
        let mut child = synddb(["sequencer", "--listen", "127.0.0.1:0", "--batch-age-ms", "50"])
            .args(["--store", &store, "--dir", &dir, "--credentials-file", &credentials, "--key-file", &key])
            .args(["--stop-on-eof", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(said["event"], "listening", "{line}");
        let text = |field: &str| said[field].as_str().unwrap().to_owned();
        Self { child, url: text("url"), key: text("key"), store }
    }
}

impl Drop for Sequencer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn an_embedded_database_arrives_at_a_replica() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    let sequencer = Sequencer::start(folder.path());
    let options = Options::new(folder.path().join("app.db-synddb"), sequencer.url.as_str(), TOKEN.to_owned());
    let open = || Database::open(&Location::File(app.clone()), &options, |_| {}).unwrap();
    let mut database = open();
    database
        .schema(|sqlite| {
            Ok::<_, Error>(sqlite.execute_batch(
                "CREATE TABLE account(name TEXT PRIMARY KEY, cents INTEGER CHECK (cents >= 0));
                 CREATE TABLE transfer(id INTEGER PRIMARY KEY AUTOINCREMENT, of TEXT, cents, at REAL DEFAULT 0);
                 CREATE VIRTUAL TABLE note USING fts5(words);
                 CREATE TRIGGER t AFTER INSERT ON transfer BEGIN UPDATE account SET cents = cents - new.cents WHERE name = new.of; END",
            )?)
        })
        .unwrap();
    for number in 0..200_u32 {
        let written = database.write(|sqlite| {
            sqlite.execute("INSERT OR IGNORE INTO account VALUES(?1, 500)", [format!("n{}", number % 7)])?;
            let cents = number * 37 % 90;
            sqlite.execute(
                "INSERT INTO transfer(of, cents) VALUES(?1, ?2)",
                (format!("n{}", number % 7), cents),
            )?;
            sqlite.execute("INSERT INTO note VALUES(?1)", [format!("transfer {number} of {cents}")])?;
            Ok::<_, Error>(())
        });
        // An account is empty at some time.
        assert!(written.is_ok() || number > 50, "{written:?}");
    }
    database.push(Until::Stored, Instant::now() + PATIENCE).unwrap();
    assert!(matches!(database.close().unwrap(), Ended { complete: true, .. }));
    // Another process of the application goes on with it.
    let mut database = open();
    database
        .schema(|sqlite| {
            Ok::<_, Error>(sqlite.execute_batch(
                "ALTER TABLE transfer ADD COLUMN text DEFAULT 'none'; DELETE FROM account WHERE cents = 0",
            )?)
        })
        .unwrap();
    let stream = database.status().unwrap().agent.stream.to_string();
    assert!(database.close().unwrap().complete);

    let replica = folder.path().join("replica.db");
    let (exit, told, errors) = run({
        let mut command = synddb(["replica", "--once", "--json", "--store", &sequencer.store]);
        command.args(["--stream", &stream, "--sequencer-key", &sequencer.key]).arg(&replica);
        command
    });
    assert_eq!(exit, 0, "{told}{errors}");
    let (exit, told, errors) = diff(&app, &replica);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    // To the programs of the system as well, but for the table where commits waited.
    sql(&app, "DROP TABLE _synddb_outbox;");
    assert_same(&shown(&app), &shown_replica(&replica));
}
