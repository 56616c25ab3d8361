//! Makes a script that fails smaller, as long as it still fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::harness::words;
use super::script::{Event, Runner, Script};
use super::stage::replay;

/// How a script fails; `None` when it does not.
pub(super) fn failure(script: &Script) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| replay(script))) {
        Ok(Ok(())) => None,
        Ok(Err(what)) => Some(what),
        Err(panic) => Some(format!("a panic: {}", words(panic.as_ref()))),
    }
}

/// What a script was made of.
pub(super) struct Minimised {
    pub(super) script: Script,
    pub(super) what: String,
    /// How often a part was left out and the rest tried.
    pub(super) tries: u64,
}

/// Leaves out what the failure does not need: whole transactions first, then single events, then statements of races. `None` when the
/// script does not fail when it is done again.
pub(super) fn minimise(script: &Script, patience: Duration) -> Option<Minimised> {
    let end = Instant::now() + patience;
    let what = failure(script)?;
    let mut least = Least { script: script.clone(), what, tries: 1, end };
    least.reduce(transactions, joined);
    least.reduce(|script| script.events.iter().map(|event| vec![event.clone()]).collect(), joined);
    least.reduce(race_statements, with_race_statements);
    let Least { mut script, what, tries, .. } = least;
    clean(&mut script);
    Some(Minimised { script, what, tries })
}

struct Least {
    script: Script,
    what: String,
    tries: u64,
    end: Instant,
}

impl Least {
    /// Takes the script apart and leaves parts out: half of them, then quarters, down to one at a time, until nothing can go.
    fn reduce<P: Clone>(&mut self, apart: fn(&Script) -> Vec<P>, together: fn(&Script, &[P]) -> Script) {
        let mut parts = apart(&self.script);
        let mut size = parts.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            let mut removed = false;
            while at < parts.len() {
                if Instant::now() > self.end {
                    return;
                }
                let mut rest = parts.clone();
                rest.drain(at..(at + size).min(parts.len()));
                let script = together(&self.script, &rest);
                self.tries += 1;
                match failure(&script) {
                    Some(what) if is_alike(&what, &self.what) => {
                        (self.script, self.what, parts, removed) = (script, what, rest, true);
                    }
                    Some(_) | None => at += size,
                }
            }
            if size > 1 {
                size = size.div_ceil(2);
            } else if !removed {
                return;
            }
        }
    }
}

/// Leaves out what does nothing: statements of races that were cleared, and how connections were set up that nobody uses.
fn clean(script: &mut Script) {
    let mut used = std::collections::BTreeSet::new();
    for event in &mut script.events {
        used.extend(event.writer());
        if let Event::Race { runners } = event {
            runners.iter_mut().for_each(|runner| runner.statements.retain(|sql| !sql.is_empty()));
            runners.retain(|runner| !runner.statements.is_empty());
        }
    }
    script.writers.truncate(used.last().map_or(1, |last| last + 1));
    let idle = script.writers.iter_mut().enumerate().filter(|(at, _)| !used.contains(at));
    idle.for_each(|(_, writer)| writer.settings.clear());
}

/// Whether two failures begin with the same words, before names and numbers come.
fn is_alike(one: &str, two: &str) -> bool {
    let words = |text: &str| text.chars().take(32).collect::<String>();
    words(one) == words(two)
}

/// Transactions, and what stands between them, one by one.
fn transactions(script: &Script) -> Vec<Vec<Event>> {
    let mut units: Vec<Vec<Event>> = Vec::new();
    let mut open = false;
    for event in &script.events {
        if open {
            units.last_mut().unwrap().push(event.clone());
        } else {
            units.push(vec![event.clone()]);
        }
        open = match event {
            Event::Begin { .. } => true,
            Event::End { .. } => false,
            _ => open,
        };
    }
    units
}

fn joined(script: &Script, parts: &[Vec<Event>]) -> Script {
    Script { events: parts.concat(), ..script.clone() }
}

/// The statements of all races: which race, which runner, which statement.
fn race_statements(script: &Script) -> Vec<(usize, usize, usize)> {
    let mut all = Vec::new();
    for (at, event) in script.events.iter().enumerate() {
        if let Event::Race { runners } = event {
            for (runner, Runner { statements, .. }) in runners.iter().enumerate() {
                all.extend((0..statements.len()).map(|statement| (at, runner, statement)));
            }
        }
    }
    all
}

/// The script with only these statements of races. Their places stay, so that the others are still called what they were.
fn with_race_statements(script: &Script, kept: &[(usize, usize, usize)]) -> Script {
    let mut script = script.clone();
    for (at, event) in script.events.iter_mut().enumerate() {
        if let Event::Race { runners } = event {
            for (runner, Runner { statements, .. }) in runners.iter_mut().enumerate() {
                for (number, statement) in statements.iter_mut().enumerate() {
                    if !kept.contains(&(at, runner, number)) {
                        statement.clear();
                    }
                }
            }
        }
    }
    script
}
