//! A machine that reaches the world through a proxy. The proxy is not this machine, and gives and gets none of its credentials.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use synddb_storage::ObjectBatchStore;

use super::child::{Role, command, finish};

/// What gives credentials, or keeps a proxy or a metadata service from being asked.
const TAKEN_AWAY: [&str; 9] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ENDPOINT_URL",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "STORAGE_EMULATOR_HOST",
    "NO_PROXY",
    "no_proxy",
];

/// Opens the store, whatever comes of it: some machines that run tests have a metadata service.
pub(crate) async fn meet_proxy(store: &str) {
    drop(ObjectBatchStore::open(&store.parse().unwrap()).await);
}

#[test]
fn a_proxy_is_not_asked_for_the_credentials_of_this_machine() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&asked);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut head = [0; 4096];
            let read = connection.read(&mut head).unwrap_or(0);
            heard.lock().unwrap().push_str(&String::from_utf8_lossy(&head[..read]));
            // Whoever left does not hear it.
            connection
                .write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
                .unwrap_or_default();
        }
    });
    let home = tempfile::tempdir().unwrap();
    for store in ["gs://nobodys-bucket", "s3://nobodys-bucket", "az://nobodys-bucket"] {
        let mut child =
            command(&std::env::current_exe().unwrap(), Role::Proxied, Path::new(store), "proxied");
        for name in TAKEN_AWAY {
            child.env_remove(name);
        }
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
            child.env(name, &proxy);
        }
        child.env("HOME", home.path()).env("AZURE_STORAGE_ACCOUNT", "nobody");
        finish(child.stdout(Stdio::piped()).spawn().unwrap());
    }
    let asked = asked.lock().unwrap();
    assert!(!asked.contains("169.254.") && !asked.contains("metadata"), "{asked}");
}
