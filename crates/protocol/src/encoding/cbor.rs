//! Canonical CBOR: one encoding for each value, and a decoder that accepts nothing else.
//!
//! The form is RFC 8949's core deterministic encoding (section 4.2.1) narrowed further: integers,
//! byte and text strings, definite arrays, maps with keys known beforehand in ascending order, `null`
//! and one tag. The decoder refuses longer heads than needed, indefinite lengths, unknown, repeated
//! and unsorted keys, and trailing bytes, so `encode(decode(bytes)) == bytes` for all it accepts.
//! Lengths are compared with a bound before anything is allocated.

use minicbor::{Decoder, Encoder};

use crate::id::OutOfRange;

/// Why bytes are not the canonical encoding of the value that was expected.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not CBOR, end early, or hold another type than the one expected.
    #[error("cannot decode {what}. at=`{at}`")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// Offset in bytes.
        at: usize,
        /// The CBOR decoder's reason.
        #[source]
        source: minicbor::decode::Error,
    },
    /// CBOR that has a shorter or differently ordered form.
    #[error("{what} is not in canonical form. at=`{at}`")]
    NotCanonical {
        /// What was being read.
        what: &'static str,
        /// Offset in bytes.
        at: usize,
    },
    /// A map lacks a key, or has one that is unknown, repeated, or out of order.
    #[error("{what} has no key {expected} where it must stand. at=`{at}`")]
    Key {
        /// The map.
        what: &'static str,
        /// The key that had to come next, or `end` when no further key is known.
        expected: String,
        /// Offset in bytes.
        at: usize,
    },
    /// Bytes follow the value.
    #[error("bytes follow {what}. count=`{count}`")]
    Trailing {
        /// The value.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// A length, count or number above its bound.
    #[error("{what} is over its limit. limit=`{limit}` found=`{found}`")]
    OverLimit {
        /// What is bounded.
        what: &'static str,
        /// The bound.
        limit: u64,
        /// The value found.
        found: u64,
    },
    /// A number outside its range.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// A value of the right shape that means nothing here.
    #[error("{what} has a value that is not allowed: {why}")]
    Invalid {
        /// What was being read.
        what: &'static str,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The bytes are of a newer form.
    #[error("upgrade required: {what} is of a newer form. supported=`{supported}` found=`{found}`")]
    UpgradeRequired {
        /// What was being read.
        what: &'static str,
        /// The newest version that this reader knows.
        supported: u64,
        /// The version found.
        found: u64,
    },
    /// A compressed frame that is damaged, or not of the one form allowed.
    #[error("cannot decompress {what}: {why}")]
    Compression {
        /// What was being read.
        what: &'static str,
        /// What is wrong with the frame.
        why: &'static str,
    },
}

/// A value with exactly one encoding.
pub trait Canonical: Sized {
    /// What errors call it.
    const WHAT: &'static str;

    /// Largest encoding, in bytes. Longer input is refused before it is read.
    const BYTES_MAX: usize;

    /// Appends the encoding.
    fn write(&self, writer: &mut Writer);

    /// Reads one value and leaves the reader behind it.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not a canonical encoding within bounds.
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// The encoding.
    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.write(&mut writer);
        writer.into_bytes()
    }

    /// Reads a value that fills `bytes`.
    ///
    /// # Errors
    /// As [`Self::read`], and when bytes are left over.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        check_limit(Self::WHAT, bytes.len(), Self::BYTES_MAX)?;
        let mut reader = Reader::new(bytes);
        let value = Self::read(&mut reader)?;
        reader.end(Self::WHAT)?;
        Ok(value)
    }
}

/// Refuses a length or count above its bound.
pub(crate) fn check_limit(what: &'static str, found: usize, limit: usize) -> Result<(), DecodeError> {
    if found > limit {
        return Err(DecodeError::OverLimit { what, limit: limit as u64, found: found as u64 });
    }
    Ok(())
}

/// A key of a map whose keys are known beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKey {
    /// A small integer, as most maps of the protocol have.
    Int(i64),
    /// A text, as the batch has.
    Text(&'static str),
}

impl std::fmt::Display for MapKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(key) => write!(f, "{key}"),
            Self::Text(key) => write!(f, "\"{key}\""),
        }
    }
}

/// Writes canonical CBOR into memory.
#[derive(Debug)]
pub struct Writer {
    encoder: Encoder<Vec<u8>>,
}

impl Default for Writer {
    fn default() -> Self {
        Self { encoder: Encoder::new(Vec::new()) }
    }
}

impl Writer {
    fn put(&mut self, write: impl FnOnce(&mut Encoder<Vec<u8>>) -> WriteResult<'_>) {
        write(&mut self.encoder).expect("writing to memory cannot fail");
    }

    /// The bytes written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.encoder.into_writer()
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: impl Into<u64>) {
        let value = value.into();
        self.put(|encoder| encoder.u64(value));
    }

    /// A signed integer.
    pub fn int(&mut self, value: i64) {
        self.put(|encoder| encoder.i64(value));
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) {
        self.put(|encoder| encoder.bytes(value));
    }

    /// A text string.
    pub fn text(&mut self, value: &str) {
        self.put(|encoder| encoder.str(value));
    }

    /// `null`.
    pub fn null(&mut self) {
        self.put(|encoder| encoder.null());
    }

    /// `true` or `false`.
    pub fn bool(&mut self, value: bool) {
        self.put(|encoder| encoder.bool(value));
    }

    /// The head of an array with `count` items.
    pub fn array(&mut self, count: usize) {
        self.put(|encoder| encoder.array(count as u64));
    }

    /// The head of a map with `count` entries. The caller writes the keys in ascending order.
    pub fn map(&mut self, count: usize) {
        self.put(|encoder| encoder.map(count as u64));
    }

    /// A key of a map.
    pub fn key(&mut self, key: MapKey) {
        match key {
            MapKey::Int(key) => self.int(key),
            MapKey::Text(key) => self.text(key),
        }
    }

    /// A tag before the next item.
    pub fn tag(&mut self, tag: u64) {
        self.put(|encoder| encoder.tag(minicbor::data::Tag::new(tag)));
    }

    /// Bytes that are canonical CBOR already.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.encoder.writer_mut().extend_from_slice(encoded);
    }
}

type WriteResult<'a> = Result<&'a mut Encoder<Vec<u8>>, minicbor::encode::Error<std::convert::Infallible>>;

/// Reads canonical CBOR and refuses every other form.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    decoder: Decoder<'a>,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { decoder: Decoder::new(bytes) }
    }

    /// Offset of the next item, in bytes.
    pub fn position(&self) -> usize {
        self.decoder.position()
    }

    /// The bytes between two positions of this reader.
    pub(crate) fn between(&self, from: usize, to: usize) -> &'a [u8] {
        &self.decoder.input()[from..to]
    }

    /// Runs one read of the CBOR decoder and checks that the item's head was as short as it can be.
    ///
    /// `head` gives the number that stands in the head and the length of the payload behind it.
    fn item<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Decoder<'a>) -> Result<T, minicbor::decode::Error>,
        head: impl FnOnce(&T) -> (u64, usize),
    ) -> Result<T, DecodeError> {
        let at = self.position();
        let value = read(&mut self.decoder).map_err(|source| DecodeError::Malformed { what, at, source })?;
        let (number, payload) = head(&value);
        if self.position() - at != head_length(number) + payload {
            return Err(DecodeError::NotCanonical { what, at });
        }
        Ok(value)
    }

    /// An unsigned integer.
    pub fn uint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.item(what, |decoder| decoder.u64(), |value| (*value, 0))
    }

    /// An unsigned integer that becomes a bounded kind of number.
    pub fn number<T>(&mut self, what: &'static str) -> Result<T, DecodeError>
    where
        T: TryFrom<u64>,
        DecodeError: From<T::Error>,
    {
        Ok(T::try_from(self.uint(what)?)?)
    }

    /// A signed integer.
    pub fn int(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        // A negative n stands in the head as -1 - n, which is `!n`.
        let head = |value: &i64| (if *value < 0 { !*value } else { *value }.unsigned_abs(), 0);
        self.item(what, |decoder| decoder.i64(), head)
    }

    /// A signed 32-bit integer.
    pub fn int32(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        let value = self.int(what)?;
        i32::try_from(value).map_err(|_| DecodeError::Invalid { what, why: "it needs more than 32 bits" })
    }

    /// A byte string of at most `limit` bytes.
    pub fn bytes(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], DecodeError> {
        let bytes = self.item(what, |decoder| decoder.bytes(), |bytes| (bytes.len() as u64, bytes.len()))?;
        check_limit(what, bytes.len(), limit)?;
        Ok(bytes)
    }

    /// A byte string of exactly `N` bytes.
    pub fn array_of<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let bytes = self.bytes(what, N)?;
        bytes.try_into().map_err(|_| DecodeError::Invalid { what, why: "it has too few bytes" })
    }

    /// A text string of at most `limit` bytes.
    pub fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, DecodeError> {
        let text = self.item(what, |decoder| decoder.str(), |text| (text.len() as u64, text.len()))?;
        check_limit(what, text.len(), limit)?;
        Ok(text)
    }

    /// `null`.
    pub fn null(&mut self, what: &'static str) -> Result<(), DecodeError> {
        self.item(what, |decoder| decoder.null(), |()| (0, 0))
    }

    /// `true` or `false`.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        self.item(what, |decoder| decoder.bool(), |_| (0, 0))
    }

    /// Whether the next item is `null`.
    pub fn at_null(&self) -> bool {
        self.decoder.input().get(self.position()) == Some(&0xf6)
    }

    /// The head of an array of at most `limit` items.
    pub fn array(&mut self, what: &'static str, limit: usize) -> Result<usize, DecodeError> {
        self.count(what, limit, |decoder| decoder.array())
    }

    /// The head of an array of exactly `count` items.
    pub fn array_exact(&mut self, what: &'static str, count: usize) -> Result<(), DecodeError> {
        if self.array(what, count)? != count {
            return Err(DecodeError::Invalid { what, why: "it has too few items" });
        }
        Ok(())
    }

    /// The head of a map; its entries are read through the [`Fields`] that comes back.
    pub fn fields(&mut self, what: &'static str, limit: usize) -> Result<Fields, DecodeError> {
        let left = self.count(what, limit, |decoder| decoder.map())?;
        Ok(Fields { what, left })
    }

    fn count(
        &mut self,
        what: &'static str,
        limit: usize,
        read: impl FnOnce(&mut Decoder<'a>) -> Result<Option<u64>, minicbor::decode::Error>,
    ) -> Result<usize, DecodeError> {
        let at = self.position();
        // An indefinite length has no number in its head: any payload length but 0 refuses it.
        let head = |count: &Option<u64>| count.map_or((0, 1), |count| (count, 0));
        let count = self.item(what, read, head)?.ok_or(DecodeError::NotCanonical { what, at })?;
        match usize::try_from(count) {
            Ok(found) if found <= limit => Ok(found),
            _ => Err(DecodeError::OverLimit { what, limit: limit as u64, found: count }),
        }
    }

    /// The tag before the next item.
    pub fn tag(&mut self, what: &'static str, expected: u64) -> Result<(), DecodeError> {
        let tag = self.item(what, |decoder| decoder.tag(), |tag| (tag.as_u64(), 0))?;
        if tag.as_u64() != expected {
            return Err(DecodeError::Invalid { what, why: "it has another tag" });
        }
        Ok(())
    }

    /// Refuses bytes that are left over.
    pub fn end(&self, what: &'static str) -> Result<(), DecodeError> {
        match self.decoder.input().len() - self.position() {
            0 => Ok(()),
            count => Err(DecodeError::Trailing { what, count }),
        }
    }

    fn take_key(&mut self, expected: MapKey) -> bool {
        let mut ahead = self.clone();
        let found = match expected {
            MapKey::Int(key) => ahead.int("key").is_ok_and(|found| found == key),
            MapKey::Text(key) => ahead.text("key", key.len()).is_ok_and(|found| found == key),
        };
        if found {
            *self = ahead;
        }
        found
    }
}

/// The entries of a map, taken in ascending order of their keys.
///
/// Since the caller asks for the keys it knows in their canonical order, an unknown, repeated or
/// misplaced key is one that nobody asks for, and is refused.
#[derive(Debug)]
pub struct Fields {
    what: &'static str,
    left: usize,
}

impl Fields {
    /// The value of `key`, if the map has it here.
    pub fn optional<'a, T>(
        &mut self,
        reader: &mut Reader<'a>,
        key: MapKey,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.left == 0 || !reader.take_key(key) {
            return Ok(None);
        }
        self.left -= 1;
        read(reader).map(Some)
    }

    /// The value of `key`, which must stand here.
    pub fn required<'a, T>(
        &mut self,
        reader: &mut Reader<'a>,
        key: MapKey,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let at = reader.position();
        let refuse = || DecodeError::Key { what: self.what, expected: key.to_string(), at };
        let refusal = refuse();
        self.optional(reader, key, read)?.ok_or(refusal)
    }

    /// Refuses entries that nobody asked for.
    pub fn end(self, reader: &Reader<'_>) -> Result<(), DecodeError> {
        if self.left > 0 {
            let (what, at) = (self.what, reader.position());
            return Err(DecodeError::Key { what, expected: "end".to_owned(), at });
        }
        Ok(())
    }
}

/// Bytes of the shortest head that holds `number`.
const fn head_length(number: u64) -> usize {
    match number {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_must_be_shortest() {
        assert_eq!(Reader::new(&[0x17]).uint("n").unwrap(), 23);
        assert!(matches!(Reader::new(&[0x18, 0x17]).uint("n"), Err(DecodeError::NotCanonical { .. })));
        assert!(matches!(Reader::new(&[0x58, 0x01, 0]).bytes("b", 9), Err(DecodeError::NotCanonical { .. })));
        assert!(matches!(Reader::new(&[0x9f, 0xff]).array("a", 9), Err(DecodeError::NotCanonical { .. })));
        assert!(matches!(Reader::new(&[0x38, 0x00]).int("n"), Err(DecodeError::NotCanonical { .. })));
        assert_eq!(Reader::new(&[0x20]).int("n").unwrap(), -1);
        let lowest = [0x3b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Reader::new(&lowest).int("n").unwrap(), i64::MIN);
    }

    #[test]
    fn a_length_beyond_the_input_allocates_nothing() {
        let claims_4_gib = [0x5a, 0xff, 0xff, 0xff, 0xff, 0];
        assert!(matches!(
            Reader::new(&claims_4_gib).bytes("b", usize::MAX),
            Err(DecodeError::Malformed { .. })
        ));
        let claims_many = [0x9a, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(Reader::new(&claims_many).array("a", 16), Err(DecodeError::OverLimit { .. })));
    }

    #[test]
    fn maps_refuse_unknown_repeated_and_unsorted_keys() {
        let read = |bytes: &[u8]| -> Result<(u64, Option<u64>), DecodeError> {
            let mut reader = Reader::new(bytes);
            let mut fields = reader.fields("map", 4)?;
            let one = fields.required(&mut reader, MapKey::Int(1), |reader| reader.uint("one"))?;
            let two = fields.optional(&mut reader, MapKey::Int(2), |reader| reader.uint("two"))?;
            fields.end(&reader)?;
            reader.end("map")?;
            Ok((one, two))
        };
        assert_eq!(read(&[0xa2, 1, 5, 2, 6]).unwrap(), (5, Some(6)));
        assert_eq!(read(&[0xa1, 1, 5]).unwrap(), (5, None));
        let refused: [&[u8]; 5] = [
            &[0xa2, 2, 6, 1, 5],
            &[0xa2, 1, 5, 1, 5],
            &[0xa2, 1, 5, 3, 6],
            &[0xa1, 2, 6],
            &[0xa1, 1, 5, 2, 6],
        ];
        for bytes in refused {
            assert!(read(bytes).is_err(), "{bytes:02x?}");
        }
    }
}
