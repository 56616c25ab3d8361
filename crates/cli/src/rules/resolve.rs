//! What somebody decided of a violation, left for the validator.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use synddb_protocol::id::Timestamp;
use synddb_validator::rules::{Resolution, Seen, is_kept, violations_of};

use super::{ResolveArguments, present};
use crate::exit::{CommandError, Exit};
use crate::output::{Event, Output};
use crate::refusal::Refusal;

/// Between two looks whether it was taken in.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn run(arguments: &ResolveArguments, output: Output) -> Result<Exit, CommandError> {
    let ResolveArguments { replica, id, because, timeout } = arguments;
    let replica = present(replica)?;
    let violation = violations_of(&replica)?.into_iter().find(|kept| kept.id == *id);
    let violation = violation.ok_or(Refusal::NoViolation { id: *id })?;
    if let Some(resolved) = violation.resolved {
        return Err(Refusal::IsResolved { id: *id, because: resolved.because }.into());
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at =
        Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or_default()).unwrap_or(Timestamp::ZERO);
    let seen = Seen::from(&violation);
    let file = Resolution { id: *id, seen, at, because: because.clone() }.leave(&replica)?;
    let rule = violation.violation.rule;
    if !is_kept(&replica) {
        output.tell(&Event::ResolutionLeft { id: *id, rule, file: file.display().to_string() })?;
        return Ok(Exit::Done);
    }
    let began = Instant::now();
    while file.exists() {
        if began.elapsed() >= **timeout {
            output.tell(&Event::ResolutionLeft { id: *id, rule, file: file.display().to_string() })?;
            return Ok(Exit::TimedOut);
        }
        std::thread::sleep(LOOK);
    }
    let found = violations_of(&replica)?.into_iter().find(|kept| kept.id == *id);
    if found.is_none_or(|kept| kept.resolved.is_none()) {
        return Err(Refusal::HasChanged { id: *id }.into());
    }
    let sequence = violation.violation.sequence;
    output.tell(&Event::Resolved { id: *id, rule, sequence })?;
    Ok(Exit::Done)
}
