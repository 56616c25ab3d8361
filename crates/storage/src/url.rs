//! Which store: a URL that was read and found meaningful.
//!
//! What parses can be opened by this build, so an unknown scheme or a relative folder fails when the
//! configuration is read and not at the first batch. Messages repeat a scheme or a folder, never the
//! whole text: URLs of other schemes may carry credentials.
//!
//! This module touches no file and no network.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

/// The schemes of this build, as its messages name them.
const SCHEMES: &str = "file:///absolute/folder, memory:";

/// The address of a store.
///
/// | text | store |
/// |---|---|
/// | `file:///absolute/folder` | files below that folder |
/// | `memory:` | memory of this process: gone with it, and every opening begins empty |
///
/// ```
/// use synddb_storage::StoreUrl;
///
/// let url: StoreUrl = "file:///var/lib/synddb/store".parse()?;
/// assert_eq!(url.to_string(), "file:///var/lib/synddb/store");
/// assert!("gs://bucket".parse::<StoreUrl>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoreUrl {
    place: Place,
    text: Url,
}

/// What a [`StoreUrl`] leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Folder(PathBuf),
    Memory,
}

/// Why a text does not name a store that this build can open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// Not a URL at all. A bare path is the usual case.
    #[error("a store is named by a URL: use one of {SCHEMES}")]
    NotUrl(#[source] url::ParseError),
    /// A URL of a scheme that this build has no store for.
    #[error("this build has no store for that scheme: use one of {SCHEMES}. scheme=`{scheme}`")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// A `file:` URL without an absolute folder on this machine.
    #[error("a store of files needs an absolute folder of this machine: write file:///absolute/folder")]
    NotAbsolute,
    /// A part that has no meaning for this scheme.
    #[error("a store of this scheme has no {part}: remove it. scheme=`{scheme}`")]
    Surplus {
        /// The scheme.
        scheme: String,
        /// What is too much.
        part: &'static str,
    },
}

impl StoreUrl {
    /// A store in the memory of this process.
    ///
    /// # Panics
    /// Never: the text is a constant.
    #[must_use]
    pub fn memory() -> Self {
        "memory:".parse().expect("the constant is a store URL")
    }

    /// A store of files below `folder`.
    ///
    /// # Errors
    /// [`StoreUrlError::NotAbsolute`].
    pub fn folder(folder: &Path) -> Result<Self, StoreUrlError> {
        let text = Url::from_file_path(folder).map_err(|()| StoreUrlError::NotAbsolute)?;
        Self::from_url(text)
    }

    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    fn from_url(text: Url) -> Result<Self, StoreUrlError> {
        let surplus = |part| StoreUrlError::Surplus { scheme: text.scheme().to_owned(), part };
        if text.query().is_some() {
            return Err(surplus("query"));
        }
        if text.fragment().is_some() {
            return Err(surplus("fragment"));
        }
        let place = match text.scheme() {
            "file" => Place::Folder(text.to_file_path().map_err(|()| StoreUrlError::NotAbsolute)?),
            "memory" if text.path().is_empty() && !text.has_authority() => Place::Memory,
            "memory" => return Err(surplus("path")),
            scheme => return Err(StoreUrlError::Scheme { scheme: scheme.to_owned() }),
        };
        Ok(Self { place, text })
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let url = Url::parse(text).map_err(StoreUrlError::NotUrl)?;
        // A URL parser makes `file:store` mean `/store`, and nobody who writes that means it.
        if url.scheme() == "file" && !text.starts_with("file:///") {
            return Err(StoreUrlError::NotAbsolute);
        }
        Self::from_url(url)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = StoreUrlError;

    fn try_from(text: String) -> Result<Self, StoreUrlError> {
        text.parse()
    }
}

impl From<StoreUrl> for String {
    fn from(url: StoreUrl) -> Self {
        url.text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_build_opens_is_a_store_url() {
        for text in ["memory:", "file:///var/lib/store", "file:///with%20space"] {
            let url: StoreUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), text);
        }
        assert_eq!(StoreUrl::memory().place(), &Place::Memory);
        let folder = StoreUrl::folder(Path::new("/a b/#1")).unwrap();
        assert_eq!(folder.place(), &Place::Folder("/a b/#1".into()));
        assert_eq!(folder.to_string().parse::<StoreUrl>().unwrap(), folder);
        let json = serde_json::to_string(&folder).unwrap();
        assert_eq!(serde_json::from_str::<StoreUrl>(&json).unwrap(), folder);
        assert!(serde_json::from_str::<StoreUrl>("\"store\"").is_err());
    }

    #[test]
    fn each_wrong_text_says_what_is_wrong() {
        let refused = |text: &str| text.parse::<StoreUrl>().unwrap_err();
        assert!(matches!(refused("/var/lib/store"), StoreUrlError::NotUrl(_)));
        assert!(matches!(refused("./store"), StoreUrlError::NotUrl(_)));
        for text in ["file:store", "file:./store", "file:/store", "file://host/store", "file://store"] {
            assert_eq!(refused(text), StoreUrlError::NotAbsolute, "{text}");
        }
        for scheme in ["gs", "s3", "az", "celestia", "eigenda", "ipfs", "arweave", "https"] {
            let error = refused(&format!("{scheme}://user:secret@bucket/path"));
            assert_eq!(error, StoreUrlError::Scheme { scheme: scheme.to_owned() });
            assert!(error.to_string().contains("file:///absolute/folder, memory:"), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        for text in ["file:///a?b", "file:///a#b", "memory:?a", "memory:a", "memory://a", "memory:///"] {
            assert!(matches!(refused(text), StoreUrlError::Surplus { .. }), "{text}");
        }
        assert_eq!(StoreUrl::folder(Path::new("store")).unwrap_err(), StoreUrlError::NotAbsolute);
    }
}
