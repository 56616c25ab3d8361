//! What others served, checked and counted. Pure.
//!
//! Nothing is believed: the digest is computed here from the fields and the domain of the record, keys are recovered, and which of them count is for the
//! chain to say. What does not fit says why, and is dropped.

use std::collections::BTreeMap;

use synddb_protocol::hash::PayloadHash;
use synddb_protocol::http::{OutboundContent, OutboundSignature};
use synddb_protocol::id::{KeyId, StreamId};
use synddb_protocol::log::OutboundMessage;
use synddb_protocol::signing::{Digest, Domain, RecoverableSignature};
use synddb_sqlite::messages::PAYLOAD_BYTES_MAX;

/// Why something that was served counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Nonsense {
    /// It is not what was asked for.
    #[error("it is of another stream, nonce, chain or bridge")]
    Other,
    /// One of its fields is none.
    #[error("a field of it is malformed. field=`{0}`")]
    Malformed(&'static str),
    /// Its digest does not follow from its fields.
    #[error("its digest is not that of its fields. served=`{served}` computed=`{computed}`")]
    Digest { served: String, computed: Digest },
    /// It is over other fields than the sequencer signed.
    #[error("it is over other fields than the sequencer signed")]
    Fields,
    /// The call data are not those that are signed.
    #[error("the call data are not those that are signed")]
    Payload,
    /// The call data are longer than a bridge executes.
    #[error("the call data are longer than a bridge executes. bytes=`{0}` limit=`{PAYLOAD_BYTES_MAX}`")]
    PayloadTooLong(usize),
    /// The signature is not of the key that it names.
    #[error("the signature is not of the key that is named. named=`{0}`")]
    Signer(KeyId),
}

/// For which message of which bridge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) stream: StreamId,
    pub(crate) domain: Domain,
    pub(crate) nonce: u64,
}

/// A signature, and who made it. That the key counts is not said by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) signer: KeyId,
    pub(crate) signature: RecoverableSignature,
}

/// What the sequencer has signed, with its call data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) message: OutboundMessage,
    pub(crate) payload: Vec<u8>,
    pub(crate) sequencer: Signed,
}

/// Checks what a sequencer served.
pub(crate) fn content(served: &OutboundContent, asked: &Asked) -> Result<Content, Nonsense> {
    let signed = &served.signed;
    let message = message(signed, asked)?;
    let payload = bytes("payload", &served.payload)?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Nonsense::PayloadTooLong(payload.len()));
    }
    if PayloadHash::of(&payload) != message.payload_hash {
        return Err(Nonsense::Payload);
    }
    Ok(Content { sequencer: signer(signed, &message, asked)?, message, payload })
}

/// Checks a signed message that a sequencer lists.
pub(crate) fn listed(served: &OutboundSignature, asked: &Asked) -> Result<Signed, Nonsense> {
    signer(served, &message(served, asked)?, asked)
}

/// Checks what a validator served about what the sequencer has signed.
pub(crate) fn word(
    served: &OutboundSignature,
    message: &OutboundMessage,
    asked: &Asked,
) -> Result<Signed, Nonsense> {
    if self::message(served, asked)? != *message {
        return Err(Nonsense::Fields);
    }
    signer(served, message, asked)
}

fn message(served: &OutboundSignature, asked: &Asked) -> Result<OutboundMessage, Nonsense> {
    let domain = Domain { chain_id: served.chain_id, contract: served.bridge };
    if (served.stream, served.nonce, domain) != (asked.stream, asked.nonce, asked.domain) {
        return Err(Nonsense::Other);
    }
    served.fields.message(asked.stream, asked.nonce).map_err(|_| Nonsense::Malformed("fields"))
}

fn signer(served: &OutboundSignature, message: &OutboundMessage, asked: &Asked) -> Result<Signed, Nonsense> {
    let computed = message.digest(&asked.domain);
    if served.digest != computed.to_string() {
        return Err(Nonsense::Digest { served: served.digest.chars().take(66).collect(), computed });
    }
    let signature = bytes("signature", &served.signature)?;
    let signature = signature.try_into().map_err(|_| Nonsense::Malformed("signature"))?;
    let signature = RecoverableSignature::from_bytes(signature);
    let signer = signature.recover(&computed).filter(|key| *key == served.signer);
    Ok(Signed { signer: signer.ok_or(Nonsense::Signer(served.signer))?, signature })
}

fn bytes(field: &'static str, text: &str) -> Result<Vec<u8>, Nonsense> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode(digits).map_err(|_| Nonsense::Malformed(field))
}

/// Signatures of validators over one digest, each key once.
#[derive(Debug, Default)]
pub(crate) struct Words(BTreeMap<KeyId, RecoverableSignature>);

impl Words {
    /// Counts one. One key makes one signature for one content, so whoever serves another's says nothing new.
    pub(crate) fn add(&mut self, signed: Signed) {
        self.0.insert(signed.signer, signed.signature);
    }

    /// Whose there are.
    pub(crate) fn signers(&self) -> Vec<KeyId> {
        self.0.keys().copied().collect()
    }

    /// Takes out one that does not count.
    pub(crate) fn remove(&mut self, signer: KeyId) {
        self.0.remove(&signer);
    }

    /// How many count.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// Exactly as many as are enough, as a contract takes them: in strictly ascending order of addresses.
    pub(crate) fn quorum(&self, threshold: u32) -> Option<Vec<RecoverableSignature>> {
        let needed = usize::try_from(threshold).ok().filter(|needed| *needed > 0)?;
        (self.0.len() >= needed).then(|| self.0.values().take(needed).copied().collect())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use synddb_protocol::id::{Address, Sequence};
    use synddb_protocol::signing::SigningKey;

    use super::*;

    pub(crate) fn asked() -> Asked {
        let domain = Domain { chain_id: 31337, contract: Address::from_bytes([0xb1; 20]) };
        Asked { stream: StreamId::from_bytes([1; 32]), domain, nonce: 7 }
    }

    pub(crate) fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes([seed; 32]).unwrap()
    }

    pub(crate) fn outbound(payload: &[u8]) -> OutboundMessage {
        OutboundMessage {
            stream: asked().stream,
            nonce: asked().nonce,
            target: Address::from_bytes([3; 20]),
            value: 4.into(),
            token: Address::ZERO,
            amount: 0.into(),
            payload_hash: PayloadHash::of(payload),
            gas_limit: 100_000,
            deadline: u64::MAX,
            inbox_consumed: 0,
        }
    }

    pub(crate) fn served(message: &OutboundMessage, key: &SigningKey) -> OutboundSignature {
        let (domain, sequence) = (asked().domain, Sequence::new(1).unwrap());
        OutboundSignature::of(message, sequence, &domain, key.id(), &message.sign(key, &domain))
    }

    pub(crate) fn served_content(payload: &[u8], key: &SigningKey) -> OutboundContent {
        let payload_text = format!("0x{}", hex::encode(payload));
        OutboundContent { signed: served(&outbound(payload), key), payload: payload_text }
    }

    #[test]
    fn what_is_served_is_taken_only_as_it_is_signed() {
        let good = served_content(b"call", &key(9));
        let read = content(&good, &asked()).unwrap();
        assert_eq!((read.message, read.sequencer.signer), (outbound(b"call"), key(9).id()));
        let wrong = |change: fn(&mut OutboundContent)| {
            let mut served = good.clone();
            change(&mut served);
            content(&served, &asked()).unwrap_err()
        };
        assert_eq!(wrong(|served| served.payload = "0x00".to_owned()), Nonsense::Payload);
        assert_eq!(wrong(|served| served.payload = "call".to_owned()), Nonsense::Malformed("payload"));
        assert_eq!(wrong(|served| served.signed.nonce = 8), Nonsense::Other);
        assert_eq!(wrong(|served| served.signed.chain_id = 1), Nonsense::Other);
        assert_eq!(wrong(|served| served.signed.bridge = Address::ZERO), Nonsense::Other);
        assert_eq!(
            wrong(|served| served.signed.fields.value = "-1".to_owned()),
            Nonsense::Malformed("fields")
        );
        assert_eq!(
            wrong(|served| served.signed.signature = "0x12".to_owned()),
            Nonsense::Malformed("signature")
        );
        let other_value = wrong(|served| served.signed.fields.value = "5".to_owned());
        assert!(matches!(other_value, Nonsense::Digest { .. }), "{other_value}");
        let named = key(8).id();
        assert_eq!(wrong(|served| served.signed.signer = key(8).id()), Nonsense::Signer(named));
        // A liar that computes the digest of what it made up has no signature over it.
        let made_up = OutboundMessage { value: 5.into(), ..outbound(b"call") };
        let mut lie = served(&made_up, &key(9));
        lie.signature.clone_from(&good.signed.signature);
        let lie = OutboundContent { signed: lie, payload: good.payload.clone() };
        assert_eq!(content(&lie, &asked()), Err(Nonsense::Signer(key(9).id())));
        let long = served_content(&vec![0; PAYLOAD_BYTES_MAX + 1], &key(9));
        assert_eq!(content(&long, &asked()), Err(Nonsense::PayloadTooLong(PAYLOAD_BYTES_MAX + 1)));
    }

    #[test]
    fn a_quorum_is_exactly_enough_in_ascending_order_and_each_key_once() {
        let message = outbound(b"call");
        let mut words = Words::default();
        for seed in [3, 1, 2, 2] {
            words.add(word(&served(&message, &key(seed)), &message, &asked()).unwrap());
        }
        assert_eq!((words.count(), words.quorum(4)), (3, None));
        assert_eq!(words.quorum(0), None, "a threshold of none is everybody's");
        let two = words.quorum(2).unwrap();
        let signers: Vec<_> = two
            .iter()
            .map(|signature| signature.recover(&message.digest(&asked().domain)).unwrap())
            .collect();
        assert_eq!(signers.len(), 2);
        assert!(signers[0] < signers[1]);
        words.remove(signers[0]);
        assert_eq!(words.quorum(3), None);
        let other = OutboundMessage { value: 5.into(), ..message };
        assert_eq!(word(&served(&other, &key(1)), &message, &asked()), Err(Nonsense::Fields));
    }
}
