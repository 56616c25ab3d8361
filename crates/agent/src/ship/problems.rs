//! What keeps submissions from being sent, in words that say what to do.

use std::path::Path;

use synddb_protocol::chain;
use synddb_protocol::http::{Problem as Refused, Reason};
use synddb_protocol::log::Equivocation;

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
        ClientError::NoCredential { .. } => {
            (ProblemKind::Unauthorized, "make what the agent is known by available to it; it is tried again")
        }
        ClientError::Tls { .. } => (
            ProblemKind::Unreachable,
            "certificates are read again, and it is tried again; to change the URL, start the agent again",
        ),
        ClientError::Foreign { .. } => {
            (ProblemKind::Unreachable, "check that the URL is the sequencer's; it is tried again")
        }
        ClientError::Untrusted { .. } => (
            ProblemKind::Untrusted,
            "check that the URL leads to your sequencer; if it has another key now, give that as --sequencer-key, with those of all others that may take over, or remove `sequencer.pub` from \
             the agent's folder, and start the agent again; it is tried again",
        ),
        ClientError::Convicted { .. } => (ProblemKind::Equivocation, CONVICTED),
        ClientError::NotKept(_) => (
            ProblemKind::Untrusted,
            "give the agent's folder room, and let the agent write it; it is tried again",
        ),
    };
    Problem { kind, detail, fix: fix.to_owned() }
}

/// What to do about a key that signed twice for one place.
const CONVICTED: &str = "keep the file, and a copy of it elsewhere: with it anyone can check that the key is false (`synddb inspect FILE`). Have \
    another sequencer lead with another key, give that one as --sequencer-key, and start the agent again; nothing of what is captured is lost. To \
    believe the key all the same, move the file away first";

/// One key signed twice for one place.
pub(super) fn equivocated(detail: &str, proof: &Equivocation, file: Option<&Path>) -> Problem {
    let Equivocation { epoch, sequence, .. } = proof;
    Problem {
        kind: ProblemKind::Equivocation,
        detail: format!("{detail}. epoch=`{epoch}` sequence=`{sequence}` evidence=`{}`", named(file)),
        fix: CONVICTED.to_owned(),
    }
}

/// The log does not go on from the one before.
pub(super) fn inconsistent(detail: &str, file: Option<&Path>) -> Problem {
    Problem {
        kind: ProblemKind::Inconsistent,
        detail: format!("{detail} evidence=`{}`", named(file)),
        fix: "check that the sequencer's store is the one that was used before, and ask whoever runs it; what is not forgotten is kept, and it is \
              looked at again. Whoever takes the log as it is now starts the agent again"
            .to_owned(),
    }
}

fn named(file: Option<&Path>) -> String {
    file.map_or_else(|| "not kept; the agent's log has it".to_owned(), |file| file.display().to_string())
}

/// A refusal of the sequencer at `url`, after which the same is tried again.
pub(super) fn refused(url: &str, refused: &Refused) -> Problem {
    let (kind, fix) = match refused.reason() {
        Reason::Unauthorized => (
            ProblemKind::Unauthorized,
            "give the agent a token that the sequencer's credentials file lists; both files are read again, and it is tried again",
        ),
        Reason::Forbidden => (
            ProblemKind::Unauthorized,
            "list this stream for the agent's credential in the sequencer's credentials file; it is tried again",
        ),
        Reason::NotFound => (
            ProblemKind::Refused,
            "have the sequencer admit this stream, or check its URL; it is tried again",
        ),
        Reason::UpgradeRequired => (
            ProblemKind::Refused,
            "upgrade the agent, or finish the upgrade of the sequencer; it is tried again",
        ),
        Reason::NotLeading => (
            ProblemKind::Busy,
            "if it does not pass, name each sequencer that may lead with --sequencer, and look at its log; it is tried again",
        ),
        Reason::Busy | Reason::NotYet | Reason::Unavailable | Reason::Internal => {
            (ProblemKind::Busy, "if it does not pass, look at the sequencer's status; it is tried again")
        }
        Reason::TooSlow => (
            ProblemKind::Busy,
            "if it does not pass, look at the network to the sequencer; it is tried again",
        ),
        Reason::DiskFull => {
            (ProblemKind::Busy, "give the sequencer's disk room, or look at its store; it is tried again")
        }
        Reason::Malformed
        | Reason::Range
        | Reason::MethodNotAllowed
        | Reason::NotKept { .. }
        | Reason::TooLarge { .. }
        | Reason::UnsupportedMediaType
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
        detail: format!("{}: {}. url=`{url}`", refused.reason().code(), refused.detail()),
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
