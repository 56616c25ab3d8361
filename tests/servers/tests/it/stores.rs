//! Each object store, asked as its administrator asks it.

use synddb_servers::{ObjectServer, Platform};

#[test]
fn every_server_starts_makes_a_bucket_and_says_what_is_absent() {
    for platform in Platform::ALL.into_iter().filter(|platform| platform.is_here()) {
        let server = ObjectServer::start(platform).unwrap();
        server.bucket("logs").unwrap();
        let absent = |bucket| server.ask("GET", &format!("/{bucket}/absent"), "", &[], b"").unwrap();
        let (object, bucket) = (absent("logs"), absent("nobodys"));
        assert_eq!((object.status, bucket.status), (404, 404), "{platform:?}");
        assert_ne!(told(&object.text()), told(&bucket.text()), "{platform:?}: {}", object.text());
    }
}

/// The code in a refusal, which is an element in all three protocols.
fn told(text: &str) -> &str {
    text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).unwrap().0
}

#[test]
fn servers_of_one_kind_are_apart() {
    for platform in Platform::ALL.into_iter().filter(|platform| platform.is_here()) {
        let servers = [0; 2].map(|_| ObjectServer::start(platform).unwrap());
        assert_ne!(servers[0].address(), servers[1].address());
        servers[0].bucket("only-here").unwrap();
        let asked = |server: &ObjectServer| {
            let answer = server.ask("GET", "/only-here/absent", "", &[], b"").unwrap();
            told(&answer.text()).to_owned()
        };
        assert_ne!(asked(&servers[0]), asked(&servers[1]), "{platform:?}");
    }
}
