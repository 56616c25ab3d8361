//! Two databases that are not both on this machine: replicas at URLs, or a file beside one.
//!
//! Replicas of one log are compared where both stand at one message. One that goes on meanwhile is asked again, as long as there is time.

use std::time::{Duration, Instant};

use synddb_protocol::contents::{Contents, SchemaObject};
use synddb_protocol::http::Reason;
use synddb_protocol::id::Sequence;
use synddb_sqlite::compare::{Difference, Side as Which};

use super::found::{Compared, Stand};
use super::history;
use super::rows::{Differs, Pair};
use super::side::{Side, Told};
use super::words::in_words;
use crate::diff::DiffArguments;
use crate::exit::{CommandError, Exit};
use crate::output::Event;
use crate::peer::{Authority, PeerError};
use crate::process;
use crate::refusal::Refusal;

/// Between two tries.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why two could not be compared this time.
pub(super) enum Attempt {
    /// They may be in a moment.
    Moved(String),
    /// They cannot.
    Failed(Box<CommandError>),
}

impl From<CommandError> for Attempt {
    fn from(error: CommandError) -> Self {
        if let CommandError::Peer(PeerError::Refused { peer, problem }) = &error
            && *problem.reason() == Reason::Busy
        {
            return Self::Moved(format!("{peer} answers somebody else"));
        }
        Self::Failed(Box::new(error))
    }
}

impl From<PeerError> for Attempt {
    fn from(error: PeerError) -> Self {
        CommandError::from(error).into()
    }
}

pub(super) fn compare(arguments: &DiffArguments) -> Result<(Event, Exit), CommandError> {
    if arguments.one == arguments.other {
        return Err(Refusal::SameFile { one: arguments.one.clone(), other: arguments.other.clone() }.into());
    }
    let begun = Instant::now();
    process::ask(async {
        let authority = Authority::read(arguments.ca_file.as_deref())?;
        let one = Side::of("the first replica", &arguments.one, &authority)?;
        let other = Side::of("the second replica", &arguments.other, &authority)?;
        loop {
            let detail = match attempt(&one, &other).await {
                Ok(told) => return Ok(told),
                Err(Attempt::Failed(error)) => return Err(*error),
                Err(Attempt::Moved(detail)) => detail,
            };
            if begun.elapsed() >= *arguments.timeout {
                return Err(CommandError::TimedOut { what: "the two do not stand at one message", detail });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
}

async fn attempt(one: &Side, other: &Side) -> Result<(Event, Exit), Attempt> {
    meet(one, other).await?;
    let (told, others) = tokio::join!(one.contents(), other.contents());
    let (told, others) = (told?, others?);
    let at = [&told, &others].map(|told| told.at.map(|at| at.sequence));
    same_place(one, other, at)?;
    let pair = Pair { one, other, at, encoding: told.found.encoding };
    let differs = first_difference(&pair, &told.found, &others.found).await?;
    let history = match (&differs, at) {
        (Some(_), [Some(sequence), Some(_)]) => Some(history::compare(one, other, sequence).await?),
        (Some(_) | None, _) => None,
    };
    let stand = |side: &Side, told: &Told<Contents>| Stand {
        name: side.shown(),
        sequence: told.at.map(|at| at.sequence),
        claimed: told.at.map(|at| at.state),
        scanned: told.found.state,
    };
    let mut compared = Compared {
        one: stand(one, &told),
        other: stand(other, &others),
        row: None,
        history,
        requests: one.requests().saturating_add(other.requests()),
    };
    Ok(match differs {
        None => {
            let state = told.found.state.to_string();
            (Event::Equal { state, remote: Some(Box::new(compared)) }, Exit::Done)
        }
        Some(Differs { words, row }) => {
            compared.row = row;
            (Event::Different { difference: words, remote: Some(Box::new(compared)) }, Exit::Different)
        }
    })
}

/// Refuses replicas of two logs, and sees whether both stand at one message before anything is scanned.
async fn meet(one: &Side, other: &Side) -> Result<(), Attempt> {
    let (place, others) = tokio::join!(one.place(), other.place());
    let (place, others) = (place?, others?);
    if let (Some(first), Some(second)) = (place.stream, others.stream)
        && first != second
    {
        return Err(CommandError::from(Refusal::OtherStream { one: first, other: second }).into());
    }
    for (side, place) in [(one, &place), (other, &others)] {
        // One that halted may show nothing of itself, and its file is what is asked for.
        if place.sequence.is_none() && !place.is_still {
            return Err(Attempt::Moved(format!("{} has no replica yet", side.shown())));
        }
    }
    same_place(one, other, [place.sequence, others.sequence])
}

fn same_place(one: &Side, other: &Side, at: [Option<Sequence>; 2]) -> Result<(), Attempt> {
    match at {
        [Some(first), Some(second)] if first != second => {
            let (one, other) = (one.shown(), other.shown());
            Err(Attempt::Moved(format!("{one} stands at message {first}, {other} at {second}")))
        }
        [Some(_) | None, _] => Ok(()),
    }
}

async fn first_difference(
    pair: &Pair<'_>,
    one: &Contents,
    other: &Contents,
) -> Result<Option<Differs>, Attempt> {
    let told = |difference: Difference| Ok(Some(Differs { words: in_words(difference), row: None }));
    if one.encoding != other.encoding {
        return told(Difference::Encoding { first: one.encoding, second: other.encoding });
    }
    if one.user_version != other.user_version {
        return told(Difference::UserVersion { first: one.user_version, second: other.user_version });
    }
    if one.application_id != other.application_id {
        let (first, second) = (one.application_id, other.application_id);
        return told(Difference::ApplicationId { first, second });
    }
    if one.head != other.head {
        let (told, others) = tokio::join!(pair.one.schema(), pair.other.schema());
        let (told, others) = (told?, others?);
        pair.check(told.at.map(|at| at.sequence))?;
        pair.check(others.at.map(|at| at.sequence))?;
        let words = in_schema(&told.found, &others.found);
        let words =
            words.ok_or_else(|| pair.other.contradicts("the schemas differ, and no object in them does"))?;
        return Ok(Some(Differs { words, row: None }));
    }
    let names =
        |contents: &Contents| contents.tables.iter().map(|table| table.name.clone()).collect::<Vec<_>>();
    if names(one) != names(other) {
        return Err(pair.other.contradicts("with the same schema it has other tables").into());
    }
    let differs = one.tables.iter().zip(&other.tables).find(|(table, other)| table != other);
    match differs {
        Some((table, _)) => pair.first_row(&table.name).await.map(Some),
        None if one.state == other.state => Ok(None),
        None => Err(pair.other.contradicts("its state differs, and no table does").into()),
    }
}

/// The first object in which two schemas differ, in words.
fn in_schema(one: &[SchemaObject], other: &[SchemaObject]) -> Option<String> {
    let find = |objects: &[SchemaObject], wanted: &SchemaObject| {
        objects.iter().find(|object| object.kind == wanted.kind && object.name == wanted.name).cloned()
    };
    let missing = |object: &SchemaObject, only_in| {
        in_words(Difference::Object { kind: object.kind, name: object.name.clone(), only_in })
    };
    for object in one {
        let Some(found) = find(other, object) else { return Some(missing(object, Which::First)) };
        let (kind, name) = (object.kind, object.name.clone());
        if object.table != found.table {
            let (first, second) = (object.table.clone(), found.table);
            return Some(in_words(Difference::ObjectTable { kind, name, first, second }));
        }
        if object.digest != found.digest || object.sql != found.sql {
            let cut = if object.sql == found.sql { ", behind what is shown" } else { "" };
            let (first, second) = (object.sql.clone(), found.sql);
            return Some(format!("{}{cut}", in_words(Difference::Sql { kind, name, first, second })));
        }
    }
    other.iter().find(|object| find(one, object).is_none()).map(|object| missing(object, Which::Second))
}
