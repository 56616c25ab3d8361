//! Decides what may be endorsed, and whether outbound messages wait. It has no clock, reads no file and asks nobody.

use std::collections::BTreeMap;

use synddb_chain::follow::Deadlines;
use synddb_protocol::hash::BodyHash;
use synddb_protocol::id::{Address, Timestamp};
use synddb_protocol::log::{Checkpoint, InboundState, StatusLevel};
use synddb_protocol::signing::Domain;

use super::delivered;

/// Why a checkpoint is not endorsed because of the inbound messages that it covers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::endorse) enum Unlike {
    /// The nodes have not told so many.
    #[error(
        "inbound messages of the log are not compared with the chain yet: the nodes of `endorse.nodes` have not told them as final, and may be behind. delivered=`{delivered}` compared=`{compared}`"
    )]
    NotYet {
        /// How many the log has.
        delivered: u64,
        /// How many of them were compared.
        compared: u64,
    },
    /// The nodes do not tell.
    #[error(
        "inbound messages of the log are not compared with the chain yet, and its nodes do not tell: {why}. delivered=`{delivered}` compared=`{compared}`"
    )]
    Silent {
        /// How many the log has.
        delivered: u64,
        /// How many of them were compared.
        compared: u64,
        /// Why not.
        why: String,
    },
    /// The log has another message than the chain.
    #[error(
        "the log has another inbound message than the chain: nothing from there on is endorsed. See whether `endorse.nodes` and `endorse.bridge` are right; if they are, the \
         sequencer forged it. nonce=`{nonce}`"
    )]
    Forged {
        /// The number of both.
        nonce: u64,
    },
    /// The log follows another bridge.
    #[error(
        "the log has inbound messages of another bridge; set `endorse.chain_id` and `endorse.bridge` to those of the stream. chain_id=`{}` bridge=`{}` found_chain_id=`{found_chain_id}` \
         found=`{found}`", expected.chain_id, expected.contract
    )]
    OtherBridge {
        /// The bridge that is asked about.
        expected: Domain,
        /// The chain of the other one.
        found_chain_id: u64,
        /// The other one.
        found: Address,
    },
}

impl Unlike {
    /// Whether it may be over later.
    pub(in crate::endorse) const fn may_come(&self) -> bool {
        match self {
            Self::NotYet { .. } | Self::Silent { .. } => true,
            Self::Forged { .. } | Self::OtherBridge { .. } => false,
        }
    }
}

/// Why no outbound message is signed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::endorse) enum Held {
    /// The application is too late.
    #[error(
        "outbound messages wait until the application has acknowledged its inbound messages in `inbound_messages`. level=`{}` acknowledged=`{acknowledged}` delivered=`{delivered}`",
        level_name(*level)
    )]
    Late {
        /// How late it is.
        level: StatusLevel,
        /// Everything up to here is acknowledged.
        acknowledged: u64,
        /// Everything up to here was delivered.
        delivered: u64,
    },
    /// The log ignores a message.
    #[error(
        "outbound messages wait until the sequencer has put a message of the bridge into the log, which is final. nonce=`{nonce}` since_ms=`{}`",
        since.as_ms()
    )]
    Ignored {
        /// The message.
        nonce: u64,
        /// When it was sent, by its block's time.
        since: Timestamp,
    },
    /// Nobody has looked yet whether the log ignores any.
    #[error(
        "outbound messages wait until the nodes of `endorse.nodes` have told what the bridge sent: nobody knows yet whether the log leaves out any of it"
    )]
    Unseen,
}

const fn level_name(level: StatusLevel) -> &'static str {
    match level {
        StatusLevel::Healthy => "healthy",
        StatusLevel::Warned => "warned",
        StatusLevel::Degraded => "degraded",
        StatusLevel::Halted => "halted",
    }
}

/// A message of the chain that comes next in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) nonce: u64,
    /// The time of its block.
    pub(super) at: Timestamp,
}

/// What is known of the chain and the log.
#[derive(Debug, Default)]
pub(super) struct Core {
    /// Everything up to here is the same in both, or lacking in the replica.
    compared: u64,
    /// The first that is not.
    forged: Option<u64>,
    /// How many messages the chain had when all of them were seen last; `None` before that.
    sent: Option<u64>,
    /// What came next in the log, the last time that anything did.
    next: Option<Next>,
    /// Why nodes did not tell, the last time that they were asked.
    silent: Option<String>,
}

impl Core {
    /// Everything up to here was compared.
    pub(super) const fn compared(&self) -> u64 {
        self.compared
    }

    /// Compares what the chain and the log have under the same numbers, ascending from behind what was compared. What the replica lacks of the log is passed. Gives
    /// the message that is found to be another one, when it is found.
    pub(super) fn compare(
        &mut self,
        chain: &[(u64, BodyHash)],
        log: &BTreeMap<u64, BodyHash>,
    ) -> Option<u64> {
        for (nonce, digest) in chain {
            // Somebody else may have compared them meanwhile.
            if self.forged.is_some() || *nonce != self.compared + 1 {
                continue;
            }
            if log.get(nonce).is_some_and(|found| found != digest) {
                self.forged = Some(*nonce);
                return self.forged;
            }
            self.compared = *nonce;
        }
        None
    }

    /// Everything that the chain has by now was seen: so many, and the first that the log does not have.
    pub(super) fn saw(&mut self, sent: u64, next: Option<Next>) {
        (self.sent, self.next) = (Some(sent), next.or(self.next));
    }

    /// What the log did not have when it was looked at last.
    pub(super) const fn next(&self) -> Option<Next> {
        self.next
    }

    /// The nodes do not tell, or they do again.
    pub(super) fn is_silent(&mut self, why: Option<String>) {
        self.silent = why;
    }

    /// Whether what a checkpoint covers of inbound messages is what the chain has.
    pub(super) fn alike(&self, bridge: Domain, inbound: Option<InboundState>) -> Result<(), Unlike> {
        let Some(inbound) = inbound else { return Ok(()) };
        if (inbound.chain_id, inbound.bridge) != (bridge.chain_id, bridge.contract) {
            let (found_chain_id, found) = (inbound.chain_id, inbound.bridge);
            return Err(Unlike::OtherBridge { expected: bridge, found_chain_id, found });
        }
        let (delivered, compared) = (inbound.delivered(), self.compared);
        if let Some(nonce) = self.forged.filter(|nonce| *nonce <= delivered) {
            return Err(Unlike::Forged { nonce });
        }
        if delivered <= compared {
            return Ok(());
        }
        Err(match &self.silent {
            Some(why) => Unlike::Silent { delivered, compared, why: why.clone() },
            None => Unlike::NotYet { delivered, compared },
        })
    }

    /// Whether the log has, at the newest that the replica has of it, whatever it must have by now. What was seen last counts while nodes do not tell.
    pub(super) fn included(&self, delivered: u64, inclusion_ms: u64, now: Timestamp) -> Result<(), Held> {
        let Some(sent) = self.sent else { return Err(Held::Unseen) };
        if sent <= delivered {
            return Ok(());
        }
        let comes = delivered + 1;
        match self.next.filter(|next| next.nonce <= comes) {
            // Whatever was sent behind it was not sent before it.
            Some(Next { at, .. }) if now.as_ms() <= at.as_ms().saturating_add(inclusion_ms) => Ok(()),
            Some(Next { nonce, at }) if nonce == comes => Err(Held::Ignored { nonce, since: at }),
            // When that one was sent is not known yet.
            Some(_) | None => Err(Held::Unseen),
        }
    }
}

/// Whether outbound messages are signed at a checkpoint, where everything up to `acknowledged` is, and the message behind that entered the log at `oldest`.
/// What the log says of itself counts where it is worse. All validators decide the same of one checkpoint: log time alone counts.
pub(in crate::endorse) fn in_time(
    claim: &Checkpoint,
    deadlines: Deadlines,
    acknowledged: u64,
    oldest: Option<Timestamp>,
) -> Result<(), Held> {
    let level = deadlines.level(oldest, claim.timestamp).max(claim.status);
    if level < StatusLevel::Degraded {
        return Ok(());
    }
    Err(Held::Late { level, acknowledged, delivered: delivered(claim) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use synddb_protocol::id::{Epoch, InboundNonce, Sequence, StreamId};
    use synddb_protocol::log::{Frontier, Leader, Versions};

    use super::*;

    const BRIDGE: Domain = Domain { chain_id: 5, contract: Address::from_bytes([7; 20]) };

    fn digest(of: u64) -> BodyHash {
        BodyHash::of(&of.to_be_bytes())
    }

    fn same(nonces: impl IntoIterator<Item = u64>) -> Vec<(u64, BodyHash)> {
        nonces.into_iter().map(|nonce| (nonce, digest(nonce))).collect()
    }

    fn log(nonces: impl IntoIterator<Item = u64>) -> BTreeMap<u64, BodyHash> {
        same(nonces).into_iter().collect()
    }

    fn state(count: u64) -> Option<InboundState> {
        let next = InboundNonce::new(count + 1).unwrap();
        Some(InboundState { chain_id: BRIDGE.chain_id, bridge: BRIDGE.contract, next })
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(ms).unwrap()
    }

    #[test]
    fn what_is_the_same_is_endorsed_as_far_as_it_was_compared() {
        let mut core = Core::default();
        assert_eq!(core.alike(BRIDGE, None), Ok(()));
        assert_eq!(core.alike(BRIDGE, state(1)), Err(Unlike::NotYet { delivered: 1, compared: 0 }));
        assert_eq!(core.compare(&same(1..=3), &log(1..=3)), None);
        assert_eq!(core.compare(&same(1..=3), &log(1..=3)), None, "whoever compares them again");
        assert_eq!(core.compare(&same(5..=6), &log(5..=6)), None, "4 is missing");
        assert_eq!((core.alike(BRIDGE, state(3)), core.compared()), (Ok(()), 3));
        let behind = core.alike(BRIDGE, state(4)).unwrap_err();
        assert!(behind.may_come(), "the validator's own node may be behind");
        core.is_silent(Some("it is asleep".to_owned()));
        assert_eq!(core.alike(BRIDGE, state(3)), Ok(()), "what was compared was compared");
        let silent = core.alike(BRIDGE, state(4)).unwrap_err();
        assert!(silent.may_come() && silent.to_string().contains("it is asleep"), "{silent}");
        core.is_silent(None);
        assert_eq!(core.alike(BRIDGE, state(4)), Err(Unlike::NotYet { delivered: 4, compared: 3 }));
        assert_eq!(core.compare(&same(4..=4), &log(4..=4)), None);
        assert_eq!(core.alike(BRIDGE, state(4)), Ok(()));
    }

    #[test]
    fn nothing_at_or_behind_another_message_is_ever_endorsed() {
        let mut core = Core::default();
        let mut forged = log(1..=4);
        forged.insert(3, digest(99));
        assert_eq!(core.compare(&same(1..=4), &forged), Some(3));
        assert_eq!(core.compare(&same(3..=4), &forged), None, "it is told once");
        assert_eq!(core.compare(&same(3..=4), &log(3..=4)), None);
        assert_eq!(core.alike(BRIDGE, state(2)), Ok(()), "what is before it is what it was");
        for count in 3..6 {
            let unlike = core.alike(BRIDGE, state(count)).unwrap_err();
            assert_eq!((&unlike, unlike.may_come()), (&Unlike::Forged { nonce: 3 }, false));
        }
    }

    #[test]
    fn another_bridge_is_told_and_never_endorsed() {
        let mut core = Core::default();
        core.compare(&same(1..=1), &log(1..=1));
        for other in [Domain { chain_id: 6, ..BRIDGE }, Domain { contract: Address::ZERO, ..BRIDGE }] {
            let unlike = core.alike(other, state(1)).unwrap_err();
            assert!(matches!(unlike, Unlike::OtherBridge { .. }) && !unlike.may_come());
        }
    }

    #[test]
    fn what_a_replica_lacks_is_passed() {
        let mut core = Core::default();
        assert_eq!(core.compare(&same(1..=4), &log(3..=4)), None);
        assert_eq!(core.alike(BRIDGE, state(4)), Ok(()));
    }

    #[test]
    fn a_message_that_the_log_leaves_out_holds_once_its_time_is_over_and_until_it_comes() {
        let mut core = Core::default();
        assert_eq!(core.included(0, 100, at(1_000)), Err(Held::Unseen));
        core.saw(0, None);
        assert_eq!(core.included(0, 100, at(1_000)), Ok(()));
        core.saw(4, Some(Next { nonce: 3, at: at(1_000) }));
        assert_eq!(core.included(2, 100, at(1_100)), Ok(()), "not before its time");
        let ignored = Err(Held::Ignored { nonce: 3, since: at(1_000) });
        assert_eq!(core.included(2, 100, at(1_101)), ignored);
        core.is_silent(Some("a node that goes away takes nothing back".to_owned()));
        assert_eq!(core.included(2, 100, at(9_000)), ignored);
        assert_eq!(core.included(2, u64::MAX, at(9_000)), Ok(()));
        // It came. The one behind it was sent no earlier, and nobody knows when.
        assert_eq!(core.included(3, 100, at(1_100)), Ok(()));
        assert_eq!(core.included(3, 100, at(1_101)), Err(Held::Unseen));
        core.saw(4, Some(Next { nonce: 4, at: at(1_050) }));
        assert_eq!(core.included(3, 100, at(1_150)), Ok(()));
        assert_eq!(core.included(3, 100, at(1_151)), Err(Held::Ignored { nonce: 4, since: at(1_050) }));
        assert_eq!(core.included(4, 100, at(9_000)), Ok(()), "nothing is left out");
    }

    #[test]
    fn outbound_messages_wait_while_the_application_is_too_late_and_no_longer() {
        let deadlines = Deadlines { warned_ms: 10, degraded_ms: 20, halted_ms: 30 };
        let claim = |timestamp, status| Checkpoint {
            stream: StreamId::from_bytes([0; 32]),
            epoch: Epoch::FIRST,
            size: Sequence::FIRST,
            timestamp: at(timestamp),
            last_leader: Leader { epoch: Epoch::FIRST, key: Address::ZERO },
            client: None,
            inbound: state(4),
            inbox_consumed: 0,
            status,
            frontier: Frontier::default(),
            versions: Versions::SUPPORTED,
        };
        let held = |level| Err(Held::Late { level, acknowledged: 2, delivered: 4 });
        for (timestamp, status, oldest, expected) in [
            (119, StatusLevel::Healthy, Some(100), Ok(())),
            (120, StatusLevel::Healthy, Some(100), held(StatusLevel::Degraded)),
            (130, StatusLevel::Healthy, Some(100), held(StatusLevel::Halted)),
            (120, StatusLevel::Halted, Some(100), held(StatusLevel::Halted)),
            (100, StatusLevel::Degraded, None, held(StatusLevel::Degraded)),
            (100, StatusLevel::Warned, None, Ok(())),
            // It has caught up.
            (999, StatusLevel::Healthy, None, Ok(())),
        ] {
            let found = in_time(&claim(timestamp, status), deadlines, 2, oldest.map(at));
            assert_eq!(found, expected, "{timestamp} {status:?} {oldest:?}");
        }
    }
}
