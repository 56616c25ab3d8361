//! What lies beside a replica that takes snapshots, in a folder of its own that nobody else may enter.
//!
//! ```text
//! <replica>.snapshot/chunks/{sha256}   chunks that are not known to be stored
//! <replica>.snapshot/last              the last snapshot: its sequence, then what it was made of
//! ```
//!
//! Nothing of it is believed: a chunk is hashed before it is stored, and the last snapshot is compared with the manifest that the store has of it. Who
//! loses all of it stores more the next time, and nothing wrong.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::Sequence;
use synddb_protocol::submission::Chunk;
use synddb_sqlite::name::beside;
use synddb_sqlite::snapshot::{Made, StoredChunk};

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    folder: PathBuf,
}

/// The last snapshot that was stored.
#[derive(Debug, Clone)]
pub(super) struct Last {
    pub(super) sequence: Sequence,
    pub(super) made: Made,
}

/// Why nothing can be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} beside the replica; is the disk full? path=`{}`", path.display())]
pub(super) struct SpoolError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Spool {
    pub(super) fn beside(replica: &Path) -> Self {
        Self { folder: beside(replica, ".snapshot") }
    }

    fn chunks(&self) -> PathBuf {
        self.folder.join("chunks")
    }

    fn chunk(&self, hash: ChunkHash) -> PathBuf {
        self.chunks().join(hex::encode(hash.as_bytes()))
    }

    fn last_file(&self) -> PathBuf {
        self.folder.join("last")
    }

    /// Makes the folder where it is missing.
    pub(super) fn make(&self) -> Result<(), SpoolError> {
        let folder = self.chunks();
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&folder);
        made.map_err(|source| SpoolError { doing: "make a folder", path: folder, source })
    }

    /// Keeps a chunk, under its name only when it is whole. It need not survive a power cut.
    pub(super) fn keep(&self, stored: &StoredChunk) -> Result<(), SpoolError> {
        let path = self.chunk(stored.chunk.hash);
        if fs::metadata(&path).is_ok_and(|found| found.len() == stored.chunk.stored_bytes) {
            return Ok(());
        }
        let written = replace(&path, |file| file.write_all(&stored.bytes));
        written.map_err(|source| SpoolError { doing: "keep a chunk", path, source })
    }

    /// A chunk that was kept. `None` when it is gone, or is not what it was; it is removed then.
    pub(super) fn kept(&self, chunk: &Chunk) -> Option<Vec<u8>> {
        let bytes = fs::read(self.chunk(chunk.hash)).ok()?;
        if ChunkHash::of(&bytes) == chunk.hash {
            return Some(bytes);
        }
        self.forget(chunk.hash);
        None
    }

    /// Removes a chunk. One that stays is looked at the next time.
    pub(super) fn forget(&self, hash: ChunkHash) {
        fs::remove_file(self.chunk(hash)).ok();
    }

    /// Removes what is none of these chunks, and was left by somebody who was killed.
    pub(super) fn keep_only(&self, chunks: &[Chunk]) {
        let names: std::collections::BTreeSet<_> =
            chunks.iter().map(|chunk| hex::encode(chunk.hash.as_bytes())).collect();
        let entries = fs::read_dir(self.chunks()).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| !names.contains(&*entry.file_name().to_string_lossy())) {
            fs::remove_file(entry.path()).ok();
        }
    }

    /// What is known of the last snapshot. Nothing, where it is damaged.
    pub(super) fn last(&self) -> Option<Last> {
        let mut file = BufReader::new(File::open(self.last_file()).ok()?);
        let mut sequence = [0; 8];
        file.read_exact(&mut sequence).ok()?;
        let sequence = Sequence::new(u64::from_be_bytes(sequence)).ok()?;
        let made = Made::read(file).ok()?;
        Some(Last { sequence, made })
    }

    /// Remembers the last snapshot.
    pub(super) fn remember(&self, last: &Last) -> Result<(), SpoolError> {
        let path = self.last_file();
        let written = replace(&path, |file| {
            let mut file = BufWriter::new(file);
            file.write_all(&last.sequence.get().to_be_bytes())?;
            last.made.write(&mut file)?;
            file.flush()
        });
        written.map_err(|source| SpoolError { doing: "remember the last snapshot", path, source })
    }

    /// Forgets the last snapshot: the next one is stored whole.
    pub(super) fn forget_last(&self) {
        fs::remove_file(self.last_file()).ok();
    }
}

/// Writes a file under another name, and gives it this one when it is whole.
fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    let written = write(&mut file).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // What there is no room for must not take more of it.
        fs::remove_file(&unfinished).ok();
    }
    written
}
