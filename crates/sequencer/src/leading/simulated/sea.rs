//! The store, and the puts on their way to it.
//!
//! A put that was sent lands at any later time, also when its sender has given up waiting or has died, and at any moment between two reads of somebody
//! who looks. Puts are create-only, unless the fault is that they are not.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use synddb_protocol::id::{Epoch, Sequence};
use synddb_storage::{BatchStore, Existing, GetError, Key, ListError, Page, PageLimit, Put, PutError, Start};

use super::STREAM;

/// Names a put.
pub(super) type Flight = u64;

/// What became of a put.
#[derive(Clone)]
pub(super) enum Landed {
    Stored(Put),
    Refused(Bytes),
}

impl Landed {
    pub(super) fn answer(&self, key: Key) -> Result<Put, PutError> {
        match self {
            Self::Stored(put) => Ok(*put),
            Self::Refused(existing) => {
                Err(PutError::Conflict { key, existing: Existing::new(existing.clone()) })
            }
        }
    }
}

pub(super) struct Sea(Mutex<Water>);

struct Water {
    objects: BTreeMap<Key, Bytes>,
    /// What stood under a name first, in the order in which it came.
    first: Vec<(Key, Bytes)>,
    flying: BTreeMap<Flight, (Key, Bytes)>,
    landed: BTreeMap<Flight, Landed>,
    next: Flight,
    chance: SmallRng,
    is_calm: bool,
    overwrites: bool,
}

impl Sea {
    pub(super) fn new(seed: u64, overwrites: bool) -> Self {
        Self(Mutex::new(Water {
            objects: BTreeMap::new(),
            first: Vec::new(),
            flying: BTreeMap::new(),
            landed: BTreeMap::new(),
            next: 0,
            chance: SmallRng::seed_from_u64(seed),
            is_calm: false,
            overwrites,
        }))
    }

    fn water(&self) -> MutexGuard<'_, Water> {
        self.0.lock().unwrap()
    }

    /// Sends a put on its way.
    pub(super) fn send(&self, key: Key, bytes: Bytes) -> Flight {
        let mut water = self.water();
        water.next += 1;
        let flight = water.next;
        water.flying.insert(flight, (key, bytes));
        flight
    }

    /// Has a put arrive, and tells what became of it.
    pub(super) fn land(&self, flight: Flight) -> Landed {
        let mut water = self.water();
        water.land(flight);
        water.landed[&flight].clone()
    }

    /// Has some put arrive, if any is on its way.
    pub(super) fn land_any(&self) {
        self.water().land_any();
    }

    /// From here on everything that is on its way has arrived, and nothing fails.
    pub(super) fn calm(&self) {
        let mut water = self.water();
        while !water.flying.is_empty() {
            water.land_any();
        }
        water.is_calm = true;
    }

    pub(super) fn is_calm(&self) -> bool {
        self.water().is_calm
    }

    /// What came first under each name, from the one after the first `seen`.
    pub(super) fn firsts_after(&self, seen: usize) -> Vec<(Key, Bytes)> {
        self.water().first[seen..].to_vec()
    }

    /// What stands under a name.
    pub(super) fn object(&self, key: &Key) -> Option<Bytes> {
        self.water().objects.get(key).cloned()
    }

    pub(super) fn batch(&self, first: Sequence) -> Option<Bytes> {
        self.object(&Key::Batch { stream: STREAM, first })
    }

    pub(super) fn epoch(&self, epoch: Epoch) -> Option<Bytes> {
        self.object(&Key::Epoch { stream: STREAM, epoch })
    }
}

impl Water {
    fn land(&mut self, flight: Flight) {
        let Some((key, bytes)) = self.flying.remove(&flight) else { return };
        let landed = match self.objects.get(&key) {
            Some(existing) if *existing == bytes => Landed::Stored(Put::Unchanged),
            Some(existing) if !self.overwrites => Landed::Refused(existing.clone()),
            existing => {
                if existing.is_none() {
                    self.first.push((key, bytes.clone()));
                }
                self.objects.insert(key, bytes);
                Landed::Stored(Put::Created)
            }
        };
        self.landed.insert(flight, landed);
    }

    fn land_any(&mut self) {
        let count = self.flying.len();
        if count > 0 {
            let at = self.chance.random_range(0..count);
            let flight = *self.flying.keys().nth(at).unwrap();
            self.land(flight);
        }
    }

    /// Between two reads of somebody who looks, something may arrive.
    fn pass(&mut self) {
        if !self.is_calm && self.chance.random_bool(0.2) {
            self.land_any();
        }
    }
}

#[async_trait]
impl BatchStore for Sea {
    async fn put(&self, _: &Key, _: Bytes) -> Result<Put, PutError> {
        unreachable!("who looks puts nothing")
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        let mut water = self.water();
        water.pass();
        Ok(water.objects.get(key).cloned())
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        let mut water = self.water();
        water.pass();
        // A listing may be behind.
        let behind = if water.is_calm { 0 } else { water.chance.random_range(0..3) };
        let hidden: Vec<Key> = water.first.iter().rev().take(behind).map(|(key, _)| *key).collect();
        let admitted = water.objects.keys().filter(|key| start.admits(key) && !hidden.contains(key));
        let mut keys = admitted.copied();
        let page: Vec<Key> = keys.by_ref().take(limit.get()).collect();
        let next = keys.next().map(Start::At);
        Ok(Page { keys: page, next })
    }
}
