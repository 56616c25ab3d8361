//! Faults that a test plants to show that it would find them.
//!
//! Without the feature `probes` no fault can be planted, and every question is answered at compile time.

/// A fault of the kind that captures of this sort have had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A payload that changed only on its overflow pages is taken for unchanged.
    SkipOverflowChains,
    /// A page is taken for what its new type byte says, not for what it was.
    TrustPageType,
    /// Frames that no commit made valid are read.
    ReadPastLastFrame,
    /// Rows on interior pages of WITHOUT ROWID tables are not seen.
    DropInteriorRows,
    /// Rows on pages that were freed, and so are not in the WAL, are not seen.
    ForgetFreedPages,
    /// Pages that a tree gave up are still taken for its own.
    KeepStaleLabels,
    /// A page that hangs on another parent now is looked for below its old one.
    KeepOldParents,
    /// Overflow pages of a row that moved to another leaf are taken to belong to the old one.
    KeepOldOwners,
    /// A record that is shorter than its table is filled up with NULL instead of defaults.
    IgnoreDefaults,
    /// A real that is stored as an integer is read as one.
    IgnoreRealAffinity,
    /// A cell of equal bytes is taken for an equal row, whatever its overflow pages hold.
    TrustEqualCells,
    /// Of a page that was spilled and written again in one commit, the first frame is taken for the last.
    KeepFirstFrame,
    /// Frames and pages of a generation of the WAL that has ended are taken for the running one's.
    KeepEndedGeneration,
    /// A commit that stands directly before another one in the WAL is taken for a part of it.
    MergeCommits,
    /// A page before a commit is looked for in the database file alone, which does not hold yet what only the WAL has.
    ReadBehindWal,
    /// A root page that moved is looked for at its old place.
    LookAtOldRoots,
    /// A renamed table is taken for a new one, so that its rows come twice.
    DoubleRenamedTables,
    /// The child behind the last cell of an interior page is not seen.
    SkipRightmostChild,
    /// `user_version` and `application_id` are read as they were before the commit.
    ReadHeaderBefore,
    /// Rows of `sqlite_sequence` are not captured.
    LeaveOutSequence,
    /// The bytes at the end of each page that belong to an extension are taken for SQLite's.
    IgnoreReservedBytes,
    /// The last page of an overflow chain is not read.
    CutLastOverflowPage,
    /// The key of a WITHOUT ROWID table is taken to stand where the table's text names it, not first.
    KeyInTableOrder,
    /// An INTEGER PRIMARY KEY is read from the record, where it is NULL.
    LoseIntegerKey,
    /// The integers 0 and 1, which take no bytes in a record, are read as NULL.
    IgnoreConstantTypes,
    /// A text is taken to end at its first zero byte.
    EndTextAtNul,
    /// The state before a large commit is told with rows of that commit in it.
    CountUnderWay,
}

impl Bug {
    /// Every fault.
    pub const ALL: [Self; 27] = [
        Self::SkipOverflowChains,
        Self::TrustPageType,
        Self::ReadPastLastFrame,
        Self::DropInteriorRows,
        Self::ForgetFreedPages,
        Self::KeepStaleLabels,
        Self::KeepOldParents,
        Self::KeepOldOwners,
        Self::IgnoreDefaults,
        Self::IgnoreRealAffinity,
        Self::TrustEqualCells,
        Self::KeepFirstFrame,
        Self::KeepEndedGeneration,
        Self::MergeCommits,
        Self::ReadBehindWal,
        Self::LookAtOldRoots,
        Self::DoubleRenamedTables,
        Self::SkipRightmostChild,
        Self::ReadHeaderBefore,
        Self::LeaveOutSequence,
        Self::IgnoreReservedBytes,
        Self::CutLastOverflowPage,
        Self::KeyInTableOrder,
        Self::LoseIntegerKey,
        Self::IgnoreConstantTypes,
        Self::EndTextAtNul,
        Self::CountUnderWay,
    ];
}

#[cfg(feature = "probes")]
static PLANTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(usize::MAX);

/// Plants a fault in this process, or takes it out again.
#[cfg(feature = "probes")]
pub fn plant(bug: Option<Bug>) {
    let place = bug.map_or(usize::MAX, |bug| bug as usize);
    PLANTED.store(place, std::sync::atomic::Ordering::SeqCst);
}

/// Whether this fault is planted.
#[cfg(feature = "probes")]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as usize
}

/// Whether this fault is planted.
#[cfg(not(feature = "probes"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
