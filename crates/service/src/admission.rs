//! How much memory everything of one kind may take, bodies or answers: beyond it a request is refused as busy.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one permit.
const UNIT: usize = 1 << 10;

/// Room of a fixed size. Clones are the same.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Semaphore>);

/// Room that something takes while this lives.
#[derive(Debug)]
pub struct Room(OwnedSemaphorePermit);

impl Admission {
    /// Room for this many bytes, all of it free.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT)))
    }

    /// Room for this many bytes; `None` when there is none.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Option<Room> {
        Arc::clone(&self.0).try_acquire_many_owned(units(bytes)?).ok().map(Room)
    }

    /// Whether this many bytes would find room now.
    #[must_use]
    pub fn fits(&self, bytes: usize) -> bool {
        units(bytes).is_some_and(|units| units as usize <= self.0.available_permits())
    }
}

impl Room {
    /// Takes other room together with this.
    pub fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }

    /// Becomes room for this many bytes, if it is less and there is as much. Says whether it is enough now.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let Some(wanted) = units(bytes) else { return false };
        let Some(more) = u32::try_from(self.0.num_permits()).ok().and_then(|held| wanted.checked_sub(held))
        else {
            return true;
        };
        let more = Arc::clone(self.0.semaphore()).try_acquire_many_owned(more);
        more.map(|more| self.0.merge(more)).is_ok()
    }
}

fn units(bytes: usize) -> Option<u32> {
    u32::try_from(bytes / UNIT + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_as_far_as_there_is_any_and_comes_back_whole() {
        let admission = Admission::new(10 * UNIT);
        let mut room = admission.take(0).unwrap();
        assert!(room.grow(1) && room.grow(UNIT - 1) && admission.fits(9 * UNIT - 1));
        assert!(room.grow(6 * UNIT) && !admission.fits(3 * UNIT));
        assert!(!room.grow(10 * UNIT), "there is room for less than that");
        assert!(admission.fits(3 * UNIT - 1), "what was refused took nothing");
        drop(room);
        assert!(admission.fits(10 * UNIT - 1));
    }
}
