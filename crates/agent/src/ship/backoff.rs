//! How long to wait before a try is repeated: twice as long each time, with jitter, so that agents do not come back all at once.

use std::time::Duration;

/// The wait after the first failure.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait that is our own choice.
const MAX: Duration = Duration::from_secs(5);
/// The longest wait that a server may ask for.
const ASKED_MAX: Duration = Duration::from_secs(60);
/// The wait where trying again helps only after somebody has changed something.
const SLOW: Duration = Duration::from_secs(5);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure, for at least as long as the server asked.
    pub(crate) fn after_failure(&mut self, asked: Option<Duration>) -> Duration {
        let exponent = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let whole = FIRST.saturating_mul(1 << exponent).min(MAX);
        jittered(whole).max(asked.unwrap_or_default().min(ASKED_MAX))
    }

    /// The wait where trying again helps only after somebody has changed something.
    pub(crate) fn slow(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        jittered(SLOW)
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Something between a half and the whole.
fn jittered(whole: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness it is the whole: jitter is a courtesy.
    let part = if getrandom::fill(&mut byte).is_ok() { u32::from(byte[0]) } else { 255 };
    whole / 2 + whole / 2 * part / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_start_again() {
        let mut backoff = Backoff::default();
        for exponent in 0..40 {
            let whole = FIRST.saturating_mul(1 << exponent.min(10)).min(MAX);
            let wait = backoff.after_failure(None);
            assert!(wait >= whole / 2 && wait <= whole, "{exponent}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.after_failure(None) <= FIRST);
        assert_eq!(backoff.after_failure(Some(Duration::from_secs(9))), Duration::from_secs(9));
        assert_eq!(backoff.after_failure(Some(Duration::from_secs(9000))), ASKED_MAX);
    }
}
