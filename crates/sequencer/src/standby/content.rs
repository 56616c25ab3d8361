//! What stands in a lease: `spec/storage.md`, section 8. It is JSON, because nobody but people and standbys reads it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synddb_protocol::id::{Epoch, KeyId, StreamId};

use crate::config::PublicUrl;

/// Which process wrote a lease: two processes may have one key, and one process many epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Holder([u8; 16]);

impl Holder {
    /// A process like no other.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Holder {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl From<Holder> for String {
    fn from(holder: Holder) -> Self {
        hex::encode(holder.0)
    }
}

/// Whether the holder leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It does, or is about to.
    Held,
    /// It does not any more: anybody may.
    Released,
}

/// The content of a lease. It claims nothing: an epoch is claimed in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseContent {
    pub(super) stream: StreamId,
    pub(super) holder: Holder,
    pub(super) key_id: KeyId,
    /// `None` before one was claimed.
    pub(super) epoch: Option<Epoch>,
    /// How many leases of this stream this holder wrote before: what makes each one new.
    pub(super) counter: u64,
    pub(super) state: State,
    pub(super) url: Option<PublicUrl>,
}

impl LeaseContent {
    /// What a lease says; `None` when it is nothing that a sequencer of this stream wrote. Then somebody may well lead by it.
    pub(super) fn read(stream: StreamId, bytes: &[u8]) -> Option<Self> {
        let content: Self = serde_json::from_slice(bytes).ok()?;
        (content.stream == stream).then_some(content)
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("text, numbers and names are JSON"))
    }
}

#[cfg(test)]
mod tests {
    use synddb_protocol::id::Address;
    use synddb_storage::LEASE_BYTES_MAX;

    use super::*;
    use crate::config::PUBLIC_URL_BYTES_MAX;

    const STREAM: StreamId = StreamId::from_bytes([0x5d; 32]);

    fn content() -> LeaseContent {
        LeaseContent {
            stream: STREAM,
            holder: Holder([0xab; 16]),
            key_id: Address::from_bytes([7; 20]),
            epoch: Some(Epoch::new(999_999_999_999).unwrap()),
            counter: u64::MAX,
            state: State::Released,
            url: None,
        }
    }

    #[test]
    fn a_lease_returns_from_its_text() {
        let content = content();
        let bytes = content.to_bytes();
        assert_eq!(LeaseContent::read(STREAM, &bytes), Some(content));
        let text = std::str::from_utf8(&bytes).unwrap();
        for member in
            [r#""holder":"abababab"#, r#""state":"released""#, r#""epoch":999999999999"#, r#""url":null"#]
        {
            assert!(text.contains(member), "{text}");
        }
        let later = text.replacen('{', r#"{"new":1,"#, 1);
        assert!(LeaseContent::read(STREAM, later.as_bytes()).is_some(), "what is not known is ignored");
    }

    #[test]
    fn what_another_stream_or_nobody_wrote_is_no_lease() {
        assert_eq!(LeaseContent::read(StreamId::from_bytes([1; 32]), &content().to_bytes()), None);
        for bytes in [&b""[..], b"{}", b"\xff", b"null"] {
            assert_eq!(LeaseContent::read(STREAM, bytes), None);
        }
    }

    #[test]
    fn the_largest_content_fits_a_lease() {
        let url = format!("https://{}", "a".repeat(PUBLIC_URL_BYTES_MAX - 8));
        let largest = LeaseContent { url: Some(url.try_into().unwrap()), ..content() };
        assert!(largest.to_bytes().len() <= LEASE_BYTES_MAX);
    }
}
