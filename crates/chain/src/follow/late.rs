//! How late the application is with what its bridge told it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use synddb_protocol::id::Timestamp;
use synddb_protocol::log::StatusLevel;

/// How long the oldest inbound message may wait to be acknowledged, in milliseconds of log time since it entered the log. Sequencer and validators of a stream
/// should be told the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// From then on the application is warned.
    pub warned_ms: u64,
    /// From then on outbound messages wait.
    pub degraded_ms: u64,
    /// From then on the stream says that it is halted; outbound messages wait, as before.
    pub halted_ms: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { warned_ms: 300_000, degraded_ms: 1_800_000, halted_ms: 7_200_000 }
    }
}

impl Deadlines {
    /// How late it is, where the oldest message that waits entered the log at `oldest`.
    pub fn level(&self, oldest: Option<Timestamp>, now: Timestamp) -> StatusLevel {
        let Some(oldest) = oldest else { return StatusLevel::Healthy };
        let waited = now.as_ms().saturating_sub(oldest.as_ms());
        let levels = [
            (self.halted_ms, StatusLevel::Halted),
            (self.degraded_ms, StatusLevel::Degraded),
            (self.warned_ms, StatusLevel::Warned),
        ];
        levels
            .into_iter()
            .find(|(after, _)| waited >= *after)
            .map_or(StatusLevel::Healthy, |(_, level)| level)
    }

    /// When the level behind this one begins, for a message that entered the log at `oldest`; `None` behind the last one.
    pub fn next(&self, oldest: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let waited = now.as_ms().saturating_sub(oldest.as_ms());
        let deadlines = [self.warned_ms, self.degraded_ms, self.halted_ms];
        let next = deadlines.into_iter().filter(|after| *after > waited).min()?;
        Timestamp::from_ms(oldest.as_ms().checked_add(next)?).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn each_level_begins_when_its_time_has_passed_and_ends_when_nothing_waits() {
        let deadlines = Deadlines { warned_ms: 10, degraded_ms: 20, halted_ms: 30 };
        let at = |ms| Timestamp::from_ms(ms).unwrap();
        for (now, level, next) in [
            (100, StatusLevel::Healthy, Some(110)),
            (109, StatusLevel::Healthy, Some(110)),
            (110, StatusLevel::Warned, Some(120)),
            (120, StatusLevel::Degraded, Some(130)),
            (129, StatusLevel::Degraded, Some(130)),
            (130, StatusLevel::Halted, None),
            (1_000, StatusLevel::Halted, None),
        ] {
            assert_eq!(deadlines.level(Some(at(100)), at(now)), level, "{now}");
            assert_eq!(deadlines.next(at(100), at(now)), next.map(at), "{now}");
            assert_eq!(deadlines.level(None, at(now)), StatusLevel::Healthy);
        }
        // A level that is not wanted has the time of the one behind it.
        let no_warning = Deadlines { warned_ms: 20, ..deadlines };
        assert_eq!(no_warning.level(Some(at(0)), at(20)), StatusLevel::Degraded);
    }
}
