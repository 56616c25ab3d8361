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
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

/// The schemes of this build, as its messages name them.
const SCHEMES: &str = "gs://bucket/prefix, s3://bucket/prefix, az://container/prefix, file:///absolute/folder, \
                       https://host/prefix (to read only), memory:";

/// The address of a store.
///
/// | text | store |
/// |---|---|
/// | `gs://bucket`, `gs://bucket/prefix` | objects of a Google Cloud Storage bucket, below the prefix |
/// | `s3://bucket/prefix` | the same of an S3 bucket |
/// | `az://container/prefix` | the same of an Azure Blob Storage container |
/// | `https://host/prefix` | what a static host serves: it can only be read, and not listed |
/// | `file:///absolute/folder` | files below that folder |
/// | `memory:` | memory of this process: gone with it, and every opening begins empty |
///
/// ```
/// use synddb_storage::StoreUrl;
///
/// let url: StoreUrl = "file:///var/lib/synddb/store".parse()?;
/// assert_eq!(url.to_string(), "file:///var/lib/synddb/store");
/// assert!("gs://bucket/logs".parse::<StoreUrl>()?.is_writable());
/// assert!(!"https://logs.example.org/ours".parse::<StoreUrl>()?.is_writable());
/// assert!("ftp://host/folder".parse::<StoreUrl>().is_err());
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
    Bucket(Box<Bucket>),
    Static,
}

/// A bucket, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) platform: Platform,
    pub(crate) name: String,
    /// Segments joined by `/`, without one at either end; empty for the whole bucket.
    pub(crate) prefix: String,
}

/// Who keeps a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Platform {
    Gcs,
    S3,
    Azure,
}

/// Google Cloud Storage takes one write of one name a second, and a little is added for clocks and networks.
const GCS_REWRITE_PACE: Duration = Duration::from_millis(1100);

impl Platform {
    /// The least time between two writes of one name that the platform takes for long.
    pub(crate) const fn rewrite_pace(self) -> Duration {
        match self {
            Self::Gcs => GCS_REWRITE_PACE,
            Self::S3 | Self::Azure => Duration::ZERO,
        }
    }
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
    /// No bucket, container or host.
    #[error("the address of a store lacks its bucket: write {scheme}://name/prefix")]
    NoBucket {
        /// The scheme.
        scheme: String,
    },
    /// A name that would have to be escaped on the way, so that two programs could disagree about it.
    #[error(
        "the {part} of a store's address may hold letters, digits and `-`, `_`, `.` only, with single `/` between the parts of a prefix. scheme=`{scheme}`"
    )]
    Unsafe {
        /// The scheme.
        scheme: String,
        /// Which part.
        part: &'static str,
    },
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

    /// Whether a store at such an address can be written. A static host can only be read.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        !matches!(self.place, Place::Static)
    }

    /// Whether the store is in the memory of one process, which no other process sees.
    #[must_use]
    pub const fn is_memory(&self) -> bool {
        matches!(self.place, Place::Memory)
    }

    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    fn from_url(mut text: Url) -> Result<Self, StoreUrlError> {
        let surplus = |part| StoreUrlError::Surplus { scheme: text.scheme().to_owned(), part };
        if text.query().is_some() {
            return Err(surplus("query"));
        }
        if text.fragment().is_some() {
            return Err(surplus("fragment"));
        }
        if !text.username().is_empty() || text.password().is_some() {
            return Err(surplus("user or password; credentials come from the environment"));
        }
        let place = match text.scheme() {
            "gs" => Place::Bucket(bucket(Platform::Gcs, &text)?.into()),
            "s3" => Place::Bucket(bucket(Platform::S3, &text)?.into()),
            "az" => Place::Bucket(bucket(Platform::Azure, &text)?.into()),
            "http" | "https" => {
                let is_safe = |name: &str| name.chars().all(is_safe);
                if matches!(text.host(), Some(url::Host::Domain(name)) if !is_safe(name)) {
                    return Err(StoreUrlError::Unsafe { scheme: text.scheme().to_owned(), part: "host" });
                }
                prefix(&text)?;
                Place::Static
            }
            "file" => Place::Folder(text.to_file_path().map_err(|()| StoreUrlError::NotAbsolute)?),
            "memory" if text.path().is_empty() && !text.has_authority() => Place::Memory,
            "memory" => return Err(surplus("path")),
            scheme => return Err(StoreUrlError::Scheme { scheme: scheme.to_owned() }),
        };
        // One store has one text, by which a store that was named is told from another.
        if let Some(path) = text.path().strip_suffix('/').map(str::to_owned) {
            text.set_path(&path);
        }
        Ok(Self { place, text })
    }
}

fn bucket(platform: Platform, text: &Url) -> Result<Bucket, StoreUrlError> {
    let scheme = || text.scheme().to_owned();
    let name = match text.host_str() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => return Err(StoreUrlError::NoBucket { scheme: scheme() }),
    };
    if text.port().is_some() {
        return Err(StoreUrlError::Surplus { scheme: scheme(), part: "port" });
    }
    if !name.chars().all(is_safe) {
        return Err(StoreUrlError::Unsafe { scheme: scheme(), part: "bucket" });
    }
    Ok(Bucket { platform, name, prefix: prefix(text)? })
}

/// The path without the `/` at its ends, when nothing in it has to be escaped.
fn prefix(text: &Url) -> Result<String, StoreUrlError> {
    let path = text.path();
    let path = path.strip_prefix('/').unwrap_or(path);
    // A single one at the end means nothing, and two of them are an empty segment.
    let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path);
    let is_plain = |segment: &str| !segment.is_empty() && segment.chars().all(is_safe);
    if path.is_empty() || path.split('/').all(is_plain) {
        Ok(path.to_owned())
    } else {
        Err(StoreUrlError::Unsafe { scheme: text.scheme().to_owned(), part: "prefix" })
    }
}

/// The path as it is written, without its first `/`; `None` where no authority is.
fn path_in(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    Some(rest.split_once('/').map_or("", |(_, path)| path))
}

const fn is_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let url = Url::parse(text).map_err(StoreUrlError::NotUrl)?;
        // A URL parser makes `file:store` mean `/store`, and nobody who writes that means it.
        if url.scheme() == "file" && !text.starts_with("file:///") {
            return Err(StoreUrlError::NotAbsolute);
        }
        let url = Self::from_url(url)?;
        // It also takes `/a/../b` for `/b`, which another program may not.
        let path = url.text.path();
        let written = path_in(text).map(|path| path.strip_suffix('/').unwrap_or(path));
        let is_same = written == Some(path.strip_prefix('/').unwrap_or(path));
        if matches!(url.place, Place::Bucket(_) | Place::Static) && !is_same {
            return Err(StoreUrlError::Unsafe { scheme: url.text.scheme().to_owned(), part: "prefix" });
        }
        Ok(url)
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
        for (text, platform) in [("gs", Platform::Gcs), ("s3", Platform::S3), ("az", Platform::Azure)] {
            for (path, prefix) in [("", ""), ("/", ""), ("/a", "a"), ("/a/b.c-d_e/", "a/b.c-d_e")] {
                let url: StoreUrl = format!("{text}://my-bucket{path}").parse().unwrap();
                let bucket = Bucket { platform, name: "my-bucket".into(), prefix: prefix.into() };
                assert_eq!(url.place(), &Place::Bucket(bucket.into()));
                assert!(url.is_writable());
            }
        }
        for text in ["s3://b", "s3://b/a", "https://host/a", "file:///var/lib/store"] {
            let (url, closed) = (text.parse::<StoreUrl>().unwrap(), format!("{text}/").parse().unwrap());
            assert_eq!((&url, url.to_string().as_str()), (&closed, text));
        }
        let host: StoreUrl = "http://127.0.0.1:8080/log".parse().unwrap();
        assert!(!host.is_writable());
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
        for scheme in ["ftp", "celestia", "eigenda", "ipfs", "arweave"] {
            let error = refused(&format!("{scheme}://bucket/path"));
            assert_eq!(error, StoreUrlError::Scheme { scheme: scheme.to_owned() });
            assert!(error.to_string().contains("file:///absolute/folder"), "{error}");
        }
        for scheme in ["gs", "s3", "az", "https", "ftp"] {
            let error = refused(&format!("{scheme}://user:secret@bucket/path")).to_string();
            assert!(error.contains("come from the environment") && !error.contains("secret"), "{error}");
        }
        for text in ["gs://", "s3:///prefix", "az:bucket"] {
            assert!(matches!(refused(text), StoreUrlError::NoBucket { .. }), "{text}");
        }
        for text in [
            "gs://bucket/a b",
            "s3://bucket/a//b",
            "az://bucket/%2e",
            "gs://bucket/a/../b",
            "gs://bucket/./b",
            "gs://bucket//",
            "s3://bu%63ket/a",
            "https://host/a//b",
            "s3://bucket/a*",
        ] {
            assert!(matches!(refused(text), StoreUrlError::Unsafe { .. }), "{text}");
        }
        for text in ["gs://bucket?a", "s3://bucket:80/a", "https://host/a?token=secret", "az://bucket/a#b"] {
            assert!(matches!(refused(text), StoreUrlError::Surplus { .. }), "{text}");
        }
        for text in ["file:///a?b", "file:///a#b", "memory:?a", "memory:a", "memory://a", "memory:///"] {
            assert!(matches!(refused(text), StoreUrlError::Surplus { .. }), "{text}");
        }
        assert_eq!(StoreUrl::folder(Path::new("store")).unwrap_err(), StoreUrlError::NotAbsolute);
    }
}
