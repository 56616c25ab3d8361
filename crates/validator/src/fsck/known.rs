//! What was read, remembered up to a limit: above it nothing is said about what was not.

use std::collections::HashSet;
use std::hash::Hash;

/// Things that were seen.
#[derive(Debug)]
pub(super) struct Known<T> {
    /// `None` once there were too many.
    seen: Option<HashSet<T>>,
    limit: usize,
}

impl<T: Eq + Hash> Known<T> {
    /// Remembers so many.
    pub(super) fn up_to(limit: usize) -> Self {
        Self { seen: Some(HashSet::new()), limit }
    }

    /// When there are too many before any is remembered.
    pub(super) const fn too_many() -> Self {
        Self { seen: None, limit: 0 }
    }

    /// Remembers one; says whether it was not known before. Above the limit everything is new.
    pub(super) fn add(&mut self, one: T) -> bool {
        let Some(seen) = &mut self.seen else { return true };
        let is_new = seen.insert(one);
        if seen.len() > self.limit {
            self.seen = None;
        }
        is_new
    }

    /// Whether one was seen; `None` when there were too many to tell.
    pub(super) fn has(&self, one: &T) -> Option<bool> {
        self.seen.as_ref().map(|seen| seen.contains(one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_the_limit_nothing_is_said() {
        let mut known = Known::up_to(2);
        assert!(known.add(1) && known.add(2) && !known.add(1));
        assert_eq!((known.has(&1), known.has(&3)), (Some(true), Some(false)));
        assert!(known.add(3));
        assert_eq!((known.has(&1), known.has(&4)), (None, None));
        assert!(known.add(1), "it cannot be told, so it is read again");
    }
}
