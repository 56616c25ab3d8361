//! No secret is to be found where others look: in what processes say and trace, in their metrics, in stores, journals and replicas.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use synddb_servers::Authority;

use super::request::{Request, metrics};
use super::{address, tls, token};
use crate::processes::{run, synddb};
use crate::programs::sql;
use crate::roles::{PATIENCE, PATIENCE_TEXT, Role, TOKEN, make_store, sequencer_as, store};

/// So many characters of a secret in a row are a find. What traces bytes shows 16 in a line.
const FIND: usize = 14;

/// Finds secrets, also parts of them, as text and as bytes in hex.
struct Search(HashSet<Vec<u8>>);

impl Search {
    fn of(secrets: &[&str]) -> Self {
        let hex = |secret: &str| secret.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let forms = secrets.iter().flat_map(|secret| [(*secret).to_owned(), hex(secret)]);
        let parts =
            forms.flat_map(|form| form.as_bytes().windows(FIND).map(<[u8]>::to_vec).collect::<Vec<_>>());
        Self(parts.collect())
    }

    /// The first find, with what stands around it.
    fn find(&self, content: &[u8]) -> Option<String> {
        let at = content.windows(FIND).position(|window| self.0.contains(window))?;
        let around = &content[at.saturating_sub(200)..content.len().min(at + 200)];
        Some(String::from_utf8_lossy(around).into_owned())
    }
}

/// What is secret of a key of P-256 in PEM: between what all keys of its kind have and what certificates show.
fn key_material(pem: &str) -> String {
    const BEFORE: usize = 36 / 3 * 4;
    // The last digit has bits of what is behind.
    const DIGITS: usize = 32 * 8 / 6;
    let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    lines[BEFORE..BEFORE + DIGITS].to_owned()
}

/// Every file in a folder and below.
fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path(), into),
            kind if kind.is_file() => into.push(entry.path()),
            _ => {}
        }
    }
}

/// Starts a process that traces everything into a file.
fn traced(mut command: std::process::Command, log: &Path) -> Role {
    command.env("SYNDDB_LOG", "trace").stderr(File::create(log).unwrap());
    Role::start(command)
}

#[test]
fn no_secret_is_said_traced_counted_or_stored() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make_store(folder);
    let app = folder.join("app.db");
    sql(&app, "CREATE TABLE t (number INTEGER); INSERT INTO t VALUES (1);");
    let authority = Authority::new("ours").unwrap();
    let client = authority.client("machine").unwrap();
    client.write(folder, "client").unwrap();
    let log = |name: &str| folder.join(format!("{name}.log"));

    // One sequencer in plain, which is asked with everything that is refused, and one over TLS, that the agent sends to afterwards.
    let plain = traced(sequencer_as(folder, "plain", "127.0.0.1:0"), &log("plain"));
    let command = tls::sequencer(folder, &authority, ("machine", &client), "127.0.0.1:0");
    let sequencer = traced(command, &log("sequencer"));
    let (wrong, evidence) = ("wrong-".repeat(8), "eyJhbGciOiJub25lIn0.measured-and-signed.".repeat(4));
    let stream = synddb_agent::stream_of(&folder.join("app.db-synddb")).unwrap();
    let plain_address = address(&plain);
    let path = format!("/streams/{}/submit", stream.to_key());
    let bearer = |token: &str| format!("Bearer {token}");
    for (name, value, status) in [
        ("authorization", bearer(TOKEN), 400),
        ("authorization", bearer(&wrong), 401),
        ("authorization", TOKEN.to_owned(), 401),
        ("synddb-evidence", evidence.clone(), 401),
    ] {
        let headers = [(name, value.as_str())];
        let request = Request { method: "POST", path: &path, headers: &headers, body: "nothing" };
        let (found, answer) = request.send(&plain_address);
        assert_eq!(found, status, "{answer}");
        assert_eq!(Search::of(&[TOKEN, &wrong, &evidence]).find(answer.as_bytes()), None);
    }

    let listening = sequencer.event("listening", |_| true);
    let (url, key) = (listening["url"].as_str().unwrap(), listening["key"].as_str().unwrap());
    let mut command =
        synddb(["follow", "--json", "--stop-on-eof", "--no-pin", "--port", "0", "--sequencer", url]);
    command.arg(&app).arg("--token-file").arg(folder.join("token"));
    tls::show_certificate(&mut command, folder);
    // Of the others the lines are JSON where they have a flag for it.
    command.env("SYNDDB_LOG_FORMAT", "text");
    let mut agent = traced(command, &log("agent"));
    agent.how();
    let mut command = synddb(["validator", "--listen", "127.0.0.1:0", "--stop-on-eof", "--json"]);
    command.args(["--store", &store(folder), "--stream", &stream.to_string(), "--sequencer-key", key]);
    command.arg("--replica").arg(folder.join("replica.db"));
    command.arg("--credentials-file").arg(folder.join("credentials.toml"));
    let mut validator = traced(command, &log("validator"));
    let validator_address = address(&validator);
    let audited = |token: &str| {
        let value = bearer(token);
        let headers = [("authorization", value.as_str())];
        Request { method: "POST", path: "/audit", headers: &headers, body: "" }.send(&validator_address).0
    };
    let validator_url = format!("http://{validator_address}");
    let waits = ["wait", app.to_str().unwrap(), "--timeout", PATIENCE_TEXT, "--validator", &validator_url];
    let (exit, told, errors) = run(synddb(waits));
    assert_eq!(exit, 0, "{told}{errors}{:#?}", agent.events());
    assert_eq!((audited(TOKEN), audited(&wrong)), (200, 401));
    // A token that is refused while the agent runs.
    token(folder, &["revoke", "test"]);
    let until = Instant::now() + PATIENCE;
    while !agent.events().iter().any(|event| event["event"] == "warning" && event["kind"] == "unauthorized") {
        assert!(Instant::now() < until, "the revoked token is not refused: {:#?}", agent.events());
        sql(&app, "INSERT INTO t VALUES (2);");
    }
    let shown = [metrics(&plain_address), metrics(&validator_address), metrics(&address(&agent))].concat();
    let said: String =
        [&plain, &sequencer, &agent, &validator].iter().map(|role| format!("{:?}", role.events())).collect();
    agent.kill();
    validator.end();
    drop((plain, sequencer));

    let signing = fs::read_to_string(folder.join("sequencer.key")).unwrap();
    let server = fs::read_to_string(folder.join("server.key")).unwrap();
    let (server, client) = (key_material(&server), key_material(&client.key));
    let search = Search::of(&[TOKEN, &wrong, &evidence, signing.trim(), &server, &client]);
    for text in [shown, said] {
        assert_eq!(search.find(text.as_bytes()), None);
    }
    let (mut all, mut holders) = (Vec::new(), Vec::new());
    files(folder, &mut all);
    for file in &all {
        let content = fs::read(file).unwrap();
        let name = file.strip_prefix(folder).unwrap().display().to_string();
        match search.find(&content) {
            Some(_) if ["token", "sequencer.key", "server.key", "client.key"].contains(&name.as_str()) => {
                holders.push(name);
            }
            Some(found) => panic!("{name}: {found}"),
            None => {}
        }
    }
    holders.sort();
    // It finds what is there, so what it does not find is not.
    assert_eq!(holders, ["client.key", "sequencer.key", "server.key", "token"]);
    for name in ["sequencer", "agent", "validator"] {
        let length = fs::metadata(log(name)).unwrap().len();
        println!("{name} traced {length} bytes");
        assert!(length > 500, "{name} traced {length} bytes");
    }
    assert!(fs::read_to_string(log("agent")).unwrap().contains("TRACE"), "everything was traced");
}

#[test]
fn a_search_finds_what_is_written_in_lines_of_bytes() {
    let search = Search::of(&[TOKEN]);
    for line in [&TOKEN[10..26], "612d746f6b656e2d6f66", &format!("x{TOKEN}x")] {
        assert!(search.find(format!("before {line} after").as_bytes()).is_some(), "{line}");
    }
    assert_eq!(search.find(TOKEN.to_uppercase().as_bytes()), None);
}

#[test]
fn no_certificate_is_taken_for_its_key() {
    let authority = Authority::new("ours").unwrap();
    // One in a hundred has its public key where the digits are those of the key's file.
    for number in 0..2_000 {
        let pair = authority.client("machine").unwrap();
        let search = Search::of(&[&key_material(&pair.key)]);
        assert!(search.find(pair.key.as_bytes()).is_some(), "{number}");
        assert_eq!(search.find(pair.certificate.as_bytes()), None, "{number}");
    }
}
