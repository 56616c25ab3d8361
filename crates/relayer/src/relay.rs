//! What is done about one message: `step(now, message, event) -> (message, effect)`. Pure.
//!
//! ```text
//! due -> ask the bridge -> gather signatures -> simulate -> estimate -> send -> follow -> mined
//!             |  ^--------------------------------------------------------------------------|
//!             \-> ended, by anybody: settled when that is final     failed: after a pause, from the start
//! ```
//!
//! What must stay true:
//!
//! - A transaction is sent for a message only while none is under way for it, and not for one that the bridge has ended.
//! - Nothing settles a message but the bridge's word in a block that is final, said in several looks: neither a receipt nor the newest block.
//! - A failed message is brought again only when it would end now, and only so often.
//! - Whatever is in the way, a message is looked at again: pauses have a bound.
//!
//! Knows no clock, no node, and nobody who signs.

use synddb_chain::{BroughtTo, MessageState, Reverted};

use crate::config::{FeePolicy, RetryPolicy};
use crate::message::{Standing, Tracked};

/// What a contract may revert with that passes by itself, or by what somebody else does.
const PASSING: [&str; 9] = [
    "OutboundIsPaused",
    "ExitsArePaused",
    "InboxNotReached",
    "QuorumNotMet",
    "ThresholdInvalid",
    "CustodyTooLow",
    "KeyNotLive",
    "AuthorizationStale",
    "StateUnfit",
];

/// How many looks in a row must find a message ended in a block that is final before it is settled, for ever.
const ENDED_LOOKS: u32 = 3;

/// How many pauses the bridge may go without saying what the receipt of a transaction has said.
const DENIED_MAX: u32 = 8;

/// What may be paid, and how often is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) fees: FeePolicy,
    pub(crate) retry: RetryPolicy,
    pub(crate) poll_ms: u64,
}

/// What became known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Its time has come.
    Due,
    /// The bridge's word.
    Bridge {
        /// Where the message is.
        state: MessageState,
        /// The newest block that is final, if there is one.
        settled_block: Option<u64>,
        /// Where it is in that block, where it matters.
        settled: Option<MessageState>,
    },
    /// It cannot be brought: too few signatures, or nobody has its content.
    Short {
        /// What is missing.
        detail: String,
        /// Signatures that count.
        signatures: u32,
        /// How many are needed; 0 while that is not known.
        threshold: u32,
    },
    /// Everything is there that the bridge asks for.
    Quorum {
        /// Signatures that count.
        signatures: u32,
        /// How many are needed.
        threshold: u32,
    },
    /// What the bridge would do now.
    Simulated {
        /// Where the message is.
        before: MessageState,
        /// Where it would be then, or what the call reverts with.
        told: Result<MessageState, Reverted>,
    },
    /// Gas that it would take.
    Estimated(u64),
    /// Its transaction is under way.
    UnderWay {
        /// The hash, as it was sent last.
        tx: Option<String>,
    },
    /// Its transaction is in no queue: it was never sent.
    NeverSent,
    /// Its transaction is final.
    Ended {
        /// The hash.
        tx: String,
        /// Its block.
        block: u64,
        /// What it made of the message; `None` where it was reverted.
        outcome: Option<BroughtTo>,
    },
    /// Somebody who has to be asked does not answer.
    Trouble(String),
}

/// What is to be done; whoever does it comes back with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask the bridge where the message is.
    AskBridge,
    /// Gather its content and signatures.
    Gather,
    /// Ask the bridge what it would do.
    Simulate,
    /// Ask what it would take.
    Estimate,
    /// Send a transaction with so much gas.
    Send {
        /// The limit.
        gas_limit: u64,
    },
    /// Look what became of its transaction.
    Follow,
    /// Nothing until it is due again.
    Rest,
}

/// Decides about one message.
pub(crate) fn step(now_ms: u64, tracked: &Tracked, event: Event, policy: &Policy) -> (Tracked, Effect) {
    Step { now_ms, next: tracked.clone(), policy }.decide(event)
}

struct Step<'p> {
    now_ms: u64,
    next: Tracked,
    policy: &'p Policy,
}

impl Step<'_> {
    fn decide(mut self, event: Event) -> (Tracked, Effect) {
        match event {
            Event::Due => {
                let is_under_way = matches!(self.next.standing, Standing::Submitted { block: None, .. });
                let effect = if self.next.standing.is_settled() {
                    Effect::Rest
                } else if is_under_way {
                    Effect::Follow
                } else {
                    Effect::AskBridge
                };
                (self.next, effect)
            }
            Event::Bridge { state, settled_block, settled } => self.bridge(state, settled_block, settled),
            Event::Short { detail, signatures, threshold } => {
                if let Standing::Waiting { signatures: before, .. } = self.next.standing
                    && before < signatures
                {
                    self.next.pauses = 0;
                }
                self.wait(Standing::Waiting { detail, signatures, threshold })
            }
            Event::Quorum { signatures, threshold } => {
                let detail = "it is about to be brought".to_owned();
                if !matches!(self.next.standing, Standing::Failed { .. }) {
                    self.next.standing = Standing::Waiting { detail, signatures, threshold };
                }
                (self.next, Effect::Simulate)
            }
            Event::Simulated { before, told } => self.simulated(before, told),
            Event::Estimated(gas) => self.estimated(gas),
            Event::UnderWay { tx } => {
                self.next.standing = Standing::Submitted { tx, block: None };
                self.rest_short()
            }
            Event::NeverSent => {
                self.next.attempts = self.next.attempts.saturating_sub(1);
                self.next.standing = self.waiting("its transaction was never sent");
                self.rest_for(0)
            }
            Event::Ended { tx, block, outcome } => self.ended(tx, block, outcome),
            Event::Trouble(detail) => {
                self.next.error = Some(detail);
                match self.next.standing {
                    // Pauses count how often the bridge has denied it.
                    Standing::Submitted { block: Some(_), .. } => self.rest_short(),
                    Standing::Submitted { block: None, .. }
                    | Standing::Waiting { .. }
                    | Standing::Held { .. }
                    | Standing::Completed { .. }
                    | Standing::Failed { .. }
                    | Standing::Rejected
                    | Standing::Expired => self.pause(),
                }
            }
        }
    }

    fn bridge(
        mut self,
        state: MessageState,
        settled_block: Option<u64>,
        settled: Option<MessageState>,
    ) -> (Tracked, Effect) {
        self.next.error = None;
        if let Some(ended) = settled.and_then(|settled| self.as_ended(settled)) {
            self.next.ended_looks = self.next.ended_looks.saturating_add(1);
            if self.next.ended_looks >= ENDED_LOOKS {
                self.next.standing = ended;
                return (self.next, Effect::Rest);
            }
            return self.ended_soon();
        }
        self.next.ended_looks = 0;
        if let Standing::Submitted { tx: Some(tx), block: Some(block) } = &self.next.standing {
            if settled_block.is_none_or(|settled| settled < *block) {
                // The node is behind what was said before, and says nothing of it.
                return self.rest_short();
            }
            if self.next.pauses >= DENIED_MAX {
                let detail =
                    format!("the bridge does not say what the transaction's receipt does. tx=`{tx}`");
                (self.next.standing, self.next.pauses) = (self.waiting(&detail), 0);
            }
            return self.pause();
        }
        match state {
            MessageState::Completed | MessageState::Rejected | MessageState::Expired => self.ended_soon(),
            MessageState::Executing | MessageState::PostExecution => {
                let detail =
                    "the bridge says that it is being executed, which is so within a transaction only";
                self.hold(detail.to_owned())
            }
            MessageState::NotStarted | MessageState::PreExecution | MessageState::Failed
                if self.next.attempts >= self.policy.retry.attempts_max =>
            {
                if matches!(self.next.standing, Standing::Failed { .. }) {
                    return self.rest_long();
                }
                let attempts = self.next.attempts;
                self.hold(format!("it was brought as often as is tried. transactions=`{attempts}`"))
            }
            MessageState::Failed => {
                if !matches!(self.next.standing, Standing::Failed { .. }) {
                    let reason = "another transaction than this relayer's failed".to_owned();
                    self.next.standing = Standing::Failed { reason, attempts: self.next.attempts };
                }
                (self.next, Effect::Gather)
            }
            MessageState::NotStarted | MessageState::PreExecution => (self.next, Effect::Gather),
        }
    }

    /// How it stands once the bridge has ended it, for ever.
    fn as_ended(&self, state: MessageState) -> Option<Standing> {
        match state {
            MessageState::Completed => {
                let (mut ours, mut in_block) = (None, None);
                if let Standing::Submitted { tx, block } = &self.next.standing {
                    (ours, in_block) = (tx.clone(), *block);
                }
                Some(Standing::Completed { tx: ours, block: in_block })
            }
            MessageState::Rejected => Some(Standing::Rejected),
            MessageState::Expired => Some(Standing::Expired),
            MessageState::NotStarted
            | MessageState::PreExecution
            | MessageState::Executing
            | MessageState::PostExecution
            | MessageState::Failed => None,
        }
    }

    /// Nothing is brought any more; it is settled when the same is said of a block that is final, again and again.
    fn ended_soon(mut self) -> (Tracked, Effect) {
        if !matches!(self.next.standing, Standing::Submitted { .. }) {
            self.next.standing = self.waiting("the bridge has ended it; that is not final yet");
        }
        self.rest_short()
    }

    fn simulated(self, before: MessageState, told: Result<MessageState, Reverted>) -> (Tracked, Effect) {
        let is_first = before == MessageState::NotStarted;
        match told {
            Ok(MessageState::Completed | MessageState::Rejected | MessageState::Expired) => {
                (self.next, Effect::Estimate)
            }
            // A bridge that keeps the order of nonces waits until each was tried, whatever came of it.
            Ok(MessageState::Failed) if before != MessageState::Failed => (self.next, Effect::Estimate),
            // A module may count its time from here on.
            Ok(MessageState::PreExecution) if is_first => (self.next, Effect::Estimate),
            Ok(MessageState::Failed) => self.pause(),
            Ok(MessageState::PreExecution) => {
                let standing = self.waiting("a module of the bridge has it wait");
                self.wait(standing)
            }
            Ok(
                state @ (MessageState::NotStarted | MessageState::Executing | MessageState::PostExecution),
            ) => self.hold(format!("the bridge would leave it where no message is left. state=`{state:?}`")),
            Err(reverted) if PASSING.contains(&reverted.name.as_str()) => {
                if matches!(self.next.standing, Standing::Failed { .. }) {
                    return self.pause();
                }
                let standing = self.waiting(&format!("the bridge says {reverted}"));
                self.wait(standing)
            }
            Err(reverted) => self.hold(format!("the bridge says {reverted}")),
        }
    }

    fn estimated(mut self, gas: u64) -> (Tracked, Effect) {
        let gas_max = self.policy.fees.gas_max;
        if gas > gas_max {
            return self.hold(format!(
                "it takes more gas than is paid for; raise `fees.gas_max`. gas=`{gas}` limit=`{gas_max}`"
            ));
        }
        self.next.attempts = self.next.attempts.saturating_add(1);
        self.next.standing = Standing::Submitted { tx: None, block: None };
        (self.next.pauses, self.next.due_ms) = (0, self.now_ms);
        (self.next, Effect::Send { gas_limit: self.policy.fees.limited(gas) })
    }

    fn ended(mut self, tx: String, block: u64, outcome: Option<BroughtTo>) -> (Tracked, Effect) {
        self.next.error = None;
        match outcome {
            // The bridge has the last word, as it has where another transaction than ours ended it.
            Some(BroughtTo::Completed | BroughtTo::Rejected | BroughtTo::Expired) => {
                self.next.standing = Standing::Submitted { tx: Some(tx), block: Some(block) };
                self.next.pauses = 0;
                (self.next, Effect::AskBridge)
            }
            Some(BroughtTo::Failed(reverted)) => {
                let reason = reverted.to_string();
                // Each attempt is followed by a longer pause than the one before.
                (self.next.pauses, self.next.standing) =
                    (self.next.attempts, Standing::Failed { reason, attempts: self.next.attempts });
                self.pause()
            }
            Some(BroughtTo::Delayed) => {
                let standing = self.waiting("a module of the bridge has it wait");
                self.wait(standing)
            }
            None => {
                self.next.pauses = self.next.attempts;
                let standing = self.waiting(&format!("its transaction was reverted. tx=`{tx}`"));
                self.wait(standing)
            }
        }
    }

    fn waiting(&self, detail: &str) -> Standing {
        let (mut signatures, mut threshold) = (0, 0);
        if let Standing::Waiting { signatures: gathered, threshold: needed, .. } = self.next.standing {
            (signatures, threshold) = (gathered, needed);
        }
        Standing::Waiting { detail: detail.to_owned(), signatures, threshold }
    }

    fn wait(mut self, standing: Standing) -> (Tracked, Effect) {
        self.next.standing = standing;
        self.pause()
    }

    /// Somebody has to look, so nothing is gained by looking often.
    fn hold(mut self, detail: String) -> (Tracked, Effect) {
        self.next.standing = Standing::Held { detail };
        self.rest_long()
    }

    fn pause(mut self) -> (Tracked, Effect) {
        let RetryPolicy { pause_ms, pause_ms_max, .. } = self.policy.retry;
        let doubled = pause_ms.saturating_mul(1 << self.next.pauses.min(32));
        self.next.pauses = self.next.pauses.saturating_add(1);
        self.rest_for(doubled.min(pause_ms_max))
    }

    fn rest_long(self) -> (Tracked, Effect) {
        let longest = self.policy.retry.pause_ms_max;
        self.rest_for(longest)
    }

    fn rest_short(self) -> (Tracked, Effect) {
        let poll_ms = self.policy.poll_ms;
        self.rest_for(poll_ms)
    }

    fn rest_for(mut self, ms: u64) -> (Tracked, Effect) {
        self.next.due_ms = self.now_ms.saturating_add(ms);
        (self.next, Effect::Rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let fees = FeePolicy { gas_max: 1_000_000, gas_margin_percent: 20, ..FeePolicy::default() };
        let retry = RetryPolicy { attempts_max: 3, pause_ms: 100, pause_ms_max: 1_000 };
        Policy { fees, retry, poll_ms: 10 }
    }

    fn run(tracked: &Tracked, events: impl IntoIterator<Item = Event>) -> (Tracked, Effect) {
        let mut last = (tracked.clone(), Effect::Rest);
        for event in events {
            last = step(1_000, &last.0, event, &policy());
        }
        last
    }

    const fn at(state: MessageState) -> Event {
        Event::Bridge { state, settled_block: Some(90), settled: Some(MessageState::NotStarted) }
    }

    /// What is said in each look from when it is final.
    fn is_final(state: MessageState) -> impl Iterator<Item = Event> {
        std::iter::repeat_n(Event::Bridge { state, settled_block: Some(90), settled: Some(state) }, 3)
    }

    fn told(before: MessageState, would: MessageState) -> Event {
        Event::Simulated { before, told: Ok(would) }
    }

    fn reverts(name: &str) -> Event {
        let reverted = Reverted { name: name.to_owned(), text: format!("{name} {{ .. }}") };
        Event::Simulated { before: MessageState::NotStarted, told: Err(reverted) }
    }

    fn refused() -> Option<BroughtTo> {
        Some(BroughtTo::Failed(Reverted { name: String::new(), text: "no".to_owned() }))
    }

    const QUORUM: Event = Event::Quorum { signatures: 2, threshold: 2 };

    fn new() -> Tracked {
        Tracked::new(7, 0)
    }

    fn sent() -> Tracked {
        let not_started = MessageState::NotStarted;
        let events =
            [at(not_started), QUORUM, told(not_started, MessageState::Completed), Event::Estimated(100_000)];
        run(&new(), events).0
    }

    #[test]
    fn a_message_with_a_quorum_is_sent_once_and_followed() {
        let not_started = MessageState::NotStarted;
        assert_eq!(run(&new(), [Event::Due]).1, Effect::AskBridge);
        assert_eq!(run(&new(), [at(not_started)]).1, Effect::Gather);
        assert_eq!(run(&new(), [at(not_started), QUORUM]).1, Effect::Simulate);
        let simulated = [at(not_started), QUORUM, told(not_started, MessageState::Completed)];
        assert_eq!(run(&new(), simulated.clone()).1, Effect::Estimate);
        let (sent, effect) = run(&new(), simulated.into_iter().chain([Event::Estimated(100_000)]));
        assert_eq!(effect, Effect::Send { gas_limit: 120_000 });
        assert_eq!((&sent.standing, sent.attempts), (&Standing::Submitted { tx: None, block: None }, 1));
        assert_eq!(run(&sent, [Event::Due]).1, Effect::Follow, "whatever ends the process now");
        let under_way = Event::UnderWay { tx: Some("0x01".to_owned()) };
        assert_eq!(run(&sent, [under_way.clone()]).1, Effect::Rest);
        let ended = Event::Ended { tx: "0x02".to_owned(), block: 5, outcome: Some(BroughtTo::Completed) };
        let (mined, effect) = run(&sent, [under_way, ended]);
        assert_eq!((mined.standing.word(), effect), ("submitted", Effect::AskBridge));
        assert_eq!(run(&mined, [Event::Due]).1, Effect::AskBridge, "a restart does not look for it again");
        let (done, effect) = run(&mined, is_final(MessageState::Completed));
        assert_eq!(effect, Effect::Rest);
        assert_eq!(done.standing, Standing::Completed { tx: Some("0x02".to_owned()), block: Some(5) });
        assert_eq!(run(&done, [Event::Due]).1, Effect::Rest);
    }

    #[test]
    fn what_was_never_sent_is_no_attempt() {
        let (again, effect) = run(&sent(), [Event::NeverSent]);
        assert_eq!((effect, again.attempts, again.due_ms), (Effect::Rest, 0, 1_000));
        assert_eq!(run(&again, [Event::Due]).1, Effect::AskBridge);
    }

    #[test]
    fn what_anybody_ended_is_settled_when_that_is_final() {
        for (state, standing) in [
            (MessageState::Completed, Standing::Completed { tx: None, block: None }),
            (MessageState::Rejected, Standing::Rejected),
            (MessageState::Expired, Standing::Expired),
        ] {
            let (seen, effect) = run(&new(), [at(state), at(state), at(state), at(state)]);
            assert_eq!((seen.standing.word(), effect), ("waiting", Effect::Rest), "{state:?}");
            assert!(
                !run(&seen, [Event::Bridge { state, settled_block: None, settled: None }])
                    .0
                    .standing
                    .is_settled()
            );
            assert_eq!(run(&seen, is_final(state)).0.standing, standing);
            let (twice, effect) = run(&seen, is_final(state).take(2));
            assert_eq!((twice.standing.word(), effect), ("waiting", Effect::Rest));
            let (gone, effect) = run(&twice, [at(MessageState::NotStarted)]);
            assert_eq!(effect, Effect::Gather, "another chain of blocks is the longer one");
            assert!(!run(&gone, is_final(state).take(2)).0.standing.is_settled());
        }
    }

    #[test]
    fn a_receipt_that_the_bridge_never_confirms_is_none() {
        let ended = Event::Ended { tx: "0x02".to_owned(), block: 5, outcome: Some(BroughtTo::Completed) };
        let denied = || std::iter::repeat_n(at(MessageState::NotStarted), 8);
        let (mined, effect) = run(&sent(), std::iter::once(ended).chain(denied()));
        assert_eq!((mined.standing.word(), effect), ("submitted", Effect::Rest));
        let behind = Event::Bridge { state: MessageState::NotStarted, settled_block: Some(4), settled: None };
        let says_nothing = [behind.clone(), Event::Trouble("away".to_owned()), behind];
        assert_eq!(
            run(&mined, says_nothing).0.standing,
            mined.standing,
            "a node that is behind denies nothing"
        );
        let (waiting, effect) = run(&mined, [at(MessageState::NotStarted)]);
        assert_eq!((waiting.standing.word(), effect), ("waiting", Effect::Rest));
        assert_eq!(run(&waiting, [Event::Due, at(MessageState::NotStarted)]).1, Effect::Gather);
    }

    #[test]
    fn pauses_grow_up_to_their_bound_and_begin_anew_with_each_signature() {
        let short =
            |signatures| Event::Short { detail: "two are missing".to_owned(), signatures, threshold: 3 };
        let mut tracked = new();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            tracked = run(&tracked, [short(1)]).0;
            pauses.push(tracked.due_ms - 1_000);
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1_000, 1_000]);
        tracked = run(&tracked, [short(2)]).0;
        assert_eq!(tracked.due_ms - 1_000, 100);
        let detail = "two are missing".to_owned();
        assert_eq!(tracked.standing, Standing::Waiting { detail, signatures: 2, threshold: 3 });
        let (troubled, effect) = run(&tracked, [Event::Trouble("away".to_owned())]);
        assert_eq!((effect, troubled.error.as_deref()), (Effect::Rest, Some("away")));
        assert_eq!(troubled.standing, tracked.standing);
    }

    #[test]
    fn what_passes_is_waited_for_and_everything_else_is_reported() {
        for name in PASSING {
            let (waiting, effect) = run(&new(), [QUORUM, reverts(name)]);
            assert_eq!(effect, Effect::Rest);
            let Standing::Waiting { detail, signatures: 2, threshold: 2 } = &waiting.standing else {
                panic!("{waiting:?}")
            };
            assert!(detail.contains(name), "{detail}");
        }
        for name in ["SignatureInvalid", "SignersNotAscending", "PayloadMismatch", "StreamUnknown", ""] {
            let (held, effect) = run(&new(), [QUORUM, reverts(name)]);
            assert_eq!((held.standing.word(), effect), ("held", Effect::Rest), "{name}");
            assert_eq!(held.due_ms, 2_000, "the longest pause");
            assert_eq!(run(&held, [Event::Due]).1, Effect::AskBridge, "and looked at again");
        }
    }

    #[test]
    fn what_passes_is_what_contracts_say() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/snapshots/abi");
        let interface = |name| std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap();
        let known = interface("Bridge") + &interface("TeeKeyManager");
        for name in PASSING {
            assert!(known.contains(&format!("\"name\": \"{name}\",")), "{name}");
        }
    }

    #[test]
    fn gas_is_bounded_by_the_policy() {
        let sends = |gas| run(&new(), [QUORUM, Event::Estimated(gas)]);
        assert_eq!(sends(900_000).1, Effect::Send { gas_limit: 1_000_000 });
        let (held, effect) = sends(1_000_001);
        assert_eq!((held.standing.word(), effect, held.attempts), ("held", Effect::Rest, 0));
    }

    #[test]
    fn a_message_that_would_fail_is_brought_once_and_again_only_when_it_would_not() {
        let (not_started, failed) = (MessageState::NotStarted, MessageState::Failed);
        assert_eq!(
            run(&new(), [QUORUM, told(not_started, failed)]).1,
            Effect::Estimate,
            "so that others may follow"
        );
        let ended = Event::Ended { tx: "0x01".to_owned(), block: 5, outcome: refused() };
        let (tracked, effect) = run(&sent(), [ended]);
        assert_eq!(effect, Effect::Rest);
        assert_eq!(tracked.standing, Standing::Failed { reason: "no".to_owned(), attempts: 1 });
        assert_eq!(tracked.due_ms, 1_200);
        let (tracked, effect) = run(&tracked, [Event::Due, at(failed), QUORUM, told(failed, failed)]);
        assert_eq!((tracked.standing.word(), effect), ("failed", Effect::Rest));
        let would =
            [Event::Due, at(failed), QUORUM, told(failed, MessageState::Completed), Event::Estimated(5)];
        let (tracked, effect) = run(&tracked, would);
        assert_eq!((effect, tracked.attempts), (Effect::Send { gas_limit: 6 }, 2));
    }

    #[test]
    fn attempts_end() {
        let failed = || Event::Ended { tx: String::new(), block: 5, outcome: refused() };
        let exhausted = Tracked { attempts: 3, ..run(&sent(), [failed()]).0 };
        let (left, effect) = run(&exhausted, [Event::Due, at(MessageState::Failed)]);
        assert_eq!((left.standing.word(), effect, left.due_ms), ("failed", Effect::Rest, 2_000));
        let nothing = Event::Ended { tx: String::new(), block: 5, outcome: None };
        let reverted = Tracked { attempts: 3, ..run(&sent(), [nothing]).0 };
        let (held, effect) = run(&reverted, [Event::Due, at(MessageState::NotStarted)]);
        assert_eq!((held.standing.word(), effect), ("held", Effect::Rest));
        let done = run(&held, is_final(MessageState::Completed));
        assert_eq!(done.0.standing.word(), "completed", "somebody else brought it");
    }

    #[test]
    fn a_module_that_has_a_message_wait_is_told_of_it_once() {
        let (not_started, delayed) = (MessageState::NotStarted, MessageState::PreExecution);
        assert_eq!(run(&new(), [QUORUM, told(not_started, delayed)]).1, Effect::Estimate);
        let (waiting, effect) = run(&new(), [QUORUM, told(delayed, delayed)]);
        assert_eq!((waiting.standing.word(), effect), ("waiting", Effect::Rest));
        assert_eq!(run(&waiting, [QUORUM, told(delayed, MessageState::Completed)]).1, Effect::Estimate);
        let ended = Event::Ended { tx: String::new(), block: 5, outcome: Some(BroughtTo::Delayed) };
        assert_eq!(run(&sent(), [ended]).0.standing.word(), "waiting");
    }
}
