//! How an incarnation is encoded.

use crate::encoding::cbor::{Reader, Writer};
use crate::encoding::{Canonical, DecodeError};
use crate::id::{Incarnation, IncarnationNonce};

impl Canonical for Incarnation {
    const WHAT: &'static str = "incarnation";
    const BYTES_MAX: usize = 32;

    fn write(&self, writer: &mut Writer) {
        writer.array(2);
        writer.uint(self.counter);
        writer.bytes(self.nonce.as_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_exact(Self::WHAT, 2)?;
        let counter = reader.number("incarnation counter")?;
        let nonce = IncarnationNonce::from_bytes(reader.array_of("incarnation nonce")?);
        Ok(Self { counter, nonce })
    }
}
