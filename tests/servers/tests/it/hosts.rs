//! The static host.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use synddb_servers::{Program, StaticHost, need};

fn asked(host: &StaticHost, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(host.address()).unwrap();
    write!(stream, "{method} {path} HTTP/1.0\r\nhost: test\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_static_host_serves_a_folder_and_lets_nobody_keep_what_is_absent() {
    if !need(Program::Nginx) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("log")).unwrap();
    let host = StaticHost::serve(folder.path()).unwrap();
    let absent = asked(&host, "GET", "/log/object");
    assert!(absent.starts_with("HTTP/1.1 404 "), "{absent}");
    assert!(absent.to_lowercase().contains("\r\ncache-control: no-store\r\n"), "{absent}");
    fs::write(folder.path().join("log/object"), "bytes").unwrap();
    let found = asked(&host, "GET", "/log/object");
    assert!(found.starts_with("HTTP/1.1 200 ") && found.ends_with("\r\n\r\nbytes"), "{found}");
    for method in ["HEAD", "PUT", "POST", "DELETE", "PROPFIND"] {
        let refused = asked(&host, method, "/log/object");
        assert!(refused.starts_with("HTTP/1.1 405 "), "{method}: {refused}");
    }
    assert!(asked(&host, "GET", "/log/").starts_with("HTTP/1.1 403 "), "a listing must be refused");
}
