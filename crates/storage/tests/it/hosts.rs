//! Hosts that answer what no host should: without an end, cut short, encoded, in place of what was asked for.
//!
//! Each is a socket that writes what the test says, so nothing here depends on what a server happens to do.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use synddb_storage::{
    BatchStore as _, Failure, GetError, Key, Lease as _, LeaseError, ListError, ObjectBatchStore, PageLimit,
    PutError, Start, Variables,
};

use super::{BATCHES, STREAM, batch, body};

/// What a host sends of an answer without an end before it gives up: much more than anybody may read.
const ENDLESS: usize = 512 << 20;

/// What may be on its way when a reader has enough: buffers of two sockets.
const BUFFERED: usize = 16 << 20;

/// Most that is read of any answer.
const ANSWER_MAX: usize = 64 << 20;

/// An answer: its head, and what follows.
enum Answer {
    /// This text and the end of the connection.
    Whole(String),
    /// This head, and then chunks for as long as somebody reads.
    Endless(String),
}

/// A host whose answers a test gives.
struct Host {
    address: SocketAddr,
    /// Bytes of bodies that were sent.
    sent: Arc<AtomicUsize>,
}

impl Host {
    fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let (counted, answer) = (Arc::clone(&sent), Arc::new(answer));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (counted, answer) = (Arc::clone(&counted), Arc::clone(&answer));
                thread::spawn(move || serve(connection.unwrap(), &*answer, &counted));
            }
        });
        Self { address, sent }
    }

    /// One that has nothing, but for what it says when it is asked for this.
    fn of(asked: impl std::fmt::Display, answer: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        let asked = asked.to_string();
        Self::start(move |head| {
            let absent = || Answer::Whole("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned());
            if head.contains(&asked) { answer() } else { absent() }
        })
    }

    async fn open(&self) -> ObjectBatchStore {
        let url = format!("http://{}/logs", self.address).parse().unwrap();
        ObjectBatchStore::open_existing(&url).await.unwrap()
    }

    /// The same as a bucket, whose protocol it need not know to answer what it answers.
    async fn open_bucket(&self) -> ObjectBatchStore {
        let endpoint = format!("http://{}", self.address);
        let variables: Variables = [
            ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "nobody"),
            ("AWS_SECRET_ACCESS_KEY", "nothing"),
        ]
        .into_iter()
        .collect();
        ObjectBatchStore::open_with(&"s3://logs".parse().unwrap(), &variables).await.unwrap()
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

fn serve(mut connection: TcpStream, answer: &dyn Fn(&str) -> Answer, sent: &AtomicUsize) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(connection.read(&mut byte), Ok(1)) {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    // What is left unread would make the end of the connection a reset.
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    if connection.read_exact(&mut vec![0; length.unwrap_or(0)]).is_err() {
        return;
    }
    // Whoever leaves before the end is no failure of the host.
    match answer(&head) {
        Answer::Whole(text) => connection.write_all(text.as_bytes()).unwrap_or_default(),
        Answer::Endless(head) => {
            if connection.write_all(head.as_bytes()).is_err() {
                return;
            }
            let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
            for _ in 0..ENDLESS / 0x10000 {
                if connection.write_all(&chunk).is_err() {
                    return;
                }
                sent.fetch_add(0x10000, Ordering::SeqCst);
            }
        }
    }
}

fn endless(status: &str, more: &str) -> Answer {
    Answer::Endless(format!("HTTP/1.1 {status}\r\n{more}transfer-encoding: chunked\r\n\r\n"))
}

async fn refused(store: &ObjectBatchStore, key: &Key) -> Failure {
    match store.get(key).await.unwrap_err() {
        GetError::Failed { failure, .. } => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nobody_reads_more_than_was_announced() {
    let host = Host::of(batch(1), || endless("200 OK", "content-length: 10\r\n"));
    let failure = refused(&host.open().await, &batch(1)).await;
    assert!(matches!(failure, Failure::Unavailable(_)), "{failure:?}");
    assert!(host.sent() < BUFFERED, "{}", host.sent());

    let host = Host::of("/lease", || endless("200 OK", "content-length: 10\r\netag: \"1\"\r\n"));
    let lease = host.open().await.read(STREAM).await.unwrap_err();
    assert!(matches!(lease, LeaseError::Failed { failure: Failure::Unavailable(_), .. }), "{lease:?}");
    assert!(host.sent() < BUFFERED, "{}", host.sent());
}

#[tokio::test]
async fn an_object_above_its_bound_is_not_read_from_a_host() {
    let size = batch(1).size_max() + 1;
    let host = Host::of(batch(1), move || {
        Answer::Endless(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n"))
    });
    let refused = host.open().await.get(&batch(1)).await.unwrap_err();
    assert!(matches!(refused, GetError::TooLarge { size: found, .. } if found == size as u64), "{refused:?}");
    assert!(host.sent() < BUFFERED, "{}", host.sent());
}

#[tokio::test]
async fn an_error_without_an_end_is_an_error() {
    for status in ["400 Bad Request", "403 Forbidden", "404 Not Found", "409 Conflict", "418 Teapot"] {
        let host = Host::of(batch(1), move || endless(status, ""));
        let store = host.open().await;
        let got = store.get(&batch(1)).await;
        // What is absent is absent, however long it says so.
        assert_eq!(got.is_ok(), status.starts_with("404"), "{status}: {got:?}");
        assert!(host.sent() < BUFFERED, "{status}: {}", host.sent());
    }
}

#[tokio::test]
async fn a_listing_without_an_end_is_given_up() {
    let host = Host::of("list-type=2", || endless("200 OK", ""));
    let store = host.open_bucket().await;
    let listed = store.list(&Start::of(BATCHES), PageLimit::MAX).await.unwrap_err();
    assert!(matches!(listed, ListError::Failed { failure: Failure::Unavailable(_), .. }), "{listed:?}");
    // Asked again, as after any hiccup, a few times.
    assert!(host.sent() < 3 * (ANSWER_MAX + BUFFERED), "{}", host.sent());
}

#[tokio::test]
async fn an_object_that_is_cut_short_is_no_object() {
    for more in ["", "etag: \"1\"\r\n"] {
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n{more}\r\nhalf.");
        let host = Host::of(batch(1), move || Answer::Whole(text.clone()));
        let failure = refused(&host.open().await, &batch(1)).await;
        assert!(matches!(failure, Failure::Unavailable(_)), "{failure:?}");
    }
    // The end of the chunks is there, and comes too early.
    let text =
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf.\r\n0\r\n\r\n";
    let host = Host::of(batch(1), move || Answer::Whole(text.to_owned()));
    let failure = refused(&host.open().await, &batch(1)).await;
    assert!(matches!(failure, Failure::Unavailable(_)), "{failure:?}");
}

#[tokio::test]
async fn an_object_comes_byte_for_byte_or_not_at_all() {
    let whole = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngzip";
    let host = Host::of(batch(1), move || Answer::Whole(whole.to_owned()));
    assert_eq!(host.open().await.get(&batch(1)).await.unwrap(), Some(body("gzip")));
    let encoded = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-encoding: gzip\r\n\r\ngzip";
    let host = Host::of(batch(1), move || Answer::Whole(encoded.to_owned()));
    let failure = refused(&host.open().await, &batch(1)).await;
    assert!(matches!(failure, Failure::Misconfigured(_)), "{failure:?}");
}

/// The statuses that lead elsewhere. After the first three a client asks there by GET, after the others by the same method.
const ELSEWHERE: [&str; 5] = [
    "301 Moved Permanently",
    "302 Found",
    "303 See Other",
    "307 Temporary Redirect",
    "308 Permanent Redirect",
];

/// A sign-in page of a network, a gateway, a bucket of somebody else: whatever is there did not take the put.
#[tokio::test]
async fn a_bucket_that_leads_elsewhere_is_not_followed() {
    for status in ELSEWHERE {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let elsewhere = Host::start(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let head = "HTTP/1.1 200 OK\r\netag: \"1\"\r\nlast-modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
            Answer::Whole(format!("{head}content-length: 5\r\n\r\nhello"))
        });
        let address = elsewhere.address;
        let host = Host::of(batch(1), move || {
            let head = format!("HTTP/1.1 {status}\r\nlocation: http://{address}/hello\r\n");
            Answer::Whole(format!("{head}content-length: 0\r\n\r\n"))
        });
        let store = host.open_bucket().await;
        let put = store.put(&batch(1), body("batch")).await.unwrap_err();
        assert!(
            matches!(put, PutError::Failed { failure: Failure::Unavailable(_), .. }),
            "{status}: {put:?}"
        );
        let failure = refused(&store, &batch(1)).await;
        assert!(matches!(failure, Failure::Unavailable(_)), "{status}: {failure:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 0, "{status}: somebody else was asked");
    }
}

/// Many static hosts lead on to where the files are. Nothing is sent there that is worth having.
#[tokio::test]
async fn a_static_host_may_lead_elsewhere() {
    let elsewhere =
        Host::start(|_| Answer::Whole("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned()));
    let address = elsewhere.address;
    let host = Host::of(batch(1), move || {
        Answer::Whole(format!(
            "HTTP/1.1 302 Found\r\nlocation: http://{address}/hello\r\ncontent-length: 0\r\n\r\n"
        ))
    });
    assert_eq!(host.open().await.get(&batch(1)).await.unwrap(), Some(body("hello")));
}

/// A cache that keeps parts of files may answer with one.
#[tokio::test]
async fn a_part_of_an_object_is_no_object() {
    let part =
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-4/10\r\ncontent-length: 5\r\n\r\nhalf.";
    let host = Host::of(batch(1), move || Answer::Whole(part.to_owned()));
    let failure = refused(&host.open().await, &batch(1)).await;
    assert!(matches!(failure, Failure::Unavailable(_)), "{failure:?}");
}

/// What a host says goes to logs and terminals, so it may not hold what moves a cursor or begins a line.
#[tokio::test]
async fn what_a_host_says_is_told_on_one_line() {
    let text = "\u{1b}[2J\r\nforged\u{7}";
    let page = format!("HTTP/1.1 418 Teapot\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    let code = format!("<Error><Code>{text}</Code></Error>");
    let code = format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\n\r\n{code}", code.len());
    for answer in [page, code] {
        let host = Host::of(batch(1), move || Answer::Whole(answer.clone()));
        let told = synddb_protocol::chain(&refused(&host.open().await, &batch(1)).await).to_string();
        assert!(told.contains("forged") && !told.contains(char::is_control), "{told:?}");
    }
}

/// Its Debug text may end up in any log.
#[tokio::test]
async fn a_store_does_not_show_its_credentials() {
    let host = Host::of("nothing", || endless("404 Not Found", ""));
    let endpoint = format!("http://{}", host.address);
    let azure = format!("AccountName=a;BlobEndpoint={endpoint}/a;SharedAccessSignature=sv=1&sig=hidden");
    for (url, variables) in [
        ("az://logs", vec![("AZURE_STORAGE_CONNECTION_STRING", azure.as_str())]),
        (
            "s3://logs",
            vec![
                ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
                ("AWS_ACCESS_KEY_ID", "known"),
                ("AWS_SECRET_ACCESS_KEY", "hidden"),
            ],
        ),
    ] {
        let variables: Variables = variables.into_iter().collect();
        let store = ObjectBatchStore::open_with(&url.parse().unwrap(), &variables).await.unwrap();
        let shown = format!("{store:?}");
        assert!(!shown.contains("hidden"), "{shown}");
    }
}
