//! Snapshots that a stranger made up.

use std::fs;
use std::sync::OnceLock;

use synddb_protocol::hash::{ChunkHash, StateHash};
use synddb_protocol::id::{Incarnation, IncarnationCounter, IncarnationNonce, StreamId};
use synddb_protocol::log::{PagePlaces, Patch};
use synddb_protocol::submission::{Chunk, PageSize, Snapshot, SnapshotPlace, TextEncoding};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::snapshot;
use synddb_sqlite::state::RunningState;

use super::images::{Image, beside, folder, images};
use super::patches::patches;

/// Bytes of pages in one chunk here.
const RUN_BYTES: usize = 1 << 20;

/// The honest snapshot of an image.
struct Base {
    page_size: PageSize,
    encoding: TextEncoding,
    state: StateHash,
    pages: Vec<u8>,
}

/// Which image, what follows (1: the bytes of a chunk, otherwise damage; 2: damage comes as pages laid over the honest ones; 4: and where they are
/// laid follows too), then that. What is restored is what the manifest claims, or nothing is left. Memory: one chunk, and what SQLite's cache takes.
pub(crate) fn restore(bytes: &[u8]) -> bool {
    let [first, raw, rest @ ..] = bytes else { return false };
    let bases = bases();
    let base = &bases[usize::from(*first) % bases.len()];
    let (chunks, patches, stored) = match raw & 3 {
        0 => patched(base, rest),
        2 => laid_over(base, rest, raw & 4 == 4),
        _ => raw_chunk(*raw, rest),
    };
    let manifest = manifest(base.page_size, base.encoding, base.state, chunks);
    let image = snapshot::Image { patches: &patches, ..snapshot::Image::of_snapshot(&manifest) };
    let folder = folder();
    let target = folder.path().join("restored.db");
    let mut stored = stored.into_iter();
    let restored = snapshot::restore(&target, &image, |_| stored.next().ok_or("there are no more"));
    let left = fs::read_dir(folder.path()).expect("the folder is there").count();
    match restored {
        Ok(state) => {
            assert_eq!(state.hash(), manifest.state);
            let connection = Connection::open_to_read(&target).expect("it was restored");
            assert_eq!(RunningState::scan(&connection).expect("and can be read").hash(), manifest.state);
            true
        }
        Err(_) => {
            assert!(!rest.is_empty() || raw & 1 == 1, "an honest snapshot is restored");
            assert_eq!(left, 0, "a failure leaves nothing behind");
            false
        }
    }
}

/// Runs, patches, and the bytes of all their chunks.
type Parts = (Vec<Chunk>, Vec<Patch>, Vec<Vec<u8>>);

/// A manifest, of nothing in particular but its chunks.
pub(crate) fn manifest(
    page_size: PageSize,
    encoding: TextEncoding,
    state: StateHash,
    chunks: Vec<Chunk>,
) -> Snapshot {
    let incarnation = Incarnation {
        counter: IncarnationCounter::new(1).expect("it starts at 1"),
        nonce: IncarnationNonce::from_bytes([2; 16]),
    };
    let (stream, place) = (StreamId::from_bytes([1; 32]), SnapshotPlace::Begins { predecessor: None });
    Snapshot { stream, incarnation, place, encoding, page_size, state, chunks }
}

/// One chunk with these stored bytes, which hash to its name.
fn raw_chunk(raw: u8, stored: &[u8]) -> Parts {
    let pages = u64::from(raw >> 1);
    let chunk = Chunk { hash: ChunkHash::of(stored), pages, stored_bytes: stored.len() as u64 };
    (vec![chunk], Vec::new(), vec![stored.to_vec()])
}

/// The chunks of damaged pages.
fn patched(base: &Base, rest: &[u8]) -> Parts {
    let (runs, stored) = sealed(&damaged(base, rest), base.page_size);
    (runs, Vec::new(), stored)
}

/// The honest chunks, and one with the damaged pages, laid where they belong or where the input says.
fn laid_over(base: &Base, rest: &[u8], anywhere: bool) -> Parts {
    let page_bytes = base.page_size.get() as usize;
    let (runs, mut stored) = sealed(&base.pages, base.page_size);
    let (mut held, mut places) = (Vec::new(), Vec::new());
    let pages = damaged(base, rest);
    let both = pages.chunks_exact(page_bytes).zip(base.pages.chunks_exact(page_bytes));
    let differing = (1_u32..).zip(both).filter(|(_, (damaged, honest))| damaged != honest);
    for (page, (damaged, _)) in differing.take(RUN_BYTES / page_bytes) {
        held.extend_from_slice(damaged);
        places.push(PagePlaces { first: Some(page), pages: 1 });
    }
    if places.is_empty() {
        return (runs, Vec::new(), stored);
    }
    for (place, bytes) in places.iter_mut().zip(rest.chunks_exact(3)).filter(|_| anywhere) {
        *place =
            PagePlaces { first: (bytes[0] > 9).then(|| u32::from(bytes[1])), pages: u32::from(bytes[2] % 4) };
    }
    let (chunk, bytes) = Chunk::seal(&held, base.page_size).expect("they are no more than a run");
    stored.push(bytes);
    (runs, vec![Patch { chunk, places }], stored)
}

/// The pages of an image with the damage that bytes ask for.
fn damaged(base: &Base, rest: &[u8]) -> Vec<u8> {
    let mut pages = base.pages.clone();
    for patch in patches(rest) {
        patch.apply(&mut pages, 0, base.page_size.get() as usize);
    }
    pages
}

fn sealed(pages: &[u8], page_size: PageSize) -> (Vec<Chunk>, Vec<Vec<u8>>) {
    let seal = |run| Chunk::seal(run, page_size).expect("a run fits a chunk");
    pages.chunks(RUN_BYTES).map(seal).unzip()
}

fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| images().iter().map(base).collect())
}

fn base(image: &Image) -> Base {
    let folder = folder();
    let path = folder.path().join("app.db");
    fs::write(&path, &image.database).expect("the folder can be written to");
    let wal = [image.attached.as_slice(), &image.tail].concat();
    fs::write(beside(&path, "-wal"), wal).expect("the folder can be written to");
    let connection = Connection::open_to_read(&path).expect("an image is whole");
    let writer = snapshot::Writer::new(&connection).expect("an image is whole");
    let (page_size, encoding) = (writer.page_size(), writer.encoding());
    let mut pages = Vec::new();
    for stored in writer {
        let stored = stored.expect("an image is whole");
        pages.extend(stored.chunk.open(&stored.bytes, page_size).expect("it was just made"));
    }
    let state = RunningState::scan(&connection).expect("an image is whole").hash();
    Base { page_size, encoding, state, pages }
}
