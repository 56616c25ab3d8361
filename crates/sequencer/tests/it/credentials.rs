//! Who may write: tokens that come and go while the process runs, tokens for some streams, certificates, evidence.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use reqwest::{Certificate, Client as Http, Identity};
use synddb_protocol::http::{EVIDENCE_HEADER, Problem, Reason};
use synddb_protocol::id::StreamId;
use synddb_sequencer::{Config, SequencerError};
use synddb_servers::{Authority, Pair};
use synddb_service::credentials::{self, Fingerprint, Holder, Kind, NewCredential, Writable};
use synddb_service::http::CheckEvidence;

use crate::killed::{Process, configure};
use crate::sample::{Client, PAGES, STREAM, snapshot_body};
use crate::server::{Server, config, file_store, http};

/// How long a revoked credential may be accepted.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);

/// How long anything else may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

fn token(name: &str, text: &str, streams: &[StreamId]) -> NewCredential {
    let streams: BTreeSet<_> = streams.iter().copied().collect();
    let sha256 = Fingerprint::of(text.as_bytes());
    NewCredential { kind: Kind::Token, name: name.to_owned(), sha256, streams, expires: None }
}

/// Why a body that is none is refused: `Malformed` when whoever sends it is admitted.
async fn asked(http: &Http, base: &str, stream: StreamId, token: Option<&str>) -> Problem {
    let request = http.post(format!("{base}/streams/{}/submit", stream.to_key())).body("x");
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let answer = request.send().await.unwrap();
    let (status, body) = (answer.status().as_u16(), answer.bytes().await.unwrap());
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem.reason().status(), status);
    problem
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_come_and_go_while_a_sequencer_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path());
    let listed = folder.path().join("credentials.toml");
    let (http, old, new) = (http(), "0".repeat(64), "1".repeat(64));
    credentials::write(&listed, &token("old", &old, &[])).unwrap();
    let process = Process::start(&file);
    let is = |token: &str| {
        let (http, base, token) = (http.clone(), process.base.clone(), token.to_owned());
        async move { asked(&http, &base, STREAM, Some(&token)).await.reason().clone() }
    };
    assert_eq!((is(&old).await, is(&new).await), (Reason::Malformed, Reason::Unauthorized));
    let shown = format!("{:?}", asked(&http, &process.base, STREAM, Some(&new)).await);
    assert!(!shown.contains(&new), "{shown}");

    credentials::add(&listed, &token("new", &new, &[])).unwrap();
    let added = Instant::now();
    while is(&new).await == Reason::Unauthorized {
        assert!(added.elapsed() < PATIENCE, "the new token is not seen");
        assert_eq!(is(&old).await, Reason::Malformed, "both are accepted at once");
    }
    credentials::remove(&listed, "old").unwrap();
    let revoked = Instant::now();
    while is(&old).await == Reason::Malformed {
        assert!(revoked.elapsed() < REVOKED_WITHIN, "{:?}", revoked.elapsed());
        assert_eq!(is(&new).await, Reason::Malformed);
    }
    println!("a revoked token was refused after {:?}", revoked.elapsed());
    // What is written badly takes nothing away, and gives nothing.
    fs::write(&listed, "[[token]]\nname = \"old\"\n").unwrap();
    let text = http.get(format!("{}/metrics", process.base));
    let spoiled = Instant::now();
    loop {
        assert_eq!((is(&new).await, is(&old).await), (Reason::Malformed, Reason::Unauthorized));
        let metrics = text.try_clone().unwrap().send().await.unwrap().text().await.unwrap();
        if metrics.contains("synddb_service_file_refused{file=\"credentials\"} 1") {
            break;
        }
        assert!(spoiled.elapsed() < PATIENCE, "{metrics}");
    }
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_for_one_stream_writes_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let config = config(folder.path(), "one");
    let (other, limited) = (StreamId::from_bytes([9; 32]), "2".repeat(64));
    credentials::add(&config.credentials_file, &token("limited", &limited, &[STREAM])).unwrap();
    let server = Server::start(&store, config).await;
    let refused = asked(&server.http, &server.base, other, Some(&limited)).await;
    assert_eq!(refused.reason(), &Reason::Forbidden);
    assert!(refused.detail().contains("credential=`limited`"), "{refused:?}");
    for (method, path) in [("PUT", "snapshot/chunks/00"), ("POST", "snapshot")] {
        let url = format!("{}/streams/{}/{path}", server.base, other.to_key());
        let request = server.http.request(method.parse().unwrap(), url).bearer_auth(&limited).body(PAGES);
        assert_eq!(server.send(request).await.reason(), Reason::Forbidden, "{path}");
    }
    assert_eq!(server.get("streams").await.body, b"[]", "nothing began");
    let begun = server.begin(&Client::new(STREAM)).await;
    assert_eq!(begun.sequence(), 2);
    assert_eq!(asked(&server.http, &server.base, STREAM, Some(&limited)).await.reason(), &Reason::Malformed);
    server.stop().await;
}

/// Stands for the hardware of a trusted execution environment, which no test machine has: it believes one word, and proves nothing.
#[derive(Debug)]
struct StandsForHardware;

impl CheckEvidence for StandsForHardware {
    fn check(&self, evidence: &str, _: SystemTime) -> Result<Holder, String> {
        match evidence {
            "measured" => Ok(Holder { name: "enclave".to_owned(), streams: Writable::Only([STREAM].into()) }),
            _ => Err("the evidence is of other software".to_owned()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_is_a_credential_only_where_it_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    for (name, checker) in
        [("none", None), ("checking", Some(Arc::new(StandsForHardware) as Arc<dyn CheckEvidence>))]
    {
        let server =
            Server::start(&store, Config { evidence: checker.clone(), ..config(folder.path(), name) }).await;
        let send = |stream: StreamId, evidence: &str| {
            let url = format!("{}/streams/{}/snapshot", server.base, stream.to_key());
            let body = snapshot_body(Client::new(stream).beginning());
            server.send(server.http.post(url).header(EVIDENCE_HEADER, evidence).body(body))
        };
        let right = send(STREAM, "measured").await;
        if checker.is_none() {
            assert!(String::from_utf8_lossy(&right.body).contains("checks no evidence"), "{right:?}");
            assert_eq!(right.reason(), Reason::Unauthorized);
        } else {
            // Admitted: what it lacks is what it names.
            assert!(matches!(right.reason(), Reason::MissingChunks { .. }), "{right:?}");
            assert_eq!(send(STREAM, "other").await.reason(), Reason::Unauthorized);
            assert_eq!(send(StreamId::from_bytes([9; 32]), "measured").await.reason(), Reason::Forbidden);
        }
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequencer_does_not_start_without_good_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path()).await;
    let good = config(folder.path(), "one");
    let missing = Config { credentials_file: folder.path().join("no"), ..good.clone() };
    let refused = Server::try_start(&store, missing).await.err().unwrap();
    assert!(refused.to_string().contains("synddb token new"), "{refused}");
    let writable = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions(&good.credentials_file, writable).unwrap();
    let refused = Server::try_start(&store, good).await.err().unwrap();
    assert!(matches!(refused, SequencerError::Credentials(_)), "{refused}");
    assert!(refused.to_string().contains("chmod go-w"), "{refused}");
}

/// A client that believes an authority, and shows a certificate if it has one. Each has connections of its own.
fn client(authority: &Authority, shows: Option<&Pair>) -> Http {
    rustls::crypto::ring::default_provider().install_default().ok();
    let believed = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let builder = Http::builder().no_proxy().tls_certs_only([believed]);
    match shows {
        Some(Pair { certificate, key, .. }) => {
            builder.identity(Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap())
        }
        None => builder,
    }
    .build()
    .unwrap()
}

/// Starts a process that speaks TLS with a certificate of `authority`, and asks clients for one of it.
fn start_tls(folder: &Path, authority: &Authority, demand: &str) -> Process {
    let file = configure(folder);
    authority.server().unwrap().write(folder, "server").unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let at = folder.display();
    let tls = format!(
        "[tls]\ncertificate_file = \"{at}/server.pem\"\nkey_file = \"{at}/server.key\"\nclient_ca_file = \"{at}/ca.pem\"\n\
         client_certificates = \"{demand}\"\n"
    );
    fs::write(&file, format!("{}{tls}", fs::read_to_string(&file).unwrap())).unwrap();
    Process::start(&file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_writes_when_its_authority_signed_it_and_it_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours").unwrap(), Authority::new("theirs").unwrap());
    let (listed, unlisted) = (ours.client("listed").unwrap(), ours.client("unlisted").unwrap());
    let process = start_tls(folder.path(), &ours, "required");
    assert!(process.base.starts_with("https://"), "{}", process.base);
    let entry = NewCredential {
        kind: Kind::Certificate,
        sha256: Fingerprint::parse(&listed.sha256).unwrap(),
        ..token("machine", "", &[])
    };
    credentials::add(&folder.path().join("credentials.toml"), &entry).unwrap();
    let right = client(&ours, Some(&listed));
    let added = Instant::now();
    while asked(&right, &process.base, STREAM, None).await.reason() == &Reason::Unauthorized {
        assert!(added.elapsed() < PATIENCE, "the certificate is not seen");
    }
    assert_eq!(asked(&right, &process.base, STREAM, None).await.reason(), &Reason::Malformed);
    let refused = asked(&client(&ours, Some(&unlisted)), &process.base, STREAM, None).await;
    assert_eq!(refused.reason(), &Reason::Unauthorized);
    assert!(refused.detail().contains(&unlisted.sha256), "{refused:?}");

    let expired = ours.expired_client("expired").unwrap();
    let foreign = theirs.client("listed").unwrap();
    for (what, shown) in
        [("none", None), ("expired", Some(&expired)), ("of another authority", Some(&foreign))]
    {
        let tried = client(&ours, shown).get(format!("{}/livez", process.base)).send().await;
        assert!(tried.is_err(), "{what}: {tried:?}");
    }
    // Who believes another authority does not speak to this one.
    assert!(client(&theirs, Some(&listed)).get(format!("{}/livez", process.base)).send().await.is_err());
    // The listed one still does.
    assert_eq!(asked(&right, &process.base, STREAM, None).await.reason(), &Reason::Malformed);
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_exchanged_while_a_sequencer_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old").unwrap(), Authority::new("new").unwrap());
    let process = start_tls(folder.path(), &old, "optional");
    let alive = format!("{}/livez", process.base);
    let kept = client(&old, None);
    assert_eq!(kept.get(&alive).send().await.unwrap().status(), 200, "no certificate is demanded");
    assert_eq!(asked(&kept, &process.base, STREAM, None).await.reason(), &Reason::Unauthorized);
    assert_eq!(
        asked(&kept, &process.base, STREAM, Some(crate::server::TOKEN)).await.reason(),
        &Reason::Malformed
    );
    // Between the two files certificate and key are no pair, which changes nothing.
    let pair = new.server().unwrap();
    fs::write(folder.path().join("server.pem"), &pair.certificate).unwrap();
    let metrics = kept.get(format!("{}/metrics", process.base));
    let begun = Instant::now();
    loop {
        // A new connection each time: handshakes look at the files.
        assert_eq!(client(&old, None).get(&alive).send().await.unwrap().status(), 200);
        let text = metrics.try_clone().unwrap().send().await.unwrap().text().await.unwrap();
        if text.contains("synddb_service_file_refused{file=\"tls\"} 1") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{text}");
    }
    pair.write(folder.path(), "server").unwrap();
    let written = Instant::now();
    while client(&new, None).get(&alive).send().await.is_err() {
        assert!(written.elapsed() < PATIENCE, "the new certificate is not shown");
    }
    assert!(client(&old, None).get(&alive).send().await.is_err(), "the old one is shown no more");
    assert_eq!(kept.get(&alive).send().await.unwrap().status(), 200, "a connection goes on");

    let plain = process.base.replace("https://", "http://");
    let told = asked(&http(), &plain, STREAM, Some(crate::server::TOKEN)).await;
    assert!(told.detail().contains("write https://"), "{told:?}");
    process.kill();
}
