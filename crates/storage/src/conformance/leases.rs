//! The contract of [`Lease`] as a suite that can fail, in the manner of the one of stores.
//!
//! It cannot see what other processes do at once, nor that nothing is promised across a power cut.

use std::sync::Arc;

use bytes::Bytes;
use synddb_protocol::id::StreamId;
use tokio::task::JoinSet;

use super::{Checked, Report, Violation, ensure, stream, violation};
use crate::lease::{LEASE_BYTES_MAX, Lease, LeaseError, LeaseVersion};

/// Leases under test.
pub type SharedLease = Arc<dyn Lease>;

/// How many writes race.
const RACERS: u8 = 16;

/// How many races are run: an implementation that decides by chance must not pass by luck.
const RACES: u64 = 4;

/// One promise of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeaseCheck {
    /// What was never written is absent.
    Absent,
    /// What was written is read at once, byte for byte, with the version that the write gave.
    WriteThenRead,
    /// A lease is written over with the version that is there, any number of times.
    WrittenOver,
    /// Different contents in a row have different versions.
    VersionsDiffer,
    /// A write that expects no lease meets one, and changes nothing.
    NotAbsentIsConflict,
    /// A write that expects an earlier version changes nothing.
    OldVersionIsConflict,
    /// A write that expects a version where there is no lease makes none.
    AbsentIsConflict,
    /// Of many writes at once that expect the same, one succeeds, and its bytes are there.
    OneOfMany,
    /// A lease of no bytes and one of exactly the bound are leases.
    Sizes,
    /// One byte more is refused, and changes nothing.
    Oversized,
    /// Streams do not see each other's leases.
    Isolation,
    /// A stream with a lease is told among the streams.
    Told,
}

impl LeaseCheck {
    /// Every check, in the order in which [`run`] makes them.
    pub const ALL: [Self; 12] = [
        Self::Absent,
        Self::WriteThenRead,
        Self::WrittenOver,
        Self::VersionsDiffer,
        Self::NotAbsentIsConflict,
        Self::OldVersionIsConflict,
        Self::AbsentIsConflict,
        Self::OneOfMany,
        Self::Sizes,
        Self::Oversized,
        Self::Isolation,
        Self::Told,
    ];

    async fn make(self, lease: SharedLease) -> Result<(), Violation> {
        match self {
            Self::Absent => must_be_absent(&*lease, stream(1)).await,
            Self::WriteThenRead => write_then_read(&*lease).await,
            Self::WrittenOver => written_over(&*lease).await,
            Self::VersionsDiffer => versions_differ(&*lease).await,
            Self::NotAbsentIsConflict => not_absent(&*lease).await,
            Self::OldVersionIsConflict => old_version(&*lease).await,
            Self::AbsentIsConflict => absent(&*lease).await,
            Self::OneOfMany => one_of_many(&lease).await,
            Self::Sizes => sizes(&*lease).await,
            Self::Oversized => oversized(&*lease).await,
            Self::Isolation => isolation(&*lease).await,
            Self::Told => told(&*lease).await,
        }
    }
}

/// Makes every check. `open` gives new leases, of which there are none yet, at each call.
pub async fn run<Open, Opening>(open: Open) -> Report<LeaseCheck>
where
    Open: Fn() -> Opening,
    Opening: Future<Output = SharedLease>,
{
    let mut checked = Vec::with_capacity(LeaseCheck::ALL.len());
    for check in LeaseCheck::ALL {
        let outcome = check.make(open().await).await;
        checked.push(Checked { check, outcome });
    }
    Report { checked }
}

fn text(number: u64) -> Bytes {
    Bytes::from(format!("heartbeat {number}"))
}

async fn write(
    lease: &dyn Lease,
    of: StreamId,
    expected: Option<&LeaseVersion>,
    bytes: &Bytes,
) -> Result<LeaseVersion, Violation> {
    lease.write(of, expected, bytes.clone()).await.map_err(violation)
}

async fn must_conflict(
    lease: &dyn Lease,
    of: StreamId,
    expected: Option<&LeaseVersion>,
) -> Result<(), Violation> {
    match lease.write(of, expected, Bytes::from_static(b"never written")).await {
        Err(LeaseError::Conflict { stream }) => {
            ensure(stream == of, || "a conflict names another stream".to_owned())
        }
        Ok(_) => Err(Violation(format!("a write succeeded that expected something else. stream=`{of}`"))),
        Err(error) => Err(violation(error)),
    }
}

async fn must_hold(
    lease: &dyn Lease,
    of: StreamId,
    bytes: &Bytes,
    version: &LeaseVersion,
) -> Result<(), Violation> {
    let Some(found) = lease.read(of).await.map_err(violation)? else {
        return Err(Violation(format!("a read did not find what was written. stream=`{of}`")));
    };
    ensure(found.1 == bytes, || format!("a read found other bytes than were written. stream=`{of}`"))?;
    ensure(found.0 == *version, || format!("a read gave another version than the write did. stream=`{of}`"))
}

async fn must_be_absent(lease: &dyn Lease, of: StreamId) -> Result<(), Violation> {
    let found = lease.read(of).await.map_err(violation)?;
    ensure(found.is_none(), || format!("a read found what was never written. stream=`{of}`"))
}

async fn write_then_read(lease: &dyn Lease) -> Result<(), Violation> {
    let version = write(lease, stream(2), None, &text(1)).await?;
    for _ in 0..2 {
        must_hold(lease, stream(2), &text(1), &version).await?;
    }
    Ok(())
}

async fn written_over(lease: &dyn Lease) -> Result<(), Violation> {
    let mut version = write(lease, stream(3), None, &text(0)).await?;
    for number in 1..=20 {
        version = write(lease, stream(3), Some(&version), &text(number)).await?;
        must_hold(lease, stream(3), &text(number), &version).await?;
    }
    Ok(())
}

async fn versions_differ(lease: &dyn Lease) -> Result<(), Violation> {
    let mut before = write(lease, stream(4), None, &text(0)).await?;
    for number in 1..=20 {
        let version = write(lease, stream(4), Some(&before), &text(number)).await?;
        ensure(version != before, || "two contents in a row have one version".to_owned())?;
        before = version;
    }
    Ok(())
}

async fn not_absent(lease: &dyn Lease) -> Result<(), Violation> {
    let version = write(lease, stream(5), None, &text(1)).await?;
    must_conflict(lease, stream(5), None).await?;
    must_hold(lease, stream(5), &text(1), &version).await
}

async fn old_version(lease: &dyn Lease) -> Result<(), Violation> {
    let first = write(lease, stream(6), None, &text(1)).await?;
    let second = write(lease, stream(6), Some(&first), &text(2)).await?;
    must_conflict(lease, stream(6), Some(&first)).await?;
    must_hold(lease, stream(6), &text(2), &second).await
}

async fn absent(lease: &dyn Lease) -> Result<(), Violation> {
    let version = write(lease, stream(7), None, &text(1)).await?;
    must_conflict(lease, stream(8), Some(&version)).await?;
    must_be_absent(lease, stream(8)).await
}

async fn one_of_many(lease: &SharedLease) -> Result<(), Violation> {
    let mut expected = None;
    for race in 0..RACES {
        let mut racers = JoinSet::new();
        for racer in 0..RACERS {
            let (lease, expected) = (Arc::clone(lease), expected.clone());
            racers.spawn(async move {
                let bytes = Bytes::from(format!("race {race}, racer {racer}"));
                let written = lease.write(stream(9), Option::as_ref(&expected), bytes.clone()).await;
                written.map(|version| (version, bytes))
            });
        }
        let mut winners = Vec::new();
        while let Some(joined) = racers.join_next().await {
            match joined.map_err(violation)? {
                Ok(written) => winners.push(written),
                Err(LeaseError::Conflict { .. }) => {}
                Err(error) => return Err(violation(error)),
            }
        }
        let [(version, bytes)] = winners.as_slice() else {
            return Err(Violation(format!("of many writes {} succeeded", winners.len())));
        };
        must_hold(&**lease, stream(9), bytes, version).await?;
        expected = Some(version.clone());
    }
    Ok(())
}

async fn sizes(lease: &dyn Lease) -> Result<(), Violation> {
    let (nothing, largest) = (Bytes::new(), Bytes::from(vec![7; LEASE_BYTES_MAX]));
    let version = write(lease, stream(10), None, &nothing).await?;
    must_hold(lease, stream(10), &nothing, &version).await?;
    must_conflict(lease, stream(10), None).await?;
    let version = write(lease, stream(10), Some(&version), &largest).await?;
    must_hold(lease, stream(10), &largest, &version).await
}

async fn oversized(lease: &dyn Lease) -> Result<(), Violation> {
    let version = write(lease, stream(11), None, &text(1)).await?;
    match lease.write(stream(11), Some(&version), Bytes::from(vec![7; LEASE_BYTES_MAX + 1])).await {
        Err(LeaseError::TooLarge { size, .. }) => {
            ensure(size == LEASE_BYTES_MAX as u64 + 1, || "a refusal names another size".to_owned())?;
        }
        Ok(_) => return Err(Violation("a lease over the bound was written".to_owned())),
        Err(error) => return Err(violation(error)),
    }
    must_hold(lease, stream(11), &text(1), &version).await
}

async fn isolation(lease: &dyn Lease) -> Result<(), Violation> {
    let one = write(lease, stream(0), None, &text(1)).await?;
    must_be_absent(lease, stream(0xff)).await?;
    let other = write(lease, stream(0xff), None, &text(2)).await?;
    must_hold(lease, stream(0), &text(1), &one).await?;
    must_hold(lease, stream(0xff), &text(2), &other).await
}

async fn told(lease: &dyn Lease) -> Result<(), Violation> {
    for byte in [13, 12] {
        write(lease, stream(byte), None, &text(1)).await?;
        let streams = lease.streams().await.map_err(violation)?;
        ensure(streams.contains(&stream(byte)), || "a stream with a lease is not told".to_owned())?;
        ensure(streams.is_sorted_by(|one, next| one < next), || "streams are not ascending".to_owned())?;
    }
    Ok(())
}
