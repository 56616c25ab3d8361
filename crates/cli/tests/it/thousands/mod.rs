//! A log of many batches in each kind of store: written by the sequencer, listed page by page, checked whole, and replayed by a fresh validator
//! that has nothing but the store and a key.
//!
//! Each submission is one batch, so that a log of thousands takes a minute and not a day. What is asked of the store is counted and bounded:
//! one put for each batch, one get for each batch read, one list for each page and for some hundreds of batches read, and for a restart a number that does not grow with the log.
//!
//! ```sh
//! SYNDDB_STORE_BATCHES=20000 cargo test --release -p synddb-cli --test it thousands -- --nocapture --test-threads 1
//! ```

mod application;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::signing::VerifyingKey;
use synddb_sequencer::{Batching, Config as SequencerConfig, SequencerError, Started};
use synddb_servers::{ObjectServer, Platform};
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_sqlite::compare::first_difference;
use synddb_storage::faulty::{Faults, FaultyStore, Requests};
use synddb_storage::{
    BatchStore, Folder, Key, Kind, ObjectBatchStore, PAGE_KEYS_MAX, PageLimit, Start, StoreUrl, Variables,
    last_batch,
};
use synddb_validator::{Config, Mode};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::processes::{run, synddb};
use crate::roles::write_token;
use application::Application;

const STREAM: StreamId = StreamId::from_bytes([0x5d; 32]);

/// Batches of a log, unless the environment says.
const BATCHES: u64 = 200;

/// Most requests of a sequencer that begins to lead, besides those that find the last batch.
const BEGINNING_MAX: u64 = 10;

/// Most gets of a reader besides one for each batch: the chunks of a snapshot, the records of epochs, and what is not there yet.
const BESIDE_MAX: u64 = 20;

/// Fewest names for which a reader that is far behind asks at once.
const HINTED_MIN: u64 = 500;

/// A store that exists, and how another process finds it.
struct Place {
    store: ObjectBatchStore,
    /// `None` where no other process can.
    address: Option<Address>,
    /// Where a server keeps the store.
    _server: Option<ObjectServer>,
}

/// What another process is told of a store.
struct Address {
    url: String,
    environment: Vec<(String, String)>,
}

/// The log of one application in one store.
struct Log {
    runtime: Runtime,
    folder: tempfile::TempDir,
    name: &'static str,
    place: Place,
    store: Arc<dyn BatchStore>,
    faults: Faults,
    key: Option<VerifyingKey>,
}

/// A sequencer that runs.
struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), SequencerError>>,
}

impl Log {
    fn at(name: &'static str, runtime: Runtime, folder: tempfile::TempDir, place: Place) -> Self {
        write_token(folder.path());
        // No fault is ever ordered: it only counts.
        let faults = Faults::new(|| 0);
        let store = Arc::new(FaultyStore::new(place.store.clone(), faults.clone()));
        Self { runtime, folder, name, place, store, faults, key: None }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a sequencer, whose journals are in a folder of this name.
    fn sequencer(&mut self, journals: &str) -> Running {
        let config = SequencerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            dir: self.path(journals),
            credentials_file: crate::roles::credentials(self.folder.path()),
            key_file: self.path("sequencer.key"),
            batch: Batching { age_ms: 0, messages_max: 1, ..Batching::default() },
            ..SequencerConfig::default()
        };
        let (told, started) = tokio::sync::oneshot::channel::<Started>();
        let (store, shutdown) = (Arc::clone(&self.store), Shutdown::new());
        let asked = shutdown.clone();
        let task = self.runtime.spawn(async move {
            let tell = |started| told.send(started).unwrap();
            synddb_sequencer::run_over(store, config, Metrics::detached(), asked, tell).await
        });
        let Started { address, key, .. } = started.blocking_recv().unwrap();
        self.key = Some(key);
        Running { address, shutdown, task }
    }

    fn stop(&self, running: Running) {
        running.shutdown.ask();
        self.runtime.block_on(running.task).unwrap().unwrap();
    }

    /// What was asked of the store since.
    fn since(&self, before: Requests) -> Requests {
        let now = self.faults.requests();
        Requests {
            put: now.put - before.put,
            get: now.get - before.get,
            list: now.list - before.list,
            remove: now.remove - before.remove,
        }
    }

    /// The application writes until the log has so many batches: the first two are the beginnings of an epoch and of the stream.
    fn write(&mut self, batches: u64) -> Application {
        let begun = Instant::now();
        let running = self.sequencer("sequencer");
        let mut application = Application::begin(&self.path("app.db"), running.address);
        let before = self.faults.requests();
        let mut last = Sequence::FIRST;
        for _ in 2..batches {
            last = application.commit();
        }
        application.wait_stored(last);
        let (asked, seconds) = (self.since(before), begun.elapsed().as_secs_f64());
        assert_eq!(last.get(), batches, "each submission is one message");
        self.stop(running);
        println!(
            "{}: {batches} batches written in {seconds:.1} s, {:.0} batches/s, {asked:?}",
            self.name,
            batches as f64 / seconds
        );
        // The batch of the snapshot may be under way when the counting begins.
        assert!((batches - 2..=batches - 1).contains(&asked.put), "one put for each batch: {asked:?}");
        // Behind the batch of the snapshot its chunks are looked for, once.
        assert_eq!(asked.get, 0, "a leader asks for nothing");
        assert!(asked.list <= 1, "a leader looks for nothing but the chunks of a snapshot: {asked:?}");
        application
    }

    /// Another process of the sequencer leads, with the journals of this name, and the application goes on.
    fn lead_again(&mut self, journals: &str, application: &mut Application) -> Sequence {
        let (begun, before) = (Instant::now(), self.faults.requests());
        let running = self.sequencer(journals);
        application.turn_to(running.address);
        let last = application.commit();
        application.wait_stored(last);
        let (asked, seconds) = (self.since(before), begun.elapsed().as_secs_f64());
        self.stop(running);
        println!("{}: led again with journals `{journals}` after {seconds:.2} s, {asked:?}", self.name);
        assert_eq!(asked.put, 3, "an epoch, its batch, and the application's: {asked:?}");
        assert!(asked.total() <= BEGINNING_MAX + looks_max(last), "{asked:?}");
        last
    }

    /// The whole folder of batches, page by page; each begins where the one before ended.
    fn list(&self, last: Sequence) {
        let folder = Folder { stream: STREAM, kind: Kind::Batch };
        let (begun, before) = (Instant::now(), self.faults.requests());
        let mut firsts = Vec::new();
        let mut start = Some(Start::of(folder));
        while let Some(place) = start {
            let page = self.runtime.block_on(self.store.list(&place, PageLimit::MAX)).unwrap();
            firsts.extend(page.keys.into_iter().map(|key| {
                let Key::Batch { first, .. } = key else { panic!("{key} among the batches") };
                first.get()
            }));
            start = page.next;
        }
        let (asked, seconds) = (self.since(before), begun.elapsed().as_secs_f64());
        println!("{}: {} batches listed in {seconds:.2} s, {asked:?}", self.name, firsts.len());
        // One message in each: dense numbers, and exactly as many as were written.
        assert!(firsts.iter().copied().eq(1..=last.get()), "{} of {last}", firsts.len());
        // A bucket may say of a full page that another one follows, and mean an empty one.
        let pages = last.get() / u64::from(PAGE_KEYS_MAX) + 1;
        assert_eq!((asked.put, asked.get), (0, 0));
        assert!(asked.list <= pages, "{asked:?}, and there are {pages} pages");
        let (begun, before) = (Instant::now(), self.faults.requests());
        assert_eq!(self.runtime.block_on(last_batch(&*self.store, STREAM)).unwrap(), Some(last));
        let asked = self.since(before);
        println!("{}: the last one found in {:.3} s, {asked:?}", self.name, begun.elapsed().as_secs_f64());
        assert!(asked.total() <= looks_max(last), "{asked:?}");
    }

    /// A validator that knows a key and the store makes the database anew.
    fn replay(&self, last: Sequence, application: &Application) {
        let replica = self.path("replica.db");
        let config = Config {
            stream: Some(STREAM),
            replica: replica.clone(),
            sequencer_keys: vec![self.key.unwrap()],
            mode: Mode::Once,
            ..Config::default()
        };
        let (begun, before) = (Instant::now(), self.faults.requests());
        let store = Arc::clone(&self.store);
        let replayed =
            synddb_validator::run_over(store, config, Metrics::detached(), Shutdown::new(), |_| {});
        let end = self.runtime.block_on(replayed).unwrap();
        let (asked, seconds) = (self.since(before), begun.elapsed().as_secs_f64());
        println!(
            "{}: {last} batches verified and replayed in {seconds:.1} s, {:.0} batches/s, {asked:?}",
            self.name,
            last.get() as f64 / seconds
        );
        assert_eq!((end.sequence, end.state), (Some(last), Some(application.state())));
        assert_eq!(first_difference(&self.path("app.db"), &replica).unwrap(), None);
        // A reader computes keys. Where answers take long, a page of names hints at several hundred of them.
        assert_eq!(asked.put, 0);
        assert!(asked.list <= last.get() / HINTED_MIN + 2, "{asked:?}");
        assert!((last.get()..=last.get() + BESIDE_MAX).contains(&asked.get), "{asked:?}");
    }

    /// The command finds the same log whole, where it can reach the store, and shows a message from its middle.
    fn verify(&self, last: Sequence) {
        let Some(address) = &self.place.address else { return };
        let (stream, key) = (STREAM.to_string(), self.key.unwrap().to_string());
        let command = |arguments: &[&str]| {
            let mut command = synddb(arguments.iter().copied());
            command.envs(address.environment.iter().map(|(name, value)| (name, value)));
            let begun = Instant::now();
            let (exit, told, errors) = run(command);
            let seconds = begun.elapsed().as_secs_f64();
            assert_eq!(exit, 0, "{told}{errors}");
            println!("{}: `synddb {}` in {seconds:.1} s", self.name, arguments[0]);
            told
        };
        let told = command(&["verify", &address.url, "--stream", &stream, "--sequencer-key", &key, "--json"]);
        let report: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&report["size"], &report["batches"]),
            (&last.get().into(), &last.get().into()),
            "{report}"
        );
        println!("{}: {} bytes of batches", self.name, report["read"]["batch_bytes"]);
        let middle = (last.get() / 2).to_string();
        let told = command(&["inspect", "--store", &address.url, "--stream", &stream, "--sequence", &middle]);
        assert!(told.contains(&middle), "{told}");
    }
}

/// Most looks that the last of so many batches may take: leaps that double, and halves of the last one, down to a page.
fn looks_max(last: Sequence) -> u64 {
    2 * (u64::from((last.get() / u64::from(PAGE_KEYS_MAX)).max(1).ilog2()) + 1) + 2
}

/// All of it, in a store.
fn whole(name: &'static str, place: impl AsyncFnOnce(&Path) -> Place) {
    let batches = std::env::var("SYNDDB_STORE_BATCHES").map_or(BATCHES, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = runtime.block_on(place(folder.path()));
    let mut log = Log::at(name, runtime, folder, place);
    let mut application = log.write(batches);
    log.lead_again("sequencer", &mut application);
    // A sequencer whose journals are lost, or that never had any.
    let last = log.lead_again("another", &mut application);
    log.list(last);
    log.replay(last, &application);
    log.verify(last);
}

#[test]
fn thousands_in_files() {
    whole("files", async |folder| {
        let url = StoreUrl::folder(&folder.join("store")).unwrap();
        let store = ObjectBatchStore::open(&url).await.unwrap();
        let address = Some(Address { url: url.to_string(), environment: Vec::new() });
        Place { store, address, _server: None }
    });
}

#[test]
fn thousands_in_memory() {
    whole("memory", async |_| Place { store: ObjectBatchStore::memory(), address: None, _server: None });
}

/// The same in a part of a bucket.
fn whole_in_bucket(name: &'static str, platform: Platform) {
    if !platform.is_here() {
        return;
    }
    whole(name, async |_| {
        let server = ObjectServer::start(platform).unwrap();
        server.bucket("logs").unwrap();
        let (url, environment) = (format!("{}/part/of", server.url("logs")), server.variables());
        let variables: Variables = environment.iter().cloned().collect();
        let store = ObjectBatchStore::open_with(&url.parse().unwrap(), &variables).await.unwrap();
        Place { store, address: Some(Address { url, environment }), _server: Some(server) }
    });
}

#[test]
fn thousands_in_gcs() {
    whole_in_bucket("gcs", Platform::Gcs);
}

#[test]
fn thousands_in_s3() {
    whole_in_bucket("s3", Platform::S3);
}

#[test]
fn thousands_in_azure() {
    whole_in_bucket("azure", Platform::Azure);
}
