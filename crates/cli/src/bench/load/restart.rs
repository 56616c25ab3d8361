//! A sequencer that ended while its store took nothing: how soon it takes something new again, and how soon everything is stored.
//!
//! The journal is made in this process, by the sequencer's own code without HTTP. What was accepted then is stored first, in its order; the new epoch's
//! message stands behind it, and nothing new is taken before that is stored. So both times grow with the journal.
//!
//! What must stay true: everything that was accepted before is in the store at the end, in the place that it got then.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use synddb_protocol::id::Sequence;
use synddb_sequencer::{Config, accept_unstored};
use synddb_service::secret::write_new_secret;
use synddb_storage::{ObjectBatchStore, StoreUrl};

use super::client::Client;
use super::drive::{Driven, stored};
use super::stored::{Log, Stored};
use super::submit::address;
use super::wrong;
use crate::bench::agent::TOKEN;
use crate::bench::sequencer::{Sequencer, credentials_of};
use crate::bench::usage::{Usage, memory_peak_bytes};
use crate::bench::{Bench, BenchError};
use crate::exit::CommandError;
use crate::process;

/// How large a submission is, in bytes.
const BODY_BYTES: usize = 200;

/// What a restart took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// Messages in the journal that are not stored.
    pub messages: u64,
    /// The size of the journal's file.
    pub journal_bytes: u64,
    /// From the start of the process until it listens.
    pub listening_seconds: f64,
    /// Until it took the next submission.
    pub accepted_seconds: f64,
    /// Until everything was stored.
    pub stored_seconds: f64,
    /// Batches that it is stored in.
    pub batches: u64,
    /// Processor time of the sequencer, in microseconds a message.
    pub cpu_us_per_message: f64,
    /// The most memory that it had, in bytes.
    pub memory_bytes_max: u64,
}

/// Measures it.
pub(super) fn run(bench: &Bench, messages: u64) -> Result<Restart, BenchError> {
    bench.progress.set("restart, filling the journal".to_owned());
    let room = bench.room()?;
    let token = room.path().join("token");
    write_new_secret(&token, TOKEN).map_err(CommandError::from)?;
    let mut client = Client::new(1, BODY_BYTES, &Client::noise(BODY_BYTES))?;
    let first = fill(bench, room.path(), &token, &mut client, messages)?;
    let folder = room.path().join("sequencer/streams").join(client.stream().to_key());
    let size = folder.join("journal.db").metadata().map_err(BenchError::system("look at the journal"))?.len();
    bench.sync()?;
    bench.progress.set("restart".to_owned());
    let since = Instant::now();
    let sequencer = Sequencer::start(bench, room.path(), &token)?;
    let listening = since.elapsed();
    let (address, runtime) = (address(sequencer.url())?, process::runtime()?);
    let stream = client.stream();
    let body = client.next()?;
    let receipt = runtime.block_on(async {
        Driven::connect(address, client).await?.submit_once_led(&body, &bench.stop).await
    })?;
    let accepted = since.elapsed();
    let last = receipt.header().sequence;
    runtime.block_on(stored(address, stream, last, &bench.stop))?;
    let all_stored = since.elapsed();
    let failed = || BenchError::system("read what a process used");
    let cpu = Usage::of(&[sequencer.id()]).map_err(failed())?.since(&Usage::default()).cpu;
    let memory_bytes_max = memory_peak_bytes(sequencer.id()).map_err(failed())?;
    let (store, key) = (sequencer.store().to_owned(), sequencer.key().to_owned());
    sequencer.end()?;
    let Log { commits, batches } = Stored::open(bench, &store, &key)?.read(stream)?;
    let expected = (first.get()..first.get() + messages).chain([last.get()]);
    if !commits.iter().map(|sequence| sequence.get()).eq(expected) {
        return Err(wrong("what was accepted before is not in its place"));
    }
    Ok(Restart {
        messages,
        journal_bytes: size,
        listening_seconds: listening.as_secs_f64(),
        accepted_seconds: accepted.as_secs_f64(),
        stored_seconds: all_stored.as_secs_f64(),
        batches,
        cpu_us_per_message: cpu.as_secs_f64() * 1e6 / crate::bench::pairs::number(messages),
        memory_bytes_max,
    })
}

/// Makes a journal with so many messages of commits. Gives the first one's place.
fn fill(
    bench: &Bench,
    folder: &Path,
    token: &Path,
    client: &mut Client,
    messages: u64,
) -> Result<Sequence, BenchError> {
    let store = folder.join("store");
    std::fs::create_dir(&store).map_err(BenchError::system("make a folder"))?;
    let url = StoreUrl::folder(&store).map_err(CommandError::from)?;
    let config = Config {
        store: url.clone(),
        dir: folder.join("sequencer"),
        credentials_file: credentials_of(folder, token)?,
        key_file: folder.join("sequencer.key"),
        ..Config::default()
    };
    let failed = |error: &dyn std::error::Error| wrong(synddb_protocol::chain(error));
    let runtime = process::runtime()?;
    let stream = client.stream();
    let last = runtime.block_on(async {
        let store = ObjectBatchStore::open_existing(&url).await.map_err(|error| failed(&error))?;
        let mut unmade = None;
        let beginning = client.beginning_body()?;
        // One that cannot be made ends it, as does the wish that the benchmark ends.
        let commits = std::iter::from_fn(|| {
            let body = bench.go_on().and_then(|()| client.next_body());
            body.map_err(|error| unmade = Some(error)).ok()
        });
        let count = usize::try_from(messages).unwrap_or(usize::MAX);
        let bodies = std::iter::once(beginning).chain(commits.take(count));
        let accepted = accept_unstored(Arc::new(store), &config, stream, bodies).await;
        unmade.map_or(Ok(()), Err)?;
        accepted.map_err(|error| failed(&error))
    })?;
    let first = last.get().checked_sub(messages).and_then(|before| Sequence::new(before + 1).ok());
    first.filter(|first| first.get() == FIRST).ok_or_else(|| wrong("not everything was accepted"))
}

/// The first commit's place: behind the epoch's message and the snapshot.
const FIRST: u64 = 3;
