//! A validator that endorses is killed again and again, at any moment: no place is ever endorsed twice, whatever it would sign the next time.
//!
//! ```sh
//! SYNDDB_ENDORSE_KILLS=1000 cargo test --release -p synddb-cli --test it ruled::kills -- --nocapture
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use synddb_protocol::id::Sequence;
use synddb_protocol::log::SignedEndorsement;

use super::*;
use crate::chance::Chance;
use crate::dev::curl;
use crate::programs::sql;
use crate::roles::{Role, System};

/// Kills, unless the environment says.
const KILLS: u64 = 12;
/// How long it runs until then, in milliseconds at most.
const RUNS_MS: u64 = 250;

/// The command of the validator that endorses, for a contract of its own each time: what it signs of a place differs from start to start.
fn validator(system: &System, folder: &Path, start: u64) -> std::process::Command {
    let mut command = synddb(["validator", "--listen", "127.0.0.1:0", "--stop-on-eof", "--json"]);
    let stream = synddb_agent::stream_of(&system.home).unwrap().to_string();
    command.arg("--replica").arg(folder.join("endorsed.db")).args(["--store", &system.store()]);
    command.args(["--stream", &stream, "--sequencer-key", &system.key]);
    command.arg("--endorse-key").arg(folder.join("endorse.key"));
    command.env("SYNDDB_VALIDATOR_POLL_MS_MAX", "10");
    command.env("SYNDDB_VALIDATOR_ENDORSE__CHAIN_ID", (start + 1).to_string());
    command.env("SYNDDB_VALIDATOR_ENDORSE__REGISTRY", format!("0x{:040x}", start + 1));
    command
}

fn objects(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| if entry.path().is_dir() { objects(&entry.path()) } else { vec![entry.path()] })
        .collect()
}

/// Notes an endorsement that somebody could see. There is one for each place.
fn note(seen: &mut BTreeMap<Sequence, SignedEndorsement>, bytes: &[u8]) {
    let endorsement = SignedEndorsement::from_bytes(bytes).unwrap();
    assert!(endorsement.recover().is_some());
    let sequence = endorsement.endorsement().sequence();
    let kept = seen.entry(sequence).or_insert_with(|| endorsement.clone());
    assert_eq!(*kept, endorsement, "two endorsements of message {sequence}");
}

#[test]
fn no_place_is_endorsed_twice_whenever_the_validator_is_killed() {
    let kills =
        std::env::var("SYNDDB_ENDORSE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), SETUP);
    let system = System::start(folder.path());
    let _agent = system.follow();
    let application = synddb_sqlite::rusqlite::Connection::open(&system.app).unwrap();
    application.busy_timeout(crate::roles::PATIENCE).unwrap();
    let (mut chance, mut seen) = (Chance::new(9), BTreeMap::new());
    let (mut most, mut with_work) = (0, 0);
    for kill in 0..kills {
        let before = seen.len();
        let mut running = Role::start(validator(&system, folder.path(), kill));
        let until = Instant::now() + Duration::from_millis(chance.below(RUNS_MS));
        let mut url = None;
        loop {
            application.execute("UPDATE balances SET amount = amount + 1 WHERE account = 1", []).unwrap();
            std::thread::park_timeout(Duration::from_millis(10));
            url = url.or_else(|| {
                let events = running.events();
                let listening = events.iter().find(|event| event["event"] == "listening");
                listening.map(|event| event["url"].as_str().unwrap().to_owned())
            });
            // At least one of them comes so far.
            let has_endorsed = || running.events().iter().any(|event| event["event"] == "endorsed");
            if Instant::now() >= until && (kill % 4 > 0 || has_endorsed()) {
                break;
            }
            assert!(until.elapsed() < crate::roles::PATIENCE, "nothing is endorsed: {:?}", running.events());
        }
        if let Some(url) = &url {
            let (code, served) = curl(&[&format!("{url}/endorsements")]);
            if code == 200 {
                let text = served["endorsement"].as_str().unwrap();
                note(&mut seen, &hex::decode(text.trim_start_matches("0x")).unwrap());
            }
        }
        running.kill();
        let stream = synddb_agent::stream_of(&system.home).unwrap().to_key();
        let lies = folder.path().join("store").join(stream).join("endorsements");
        for object in objects(&lies) {
            // What a kill leaves of a put is no object.
            if object.extension().is_some_and(|extension| extension == "cbor") {
                note(&mut seen, &std::fs::read(object).unwrap());
            }
        }
        most = most.max(seen.last_key_value().map_or(0, |(sequence, _)| sequence.get()));
        with_work += u64::from(seen.len() > before);
    }
    println!(
        "{kills} kills, of which {with_work} came after an endorsement; {} places endorsed, to message {most}",
        seen.len()
    );
    assert!(with_work > 0, "nothing was endorsed");
    // It goes on.
    let running = Role::start(validator(&system, folder.path(), kills));
    application.execute("UPDATE balances SET amount = amount + 1 WHERE account = 2", []).unwrap();
    running.event("endorsed", |event| event["sequence"].as_u64() > Some(most));
    system.assert_equal();
}
