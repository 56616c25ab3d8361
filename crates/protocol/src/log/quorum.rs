//! A quorum: so many of these validators have endorsed the same. Pure.
//!
//! Counted as a contract counts: by the digest, each validator once. What does not count says why, so that whoever waits for a quorum sees what is in the way.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{KeyId, Sequence, StreamId};
use crate::log::{SignedCheckpoint, SignedEndorsement};
use crate::signing::{Digest, Domain, RecoverableSignature};

/// Most validators of a quorum: what a contract can check in one transaction.
pub const VALIDATORS_MAX: usize = 256;

/// Whose endorsements count, and how many are enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    validators: BTreeSet<KeyId>,
    threshold: usize,
}

/// That nobody could be such a quorum, or anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// Nothing would be enough.
    #[error("a quorum of 0 is everybody's; name a threshold of 1 or more")]
    Zero,
    /// There are not so many.
    #[error(
        "there are fewer validators than a quorum needs; name more, each once, or a lower threshold. validators=`{validators}` threshold=`{threshold}`"
    )]
    TooFew {
        /// How many there are.
        validators: usize,
        /// How many are needed.
        threshold: usize,
    },
    /// There are too many.
    #[error(
        "there are more validators than can be counted. validators=`{validators}` limit=`{VALIDATORS_MAX}`"
    )]
    TooMany {
        /// How many there are.
        validators: usize,
    },
}

impl Quorum {
    /// So many of these.
    ///
    /// # Errors
    /// [`QuorumError`].
    pub fn new(validators: impl IntoIterator<Item = KeyId>, threshold: usize) -> Result<Self, QuorumError> {
        let validators: BTreeSet<KeyId> = validators.into_iter().collect();
        match (validators.len(), threshold) {
            (_, 0) => Err(QuorumError::Zero),
            (found, _) if found > VALIDATORS_MAX => Err(QuorumError::TooMany { validators: found }),
            (found, threshold) if found < threshold => {
                Err(QuorumError::TooFew { validators: found, threshold })
            }
            _ => Ok(Self { validators, threshold }),
        }
    }

    /// Whose endorsements count.
    pub const fn validators(&self) -> &BTreeSet<KeyId> {
        &self.validators
    }

    /// How many are enough.
    pub const fn threshold(&self) -> usize {
        self.threshold
    }

    /// Counts endorsements of one stream for one contract. A validator that has signed two things for one place counts for neither, so that it does not
    /// depend on their order what has a quorum.
    pub fn gather(
        &self,
        stream: StreamId,
        domain: Domain,
        endorsements: impl IntoIterator<Item = SignedEndorsement>,
    ) -> Gathered {
        let mut gathered = Gathered { endorsed: Vec::new(), uncounted: Vec::new() };
        let mut words: BTreeMap<(Sequence, KeyId), BTreeMap<Digest, SignedEndorsement>> = BTreeMap::new();
        for endorsement in endorsements {
            let sequence = endorsement.endorsement().sequence();
            match self.judge(stream, domain, &endorsement) {
                Ok(validator) => {
                    words
                        .entry((sequence, validator))
                        .or_default()
                        .insert(*endorsement.digest(), endorsement);
                }
                Err((signer, why)) => gathered.uncounted.push(Uncounted { sequence, signer, why }),
            }
        }
        let mut by_digest: BTreeMap<(Sequence, Digest), Endorsed> = BTreeMap::new();
        for ((sequence, validator), words) in words {
            let is_one = words.len() == 1;
            for (digest, endorsement) in words {
                if !is_one {
                    let (signer, why) = (Some(validator), NotCounted::Equivocation);
                    gathered.uncounted.push(Uncounted { sequence, signer, why });
                    continue;
                }
                let endorsed = by_digest.entry((sequence, digest)).or_insert_with(|| Endorsed {
                    checkpoint: endorsement.endorsement().checkpoint.clone(),
                    digest,
                    signatures: BTreeMap::new(),
                    has_quorum: false,
                });
                endorsed.signatures.insert(validator, *endorsement.signature());
                endorsed.has_quorum = endorsed.signatures.len() >= self.threshold;
            }
        }
        gathered.endorsed = by_digest.into_values().collect();
        gathered
    }

    /// The validator that signed it, if it counts by itself.
    fn judge(
        &self,
        stream: StreamId,
        domain: Domain,
        endorsement: &SignedEndorsement,
    ) -> Result<KeyId, (Option<KeyId>, NotCounted)> {
        let validator = endorsement.recover().ok_or((None, NotCounted::BadSignature))?;
        let content = endorsement.endorsement();
        let why = if content.stream() != stream {
            NotCounted::ForeignStream
        } else if !self.validators.contains(&validator) {
            NotCounted::Stranger
        } else if content.domain != domain {
            NotCounted::OtherDomain
        } else {
            return Ok(validator);
        };
        Err((Some(validator), why))
    }
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathered {
    /// What somebody endorsed whose endorsement counts, by sequence. More than one of a sequence says that validators do not agree.
    pub endorsed: Vec<Endorsed>,
    /// What does not count.
    pub uncounted: Vec<Uncounted>,
}

/// A checkpoint, and who endorsed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endorsed {
    /// The checkpoint, as one of them had it. Only what the digest is over was signed by them; whether its leader deserves trust is not said by that.
    pub checkpoint: SignedCheckpoint,
    /// What they signed.
    pub digest: Digest,
    /// Their signatures, by their addresses in ascending order, as a contract wants them.
    pub signatures: BTreeMap<KeyId, RecoverableSignature>,
    /// Whether they are a quorum.
    pub has_quorum: bool,
}

/// An endorsement that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uncounted {
    /// The last message.
    pub sequence: Sequence,
    /// Who signed it.
    pub signer: Option<KeyId>,
    /// Why it does not count.
    pub why: NotCounted,
}

/// Why an endorsement does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCounted {
    /// No key signed it.
    #[error("no key made its signature")]
    BadSignature,
    /// It is of another stream.
    #[error("it is of another stream")]
    ForeignStream,
    /// Its signer is none of the validators that count.
    #[error("its signer is none of the validators that count")]
    Stranger,
    /// It is for another contract or chain.
    #[error("it is for another chain or contract")]
    OtherDomain,
    /// The same validator has signed something else for this place: proof that its key is used against the rules.
    #[error("the validator has signed two things for one place")]
    Equivocation,
}
