//! The door that queries go through: so many at a time, and none while the replica's owner needs the file for itself.
//!
//! Whoever closes it lets nobody in from then on and waits until the last query has left, which each does within its time. Who reads whole
//! tables comes in beside the queries, one at a time, and takes no place of theirs.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The door. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    turns: Arc<Semaphore>,
    most: u32,
    scans: Arc<Semaphore>,
}

/// A query that is inside, or the door while it is closed. Let go by dropping it.
#[derive(Debug)]
pub(crate) struct Turn(#[allow(dead_code, reason = "held, and not looked at")] Vec<OwnedSemaphorePermit>);

impl Door {
    /// For `most` queries at a time.
    pub(crate) fn new(most: usize) -> Self {
        let most = u32::try_from(most)
            .unwrap_or(u32::MAX)
            .min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self { turns: Arc::new(Semaphore::new(most as usize)), most, scans: Arc::new(Semaphore::new(1)) }
    }

    /// `None` when as many are inside as may, or the door is closed.
    pub(crate) fn enter(&self) -> Option<Turn> {
        Arc::clone(&self.turns).try_acquire_owned().ok().map(|turn| Turn(vec![turn]))
    }

    /// The same for whoever reads whole tables: `None` while somebody does, or the door is closed.
    pub(crate) fn enter_to_scan(&self) -> Option<Turn> {
        Arc::clone(&self.scans).try_acquire_owned().ok().map(|turn| Turn(vec![turn]))
    }

    /// Closes the door, and waits until nobody is inside. Turns that are given back go to who waits, so nobody enters meanwhile.
    pub(crate) async fn close(&self) -> Option<Turn> {
        let queries = Arc::clone(&self.turns).acquire_many_owned(self.most).await.ok()?;
        let scan = Arc::clone(&self.scans).acquire_owned().await.ok()?;
        Some(Turn(vec![queries, scan]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_enters_a_door_that_closes() {
        let door = Door::new(2);
        let inside = door.enter().unwrap();
        let mut closing = Box::pin(door.close());
        assert!(futures::poll!(&mut closing).is_pending());
        assert!(door.enter().is_none(), "one place is free, and it is kept");
        drop(inside);
        let closed = closing.await.unwrap();
        assert!(door.enter().is_none() && door.enter_to_scan().is_none());
        drop(closed);
        assert!(door.enter().is_some());
        let scanning = door.enter_to_scan().unwrap();
        assert!(door.enter_to_scan().is_none(), "one at a time");
        assert!(futures::poll!(&mut Box::pin(door.close())).is_pending());
        drop(scanning);
    }
}
