//! The contract of sources of keys: on both that there are, and on some that break it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use synddb_protocol::id::{KeyId, Sequence};
use synddb_protocol::log::SignedEpochRecord;
use synddb_protocol::signing::{Revocations, TrustedKeys};
use synddb_validator::keys::conformance::{self, Check, Trust};
use synddb_validator::keys::{Judgement, KeySource, KeysFile, Pinned, Unreachable};

use super::log::key;

#[tokio::test(flavor = "multi_thread")]
async fn pinned_keys_and_a_file_of_keys_keep_the_contract() {
    let report = conformance::run(|trust: Trust| async move {
        let mut keys = TrustedKeys::pinned(trust.keys);
        for (key, last_valid) in trust.revoked {
            keys.revoke(key.id(), last_valid);
        }
        Arc::new(Pinned::new(keys)) as Arc<dyn KeySource>
    });
    report.await.into_result().unwrap_or_else(|report| panic!("{report}"));

    let folder = tempfile::tempdir().unwrap();
    let number = AtomicU32::new(0);
    let report = conformance::run(|trust: Trust| {
        let file = folder.path().join(format!("{}.toml", number.fetch_add(1, Ordering::SeqCst)));
        let keys = trust.keys.iter().map(|key| format!("[[key]]\nkey = \"{key}\"\n"));
        let revoked = trust.revoked.iter().map(|(key, at)| {
            let (epoch, size) = (at.epoch, at.size.map_or(0, Sequence::get));
            format!("[[revoked]]\nkey = \"{key}\"\nepoch = {epoch}\nsize = {size}\n")
        });
        std::fs::write(&file, keys.chain(revoked).collect::<String>()).unwrap();
        async move { Arc::new(KeysFile::open(&file).await.unwrap()) as Arc<dyn KeySource> }
    });
    report.await.into_result().unwrap_or_else(|report| panic!("{report}"));
}

/// A source that breaks one word.
#[derive(Debug)]
struct Broken {
    how: Breach,
    good: Pinned,
    trust: Trust,
    asked: AtomicU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breach {
    KnowsNobody,
    NamesAnotherKey,
    TrustsAnybody,
    SilentOfStrangers,
    TellsNoRevocation,
    TakesRevokedForUntrusted,
    ForgetsAfterSome,
}

#[async_trait]
impl KeySource for Broken {
    async fn knows(&self, key: KeyId) -> Result<bool, Unreachable> {
        Ok(self.how != Breach::KnowsNobody && self.good.knows(key).await?)
    }

    async fn judge(&self, record: &SignedEpochRecord) -> Result<Judgement, Unreachable> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let good = self.good.judge(record).await?;
        let is_revoked = self.trust.revoked.iter().any(|(key, _)| key.id() == record.key());
        Ok(match (self.how, good) {
            (Breach::NamesAnotherKey, Judgement::MayLead(_)) => Judgement::MayLead(*key(1).verifying_key()),
            (Breach::TrustsAnybody, Judgement::MayNot) => Judgement::MayLead(record.recover().unwrap().1),
            (Breach::SilentOfStrangers, Judgement::MayNot) => {
                return Err(Unreachable::because("nobody home"));
            }
            (Breach::TakesRevokedForUntrusted, _) if is_revoked => Judgement::MayNot,
            (Breach::ForgetsAfterSome, _) if asked > 5 => Judgement::MayNot,
            (_, good) => good,
        })
    }

    async fn revoked(&self) -> Result<Revocations, Unreachable> {
        if self.how == Breach::TellsNoRevocation {
            Ok(Revocations::default())
        } else {
            self.good.revoked().await
        }
    }

    fn look_again(&self) -> Option<Duration> {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_finds_whoever_breaks_the_contract() {
    let cases = [
        (Breach::KnowsNobody, Check::TrustedIsKnown),
        (Breach::NamesAnotherKey, Check::TrustedMayLead),
        (Breach::TrustsAnybody, Check::StrangerMayNot),
        (Breach::SilentOfStrangers, Check::StrangerMayNot),
        (Breach::TellsNoRevocation, Check::RevokedIsTold),
        (Breach::TakesRevokedForUntrusted, Check::RevokedIsNoNo),
        (Breach::ForgetsAfterSome, Check::SameAnswer),
        (Breach::ForgetsAfterSome, Check::GivenUp),
    ];
    for (how, expected) in cases {
        let report = conformance::run(|trust: Trust| async move {
            let mut keys = TrustedKeys::pinned(trust.keys.iter().copied());
            for (key, last_valid) in &trust.revoked {
                keys.revoke(key.id(), *last_valid);
            }
            let good = Pinned::new(keys);
            Arc::new(Broken { how, good, trust, asked: AtomicU32::new(0) }) as Arc<dyn KeySource>
        });
        assert!(report.await.broken().contains(&expected), "{how:?} is not found by {expected:?}");
    }
}
