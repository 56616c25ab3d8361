//! Everything that a store holds, whatever its name: for tools that look for what nobody reads.
//!
//! A reader computes keys and needs none of this. A listing by keys ends at the first name that is none; here such names are told
//! like all others. Nothing is read but names and sizes, in the order in which the backend tells them, and nothing is kept.

use futures::TryStreamExt as _;
use object_store::path::Path;
use synddb_protocol::id::StreamId;

use crate::failure::failure_of;
use crate::key::Key;
use crate::lease::LeaseName;
use crate::object::{Ability, ObjectBatchStore};
use crate::store::Failure;

/// The name of something that lies in a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// It is a key.
    Key(Key),
    /// It is the lease of a stream.
    Lease(LeaseName),
    /// It is neither.
    Foreign(String),
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Lease(name) => name.fmt(f),
            Self::Foreign(name) => name.fmt(f),
        }
    }
}

impl ObjectBatchStore {
    /// The streams of which the store holds anything, ascending. What else lies beside them is left out.
    ///
    /// # Errors
    /// [`Failure`] when the store does not answer.
    pub async fn streams(&self) -> Result<Vec<StreamId>, Failure> {
        self.can(Ability::List)?;
        let found = self.objects().list_with_delimiter(None).await.map_err(failure_of)?;
        let names =
            found.common_prefixes.iter().filter_map(|prefix| StreamId::from_key(prefix.as_ref()).ok());
        let mut streams: Vec<StreamId> = names.collect();
        streams.sort_unstable();
        Ok(streams)
    }

    /// Tells every object of a stream, by name and size in bytes, in no order.
    ///
    /// # Errors
    /// [`Failure`] when the store does not answer; some were told by then.
    pub async fn names(
        &self,
        stream: StreamId,
        mut each: impl FnMut(Name, u64) + Send,
    ) -> Result<(), Failure> {
        self.can(Ability::List)?;
        let mut entries = self.objects().list(Some(&Path::from(stream.to_key())));
        while let Some(entry) = entries.try_next().await.map_err(failure_of)? {
            let name = String::from(entry.location);
            each(named(name), entry.size);
        }
        Ok(())
    }
}

/// What a name is.
pub(crate) fn named(name: String) -> Name {
    let key = name.parse().map(Name::Key).ok();
    let known = key.or_else(|| name.parse().map(Name::Lease).ok());
    known.unwrap_or(Name::Foreign(name))
}
