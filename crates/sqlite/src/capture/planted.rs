//! Faults that a test plants to show that it would find them.
//!
//! Without the feature `planted-bugs` no fault can be planted, and every question is answered at compile time.

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
    /// A record that is shorter than its table is filled up with NULL instead of defaults.
    IgnoreDefaults,
    /// A real that is stored as an integer is read as one.
    IgnoreRealAffinity,
    /// A cell of equal bytes is taken for an equal row, whatever its overflow pages hold.
    TrustEqualCells,
}

impl Bug {
    /// Every fault.
    pub const ALL: [Self; 10] = [
        Self::SkipOverflowChains,
        Self::TrustPageType,
        Self::ReadPastLastFrame,
        Self::DropInteriorRows,
        Self::ForgetFreedPages,
        Self::KeepStaleLabels,
        Self::KeepOldParents,
        Self::IgnoreDefaults,
        Self::IgnoreRealAffinity,
        Self::TrustEqualCells,
    ];
}

#[cfg(feature = "planted-bugs")]
static PLANTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(usize::MAX);

/// Plants a fault in this process, or takes it out again.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    let place = bug.map_or(usize::MAX, |bug| bug as usize);
    PLANTED.store(place, std::sync::atomic::Ordering::SeqCst);
}

/// Whether this fault is planted.
#[cfg(feature = "planted-bugs")]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as usize
}

/// Whether this fault is planted.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
