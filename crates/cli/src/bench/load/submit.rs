//! One run: a sequencer of its own, driven by some clients for a time.
//!
//! What must stay true: everything acknowledged is in the store at the end, once and in its place, before there are figures.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use synddb_service::secret::write_new_secret;
use tokio::task::{JoinSet, LocalSet};

use super::client::Client;
use super::drive::Driven;
use super::stored::Stored;
use super::syncs::{self, Syncs};
use super::wrong;
use crate::bench::agent::TOKEN;
use crate::bench::pairs::number;
use crate::bench::sequencer::{Sequencer, Under};
use crate::bench::usage::{Usage, memory_peak_bytes};
use crate::bench::{Bench, BenchError};
use crate::exit::CommandError;
use crate::process;

/// All bodies together that are made before a run, in bytes. What is sent beyond is made meanwhile.
const MADE_BYTES: usize = 256 << 20;

/// Bodies that are made before a run, for each second of it. What is sent beyond is made meanwhile.
const MADE_PER_SECOND: f64 = 25_000.0;

/// How long calls of the kernel are counted, in seconds.
const TRACED_SECONDS: f64 = 1.0;

/// How much a sequencer accepted, and how soon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Clients, each with its own stream and one submission under way: so many requests were under way at any time.
    pub streams: usize,
    /// The mean size of a body as it was sent, in bytes.
    pub body_bytes: f64,
    /// How long they submitted.
    pub seconds: f64,
    /// Submissions that were acknowledged, each of one commit.
    pub submissions: u64,
    /// The same, a second.
    pub submissions_per_second: f64,
    /// Bytes of bodies, a second.
    pub bytes_per_second: f64,
    /// From the first byte of a request to the last one of its answer: durable on the sequencer's disk.
    pub acknowledged: Acknowledged,
    /// How often a client was refused because something was full.
    pub refused: u64,
    /// From the last acknowledgement until everything was stored.
    pub stored_after_seconds: f64,
    /// Batches that it is stored in, over all streams.
    pub batches: u64,
    /// Processor time of the sequencer, of one processor.
    pub cpu_percent: f64,
    /// The same for each submission, in microseconds.
    pub cpu_us_per_submission: f64,
    /// Processor time of the clients, of one processor.
    pub clients_cpu_percent: f64,
    /// The most memory that the sequencer had, in bytes.
    pub memory_bytes_max: u64,
    /// How often the disk was waited for, in a run of its own; `None` where that could not be seen.
    pub syncs: Option<Syncs>,
    /// Why not.
    pub syncs_unseen: Option<String>,
}

/// How soon submissions were acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The median, in nanoseconds.
    pub p50_ns: u64,
    /// All but one in a hundred were as soon.
    pub p99_ns: u64,
    /// All but one in a thousand were as soon.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// What people call a run.
pub(super) fn name(streams: usize, bytes: usize) -> String {
    format!("{streams} x {bytes} B")
}

/// Measures it.
pub(super) fn run(bench: &Bench, streams: usize, bytes: usize) -> Result<Load, BenchError> {
    let name = name(streams, bytes);
    bench.progress.set(name.clone());
    let room = bench.room()?;
    let run = Run::make(bench, room.path(), streams, bytes, bench.seconds, &Under::Nothing)?;
    drop(room);
    bench.progress.set(format!("{name}, traced"));
    let (syncs, syncs_unseen) = match traced(bench, streams, bytes)? {
        Ok(syncs) => (Some(syncs), None),
        Err(why) => (None, Some(why)),
    };
    let (submissions, seconds) = (run.took_ns.len() as u64, run.seconds);
    let sent = number(run.bytes);
    Ok(Load {
        streams,
        body_bytes: sent / number(submissions),
        seconds,
        submissions,
        submissions_per_second: number(submissions) / seconds,
        bytes_per_second: sent / seconds,
        acknowledged: spread(run.took_ns),
        refused: run.refused,
        stored_after_seconds: run.stored_after.as_secs_f64(),
        batches: run.batches,
        cpu_percent: run.cpu.as_secs_f64() / seconds * 100.0,
        cpu_us_per_submission: run.cpu.as_secs_f64() * 1e6 / number(submissions),
        clients_cpu_percent: run.clients_cpu.as_secs_f64() / seconds * 100.0,
        memory_bytes_max: run.memory_bytes_max,
        syncs,
        syncs_unseen,
    })
}

/// The same for a moment, with every call that waits for the disk noted; or why that cannot be seen.
fn traced(bench: &Bench, streams: usize, bytes: usize) -> Result<Result<Syncs, String>, BenchError> {
    let room = bench.room()?;
    let log = room.path().join("calls");
    let tracer = match syncs::tracer(&log) {
        Ok(tracer) => tracer,
        Err(why) => return Ok(Err(why)),
    };
    let seconds = bench.seconds.min(TRACED_SECONDS);
    let run = Run::make(bench, room.path(), streams, bytes, seconds, &Under::Tracer(tracer))?;
    let since_1970 = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let from = since_1970(run.from);
    let to = from + Duration::from_secs_f64(run.seconds);
    syncs::count(&log, from, to, run.took_ns.len() as u64).map(Ok)
}

/// What one run gave.
struct Run {
    from: SystemTime,
    seconds: f64,
    took_ns: Vec<u64>,
    bytes: u64,
    refused: u64,
    stored_after: Duration,
    batches: u64,
    cpu: Duration,
    clients_cpu: Duration,
    memory_bytes_max: u64,
}

impl Run {
    fn make(
        bench: &Bench,
        folder: &Path,
        streams: usize,
        bytes: usize,
        seconds: f64,
        under: &Under,
    ) -> Result<Self, BenchError> {
        let warm_up = bench.warm_up.min(seconds);
        let clients = clients(streams, bytes, warm_up + seconds)?;
        let token = folder.join("token");
        write_new_secret(&token, TOKEN).map_err(CommandError::from)?;
        let sequencer = Sequencer::start_under(bench, folder, &token, under)?;
        let address = address(sequencer.url())?;
        let runtime = process::runtime()?;
        let begins = clients.into_iter().map(|client| Driven::begin(address, client));
        let driven = runtime.block_on(all(begins))?;
        let driven = runtime.block_on(drive(bench, driven, warm_up))?;
        let pid = sequencer.id();
        let used = |pid| Usage::of(&[pid]).map_err(BenchError::system("read what a process used"));
        let own = std::process::id();
        let (before, clients_before, from, since) =
            (used(pid)?, used(own)?, SystemTime::now(), Instant::now());
        let driven = runtime.block_on(drive(bench, driven, seconds))?;
        let (seconds, acknowledged) = (since.elapsed().as_secs_f64(), Instant::now());
        let (cpu, clients_cpu) = (used(pid)?.since(&before).cpu, used(own)?.since(&clients_before).cpu);
        let waits = driven.into_iter().map(|one| one.stored(bench.stop.clone()));
        let driven = runtime.block_on(all(waits))?;
        let stored_after = acknowledged.elapsed();
        let memory_bytes_max =
            memory_peak_bytes(pid).map_err(BenchError::system("read what a process used"))?;
        let (store, key) = (sequencer.store().to_owned(), sequencer.key().to_owned());
        sequencer.end()?;
        let stored = Stored::open(bench, &store, &key)?;
        let mut batches = 0;
        for one in &driven {
            batches += stored.check(one.client.stream(), &one.acknowledged)?;
        }
        Ok(Self {
            from,
            seconds,
            bytes: driven.iter().map(|one| one.bytes).sum(),
            refused: driven.iter().map(|one| one.refused).sum(),
            took_ns: driven.into_iter().flat_map(|one| one.took_ns).collect(),
            stored_after,
            batches,
            cpu,
            clients_cpu,
            memory_bytes_max,
        })
    }
}

/// Clients with most of what they will send.
fn clients(streams: usize, bytes: usize, seconds: f64) -> Result<Vec<Client>, BenchError> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some thousands a second, for minutes"
    )]
    let wanted = (MADE_PER_SECOND * seconds) as usize;
    let each = wanted.min(MADE_BYTES / bytes.max(1)) / streams;
    let noise = Client::noise(bytes);
    // A program that was not built to be fast takes long for each body; no more time is spent on them than on the run.
    let (mut until, share) = (Instant::now(), Duration::from_secs_f64(seconds / number(streams as u64)));
    let mut clients = Vec::with_capacity(streams);
    for number in (1..=u8::MAX).take(streams) {
        until += share;
        let mut client = Client::new(number, bytes, &noise)?;
        client.make(each, until)?;
        clients.push(client);
    }
    Ok(clients)
}

/// Where a sequencer listens.
pub(super) fn address(url: &str) -> Result<SocketAddr, BenchError> {
    let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
    address.ok_or_else(|| wrong(format!("an address that is none: {url}")))
}

/// Has all clients submit for a time, and measures it.
async fn drive(bench: &Bench, driven: Vec<Driven>, seconds: f64) -> Result<Vec<Driven>, BenchError> {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let drives = driven.into_iter().map(|mut one| {
        one.begin_to_count();
        one.drive(until, bench.stop.clone())
    });
    all(drives).await
}

/// Does all of these at once, on this thread.
async fn all<F>(of: impl Iterator<Item = F>) -> Result<Vec<Driven>, BenchError>
where
    F: Future<Output = Result<Driven, BenchError>> + 'static,
{
    let failed = |error| BenchError::system("drive a client")(std::io::Error::other(error));
    let local = LocalSet::new();
    let done = async {
        let mut tasks = JoinSet::new();
        for one in of {
            tasks.spawn_local(one);
        }
        let mut done = Vec::with_capacity(tasks.len());
        while let Some(end) = tasks.join_next().await {
            done.push(end.map_err(failed)??);
        }
        Ok(done)
    };
    local.run_until(done).await
}

/// Values that occurred, at their places among all.
fn spread(mut nanoseconds: Vec<u64>) -> Acknowledged {
    nanoseconds.sort_unstable();
    let at = |of_1000: usize| {
        let place = (nanoseconds.len() * of_1000).div_ceil(1000).saturating_sub(1);
        nanoseconds.get(place).copied().unwrap_or_default()
    };
    Acknowledged { p50_ns: at(500), p99_ns: at(990), p999_ns: at(999), max_ns: at(1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let Acknowledged { p50_ns, p99_ns, p999_ns, max_ns } = spread((1..=2000).rev().collect());
        assert_eq!((p50_ns, p99_ns, p999_ns, max_ns), (1000, 1980, 1998, 2000));
    }
}
