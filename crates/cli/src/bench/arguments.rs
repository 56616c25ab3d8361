//! The command line of `synddb bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// What is measured, and what the figures mean.
pub(crate) const FIGURES: &str = "\
What is measured:
  A process writes a new database with the system's SQLite for some seconds: alone (bare), and with an agent that was started
  as a user would start it (captured), in turn. Captured counts until every commit is durable in the agent's outbox; then the
  database is scanned in full and compared with what was captured, and the commits are counted. If anything is missing there
  are no figures, and the exit code is 1. On both sides the writer gets warm first, which does not count: until its WAL has begun
  anew twice, so that the file has its size and is overwritten from then on.

What the figures mean:
  ratio        captured transactions a second through bare ones, of one pair: median of the pairs [least..most]. Above 1 the
               agent speeds the writer up: it takes checkpoints over, of a larger WAL, while the writer goes on. A part of
               that a bare writer would have of a larger `wal_autocheckpoint`; it has SQLite's default
  p50 p99 max  of one transaction, from its beginning to the return of its COMMIT, in microseconds: medians over the runs,
               and the longest of all runs
  wrote        seconds that the writer wrote, and until everything was captured
  WAL          the largest that the application's WAL became. What is in it at the end is copied back by neither side
  agent        processor time of agent and pin for each captured row, and the most memory that the agent had
  locks        how often the agent took the write lock and how long it held it, a second; the longest time ever
  trigger-outbox, session-outbox
               what capture would cost inside the application's own transactions: the same writer without an agent
  latency      of commits that come every 25, 10 and 1 ms: what each took the writer; from its return until the agent had its
               changeset; and until that was durable in the outbox. Beside it, what this disk takes to sync one page
  giant        one transaction of 500,000 rows: seconds from its return until it was durable in the outbox
  walk         attaching to a database that is there already: the walk alone, and the whole with the snapshot. The database
               was just written, so it is read from memory
  idle         the agent of `synddb dev` once everything is stored: share of one processor, wake-ups, and with `strace` its
               calls of the kernel, of which those that send are as many as there can be requests
  Figures of one run compare with each other. They do not compare with those of another machine, folder or day.
  Everything takes about twenty minutes, during which the machine should have nothing else to do.";

/// What is measured of a replica, and what the figures mean.
const REPLICA_FIGURES: &str = "\
What is measured:
  A process writes a new database with the system's SQLite for some seconds, alone; then another one writes as many transactions
  beside an agent and a sequencer, until all of them are stored. The stored log is then read in turn by a replica, a process as a user would
  start it (`synddb replica --once`), and by SQLite's own `sqlite3changeset_apply`, which gets the same row changes. At the end the replica
  is compared row by row with the application's database and with what SQLite made. If anything differs there are no figures, and the exit code is 1.

What the figures mean:
  replica      row changes a second, from the start of the process until everything is applied: signatures, hashes, the log's tree, and the state
               hash after every submission are checked, and the first snapshot is restored
  changeset    row changes a second of sqlite3changeset_apply, a call for each commit, in transactions as large as the replica's, with the same
               pragmas; reading and opening the log does not count
  ratio        replica through changeset, of one pair: median of the pairs [least..most]
  app          row changes a second that the writer made alone, and the replica's through that
  cpu, memory  of the replica's process: processor time for each row change, and the most memory that it had
  lag          of commits that come every 25, 10 and 1 ms under `synddb dev`: from the return of COMMIT until the row is seen in the replica's file by
               somebody who looks every fifth of a millisecond
  Figures of one run compare with each other. They do not compare with those of another machine, folder or day.";

/// What is measured of a sequencer, and what the figures mean.
const SEQUENCER_FIGURES: &str = "\
What is measured:
  Clients submit to a sequencer, a process as a user would start it, over keep-alive connections; its journal and its store are files on one disk.
  Each client is one stream, and has one submission under way, as an agent has: two on one stream could arrive in the wrong order. Before they are
  measured they submit for a while, so that the journals' files have their size and are overwritten. Each submission is one commit whose rows do not compress. Bodies are made beforehand, as far as there is memory for. Clients and sequencer share the processors. At the end
  everything acknowledged is waited for in the store, which is then read: every batch is verified, and each commit must stand there once, in the place
  that its receipt named. If anything else is found there are no figures, and the exit code is 1.

What the figures mean:
  submissions  acknowledged a second; an acknowledgement comes after an fsync of the journal (`synchronous=FULL`)
  p50 .. max   from the first byte of a request to the last one of its answer, in milliseconds
  MB/s         bytes of bodies acknowledged a second
  cpu          processor time of the sequencer for each submission, its share of one processor, and that of the clients
  stored       seconds from the last acknowledgement until everything was stored, and in how many batches
  syncs        `fdatasync` and `fsync` for each submission, of journals and of the store, in a run of its own under `strace`
  restart      a sequencer that finds many messages in its journal which are not stored: seconds from its start until it takes something new, and until
               everything is stored
  Figures of one run compare with each other. They do not compare with those of another machine, folder or day.";

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    pub(super) bench: Bench,
}

#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Measures what capture costs the writer.
    #[command(after_help = FIGURES)]
    Capture(CaptureArguments),
    /// Measures how fast a replica catches up with a stored log, and how far behind a live one is.
    #[command(after_help = REPLICA_FIGURES)]
    Replica(ReplicaArguments),
    /// Measures how much a sequencer accepts, and how soon it acknowledges.
    #[command(after_help = SEQUENCER_FIGURES)]
    Sequencer(SequencerArguments),
    /// Writes a database, as it is told. Benchmarks start it.
    #[command(hide = true)]
    Write {
        /// What to write, in JSON.
        order: String,
    },
}

/// What every benchmark is told.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// How long the writer writes in each run.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub(super) seconds: f64,
    /// Pairs of runs: of each, one is what the other is compared with.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) pairs: u32,
    /// Where the folder with everything that is made goes, on a real disk. It is removed at the end.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub(super) dir: PathBuf,
    /// The library that the writer writes with.
    #[arg(long, value_name = "LIBRARY", default_value = "libsqlite3.so.0")]
    pub(super) sqlite: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct SequencerArguments {
    /// How long clients submit in each run.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub(super) seconds: f64,
    /// Where the folder with everything that is made goes, on a real disk. It is removed at the end.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub(super) dir: PathBuf,
    /// How long clients submit before, which does not count: until the journals' files have their size.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = no_seconds_or_more)]
    pub(super) warm_up: f64,
    /// How many clients, each with a stream of its own; a run for each number.
    #[arg(long, value_name = "NUMBER", value_delimiter = ',', default_value = "1,8,64", value_parser = streams)]
    pub(super) streams: Vec<usize>,
    /// About how large a submission is as it is sent, in bytes; a run for each size. None is smaller than a commit of one byte.
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "200,10000,1000000", value_parser = bytes)]
    pub(super) bytes: Vec<usize>,
    /// How many messages the journal holds of a sequencer that is started again.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) messages: u64,
    /// Only these.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(super) only: Vec<SequencerScenario>,
}

/// What is measured of a sequencer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SequencerScenario {
    /// Clients that submit, a run for each number of streams and each size.
    Submit,
    /// A restart with much in the journal that is not stored.
    Restart,
}

/// Most streams that one sequencer leads.
const STREAMS_MAX: usize = 64;

/// Largest body that is submitted: no more than any may have, with what zstd adds to what does not compress.
const BYTES_MAX: usize = 8_000_000;

fn streams(text: &str) -> Result<usize, String> {
    up_to(STREAMS_MAX, text)
}

fn bytes(text: &str) -> Result<usize, String> {
    up_to(BYTES_MAX, text)
}

fn up_to(most: usize, text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("give a number from 1 to {most}"))
}

#[derive(Debug, Args)]
pub(super) struct ReplicaArguments {
    #[command(flatten)]
    pub(super) run: RunArguments,
    /// Only these scenarios.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(super) only: Vec<ReplicaScenario>,
}

/// What is measured of a replica. They run in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ReplicaScenario {
    /// A log of transactions of 100 INSERTs.
    Rows,
    /// A log of an order book.
    Orders,
    /// The same with four indexes.
    OrdersIndexed,
    /// A log of an order book, by a validator with ten rules and without any.
    OrdersRuled,
    /// How long after its COMMIT a row is in a live replica.
    Lag,
}

impl ReplicaScenario {
    /// Its name on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(Debug, Args)]
pub(super) struct CaptureArguments {
    #[command(flatten)]
    pub(super) run: RunArguments,
    /// How long the writer may take in each run to get warm; 0 begins cold, and a scenario that did is marked.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = no_seconds_or_more)]
    pub(super) warm_up: f64,
    /// Only these scenarios.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(super) only: Vec<Scenario>,
    /// How large the database of `walk` is, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000_000)]
    pub(super) walk_bytes: u64,
}

/// Longest time that a writer writes in one run, in seconds: an agent adds the commit of an audit every hour, and keeps what nobody takes
/// only up to a limit.
const SECONDS_MAX: f64 = 600.0;

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => Ok(seconds),
        Ok(_) | Err(_) => Err(format!("give a number of seconds above 0 and up to {SECONDS_MAX}")),
    }
}

fn no_seconds_or_more(text: &str) -> Result<f64, String> {
    if text.parse() == Ok(0.0) { Ok(0.0) } else { seconds(text) }
}

/// What is measured. They run in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// One INSERT a transaction, `synchronous=NORMAL`.
    RowNormal,
    /// 100 INSERTs a transaction, `synchronous=NORMAL`.
    RowsNormal,
    /// One INSERT a transaction, `synchronous=FULL`.
    RowFull,
    /// 100 INSERTs a transaction, `synchronous=FULL`.
    RowsFull,
    /// An order book: two INSERTs and three UPDATEs a transaction.
    OrdersNormal,
    /// The same with four indexes.
    OrdersIndexedNormal,
    /// Triggers that write an outbox table, instead of an agent.
    TriggerOutbox,
    /// A session of SQLite for each transaction, whose changeset goes into an outbox table, instead of an agent.
    SessionOutbox,
    /// Agent, sequencer and validator, until everything is in the replica.
    ThroughReplica,
    /// How soon a commit is captured, and durable in the outbox.
    Latency,
    /// One transaction of 500,000 rows.
    Giant,
    /// An agent that attaches to a database that is there already.
    Walk,
    /// An agent while nothing is committed and everything is stored.
    Idle,
}

impl Scenario {
    /// Every one.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// Its name on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it is one of pairs of runs.
    pub(super) const fn is_paired(self) -> bool {
        !matches!(self, Self::Latency | Self::Giant | Self::Walk | Self::Idle)
    }

    /// Whether the writer's library must have the session functions.
    pub(super) const fn needs_sessions(self) -> bool {
        matches!(self, Self::SessionOutbox)
    }
}
