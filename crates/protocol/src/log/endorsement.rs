//! The endorsement: a validator's signature over a checkpoint that it has verified, with the state that it has computed (EIP-712).
//!
//! ```text
//! Checkpoint(bytes32 stream,uint64 epoch,uint64 sequence,uint64 timestamp,bytes32 root,bytes32 stateHash,uint64 inboxConsumed)
//! ```
//!
//! The object in the store holds the leader's checkpoint itself, from which every field follows, so that nothing of it has to be believed.

use crate::encoding::cbor::{MapKey, Reader, Writer, check_limit};
use crate::encoding::{Canonical as _, DecodeError};
use crate::id::{Address, KeyId, Sequence, StreamId};
use crate::limits::ENDORSEMENT_BYTES_MAX;
use crate::log::{KeyProof, SignedCheckpoint};
use crate::signing::{Digest, Domain, RecoverableSignature, RegisteredSigner, Struct};

const WHAT: &str = "endorsement";

const TYPE: &str = "Checkpoint(bytes32 stream,uint64 epoch,uint64 sequence,uint64 timestamp,bytes32 root,bytes32 stateHash,uint64 inboxConsumed)";

/// What a validator endorses, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endorsement {
    /// The checkpoint, as the leader of its epoch signed it.
    pub checkpoint: SignedCheckpoint,
    /// The contract for which it is good.
    pub domain: Domain,
    /// What registers the key that signs. Not under the signature: a contract looks its keys up by itself.
    pub proof: KeyProof,
}

impl Endorsement {
    /// The stream.
    pub const fn stream(&self) -> StreamId {
        self.checkpoint.claim().stream
    }

    /// The last message.
    pub const fn sequence(&self) -> Sequence {
        self.checkpoint.claim().size
    }

    /// What is signed: the EIP-712 digest.
    ///
    /// # Errors
    /// [`DecodeError`] for a checkpoint before the first snapshot of its stream, which has no state.
    pub fn digest(&self) -> Result<Digest, DecodeError> {
        let claim = self.checkpoint.claim();
        let Some(client) = &claim.client else {
            return Err(invalid("its checkpoint is before the first snapshot of the stream"));
        };
        let mut hash = Struct::of(TYPE);
        hash.word(*claim.stream.as_bytes());
        hash.uint(claim.epoch.get());
        hash.uint(claim.size.get());
        hash.uint(claim.timestamp.as_ms());
        hash.word(*claim.root().as_bytes());
        hash.word(*client.state.as_bytes());
        hash.uint(claim.inbox_consumed);
        Ok(hash.digest(&self.domain))
    }

    /// Signs it with the signer's key, and names what registers that.
    ///
    /// # Errors
    /// [`DecodeError`] for one that no reader would take.
    pub fn sign(
        checkpoint: SignedCheckpoint,
        domain: Domain,
        signer: &RegisteredSigner,
    ) -> Result<SignedEndorsement, DecodeError> {
        let endorsement = Self { checkpoint, domain, proof: signer.proof().clone() };
        endorsement.check()?;
        let digest = endorsement.digest()?;
        let signature = RecoverableSignature::sign(&digest, signer.key());
        Ok(SignedEndorsement { endorsement, digest, signature })
    }

    fn check(&self) -> Result<(), DecodeError> {
        if matches!(self.proof, KeyProof::Evidence(_)) {
            return Err(invalid("evidence registers a key once, and does not go with what it signs"));
        }
        if (self.domain.chain_id == 0) != (self.domain.contract == Domain::NONE.contract) {
            return Err(invalid("it names a chain and a contract, or none of the two"));
        }
        Ok(())
    }
}

const fn invalid(why: &'static str) -> DecodeError {
    DecodeError::Invalid { what: WHAT, why }
}

/// A signed endorsement, as it stands in the store. Who signed it is unchecked until [`Self::recover`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEndorsement {
    endorsement: Endorsement,
    digest: Digest,
    signature: RecoverableSignature,
}

impl SignedEndorsement {
    /// Reads one. Neither its signature nor that of its checkpoint is checked by that.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no endorsement in its only form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        check_limit(WHAT, bytes.len(), ENDORSEMENT_BYTES_MAX)?;
        let reader = &mut Reader::new(bytes);
        let mut fields = reader.fields(WHAT, 4)?;
        let checkpoint = fields.required(reader, MapKey::Int(1), SignedCheckpoint::read)?;
        let domain = fields.optional(reader, MapKey::Int(2), |reader| {
            reader.array_exact("domain", 2)?;
            let chain_id = reader.uint("chain id")?;
            Ok(Domain { chain_id, contract: Address::from_bytes(reader.array_of("contract")?) })
        })?;
        let proof = fields.optional(reader, MapKey::Int(3), KeyProof::read)?;
        let signature = fields.required(reader, MapKey::Int(4), |reader| reader.array_of("signature"))?;
        fields.end(reader)?;
        reader.end(WHAT)?;
        if domain == Some(Domain::NONE) || proof == Some(KeyProof::Unattested) {
            return Err(invalid("what is none is left out"));
        }
        let (domain, proof) = (domain.unwrap_or(Domain::NONE), proof.unwrap_or(KeyProof::Unattested));
        let endorsement = Endorsement { checkpoint, domain, proof };
        endorsement.check()?;
        let digest = endorsement.digest()?;
        Ok(Self { endorsement, digest, signature: RecoverableSignature::from_bytes(signature) })
    }

    /// The bytes to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Endorsement { checkpoint, domain, proof } = &self.endorsement;
        let (has_domain, has_proof) = (*domain != Domain::NONE, *proof != KeyProof::Unattested);
        let mut writer = Writer::default();
        writer.map(2 + usize::from(has_domain) + usize::from(has_proof));
        writer.key(MapKey::Int(1));
        checkpoint.write(&mut writer);
        if has_domain {
            writer.key(MapKey::Int(2));
            writer.array(2);
            writer.uint(domain.chain_id);
            writer.bytes(domain.contract.as_bytes());
        }
        if has_proof {
            writer.key(MapKey::Int(3));
            proof.write(&mut writer);
        }
        writer.key(MapKey::Int(4));
        writer.bytes(self.signature.as_bytes());
        writer.into_bytes()
    }

    /// What it says.
    pub const fn endorsement(&self) -> &Endorsement {
        &self.endorsement
    }

    /// What is signed.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The signature, as a contract takes it.
    pub const fn signature(&self) -> &RecoverableSignature {
        &self.signature
    }

    /// The name of the key that signed it; `None` where no key did.
    pub fn recover(&self) -> Option<KeyId> {
        self.signature.recover(&self.digest)
    }
}
