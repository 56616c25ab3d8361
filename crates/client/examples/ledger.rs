//! A ledger in an application's own process: each transfer is one commit, captured in its own transaction.
//!
//! Against a running `synddb sequencer`, whose `--credentials-file` lists what is in the file `token` (crates/cli/README.md):
//!
//! ```sh
//! cargo run -p synddb-client --example ledger --features embedded -- ledger.db http://127.0.0.1:8433 token
//! ```
//!
//! It makes `ledger.db`, in WAL mode, and beside it the folder `ledger.db-synddb` of what is still to be sent.

use std::time::{Duration, Instant};

use synddb_client::{Database, Error, Location, Options, Until};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let [Some(path), Some(url), Some(token)] = [arguments.next(), arguments.next(), arguments.next()] else {
        return Err("usage: ledger <database> <sequencer url> <token file>".into());
    };
    let token = std::fs::read_to_string(token)?.trim().to_owned();
    let options = Options::new(format!("{path}-synddb"), url, token);
    let mut ledger = Database::open(&Location::File(path.into()), &options, |event| eprintln!("{event:?}"))?;

    ledger.schema(|sqlite| {
        Ok::<_, Error>(sqlite.execute_batch(
            "CREATE TABLE IF NOT EXISTS account(name TEXT PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents >= 0));
             INSERT OR IGNORE INTO account VALUES('alice', 1000), ('bob', 0)",
        )?)
    })?;
    for cents in [300, 5000] {
        let moved = ledger.write(|sqlite| {
            sqlite.execute("UPDATE account SET cents = cents + ?1 WHERE name = 'bob'", [cents])?;
            sqlite.execute("UPDATE account SET cents = cents - ?1 WHERE name = 'alice'", [cents])?;
            Ok::<_, Error>(())
        });
        // The second one is refused by the CHECK, and leaves nothing behind.
        println!("{cents} cents: {}", if moved.is_ok() { "moved" } else { "refused" });
    }
    let status = ledger.push(Until::Stored, Instant::now() + Duration::from_secs(30))?;
    println!("stored, up to commit {}", status.committed_next.commit.get() - 1);
    ledger.close()?;
    Ok(())
}
