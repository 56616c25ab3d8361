//! What a command line names: stores and keys. A text that names the wrong thing is told what it is.
//!
//! Reads no file; of a store that is no URL it looks whether there is such a folder.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;
use std::str::FromStr;

use synddb_protocol::ParseError;
use synddb_protocol::id::{Address, KeyId};
use synddb_protocol::signing::VerifyingKey;
use synddb_storage::{StoreUrl, StoreUrlError};

/// Why a text does not name what it must.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misnamed {
    #[error("this is a folder, and a store is named by a URL: write {url}")]
    Folder { url: StoreUrl },
    #[error(transparent)]
    Store(#[from] StoreUrlError),
    #[error(
        "this is a key id, from which no key follows; name the public key, 0x{{66 lower-case hex digits}}, that whoever runs the sequencer gave you"
    )]
    KeyId,
    #[error("this is a public key, and its id is wanted: write {id}")]
    Key { id: KeyId },
    #[error(transparent)]
    Text(#[from] ParseError),
    #[error("a number of at least 1 is needed")]
    NoCount,
}

/// Reads the URL of a store.
pub(crate) fn store(text: &str) -> Result<StoreUrl, Misnamed> {
    let refused = match text.parse() {
        Ok(url) => return Ok(url),
        Err(refused) => refused,
    };
    let folder = Path::new(text).canonicalize().ok().filter(|folder| folder.is_dir());
    match folder.and_then(|folder| StoreUrl::folder(&folder).ok()) {
        Some(url) => Err(Misnamed::Folder { url }),
        None => Err(refused.into()),
    }
}

/// Reads the address of a contract, also as wallets write it: capitals are a checksum there.
pub(crate) fn contract(text: &str) -> Result<Address, Misnamed> {
    Ok(text.to_ascii_lowercase().parse()?)
}

/// Reads the key of a sequencer.
pub(crate) fn sequencer_key(text: &str) -> Result<VerifyingKey, Misnamed> {
    text.parse().map_err(|refused: ParseError| match text.parse::<KeyId>() {
        Ok(_) => Misnamed::KeyId,
        Err(_) => refused.into(),
    })
}

/// Reads the id of a key.
pub(crate) fn key_id(text: &str) -> Result<KeyId, Misnamed> {
    text.parse().map_err(|refused: ParseError| match text.parse::<VerifyingKey>() {
        Ok(key) => Misnamed::Key { id: key.id() },
        Err(_) => refused.into(),
    })
}

/// Reads a number that is not 0.
pub(crate) fn count<N: Count>(text: &str) -> Result<N, Misnamed> {
    text.parse().map_err(|_| Misnamed::NoCount)
}

/// A number that is not 0.
pub(crate) trait Count: FromStr {}
impl Count for NonZeroU32 {}
impl Count for NonZeroU64 {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const KEY: &str = "0x0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    #[test]
    fn a_folder_is_answered_with_its_url() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().to_str().unwrap();
        let url = StoreUrl::folder(&folder.path().canonicalize().unwrap()).unwrap();
        assert_eq!(store(url.to_string().as_str()).unwrap(), url);
        let told = store(text).unwrap_err().to_string();
        assert!(told.ends_with(&format!("write {url}")), "{told}");
        // What is no folder is refused as ever.
        let told = store(&format!("{text}/absent")).unwrap_err().to_string();
        assert!(told.contains("use one of") && told.contains("file:///absolute/folder"), "{told}");
    }

    #[test]
    fn a_key_and_its_id_are_told_apart() {
        let key: VerifyingKey = KEY.parse().unwrap();
        let id = key.id().to_string();
        assert_eq!(sequencer_key(KEY).unwrap(), key);
        assert_eq!(key_id(&id).unwrap(), key.id());
        assert!(matches!(sequencer_key(&id), Err(Misnamed::KeyId)));
        assert!(matches!(key_id(KEY), Err(Misnamed::Key { id }) if id == key.id()));
        for text in ["", "0x", "0x1234", &KEY[2..]] {
            assert!(matches!(sequencer_key(text), Err(Misnamed::Text(_))), "{text}");
            assert!(matches!(key_id(text), Err(Misnamed::Text(_))), "{text}");
        }
    }

    #[test]
    fn nothing_is_no_count() {
        assert_eq!(count::<NonZeroU32>("1").unwrap().get(), 1);
        for text in ["0", "-1", "", "4294967296"] {
            assert!(count::<NonZeroU32>(text).is_err(), "{text}");
        }
        assert!(count::<NonZeroU64>("4294967296").is_ok());
    }
}
