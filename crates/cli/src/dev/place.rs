//! Where the log of a database rests under `dev`: in its folder, or in a store that was named.
//!
//! A log lies in one store from its first batch to its last. So a store that was named is remembered for as long as the database is followed,
//! and another one is refused: agent, journal and replica would all stand on what it does not hold. Nothing is made before that is decided.

use synddb_storage::StoreUrl;

use crate::exit::CommandError;
use crate::folder::Folder;
use crate::refusal::{Refusal, check_writable};

/// Where the log of a database rests.
pub(super) struct Log {
    /// The store.
    pub(super) store: StoreUrl,
    /// Whether anything of the log may be there already.
    has_begun: bool,
}

impl Log {
    /// Forgets a store that the first sequencer did not open, so that whoever mistyped it can name the right one.
    pub(super) fn was_refused(&self, folder: &Folder) -> Result<(), CommandError> {
        if self.has_begun {
            return Ok(());
        }
        // A folder that is not empty stays.
        std::fs::remove_dir(folder.store()).ok();
        folder.set_named_store(None)
    }
}

/// The store of the log: the one where it lies already, else the one that is named, else the folder's own.
///
/// # Errors
/// [`Refusal`] for a store that cannot be written, or not by several processes, or that is not where the log lies.
pub(super) fn of_log(named: Option<&StoreUrl>, folder: &Folder) -> Result<Log, CommandError> {
    if let Some(store) = named {
        check_writable(store)?;
        if store.is_memory() {
            return Err(Refusal::UnsharedStore { store: store.clone().into() }.into());
        }
    }
    let own = own(folder)?;
    let known = match folder.named_store()? {
        _ if !folder.is_attached() => None,
        Some(known) => Some(known),
        None => folder.store().exists().then(|| own.clone()),
    };
    match (known, named) {
        (Some(known), Some(named)) if *named != known => {
            Err(Refusal::OtherStore { known: known.into(), named: named.clone().into() }.into())
        }
        (Some(known), _) => Ok(Log { store: known, has_begun: true }),
        (None, named) => Ok(Log { store: named.cloned().unwrap_or(own), has_begun: false }),
    }
}

/// Remembers the store, and makes its folder where it is the own one. Others are made by whoever opens them first.
pub(super) fn keep(store: &StoreUrl, folder: &Folder) -> Result<(), CommandError> {
    if *store == own(folder)? {
        std::fs::create_dir_all(folder.store()).map_err(CommandError::system("make a folder"))?;
        return folder.set_named_store(None);
    }
    folder.set_named_store(Some(store))
}

fn own(folder: &Folder) -> Result<StoreUrl, CommandError> {
    let own = std::path::absolute(folder.store()).map_err(CommandError::system("find"))?;
    Ok(StoreUrl::folder(&own)?)
}
