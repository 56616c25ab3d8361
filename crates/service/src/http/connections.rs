//! Who may be connected: so many, and not for saying nothing.
//!
//! ```text
//! accepted -> owes a head -> owes a body -> is worked for -> owes a head -> ...
//!             closed first   closed next    never closed
//! ```
//!
//! Where every seat is taken, somebody who owes something gives its seat to the one who comes: the one who has owed it for longest, in
//! proportion to how long that is borne ([`patience`]). So neither those who say nothing, nor those who were answered once, nor those
//! whose bodies drip keep out who works, or who comes and says at once what it wants; in a flood of all of them everybody's time shrinks
//! alike, and it is longest for who showed a credential. What must stay true: a connection is worked for from its whole body until its
//! answer was handed over, and is not closed for others meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as WallInstant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::trouble::Trouble;

/// Most connections of a listener unless somebody says otherwise.
const CONNECTIONS_MAX: NonZero<usize> = NonZero::new(16_384).expect("it is more than none");

/// Most of them that come from one address unless somebody says otherwise. Behind a proxy all do.
const CONNECTIONS_PER_PEER_MAX: NonZero<usize> = NonZero::new(8192).expect("it is more than none");

/// Files that are left to everything but connections: journals, stores, databases.
const FILES_RESERVED: usize = 512;

const _: () = assert!(CONNECTIONS_PER_PEER_MAX.get() < CONNECTIONS_MAX.get());

/// How many may be connected to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionBounds {
    /// Most connections. Fewer where the process may not open as many files.
    pub connections_max: NonZero<usize>,
    /// Most of them that come from one address, an IPv6 network of 64 bits being one. Behind a proxy all come from one.
    pub connections_per_peer_max: NonZero<usize>,
}

impl Default for ConnectionBounds {
    fn default() -> Self {
        Self { connections_max: CONNECTIONS_MAX, connections_per_peer_max: CONNECTIONS_PER_PEER_MAX }
    }
}

impl ConnectionBounds {
    /// The same, as far as this process may open files.
    fn within_files(self) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let Some(files) = limit.and_then(|files| usize::try_from(files).ok()) else { return self };
        let possible = self.within(files);
        if possible == self {
            return self;
        }
        tracing::warn!(
            files_max = files,
            connections_max = possible.connections_max,
            connections_per_peer_max = possible.connections_per_peer_max,
            "the limit of open files allows fewer connections than are configured; raise it (`ulimit -Hn`, `LimitNOFILE=` of a unit), or lower `http.connections_max`"
        );
        possible
    }

    /// The same, with so many files. One address keeps its part of the whole, so that it cannot take all of what is left.
    fn within(self, files: usize) -> Self {
        let [whole, part] = [self.connections_max, self.connections_per_peer_max].map(NonZero::get);
        let possible = files.saturating_sub(FILES_RESERVED).max(files / 2);
        if possible >= whole {
            return self;
        }
        let share = part as u128 * possible as u128 / whole as u128;
        let at_least_one = |most| NonZero::new(most).unwrap_or(NonZero::<usize>::MIN);
        Self {
            connections_max: at_least_one(possible),
            connections_per_peer_max: at_least_one(usize::try_from(share).unwrap_or(usize::MAX)),
        }
    }
}

/// Where a connection comes from, as far as shares go: an address, or a network of IPv6. The requests of a connection have it among their
/// extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        const NETWORK: u128 = u128::MAX << 64;
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// What a connection owes to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Debt {
    Head,
    Body,
}

/// What is known of who is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Was never answered.
    New,
    /// Was answered.
    Answered,
    /// Showed a credential that was accepted.
    Admitted,
}

/// The place of a connection among those who owe the same and stand alike; the number is that of the event since which it is owed.
type Place = (Debt, Standing, u64);

/// All that a connection can be that owes something; where several have waited alike, who stands first is closed first.
const ALIKE: [(Debt, Standing); 6] = [
    (Debt::Head, Standing::New),
    (Debt::Body, Standing::New),
    (Debt::Head, Standing::Answered),
    (Debt::Body, Standing::Answered),
    (Debt::Body, Standing::Admitted),
    (Debt::Head, Standing::Admitted),
];

/// How long something may be owed, in proportion to the others.
///
/// One who comes has to get as far as its request over a slow line; one who works pauses between two of them. Who holds a credential is known
/// to whoever gave it.
const fn patience(debt: Debt, standing: Standing) -> Duration {
    let seconds = match (debt, standing) {
        (Debt::Head | Debt::Body, Standing::New) => 1,
        (Debt::Head | Debt::Body, Standing::Answered) | (Debt::Body, Standing::Admitted) => 2,
        (Debt::Head, Standing::Admitted) => 60,
    };
    Duration::from_secs(seconds)
}

/// How much of what is borne was owed by now.
fn used(place: Place, owing: &Owing, now: Instant) -> f64 {
    let (debt, standing, _) = place;
    now.duration_since(owing.since).div_duration_f64(patience(debt, standing))
}

/// Where a connection stands. Changed only while the book is open.
struct Account {
    standing: Standing,
    place: Option<Place>,
}

/// The seats of a listener.
pub(super) struct Seats {
    bounds: ConnectionBounds,
    book: Arc<Book>,
}

#[derive(Default)]
struct Book {
    entries: Mutex<Entries>,
    /// Somebody left, or owes something from now on.
    changed: Notify,
}

#[derive(Default)]
struct Entries {
    /// Events so far.
    events: u64,
    seated: usize,
    owing: BTreeMap<Place, Owing>,
    peers: HashMap<Peer, usize>,
    trouble: Trouble,
}

struct Owing {
    peer: Option<Peer>,
    since: Instant,
    leave: Arc<Leave>,
}

/// How a connection is asked to leave.
struct Leave {
    asked: Notify,
    /// Whether its seat is its own still. One who is asked to leave has given it on, and is gone in a moment.
    is_seated: AtomicBool,
}

impl Book {
    fn open(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Who is closed next among these.
    fn next_to_leave(&self, among: impl Fn(&Owing) -> bool) -> Option<Place> {
        let now = Instant::now();
        let longest = ALIKE.iter().filter_map(|(debt, standing)| {
            let mut alike = self.owing.range((*debt, *standing, 0)..=(*debt, *standing, u64::MAX));
            let (place, owing) = alike.find(|(_, owing)| among(owing))?;
            Some((*place, used(*place, owing, now)))
        });
        // Of equals the last is taken: whoever is to go first comes last.
        longest.rev().max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(place, _)| place)
    }

    /// Asks one among these to leave. Says whether there is one.
    fn ask_to_leave(&mut self, among: impl Fn(&Owing) -> bool, why: &'static str) -> bool {
        let Some(place) = self.next_to_leave(among) else { return false };
        if let Some(owing) = self.owing.remove(&place) {
            self.unseat(owing.peer, &owing.leave);
            owing.leave.asked.notify_one();
            metrics::counter!("synddb_http_connections_closed_for_others_total").increment(1);
        }
        if let Some(lasting) = self.trouble.met(WallInstant::now(), why) {
            tracing::warn!(so_far = lasting.times, "{why}");
        }
        true
    }
}

impl Entries {
    /// Whether somebody from there may be seated now; another one leaves where it has to.
    fn seat(&mut self, peer: Option<Peer>, bounds: &ConnectionBounds) -> Turn {
        if let Some(peer) = peer {
            let seated = self.peers.get(&peer).copied().unwrap_or(0);
            let why = "one address has its share of connections; its idle ones are closed";
            if seated >= bounds.connections_per_peer_max.get()
                && !self.ask_to_leave(|owing| owing.peer == Some(peer), why)
            {
                return Turn::Refused;
            }
        }
        let why = "every connection is taken; those idle for longest are closed";
        if self.seated >= bounds.connections_max.get() && !self.ask_to_leave(|_| true, why) {
            return Turn::Waits;
        }
        self.seated += 1;
        if let Some(peer) = peer {
            *self.peers.entry(peer).or_default() += 1;
        }
        Turn::Seated
    }

    /// Takes a seat back, unless it was given on.
    fn unseat(&mut self, peer: Option<Peer>, leave: &Leave) {
        if !leave.is_seated.swap(false, Ordering::Relaxed) {
            return;
        }
        self.seated -= 1;
        let Some(peer) = peer else { return };
        if let Some(seated) = self.peers.get_mut(&peer) {
            *seated -= 1;
            if *seated == 0 {
                self.peers.remove(&peer);
            }
        }
    }
}

/// What becomes of one who comes.
enum Turn {
    Seated,
    Waits,
    Refused,
}

impl Seats {
    pub(super) fn new(bounds: ConnectionBounds) -> Self {
        Self { bounds: bounds.within_files(), book: Arc::default() }
    }

    /// A seat for a connection. It is waited for where all who are seated are worked for. `None` where its peer has its share of
    /// seats, and is worked for on each.
    pub(super) async fn take(&self, peer: Option<Peer>) -> Option<Arc<Seat>> {
        loop {
            let turn = self.book.open().seat(peer, &self.bounds);
            match turn {
                Turn::Seated => return Some(Seat::new(Arc::clone(&self.book), peer)),
                Turn::Waits => self.book.changed.notified().await,
                Turn::Refused => return None,
            }
        }
    }

    /// Closes who is to go first, if anybody owes anything.
    pub(super) fn make_room(&self) {
        self.book
            .open()
            .ask_to_leave(|_| true, "every connection is taken; those idle for longest are closed");
    }
}

/// The seat of one connection, given back when this goes.
pub(super) struct Seat {
    book: Arc<Book>,
    peer: Option<Peer>,
    leave: Arc<Leave>,
    account: Mutex<Account>,
}

impl Seat {
    /// One that is counted already.
    fn new(book: Arc<Book>, peer: Option<Peer>) -> Arc<Self> {
        let leave = Arc::new(Leave { asked: Notify::new(), is_seated: AtomicBool::new(true) });
        let account = Mutex::new(Account { standing: Standing::New, place: None });
        let seat = Arc::new(Self { book, peer, leave, account });
        seat.owe(Some(Debt::Head));
        seat
    }

    /// Returns when it has to leave.
    pub(super) async fn asked_to_leave(&self) {
        self.leave.asked.notified().await;
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Owes this from now on.
    fn owe(&self, debt: Option<Debt>) -> Option<Place> {
        let mut book = self.book.open();
        let mut account = self.account();
        if let Some(before) = account.place.take() {
            book.owing.remove(&before);
        }
        book.events += 1;
        account.place = debt.map(|debt| (debt, account.standing, book.events));
        if let Some(place) = account.place {
            let since = Instant::now();
            book.owing.insert(place, Owing { peer: self.peer, since, leave: Arc::clone(&self.leave) });
            self.book.changed.notify_one();
        }
        account.place
    }

    /// Owes no longer what it owed in this place.
    fn pay(&self, paid: Place) {
        let is_owed = self.account().place == Some(paid);
        if is_owed {
            self.owe(None);
        }
    }

    /// Was answered, and owes the next head.
    fn answered(&self) {
        self.stands(Standing::Answered);
        self.owe(Some(Debt::Head));
    }

    /// Showed a credential that was accepted. Counts from the next thing on that it owes.
    pub(super) fn admitted(&self) {
        self.stands(Standing::Admitted);
    }

    /// Stands as well as this from now on.
    fn stands(&self, standing: Standing) {
        let mut account = self.account();
        account.standing = account.standing.max(standing);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.owe(None);
        self.book.open().unseat(self.peer, &self.leave);
        self.book.changed.notify_one();
    }
}

/// That a connection owes the rest of a body, while this lives.
pub(super) struct Owed {
    seat: Arc<Seat>,
    place: Option<Place>,
}

impl Owed {
    pub(super) fn body(seat: &Arc<Seat>) -> Self {
        Self { seat: Arc::clone(seat), place: seat.owe(Some(Debt::Body)) }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.seat.pay(place);
        }
    }
}

/// That a connection is worked for, while this lives. Afterwards it owes the head of its next request.
pub(super) struct Worked(Arc<Seat>);

impl Worked {
    /// From a head on.
    pub(super) fn begin(seat: &Arc<Seat>) -> Self {
        seat.owe(None);
        Self(Arc::clone(seat))
    }
}

impl Drop for Worked {
    fn drop(&mut self) {
        self.0.answered();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(connections: usize, per_peer: usize) -> Seats {
        let [connections_max, connections_per_peer_max] =
            [connections, per_peer].map(|most| NonZero::new(most).unwrap());
        Seats::new(ConnectionBounds { connections_max, connections_per_peer_max })
    }

    fn peer(last: u8) -> Option<Peer> {
        Some(Peer::from(IpAddr::from([192, 0, 2, last])))
    }

    /// Whether it was asked to leave.
    fn is_asked(seat: &Seat) -> bool {
        futures::FutureExt::now_or_never(seat.asked_to_leave()).is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_idle_for_longest_leaves_first_then_who_sends_a_body_and_nobody_who_is_worked_for() {
        let seats = seats(6, 6);
        let mut taken = Vec::new();
        for number in 0..6 {
            taken.push(seats.take(peer(number)).await.unwrap());
        }
        // The first sends a body, the second is worked for, and the third was answered, as was the last, which sends its next body.
        let body = Owed::body(&taken[0]);
        let worked = Worked::begin(&taken[1]);
        drop(Worked::begin(&taken[5]));
        drop(Worked::begin(&taken[2]));
        let next_body = Owed::body(&taken[5]);
        tokio::time::advance(Duration::from_secs(1)).await;
        for expected in [3, 4, 0, 2, 5] {
            seats.make_room();
            let asked: Vec<usize> = (0..6).filter(|number| is_asked(&taken[*number])).collect();
            assert_eq!(asked, [expected]);
        }
        seats.make_room();
        assert!(!taken.iter().any(|seat| is_asked(seat)), "all that are left are worked for");
        drop((body, next_body, worked));
        // It has its answer, so it owes the next head.
        seats.make_room();
        assert!(is_asked(&taken[1]));
    }

    /// Who of these is closed for the next one.
    fn closed_next<'a>(seats: &Seats, taken: &[(&'a str, &Seat)]) -> Option<&'a str> {
        seats.make_room();
        taken.iter().find(|(_, seat)| is_asked(seat)).map(|(name, _)| *name)
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_is_not_closed_while_others_are_idle_or_drip() {
        let seats = seats(7, 7);
        let mut taken = Vec::new();
        for number in 0..7 {
            taken.push(seats.take(peer(number)).await.unwrap());
        }
        let [idle, dripping, answered_dripping, working, silent, comer, admitted] = &taken[..] else {
            unreachable!()
        };
        admitted.admitted();
        drop(Worked::begin(admitted));
        drop(Worked::begin(idle));
        tokio::time::advance(Duration::from_secs(2)).await;
        drop(Worked::begin(answered_dripping));
        let _next_body = Owed::body(answered_dripping);
        let _body = Owed::body(dripping);
        tokio::time::advance(Duration::from_secs(6)).await;
        let names = ["idle", "dripping", "answered and dripping", "working", "silent", "comer", "admitted"];
        let all: Vec<(&str, &Seat)> = names
            .into_iter()
            .zip([idle, dripping, answered_dripping, working, silent, comer, admitted].map(|seat| &**seat))
            .collect();
        // One comes now, and one that works has just got its answer.
        comer.owe(Some(Debt::Head));
        drop(Worked::begin(working));
        for expected in ["silent", "dripping", "idle", "answered and dripping"] {
            assert_eq!(closed_next(&seats, &all), Some(expected));
        }
        tokio::time::advance(Duration::from_millis(500)).await;
        drop(Worked::begin(working));
        comer.owe(Some(Debt::Head));
        // Nobody is left but who came or was answered a moment ago, and who may write, whom eight seconds cost an eighth of its time.
        assert_eq!(closed_next(&seats, &all), Some("admitted"));
        assert_eq!(closed_next(&seats, &all), Some("comer"));
        assert_eq!(closed_next(&seats, &all), Some("working"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_dripping_bodies_leaves_time_to_whoever_comes_and_to_who_may_write() {
        const SEATS: usize = 250;
        let seats = seats(SEATS, SEATS);
        let writer = seats.take(peer(3)).await.unwrap();
        writer.admitted();
        drop(Worked::begin(&writer));
        let mut crowd = std::collections::VecDeque::new();
        // 750 a second come, of which three in ten send a head and then a body by the byte. Every now and then somebody comes who needs a fifth of
        // a second to say what it wants: with a second for each of those bodies, heads would have a twentieth of one.
        for round in 0..20 {
            let comer = seats.take(peer(2)).await.unwrap();
            for number in 0..150 {
                let seat = seats.take(peer(1)).await.unwrap();
                let body = (number % 10 < 3).then(|| Owed::body(&seat));
                crowd.push_back((seat, body));
                tokio::time::advance(Duration::from_micros(1333)).await;
            }
            assert!(!is_asked(&comer), "it was closed, in round {round}");
            crowd.retain(|(seat, _)| !is_asked(seat));
        }
        assert!(!is_asked(&writer), "it said nothing for four seconds, and may write");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_that_says_nothing_beside_a_crowd_that_was_answered_leaves_time_to_whoever_comes() {
        const SEATS: usize = 64;
        let seats = seats(SEATS, SEATS);
        let mut crowd = std::collections::VecDeque::new();
        for _ in 0..SEATS {
            let seat = seats.take(peer(1)).await.unwrap();
            drop(Worked::begin(&seat));
            crowd.push_back(seat);
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        // A hundred a second come and say nothing, and every tenth means to work, and needs a tenth of a second to say so.
        for round in 0..40 {
            let comer = seats.take(peer(2)).await.unwrap();
            for _ in 0..10 {
                crowd.push_back(seats.take(peer(1)).await.unwrap());
                tokio::time::advance(Duration::from_millis(10)).await;
            }
            assert!(!is_asked(&comer), "it was closed, in round {round}");
            crowd.retain(|seat| !is_asked(seat));
            for answered in crowd.iter().rev().take(2) {
                drop(Worked::begin(answered));
            }
        }
    }

    #[tokio::test]
    async fn a_seat_is_waited_for_where_all_are_worked_for() {
        let seats = seats(1, 1);
        let first = seats.take(peer(1)).await.unwrap();
        let second = seats.take(peer(2)).await.unwrap();
        assert!(is_asked(&first), "it gave its seat on");
        drop(first);
        let worked = Worked::begin(&second);
        let mut third = Box::pin(seats.take(peer(3)));
        assert!(futures::poll!(&mut third).is_pending());
        drop(worked);
        let third = third.await.unwrap();
        assert!(is_asked(&second), "it has its answer");
        let _worked = Worked::begin(&third);
        let mut fourth = Box::pin(seats.take(peer(4)));
        drop(second);
        assert!(futures::poll!(&mut fourth).is_pending(), "who gave its seat on gives no other one");
    }

    #[tokio::test]
    async fn a_peer_has_its_share_and_closes_its_own_idle_ones_beyond_it() {
        let seats = seats(10, 2);
        let other = seats.take(peer(1)).await.unwrap();
        let (first, second) = (seats.take(peer(2)).await.unwrap(), seats.take(peer(2)).await.unwrap());
        let third = seats.take(peer(2)).await.unwrap();
        assert!(is_asked(&first) && !is_asked(&second) && !is_asked(&other));
        drop(first);
        let (worked, _worked_too) = (Worked::begin(&second), Worked::begin(&third));
        assert!(seats.take(peer(2)).await.is_none(), "it is worked for on each of its connections");
        drop((second, worked));
        assert!(seats.take(peer(2)).await.is_some(), "what it gave back counts no more");
        assert!(seats.take(None).await.is_some(), "a socket has no address");
    }

    #[test]
    fn with_few_files_one_address_keeps_its_part_and_cannot_take_all() {
        let bounds = |connections: usize, per_peer: usize| ConnectionBounds {
            connections_max: connections.try_into().unwrap(),
            connections_per_peer_max: per_peer.try_into().unwrap(),
        };
        assert_eq!(ConnectionBounds::default().within(1 << 20), ConnectionBounds::default());
        assert_eq!(ConnectionBounds::default().within(1024), bounds(512, 256));
        assert_eq!(ConnectionBounds::default().within(0), bounds(1, 1));
        assert_eq!(bounds(1000, 1000).within(600), bounds(300, 300), "behind a proxy all come from one");
        assert_eq!(bounds(1000, usize::MAX).within(600).connections_max.get(), 300);
    }

    #[test]
    fn a_network_of_64_bits_is_one_peer_and_a_mapped_address_is_the_one_that_it_maps() {
        let peer = |address: &str| Peer::from(address.parse::<IpAddr>().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }
}
