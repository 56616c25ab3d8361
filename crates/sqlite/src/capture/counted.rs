//! Whether as many commits were captured as SQLite has counted: what a lost lock would hide shows here and nowhere else.

use super::CaptureError;
use super::follower::Follower;
use crate::file::wal_index::WalIndex;

/// Where what SQLite counted and what was captured were last compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    /// What the wal-index counted.
    pub(super) changes: u32,
    /// Commits that were captured.
    pub(super) commits: u64,
}

/// So near to its end a count that is smaller than the last one has come round, and is not that of a recovery, which begins at 0.
const COUNT_END: u32 = u32::MAX - (1 << 24);

impl Counted {
    /// How many commits SQLite has counted since; `None` after a recovery, which counts from 0 again.
    fn until(self, changes: u32) -> Option<u64> {
        let came_round = self.changes > COUNT_END && changes < 1 << 24;
        if changes >= self.changes || came_round {
            return Some(changes.wrapping_sub(self.changes).into());
        }
        None
    }
}

impl Follower {
    /// Whether as many commits were captured as SQLite has counted, once all of them should be. A generation of the WAL that began and
    /// ended unseen shows here and nowhere else: locks that something dropped leave no other trace.
    ///
    /// There may be more: SQLite counts a commit once that it has padded to a whole sector with copies of its last frame.
    pub(super) fn check_count(&mut self, index: &WalIndex) -> Result<(), CaptureError> {
        if self.position.frame != index.last_frame {
            return Ok(());
        }
        let Some(counted) = self.counted else {
            self.counted = Some(Counted { changes: index.changes, commits: self.statistics.commits });
            return Ok(());
        };
        let captured = self.statistics.commits - counted.commits;
        match counted.until(index.changes) {
            Some(made) if captured < made => return Err(CaptureError::Gap { frame: index.last_frame }),
            // The recovery stopped at a frame that was captured as committed. What came in its place was not.
            None if self.holds_unsummed() => return Err(CaptureError::Gap { frame: index.last_frame }),
            Some(_) | None => {}
        }
        self.counted = Some(Counted { changes: index.changes, commits: self.statistics.commits });
        Ok(())
    }

    /// The same when the WAL has begun anew, before anything of it is captured and kept: more is told by the count than this generation has
    /// when another one began and ended unseen.
    pub(super) fn check_generation(&self, index: &WalIndex) -> Result<(), CaptureError> {
        let Some(counted) = self.counted else { return Ok(()) };
        let mut commits = self.statistics.commits - counted.commits;
        let Some(made) = counted.until(index.changes) else { return Ok(()) };
        for frame in (1..=index.last_frame).rev() {
            if commits >= made {
                return Ok(());
            }
            commits += u64::from(self.database.pages.files.frame_header(frame)?.size_after != 0);
        }
        if commits >= made { Ok(()) } else { Err(CaptureError::Gap { frame: 0 }) }
    }
}
