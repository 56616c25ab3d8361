//! Who reads, by client. Pure, but for the lock.
//!
//! Where all seats are taken, the client that has the most gives up its last one to one that has fewer by two at least: so one client takes as many as
//! nobody else wants.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::door::Client;

/// All seats. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Seats {
    book: Arc<Mutex<Book>>,
    most: usize,
}

#[derive(Debug, Default)]
struct Book {
    /// How many were ever taken.
    count: u64,
    taken: BTreeMap<u64, (Client, CancellationToken)>,
}

/// A seat. Given back by dropping it.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    number: u64,
    /// Cancelled when another client has it.
    pub(super) left: CancellationToken,
}

impl Seats {
    pub(super) fn new(most: usize) -> Self {
        Self { book: Arc::default(), most }
    }

    /// A seat, if there is one for this client.
    pub(super) fn take(&self, client: Client) -> Option<Seat> {
        let mut book = self.book();
        if book.taken.len() >= self.most {
            let number = book.to_give_up(client)?;
            let (_, left) = book.taken.remove(&number)?;
            left.cancel();
        }
        book.count += 1;
        let (number, left) = (book.count, CancellationToken::new());
        book.taken.insert(number, (client, left.clone()));
        drop(book);
        Some(Seat { seats: self.clone(), number, left })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// The seat that somebody gives up for this client.
    fn to_give_up(&self, client: Client) -> Option<u64> {
        // How many a client has, and its last one.
        let mut clients: HashMap<Client, (usize, u64)> = HashMap::new();
        for (number, (client, _)) in &self.taken {
            let (has, last) = clients.entry(*client).or_default();
            (*has, *last) = (*has + 1, *number);
        }
        let mine = clients.get(&client).map_or(0, |(has, _)| *has);
        let (has, last) = clients.into_values().max()?;
        (has > mine + 1).then_some(last)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.book().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use synddb_service::http::Peer;

    use super::*;

    fn client(last: u8) -> Client {
        Some(Peer::from(IpAddr::from([127, 0, 0, last])))
    }

    #[test]
    fn a_client_with_many_makes_room_for_others_until_all_have_about_as_many() {
        let seats = Seats::new(4);
        let many: Vec<Seat> = (0..4).map(|_| seats.take(client(1)).unwrap()).collect();
        let left = || many.iter().map(|seat| seat.left.is_cancelled()).collect::<Vec<_>>();
        assert!(seats.take(client(1)).is_none(), "it gives up nothing for itself");
        let second = seats.take(client(2)).unwrap();
        assert_eq!(left(), [false, false, false, true], "its last one");
        let third = seats.take(client(3)).unwrap();
        assert_eq!(left(), [false, false, true, true]);
        assert!(seats.take(client(3)).is_none() && seats.take(client(1)).is_none());
        assert!(seats.take(None).is_some_and(|seat| !seat.left.is_cancelled()));
        assert_eq!(left(), [false, true, true, true]);
        // That one is free again, and one who has left gives nothing back twice.
        drop(many);
        let again: Vec<_> = (0..3).map(|_| seats.take(client(3))).collect();
        assert_eq!(again.iter().filter(|seat| seat.is_some()).count(), 2);
        drop((second, third));
    }
}
