//! What was measured: for people a line each under one heading, for programs the same as JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Acknowledged, Agent, CallsPerMinute, CatchUp, Figures, Giant, Idle, Lag, Lags, Latencies, Latency, Load,
    Paced, Pairs, Ratio, Restart, Ruled, Synchronous, Syncs, Walk,
};
use crate::output::mib;

/// On what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The version of this program.
    pub synddb: String,
    /// Whether it was built to be fast. Figures of one that was not say nothing.
    pub is_optimized: bool,
    /// The version of the SQLite that the writer writes with; of a sequencer alone, that of its journal.
    pub sqlite: String,
    /// Whether that has the session extension.
    pub sessions: bool,
    /// The file system of the databases.
    pub file_system: String,
    /// Processors that this process may use; writer, agent and all others share them.
    pub processors: usize,
    /// How long the writer writes in each run.
    pub seconds: f64,
    /// Pairs of runs.
    pub pairs: u32,
    /// The scenarios, in their order.
    pub scenarios: Vec<String>,
    /// Whether any of them is one of pairs.
    pub has_pairs: bool,
}

/// What was measured of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "measure", rename_all = "snake_case")]
pub enum Measured {
    /// Runs with and without.
    Pairs(Box<Pairs>),
    /// How soon commits are captured.
    Latency(Latencies),
    /// One huge transaction.
    Giant(Giant),
    /// Attaching to a database that is there already.
    Walk(Walk),
    /// An agent with nothing to do.
    Idle(Idle),
    /// A replica that catches up with a stored log.
    CatchUp(Box<CatchUp>),
    /// What rules cost a validator.
    Ruled(Box<Ruled>),
    /// How far behind a live replica is.
    Lag(Lags),
    /// What a sequencer accepted.
    Load(Box<Load>),
    /// A sequencer that was started again.
    Restart(Restart),
}

/// What people read first.
pub(crate) fn heading(machine: &Machine) -> String {
    let Machine { synddb, is_optimized, sqlite, file_system, processors, seconds, pairs, has_pairs, .. } =
        machine;
    let build =
        if *is_optimized { "" } else { " (built with --release it is faster: these figures say nothing)" };
    let machine = format!(
        "synddb {synddb}{build}, SQLite {sqlite}, {file_system}, processors: {processors}, {seconds} s a run, pairs: {pairs}"
    );
    if !has_pairs {
        return machine;
    }
    let above = ["", "bare", "captured", "", "bare us", "captured us", "wrote, whole", "WAL", "agent"];
    let below = [
        "scenario",
        "tx/s",
        "tx/s",
        "ratio [min..max]",
        "p50 p99 max",
        "p50 p99 max",
        "s",
        "MiB",
        "us/row, memory, locks/s, us/s, max us",
    ];
    format!("{machine}\n\n{}\n{}", columns(above), columns(below))
}

/// The columns of pairs.
fn columns([scenario, bare, captured, ratio, bare_us, captured_us, whole, wal, agent]: [&str; 9]) -> String {
    let line = format!(
        "{scenario:<21} {bare:>9} {captured:>9}  {ratio:<19} {bare_us:>21} {captured_us:>23} {whole:>13} {wal:>7}  {agent}"
    );
    line.trim_end().to_owned()
}

/// A line of what was measured.
pub(crate) fn line(measured: &Measured) -> String {
    match measured {
        Measured::Pairs(pairs) => of_pairs(pairs),
        Measured::Latency(latencies) => of_latencies(latencies),
        Measured::Giant(giant) => of_giant(giant),
        Measured::Walk(walk) => of_walk(walk),
        Measured::Idle(idle) => of_idle(idle),
        Measured::CatchUp(caught_up) => of_catch_up(caught_up),
        Measured::Ruled(ruled) => of_ruled(ruled),
        Measured::Lag(lags) => of_lags(lags),
        Measured::Load(load) => of_load(load),
        Measured::Restart(restart) => of_restart(restart),
    }
}

fn of_pairs(pairs: &Pairs) -> String {
    let Pairs { scenario, bare, captured, ratio, agent, is_warm, .. } = pairs;
    let ratio = of_ratio(ratio);
    let agent = agent.as_ref().map_or_else(String::new, |agent| {
        let Agent { cpu_us_per_row, memory_bytes_max, write_locked_us_max, .. } = agent;
        let (locks, locked_us) = (agent.write_locks_per_second, agent.write_locked_us_per_second);
        let memory = mib(*memory_bytes_max);
        format!("{cpu_us_per_row:.2}, {memory}, {locks:.1}, {locked_us:.0}, {write_locked_us_max}")
    });
    let cold = if *is_warm { "" } else { "  began cold" };
    let per_second = |figures: &Figures| format!("{:.0}", figures.transactions_per_second);
    columns([
        scenario,
        &per_second(bare),
        &per_second(captured),
        &ratio,
        &latency(&bare.latency),
        &latency(&captured.latency),
        &format!("{:.2}, {:.2}", captured.wrote_seconds, captured.whole_seconds),
        mib(captured.wal_bytes).trim_end_matches(" MiB"),
        &format!("{agent}{cold}"),
    ])
}

/// A heading of its own, and a line for each pace.
fn of_latencies(latencies: &Latencies) -> String {
    let Latencies { disk_before, disk_after, runs } = latencies;
    let mut lines = format!(
        "\n{:<21} {:>9}  {:>21} {:>23} {:>23}   p50 p99 max, us; the disk syncs a page in {}, {} afterwards",
        "latency",
        "commits",
        "commit",
        "until captured",
        "until durable",
        latency(disk_before),
        latency(disk_after),
    );
    for Paced { synchronous, every_ms, commits, commit, captured, kept } in runs {
        let synchronous = match synchronous {
            Synchronous::Normal => "normal",
            Synchronous::Full => "full",
        };
        let name = format!("{synchronous}, every {every_ms} ms");
        let [commit, captured, kept] = [commit, captured, kept].map(latency);
        lines += &format!("\n{name:<21} {commits:>9}  {commit:>21} {captured:>23} {kept:>23}");
    }
    lines
}

fn of_giant(giant: &Giant) -> String {
    let Giant { rows, text_bytes, written_seconds, captured_seconds, cpu_seconds, memory_peak_bytes } = giant;
    format!(
        "giant: {rows} rows of {text_bytes} bytes; written in {written_seconds:.2} s, durable in the outbox {captured_seconds:.2} s later; \
         agent {cpu_seconds:.2} s of processor, {}",
        mib(*memory_peak_bytes),
    )
}

fn of_walk(walk: &Walk) -> String {
    let Walk {
        database_bytes,
        walk_seconds,
        attached_seconds,
        snapshot_bytes,
        cpu_seconds,
        memory_peak_bytes,
    } = walk;
    format!(
        "walk: {}, walked in {walk_seconds:.2} s, attached with a snapshot of {} after {attached_seconds:.2} s; \
         agent {cpu_seconds:.2} s of processor, {}",
        mib(*database_bytes),
        mib(*snapshot_bytes),
        mib(*memory_peak_bytes),
    )
}

fn of_idle(idle: &Idle) -> String {
    let Idle { seconds, cpu_percent, wakeups_per_minute, calls, calls_unseen } = idle;
    let calls = match (calls, calls_unseen) {
        (Some(CallsPerMinute { calls_per_minute, sent_per_minute }), _) => {
            format!("{calls_per_minute:.1} calls of the kernel a minute, {sent_per_minute:.1} that send")
        }
        (None, unseen) => {
            format!("calls of the kernel not seen: {}", unseen.as_deref().unwrap_or("no reason"))
        }
    };
    format!(
        "idle: {cpu_percent:.3} % of a processor, {wakeups_per_minute:.1} wake-ups a minute, over {seconds:.0} s; {calls}"
    )
}

fn of_catch_up(caught_up: &CatchUp) -> String {
    let CatchUp { scenario, transactions, row_changes, stored_bytes, .. } = caught_up;
    format!(
        "catch-up of {scenario}: {transactions} transactions, {row_changes} row changes, {} stored; replica {:.0} row changes/s, \
         changeset_apply {:.0}/s, ratio {}; app {:.0}/s, replica through app {:.2}; {:.2} us of processor a row change, {}",
        mib(*stored_bytes),
        caught_up.replica_per_second,
        caught_up.changeset_per_second,
        of_ratio(&caught_up.ratio),
        caught_up.app_per_second,
        caught_up.replica_per_second / caught_up.app_per_second,
        caught_up.cpu_us_per_row_change,
        mib(caught_up.memory_bytes_max),
    )
}

fn of_ruled(ruled: &Ruled) -> String {
    let Ruled { scenario, transactions, row_changes, rules, .. } = ruled;
    format!(
        "catch-up of {scenario}: {transactions} transactions, {row_changes} row changes; {rules} rules {:.0} row changes/s, none {:.0}/s, \
         ratio {}; {:.2} us of processor a rule and transaction",
        ruled.ruled_per_second,
        ruled.plain_per_second,
        of_ratio(&ruled.ratio),
        ruled.cpu_us_per_rule,
    )
}

fn of_lags(lags: &Lags) -> String {
    let mut lines =
        format!("\n{:<21} {:>9}  {:>23}   p50 p99 max, us", "lag", "commits", "until in the replica");
    for Lag { every_ms, commits, applied } in &lags.runs {
        lines += &format!("\n{:<21} {commits:>9}  {:>23}", format!("every {every_ms} ms"), latency(applied));
    }
    lines
}

fn of_load(load: &Load) -> String {
    let Load { streams, body_bytes, submissions_per_second, bytes_per_second, acknowledged, refused, .. } =
        load;
    let Acknowledged { p50_ns, p99_ns, p999_ns, max_ns } = acknowledged;
    let [p50, p99, p999, max] =
        [p50_ns, p99_ns, p999_ns, max_ns].map(|ns| Duration::from_nanos(*ns).as_secs_f64() * 1e3);
    let syncs = match (&load.syncs, &load.syncs_unseen) {
        (Some(Syncs { journal_per_submission, store_per_submission, .. }), _) => {
            format!(
                "{journal_per_submission:.2} of journals and {store_per_submission:.3} of the store a submission"
            )
        }
        (None, unseen) => format!("not seen: {}", unseen.as_deref().unwrap_or("no reason")),
    };
    format!(
        "streams: {streams}, {body_bytes:.0} B: {submissions_per_second:.0} submissions/s, {:.1} MB/s, \
         p50 {p50:.2} p99 {p99:.2} p99.9 {p999:.2} max {max:.2} ms; cpu {:.0} us, {:.0} %, clients {:.0} %, {}; \
         refused: {refused}; stored after {:.2} s in {} batches; syncs {syncs}",
        bytes_per_second / 1e6,
        load.cpu_us_per_submission,
        load.cpu_percent,
        load.clients_cpu_percent,
        mib(load.memory_bytes_max),
        load.stored_after_seconds,
        load.batches,
    )
}

fn of_restart(restart: &Restart) -> String {
    format!(
        "restart with {} messages, {}: listens after {:.2} s, takes the next after {:.2} s, everything stored after {:.2} s in {} batches; \
         cpu {:.0} us a message, {}",
        restart.messages,
        mib(restart.journal_bytes),
        restart.listening_seconds,
        restart.accepted_seconds,
        restart.stored_seconds,
        restart.batches,
        restart.cpu_us_per_message,
        mib(restart.memory_bytes_max),
    )
}

fn of_ratio(ratio: &Ratio) -> String {
    format!("{:.2} [{:.2}..{:.2}]", ratio.median, ratio.min, ratio.max)
}

/// Three times, in microseconds.
fn latency(latency: &Latency) -> String {
    let us = |ns| Duration::from_nanos(ns).as_micros();
    format!("{} {} {}", us(latency.p50_ns), us(latency.p99_ns), us(latency.max_ns))
}

#[cfg(test)]
mod tests {
    use super::super::Ratio;
    use super::*;

    #[test]
    fn figures_stand_below_what_they_are() {
        let latency = Latency { p50_ns: 4_000, p99_ns: 21_999, max_ns: 15_000_000 };
        let figures = |transactions_per_second| Figures {
            transactions_per_second,
            rows_per_second: transactions_per_second,
            wrote_seconds: 5.0,
            whole_seconds: 5.125,
            latency,
            wal_bytes: 64 << 20,
        };
        let pairs = Pairs {
            scenario: "orders-indexed-normal".to_owned(),
            bare: figures(50_000.4),
            captured: figures(45_000.0),
            ratio: Ratio { median: 0.9, min: 0.851, max: 1.0, of_pairs: vec![0.9] },
            agent: Some(Agent {
                cpu_us_per_row: 1.234,
                memory_bytes_max: 25 << 20,
                write_locks_per_second: 2.0,
                write_locked_us_per_second: 812.3,
                write_locked_us_max: 700,
                wal_resets_per_second: 2.0,
            }),
            is_warm: true,
            runs: Vec::new(),
        };
        let machine = Machine {
            synddb: "0.1.0".to_owned(),
            is_optimized: true,
            sqlite: "3.45.1".to_owned(),
            sessions: true,
            file_system: "ext4".to_owned(),
            processors: 2,
            seconds: 5.0,
            pairs: 1,
            scenarios: vec!["orders-indexed-normal".to_owned()],
            has_pairs: true,
        };
        let heading = heading(&machine);
        let (below, line) = (heading.lines().last().unwrap(), line(&Measured::Pairs(Box::new(pairs))));
        for (named, figure) in [
            ("scenario", "orders-indexed-normal"),
            ("ratio [", "0.90 [0.85..1.00]"),
            ("us/row, memory", "1.23, 25.0 MiB, 2.0, 812, 700"),
        ] {
            assert_eq!(below.find(named), line.find(figure), "{below}\n{line}");
        }
        // Numbers end where their names do.
        for (named, figure) in [("MiB", "64.0"), ("tx/s", "50000"), ("p50 p99 max", "4 21 15000")] {
            let end = |text: &str, of: &str| text.find(of).map(|at| at + of.len());
            assert_eq!(end(below, named), end(&line, figure), "{below}\n{line}");
        }
        assert!(!super::heading(&Machine { has_pairs: false, ..machine }).contains("ratio"));
    }
}
