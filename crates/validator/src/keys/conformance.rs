//! The contract of [`KeySource`], as a suite that can fail.
//!
//! Every implementation runs it. [`run`] makes each [`Check`] against a source that trusts and revokes what it is given, and says which
//! do not hold, and why. The suite is itself tested against sources that break one word each.
//!
//! It does not test what a source does when what it goes by changes: that differs from source to source.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::join_all;
use synddb_protocol::id::{Epoch, StreamId};
use synddb_protocol::log::{EpochRecord, KeyProof, SignedEpochRecord};
use synddb_protocol::signing::{LastValid, Revocations, SigningKey, VerifyingKey};

use super::{Judgement, KeySource};

/// What a source is to say: these keys may lead any epoch, these are revoked.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Who is trusted.
    pub keys: Vec<VerifyingKey>,
    /// What is revoked.
    pub revoked: Vec<(VerifyingKey, LastValid)>,
}

/// One promise of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// A trusted key is known, whatever its epoch.
    TrustedIsKnown,
    /// A trusted key may claim an epoch, and the source names that very key.
    TrustedMayLead,
    /// A record by nobody's key is a definite no, and not silence.
    StrangerMayNot,
    /// What is revoked is told, with its last valid place, and nothing else is.
    RevokedIsTold,
    /// A key that is revoked is known and judged as before.
    RevokedIsNoNo,
    /// The same question has the same answer while nothing changes, also when many ask at once.
    SameAnswer,
    /// A question that is given up changes no answer.
    GivenUp,
}

impl Check {
    /// All of them, in the order in which [`run`] makes them.
    pub const ALL: [Self; 7] = [
        Self::TrustedIsKnown,
        Self::TrustedMayLead,
        Self::StrangerMayNot,
        Self::RevokedIsTold,
        Self::RevokedIsNoNo,
        Self::SameAnswer,
        Self::GivenUp,
    ];

    async fn make(self, source: Arc<dyn KeySource>, world: &World) -> Result<(), Violation> {
        let source = &*source;
        match self {
            Self::TrustedIsKnown => {
                expect("a trusted key is known", source.knows(world.trusted.id()).await, &true)
            }
            Self::TrustedMayLead => {
                for epoch in [1, 2, Epoch::MAX] {
                    let found = source.judge(&record(epoch, &world.trusted)?).await;
                    expect("it may lead", found, &may_lead(&world.trusted))?;
                }
                Ok(())
            }
            Self::StrangerMayNot => {
                let found = source.judge(&record(1, &world.stranger)?).await;
                expect("a stranger may not", found, &Judgement::MayNot)
            }
            Self::RevokedIsTold => expect("what is revoked", source.revoked().await, &world.revocations()),
            Self::RevokedIsNoNo => {
                expect("a revoked key is known", source.knows(world.revoked.id()).await, &true)?;
                let found = source.judge(&record(1, &world.revoked)?).await;
                expect("it may lead", found, &may_lead(&world.revoked))
            }
            Self::SameAnswer => {
                let (one, other) = (record(3, &world.trusted)?, record(3, &world.stranger)?);
                for found in join_all((0..MANY).map(|_| source.judge(&one))).await {
                    expect("of many at once", found, &may_lead(&world.trusted))?;
                }
                for found in join_all((0..MANY).map(|_| source.judge(&other))).await {
                    expect("of many at once", found, &Judgement::MayNot)?;
                }
                expect("afterwards", source.revoked().await, &world.revocations())
            }
            Self::GivenUp => {
                let (one, other) = (record(3, &world.trusted)?, record(4, &world.stranger)?);
                for _ in 0..MANY {
                    // Asked, begun, and dropped.
                    drop(source.judge(&other).now_or_never());
                    drop(source.revoked().now_or_never());
                    drop(source.knows(world.stranger.id()).now_or_never());
                    expect(
                        "after a question was given up",
                        source.judge(&one).await,
                        &may_lead(&world.trusted),
                    )?;
                }
                expect("after a question was given up", source.revoked().await, &world.revocations())
            }
        }
    }
}

/// How often, and how many at once, a question is asked.
const MANY: usize = 16;

/// How a source broke its word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(String);

/// How a source did: every check with what it came to. As text it has one line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report(Vec<(Check, Result<(), Violation>)>);

impl Report {
    /// The promises that do not hold.
    #[must_use]
    pub fn broken(&self) -> Vec<Check> {
        self.0.iter().filter(|(_, outcome)| outcome.is_err()).map(|(check, _)| *check).collect()
    }

    /// `Ok` when every promise holds.
    ///
    /// # Errors
    /// The report itself.
    pub fn into_result(self) -> Result<(), Self> {
        if self.broken().is_empty() { Ok(()) } else { Err(self) }
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (check, outcome) in &self.0 {
            match outcome {
                Ok(()) => writeln!(f, "holds   {check:?}")?,
                Err(violation) => writeln!(f, "BROKEN  {check:?}: {violation}")?,
            }
        }
        Ok(())
    }
}

/// Makes every check. `open` gives a source that trusts and revokes what it is given.
pub async fn run<Open, Opening>(open: Open) -> Report
where
    Open: Fn(Trust) -> Opening,
    Opening: Future<Output = Arc<dyn KeySource>>,
{
    let mut report = Vec::with_capacity(Check::ALL.len());
    for check in Check::ALL {
        let outcome = match World::new() {
            Ok(world) => check.make(open(world.trust()).await, &world).await,
            Err(violation) => Err(violation),
        };
        report.push((check, outcome));
    }
    Report(report)
}

/// Keys, and what is to be said of them.
struct World {
    trusted: SigningKey,
    revoked: SigningKey,
    last_valid: LastValid,
    stranger: SigningKey,
}

impl World {
    fn new() -> Result<Self, Violation> {
        let key = |number: u8| SigningKey::from_bytes([number; 32]).map_err(violation);
        let size = synddb_protocol::id::Sequence::new(17).map_err(violation)?;
        let last_valid = LastValid { epoch: Epoch::new(2).map_err(violation)?, size: Some(size) };
        Ok(Self { trusted: key(0x51)?, revoked: key(0x52)?, last_valid, stranger: key(0x53)? })
    }

    fn trust(&self) -> Trust {
        let [trusted, revoked] = [&self.trusted, &self.revoked].map(|key| *key.verifying_key());
        Trust { keys: vec![trusted, revoked], revoked: vec![(revoked, self.last_valid)] }
    }

    fn revocations(&self) -> Revocations {
        [(self.revoked.id(), self.last_valid)].into_iter().collect()
    }
}

const STREAM: StreamId = StreamId::from_bytes([0x5d; 32]);

fn record(epoch: u64, key: &SigningKey) -> Result<SignedEpochRecord, Violation> {
    let epoch = Epoch::new(epoch).map_err(violation)?;
    Ok(EpochRecord { stream: STREAM, epoch, proof: KeyProof::Unattested }.sign(key))
}

fn may_lead(key: &SigningKey) -> Judgement {
    Judgement::MayLead(*key.verifying_key())
}

fn expect<T: PartialEq + fmt::Debug>(
    what: &str,
    found: Result<T, impl std::error::Error>,
    expected: &T,
) -> Result<(), Violation> {
    match found {
        Ok(found) if found == *expected => Ok(()),
        Ok(found) => Err(Violation(format!("{what}: expected {expected:?}, found {found:?}"))),
        Err(error) => Err(violation(error)),
    }
}

fn violation(cause: impl std::error::Error) -> Violation {
    Violation(synddb_protocol::chain(&cause))
}
