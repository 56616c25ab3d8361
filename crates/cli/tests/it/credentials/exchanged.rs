//! A token is exchanged while an application writes, and nobody notices; and what `synddb token` says.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::request::{is_admitted, metrics};
use super::{address, token};
use crate::processes::{run, synddb};
use crate::programs::sql;
use crate::roles::{PATIENCE, System, TOKEN, credentials, write_token};

/// How often the token is exchanged.
const ROUNDS: usize = 2;

#[test]
fn a_token_is_exchanged_while_an_application_writes_and_no_submission_fails() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let system = System::start(folder);
    let sequencer = address(&system.sequencer);
    let stream = synddb_agent::stream_of(&system.home).unwrap().to_key();
    sql(&system.app, "CREATE TABLE t (number INTEGER PRIMARY KEY, text TEXT);");
    let agent = system.follow();
    let is_admitted_here = |token: &str| is_admitted(&sequencer, &stream, token);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut written = 0;
            while !is_over.load(Ordering::Relaxed) {
                sql(&system.app, "INSERT INTO t (text) VALUES ('x');");
                written += 1;
            }
            written
        });
        let (mut old, mut old_name) = (TOKEN.to_owned(), "test".to_owned());
        for round in 0..ROUNDS {
            let name = format!("round-{round}");
            let until = Instant::now() + PATIENCE;
            let new = exchange(folder, &is_admitted_here, (&old_name, &old), &name);
            // The probes above count as well, so that the agent's are those that come when nobody probes.
            let admitted = || {
                let needle = format!("synddb_sequencer_admitted_total{{credential=\"{name}\"}} ");
                let text = metrics(&sequencer);
                let line = text.lines().find_map(|line| line.strip_prefix(&needle)).map(str::to_owned);
                line.map_or(0, |count| count.trim().parse::<u64>().unwrap())
            };
            let probes = admitted();
            while admitted() < probes + 3 {
                assert!(Instant::now() < until, "the agent does not use the new token: {:?}", agent.events());
            }
            (old, old_name) = (new, name);
        }
        is_over.store(true, Ordering::Relaxed);
        println!("{} commits were written meanwhile", writing.join().unwrap());
    });
    system.assert_replica_equals();
    let told: Vec<_> = agent.events().into_iter().filter(|event| event["event"] == "warning").collect();
    assert!(told.is_empty(), "{told:#?}");
}

#[test]
fn a_long_submission_with_a_token_that_was_revoked_is_sent_again_with_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let system = System::start(folder);
    let sequencer = address(&system.sequencer);
    let stream = synddb_agent::stream_of(&system.home).unwrap().to_key();
    sql(&system.app, "CREATE TABLE t (number INTEGER PRIMARY KEY, blob BLOB);");
    let agent = system.follow();
    system.assert_replica_equals();
    exchange(folder, &|token: &str| is_admitted(&sequencer, &stream, token), ("test", TOKEN), "second");
    // Nothing was sent meanwhile, so what is refused first is so long that it is answered, and closed upon, while it is sent.
    sql(&system.app, "INSERT INTO t (blob) VALUES (randomblob(6000000));");
    system.assert_replica_equals();
    let told: Vec<_> = agent.events().into_iter().filter(|event| event["event"] == "warning").collect();
    assert!(told.is_empty(), "{told:#?}");
}

/// Makes a token, gives it to the agent, and revokes the old one. Gives the new one as soon as the old one is refused.
fn exchange(
    folder: &Path,
    is_admitted: &dyn Fn(&str) -> bool,
    (old_name, old): (&str, &str),
    name: &str,
) -> String {
    let new = token(folder, &["new", "--name", name]);
    let until = Instant::now() + PATIENCE;
    while !is_admitted(&new) {
        assert!(Instant::now() < until, "the new token is not seen");
    }
    let staged = folder.join("token.new");
    synddb_service::secret::write_new_secret(&staged, &new).unwrap();
    fs::rename(staged, folder.join("token")).unwrap();
    token(folder, &["revoke", old_name]);
    while is_admitted(old) {
        assert!(Instant::now() < until, "the old token is not refused");
    }
    new
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let stream = "ab".repeat(32);
    let made = token(folder, &["new", "--name", "app", "--stream", &format!("0x{stream}")]);
    assert_eq!(made.len(), 64, "the token alone: {made}");
    let listed = fs::read_to_string(folder.join("credentials.toml")).unwrap();
    assert!(!listed.contains(&made) && listed.contains(&stream), "{listed}");
    let out = folder.join("other");
    let to_file =
        ["new", "--name", "other", "--expires", "2999-01-01T00:00:00Z", "--out", out.to_str().unwrap()];
    token(folder, &to_file);
    assert_eq!(fs::read_to_string(&out).unwrap().len(), 64);
    assert_eq!(
        token(folder, &["list"]),
        format!("app: token, 0x{stream}\nother: token, every stream, until 2999-01-01T00:00:00Z")
    );
    token(folder, &["revoke", "app"]);
    assert!(token(folder, &["list"]).starts_with("other"));

    let refused = |arguments: &[&str], why: &str| {
        let mut command = synddb(["token"]);
        command.args(arguments).arg("--credentials").arg(folder.join("credentials.toml"));
        let (exit, told, errors) = run(command);
        assert_eq!((exit, told.as_str()), (2, ""), "{errors}");
        assert!(errors.contains(why), "{errors}");
    };
    refused(&["revoke", "app"], "lists nothing of this name");
    refused(&["new", "--name", "other"], "lists another credential by this name");
    refused(
        &["new", "--name", "another", "--from", out.to_str().unwrap()],
        "take it out first with `synddb token revoke other`",
    );
    refused(&["new", "--name", "an app"], "letters");
    let unlisted = folder.join("unlisted");
    refused(
        &["new", "--name", "other", "--out", unlisted.to_str().unwrap()],
        "another credential by this name",
    );
    refused(
        &["new", "--name", "late", "--expires", "2020-01-01T00:00:00Z", "--out", unlisted.to_str().unwrap()],
        "a time to come",
    );
    assert!(!unlisted.exists(), "a token that nobody knows is not left behind");
    // Without a file, what is to be put into one is printed.
    let (exit, told, _) = run(synddb(["token", "new", "--name", "far", "--out", unlisted.to_str().unwrap()]));
    assert_eq!(exit, 0);
    assert!(told.starts_with("[[token]]\nname = \"far\"\nsha256 = "), "{told}");
}

#[test]
fn a_token_that_is_there_already_is_listed_without_being_shown() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_token(folder);
    let from = folder.join("token");
    let told = token(folder, &["new", "--name", "app", "--from", from.to_str().unwrap()]);
    assert!(told.contains("app may write") && !told.contains(TOKEN), "{told}");
    let listed = fs::read_to_string(folder.join("credentials.toml")).unwrap();
    let again = fs::read_to_string(credentials(folder)).unwrap();
    assert_eq!(listed.replace("app", "test"), again);
}
