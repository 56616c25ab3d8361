//! When a writer is warm: its WAL has been through a whole cycle.
//!
//! A new WAL grows while it is written for the first time, and a commit that makes a file longer costs more than one that overwrites it: with
//! `synchronous=FULL` the file system has its own books to sync as well. An application that has run for a while is past that, whoever
//! takes its checkpoints. The cycle that runs when somebody begins to look may have begun before an agent came, so the one after it counts.
//!
//! Only the file's header is read: SQLite draws other salts whenever it begins the WAL anew. It keeps its locks in other files, so that
//! this file may be opened and closed beside it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::bench::BenchError;

/// How often the WAL begins anew: the end of the cycle that runs, and of the whole one behind it.
const BEGINNINGS: u32 = 2;

/// Where the salts are in the header of a WAL, and as many bytes.
const SALTS_AT: u64 = 16;

/// The cycles of a WAL.
pub(super) struct Cycles {
    wal: File,
    salts: Option<[u8; 8]>,
    beginnings: u32,
}

impl Cycles {
    /// Those of a database that is open, from now on.
    pub(super) fn of(database: &Path) -> Result<Self, BenchError> {
        let wal = synddb_sqlite::name::beside(database, "-wal");
        let wal = File::open(wal).map_err(BenchError::system("look at the WAL"))?;
        let salts = salts(&wal);
        Ok(Self { wal, salts, beginnings: 0 })
    }

    /// Whether there was a whole one. To be asked after every commit.
    pub(super) fn is_whole(&mut self) -> bool {
        let now = salts(&self.wal);
        if now.is_some() && now != self.salts {
            self.salts = now;
            self.beginnings += 1;
        }
        self.beginnings >= BEGINNINGS
    }
}

/// None of one that was cut off and not begun anew yet.
fn salts(wal: &File) -> Option<[u8; 8]> {
    let mut salts = [0; 8];
    wal.read_exact_at(&mut salts, SALTS_AT).ok().map(|()| salts)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_cycle_is_whole_when_the_one_behind_the_first_end_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (database, wal) = (folder.path().join("app.db"), folder.path().join("app.db-wal"));
        let header = |salt: u8| fs::write(&wal, [&[0; 16][..], &[salt; 8], &[0; 8]].concat()).unwrap();
        header(1);
        let mut cycles = Cycles::of(&database).unwrap();
        assert!(!cycles.is_whole());
        header(2);
        assert!(!cycles.is_whole() && !cycles.is_whole());
        // It was cut off, and begins anew later.
        fs::write(&wal, []).unwrap();
        assert!(!cycles.is_whole());
        header(3);
        assert!(cycles.is_whole() && cycles.is_whole());
    }
}
