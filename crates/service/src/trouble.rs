//! When to speak of a trouble that goes on: a line for each attempt of hours would hide everything else.
//!
//! ```text
//! met: said at once -> again after 30 s, 1 min, 2 min, ... 10 min -> over: said once
//! ```
//!
//! What must stay true: the first line comes at once, a trouble of another kind is said at once, and each kind at most once in [`AGAIN_MIN`], however they come,
//! go and alternate. Knows no clock: the time is an argument.

use std::time::{Duration, Instant};

/// The shortest time between two lines about the same trouble.
pub const AGAIN_MIN: Duration = Duration::from_secs(30);

/// The longest time between two lines about a trouble that goes on.
pub const AGAIN_MAX: Duration = Duration::from_secs(600);

/// A trouble that may come, go on, and be over.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Since when it goes on, and how often it was met since then.
    going_on: Option<(Instant, u64)>,
    /// What was said last of each kind, of which there are few.
    said: Vec<Said>,
}

/// What was said last of one kind.
#[derive(Debug)]
struct Said {
    kind: &'static str,
    at: Instant,
    again: Duration,
    /// Whether its end is to be said.
    is_open: bool,
}

/// How a trouble went so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasting {
    /// How often it was met.
    pub times: u64,
    /// For how long it goes on.
    pub lasts: Duration,
}

impl Trouble {
    /// One that was never met.
    #[must_use]
    pub const fn new() -> Self {
        Self { going_on: None, said: Vec::new() }
    }

    /// It is met, or still there; `kind` tells one trouble from another. `Some` when it is to be said now.
    pub fn met(&mut self, now: Instant, kind: &'static str) -> Option<Lasting> {
        let (since, times) = self.going_on.get_or_insert((now, 0));
        *times += 1;
        let lasting = Lasting { times: *times, lasts: now.saturating_duration_since(*since) };
        let Some(said) = self.said.iter_mut().find(|said| said.kind == kind) else {
            self.said.push(Said { kind, at: now, again: AGAIN_MIN, is_open: true });
            return Some(lasting);
        };
        if now.saturating_duration_since(said.at) < said.again {
            return None;
        }
        if said.is_open {
            said.again = (said.again * 2).min(AGAIN_MAX);
        }
        (said.at, said.is_open) = (now, true);
        Some(lasting)
    }

    /// It is over, or was not there. `Some` when that is to be said: it was said that it is there.
    pub fn over(&mut self, now: Instant) -> Option<Lasting> {
        let (since, times) = self.going_on.take()?;
        let mut was_said = false;
        for said in &mut self.said {
            was_said |= std::mem::take(&mut said.is_open);
            said.again = AGAIN_MIN;
        }
        was_said.then(|| Lasting { times, lasts: now.saturating_duration_since(since) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_of_hours_is_said_a_few_times_an_hour() {
        let begun = Instant::now();
        let mut trouble = Trouble::default();
        let seconds = 4 * 3600;
        let said: Vec<u64> = (0..seconds)
            .filter(|second| trouble.met(begun + Duration::from_secs(*second), "away").is_some())
            .collect();
        assert_eq!(said[..6], [0, 30, 90, 210, 450, 930], "{said:?}");
        assert!(said.len() < 30, "{said:?}");
        let over = trouble.over(begun + Duration::from_secs(seconds)).unwrap();
        assert_eq!(over, Lasting { times: seconds, lasts: Duration::from_secs(seconds) });
        assert_eq!(trouble.over(begun), None);
    }

    #[test]
    fn one_that_comes_and_goes_is_not_said_each_time() {
        let begun = Instant::now();
        let mut trouble = Trouble::default();
        let mut said = 0;
        for tenth in 0..600 {
            let now = begun + Duration::from_millis(tenth * 100);
            said += u32::from(trouble.met(now, "lossy").is_some());
            said += u32::from(trouble.over(now).is_some());
        }
        assert_eq!(said, 4, "in a minute");
    }

    #[test]
    fn another_trouble_is_said_at_once() {
        let now = Instant::now();
        let mut trouble = Trouble::default();
        assert!(trouble.met(now, "away").is_some());
        assert_eq!(trouble.met(now, "away"), None);
        assert_eq!(trouble.met(now, "denied"), Some(Lasting { times: 3, lasts: Duration::ZERO }));
        assert_eq!(trouble.met(now, "away"), None, "however they alternate");
        assert!(trouble.over(now).is_some());
    }
}
