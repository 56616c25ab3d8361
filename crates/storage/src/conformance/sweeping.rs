//! The contract of [`Sweeper`] as a suite that can fail, in the manner of the one of stores.
//!
//! It cannot see that what is removed stays so over a power cut, nor what other processes do at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Checked, Report, Violation, body, ensure, key, keys, must_be_absent, must_hold, must_list, put_bodies,
    put_new, stream, violation,
};
use crate::key::{Folder, Key, Kind};
use crate::survey::Name;
use crate::sweep::{Removable, Stored, Sweeper};

/// A store under test.
pub type SharedSweeper = Arc<dyn Sweeper>;

/// More than a platform takes, or tells, at once.
const MANY: u64 = 1100;

/// One promise of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SweepCheck {
    /// What was removed is neither got nor listed nor told.
    RemovedIsGone,
    /// What is absent is removed; to remove nothing is done.
    AbsentIsRemoved,
    /// Only what was named goes: not the same chunk of another stream, nor the manifest of another signer.
    OthersStay,
    /// A key whose object was removed takes other bytes.
    PutAgain,
    /// More objects than one request takes are removed, all of them.
    Many,
    /// Everything in a folder is told once, with its size, and nothing of others.
    AllTold,
    /// An object is not told as older than one that was put before it.
    TimesGrow,
}

impl SweepCheck {
    /// Every check, in the order in which [`run`] makes them.
    pub const ALL: [Self; 7] = [
        Self::RemovedIsGone,
        Self::AbsentIsRemoved,
        Self::OthersStay,
        Self::PutAgain,
        Self::Many,
        Self::AllTold,
        Self::TimesGrow,
    ];

    async fn make(self, store: SharedSweeper) -> Result<(), Violation> {
        match self {
            Self::RemovedIsGone => removed_is_gone(&*store).await,
            Self::AbsentIsRemoved => absent_is_removed(&*store).await,
            Self::OthersStay => others_stay(&*store).await,
            Self::PutAgain => put_again(&*store).await,
            Self::Many => many(&*store).await,
            Self::AllTold => all_told(&*store).await,
            Self::TimesGrow => times_grow(&*store).await,
        }
    }
}

/// Makes every check. `open` gives a new, empty store at each call.
pub async fn run<Open, Opening>(open: Open) -> Report<SweepCheck>
where
    Open: Fn() -> Opening,
    Opening: Future<Output = SharedSweeper>,
{
    let mut checked = Vec::with_capacity(SweepCheck::ALL.len());
    for check in SweepCheck::ALL {
        checked.push(Checked { check, outcome: check.make(open().await).await });
    }
    Report { checked }
}

/// How long a put, a listing and the parts of a second that are not stated may take together.
const APART_MAX: Duration = Duration::from_secs(120);

fn folder(kind: Kind) -> Folder {
    Folder { stream: stream(7), kind }
}

fn removable(key: &Key) -> Result<Removable, Violation> {
    match *key {
        Key::Snapshot { stream, sequence, signer } => Ok(Removable::manifest(stream, sequence, signer)),
        Key::Chunk { stream, hash } => Ok(Removable::chunk(stream, hash)),
        Key::Epoch { .. } | Key::Batch { .. } | Key::Endorsement { .. } => {
            Err(Violation(format!("the suite removes what may not be removed. key=`{key}`")))
        }
    }
}

async fn remove(store: &dyn Sweeper, keys: &[Key]) -> Result<(), Violation> {
    let objects = keys.iter().map(removable).collect::<Result<Vec<_>, _>>()?;
    store.remove(&objects).await.map_err(violation)
}

async fn told(store: &dyn Sweeper, kind: Kind) -> Result<Vec<Stored>, Violation> {
    let mut all = Vec::new();
    store.tell(folder(kind), &mut |stored| all.push(stored)).await.map_err(violation)?;
    Ok(all)
}

/// Two manifests and two chunks.
fn some() -> Result<Vec<Key>, Violation> {
    let mut some = keys(Kind::Snapshot, stream(7), &[3, 40], &[1])?;
    some.extend(keys(Kind::Chunk, stream(7), &[3, 40], &[1])?);
    Ok(some)
}

async fn removed_is_gone(store: &dyn Sweeper) -> Result<(), Violation> {
    let some = some()?;
    put_bodies(store, &some).await?;
    remove(store, &some).await?;
    for key in &some {
        must_be_absent(store, key).await?;
    }
    for kind in [Kind::Snapshot, Kind::Chunk] {
        must_list(store, folder(kind), &[]).await?;
        let told = told(store, kind).await?.len();
        ensure(told == 0, || format!("what was removed is told. objects=`{told}`"))?;
    }
    Ok(())
}

async fn absent_is_removed(store: &dyn Sweeper) -> Result<(), Violation> {
    let some = some()?;
    store.remove(&[]).await.map_err(violation)?;
    remove(store, &some).await?;
    put_bodies(store, &some[..1]).await?;
    // One that is there among others that are not.
    remove(store, &some).await?;
    remove(store, &some).await?;
    must_be_absent(store, &some[0]).await
}

async fn others_stay(store: &dyn Sweeper) -> Result<(), Violation> {
    let gone = some()?;
    let mut others = keys(Kind::Snapshot, stream(7), &[3, 40], &[2])?;
    others.extend(keys(Kind::Snapshot, stream(8), &[3, 40], &[1])?);
    others.extend(keys(Kind::Chunk, stream(8), &[3, 40], &[1])?);
    others.extend(keys(Kind::Chunk, stream(7), &[4], &[1])?);
    others.extend(keys(Kind::Batch, stream(7), &[3, 40], &[1])?);
    others.extend(keys(Kind::Epoch, stream(7), &[3, 40], &[1])?);
    others.extend(keys(Kind::Endorsement, stream(7), &[3, 40], &[1])?);
    put_bodies(store, &gone).await?;
    put_bodies(store, &others).await?;
    remove(store, &gone).await?;
    for key in &others {
        must_hold(store, key, &body(key)).await?;
    }
    Ok(())
}

async fn put_again(store: &dyn Sweeper) -> Result<(), Violation> {
    let some = some()?;
    put_bodies(store, &some).await?;
    remove(store, &some).await?;
    for key in &some {
        let other = bytes::Bytes::from_static(b"other bytes");
        put_new(store, key, &other).await?;
        must_hold(store, key, &other).await?;
    }
    Ok(())
}

async fn many(store: &dyn Sweeper) -> Result<(), Violation> {
    let numbers: Vec<u64> = (1..=MANY).collect();
    let all = keys(Kind::Chunk, stream(7), &numbers, &[1])?;
    put_bodies(store, &all).await?;
    let told_count = told(store, Kind::Chunk).await?.len();
    ensure(told_count == all.len(), || format!("of {} objects {told_count} are told", all.len()))?;
    let (gone, last) = all.split_at(all.len() - 1);
    remove(store, gone).await?;
    must_list(store, folder(Kind::Chunk), last).await
}

async fn all_told(store: &dyn Sweeper) -> Result<(), Violation> {
    for kind in [Kind::Snapshot, Kind::Chunk] {
        let here = keys(kind, stream(7), &[1, 17, 40], &[1, 2])?;
        put_bodies(store, &here).await?;
        put_bodies(store, &keys(kind, stream(8), &[1, 17], &[1])?).await?;
        let found = told(store, kind).await?;
        let expected: BTreeSet<(Name, u64)> =
            here.iter().map(|key| (Name::Key(*key), body(key).len() as u64)).collect();
        let count = found.len();
        let found: BTreeSet<(Name, u64)> =
            found.into_iter().map(|stored| (stored.name, stored.bytes)).collect();
        ensure(found == expected && count == expected.len(), || {
            format!("something else is told than was put. kind=`{kind:?}` found=`{found:?}`")
        })?;
    }
    Ok(())
}

async fn times_grow(store: &dyn Sweeper) -> Result<(), Violation> {
    let [before, after] = [key(Kind::Chunk, stream(7), 9, 1)?, key(Kind::Chunk, stream(7), 1, 1)?];
    put_bodies(store, &[before, after]).await?;
    let told = told(store, Kind::Chunk).await?;
    let written = |key: Key| told.iter().find(|stored| stored.name == Name::Key(key)).map(|it| it.written);
    let (Some(before), Some(after)) = (written(before), written(after)) else {
        return Err(Violation("an object is not told".to_owned()));
    };
    ensure(before <= after, || "a later object is told as older".to_owned())?;
    let now = store.now().ok_or_else(|| Violation("the store states no time".to_owned()))?;
    let apart = now.duration_since(after).unwrap_or_else(|ahead| ahead.duration());
    ensure(apart < APART_MAX, || {
        format!("the time is not that of what was written now. apart_ms=`{}`", apart.as_millis())
    })
}
