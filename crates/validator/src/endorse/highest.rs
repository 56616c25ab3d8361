//! How far a key has endorsed, by the store.
//!
//! A validator that was restored from an old image knows nothing of what it signed since. The store does: whatever was published lies there for ever.

use std::collections::BTreeSet;

use synddb_protocol::id::{Address, KeyId, Sequence, StreamId};
use synddb_protocol::log::SignedEndorsement;
use synddb_storage::{BatchStore, GetError, Key, ListError, PageLimit, Start};
use tracing::warn;

/// Names of endorsements that are looked at, the highest ones first.
const LOOKED_AT_MAX: usize = 4096;
/// Names at or behind a place that are listed, whoever's. An honest store has few: nobody endorses what is not in the log.
const LISTED_MAX: usize = 1 << 16;

/// Why it is not known how far a key has endorsed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    /// The store does not list.
    #[error("the store does not show what was endorsed before")]
    List(#[from] ListError),
    /// The store does not give one.
    #[error("an endorsement in the store cannot be read")]
    Get(#[from] GetError),
    /// So much lies there that nobody looks through it before each signature.
    #[error(
        "more than {LISTED_MAX} endorsements lie in the store at or behind message {from}, which is passed; a later one covers it. Where this \
         validator is not far behind others, see who can write to the store"
    )]
    Crowded {
        /// The place.
        from: Sequence,
    },
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
    let (mut named, mut is_cut, mut listed) = (BTreeSet::new(), false, 0);
    let mut start =
        Start::At(Key::Endorsement { stream, sequence: from, validator: Address::from_bytes([0; 20]) });
    loop {
        let page = store.list(&start, PageLimit::MAX).await?;
        listed += page.keys.len();
        if listed > LISTED_MAX {
            return Err(Unknown::Crowded { from });
        }
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
