//! Reading a file of credentials. Hashes need no secrecy, but nobody else may write it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::Deserialize;
use synddb_protocol::id::StreamId;
use toml::Spanned;
use toml::value::Datetime;

use super::{Credential, Credentials, Fingerprint, Holder, Kind, Writable};
use crate::reloaded::Source;
use crate::secret::{SecretError, read_unwritable};

/// Largest file of credentials, in bytes.
pub const CREDENTIALS_BYTES_MAX: u64 = 256 << 10;
/// Most credentials that a file lists.
pub const CREDENTIALS_MAX: usize = 256;
/// Longest name of a credential, in characters.
const NAME_CHARS_MAX: usize = 64;

/// Why a file of credentials is refused.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsFileError {
    /// There is none.
    #[error(
        "there is no credentials file, so nobody could write; make one with `synddb token new --name NAME --credentials FILE`. file=`{}`",
        file.display()
    )]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// It cannot be read, or may not be used.
    #[error(transparent)]
    Unusable(#[from] SecretError),
    /// It does not say who may write.
    #[error("the credentials file is malformed: {why}. file=`{}` line=`{line}`", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there. Values are not repeated: somebody may have written a token.
        why: String,
    },
}

/// A file of credentials.
#[derive(Debug, Clone)]
pub struct CredentialsFile(PathBuf);

impl CredentialsFile {
    /// The file at this path.
    pub fn at(file: impl Into<PathBuf>) -> Self {
        Self(file.into())
    }
}

impl Source for CredentialsFile {
    type Value = Credentials;
    type Error = CredentialsFileError;
    const NAME: &'static str = "credentials";

    fn read(&self) -> Result<Vec<u8>, CredentialsFileError> {
        match read_unwritable(&self.0, CREDENTIALS_BYTES_MAX) {
            Err(SecretError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(CredentialsFileError::Missing { file: self.0.clone() })
            }
            read => Ok(read?),
        }
    }

    fn parse(&self, content: &[u8]) -> Result<Credentials, CredentialsFileError> {
        parse(&self.0, content)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// That nobody is listed, and that this is meant: an empty file may be one that somebody is about to write.
    #[serde(default)]
    nobody: bool,
    #[serde(default)]
    token: Vec<Entry>,
    #[serde(default)]
    certificate: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    sha256: Spanned<String>,
    streams: Option<BTreeSet<StreamId>>,
    expires: Option<Datetime>,
}

impl Entry {
    /// What it says, or where it is wrong and why.
    fn read(self, kind: Kind) -> Result<Credential, (usize, String)> {
        let (at, hash_at) = (self.name.span().start, self.sha256.span().start);
        let name = self.name.into_inner();
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !(1..=NAME_CHARS_MAX).contains(&name.len()) || !is_plain {
            return Err((at, format!("a name is 1 to {NAME_CHARS_MAX} letters, digits or `-._`")));
        }
        let sha256 = Fingerprint::parse(&self.sha256.into_inner())
            .ok_or_else(|| (hash_at, format!("the sha256 of `{name}` is not 64 digits of hex")))?;
        let streams = match self.streams {
            None => Writable::Any,
            Some(streams) if streams.is_empty() => {
                return Err((at, format!("`{name}` may write no stream; leave it out, or `streams`")));
            }
            Some(streams) => Writable::Only(streams),
        };
        let expires = self.expires.map(|expires| instant(&expires)).transpose().map_err(|()| {
            (at, format!("`{name}` expires at no time in UTC; write it as in 2027-01-31T00:00:00Z"))
        })?;
        Ok(Credential { kind, holder: Arc::new(Holder { name, streams }), sha256, expires })
    }
}

fn instant(datetime: &Datetime) -> Result<SystemTime, ()> {
    humantime::parse_rfc3339(&datetime.to_string()).map_err(drop)
}

/// Reads the text of `file`.
pub(super) fn parse(file: &Path, text: &[u8]) -> Result<Credentials, CredentialsFileError> {
    let malformed = |at: usize, why: String| {
        let line = text.iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        CredentialsFileError::Malformed { file: file.to_owned(), line, why }
    };
    let text =
        std::str::from_utf8(text).map_err(|error| malformed(error.valid_up_to(), error.to_string()))?;
    let document: Document = toml::from_str(text)
        .map_err(|error| malformed(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    if document.token.len() + document.certificate.len() > CREDENTIALS_MAX {
        return Err(malformed(0, format!("a file lists at most {CREDENTIALS_MAX} credentials")));
    }
    let lists_nobody = document.token.is_empty() && document.certificate.is_empty();
    if lists_nobody && !document.nobody {
        return Err(malformed(0, "it lists nobody; if that is meant, write `nobody = true`".to_owned()));
    }
    if document.nobody && !lists_nobody {
        return Err(malformed(0, "it lists credentials and says `nobody`; leave out one of them".to_owned()));
    }
    let tokens = document.token.into_iter().map(|entry| (Kind::Token, entry));
    let certificates = document.certificate.into_iter().map(|entry| (Kind::Certificate, entry));
    let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
    let mut listed = Vec::new();
    for (kind, entry) in tokens.chain(certificates) {
        let at = entry.name.span().start;
        let credential = entry.read(kind).map_err(|(at, why)| malformed(at, why))?;
        let name = &credential.holder.name;
        if !names.insert(name.clone()) || !hashes.insert(credential.sha256) {
            return Err(malformed(at, format!("a name or a sha256 is listed twice, that of `{name}`")));
        }
        listed.push(credential);
    }
    Ok(Credentials(listed))
}
