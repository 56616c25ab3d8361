//! Room in which who has been reading for longest makes room for who comes.
//!
//! ```text
//! begins -> grows as its body comes -> whole: its room is its own
//!           ends where others need it
//! ```
//!
//! A small body comes in a moment, unless somebody holds it back. So where the room is full it is those who hold it back that lose
//! theirs, and never those whose body is whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::admission::{Admission, Room};

/// Room of a fixed size.
#[derive(Debug)]
pub(super) struct Yielding {
    admission: Admission,
    readers: Mutex<Readers>,
}

#[derive(Debug, Default)]
struct Readers {
    /// How many began so far.
    begun: u64,
    /// By when they began.
    reading: BTreeMap<u64, Reader>,
}

#[derive(Debug)]
struct Reader {
    room: Room,
    ended: Arc<Notify>,
}

impl Yielding {
    /// Room for this many bytes, all of it free.
    pub(super) fn new(bytes: usize) -> Self {
        Self { admission: Admission::new(bytes), readers: Mutex::default() }
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a body. `None` where whole bodies have all the room.
    pub(super) fn begin(&self) -> Option<Reading<'_>> {
        let mut readers = self.readers();
        let room = loop {
            match self.admission.take(0) {
                Some(room) => break room,
                None => readers.end_longest(u64::MAX)?,
            }
        };
        readers.begun += 1;
        let number = readers.begun;
        let ended = Arc::new(Notify::new());
        readers.reading.insert(number, Reader { room, ended: Arc::clone(&ended) });
        Some(Reading { all: self, number, ended })
    }
}

impl Readers {
    /// Ends who began first, if that was before this one.
    fn end_longest(&mut self, before: u64) -> Option<()> {
        let longest = self.reading.first_entry().filter(|longest| *longest.key() < before)?;
        longest.remove().ended.notify_one();
        Some(())
    }
}

/// A body that is read.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    all: &'a Yielding,
    number: u64,
    ended: Arc<Notify>,
}

impl Reading<'_> {
    /// Becomes room for this many bytes. Says whether it has as much; it has none where it was ended.
    pub(super) fn grow(&self, bytes: usize) -> bool {
        let mut readers = self.all.readers();
        loop {
            let Some(reader) = readers.reading.get_mut(&self.number) else { return false };
            if reader.room.grow(bytes) {
                return true;
            }
            if readers.end_longest(self.number).is_none() {
                return false;
            }
        }
    }

    /// Returns when its room was given to others.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// The room of a whole body, which nobody takes away any more. `None` where somebody has.
    pub(super) fn finish(self) -> Option<Room> {
        self.all.readers().reading.remove(&self.number).map(|reader| reader.room)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.all.readers().reading.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn is_ended(reading: &Reading<'_>) -> bool {
        reading.ended().now_or_never().is_some()
    }

    #[test]
    fn who_reads_for_longest_makes_room_and_a_whole_body_does_not() {
        const KIB: usize = 1 << 10;
        let room = Yielding::new(8 * KIB);
        let whole = room.begin().unwrap();
        assert!(whole.grow(3 * KIB - 1));
        let whole = whole.finish().unwrap();
        let (first, second) = (room.begin().unwrap(), room.begin().unwrap());
        assert!(first.grow(2 * KIB - 1) && second.grow(3 * KIB - 1), "all of it is taken");
        let third = room.begin().unwrap();
        assert!(is_ended(&first) && !is_ended(&second));
        assert!(!first.grow(0) && first.finish().is_none(), "its room is gone");
        assert!(third.grow(2 * KIB - 1) && !is_ended(&second), "what was given up is enough");
        assert!(!second.grow(4 * KIB - 1), "nobody is ended for one who has read for longer");
        assert!(!is_ended(&third));
        assert!(third.grow(5 * KIB - 1) && is_ended(&second));
        assert!(!third.grow(6 * KIB - 1), "a whole body keeps its room");
        drop((third, whole));
        assert!(room.begin().unwrap().grow(8 * KIB - 1), "all of it came back");
    }
}
