//! The door that queries go through: so many at a time, and none while the replica's owner needs the file for itself.
//!
//! ```text
//! comes -> a place is free: inside -> leaves, and the next is let in
//!       -> none is:         waits  -> in turn | its patience ends | somebody else's place in the queue is fairer
//! ```
//!
//! Whose turn it is goes by client: of those who wait, the one with the fewest inside, of these the one who was let in the longest ago, and of
//! its questions the first. So a client that asks for much waits for itself, and one that asks for little for one query of the others. The queue is bounded; where it is full, the
//! client that fills it most gives up its last place to one that has fewer.
//!
//! Whoever closes the door lets nobody in from then on and waits until the last query has left, which each does within its time. Who reads
//! whole tables comes in beside the queries, one at a time, and takes no place of theirs; whoever closes waits for it first, while queries
//! still come in.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use synddb_service::http::Peer;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

/// Who asks, as far as fairness goes: an address, or nobody's.
pub(crate) type Client = Option<Peer>;

/// The door. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    queue: Arc<Mutex<Queue>>,
    /// Somebody left.
    left: Arc<Notify>,
    scans: Arc<Semaphore>,
    bounds: Bounds,
}

/// How many go through a door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Most that are inside.
    pub(crate) inside: usize,
    /// Most that wait.
    pub(crate) waiting: usize,
    /// The longest that one waits.
    pub(crate) patience: Duration,
}

/// Who is inside, and who waits, in the order in which they came.
#[derive(Debug, Default)]
struct Queue {
    inside: HashMap<Client, usize>,
    waiting: VecDeque<Waiter>,
    /// How often somebody was let in, and how often when a client was for the last time: of those who are here, and of some who were.
    turns: u64,
    last: HashMap<Client, u64>,
    closers: usize,
}

#[derive(Debug)]
struct Waiter {
    client: Client,
    tell: oneshot::Sender<Turn>,
}

/// A query that is inside. Let go by dropping it.
#[derive(Debug)]
pub(crate) struct Turn {
    door: Door,
    client: Client,
}

/// Who reads whole tables. Let go by dropping it.
#[derive(Debug)]
pub(crate) struct Scan(#[expect(dead_code, reason = "held, and not looked at")] OwnedSemaphorePermit);

/// The door while it is closed, or closes. Opened by dropping it.
#[derive(Debug)]
pub(crate) struct Closed {
    door: Door,
    _scan: Scan,
}

/// Why somebody was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// As many wait as may.
    Full,
    /// Nobody left in time.
    Late,
}

impl Door {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { queue: Arc::default(), left: Arc::default(), scans: Arc::new(Semaphore::new(1)), bounds }
    }

    /// For a file that nobody asks.
    pub(crate) fn unused() -> Self {
        Self::new(Bounds { inside: 1, waiting: 0, patience: Duration::ZERO })
    }

    /// Comes in, at once or in turn.
    pub(crate) async fn enter(&self, client: Client) -> Result<Turn, TurnedAway> {
        let (tell, told) = oneshot::channel();
        {
            let mut queue = self.queue();
            if queue.waiting.is_empty() && queue.has_place(self.bounds) {
                return Ok(self.let_in(&mut queue, client));
            }
            queue.wait(Waiter { client, tell }, self.bounds)?;
        }
        match tokio::time::timeout(self.bounds.patience, told).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) => Err(TurnedAway::Full),
            Err(_) => Err(TurnedAway::Late),
        }
    }

    /// The same for whoever reads whole tables: `None` while somebody does, or the door is closed.
    pub(crate) fn enter_to_scan(&self) -> Option<Scan> {
        Arc::clone(&self.scans).try_acquire_owned().ok().map(Scan)
    }

    /// Closes the door, and waits until nobody is inside.
    pub(crate) async fn close(&self) -> Option<Closed> {
        let scan = Arc::clone(&self.scans).acquire_owned().await.ok()?;
        self.queue().closers += 1;
        // From here on it is opened again also when nobody waits for it to be closed any more.
        let closed = Closed { door: self.clone(), _scan: Scan(scan) };
        loop {
            let left = self.left.notified();
            if self.queue().inside.is_empty() {
                return Some(closed);
            }
            left.await;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_in(&self, queue: &mut Queue, client: Client) -> Turn {
        queue.let_in(client, self.bounds);
        Turn { door: self.clone(), client }
    }

    /// Lets in who waits, as far as there are places.
    fn admit(&self) {
        loop {
            let unwanted = {
                let mut queue = self.queue();
                let Some(next) = queue.next(self.bounds) else { return };
                let turn = self.let_in(&mut queue, next.client);
                next.tell.send(turn).err()
            };
            // Who gave up in between leaves again, which takes the queue.
            drop(unwanted);
        }
    }
}

impl Queue {
    fn has_place(&self, bounds: Bounds) -> bool {
        self.closers == 0 && self.inside.values().sum::<usize>() < bounds.inside
    }

    fn let_in(&mut self, client: Client, bounds: Bounds) {
        if self.last.len() > bounds.inside + bounds.waiting {
            let here = |client: &Client| {
                self.inside.contains_key(client) || self.waiting.iter().any(|waiter| waiter.client == *client)
            };
            self.last.retain(|client, _| here(client));
        }
        *self.inside.entry(client).or_default() += 1;
        self.turns += 1;
        self.last.insert(client, self.turns);
    }

    /// Takes a place at the end, from whoever has the most of them where there is none.
    fn wait(&mut self, waiter: Waiter, bounds: Bounds) -> Result<(), TurnedAway> {
        self.waiting.retain(|waiter| !waiter.tell.is_closed());
        if self.waiting.len() >= bounds.waiting {
            let mut places: HashMap<Client, usize> = HashMap::new();
            for waiter in &self.waiting {
                *places.entry(waiter.client).or_default() += 1;
            }
            let own = places.get(&waiter.client).copied().unwrap_or(0);
            let most = places.values().max().copied().unwrap_or(0);
            let last = self.waiting.iter().rposition(|waiter| places.get(&waiter.client) == Some(&most));
            let Some(last) = last.filter(|_| most > own + 1) else { return Err(TurnedAway::Full) };
            self.waiting.remove(last);
        }
        self.waiting.push_back(waiter);
        Ok(())
    }

    /// Whose turn it is.
    fn next(&mut self, bounds: Bounds) -> Option<Waiter> {
        self.waiting.retain(|waiter| !waiter.tell.is_closed());
        if !self.has_place(bounds) {
            return None;
        }
        let order = |waiter: &Waiter| {
            let inside = self.inside.get(&waiter.client).copied().unwrap_or(0);
            (inside, self.last.get(&waiter.client).copied().unwrap_or(0))
        };
        let (place, _) = self.waiting.iter().enumerate().min_by_key(|(_, waiter)| order(waiter))?;
        self.waiting.remove(place)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut queue = self.door.queue();
            if let Some(count) = queue.inside.get_mut(&self.client) {
                *count -= 1;
                if *count == 0 {
                    queue.inside.remove(&self.client);
                }
            }
        }
        self.door.left.notify_waiters();
        self.door.admit();
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.door.queue().closers -= 1;
        self.door.admit();
    }
}

#[cfg(test)]
mod tests {
    use std::mem::take;
    use std::net::IpAddr;
    use std::pin::pin;

    use futures::poll;

    use super::*;

    const BOUNDS: Bounds = Bounds { inside: 2, waiting: 4, patience: Duration::from_secs(10) };

    fn client(last: u8) -> Client {
        Some(Peer::from(IpAddr::from([127, 0, 0, last])))
    }

    #[tokio::test]
    async fn nobody_enters_a_door_that_closes() {
        let door = Door::new(BOUNDS);
        let inside = door.enter(None).await.unwrap();
        let scanning = door.enter_to_scan().unwrap();
        assert!(door.enter_to_scan().is_none(), "one at a time");
        let mut closing = Box::pin(door.close());
        assert!(poll!(&mut closing).is_pending());
        let other = door.enter(None).await.unwrap();
        drop((scanning, other));
        assert!(poll!(&mut closing).is_pending(), "one is inside");
        let mut waits = pin!(door.enter(None));
        assert!(poll!(&mut waits).is_pending(), "one place is free, and it is kept");
        drop(inside);
        let closed = closing.await.unwrap();
        assert!(poll!(&mut waits).is_pending() && door.enter_to_scan().is_none());
        drop(closed);
        let _turn = waits.await.unwrap();
        assert!(door.enter_to_scan().is_some());
        let mut closing = Box::pin(door.close());
        assert!(poll!(&mut closing).is_pending());
        drop(closing);
        door.enter(None).await.unwrap();
    }

    #[tokio::test]
    async fn who_has_the_fewest_inside_is_next() {
        let door = Door::new(BOUNDS);
        let (one, two) = (door.enter(client(1)).await.unwrap(), door.enter(client(1)).await.unwrap());
        let mut greedy = Box::pin(door.enter(client(1)));
        let mut modest = Box::pin(door.enter(client(2)));
        assert!(poll!(&mut greedy).is_pending() && poll!(&mut modest).is_pending());
        drop(one);
        assert!(poll!(&mut greedy).is_pending(), "it came first, and has one inside");
        let modest = modest.await.unwrap();
        drop(two);
        let _greedy = greedy.await.unwrap();
        drop(modest);
    }

    #[tokio::test]
    async fn clients_take_turns_where_one_is_inside_at_a_time() {
        let door = Door::new(Bounds { inside: 1, ..BOUNDS });
        let mut inside = door.enter(client(1)).await.unwrap();
        let mut greedy: VecDeque<_> = (0..3).map(|_| Box::pin(door.enter(client(1)))).collect();
        for waits in &mut greedy {
            assert!(poll!(waits).is_pending());
        }
        for last in 2..20 {
            let mut modest = Box::pin(door.enter(client(last)));
            assert!(poll!(&mut modest).is_pending());
            drop(inside);
            inside = modest.await.unwrap();
        }
        drop(inside);
        let _inside = greedy.pop_front().unwrap().await.unwrap();
        assert!(door.queue().last.len() <= BOUNDS.waiting + 2, "who is gone is forgotten");
    }

    #[tokio::test]
    async fn a_full_queue_makes_room_for_who_has_fewer_places_in_it() {
        let door = Door::new(BOUNDS);
        let _inside = [door.enter(client(1)).await.unwrap(), door.enter(client(1)).await.unwrap()];
        let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(door.enter(client(1)))).collect();
        for waits in &mut waiting {
            assert!(poll!(waits).is_pending());
        }
        assert_eq!(door.enter(client(1)).await.unwrap_err(), TurnedAway::Full);
        let mut others: Vec<_> = [2, 3].map(|last| Box::pin(door.enter(client(last)))).into();
        for waits in &mut others {
            assert!(poll!(waits).is_pending());
        }
        for displaced in waiting.drain(2..) {
            assert_eq!(displaced.await.unwrap_err(), TurnedAway::Full);
        }
        // Each has two or one now, and who comes would have as many.
        assert_eq!(door.enter(client(2)).await.unwrap_err(), TurnedAway::Full);
        // Who gives up leaves its place.
        drop(others.pop());
        let mut waits = Box::pin(door.enter(client(2)));
        assert!(poll!(&mut waits).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_and_leaves_nothing_behind() {
        let door = Door::new(BOUNDS);
        let inside = [door.enter(None).await.unwrap(), door.enter(None).await.unwrap()];
        assert_eq!(door.enter(None).await.unwrap_err(), TurnedAway::Late);
        drop(inside);
        let queue = take(&mut *door.queue());
        assert!(queue.inside.is_empty());
        assert!(queue.waiting.iter().all(|waiter| waiter.tell.is_closed()));
    }
}
