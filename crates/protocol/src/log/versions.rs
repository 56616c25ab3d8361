//! The versions of the rules that a leader follows.

use crate::encoding::DecodeError;
use crate::encoding::cbor::{Reader, Writer};

/// The version of the rules in `spec/`.
pub const PROTOCOL_VERSION: u64 = 2;

/// The version of the rules by which rows are applied.
pub const APPLY_VERSION: u64 = 1;

/// What an epoch message names. A reader that meets a newer one stops and asks for an upgrade, also
/// when it meets it first in a checkpoint. An older one is no fault, also after a newer one: a reader
/// knows all rules up to its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Versions {
    /// The leader's [`PROTOCOL_VERSION`].
    pub protocol: u64,
    /// The leader's [`APPLY_VERSION`].
    pub apply: u64,
}

impl Versions {
    /// What this build follows.
    pub const SUPPORTED: Self = Self { protocol: PROTOCOL_VERSION, apply: APPLY_VERSION };

    /// Whether a reader that supports `reader` knows these rules: its own, and all before.
    pub const fn are_known_to(self, reader: Self) -> bool {
        self.protocol <= reader.protocol && self.apply <= reader.apply
    }

    pub(super) fn write(self, writer: &mut Writer) {
        writer.array(2);
        writer.uint(self.protocol);
        writer.uint(self.apply);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_exact("versions", 2)?;
        let protocol = reader.uint("protocol version")?;
        let apply = reader.uint("apply version")?;
        if protocol == 0 || apply == 0 {
            return Err(DecodeError::Invalid { what: "versions", why: "they start at 1" });
        }
        Ok(Self { protocol, apply })
    }
}
