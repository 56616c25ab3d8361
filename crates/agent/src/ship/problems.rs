//! What keeps submissions from being sent, in words that say what to do.

use synddb_protocol::chain;
use synddb_protocol::http::{Problem as Refused, Reason};

use super::client::ClientError;
use crate::status::{Problem, ProblemKind};

/// A request without an answer that can be used.
pub(super) fn failed(error: &ClientError) -> Problem {
    let detail = chain(error);
    let (kind, fix) = match error {
        ClientError::Unreachable { .. } => (
            ProblemKind::Unreachable,
            "start the sequencer, or check its URL and the network; it is tried again",
        ),
        ClientError::Foreign { .. } => {
            (ProblemKind::Unreachable, "check that the URL is the sequencer's; it is tried again")
        }
        ClientError::Untrusted { .. } => (
            ProblemKind::Untrusted,
            "check that the URL leads to your sequencer; if it has another key now, give that as --sequencer-key, with those of all others that may take over, or remove `sequencer.pub` from \
             the agent's folder, and start the agent again; it is tried again",
        ),
        ClientError::NotKept(_) => (
            ProblemKind::Untrusted,
            "give the agent's folder room, and let the agent write it; it is tried again",
        ),
    };
    Problem { kind, detail, fix: fix.to_owned() }
}

/// A refusal after which the same is tried again.
pub(super) fn refused(refused: &Refused) -> Problem {
    let (kind, fix) = match refused.reason() {
        Reason::Unauthorized => {
            (ProblemKind::Unauthorized, "give agent and sequencer the same token; it is tried again")
        }
        Reason::NotFound => (
            ProblemKind::Refused,
            "have the sequencer admit this stream, or check its URL; it is tried again",
        ),
        Reason::UpgradeRequired => (
            ProblemKind::Refused,
            "upgrade the agent, or finish the upgrade of the sequencer; it is tried again",
        ),
        Reason::Busy | Reason::NotLeading | Reason::Unavailable | Reason::Internal => (
            ProblemKind::Busy,
            "nothing, if it passes; otherwise look at the sequencer's status; it is tried again",
        ),
        Reason::DiskFull => {
            (ProblemKind::Busy, "give the sequencer's disk room, or look at its store; it is tried again")
        }
        Reason::Malformed
        | Reason::Range
        | Reason::MethodNotAllowed
        | Reason::TooLarge { .. }
        | Reason::Unprocessable
        | Reason::MissingChunks { .. }
        | Reason::Gap { .. }
        | Reason::NotBegun
        | Reason::ContentMismatch { .. }
        | Reason::IncarnationSuperseded { .. } => {
            (ProblemKind::Refused, "check that agent and sequencer are of one version; it is tried again")
        }
    };
    Problem {
        kind,
        detail: format!("{}: {}", refused.reason().code(), refused.detail()),
        fix: fix.to_owned(),
    }
}

/// Something was promised, and whoever is asked for it knows of nothing stored.
pub(super) fn unseen(refused: &Refused) -> Problem {
    Problem {
        kind: ProblemKind::Refused,
        detail: format!("nothing of what was sent is seen stored: {}", refused.detail()),
        fix: "look at the sequencer's status and its store; what was sent last is sent again".to_owned(),
    }
}

/// The sequencer asks for what it was just sent.
pub(super) fn going_in_circles() -> Problem {
    Problem {
        kind: ProblemKind::Refused,
        detail: "the sequencer asks for the same again and again".to_owned(),
        fix: "check that agent and sequencer are of one version; it is tried again".to_owned(),
    }
}

/// The sequencer says that what was sent differs, and means something that was not sent.
pub(super) fn about_something_else() -> Problem {
    Problem {
        kind: ProblemKind::Refused,
        detail: "the refusal is about something that was not sent".to_owned(),
        fix: "check that the URL is the sequencer's; it is tried again".to_owned(),
    }
}

/// Something after which nothing is sent any more, or nothing until the sequencer says otherwise.
pub(super) fn stopped(detail: String, fix: &str) -> Problem {
    Problem { kind: ProblemKind::ShippingStopped, detail, fix: fix.to_owned() }
}
