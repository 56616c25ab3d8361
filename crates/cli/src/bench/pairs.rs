//! Runs with and without, in turn, and their ratios.
//!
//! What must stay true: the order within pairs alternates (bare, captured, captured, bare, ...), so that what drifts with time, such as a
//! disk that slows down, favours neither; and a ratio is of two runs that followed each other.
//!
//! Knows nothing of how a run is done.

use serde::{Deserialize, Serialize};

use super::scenario::{AgentRun, Paired, Run, Side};
use super::writer::Latency;
use super::{Bench, BenchError};

/// What pairs of runs measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pairs {
    /// The scenario's name.
    pub scenario: String,
    /// The writer alone.
    pub bare: Figures,
    /// The same writer, captured.
    pub captured: Figures,
    /// Captured transactions a second through bare ones, of each pair.
    pub ratio: Ratio,
    /// The agent's own figures, where there is one to ask.
    pub agent: Option<Agent>,
    /// Whether the writer was warm in every run.
    pub is_warm: bool,
    /// Every run, in the order in which they were done.
    pub runs: Vec<Single>,
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Single {
    /// Whether anything captured what it wrote.
    pub is_captured: bool,
    /// What it gave.
    pub figures: Figures,
    /// The agent's own figures, where there is one to ask.
    pub agent: Option<Agent>,
}

/// Figures of one side: medians over its runs, but the largest of what is a maximum.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Transactions a second, until everything of them was captured.
    pub transactions_per_second: f64,
    /// Rows a second, likewise.
    pub rows_per_second: f64,
    /// Seconds that the writer wrote.
    pub wrote_seconds: f64,
    /// Seconds until everything was captured, or applied to the replica.
    pub whole_seconds: f64,
    /// How long a transaction took the writer.
    pub latency: Latency,
    /// The largest WAL, in bytes.
    pub wal_bytes: u64,
}

/// A ratio over pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// Of each pair, in their order.
    pub of_pairs: Vec<f64>,
}

/// What the agent took: medians over runs, but the largest of what is a maximum.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Processor time of all threads of agent and pin, in microseconds a captured row.
    pub cpu_us_per_row: f64,
    /// The most memory that the agent had, in bytes.
    pub memory_bytes_max: u64,
    /// How often it took the write lock, a second.
    pub write_locks_per_second: f64,
    /// How long it held it, in microseconds a second.
    pub write_locked_us_per_second: f64,
    /// The longest time since the agent began, in microseconds.
    pub write_locked_us_max: u64,
    /// How often the WAL began anew, a second.
    pub wal_resets_per_second: f64,
}

/// Measures a scenario. What was not captured whole is an error.
pub(super) fn measure(bench: &Bench, paired: &Paired) -> Result<Pairs, BenchError> {
    let (mut bare, mut captured, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..bench.pairs {
        let mut order = [Side::Bare, paired.side];
        if pair % 2 == 1 {
            order.reverse();
        }
        for side in order {
            bench.go_on()?;
            let what = if side == Side::Bare { "bare" } else { "captured" };
            bench.progress.set(format!("{}, pair {} of {}, {what}", paired.name, pair + 1, bench.pairs));
            let run = paired.run(bench, side)?;
            let is_captured = side != Side::Bare;
            let one = std::slice::from_ref(&run);
            runs.push(Single { is_captured, figures: figures(one), agent: agent(one) });
            if is_captured { &mut captured } else { &mut bare }.push(run);
        }
    }
    let ratios = bare
        .iter()
        .zip(&captured)
        .map(|(bare, captured)| captured.per_second() / bare.per_second())
        .collect();
    Ok(Pairs {
        scenario: paired.name.to_owned(),
        bare: figures(&bare),
        captured: figures(&captured),
        ratio: ratio(ratios),
        agent: agent(&captured),
        is_warm: bare.iter().chain(&captured).all(|run| run.is_warm),
        runs,
    })
}

pub(super) fn ratio(of_pairs: Vec<f64>) -> Ratio {
    let (min, max) =
        of_pairs.iter().fold((f64::INFINITY, 0_f64), |(min, max), &one| (min.min(one), max.max(one)));
    Ratio { median: median(of_pairs.iter().copied()), min, max, of_pairs }
}

fn figures(runs: &[Run]) -> Figures {
    let over = |of: fn(&Run) -> f64| median(runs.iter().map(of));
    let largest = |of: fn(&Run) -> u64| runs.iter().map(of).max().unwrap_or_default();
    Figures {
        transactions_per_second: over(Run::per_second),
        rows_per_second: over(|run| number(run.wrote.rows) / run.seconds),
        wrote_seconds: over(|run| run.wrote.seconds),
        whole_seconds: over(|run| run.seconds),
        latency: Latency {
            p50_ns: middle(runs.iter().map(|run| run.wrote.latency.p50_ns)),
            p99_ns: middle(runs.iter().map(|run| run.wrote.latency.p99_ns)),
            max_ns: largest(|run| run.wrote.latency.max_ns),
        },
        wal_bytes: largest(|run| run.wal_bytes),
    }
}

fn agent(runs: &[Run]) -> Option<Agent> {
    let seen: Option<Vec<_>> = runs.iter().map(|run| run.agent.as_ref().map(|agent| (run, agent))).collect();
    let seen = seen?;
    let over = |of: fn(&Run, &AgentRun) -> f64| median(seen.iter().map(|(run, agent)| of(run, agent)));
    let largest =
        |of: fn(&AgentRun) -> u64| seen.iter().map(|(_, agent)| of(agent)).max().unwrap_or_default();
    Some(Agent {
        cpu_us_per_row: over(|run, agent| agent.cpu.as_secs_f64() * 1e6 / number(run.wrote.rows)),
        memory_bytes_max: largest(|agent| agent.memory_bytes_max),
        write_locks_per_second: over(|run, agent| number(agent.write_locks) / run.seconds),
        write_locked_us_per_second: over(|run, agent| number(agent.write_locked_us) / run.seconds),
        write_locked_us_max: largest(|agent| agent.write_locked_us_max),
        wal_resets_per_second: over(|run, agent| number(agent.wal_resets) / run.seconds),
    })
}

/// The one in the middle, or the mean of the two in the middle.
pub(super) fn median(of: impl IntoIterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = of.into_iter().collect();
    all.sort_by(f64::total_cmp);
    match (all.get(all.len().saturating_sub(1) / 2), all.get(all.len() / 2)) {
        (Some(one), Some(other)) => f64::midpoint(*one, *other),
        _ => f64::NAN,
    }
}

/// The one in the middle; of two, the larger.
fn middle(of: impl Iterator<Item = u64>) -> u64 {
    let mut all: Vec<u64> = of.collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// A count, to be divided.
#[allow(clippy::cast_precision_loss, reason = "counts of one run are far below 2^53")]
pub(super) const fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([7.0]), 7.0);
        assert!(median([]).is_nan());
        assert_eq!(middle([30, 10, 20].into_iter()), 20);
    }

    #[test]
    fn a_ratio_names_its_ends_and_keeps_the_order() {
        let Ratio { median, min, max, of_pairs } = ratio(vec![0.9, 1.2, 1.0]);
        assert_eq!((median, min, max), (1.0, 0.9, 1.2));
        assert_eq!(of_pairs, [0.9, 1.2, 1.0]);
    }
}
