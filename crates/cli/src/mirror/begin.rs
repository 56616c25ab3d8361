//! Where a mirror begins: a snapshot of the source, restored to the target, and an outbox that goes on from there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use synddb_agent::outbox::{self, Beginning, Outbox, OutboxError};
use synddb_protocol::id::{Incarnation, IncarnationCounter, IncarnationNonce, StreamId};
use synddb_protocol::submission::{Snapshot, SnapshotPlace};
use synddb_sqlite::capture::{self, Follower};
use synddb_sqlite::name::beside;
use synddb_sqlite::snapshot::{Image, StoredChunk, Writer, restore};

use super::replica::Replica;
use crate::arguments::MirrorArguments;
use crate::exit::CommandError;
use crate::refusal::{Refusal, check_database, check_two_files, open_to_read};

/// What runs.
pub(super) struct Begun {
    pub(super) follower: Follower,
    pub(super) outbox: Outbox,
    pub(super) replica: Replica,
}

/// Refuses what cannot work, attaches to the source, and makes the target equal to it.
pub(super) fn begin(arguments: &MirrorArguments) -> Result<Begun, CommandError> {
    let MirrorArguments { source, target, .. } = arguments;
    check_two_files(source, target)?;
    check_database(source)?;
    // Only to refuse it in our words; the follower opens it for itself.
    drop(open_to_read(source)?);
    let folder = beside(target, "-synddb");
    let left = left_behind(target, &folder, arguments.replace)?;
    if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir())
    {
        return Err(Refusal::NoFolder { folder: parent.to_owned() }.into());
    }
    // What an earlier mirror left goes only when there is something to put in its place.
    let follower = Follower::attach(source, capture::Options::for_wal(arguments.wal.mib << 20))?;
    make_room(&left, &folder)?;
    let snapshot = copy(&follower, target, &folder)?;
    let beginning = Beginning {
        stream: snapshot.stream,
        incarnation: snapshot.incarnation,
        snapshot: snapshot.digest(),
        state: snapshot.state,
        position: follower.position(),
    };
    let outbox = Outbox::create(&outbox_of(&folder), &beginning, outbox::Options::default())?;
    let replica = Replica::open(target, &snapshot, &folder)?;
    Ok(Begun { follower, outbox, replica })
}

fn outbox_of(folder: &Path) -> PathBuf {
    folder.join("outbox.db")
}

/// What an earlier mirror left where the target and its folder will be. Nothing else may be there.
fn left_behind(target: &Path, folder: &Path, replace: bool) -> Result<Vec<PathBuf>, CommandError> {
    let outbox = outbox_of(folder);
    let ours = match Outbox::open(&outbox, outbox::Options::default()) {
        Err(OutboxError::Owned { .. }) => return Err(Refusal::InUse { file: target.to_owned() }.into()),
        opened => opened.is_ok(),
    };
    // A restore that was killed leaves the third.
    let left: Vec<PathBuf> = [target, &outbox, &beside(target, ".restoring")]
        .into_iter()
        .flat_map(|file| ["", "-wal", "-shm", "-journal"].map(|suffix| beside(file, suffix)))
        .filter(|file| file.symlink_metadata().is_ok())
        .collect();
    match left.first() {
        // Only an outbox shows that the rest is a mirror's. One that was killed before it made its outbox leaves a copy that has to be
        // moved away by hand: better than to remove somebody's database.
        Some(file) if !ours => Err(Refusal::NotOurs { file: file.clone() }.into()),
        Some(file) if !replace => Err(Refusal::TargetExists { file: file.clone() }.into()),
        Some(_) | None => Ok(left),
    }
}

/// Takes away what an earlier mirror left, and makes the folder beside the target.
fn make_room(left: &[PathBuf], folder: &Path) -> Result<(), CommandError> {
    for file in left {
        fs::remove_file(file).map_err(CommandError::system("remove what an earlier mirror left"))?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(CommandError::system("make a folder beside the target")(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Copies the source as of the follower's position to the target, the way that a store would carry it.
fn copy(follower: &Follower, target: &Path, folder: &Path) -> Result<Snapshot, CommandError> {
    let store = CommandError::system;
    let chunks = folder.join("snapshot");
    match fs::remove_dir_all(&chunks) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(store("remove what an earlier mirror left")(error));
        }
        Ok(()) | Err(_) => {}
    }
    fs::create_dir(&chunks).map_err(store("make a folder for the snapshot"))?;
    let mut writer = Writer::new(follower.reader())?;
    let mut listed = Vec::new();
    for stored in &mut writer {
        let StoredChunk { chunk, bytes } = stored?;
        fs::write(chunks.join(chunk.hash.to_string()), bytes).map_err(store("write the snapshot"))?;
        listed.push(chunk);
    }
    let snapshot = Snapshot {
        stream: StreamId::from_bytes(drawn()?),
        incarnation: Incarnation {
            counter: IncarnationCounter::FIRST,
            nonce: IncarnationNonce::from_bytes(drawn()?),
        },
        place: SnapshotPlace::Begins { predecessor: None },
        encoding: writer.encoding(),
        page_size: writer.page_size(),
        state: follower.state().hash(),
        chunks: listed,
    };
    restore(target, &Image::of_snapshot(&snapshot), |chunk| fs::read(chunks.join(chunk.hash.to_string())))?;
    fs::remove_dir_all(&chunks).map_err(store("remove the snapshot"))?;
    Ok(snapshot)
}

/// Bytes that nobody draws twice.
fn drawn<const LENGTH: usize>() -> Result<[u8; LENGTH], CommandError> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes)
        .map_err(|error| CommandError::system("draw random bytes")(io::Error::other(error)))?;
    Ok(bytes)
}
