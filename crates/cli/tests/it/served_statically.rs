//! Replicas that follow from a plain file server: nginx over the folder to which a sequencer writes, with the file of `deploy/static/`.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Instant;

use synddb_protocol::id::Sequence;
use synddb_servers::{Port, Program, need};
use synddb_storage::Key;

use super::processes::{diff, run, synddb};
use super::programs::{assert_same, finish, program, shown, sql, start};
use super::roles::{PATIENCE, PATIENCE_TEXT, Role, System, shown_replica};

/// What an operator is given.
const CONFIGURATION: &str = include_str!("../../../../deploy/static/nginx.conf");

/// Ends a server with the test, however that ends: the input of the shell ends with it.
const SHELL: &str = r#""$@" <&- & cat >/dev/null; kill -KILL $!"#;

/// A server that runs.
struct Nginx {
    shell: Child,
    input: Option<ChildStdin>,
    port: Port,
    requests: PathBuf,
}

impl Nginx {
    /// Serves the store of a system with the file as it is, but for what an operator fills in, and for where nginx keeps files of its own.
    fn serve(folder: &Path) -> Self {
        let store = format!("{}/", folder.join("store").display());
        Self::start(&folder.join("nginx"), |address, own| {
            let text =
                CONFIGURATION.replace("127.0.0.1:8088", address).replace("/var/lib/synddb/store/", &store);
            assert!(text.contains(address) && text.contains(&store), "the places to be filled in have moved");
            text.replacen("http {", &format!("http {{{own}"), 1)
        })
    }

    /// A host that answers otherwise: `location` says how.
    fn answering(folder: &Path, name: &str, location: &str) -> Self {
        let root = folder.join("store");
        Self::start(&folder.join(name), |address, own| {
            format!(
                "events {{}} http {{ {own} default_type application/octet-stream;
                 server {{ listen {address}; root {}; {location} }} }}",
                root.display()
            )
        })
    }

    fn start(own: &Path, configuration: impl FnOnce(&str, &str) -> String) -> Self {
        fs::create_dir(own).unwrap();
        let port = Port::take().unwrap();
        let requests = own.join("requests");
        let mut of_nginx = format!("access_log {};", requests.display());
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            of_nginx += &format!("{kind}_temp_path {};", own.join(kind).display());
        }
        let file = own.join("nginx.conf");
        fs::write(&file, configuration(&port.address().to_string(), &of_nginx)).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", SHELL, "sh"]).arg(Program::Nginx.find().unwrap()).arg("-p").arg(own);
        // One process in the foreground, that runs as whoever runs the test and may read its folder.
        let globals = format!("daemon off; master_process off; pid {};", own.join("pid").display());
        command.args(["-e", "stderr", "-g", &globals, "-c"]).arg(&file);
        let log = fs::File::create(own.join("said")).unwrap();
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let input = shell.stdin.take();
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(port.address()).is_err() {
            let said = || fs::read_to_string(own.join("said")).unwrap();
            assert!(Instant::now() < until && !said().contains("[emerg]"), "{}", said());
            std::thread::yield_now();
        }
        Self { shell, input, port, requests }
    }

    fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Every request so far: its method and its path.
    fn requests(&self) -> Vec<(String, String)> {
        let log = fs::read_to_string(&self.requests).unwrap();
        let request = |line: &str| {
            let mut words = line.split('"').nth(1).unwrap().split(' ').map(str::to_owned);
            (words.next().unwrap(), words.next().unwrap_or_default())
        };
        log.lines().map(request).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.input = None;
        self.shell.wait().ok();
    }
}

/// A system whose sequencer writes to a folder, with its agent, and something in its log.
fn begin(folder: &Path) -> (System, Role) {
    let system = System::start(folder);
    sql(&system.app, "CREATE TABLE t (a PRIMARY KEY, b); INSERT INTO t VALUES (1, 'one');");
    let agent = system.follow();
    sql(&system.app, "INSERT INTO t VALUES (2, x'00ff');");
    system.assert_equal();
    (system, agent)
}

/// The arguments that say which log of a store is read.
fn log_of(system: &System) -> [String; 4] {
    let stream = synddb_agent::stream_of(&system.home).unwrap().to_string();
    let key = system.sequencer.event("listening", |_| true)["key"].as_str().unwrap().to_owned();
    ["--stream".to_owned(), stream, "--sequencer-key".to_owned(), key]
}

/// Runs a command over a store that is served: exit code, what it said, errors.
fn over(arguments: &[&str], log: &[String]) -> (i32, String, String) {
    let mut command = synddb(arguments.iter().copied());
    command.args(log);
    run(command)
}

#[test]
fn a_replica_follows_from_a_static_host_by_get_alone() {
    if !need(Program::Nginx) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (system, _agent) = begin(folder.path());
    let host = Nginx::serve(folder.path());
    let store = format!("{}/store", host.url());
    let log = log_of(&system);
    let replica = folder.path().join("served.db");
    let follow = || {
        let mut validator = synddb(["validator", "--listen", "127.0.0.1:0", "--stop-on-eof", "--json"]);
        validator.arg("--replica").arg(&replica).args(["--store", &store]).args(&log);
        let validator = Role::start(validator);
        let url = validator.event("listening", |_| true)["url"].as_str().unwrap().to_owned();
        (validator, url)
    };
    let assert_equal = |url: &str| {
        let app = system.app.to_str().unwrap();
        let arguments = ["wait", app, "--applied", "--timeout", PATIENCE_TEXT, "--validator", url];
        let (exit, told, errors) = run(synddb(arguments));
        assert_eq!(exit, 0, "{told}{errors}");
        let (exit, told, errors) = diff(&system.app, &replica);
        assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    };

    let (mut validator, url) = follow();
    assert_equal(&url);
    for round in 10..15 {
        sql(
            &system.app,
            &format!("INSERT INTO t VALUES ({round}, 'live'); UPDATE t SET b = {round} WHERE a = 2;"),
        );
        assert_equal(&url);
    }
    // Killed and started again, it goes on from its file, where it stands at the end of the log.
    validator.kill();
    let (mut validator, url) = follow();
    sql(&system.app, "ALTER TABLE t ADD COLUMN c DEFAULT 7; DELETE FROM t WHERE a = 12;");
    assert_equal(&url);
    validator.end();
    assert_same(&shown(&system.app), &shown_replica(&replica));

    let (exit, told, errors) = over(&["verify", &store, "--full"], &log);
    assert_eq!(exit, 0, "{told}{errors}");
    assert!(told.contains("the log is whole") && told.contains("a static host lists nothing"), "{told}");
    let sequence = ["inspect", "--store", &store, "--sequence", "3"];
    let (exit, told, errors) = over(&sequence, &log);
    assert_eq!(exit, 0, "{told}{errors}");
    // A commit is looked for by reading, where nothing is listed.
    let restored = folder.path().join("restored.db");
    let file = restored.to_str().unwrap();
    let (exit, told, errors) = over(&["restore", &store, file, "--at", "1"], &log);
    assert_eq!(exit, 0, "{told}{errors}");
    assert!(told.contains("as it was after commit 1 of incarnation 1"), "{told}");
    fs::remove_file(&restored).unwrap();
    let (exit, told, errors) = over(&["restore", &store, file], &log);
    assert_eq!(exit, 0, "{told}{errors}");
    assert_same(&shown(&system.app), &shown(&restored));
    let requests = host.requests();
    println!("{} requests", requests.len());
    assert!(requests.len() > 20, "{requests:?}");
    for (method, path) in requests {
        assert_eq!(method, "GET", "{path}");
        let name = path.strip_prefix("/store/").unwrap_or_default();
        // Whoever opens a store asks once for what it cannot have.
        assert!(name == "absent" || name.parse::<Key>().is_ok(), "no object was asked for: {path}");
    }
}

#[test]
fn a_static_host_serves_keys_and_nothing_else() {
    if !need(Program::Nginx) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (system, _agent) = begin(folder.path());
    let host = Nginx::serve(folder.path());
    let store = folder.path().join("store");
    let stream = synddb_agent::stream_of(&system.home).unwrap();
    let first = Key::Batch { stream, first: Sequence::FIRST }.to_string();
    fs::copy(store.join(&first), store.join(format!("{first}#1"))).unwrap();
    fs::copy(store.join(&first), store.join(stream.to_key()).join("lease")).unwrap();
    fs::write(store.join("secret"), "of somebody").unwrap();
    let ask = |method: &str, path: &str| {
        let url = format!("{}/store/{path}", host.url());
        let mut curl = program("curl");
        curl.args(["--silent", "--path-as-is", "--compressed", "--request", method, "--output", "/dev/null"]);
        curl.args(["--dump-header", "-", &url]);
        let head = finish(start(curl, "")).to_ascii_lowercase();
        let code: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, head)
    };
    let is_whole = || {
        let (code, head) = ask("GET", &first);
        assert_eq!(code, 200, "{head}");
        let length = format!("content-length: {}\r\n", fs::metadata(store.join(&first)).unwrap().len());
        assert!(head.contains("immutable") && head.contains(&length), "{head}");
        assert!(!head.contains("content-encoding"), "{head}");
    };
    is_whole();
    let stream = stream.to_key();
    for absent in [
        format!("{first}%231"),
        format!("{stream}/lease"),
        format!("{stream}/batches/999999999999.cbor.zst"),
        format!("{stream}/batches/"),
        format!("{stream}/"),
        String::new(),
        "secret".to_owned(),
        format!("{stream}/../secret"),
    ] {
        let (code, head) = ask("GET", &absent);
        assert_eq!(code, 404, "{absent}: {head}");
        assert!(head.contains("cache-control: no-store\r\n"), "{absent}: {head}");
    }
    for method in ["PUT", "POST", "DELETE", "PROPFIND", "MKCOL"] {
        let (code, head) = ask(method, &first);
        assert!(matches!(code, 403 | 405), "{method}: {head}");
    }
    is_whole();
}

#[test]
fn hosts_that_serve_no_store_are_told_apart_from_one_that_has_nothing_yet() {
    if !need(Program::Nginx) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (system, _agent) = begin(folder.path());
    let log = log_of(&system);
    fs::write(folder.path().join("store").join("index.html"), "<html>the page of an application</html>")
        .unwrap();
    let absent =
        "error_page 404 @absent; location @absent { add_header Cache-Control no-store always; return 404; }";
    // What it answers, the prefix that is asked for, the exit code, and the words.
    for (name, location, prefix, exit, words) in [
        ("page", "location / { try_files $uri /index.html; }", "", 2, "it must answer 404"),
        ("encoded", "add_header Content-Encoding gzip;", "", 3, "it must send it byte for byte"),
        ("closed", "location / { deny all; }", "", 2, "store denies access"),
        ("elsewhere", absent, "/elsewhere", 2, "the store holds nothing of this stream; check --store"),
        (
            "nowhere",
            "location / { return 404; }",
            "",
            2,
            "the store holds nothing of this stream; check --store",
        ),
    ] {
        let host = Nginx::answering(folder.path(), name, location);
        let store = format!("{}{prefix}", host.url());
        let rebuilt = folder.path().join(format!("{name}.db"));
        let replica = ["replica", rebuilt.to_str().unwrap(), "--once", "--store", &store];
        let (code, told, errors) = over(&replica, &log);
        assert_eq!(code, exit, "{name}: {told}{errors}");
        assert!(errors.contains(words), "{name}: {errors}");
    }
    // One that offers to compress is not asked to, one that forbids caching costs requests, and one that shows folders shows them to nobody.
    let location = format!("gzip on; gzip_types *; gzip_min_length 1; autoindex on; expires -1; {absent}");
    let host = Nginx::answering(folder.path(), "plain", &location);
    let rebuilt = folder.path().join("plain.db");
    let (exit, told, errors) =
        over(&["replica", rebuilt.to_str().unwrap(), "--once", "--store", &host.url()], &log);
    assert_eq!(exit, 0, "{told}{errors}");
    assert_eq!(diff(&system.app, &rebuilt).0, 0);

    let wrong = ["--stream".to_owned(), format!("0x{}", "7".repeat(64)), log[2].clone(), log[3].clone()];
    let (exit, _, errors) = over(&["verify", &host.url()], &wrong);
    assert_eq!(exit, 2, "{errors}");
    assert!(errors.contains("holds no log of this stream") && errors.contains("lists nothing"), "{errors}");
    let (exit, _, errors) = over(&["verify", &host.url()], &[]);
    assert_eq!(exit, 2, "{errors}");
    assert!(errors.contains("choose with --stream") && errors.contains("lists nothing"), "{errors}");
}

#[test]
fn a_sequencer_refuses_to_write_through_a_static_host() {
    let folder = tempfile::tempdir().unwrap();
    super::roles::write_token(folder.path());
    for role in [&[][..], &["--standby"], &["--lease"]] {
        let mut command =
            synddb(["sequencer", "--listen", "127.0.0.1:0", "--store", "http://127.0.0.1:1/store"]);
        command.arg("--dir").arg(folder.path().join("journals"));
        command.arg("--credentials-file").arg(super::roles::credentials(folder.path())).args(role);
        command.arg("--key-file").arg(folder.path().join("key"));
        let (exit, told, errors) = run(command);
        assert_eq!((exit, told.as_str()), (2, ""), "{errors}");
        assert!(errors.contains("a static host can only be read"), "{errors}");
        let made: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(made.len(), 2, "something was made: {made:?}");
    }
}
