//! The files of a database, damaged: whatever reads them ends, and says what is wrong or takes what is there.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::{
    CaptureError, CommittedState, Follower, Options, PIECE_BYTES, PollError, Sink, WalPosition,
};
use synddb_sqlite::compare;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::file::wal::{FRAME_HEADER_BYTES, HEADER_BYTES};
use synddb_sqlite::file::wal_index::HEAD_BYTES;
use synddb_sqlite::snapshot;
use synddb_sqlite::state::RunningState;

use super::decoders::copied;
use super::images::{Image, beside, folder, seal_frames, seal_index, seal_wal};
use super::patches::{Patch, Place, image, patches};

/// Most polls of one input; each image has fewer commits.
const POLLS_MAX: usize = 256;
/// How much a commit may hand over for each byte of the files: the least a row takes is 5 bytes, and what it becomes is a few numbers.
const GROWTH_MAX: u64 = 16;
/// The same, for files that are very small.
const BYTES_MIN: u64 = 1 << 20;

/// Which image and which reader, then patches: the follower attaches and polls, or whoever else reads whole databases reads this one, or both
/// do. Memory: a few times the files, which are below 8 MiB.
pub(crate) fn database(bytes: &[u8]) -> bool {
    let Some((image, reader, rest)) = image(bytes) else { return false };
    let patches = patches(rest);
    let folder = folder();
    let path = folder.path().join("app.db");
    let files = Files::of(image, &patches);
    files.write(&path).expect("the folder can be written to");
    // Each takes its time, and most damage tells one of them no more than another.
    match reader % 4 {
        0 | 1 => follow(&path, &files, &patches).is_ok(),
        2 => read(&path, &folder.path().join("copy.db")).is_some(),
        _ => {
            let followed = follow(&path, &files, &patches);
            let read = read(&path, &folder.path().join("copy.db"));
            if patches.is_empty() {
                let followed = followed.as_ref().expect("an image without damage is followed");
                assert_eq!(followed.hash(), read.expect("and read").hash());
            }
            followed.is_ok()
        }
    }
}

struct Files {
    page_size: usize,
    database: Vec<u8>,
    wal: Vec<u8>,
    tail: Vec<u8>,
}

impl Files {
    fn of(image: &Image, patches: &[Patch]) -> Self {
        let page_size = image.page_size;
        let (mut database, mut tail) = (image.database.clone(), image.tail.clone());
        let (head, frames) = image.attached.split_at(HEADER_BYTES);
        let mut frames = frames.to_vec();
        for patch in patches {
            match patch.place {
                Place::Database => patch.apply(&mut database, 0, page_size),
                Place::Attached => patch.apply(&mut frames, FRAME_HEADER_BYTES, page_size),
                Place::Tail => patch.apply(&mut tail, FRAME_HEADER_BYTES, page_size),
                Place::Behind => {}
            }
        }
        let mut wal = [head, &frames].concat();
        seal_wal(&mut wal);
        Self { page_size, database, wal, tail }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, &self.database)?;
        fs::write(beside(path, "-wal"), &self.wal)
    }

    fn bytes(&self) -> u64 {
        (self.database.len() + self.wal.len() + self.tail.len()) as u64
    }

    /// Commits the tail as a writer does that does not care what it writes: frames, then the wal-index.
    fn commit_tail(&self, path: &Path) -> io::Result<()> {
        let stride = FRAME_HEADER_BYTES + self.page_size;
        let word = |frame: &[u8], at: usize| {
            u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
        };
        let before = self.wal[HEADER_BYTES..].chunks_exact(stride).next_back();
        let before = before
            .map_or([word(&self.wal, 24), word(&self.wal, 28)], |frame| [word(frame, 16), word(frame, 20)]);
        let mut tail = self.tail.clone();
        let salts = self.wal[16..24].try_into().expect("eight bytes");
        let checksum = seal_frames(&mut tail, self.page_size, salts, before);
        fs::OpenOptions::new().append(true).open(beside(path, "-wal"))?.write_all(&tail)?;
        let index = fs::OpenOptions::new().read(true).write(true).open(beside(path, "-shm"))?;
        let mut head = [0; HEAD_BYTES];
        index.read_exact_at(&mut head, 0)?;
        let frames = (self.wal.len() - HEADER_BYTES + tail.len()) / stride;
        let pages = tail.chunks_exact(stride).map(|frame| word(frame, 4)).rfind(|pages| *pages != 0);
        let frames = u32::try_from(frames).expect("the image is small");
        head[16..20].copy_from_slice(&frames.to_ne_bytes());
        head[20..24].copy_from_slice(&pages.unwrap_or(1).to_ne_bytes());
        head[24..28].copy_from_slice(&checksum[0].to_ne_bytes());
        head[28..32].copy_from_slice(&checksum[1].to_ne_bytes());
        seal_index(&mut head);
        index.write_all_at(&head, 0)
    }
}

/// Takes what is captured, and checks that it is what it must be in any case.
struct Taken {
    rows: Vec<u8>,
    bytes_max: u64,
}

impl Taken {
    fn take(&mut self, changes: &Changes) {
        assert!(changes.rows.len() <= PIECE_BYTES, "a piece has a bound");
        self.rows.extend_from_slice(&changes.rows);
        assert!(self.rows.len() as u64 <= self.bytes_max, "a commit holds what its pages hold");
    }
}

impl Sink for Taken {
    type Error = Infallible;

    fn piece(&mut self, changes: Changes) -> Result<(), Infallible> {
        self.take(&changes);
        Ok(())
    }

    fn commit(&mut self, changes: Changes, _: &mut CommittedState<'_>) -> Result<(), Infallible> {
        self.take(&changes);
        let rows = std::mem::take(&mut self.rows);
        assert!(copied(rows.as_slice()).expect("what is captured can be read") == rows);
        Ok(())
    }

    fn persist(&mut self, _: &WalPosition, _: &RunningState) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Attaches, has the rest committed, and captures it.
fn follow(path: &Path, files: &Files, patches: &[Patch]) -> Result<RunningState, CaptureError> {
    let mut follower = Follower::attach(path, Options::default())?;
    let mut behind = patches.iter().filter(|patch| patch.place == Place::Behind).peekable();
    if behind.peek().is_some() {
        let mut database = fs::read(path).expect("it is there");
        behind.for_each(|patch| patch.apply(&mut database, 0, files.page_size));
        let file = File::options().write(true).open(path).expect("it is there");
        file.write_all_at(&database, 0)
            .and_then(|()| file.set_len(database.len() as u64))
            .expect("it can be written");
    }
    files.commit_tail(path).expect("the files of a followed database are there");
    let mut sink = Taken { rows: Vec::new(), bytes_max: BYTES_MIN + GROWTH_MAX * files.bytes() };
    for _ in 0..POLLS_MAX {
        match follower.poll(&mut sink) {
            Ok(0) => return Ok(follower.state().clone()),
            Ok(_) => {}
            Err(PollError::Capture(error)) => {
                let again = follower.poll(&mut sink);
                assert!(matches!(again, Err(PollError::Capture(CaptureError::Stopped))), "it stays stopped");
                return Err(error);
            }
            Err(PollError::Sink(never)) => match never {},
        }
    }
    panic!("the follower finds more commits than there are frames");
}

/// Reads the database in every other way in which one is read as a whole.
fn read(path: &Path, copy: &Path) -> Option<RunningState> {
    let connection = Connection::open_to_read(path).ok()?;
    let writer = snapshot::Writer::new(&connection);
    let written = writer.and_then(|writer| writer.collect::<Result<Vec<_>, _>>());
    let state = RunningState::scan(&connection);
    drop(connection);
    fs::copy(path, copy).expect("the folder can be written to");
    // SQLite takes the WAL away from a file whose header says that it has none.
    fs::copy(beside(path, "-wal"), beside(copy, "-wal")).ok();
    if let Ok(difference) = compare::first_difference(path, copy) {
        assert!(written.is_err() || difference.is_none(), "a copy is equal: {difference:?}");
    }
    state.ok()
}
