//! Who, where and when: streams, incarnations, keys, and the counters of the log.
//!
//! Every counter starts at 1 and is dense; "none yet" is an absent value, never a zero.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::encoding::text::{ParseError, impl_hex_text};
use crate::limits::{COUNTER_MAX, KEYED_COUNTER_MAX, PARTS_MAX};

/// A number that lies outside the range of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be from {min} to {max}. found=`{found}`")]
pub struct OutOfRange {
    /// The kind of number.
    pub what: &'static str,
    /// Smallest value allowed.
    pub min: u64,
    /// Largest value allowed.
    pub max: u64,
    /// The value refused.
    pub found: u64,
}

/// Declares a dense counter that starts at 1.
macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name(NonZeroU64);

        impl $name {
            /// The first of its kind: 1.
            pub const FIRST: Self = Self(NonZeroU64::MIN);

            /// Largest value of this kind.
            pub const MAX: u64 = $max;

            /// The counter with this value.
            ///
            /// # Errors
            /// [`OutOfRange`] for 0 and for a value above [`Self::MAX`].
            pub fn new(value: u64) -> Result<Self, OutOfRange> {
                match NonZeroU64::new(value) {
                    Some(value) if value.get() <= Self::MAX => Ok(Self(value)),
                    _ => Err(OutOfRange { what: $what, min: 1, max: Self::MAX, found: value }),
                }
            }

            /// The value, 1 or more.
            pub const fn get(self) -> u64 {
                self.0.get()
            }

            /// The one after this, or `None` at the end of the range.
            #[must_use]
            pub fn next(self) -> Option<Self> {
                Self::new(self.get() + 1).ok()
            }

            /// The one before this, or `None` for the first.
            #[must_use]
            pub fn previous(self) -> Option<Self> {
                Self::new(self.get() - 1).ok()
            }
        }

        #[cfg(feature = "openapi")]
        crate::openapi::impl_number!($name, $what, 1, Self::MAX);

        impl TryFrom<u64> for $name {
            type Error = OutOfRange;

            fn try_from(value: u64) -> Result<Self, OutOfRange> {
                Self::new(value)
            }
        }

        impl From<$name> for u64 {
            fn from(counter: $name) -> u64 {
                counter.get()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let refuse = || ParseError::new($what, format!("a number from 1 to {}", Self::MAX), text);
                text.parse::<u64>().ok().and_then(|value| Self::new(value).ok()).ok_or_else(refuse)
            }
        }
    };
}

counter! {
    /// Place of a message in the log. Dense per stream.
    Sequence, "sequence", KEYED_COUNTER_MAX
}
counter! {
    /// One leadership of a sequencer: every process start claims a new one.
    Epoch, "epoch", KEYED_COUNTER_MAX
}
counter! {
    /// Number of a commit. Dense per incarnation.
    CommitNumber, "commit number", COUNTER_MAX
}
counter! {
    /// How often continuity with the application's file had to be begun anew, plus one.
    IncarnationCounter, "incarnation counter", COUNTER_MAX
}
counter! {
    /// Number of an inbound message. Dense per bridge.
    InboundNonce, "inbound nonce", COUNTER_MAX
}

/// One stream is one database file, one agent, one log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId([u8; 32]);

impl StreamId {
    /// The identifier that was drawn at first attach, or read.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl_hex_text!(StreamId, 32, "stream");

/// The random half of an [`Incarnation`]: two agents on copies of one database never share it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncarnationNonce([u8; 16]);

impl IncarnationNonce {
    /// The 16 random bytes drawn when the incarnation began, or read.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl_hex_text!(IncarnationNonce, 16, "incarnation nonce");

/// A span of a stream without a gap. A new one begins where continuity cannot be proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Incarnation {
    /// 1 for the first; each successor has its predecessor's plus one.
    pub counter: IncarnationCounter,
    /// Random bytes.
    pub nonce: IncarnationNonce,
}

/// A 20-byte account or contract address of an EVM chain. Also what names a signing key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address([u8; 20]);

impl Address {
    /// The address of nobody.
    pub const ZERO: Self = Self([0; 20]);

    /// The address that was computed or read.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The 20 bytes.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl_hex_text!(Address, 20, "address");

/// The Ethereum address of a signing key: the last 20 bytes of Keccak-256 over the public key.
pub type KeyId = Address;

/// Milliseconds since 1970-01-01T00:00:00Z, as the sequencer saw them. Log time never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Timestamp(u64);

impl Timestamp {
    /// The start of time; every log's first message is at or after it.
    pub const ZERO: Self = Self(0);

    /// The timestamp with this many milliseconds.
    ///
    /// # Errors
    /// [`OutOfRange`] above 2^53 - 1.
    pub fn from_ms(ms: u64) -> Result<Self, OutOfRange> {
        match ms {
            0..=COUNTER_MAX => Ok(Self(ms)),
            found => Err(OutOfRange { what: "timestamp", min: 0, max: COUNTER_MAX, found }),
        }
    }

    /// Milliseconds since 1970.
    pub const fn as_ms(self) -> u64 {
        self.0
    }
}

#[cfg(feature = "openapi")]
crate::openapi::impl_number!(Timestamp, "milliseconds since 1970", 0, COUNTER_MAX);

impl TryFrom<u64> for Timestamp {
    type Error = OutOfRange;

    fn try_from(ms: u64) -> Result<Self, OutOfRange> {
        Self::from_ms(ms)
    }
}

impl From<Timestamp> for u64 {
    fn from(timestamp: Timestamp) -> u64 {
        timestamp.0
    }
}

/// Index of a part within one huge commit, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct PartIndex(u32);

impl PartIndex {
    /// The first part.
    pub const FIRST: Self = Self(0);

    /// The part with this index.
    ///
    /// # Errors
    /// [`OutOfRange`] when a commit cannot have that many parts.
    pub fn new(index: u64) -> Result<Self, OutOfRange> {
        match u32::try_from(index) {
            Ok(index) if index < PARTS_MAX => Ok(Self(index)),
            _ => Err(OutOfRange { what: "part", min: 0, max: u64::from(PARTS_MAX) - 1, found: index }),
        }
    }

    /// The index, from 0.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The part after this, or `None` when no more are allowed.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::new(u64::from(self.0) + 1).ok()
    }
}

#[cfg(feature = "openapi")]
crate::openapi::impl_number!(PartIndex, "part of a huge commit", 0, PARTS_MAX - 1);

impl TryFrom<u64> for PartIndex {
    type Error = OutOfRange;

    fn try_from(index: u64) -> Result<Self, OutOfRange> {
        Self::new(index)
    }
}

impl From<PartIndex> for u64 {
    fn from(part: PartIndex) -> u64 {
        u64::from(part.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_start_at_one_and_end_at_their_bound() {
        assert!(Sequence::new(0).is_err());
        assert_eq!(Sequence::FIRST.previous(), None);
        let last = Sequence::new(Sequence::MAX).unwrap();
        assert_eq!(last.next(), None);
        assert_eq!(last.previous().and_then(Sequence::next), Some(last));
        assert_eq!("12".parse::<Epoch>().unwrap().get(), 12);
        assert!("0".parse::<Epoch>().is_err());
    }

    #[test]
    fn text_is_exact() {
        let stream = StreamId::from_bytes([0xab; 32]);
        assert_eq!(stream.to_string().parse::<StreamId>().unwrap(), stream);
        assert_eq!(StreamId::from_key(&stream.to_key()).unwrap(), stream);
        assert!(stream.to_string().to_uppercase().parse::<StreamId>().is_err());
        assert!(stream.to_key().parse::<StreamId>().is_err());
        assert!(StreamId::from_key(&stream.to_string()).is_err());
    }
}
