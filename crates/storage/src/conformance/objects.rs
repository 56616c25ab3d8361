//! The checks of single objects: put and get.

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    SharedStore, Violation, body, ensure, key, must_be_absent, must_conflict, must_hold, must_list, page,
    put_bodies, put_new, stream, violation,
};
use crate::key::{Folder, Kind};
use crate::store::{BatchStore, PageLimit, Put, PutError, Start};

/// How many puts race for one key.
const RACERS: u8 = 32;

/// How many races are run: an implementation that decides by chance must not pass by luck.
const RACES: u64 = 4;

pub(super) async fn absent(store: &dyn BatchStore) -> Result<(), Violation> {
    for kind in Kind::ALL {
        must_be_absent(store, &key(kind, stream(1), 1, 1)?).await?;
        let folder = Folder { stream: stream(1), kind };
        let empty = page(store, &Start::of(folder), PageLimit::MAX).await?;
        ensure(empty.keys.is_empty(), || format!("an empty folder lists keys. folder=`{folder}`"))?;
        ensure(empty.next.is_none(), || {
            format!("the listing of an empty folder goes on. folder=`{folder}`")
        })?;
    }
    Ok(())
}

pub(super) async fn put_then_get(store: &dyn BatchStore) -> Result<(), Violation> {
    for kind in Kind::ALL {
        for number in 1..=3 {
            let key = key(kind, stream(2), number, 1)?;
            put_new(store, &key, &body(&key)).await?;
            must_hold(store, &key, &body(&key)).await?;
        }
        for number in 1..=3 {
            let key = key(kind, stream(2), number, 1)?;
            must_hold(store, &key, &body(&key)).await?;
        }
        must_be_absent(store, &key(kind, stream(2), 4, 1)?).await?;
    }
    Ok(())
}

pub(super) async fn same_bytes_again(store: &dyn BatchStore) -> Result<(), Violation> {
    for kind in Kind::ALL {
        let key = key(kind, stream(3), 7, 1)?;
        put_new(store, &key, &body(&key)).await?;
        for _ in 0..2 {
            let again = store.put(&key, body(&key)).await.map_err(violation)?;
            ensure(again == Put::Unchanged, || format!("the same bytes were created twice. key=`{key}`"))?;
            must_hold(store, &key, &body(&key)).await?;
        }
        must_list(store, key.folder(), &[key]).await?;
    }
    Ok(())
}

pub(super) async fn other_bytes_conflict(store: &dyn BatchStore) -> Result<(), Violation> {
    for kind in Kind::ALL {
        let key = key(kind, stream(4), 7, 1)?;
        let first = body(&key);
        put_new(store, &key, &first).await?;
        let mut altered = first.to_vec();
        altered[0] ^= 1;
        let longer = [&first[..], b"!"].concat();
        let others =
            [Bytes::new(), first.slice(1..), first.slice(..first.len() - 1), altered.into(), longer.into()];
        for other in others {
            must_conflict(store, &key, &other, &first).await?;
            must_hold(store, &key, &first).await?;
        }
        must_list(store, key.folder(), &[key]).await?;
    }
    Ok(())
}

pub(super) async fn concurrent_puts(store: &SharedStore) -> Result<(), Violation> {
    for number in 1..=RACES {
        let key = key(Kind::Batch, stream(5), number, 0)?;
        let mut racing = JoinSet::new();
        for racer in 0..RACERS {
            let (store, bytes) = (store.clone(), Bytes::from(vec![racer; 1000 + usize::from(racer)]));
            racing.spawn(async move { (bytes.clone(), store.put(&key, bytes).await) });
        }
        let (mut winners, mut met) = (Vec::new(), Vec::new());
        while let Some(raced) = racing.join_next().await {
            match raced.map_err(violation)? {
                (bytes, Ok(_)) => winners.push(bytes),
                (_, Err(PutError::Conflict { existing, .. })) => met.push(existing.into_bytes()),
                (_, Err(error)) => return Err(violation(error)),
            }
        }
        let [winner] = winners.as_slice() else {
            return Err(Violation(format!(
                "{} of {RACERS} different puts succeeded. key=`{key}`",
                winners.len()
            )));
        };
        must_hold(&**store, &key, winner).await?;
        ensure(met.iter().all(|bytes| bytes == winner), || {
            format!("a conflict carried other bytes than the winner's. key=`{key}`")
        })?;
    }
    Ok(())
}

pub(super) async fn concurrent_same_puts(store: &SharedStore) -> Result<(), Violation> {
    for number in 1..=RACES {
        let key = key(Kind::Batch, stream(6), number, 0)?;
        let mut racing = JoinSet::new();
        for _ in 0..RACERS {
            let store = store.clone();
            racing.spawn(async move { store.put(&key, body(&key)).await });
        }
        let mut created = 0;
        while let Some(raced) = racing.join_next().await {
            created += usize::from(raced.map_err(violation)?.map_err(violation)? == Put::Created);
        }
        // A store behind a network may not know that it was its own first, lost, answer that created it.
        ensure(created <= 1, || format!("one object was created {created} times. key=`{key}`"))?;
        must_hold(&**store, &key, &body(&key)).await?;
    }
    Ok(())
}

pub(super) async fn empty_object(store: &dyn BatchStore) -> Result<(), Violation> {
    for kind in Kind::ALL {
        let key = key(kind, stream(7), 1, 1)?;
        put_new(store, &key, &Bytes::new()).await?;
        must_hold(store, &key, &Bytes::new()).await?;
        must_conflict(store, &key, &Bytes::from_static(b"x"), &Bytes::new()).await?;
        must_list(store, key.folder(), &[key]).await?;
    }
    Ok(())
}

pub(super) async fn largest_object(store: &dyn BatchStore) -> Result<(), Violation> {
    for kind in Kind::ALL {
        let key = key(kind, stream(8), 1, 1)?;
        let bytes = Bytes::from(vec![0xa5; kind.size_max()]);
        put_new(store, &key, &bytes).await?;
        must_hold(store, &key, &bytes).await?;
        let again = store.put(&key, bytes).await.map_err(violation)?;
        ensure(again == Put::Unchanged, || format!("the same bytes were created twice. key=`{key}`"))?;
    }
    Ok(())
}

pub(super) async fn oversized_object(store: &dyn BatchStore) -> Result<(), Violation> {
    for kind in Kind::ALL {
        let key = key(kind, stream(9), 1, 1)?;
        let size = kind.size_max() as u64 + 1;
        match store.put(&key, Bytes::from(vec![0xa5; kind.size_max() + 1])).await {
            Err(PutError::TooLarge { size: told, .. }) => ensure(told == size, || {
                format!("a refusal told a wrong size. key=`{key}` told=`{told}` size=`{size}`")
            })?,
            Ok(put) => {
                return Err(Violation(format!("an oversized object was stored. key=`{key}` put=`{put:?}`")));
            }
            Err(error) => return Err(violation(error)),
        }
        must_be_absent(store, &key).await?;
        must_list(store, key.folder(), &[]).await?;
    }
    Ok(())
}

pub(super) async fn extreme_identifiers(store: &dyn BatchStore) -> Result<(), Violation> {
    let mut keys = Vec::new();
    for kind in Kind::ALL {
        for (id, who) in [(0x00, 0x00), (0x00, 0xff), (0xff, 0x00), (0xff, 0xff)] {
            keys.push(key(kind, stream(id), 1 + u64::from(who), who)?);
        }
    }
    put_bodies(store, &keys).await?;
    for key in &keys {
        must_hold(store, key, &body(key)).await?;
        let folder = key.folder();
        let inside: Vec<_> = keys.iter().copied().filter(|other| other.folder() == folder).collect();
        must_list(store, folder, &inside).await?;
    }
    Ok(())
}
