//! Finds messages that are to be brought: asks the sequencer for its list, over and over.
//!
//! What must stay true:
//!
//! - Nothing is taken up but what a key signed that is a live sequencer's on the chain: whoever stands between may fill no memory.
//! - Whatever a list left out, or said wrongly, is found once a list is right. Each look goes on where the last one ended, and beside that everything is
//!   looked at again, from the first nonce on, a list at a time.

use std::collections::BTreeMap;

use synddb_chain::Role;
use synddb_protocol::chain;
use synddb_protocol::http::OutboundStatus;
use synddb_protocol::id::{KeyId, StreamId};
use synddb_protocol::signing::Domain;

use crate::carry::Round;
use crate::gather::{self, Asked};
use crate::journal::{Journal, JournalError};
use crate::message::Tracked;
use crate::metrics;
use crate::peers::Silence;

/// Lists that are asked for in one look.
const LISTS_MAX: usize = 16;

/// From the end of looking at everything to its next beginning, in milliseconds.
const AGAIN_AFTER_MS: u64 = 600_000;

/// How far looking at everything again has come.
#[derive(Debug)]
pub(crate) struct Discovery {
    stream: StreamId,
    domain: Domain,
    from: u64,
    /// The first message that it came by and that is not to be had yet.
    first_unsigned: Option<u64>,
    not_before_ms: u64,
}

/// What a list says of one message, as far as it proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// This key has signed it.
    Signed(KeyId),
    /// It is to be asked for again.
    Unsigned,
    /// Nobody has to believe it for ever: everything is looked at again.
    Refused,
}

/// What a list has.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    /// Messages that are to be brought.
    found: Vec<Tracked>,
    /// From where on it is asked next.
    next: u64,
    /// The first message that is to be asked for again.
    first_unsigned: Option<u64>,
    /// Whether nothing is known behind it.
    is_last: bool,
}

impl Discovery {
    /// Everything is looked at again from the start on.
    pub(crate) const fn new(stream: StreamId, domain: Domain) -> Self {
        Self { stream, domain, from: 1, first_unsigned: None, not_before_ms: 0 }
    }

    /// One look. Gives what is in the way of it, if something is.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(crate) async fn look(
        &mut self,
        round: &Round<'_>,
        journal: &mut Journal,
    ) -> Result<Option<String>, JournalError> {
        let asked = Asked { stream: self.stream, domain: self.domain, nonce: self.from };
        let looking = Looking { round, asked, live: BTreeMap::new() };
        match self.forward(looking, journal).await {
            Ok(()) => Ok(None),
            Err(NotNow::Journal(error)) => Err(error),
            Err(NotNow::Other(detail)) => Ok(Some(detail)),
        }
    }

    async fn forward(&mut self, mut looking: Looking<'_>, journal: &mut Journal) -> Result<(), NotNow> {
        let mut from = journal.asks_from()?;
        // What is not signed yet is asked for again, with everything behind it.
        let mut first_unsigned = None;
        for _ in 0..LISTS_MAX {
            let listed = looking.list(from).await?;
            first_unsigned = first_unsigned.or(listed.first_unsigned);
            from = listed.next;
            journal.found(&listed.found, first_unsigned.unwrap_or(from))?;
            if listed.is_last {
                break;
            }
        }
        let now_ms = looking.round.now_ms;
        if now_ms < self.not_before_ms {
            return Ok(());
        }
        let listed = looking.list(self.from).await?;
        self.first_unsigned = self.first_unsigned.or(listed.first_unsigned);
        self.from = listed.next;
        let mut asks_from = journal.asks_from()?;
        if listed.is_last {
            // Whatever a wrong list has passed over is asked for again.
            asks_from = asks_from.min(self.first_unsigned.unwrap_or(self.from));
            let not_before_ms = now_ms.saturating_add(AGAIN_AFTER_MS);
            *self = Self { not_before_ms, ..Self::new(self.stream, self.domain) };
        }
        Ok(journal.found(&listed.found, asks_from)?)
    }
}

/// Why the look ends here.
enum NotNow {
    Journal(JournalError),
    Other(String),
}

impl From<JournalError> for NotNow {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

struct Looking<'l> {
    round: &'l Round<'l>,
    /// Of which stream and bridge; the nonce is each message's own.
    asked: Asked,
    /// Which keys count, as the chain said in this look.
    live: BTreeMap<KeyId, bool>,
}

impl Looking<'_> {
    async fn list(&mut self, from: u64) -> Result<Listed, NotNow> {
        let list = self.round.peers.list(from).await.map_err(|error| match error {
            Silence::Nothing => NotNow::Other("the sequencer has no messages of this stream".to_owned()),
            Silence::Http(_) | Silence::TooLarge(_) | Silence::Malformed(_) => {
                NotNow::Other(format!("the sequencer cannot be asked: {}", chain(&error)))
            }
        })?;
        let mut said = Vec::with_capacity(list.messages.len());
        for status in &list.messages {
            let proven = proven(status, &self.asked);
            if let Said::Signed(signer) = proven
                && !self.live.contains_key(&signer)
            {
                let is_live = self.round.payer.contracts.is_live(signer, Role::Sequencer).await;
                self.live.insert(signer, is_live.map_err(|error| NotNow::Other(chain(&error)))?);
            }
            said.push((status.nonce(), proven));
        }
        let is_live = |signer| self.live.get(&signer).copied().unwrap_or_default();
        read(&said, list.last, from, self.round.now_ms, is_live).map_err(|detail| {
            metrics::nonsense();
            NotNow::Other(detail)
        })
    }
}

/// What the list proves of a message.
fn proven(status: &OutboundStatus, asked: &Asked) -> Said {
    match status {
        OutboundStatus::Signed(signed) => {
            match gather::listed(signed, &Asked { nonce: signed.nonce, ..*asked }) {
                Ok(signed) => Said::Signed(signed.signer),
                Err(nonsense) => {
                    metrics::nonsense();
                    tracing::warn!(nonce = signed.nonce, %nonsense, "what the sequencer lists is dropped");
                    Said::Unsigned
                }
            }
        }
        OutboundStatus::Refused(_) => Said::Refused,
        OutboundStatus::Waiting { .. } => Said::Unsigned,
    }
}

/// What a list says, in the order of nonces. Whose key does not count has said nothing.
fn read(
    said: &[(u64, Said)],
    last: u64,
    from: u64,
    now_ms: u64,
    is_live: impl Fn(KeyId) -> bool,
) -> Result<Listed, String> {
    let mut listed = Listed { found: Vec::new(), next: from, first_unsigned: None, is_last: false };
    for &(nonce, said) in said {
        // A sequencer that does not go forward would be asked for ever.
        if nonce < listed.next || i64::try_from(nonce).is_err() {
            return Err(format!("the sequencer lists what was not asked for. nonce=`{nonce}`"));
        }
        listed.next = nonce + 1;
        match said {
            Said::Signed(signer) if is_live(signer) => listed.found.push(Tracked::new(nonce, now_ms)),
            Said::Signed(_) | Said::Unsigned => {
                listed.first_unsigned.get_or_insert(nonce);
            }
            Said::Refused => {}
        }
    }
    listed.is_last = said.is_empty() || listed.next > last;
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use synddb_protocol::http::{OutboundList, OutboundSignature};
    use synddb_protocol::log::OutboundMessage;
    use synddb_protocol::signing::SigningKey;

    use super::*;
    use crate::gather::tests::{asked, key, outbound, served};

    fn signed(nonce: u64, by: &SigningKey) -> OutboundStatus {
        OutboundStatus::Signed(served(&OutboundMessage { nonce, ..outbound(b"call") }, by))
    }

    fn said(list: &OutboundList, from: u64) -> Result<(Vec<u64>, u64, Option<u64>, bool), String> {
        let said: Vec<_> =
            list.messages.iter().map(|status| (status.nonce(), proven(status, &asked()))).collect();
        let listed = read(&said, list.last, from, 5, |signer| signer == key(9).id())?;
        let found = listed.found.iter().map(|tracked| tracked.nonce).collect();
        Ok((found, listed.next, listed.first_unsigned, listed.is_last))
    }

    #[test]
    fn only_what_a_live_sequencer_signed_is_taken_up() {
        let forged = || match signed(4, &key(9)) {
            OutboundStatus::Signed(signed) => {
                OutboundStatus::Signed(OutboundSignature { nonce: 6, ..signed })
            }
            OutboundStatus::Refused(_) | OutboundStatus::Waiting { .. } => unreachable!(),
        };
        let good = signed(3, &key(9));
        let list = |messages: Vec<OutboundStatus>, last| OutboundList { messages, last };
        assert_eq!(said(&list(vec![good.clone()], 3), 1), Ok((vec![3], 4, None, true)));
        assert_eq!(said(&list(vec![good.clone()], 9), 1), Ok((vec![3], 4, None, false)));
        assert_eq!(
            said(&list(Vec::new(), 9), 1),
            Ok((Vec::new(), 1, None, true)),
            "it is not asked for ever"
        );
        let mixed = vec![good.clone(), signed(5, &key(8)), forged(), signed(7, &key(9))];
        assert_eq!(said(&list(mixed, 7), 1), Ok((vec![3, 7], 8, Some(5), true)));
        assert!(said(&list(vec![good.clone()], 9), 4).is_err(), "it goes back");
        assert!(said(&list(vec![good.clone(), good], 9), 1).is_err(), "it stands still");
    }
}
