//! What lies in a store of endorsements, counted against a quorum.

use synddb_protocol::id::{Address, Sequence, StreamId};
use synddb_protocol::log::{Endorsed, Gathered, Quorum, SignedEndorsement};
use synddb_protocol::signing::Domain;
use synddb_storage::{BatchStore, GetError, Key, ListError, PageLimit, Start};

/// Places that are looked at from the newest one back, at most.
pub const PLACES_MAX: usize = 256;
/// Endorsements that are read of one place, at most.
const OF_PLACE_MAX: usize = 1024;

/// What counts.
#[derive(Debug, Clone, Copy)]
pub struct Trusting<'q> {
    /// The stream.
    pub stream: StreamId,
    /// The contract that they are to be good for.
    pub domain: Domain,
    /// Whose endorsements count, and how many are enough.
    pub quorum: &'q Quorum,
}

/// Why nothing is known of endorsements.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The store does not list.
    #[error("the store does not show endorsements")]
    List(#[from] ListError),
    /// The store does not give one.
    #[error("an endorsement in the store cannot be read")]
    Get(#[from] GetError),
}

/// What is endorsed of one place, and what there does not count.
///
/// # Errors
/// [`GatherError`] when the store does not answer.
pub async fn gathered_at(
    store: &dyn BatchStore,
    trusting: Trusting<'_>,
    sequence: Sequence,
) -> Result<Gathered, GatherError> {
    let Trusting { stream, domain, quorum } = trusting;
    let nobody = Address::from_bytes([0; 20]);
    let mut start = Start::At(Key::Endorsement { stream, sequence, validator: nobody });
    let mut found = Vec::new();
    'pages: loop {
        let page = store.list(&start, PageLimit::MAX).await?;
        for key in page.keys {
            let Key::Endorsement { sequence: at, validator, .. } = key else { continue };
            if at != sequence || found.len() == OF_PLACE_MAX {
                break 'pages;
            }
            // Whoever may write there could name anybody: what is not by its name is none.
            if quorum.validators().contains(&validator) {
                found.extend(read(store, &key).await?);
            }
        }
        match page.next {
            Some(next) => start = next,
            None => break,
        }
    }
    Ok(quorum.gather(stream, domain, found))
}

async fn read(store: &dyn BatchStore, key: &Key) -> Result<Option<SignedEndorsement>, GetError> {
    let Key::Endorsement { stream, sequence, validator } = key else { return Ok(None) };
    let stored = match store.get(key).await {
        Err(GetError::TooLarge { .. }) => None,
        stored => stored?,
    };
    let endorsement = stored.and_then(|stored| SignedEndorsement::from_bytes(&stored).ok());
    Ok(endorsement.filter(|found| {
        let said = found.endorsement();
        (said.stream(), said.sequence()) == (*stream, *sequence) && found.recover() == Some(*validator)
    }))
}

/// The places at which somebody who counts endorsed something, the newest ones last: [`PLACES_MAX`] at most. Others crowd nobody out.
///
/// # Errors
/// [`GatherError`] when the store does not answer.
pub async fn places(store: &dyn BatchStore, trusting: Trusting<'_>) -> Result<Vec<Sequence>, GatherError> {
    let Trusting { stream, quorum, .. } = trusting;
    let nobody = Address::from_bytes([0; 20]);
    let mut start = Start::At(Key::Endorsement { stream, sequence: Sequence::FIRST, validator: nobody });
    let mut places = std::collections::BTreeSet::new();
    loop {
        let page = store.list(&start, PageLimit::MAX).await?;
        for key in page.keys {
            if let Key::Endorsement { sequence, validator, .. } = key
                && quorum.validators().contains(&validator)
            {
                places.insert(sequence);
                if places.len() > PLACES_MAX {
                    places.pop_first();
                }
            }
        }
        match page.next {
            Some(next) => start = next,
            None => return Ok(places.into_iter().collect()),
        }
    }
}

/// The newest checkpoint that a quorum has endorsed, with their signatures.
///
/// # Errors
/// [`GatherError`] when the store does not answer.
pub async fn newest(store: &dyn BatchStore, trusting: Trusting<'_>) -> Result<Option<Endorsed>, GatherError> {
    for sequence in places(store, trusting).await?.into_iter().rev() {
        let gathered = gathered_at(store, trusting, sequence).await?;
        if let Some(endorsed) = gathered.endorsed.into_iter().find(|endorsed| endorsed.has_quorum) {
            return Ok(Some(endorsed));
        }
    }
    Ok(None)
}
