//! An agent and a validator that speak TLS with a sequencer, and what they say when it does not come about.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use synddb_servers::{Authority, Pair};

use super::request::metrics;
use super::{address, list_certificate, tls, token, warned};
use crate::processes::{run, synddb};
use crate::programs::sql;
use crate::roles::{PATIENCE_TEXT, Role, make_store, sequencer_as, store, write_token};

/// An agent of `app.db` in a folder, for a sequencer at this URL.
fn agent(folder: &Path, url: &str) -> Command {
    let mut command = synddb([
        "follow",
        "--json",
        "--stop-on-eof",
        "--no-pin",
        "--drain-timeout",
        "0s",
        "--sequencer",
        url,
    ]);
    command.arg(folder.join("app.db"));
    command
}

/// A sequencer that speaks TLS, and lets those read who show no certificate, as a validator does.
fn start_sequencer(folder: &Path, authority: &Authority, listed: (&str, &Pair), at: &str) -> Role {
    let mut command = tls::sequencer(folder, authority, listed, at);
    command.env("SYNDDB_SEQUENCER_TLS__CLIENT_CERTIFICATES", "optional");
    Role::start(command)
}

#[test]
fn a_certificate_writes_over_tls_and_is_exchanged_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_store(folder);
    let app = folder.join("app.db");
    sql(
        &app,
        "CREATE TABLE t (number INTEGER PRIMARY KEY, text TEXT); INSERT INTO t (text) VALUES ('first');",
    );
    let authority = Authority::new("ours").unwrap();
    let first = authority.client("first").unwrap();
    first.write(folder, "client").unwrap();
    let mut sequencer = start_sequencer(folder, &authority, ("first", &first), "127.0.0.1:0");
    let listening = sequencer.event("listening", |_| true);
    let url = listening["url"].as_str().unwrap();
    assert!(url.starts_with("https://"), "{url}");
    let mut command = agent(folder, url);
    tls::show_certificate(&mut command, folder);
    let follower = Role::start(command);
    follower.how();
    let stream = synddb_agent::stream_of(&folder.join("app.db-synddb")).unwrap().to_string();
    let key = listening["key"].as_str().unwrap();
    let mut command = synddb(["validator", "--listen", "127.0.0.1:0", "--stop-on-eof", "--json"]);
    command.args([
        "--store",
        &store(folder),
        "--stream",
        &stream,
        "--sequencer-key",
        key,
        "--sequencer",
        url,
    ]);
    command
        .arg("--sequencer-ca-file")
        .arg(folder.join("ca.pem"))
        .arg("--replica")
        .arg(folder.join("replica.db"));
    tls::serve(&mut command, folder);
    command.env("SYNDDB_LOG", "synddb_validator=debug").stderr(File::create(folder.join("log")).unwrap());
    let validator = Role::start(command);
    let validator_url = format!("https://{}", address(&validator));
    let wait = |ca_file: Option<&str>| {
        let waits =
            ["wait", app.to_str().unwrap(), "--timeout", PATIENCE_TEXT, "--validator", &validator_url];
        let mut command = synddb(waits);
        command.args(ca_file.iter().flat_map(|file| ["--ca-file".into(), folder.join(file)]));
        command
    };
    let reaches_the_replica = || {
        let (exit, told, errors) = run(wait(Some("ca.pem")));
        assert_eq!(exit, 0, "{told}{errors}{:#?}", follower.events());
    };
    reaches_the_replica();
    asks_the_replica(folder, &wait, &validator_url);

    let second = authority.client("second").unwrap();
    list_certificate(folder, "second", &second.sha256);
    second.write(folder, "client").unwrap();
    token(folder, &["revoke", "first"]);
    sql(&app, "INSERT INTO t (text) VALUES ('second');");
    reaches_the_replica();
    let told: Vec<_> = follower.events().into_iter().filter(|event| event["event"] == "warning").collect();
    assert!(told.is_empty(), "{told:#?}");
    // The validator hears news over TLS: what it gets otherwise is that nothing is stored yet.
    let log = fs::read_to_string(folder.join("log")).unwrap();
    assert!(!log.contains("error sending request"), "{log}");

    // Another authority altogether: what sends and what looks for promises both take it up.
    let at = address(&sequencer);
    sequencer.end();
    let authority = Authority::new("another").unwrap();
    let third = authority.client("third").unwrap();
    third.write(folder, "client").unwrap();
    let _sequencer = start_sequencer(folder, &authority, ("first", &third), &at);
    sql(&app, "INSERT INTO t (text) VALUES ('third');");
    let (exit, told, errors) =
        run(synddb(["push", app.to_str().unwrap(), "--stored", "--timeout", PATIENCE_TEXT]));
    assert_eq!(exit, 0, "{told}{errors}{:#?}", follower.events());
}

/// Who asks a replica believes the authority that is named, and no other; without one, those of the system.
fn asks_the_replica(folder: &Path, wait: &dyn Fn(Option<&str>) -> Command, url: &str) {
    let mut by_the_system = wait(None);
    by_the_system.env("SSL_CERT_FILE", folder.join("ca.pem"));
    let (exit, told, errors) = run(by_the_system);
    assert_eq!(exit, 0, "{told}{errors}");
    fs::write(folder.join("theirs.pem"), Authority::new("theirs").unwrap().pem()).unwrap();
    fs::write(folder.join("none.pem"), "no certificate").unwrap();
    let pem_of_nothing = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(folder.join("broken.pem"), pem_of_nothing).unwrap();
    let diff = |ca_file: &str| {
        let mut command = synddb(["diff", "--remote", "--timeout", PATIENCE_TEXT, url]);
        command.arg(folder.join("app.db")).arg("--ca-file").arg(folder.join(ca_file));
        run(command)
    };
    let (exit, told, errors) = diff("ca.pem");
    assert_eq!(exit, 0, "{told}{errors}");
    let (exit, told, errors) = diff("theirs.pem");
    assert_eq!(exit, 3, "{told}{errors}");
    assert!(errors.contains("does not answer") && errors.contains("certificate"), "{errors}");
    for file in ["none.pem", "broken.pem", "missing.pem"] {
        let refused = [diff(file), run(wait(Some(file)))];
        for (exit, told, errors) in refused {
            assert_eq!(exit, 2, "{file}: {told}{errors}");
            assert!(errors.contains("certificates in PEM with --ca-file"), "{file}: {errors}");
        }
    }
}

#[test]
fn a_token_that_goes_without_tls_to_another_machine_is_warned_of_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_token(folder);
    sql(&folder.join("app.db"), "CREATE TABLE t (number INTEGER);");
    let warnings = |url: &str| {
        let mut command = agent(folder, url);
        command.arg("--token-file").arg(folder.join("token"));
        let mut agent = Role::start(command);
        agent.how();
        agent.kill();
        let told = agent.events().into_iter().filter(|event| event["event"] == "token_in_plain");
        told.map(|event| event["sequencers"].to_string()).collect::<Vec<_>>()
    };
    let nobody = "http://sequencer.invalid:8433/,http://127.0.0.1:1,https://sequencer.invalid";
    assert_eq!(warnings(nobody), [r#"["http://sequencer.invalid:8433"]"#]);
    assert!(warnings("http://127.0.0.1:1").is_empty());
}

#[test]
fn what_is_wrong_with_tls_is_said_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_store(folder);
    sql(&folder.join("app.db"), "CREATE TABLE t (number INTEGER);");
    let (ours, theirs) = (Authority::new("ours").unwrap(), Authority::new("theirs").unwrap());
    let with_tls = start_sequencer(folder, &ours, ("first", &ours.client("first").unwrap()), "127.0.0.1:0");
    let plain = Role::start(sequencer_as(folder, "plain", "127.0.0.1:0"));
    let (with_tls, plain) = (address(&with_tls), address(&plain));
    write_token(folder);
    fs::write(folder.join("theirs.pem"), theirs.pem()).unwrap();
    ours.expired_client("expired").unwrap().write(folder, "expired").unwrap();
    for (url, authority, shows, says) in [
        (format!("http://{with_tls}"), "ca.pem", None, "this port speaks TLS; write https://"),
        (format!("https://{plain}"), "ca.pem", None, "does not speak TLS; write http://"),
        (
            format!("https://{with_tls}"),
            "theirs.pem",
            None,
            "certificate is not believed; give its authority",
        ),
        (format!("https://{with_tls}"), "ca.pem", Some("expired"), "ends the TLS connection"),
    ] {
        let mut command = agent(folder, &url);
        command.arg("--token-file").arg(folder.join("token")).arg("--ca-file").arg(folder.join(authority));
        if let Some(shows) = shows {
            command.arg("--client-certificate").arg(folder.join(format!("{shows}.pem")));
            command.arg("--client-key").arg(folder.join(format!("{shows}.key")));
        }
        let mut follower = Role::start(command);
        let detail = warned(&follower)["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(says), "{url}: {detail}");
        follower.kill();
    }
    assert!(metrics(&plain).contains("synddb_"), "the plain one goes on");

    // What can be refused at the start is.
    ours.client("mine").unwrap().write(folder, "mine").unwrap();
    ours.client("other").unwrap().write(folder, "other").unwrap();
    for (certificate, key, says) in [
        ("mine.pem", "other.key", "of one pair"),
        ("mine.key", "mine.key", "malformed"),
        ("mine.pem", "mine.pem", "chmod 600"),
        ("no.pem", "mine.key", "check its path"),
    ] {
        let mut command = synddb(["follow", "--sequencer", "https://127.0.0.1:1"]);
        command.arg(folder.join("app.db"));
        command
            .arg("--client-certificate")
            .arg(folder.join(certificate))
            .arg("--client-key")
            .arg(folder.join(key));
        let (exit, told, errors) = run(command);
        assert_eq!((exit, told.as_str()), (2, ""), "{certificate} {key}: {errors}");
        assert!(errors.contains(says), "{errors}");
    }
}
