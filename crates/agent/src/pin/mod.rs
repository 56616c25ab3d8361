//! The process that holds the agent's place in the application's WAL, and outlives the agent.
//!
//! ```text
//! agent --one byte--> pin: held? open next! close last! end!        pin.sock in the agent's folder
//!       <-- 25 bytes- pin: yes or no, and the position that is held
//!
//! once connected, unasked: its process, and which file it holds a place of
//! ```
//!
//! It does nothing else, so nothing in it can go wrong: no capture, no network, no disk. An agent that is killed leaves it running; the next
//! one finds it at its socket and goes on exactly. One that ends by itself has it end as well.
//!
//! | file | holds |
//! |---|---|
//! | `serve.rs` | what the process does |
//! | `peer.rs` | how the agent starts it, finds it, and asks it |
//!
//! What must stay true: a pin never fills the application's disk. Without an agent it ends after a time, or when the WAL has become too
//! large; that is a gap then, which is never silent.

mod peer;
mod serve;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use synddb_sqlite::capture::WalPosition;
use synddb_sqlite::name::FileId;

pub use peer::running;
pub(crate) use peer::{PinPeer, dismiss};
pub use serve::{PinConfig, serve};

/// The program that an agent starts as its pin: one that calls [`serve`] with what it finds as its standard input.
#[derive(Debug, Clone)]
pub struct PinProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// How long an answer of a pin may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// How long moving may take: the application may wait for the write lock meanwhile.
const MOVE_MAX: Duration = Duration::from_millis(250);

/// What an agent asks, in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Held,
    OpenNext,
    CloseLast,
    End,
}

impl Request {
    const ALL: [Self; 4] = [Self::Held, Self::OpenNext, Self::CloseLast, Self::End];

    const fn byte(self) -> u8 {
        match self {
            Self::Held => b'h',
            Self::OpenNext => b'n',
            Self::CloseLast => b'c',
            Self::End => b'e',
        }
    }

    fn read(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|request| request.byte() == byte)
    }
}

/// What a pin answers: whether it is so, or was done, and a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    is_so: bool,
    position: [u8; WalPosition::BYTES],
}

impl Answer {
    const BYTES: usize = 1 + WalPosition::BYTES;

    const fn plain(is_so: bool) -> Self {
        Self { is_so, position: [0; WalPosition::BYTES] }
    }

    fn at(position: WalPosition) -> Self {
        Self { is_so: true, position: position.to_bytes() }
    }

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = u8::from(self.is_so);
        bytes[1..].copy_from_slice(&self.position);
        bytes
    }

    fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let mut position = [0; WalPosition::BYTES];
        position.copy_from_slice(&bytes[1..]);
        Self { is_so: bytes[0] == 1, position }
    }
}

/// What a greeting begins with.
const GREETING: [u8; 8] = *b"synddb-1";

/// What a pin says of itself when somebody has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Greeting {
    /// The number of its process, as itself sees it.
    pid: u32,
    /// In which namespace that number counts.
    namespace: u64,
    /// Which file it holds a place of.
    database: FileId,
}

impl Greeting {
    const BYTES: usize = GREETING.len() + 4 * 8;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let Self { pid, namespace, database: FileId { device, inode } } = self;
        let mut bytes = [0; Self::BYTES];
        let (start, words) = bytes.split_at_mut(GREETING.len());
        start.copy_from_slice(&GREETING);
        for (place, word) in words.chunks_exact_mut(8).zip([pid.into(), namespace, device, inode]) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let words = bytes.strip_prefix(&GREETING)?;
        let word = |at: usize| Some(u64::from_be_bytes(*words.get(8 * at..)?.first_chunk()?));
        let pid = u32::try_from(word(0)?).ok()?;
        Some(Self { pid, namespace: word(1)?, database: FileId { device: word(2)?, inode: word(3)? } })
    }
}

/// In which namespace process numbers count here; 0 where nobody says.
fn namespace() -> u64 {
    FileId::at(Path::new("/proc/self/ns/pid")).map_or(0, |file| file.inode)
}
