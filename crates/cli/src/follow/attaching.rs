//! What attaching is about to change, and what stays different as long as a database is followed: said before it is done.

use std::path::Path;

use synddb_sqlite::inspect::{Head, JournalMode, users_of};

use crate::doctor::{named, risk};
use crate::folder::Folder;
use crate::output::{Event, Writer};

/// Only for a process that has no connection to the database yet (`Head::read`).
pub(super) fn attaching(database: &Path, folder: &Folder, wal_mib: u64) -> Event {
    let is_wal =
        matches!(Head::read(database), Ok(Head::Database(form)) if form.journal_mode == JournalMode::Wal);
    let makes = (!folder.path().exists()).then(|| folder.path().display().to_string());
    let writers = users_of(database).users.into_iter().filter(|user| !user.is_ours).flat_map(|user| {
        let at_risk = user.sqlite.iter().filter_map(|version| Some((*version, risk(*version)?)));
        let who = named(&user);
        at_risk
            .map(|(version, risk)| Writer { who: who.clone(), sqlite: version.to_string(), risk })
            .collect::<Vec<_>>()
    });
    Event::Attaching {
        database: database.display().to_string(),
        switches_to_wal: !is_wal,
        makes,
        wal_limit_mib: wal_mib,
        writers_at_risk: writers.collect(),
    }
}
