//! What a file of keys says.
//!
//! ```toml
//! [[key]]
//! key  = "0x02..."     # the public key, as the sequencer shows it
//! from = 1             # the first and the last epoch that it may lead; without them, any
//! to   = 7
//! note = "first machine"
//!
//! [[revoked]]
//! key   = "0x02..."    # believed up to epoch 7 at size 1200, and no further
//! epoch = 7
//! size  = 1200
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use synddb_protocol::id::{Epoch, KeyId};
use synddb_protocol::signing::{Revocations, VerifyingKey};
use toml::Spanned;

use super::RevokedKey;

/// Largest file of keys, in bytes.
pub const KEYS_FILE_BYTES_MAX: usize = 1 << 20;
/// Most keys that a file lists, and most that it revokes.
pub const KEYS_MAX: usize = 4096;

/// Why a file of keys is refused.
#[derive(Debug, thiserror::Error)]
pub enum KeysFileError {
    /// It cannot be read.
    #[error("cannot read the keys file; check `keys_file`. file=`{}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is larger than any list of keys.
    #[error("the keys file is too large. file=`{}` limit=`{KEYS_FILE_BYTES_MAX}`", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// It does not say which keys are trusted.
    #[error("the keys file is malformed: {why}. file=`{}` line=`{line}`", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    key: Vec<KeyEntry>,
    #[serde(default)]
    revoked: Vec<RevokedEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    key: Spanned<VerifyingKey>,
    from: Option<Epoch>,
    to: Option<Epoch>,
    /// For whoever reads the file.
    #[serde(rename = "note")]
    _note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokedEntry {
    key: Spanned<VerifyingKey>,
    epoch: Epoch,
    size: u64,
    #[serde(rename = "note")]
    _note: Option<String>,
}

/// A key that is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trusted {
    key: VerifyingKey,
    from: Epoch,
    to: Option<Epoch>,
}

/// What a file of keys says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    keys: BTreeMap<KeyId, Trusted>,
    pub(super) revoked: Revocations,
}

impl Listed {
    /// Reads the text of `file`.
    ///
    /// # Errors
    /// [`KeysFileError::Malformed`] with the line.
    pub(super) fn parse(file: &Path, text: &[u8]) -> Result<Self, KeysFileError> {
        let malformed = |at: usize, why: String| {
            let line = text.iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
            KeysFileError::Malformed { file: file.to_owned(), line, why }
        };
        let text =
            std::str::from_utf8(text).map_err(|error| malformed(error.valid_up_to(), error.to_string()))?;
        let document: Document = toml::from_str(text).map_err(|error| {
            malformed(error.span().map_or(0, |span| span.start), error.message().to_owned())
        })?;
        if document.key.is_empty() {
            return Err(malformed(0, "no key is listed; add a `[[key]]`".to_owned()));
        }
        if document.key.len().max(document.revoked.len()) > KEYS_MAX {
            return Err(malformed(0, format!("a file lists at most {KEYS_MAX} keys")));
        }
        let mut keys = BTreeMap::new();
        for entry in document.key {
            let (at, key, from) =
                (entry.key.span().start, entry.key.into_inner(), entry.from.unwrap_or(Epoch::FIRST));
            if entry.to.is_some_and(|to| to < from) {
                return Err(malformed(at, format!("its epochs end before they begin: {key}")));
            }
            if keys.insert(key.id(), Trusted { key, from, to: entry.to }).is_some() {
                return Err(malformed(at, format!("the key is listed twice: {key}")));
            }
        }
        let mut revoked = Revocations::default();
        for entry in document.revoked {
            let (at, key) = (entry.key.span().start, entry.key.into_inner());
            if revoked.last_valid(key.id()).is_some() {
                return Err(malformed(at, format!("the key is revoked twice: {key}")));
            }
            let last_valid = RevokedKey { key, epoch: entry.epoch, size: entry.size }.last_valid();
            revoked.revoke(key.id(), last_valid.map_err(|error| malformed(at, format!("{error}: {key}")))?);
        }
        Ok(Self { keys, revoked })
    }

    /// The key of this name that may lead `epoch`, if one is listed.
    pub(super) fn leader(&self, key: KeyId, epoch: Epoch) -> Option<VerifyingKey> {
        let listed = self.keys.get(&key)?;
        (listed.from <= epoch && listed.to.is_none_or(|to| epoch <= to)).then_some(listed.key)
    }

    /// Whether a key is listed.
    pub(super) fn knows(&self, key: KeyId) -> bool {
        self.keys.contains_key(&key)
    }

    /// How many are listed.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use synddb_protocol::id::Sequence;
    use synddb_protocol::signing::{LastValid, SigningKey};

    use super::*;

    fn key(number: u8) -> VerifyingKey {
        *SigningKey::from_bytes([number; 32]).unwrap().verifying_key()
    }

    fn parse(text: &str) -> Result<Listed, KeysFileError> {
        Listed::parse(Path::new("keys.toml"), text.as_bytes())
    }

    fn epoch(number: u64) -> Epoch {
        Epoch::new(number).unwrap()
    }

    #[test]
    fn a_file_says_who_leads_which_epoch_and_up_to_where() {
        let [one, two] = [key(1), key(2)];
        let text = format!(
            "[[key]]\nkey = \"{one}\"\nfrom = 2\nto = 3\nnote = \"old\"\n[[key]]\nkey = \"{two}\"\n\
             [[revoked]]\nkey = \"{one}\"\nepoch = 3\nsize = 7\n[[revoked]]\nkey = \"{two}\"\nepoch = 9\nsize = 0\nnote = \"lost\"\n"
        );
        let listed = parse(&text).unwrap();
        let leads = |key: VerifyingKey| {
            (1..=4).map(|at| listed.leader(key.id(), epoch(at)).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(leads(one), [false, true, true, false]);
        assert_eq!(leads(two), [true; 4]);
        assert_eq!(leads(key(3)), [false; 4]);
        let size = Sequence::new(7).ok();
        assert_eq!(listed.revoked.last_valid(one.id()), Some(LastValid { epoch: epoch(3), size }));
        assert_eq!(listed.revoked.last_valid(two.id()), Some(LastValid { epoch: epoch(9), size: None }));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let one = key(1);
        let good = format!("[[key]]\nkey = \"{one}\"\n");
        let revoked = format!("[[revoked]]\nkey = \"{one}\"\nepoch = 1\n");
        let cases = [
            (String::new(), 1, "no key is listed"),
            (format!("{revoked}size = 1\n"), 1, "no key is listed"),
            ("[[key]]\n\nkey = \"0x02\"\n".to_owned(), 3, "public key"),
            (format!("{good}until = 3\n"), 3, "until"),
            (format!("{good}from = 0\n"), 3, "epoch must be from 1"),
            (format!("{good}from = 4\nto = 3\n"), 2, "end before they begin"),
            (format!("{good}{good}"), 4, "listed twice"),
            (format!("{good}{revoked}size = 1\n{revoked}size = 1\n"), 8, "revoked twice"),
            (format!("{good}{revoked}"), 3, "size"),
            (format!("{good}{revoked}size = 1000000000000\n"), 4, "sequence must be"),
            (format!("{good}[[keys]]\n"), 3, "keys"),
            (format!("{good}="), 3, ""),
        ];
        for (text, expected, part) in cases {
            let Err(KeysFileError::Malformed { line, why, .. }) = parse(&text) else {
                unreachable!("{text}")
            };
            assert_eq!(line, expected, "{text}\n{why}");
            assert!(why.contains(part), "{why}");
        }
        let Err(KeysFileError::Malformed { line, .. }) = Listed::parse(Path::new("k"), b"\n\xff") else {
            unreachable!("it is no text")
        };
        assert_eq!(line, 2);
    }

    #[test]
    fn a_file_of_more_keys_than_anybody_has_is_refused() {
        let list = |count: usize| {
            let key = |number: usize| {
                let mut secret = [0; 32];
                secret[24..].copy_from_slice(&(number as u64 + 1).to_be_bytes());
                SigningKey::from_bytes(secret).unwrap()
            };
            (0..count)
                .map(|number| format!("[[key]]\nkey = \"{}\"\n", key(number).verifying_key()))
                .collect::<String>()
        };
        let most = list(KEYS_MAX);
        assert!(most.len() < KEYS_FILE_BYTES_MAX);
        assert_eq!(parse(&most).unwrap().len(), KEYS_MAX);
        assert!(parse(&list(KEYS_MAX + 1)).is_err());
    }
}
