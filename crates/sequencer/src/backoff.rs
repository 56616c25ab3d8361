//! How long to wait before trying again: longer each time, and never in step with others.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait. What was away for hours is asked again so soon after it is back.
pub(crate) const LONGEST: Duration = Duration::from_secs(10);

/// The first wait of what costs more than a request.
const COSTLY_FIRST: Duration = Duration::from_secs(2);
/// The longest wait of what costs more than a request.
const COSTLY_LONGEST: Duration = Duration::from_secs(120);

/// The waits between the attempts of one thing.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { next: FIRST, longest: LONGEST }
    }

    /// For what costs more than a request: each attempt may leave an object in the store for ever.
    pub(crate) const fn of_the_costly() -> Self {
        Self { next: COSTLY_FIRST, longest: COSTLY_LONGEST }
    }

    /// The next wait: a random part of at least half of one that doubles each time.
    pub(crate) fn delay(&mut self) -> Duration {
        let whole = self.next;
        self.next = self.longest.min(whole * 2);
        // Without randomness the full wait is right too.
        let chance = getrandom::u32().unwrap_or(u32::MAX);
        whole / 2 + whole.mul_f64(f64::from(chance) / f64::from(u32::MAX)) / 2
    }

    /// Waits.
    pub(crate) async fn wait(&mut self) {
        let delay = self.delay();
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound() {
        let mut backoff = Backoff::new();
        assert!(backoff.delay() <= FIRST);
        let waits: Vec<Duration> = (0..20).map(|_| backoff.delay()).collect();
        assert!(waits.iter().all(|wait| *wait >= FIRST && *wait <= LONGEST));
        assert!(waits[19] >= LONGEST / 2);
        let mut costly = Backoff::of_the_costly();
        let waits: Vec<Duration> = (0..20).map(|_| costly.delay()).collect();
        assert!(waits.iter().all(|wait| *wait >= COSTLY_FIRST / 2 && *wait <= COSTLY_LONGEST));
        assert!(waits[19] >= COSTLY_LONGEST / 2);
    }
}
