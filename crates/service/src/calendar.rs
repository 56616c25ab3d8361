//! Log time as people write it: RFC 3339.

use std::time::{Duration, UNIX_EPOCH};

use synddb_protocol::id::Timestamp;

/// Log time up to which a calendar date is written: the end of the year 9999, in milliseconds.
const CALENDAR_MS_END: u64 = 253_402_300_800_000;

/// A moment of log time in UTC.
///
/// ```
/// use synddb_protocol::id::Timestamp;
/// use synddb_service::calendar::{moment, utc};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let at = Timestamp::from_ms(1_767_225_600_123)?;
/// assert_eq!(utc(at), "2026-01-01T00:00:00.123Z");
/// assert_eq!(moment("2026-01-01T02:00:00.123+02:00"), Some(at));
/// # Ok(())
/// # }
/// ```
pub fn utc(timestamp: Timestamp) -> String {
    let ms = timestamp.as_ms();
    if ms >= CALENDAR_MS_END {
        return format!("{ms} ms after 1970");
    }
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

/// A moment in RFC 3339, in whole milliseconds: what is finer is cut off. `None` where the text is none, or before 1970.
pub fn moment(text: &str) -> Option<Timestamp> {
    let text = text.to_ascii_uppercase();
    let (local, ahead_ms) = match text.strip_suffix('Z') {
        Some(local) => (local, 0),
        None => {
            let (local, offset) = text.split_at_checked(text.len().checked_sub("+00:00".len())?)?;
            (local, offset_ms(offset)?)
        }
    };
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let ms = i64::try_from(local.as_millis()).ok()?.checked_sub(ahead_ms)?;
    Timestamp::from_ms(u64::try_from(ms).ok()?).ok()
}

/// How far the clock of a place is ahead of UTC: `+02:00`.
fn offset_ms(text: &str) -> Option<i64> {
    let (sign, clock) = text.split_at_checked(1)?;
    let sign = match sign {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let part = |text: &str, end: i64| {
        let part =
            Some(text).filter(|text| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()));
        part?.parse::<i64>().ok().filter(|part| *part < end)
    };
    let (hours, minutes) = clock.split_once(':')?;
    Some(sign * (part(hours, 24)? * 60 + part(minutes, 60)?) * 60_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_log_time_has_a_text() {
        let text = |ms| utc(Timestamp::from_ms(ms).unwrap());
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(CALENDAR_MS_END - 1), "9999-12-31T23:59:59.999Z");
        assert_eq!(text(CALENDAR_MS_END), "253402300800000 ms after 1970");
        assert!(text((1 << 53) - 1).ends_with("after 1970"));
    }

    #[test]
    fn a_moment_is_one_wherever_its_clock_stands() {
        let ms = |text| moment(text).map(Timestamp::as_ms);
        let noon = Some(1_767_268_800_000);
        for text in [
            "2026-01-01T12:00:00Z",
            "2026-01-01t12:00:00z",
            "2026-01-01T12:00:00.000999Z",
            "2026-01-01T14:30:00+02:30",
            "2025-12-31T23:30:00-12:30",
        ] {
            assert_eq!(ms(text), noon, "{text}");
        }
        assert_eq!(ms("1970-01-01T01:00:00+01:00"), Some(0));
        for text in [
            "",
            "Z",
            "+00:00",
            "2026-01-01",
            "2026-01-01T12:00:00",
            "2026-01-01T12:00Z",
            "2026-13-01T12:00:00Z",
            "2026-01-01T12:00:00+2:00",
            "2026-01-01T12:00:00+24:00",
            "2026-01-01T12:00:00+-1:00",
            "2026-01-01T12:00:00*01:00",
            "1970-01-01T00:59:59+01:00",
            "1969-12-31T23:59:59Z",
            "2026-01-01T12:00:00é1:00",
        ] {
            assert_eq!(ms(text), None, "{text}");
        }
    }
}
