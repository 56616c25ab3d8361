//! Chance from a seed, with edges more often than chance alone has them.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use synddb_protocol::Uint256;
use synddb_protocol::signing::SigningKey;

/// A key and the secret that makes it anew.
pub(crate) struct Drawn {
    pub(crate) secret: [u8; 32],
    pub(crate) key: SigningKey,
}

/// What draws.
pub(crate) struct Draw(TestRunner);

impl Draw {
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        Self(TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)))
    }

    /// One of those that a strategy makes.
    pub(crate) fn of<S: Strategy>(&mut self, strategy: S) -> S::Value {
        strategy.new_tree(&mut self.0).expect("nothing is filtered out").current()
    }

    /// Any number, each length in bits as likely as any other, so that small ones occur.
    pub(crate) fn number(&mut self) -> u64 {
        let (shift, raw) = self.of((0..=64_u32, any::<u64>()));
        let number = raw.checked_shr(shift).unwrap_or(0);
        self.of(prop_oneof![8 => Just(number), 1 => Just(0), 1 => Just(u64::MAX)])
    }

    /// A number between two, ends included and more often than chance has them.
    pub(crate) fn within(&mut self, first: u64, last: u64) -> u64 {
        self.of(prop_oneof![2 => first..=last, 1 => Just(first), 1 => Just(last)])
    }

    /// Any number below 2^256, likewise.
    pub(crate) fn uint256(&mut self) -> Uint256 {
        let (zeros, mut bytes) = self.of((0..=32_usize, any::<[u8; 32]>()));
        bytes[..zeros].fill(0);
        let number = Uint256::from_be_bytes(bytes);
        let highest = Uint256::from_be_bytes(std::array::from_fn(|index| if index == 0 { 0x80 } else { 0 }));
        self.of(prop_oneof![7 => Just(number), 1 => Just(highest), 1 => Just(Uint256::ZERO), 1 => Just(Uint256::MAX)])
    }

    /// Any bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let random: [u8; N] = std::array::from_fn(|_| self.of(any::<u8>()));
        self.of(prop_oneof![8 => Just(random), 1 => Just([0; N]), 1 => Just([0xff; N])])
    }

    /// Any key.
    pub(crate) fn key(&mut self) -> Drawn {
        loop {
            let secret = self.of(any::<[u8; 32]>());
            if let Ok(key) = SigningKey::from_bytes(secret) {
                return Drawn { secret, key };
            }
        }
    }
}
