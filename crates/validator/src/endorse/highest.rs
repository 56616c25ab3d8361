//! How far a key has endorsed: by the store, and by this disk.
//!
//! A validator that was restored from an old image knows nothing of what it signed since. The store does: whatever was published lies there for ever.
//! And a store that was exchanged for an old copy of it knows less than the disk. The further of the two counts.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use synddb_protocol::id::{Address, KeyId, Sequence, StreamId};
use synddb_protocol::log::SignedEndorsement;
use synddb_sqlite::name::beside;
use synddb_storage::{BatchStore, GetError, Key, ListError, PageLimit, Start};
use tracing::warn;

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 10;

/// Names of endorsements that are looked at, the highest ones first.
const LOOKED_AT_MAX: usize = 4096;

/// Why it is not known how far a key has endorsed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    /// The store does not list.
    #[error("the store does not show what was endorsed before")]
    List(#[from] ListError),
    /// The store does not give one.
    #[error("an endorsement in the store cannot be read")]
    Get(#[from] GetError),
    /// Somebody has laid so much under the names of this key that what it endorsed cannot be told from it.
    #[error(
        "more than {LOOKED_AT_MAX} objects in the names of this key are no endorsements of it; remove them, and see who can write to the store"
    )]
    Junk,
}

/// The last endorsement of these keys in the store, among those at or behind a place. What lies under their names and is not signed by them counts
/// nothing: whoever may write into the store could name any place.
pub(super) async fn in_store(
    store: &dyn BatchStore,
    stream: StreamId,
    keys: &[KeyId],
    from: Sequence,
) -> Result<Option<SignedEndorsement>, Unknown> {
    let (mut named, mut is_cut) = (BTreeSet::new(), false);
    let mut start =
        Start::At(Key::Endorsement { stream, sequence: from, validator: Address::from_bytes([0; 20]) });
    loop {
        let page = store.list(&start, PageLimit::MAX).await?;
        for key in page.keys {
            let Key::Endorsement { sequence, validator, .. } = key else { continue };
            if keys.contains(&validator) {
                named.insert((sequence, validator));
                if named.len() > LOOKED_AT_MAX {
                    named.pop_first();
                    is_cut = true;
                }
            }
        }
        match page.next {
            Some(next) => start = next,
            None => break,
        }
    }
    for (sequence, validator) in named.into_iter().rev() {
        match of(store, stream, sequence, validator).await? {
            Some(endorsement) => return Ok(Some(endorsement)),
            None => {
                warn!(sequence = sequence.get(), %validator, "what lies in the place of an endorsement of this key is none")
            }
        }
    }
    if is_cut { Err(Unknown::Junk) } else { Ok(None) }
}

/// The endorsement of a key at a place, if it is one.
pub(super) async fn of(
    store: &dyn BatchStore,
    stream: StreamId,
    sequence: Sequence,
    validator: KeyId,
) -> Result<Option<SignedEndorsement>, GetError> {
    let stored = match store.get(&Key::Endorsement { stream, sequence, validator }).await {
        Err(GetError::TooLarge { .. }) => None,
        stored => stored?,
    };
    let endorsement = stored.and_then(|stored| SignedEndorsement::from_bytes(&stored).ok());
    Ok(endorsement.filter(|endorsement| {
        let said = endorsement.endorsement();
        (said.stream(), said.sequence()) == (stream, sequence) && endorsement.recover() == Some(validator)
    }))
}

/// The last endorsement that this replica's validator began to sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signed {
    /// The key.
    pub(super) key: KeyId,
    /// The last message.
    pub(super) sequence: Sequence,
    /// What was signed: the EIP-712 digest.
    pub(super) digest: String,
}

impl Signed {
    fn path(replica: &Path) -> PathBuf {
        beside(replica, ".endorsed.json")
    }

    /// What the disk says; `None` where nothing was signed.
    pub(super) fn read(replica: &Path) -> io::Result<Option<Self>> {
        let mut text = Vec::new();
        match File::open(Self::path(replica)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?.take(FILE_BYTES_MAX).read_to_end(&mut text)?,
        };
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// Writes it down durably, before anything is signed.
    pub(super) fn write(&self, replica: &Path) -> io::Result<()> {
        let file = Self::path(replica);
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        let mut staged = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut staged, self)?;
        staged.as_file().sync_all()?;
        staged.persist(&file)?;
        File::open(folder)?.sync_all()
    }
}
