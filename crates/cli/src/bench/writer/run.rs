//! The writer's own process: makes the database, writes when it is told to, and says what it did.

use std::io::{self, BufRead as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use super::library::{Connection, Library, Statement};
use super::reference::Capturing;
use super::warming::Cycles;
use super::workload::Application;
use super::{COMMITTED_MAX, GO, Latency, Order, Said, Synchronous, Until, WARM_UP, Warmed, Wrote};
use crate::bench::BenchError;

/// Longest time that is told apart, in nanoseconds: an hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// Digits to which times are kept: three are a thousandth.
const LATENCY_DIGITS: u8 = 3;

/// Does what an order says.
pub(in crate::bench) fn run(order: &Order) -> Result<(), BenchError> {
    let orders = Orders::listen()?;
    let library = Library::load(&order.sqlite)?;
    let connection = Connection::open(&library, &order.database)?;
    let synchronous = match order.synchronous {
        Synchronous::Normal => "NORMAL",
        Synchronous::Full => "FULL",
    };
    let pragmas =
        format!("PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA busy_timeout=5000;");
    connection.exec("set its pragmas", &pragmas)?;
    order.workload.make(&connection, || !orders.is_over())?;
    let capturing = Capturing::make(order.capture, order.workload, &connection)?;
    let mut writing = Writing::new(order, &connection, capturing)?;
    say(&Said::Ready)?;
    // Any other word, and the end of the input, is its end.
    while let Ok(word) = orders.lines.recv() {
        match word.as_str() {
            WARM_UP => say(&Said::Warm(writing.warm_up(order, &orders)?))?,
            GO => say(&Said::Wrote(writing.write(order.until, &orders)?))?,
            _ => break,
        }
    }
    Ok(())
}

/// Prints a line.
fn say(said: &Said) -> Result<(), BenchError> {
    let failed = || BenchError::system("say what was written");
    let line = serde_json::to_string(said).map_err(|error| failed()(error.into()))?;
    let mut output = io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).map_err(failed())
}

/// What is said on standard input.
struct Orders {
    lines: Receiver<String>,
    is_over: Arc<AtomicBool>,
}

impl Orders {
    /// Listens in a thread of its own, which ends with the process: the end of standard input is noticed also while writing.
    fn listen() -> Result<Self, BenchError> {
        let (sender, lines) = sync_channel(2);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let listen = move || {
            forward(&sender);
            over.store(true, Ordering::SeqCst);
        };
        let thread = std::thread::Builder::new().name("orders".to_owned()).spawn(listen);
        thread.map_err(BenchError::system("start a thread"))?;
        Ok(Self { lines, is_over })
    }

    /// Whether nobody is there any more.
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

fn forward(orders: &SyncSender<String>) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        if orders.send(line).is_err() {
            return;
        }
    }
}

/// A writer with everything prepared.
struct Writing<'connection> {
    application: Application<'connection>,
    capturing: Capturing<'connection>,
    /// BEGIN and COMMIT, unless the one statement commits by itself.
    transaction: Option<[Statement<'connection>; 2]>,
    rows: u64,
}

impl<'connection> Writing<'connection> {
    fn new(
        order: &Order,
        connection: &'connection Connection,
        capturing: Capturing<'connection>,
    ) -> Result<Self, BenchError> {
        let is_alone = order.workload.is_one_statement() && !capturing.needs_transaction();
        let transaction = match is_alone {
            true => None,
            false => Some([
                connection.prepare("begin a transaction", "BEGIN IMMEDIATE")?,
                connection.prepare("commit a transaction", "COMMIT")?,
            ]),
        };
        let application = Application::new(order.workload, connection)?;
        Ok(Self { application, capturing, transaction, rows: order.workload.rows() })
    }

    /// Writes until the WAL has been through a whole cycle, or the time for that is over. Nothing of it counts.
    fn warm_up(&mut self, order: &Order, orders: &Orders) -> Result<Warmed, BenchError> {
        let mut cycles = Cycles::of(&order.database)?;
        let begun = Instant::now();
        let mut transactions = 0;
        while !cycles.is_whole() && begun.elapsed().as_secs_f64() < order.warm_up && !orders.is_over() {
            self.transaction()?;
            transactions += 1;
        }
        Ok(Warmed { transactions, is_warm: cycles.is_whole() })
    }

    /// Writes until it is enough.
    fn write(&mut self, until: Until, orders: &Orders) -> Result<Wrote, BenchError> {
        let mut latency = Histogram::<u64>::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS)
            .map_err(|error| BenchError::system("measure times")(io::Error::other(error)))?;
        let mut committed_ns = Vec::new();
        let mut transactions = 0;
        let begun = Instant::now();
        let mut last = begun;
        while !orders.is_over() && goes_on(until, transactions, begun) {
            let since = Instant::now();
            self.transaction()?;
            last = Instant::now();
            if matches!(until, Until::Paced { .. }) {
                committed_ns.push(monotonic_ns());
            }
            latency.saturating_record(nanoseconds(last - since).max(1));
            transactions += 1;
        }
        Ok(Wrote {
            transactions,
            rows: transactions * self.rows,
            seconds: (last - begun).as_secs_f64(),
            latency: Latency {
                p50_ns: latency.value_at_quantile(0.5),
                p99_ns: latency.value_at_quantile(0.99),
                max_ns: latency.max(),
            },
            committed_ns,
        })
    }

    fn transaction(&mut self) -> Result<(), BenchError> {
        let Some([begin, commit]) = &mut self.transaction else { return self.application.statements() };
        begin.run()?;
        let session = self.capturing.begin()?;
        self.application.statements()?;
        self.capturing.keep(session)?;
        commit.run()
    }
}

/// Whether another transaction is to be written, once it is time for it.
fn goes_on(until: Until, transactions: u64, begun: Instant) -> bool {
    match until {
        // One at least, of which there are figures.
        Until::Seconds(seconds) => transactions == 0 || begun.elapsed().as_secs_f64() < seconds,
        Until::Transactions(wanted) => transactions < wanted,
        Until::Paced { transactions: wanted, every } => {
            if transactions >= wanted.min(COMMITTED_MAX) {
                return false;
            }
            let at = every.saturating_mul(u32::try_from(transactions).unwrap_or(u32::MAX));
            // One that is late does not delay those after it.
            std::thread::sleep(at.saturating_sub(begun.elapsed()));
            true
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The kernel's clock that every process of this machine shares.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let part = |part: i64| u64::try_from(part).unwrap_or_default();
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}
