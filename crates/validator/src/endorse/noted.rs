//! How far a key has endorsed, by this disk.
//!
//! A store that was exchanged for an old copy of it knows less than the disk, and what was signed and never stored is known here alone.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use synddb_protocol::id::{KeyId, Sequence, StreamId};
use synddb_sqlite::name::beside;

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Keys of streams that the file names: more than anybody exchanges keys, or has a replica follow another stream.
const SIGNED_MAX: usize = 128;

/// The last endorsement of a key in a stream that a validator began to sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signed {
    /// The stream.
    pub(super) stream: StreamId,
    /// The key.
    pub(super) key: KeyId,
    /// The last message.
    pub(super) sequence: Sequence,
    /// What was signed: the EIP-712 digest.
    pub(super) digest: String,
}

/// What the disk says of all keys and streams that were ever endorsed with beside this replica: a key that is taken up again later goes on where it was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    signed: Vec<Signed>,
}

/// Why the disk does not allow a signature.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotNoted {
    /// It cannot be read.
    #[error(
        "what was signed before cannot be read beside the replica; remove the file only if you know that this key signed nothing since. file=`{}`",
        file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("what is about to be signed cannot be noted beside the replica. file=`{}`", file.display())]
    Unwritable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It names this key further on.
    #[error("this disk says that the key has endorsed message {highest}")]
    Below {
        /// The message.
        highest: Sequence,
    },
    /// It names another content of this place.
    #[error("this disk says that the key has endorsed something else at this place")]
    Conflict,
    /// It names too many keys.
    #[error(
        "more than {SIGNED_MAX} keys and streams endorsed beside this replica; remove those that are never used again from the file. file=`{}`",
        file.display()
    )]
    Full {
        /// The file.
        file: PathBuf,
    },
}

impl Signed {
    /// Notes it durably on the disk, before anything is signed; not where the disk says that the key, or the one that it followed, went further, or signed
    /// something else there.
    pub(super) fn note(self, followed: Option<KeyId>, replica: &Path) -> Result<(), NotNoted> {
        let file = beside(replica, ".endorsed.json");
        let unreadable = |source| NotNoted::Unreadable { file: file.clone(), source };
        let mut note = Note::read(&file).map_err(unreadable)?;
        let is_ours = |other: &Self| other.key == self.key || Some(other.key) == followed;
        for before in note.signed.iter().filter(|other| other.stream == self.stream && is_ours(other)) {
            if before.sequence > self.sequence {
                return Err(NotNoted::Below { highest: before.sequence });
            }
            if before.sequence == self.sequence && before.digest != self.digest {
                return Err(NotNoted::Conflict);
            }
        }
        let is_full = note.signed.len() == SIGNED_MAX;
        match note.signed.iter_mut().find(|other| (other.stream, other.key) == (self.stream, self.key)) {
            // Whoever wrote it may have been killed before its name was on the disk.
            Some(before) if *before == self => {
                return sync_folder_of(&file).map_err(|source| NotNoted::Unwritable { file, source });
            }
            Some(before) => *before = self,
            // None is forgotten for another one.
            None if is_full => return Err(NotNoted::Full { file }),
            None => note.signed.push(self),
        }
        note.write(&file).map_err(|source| NotNoted::Unwritable { file, source })
    }
}

impl Note {
    fn read(file: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        match File::open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened?.take(FILE_BYTES_MAX).read_to_end(&mut text)?,
        };
        Ok(serde_json::from_slice(&text)?)
    }

    fn write(&self, file: &Path) -> io::Result<()> {
        let mut staged = tempfile::NamedTempFile::new_in(folder_of(file))?;
        serde_json::to_writer(&mut staged, self)?;
        staged.as_file().sync_all()?;
        staged.persist(file)?;
        sync_folder_of(file)
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// The names in the folder of a file, and that others are gone from it, are on the disk behind this.
pub(super) fn sync_folder_of(file: &Path) -> io::Result<()> {
    File::open(folder_of(file))?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use synddb_protocol::id::Address;

    use super::*;

    fn signed(stream: u8, key: u8, sequence: u64, digest: &str) -> Signed {
        Signed {
            stream: StreamId::from_bytes([stream; 32]),
            key: Address::from_bytes([key; 20]),
            sequence: Sequence::new(sequence).unwrap(),
            digest: digest.to_owned(),
        }
    }

    #[test]
    fn each_key_of_each_stream_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let replica = folder.path().join("replica.db");
        signed(1, 1, 7, "a").note(None, &replica).unwrap();
        signed(1, 1, 7, "a").note(None, &replica).unwrap();
        assert!(matches!(signed(1, 1, 7, "b").note(None, &replica), Err(NotNoted::Conflict)));
        // Another key, another stream, and back.
        signed(1, 2, 3, "c").note(None, &replica).unwrap();
        signed(2, 1, 1, "d").note(None, &replica).unwrap();
        let highest = Sequence::new(7).unwrap();
        assert!(
            matches!(signed(1, 1, 6, "e").note(None, &replica), Err(NotNoted::Below { highest: h }) if h == highest)
        );
        assert!(matches!(signed(1, 2, 2, "f").note(None, &replica), Err(NotNoted::Below { .. })));
        signed(1, 1, 8, "g").note(None, &replica).unwrap();
        // A key that follows another one.
        let followed = Some(Address::from_bytes([1; 20]));
        assert!(matches!(signed(1, 3, 7, "h").note(followed, &replica), Err(NotNoted::Below { .. })));
        assert!(matches!(signed(1, 3, 8, "h").note(followed, &replica), Err(NotNoted::Conflict)));
        signed(1, 3, 8, "g").note(followed, &replica).unwrap();
        signed(2, 3, 2, "h").note(followed, &replica).unwrap();
        std::fs::write(beside(&replica, ".endorsed.json"), "{\"signed\": [").unwrap();
        assert!(matches!(signed(1, 1, 9, "h").note(None, &replica), Err(NotNoted::Unreadable { .. })));
    }

    #[test]
    fn none_is_forgotten_for_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let replica = folder.path().join("replica.db");
        for key in 0..SIGNED_MAX {
            signed(1, u8::try_from(key).unwrap(), 999_999_999_999, &"0x".repeat(33))
                .note(None, &replica)
                .unwrap();
        }
        let length = std::fs::metadata(beside(&replica, ".endorsed.json")).unwrap().len();
        assert!(length < FILE_BYTES_MAX, "{length}");
        assert!(matches!(signed(2, 1, 1, "x").note(None, &replica), Err(NotNoted::Full { .. })));
        assert!(matches!(signed(1, 0, 1, "x").note(None, &replica), Err(NotNoted::Below { .. })));
    }
}
