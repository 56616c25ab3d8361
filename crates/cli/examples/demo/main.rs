//! The main job, start to end: an application that knows nothing of SyndDB writes, and a replica that nobody needs to trust comes out.
//!
//! ```text
//! sqlite3, python3 -> app.db -> synddb dev -> store -> copied to an empty folder -> synddb replica -> equal, row by row
//! ```
//!
//! With `--store gs://bucket/prefix` and the like the store is there, and a replica is rebuilt from there: nothing needs to be copied. Run it with `cargo xtask demo`. It uses the command as anybody would, as a process; nothing here reaches into it.

mod dev;
mod programs;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use dev::Dev;
use programs::{Synddb, copy_folder, python, shell};

/// What the application begins with.
const SCHEMA: &str = "
CREATE TABLE account (name TEXT PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0)) WITHOUT ROWID;
CREATE TABLE transfer (id INTEGER PRIMARY KEY, source TEXT, target TEXT, amount INTEGER, note TEXT);
CREATE VIRTUAL TABLE note USING fts5(text);
CREATE TRIGGER log_note AFTER INSERT ON transfer BEGIN INSERT INTO note (rowid, text) VALUES (new.id, new.note); END;
INSERT INTO account VALUES ('alice', 1000), ('bob', 500), ('carol', 0);";

/// A program that somebody wrote long before: plain Python with the `sqlite3` module of its standard library.
const TRANSFERS: &str = r#"
import random, sqlite3, sys
random.seed(int(sys.argv[3]))
bank = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
for number in range(int(sys.argv[2])):
    source, target = random.sample(["alice", "bob", "carol"], 2)
    amount = random.randint(1, 20)
    bank.execute("BEGIN IMMEDIATE")
    if bank.execute("SELECT balance FROM account WHERE name = ?", (source,)).fetchone()[0] < amount:
        bank.execute("ROLLBACK")
        continue
    bank.execute("UPDATE account SET balance = balance - ? WHERE name = ?", (amount, source))
    bank.execute("UPDATE account SET balance = balance + ? WHERE name = ?", (amount, target))
    bank.execute("INSERT INTO transfer (source, target, amount, note) VALUES (?, ?, ?, ?)",
                 (source, target, amount, f"transfer {number} of {amount}"))
    bank.execute("COMMIT")
print(bank.execute("SELECT count(*) FROM transfer").fetchone()[0], "transfers in app.db")
"#;

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let scratch = tempfile::tempdir()?;
    let folder = arguments.keep.clone().unwrap_or_else(|| scratch.path().to_owned());
    fs::create_dir_all(&folder)?;
    ensure!(
        fs::read_dir(&folder)?.next().is_none(),
        "the folder is not empty. folder=`{}`",
        folder.display()
    );
    let synddb = Synddb::new(arguments.synddb);
    let app = folder.join("app.db");

    step("The application: a bank in app.db, made with the sqlite3 shell. It knows nothing of SyndDB.");
    shell(&app, SCHEMA)?;

    step("`synddb dev app.db`: agent, sequencer and validator, each a process, beside it.");
    let dev = Dev::start(&synddb, &app, arguments.store.as_deref())?;
    println!("  stream {}\n  store {}\n  the log is signed with {}", dev.stream, dev.store, dev.key);

    step("The sqlite3 shell pays, and the rows arrive in the replica.");
    shell(&app, "UPDATE account SET balance = balance - 10 WHERE name = 'alice';")?;
    shell(&app, "INSERT INTO transfer VALUES (1, 'alice', 'carol', 10, 'rent');")?;
    synddb.wait(&app)?;
    show(&dev.replica)?;

    step("Python makes 300 transfers.");
    print!("  {}", python(TRANSFERS, &[&text(&app)?, "300", "1"])?);
    synddb.wait(&app)?;
    show(&dev.replica)?;

    step(
        "The validator is stopped. Python goes on, and the shell changes the schema: nobody waits for a validator.",
    );
    dev.freeze_validator()?;
    print!("  {}", python(TRANSFERS, &[&text(&app)?, "300", "2"])?);
    shell(
        &app,
        "ALTER TABLE account ADD COLUMN opened TEXT DEFAULT '2026'; CREATE INDEX by_amount ON transfer (amount);",
    )?;
    println!("  replica: {} transfers", count(&dev.replica)?.trim());
    ensure!(
        synddb.wait_for(&app, "200ms").is_err(),
        "`synddb wait` must not succeed while the validator stands still"
    );

    step("Now it is killed. `dev` starts another one, which goes on where the replica stands.");
    dev.kill_validator()?;
    synddb.wait(&app)?;
    show(&dev.replica)?;

    step("A backup for later, made by SQLite itself; then everything is stopped.");
    let backup = folder.join("backup.db");
    shell(&app, &format!(".backup '{}'", text(&backup)?))?;
    let (stream, key, store) = (dev.stream.clone(), dev.key.clone(), dev.store.clone());
    dev.stop()?;

    step(
        "The proof: app.db is moved away, and a replica is rebuilt in an empty folder from the store alone.",
    );
    let elsewhere = folder.join("elsewhere");
    fs::create_dir(&elsewhere)?;
    for suffix in ["", "-wal", "-shm"] {
        let from = folder.join(format!("app.db{suffix}"));
        if from.exists() {
            fs::rename(&from, folder.join(format!("moved-away.db{suffix}")))?;
        }
    }
    let rebuilt = elsewhere.join("replica.db");
    let url = match store.strip_prefix("file://") {
        Some(store) => {
            println!("  cp -r {store} store");
            copy_folder(Path::new(store), &elsewhere.join("store"))?;
            format!("file://{}", text(&fs::canonicalize(elsewhere.join("store"))?)?)
        }
        None => store,
    };
    println!("  synddb replica --store {url} --stream {stream} --sequencer-key {key} --once replica.db");
    synddb.run(&[
        "replica",
        "--store",
        &url,
        "--stream",
        &stream,
        "--sequencer-key",
        &key,
        "--once",
        &text(&rebuilt)?,
    ])?;
    println!("  synddb diff backup.db replica.db");
    print!("  {}", synddb.run(&["diff", &text(&backup)?, &text(&rebuilt)?])?);
    println!(
        "\nEvery row, the schema and the state hash are the application's, and nobody had to be trusted but the key."
    );
    if arguments.keep.is_some() {
        println!("Kept in {}", folder.display());
    }
    Ok(())
}

struct Arguments {
    synddb: PathBuf,
    keep: Option<PathBuf>,
    store: Option<String>,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let (mut synddb, mut keep, mut store) = (None, None, None);
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next();
            match word.as_str() {
                "--synddb" => synddb = value.map(PathBuf::from),
                "--keep" => keep = value.map(PathBuf::from),
                "--store" => store = value,
                other => anyhow::bail!("unknown argument. argument=`{other}`"),
            }
        }
        let synddb = synddb.context("name the command with --synddb PATH; `cargo xtask demo` does")?;
        Ok(Self { synddb, keep, store })
    }
}

fn step(what: &str) {
    println!("\n{what}");
}

/// Prints what the replica holds, as the sqlite3 shell reads it.
fn show(replica: &Path) -> Result<()> {
    let balances = shell(replica, "SELECT name || ' ' || balance FROM account;")?;
    let balances: Vec<&str> = balances.lines().collect();
    println!("  replica: {} transfers; {}", count(replica)?.trim(), balances.join(", "));
    Ok(())
}

fn count(replica: &Path) -> Result<String> {
    shell(replica, "SELECT count(*) FROM transfer;")
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("the folder's name must be UTF-8")?.to_owned())
}
