//! Rules, refusals and endorsements: what is found stops endorsement, and nothing else.

/// The example is a workspace of its own, so that it is what its readers would write; here it is compiled and tested with what it is an example of.
#[path = "../../../../../examples/rules/conserved-supply/src/main.rs"]
#[allow(dead_code, reason = "nobody runs the program here")]
mod conserved_supply;
mod endorsed;
mod inbox;
mod messages;
mod node;
mod outbound;
mod refused;
mod replaced;
mod started;

use std::collections::BTreeMap;
use std::path::Path;

use synddb_protocol::id::{Address, Sequence, Timestamp};
use synddb_protocol::log::SignedEndorsement;
use synddb_protocol::signing::SigningKey;
use synddb_storage::{BatchStore as _, Folder, Key, Kind, PageLimit, Start};
use synddb_validator::rules::{Resolution, Seen, violations_of};
use synddb_validator::{Config, EndorseConfig, Event, Mode};

use super::log::{Log, STREAM};
use super::running::Running;

const SETUP: &str = "CREATE TABLE balances(account INTEGER PRIMARY KEY, amount INT); INSERT INTO balances VALUES(1, 100), (2, 100)";

const RULES: &str = r#"
[[rule]]
name = "no negative balance"
tables = ["balances"]
sql = "SELECT account, amount FROM changed_balances WHERE amount < 0"
"#;

/// A configuration that endorses, with these rules.
fn endorsing(log: &Log, rules: &str) -> Config {
    let file = log.folder.path().join("rules.toml");
    std::fs::write(&file, rules).unwrap();
    let endorse = EndorseConfig {
        on: true,
        key_file: log.folder.path().join("endorse.key"),
        ..EndorseConfig::default()
    };
    let listen = Some("127.0.0.1:0".parse().unwrap());
    Config { rules: Some(file), endorse, listen, ..log.config(Mode::Follow) }
}

/// Everything that lies in the store of endorsements, each checked against its name.
async fn stored(log: &Log) -> BTreeMap<Sequence, SignedEndorsement> {
    let folder = Folder { stream: STREAM, kind: Kind::Endorsement };
    let page = log.store.list(&Start::of(folder), PageLimit::MAX).await.unwrap();
    assert_eq!(page.next, None);
    let mut found = BTreeMap::new();
    for key in page.keys {
        let Key::Endorsement { sequence, validator, .. } = key else { panic!("{key}") };
        let endorsement =
            SignedEndorsement::from_bytes(&log.store.get(&key).await.unwrap().unwrap()).unwrap();
        assert_eq!(endorsement.recover(), Some(validator));
        assert_eq!(endorsement.endorsement().sequence(), sequence);
        assert_eq!(found.insert(sequence, endorsement), None, "one for each place");
    }
    found
}

async fn last_endorsed(log: &Log) -> Option<u64> {
    stored(log).await.last_key_value().map(|(sequence, _)| sequence.get())
}

async fn until_endorsed(running: &mut Running, wanted: Sequence) {
    running.until(|event| matches!(event, Event::Endorsed { sequence } if *sequence >= wanted)).await;
}

/// One that has everything that the store held when it began.
async fn caught_up(config: Config) -> Running {
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    running
}

/// Has a run without rules apply everything that is stored.
async fn apply_unjudged(log: &Log) {
    let mut running = Running::start(log.config(Mode::Follow));
    running.until_applied(log.last()).await;
    running.stop().await.unwrap();
}

/// What is open, by rule and message.
async fn open(running: &mut Running) -> Vec<(String, u64)> {
    let (code, refusals) = running.get_json("/refusals").await;
    assert_eq!(code, 200, "{refusals}");
    let open = refusals.as_array().unwrap().iter().filter(|refusal| refusal["resolved_at"].is_null());
    open.map(|refusal| (refusal["rule"].as_str().unwrap().to_owned(), refusal["sequence"].as_u64().unwrap()))
        .collect()
}

fn resolve(replica: &Path, id: u64) {
    let kept = violations_of(replica).unwrap().into_iter().find(|kept| kept.id == id).unwrap();
    let (seen, because) = (Seen::from(&kept), "paid back by hand".to_owned());
    let at = Timestamp::from_ms(1_800_000_000_000).unwrap();
    Resolution { id, seen, at, because }.leave(replica).unwrap();
}
