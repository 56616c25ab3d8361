//! The agent's folder: who owns it, which stream it is of, and what it keeps of each incarnation.
//!
//! ```text
//! <database>-synddb/
//!   stream                      the stream's name: 64 hex digits, drawn once
//!   sequencer.pub               the key that first signed a receipt, unless one was configured
//!   agent.lock                  locked while an agent runs
//!   incarnations/000000000002/
//!     manifest                  the body of the snapshot message, exact bytes
//!     database                  which file the database was: the number of its inode, and when that was made
//!     chunks/<sha256>           the snapshot's chunks; gone once the snapshot was seen stored
//!     outbox.db
//!   incarnations/000000000003.new/    one that did not begin yet
//!   incarnations.left/          all of it stored, and being left for good (leave.rs)
//!   evidence/                   what contradicts what a sequencer signed (evidence.rs)
//!   last/                       the last captured state, restored from elsewhere to reconcile; may be removed at any time
//! ```
//!
//! What must stay true:
//!
//! - An incarnation exists when its folder has its name, and then everything in it is durable. A process that is killed before leaves
//!   a folder that is removed; one that is killed after leaves one that is whole.
//! - A stream's name is never drawn twice for one folder.
//!
//! Knows nothing of what is sent, and when.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::{IncarnationCounter, StreamId};
use synddb_protocol::limits::{BODY_BYTES_MAX, BODY_COMPRESSED_MAX, CHUNK_STORED_MAX};
use synddb_protocol::log::{Body, Entry, MessageType};
use synddb_protocol::signing::VerifyingKey;
use synddb_protocol::submission::Snapshot;
use synddb_sqlite::name::FileId;

use crate::error::AgentError;
use crate::leave;

/// The ending of a folder whose incarnation did not begin yet.
const UNFINISHED: &str = ".new";

/// The file that names the sequencer's key.
pub(crate) const SEQUENCER_KEY: &str = "sequencer.pub";

/// The file that says which file the database was.
const DATABASE: &str = "database";

/// The folder in which the last captured state is restored.
pub(crate) const LAST: &str = "last";

/// The mode of files that only their owner may read.
const PRIVATE: u32 = 0o600;

/// The name of the stream of a folder, drawn and written down when there is none. The folder is made where it is missing.
///
/// # Errors
/// [`AgentError`] when the folder cannot be used, or its stream's name cannot be read.
pub fn stream_of(folder: &Path) -> Result<StreamId, AgentError> {
    make_folder(folder)?;
    leave::finish(folder)?;
    if let Some(stream) = named_stream(folder)? {
        return Ok(stream);
    }
    let file = folder.join("stream");
    let stream = StreamId::from_bytes(drawn()?);
    write_once(folder, &file, &stream.to_key()).map_err(failed("write the name of the stream", &file))?;
    let text = fs::read_to_string(&file).map_err(failed("read the name of the stream", &file))?;
    read_stream(&file, &text)
}

/// Writes a line, or text without its last line end, down durably. Under its own name only when it is whole, and never over another: of two processes that write at once, one
/// is read by both.
pub(crate) fn write_once(folder: &Path, file: &Path, line: &str) -> io::Result<()> {
    let mut staged = tempfile::NamedTempFile::new_in(folder)?;
    staged.write_all(format!("{line}\n").as_bytes())?;
    staged.as_file().sync_all()?;
    match staged.persist_noclobber(file) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => return Err(error.error),
        Ok(_) | Err(_) => {}
    }
    sync_folder(folder)
}

/// The name of the stream of a folder, if it has one.
pub(crate) fn named_stream(folder: &Path) -> Result<Option<StreamId>, AgentError> {
    let file = folder.join("stream");
    match fs::read_to_string(&file) {
        Ok(text) => Ok(Some(read_stream(&file, &text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read the name of the stream", &file)(error)),
    }
}

/// The folders of the incarnations that have begun, oldest first; none where the folder of all of them is missing.
pub(crate) fn begun(incarnations: &Path) -> io::Result<Vec<(IncarnationCounter, PathBuf)>> {
    let entries = match fs::read_dir(incarnations) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        found.extend(counter_of(&entry.file_name().to_string_lossy()).map(|counter| (counter, entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}

fn read_stream(file: &Path, text: &str) -> Result<StreamId, AgentError> {
    StreamId::from_key(text.trim()).map_err(|source| AgentError::Stream { file: file.to_owned(), source })
}

/// The key that the sequencer of this folder's stream was first seen to sign with, if there was one.
pub(crate) fn sequencer_key(folder: &Path) -> Result<Option<VerifyingKey>, AgentError> {
    let file = folder.join(SEQUENCER_KEY);
    match fs::read_to_string(&file) {
        Ok(text) => match text.trim().parse() {
            Ok(key) => Ok(Some(key)),
            Err(source) => Err(AgentError::SequencerKey { file, source }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read the sequencer's key", &file)(error)),
    }
}

/// Writes down whose signature was seen first, durably, and never over another. The folder is its caller's.
pub(crate) fn write_sequencer_key(folder: &Path, key: &VerifyingKey) -> Result<(), AgentError> {
    let file = folder.join(SEQUENCER_KEY);
    write_once(folder, &file, &key.to_string()).map_err(failed("write the sequencer's key", &file))
}

/// The folder of one agent, which owns it as long as this value lives.
#[derive(Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    stream: StreamId,
    /// The kernel lets the lock go when the file is closed, however the process ends.
    _lock: File,
}

impl Home {
    /// Takes the folder, which is made where it is missing.
    pub(crate) fn open(folder: &Path) -> Result<Self, AgentError> {
        make_folder(folder)?;
        let file = folder.join("agent.lock");
        let open = File::options().create(true).truncate(false).write(true).mode(PRIVATE).open(&file);
        let lock = open.map_err(failed("open the agent's lock", &file))?;
        match synddb_sqlite::lock::take(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(AgentError::Locked { folder: folder.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(failed("lock the agent's folder", &file)(error)),
        }
        let stream = stream_of(folder)?;
        make_folder(&folder.join("incarnations"))?;
        Ok(Self { folder: folder.to_owned(), stream, _lock: lock })
    }

    pub(crate) const fn stream(&self) -> StreamId {
        self.stream
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The incarnations that have begun, oldest first. What is left of one that has not is removed.
    pub(crate) fn incarnations(&self) -> Result<Vec<IncarnationFolder>, AgentError> {
        let folder = self.folder.join("incarnations");
        let list = || -> io::Result<Vec<IncarnationFolder>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.ends_with(UNFINISHED) {
                    fs::remove_dir_all(entry.path())?;
                } else if let Some(counter) = counter_of(&name) {
                    found.push(IncarnationFolder { counter, path: entry.path() });
                }
            }
            found.sort_by_key(|incarnation| incarnation.counter);
            Ok(found)
        };
        list().map_err(failed("look for incarnations", &folder))
    }

    /// A folder for an incarnation that is to begin.
    pub(crate) fn prepare(&self, counter: IncarnationCounter) -> Result<Unfinished, AgentError> {
        let incarnations = self.folder.join("incarnations");
        let (name, path) = (name_of(counter), incarnations.join(name_of(counter)));
        let unfinished =
            Unfinished { path: incarnations.join(name + UNFINISHED), incarnations, counter, named: path };
        let make = || -> io::Result<()> {
            match fs::remove_dir_all(&unfinished.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            DirBuilder::new().mode(0o700).create(&unfinished.path)?;
            DirBuilder::new().mode(0o700).create(unfinished.path.join("chunks"))
        };
        make().map_err(failed("make a folder for the incarnation", &unfinished.path))?;
        Ok(unfinished)
    }
}

/// A folder of an incarnation that has not begun.
#[derive(Debug)]
pub(crate) struct Unfinished {
    path: PathBuf,
    incarnations: PathBuf,
    counter: IncarnationCounter,
    named: PathBuf,
}

impl Unfinished {
    /// Writes a chunk. Each is synced before the next one comes, so that what the application syncs never waits for more than one.
    pub(crate) fn write_chunk(&self, hash: ChunkHash, bytes: &[u8]) -> Result<(), AgentError> {
        let file = self.path.join("chunks").join(hash.to_key());
        let write = || -> io::Result<()> {
            let mut chunk = match create_new(&file) {
                // The same pages again.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                opened => opened?,
            };
            chunk.write_all(bytes)?;
            chunk.sync_data()
        };
        write().map_err(failed("write a chunk of the snapshot", &file))
    }

    /// Writes the body of the snapshot's message.
    pub(crate) fn write_manifest(&self, body: &[u8]) -> Result<(), AgentError> {
        let file = self.path.join("manifest");
        let write = || -> io::Result<()> {
            let mut manifest = create_new(&file)?;
            manifest.write_all(body)?;
            manifest.sync_all()
        };
        write().map_err(failed("write the snapshot's manifest", &file))
    }

    /// Writes down which file the database is.
    pub(crate) fn write_database(&self, database: DatabaseFile) -> Result<(), AgentError> {
        let file = self.path.join(DATABASE);
        let write = || -> io::Result<()> {
            let mut named = create_new(&file)?;
            named.write_all(format!("{database}\n").as_bytes())?;
            named.sync_all()
        };
        write().map_err(failed("write down which file the database is", &file))
    }

    /// Where the outbox is made.
    pub(crate) fn outbox(&self) -> PathBuf {
        self.path.join("outbox.db")
    }

    /// The incarnation begins: all of its files are durable, and now so is its name.
    pub(crate) fn begin(self) -> Result<IncarnationFolder, AgentError> {
        let begin = || -> io::Result<()> {
            sync_folder(&self.path.join("chunks"))?;
            sync_folder(&self.path)?;
            fs::rename(&self.path, &self.named)?;
            sync_folder(&self.incarnations)
        };
        begin().map_err(failed("begin the incarnation", &self.named))?;
        Ok(IncarnationFolder { counter: self.counter, path: self.named })
    }
}

/// Which file a database is. A file that is made anew may get the inode of the one that was removed, and is made later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DatabaseFile {
    inode: u64,
    /// When it was made, in nanoseconds since 1970, where the file system says so.
    born: Option<u128>,
}

impl DatabaseFile {
    /// The file that a name leads to.
    pub(crate) fn at(database: &Path) -> io::Result<Self> {
        let found = fs::metadata(database)?;
        let born = found.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Ok(Self { inode: FileId::of(&found).inode, born: born.map(|born| born.as_nanos()) })
    }

    /// Whether it is certainly not the same file.
    pub(crate) fn is_another(self, than: Self) -> bool {
        let born = self.born.zip(than.born);
        self.inode != than.inode || born.is_some_and(|(one, other)| one != other)
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let inode = words.next()?.parse().ok()?;
        let born = words.next().map(str::parse).transpose().ok()?;
        words.next().is_none().then_some(Self { inode, born })
    }
}

impl std::fmt::Display for DatabaseFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.inode)?;
        self.born.map_or(Ok(()), |born| write!(f, " {born}"))
    }
}

/// The folder of an incarnation that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IncarnationFolder {
    pub(crate) counter: IncarnationCounter,
    path: PathBuf,
}

/// The snapshot that an incarnation begins with, as long as it may have to be sent.
#[derive(Debug)]
pub(crate) struct Spooled {
    /// The exact bytes of its message's body.
    pub(crate) body: Vec<u8>,
    pub(crate) snapshot: Snapshot,
}

impl IncarnationFolder {
    pub(crate) fn outbox(&self) -> PathBuf {
        self.path.join("outbox.db")
    }

    /// The snapshot; `None` once it was seen stored.
    pub(crate) fn spooled(&self) -> Result<Option<Spooled>, AgentError> {
        if !self.path.join("chunks").exists() {
            return Ok(None);
        }
        let file = self.path.join("manifest");
        let stored = read_bounded(&file, BODY_COMPRESSED_MAX)
            .map_err(failed("read the snapshot's manifest", &file))?;
        let body = Body::read(MessageType::Snapshot, stored.clone(), BODY_BYTES_MAX)?;
        match body.into_entry() {
            Entry::Snapshot(snapshot) => Ok(Some(Spooled { body: stored, snapshot })),
            Entry::Submission(_) | Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_) => Ok(None),
        }
    }

    /// Which file the database was when the incarnation began; `None` where that was not written down.
    pub(crate) fn database(&self) -> Option<DatabaseFile> {
        DatabaseFile::read(&fs::read_to_string(self.path.join(DATABASE)).ok()?)
    }

    /// A chunk of the snapshot.
    pub(crate) fn chunk(&self, hash: ChunkHash) -> io::Result<Vec<u8>> {
        read_bounded(&self.path.join("chunks").join(hash.to_key()), CHUNK_STORED_MAX)
    }

    /// Removes the snapshot, which was seen stored.
    pub(crate) fn forget_snapshot(&self) -> Result<(), AgentError> {
        remove(&self.path.join("chunks")).map_err(failed("remove the stored snapshot", &self.path))
    }

    /// Removes the incarnation, of which everything was seen stored.
    pub(crate) fn remove(&self) -> Result<(), AgentError> {
        // Without its name first, durably: what is left after a crash is no incarnation with half of its files.
        let mut unnamed = self.path.clone().into_os_string();
        unnamed.push(UNFINISHED);
        let unnamed = PathBuf::from(unnamed);
        let gone = fs::rename(&self.path, &unnamed)
            .and_then(|()| sync_folder(unnamed.parent().unwrap_or(&unnamed)))
            .and_then(|()| remove(&unnamed));
        gone.map_err(failed("remove a stored incarnation", &self.path))
    }
}

fn name_of(counter: IncarnationCounter) -> String {
    format!("{:012}", counter.get())
}

fn counter_of(name: &str) -> Option<IncarnationCounter> {
    name.parse().ok().and_then(|number| IncarnationCounter::new(number).ok())
}

/// Removes a folder that may be gone already.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a file that only its owner may read.
fn create_new(file: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(PRIVATE).open(file)
}

/// Makes a folder that only its owner may read, durably. One that is there already may be read, but not written, by others.
pub(crate) fn make_folder(folder: &Path) -> Result<(), AgentError> {
    let made = DirBuilder::new().mode(0o700).create(folder);
    match &made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {}
        // Also one that is there: whoever made it may have died before its name was synced, and with the name all would be gone.
        Ok(()) | Err(_) => sync_name(folder).map_err(failed("sync the name of", folder))?,
    }
    match made {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("make the agent's folder", folder)(error)),
    }
    let found = fs::metadata(folder).map_err(failed("look at the agent's folder", folder))?;
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(AgentError::Writable { folder: folder.to_owned(), mode });
    }
    Ok(())
}

/// Makes a folder's name survive a power cut.
fn sync_name(folder: &Path) -> io::Result<()> {
    let above = match folder.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    match sync_folder(above) {
        // Who may not read the folder above did not make this one.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Makes the names in a folder survive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn read_bounded(file: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    if fs::metadata(file)?.len() > bytes_max as u64 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is larger than it can be"));
    }
    fs::read(file)
}

/// An error of the operating system while `doing` something.
pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AgentError {
    move |source| AgentError::Io { doing, path: path.to_owned(), source }
}

/// Bytes that nobody draws twice.
pub(crate) fn drawn<const LENGTH: usize>() -> Result<[u8; LENGTH], AgentError> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(|error| AgentError::Io {
        doing: "draw random bytes",
        path: PathBuf::new(),
        source: io::Error::other(error),
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_file_that_is_made_anew_is_another_also_with_the_same_inode() {
        let one = DatabaseFile { inode: 7, born: Some(1_000_000_007) };
        for (other, is_another) in [
            (one, false),
            (DatabaseFile { inode: 8, ..one }, true),
            (DatabaseFile { born: Some(1_000_000_008), ..one }, true),
            // Written down before it was known when, or where no file system says so.
            (DatabaseFile { born: None, ..one }, false),
        ] {
            assert_eq!((one.is_another(other), other.is_another(one)), (is_another, is_another), "{other}");
            assert_eq!(DatabaseFile::read(&format!("{other}\n")), Some(other));
        }
        assert_eq!(DatabaseFile::read("7 8 9"), None);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.db");
        fs::write(&file, "one").unwrap();
        let (known, again) = (DatabaseFile::at(&file).unwrap(), DatabaseFile::at(&file).unwrap());
        fs::write(&file, "two").unwrap();
        assert!(!known.is_another(again) && !known.is_another(DatabaseFile::at(&file).unwrap()));
    }
}
