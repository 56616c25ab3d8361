#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | module | holds |
//! |---|---|
//! | [`outbox`] | what was captured and not yet seen in the store, durably |
//! | `home` | the agent's folder: its lock, the stream's name, the incarnations |
//! | `attach` | going on exactly, or as a new incarnation that begins with a snapshot |
//! | [`pin`] | the process that holds the place in the WAL, and outlives the agent |
//! | [`reconcile`] | going on in the same incarnation, where what was committed meanwhile is not told apart any more |
//! | [`embedded`] | commits that an application hands over itself |
//! | `source` | what commits are taken from |
//! | `capture` | the thread that captures, and answers |
//! | `ship` | the threads that send, and learn what is stored |
//! | [`Evidence`] | what contradicts what a sequencer signed |
//! | `leave` | ending for good |
//! | [`SocketPath`] | sockets in the agent's folder |
//! | `look` | what a folder holds, seen from outside |
//! | `metrics` | the names of what is measured |
//! | `span` | what is told of the way of a submission |
//! | `handle`, `status`, `event` | what is told and asked from outside |

mod attach;
mod capture;
mod config;
mod credential;
pub mod embedded;
mod error;
mod event;
mod evidence;
mod handle;
mod home;
mod leave;
mod look;
mod metrics;
pub mod outbox;
pub mod pin;
pub mod reconcile;
mod ship;
mod socket;
mod source;
mod span;
mod status;

pub use capture::{Audited, Ended};
pub use config::{Config, SEQUENCER_KEYS_MAX, SEQUENCERS_MAX};
pub use credential::{ClientFiles, FetchEvidence, ReadError, Tls, TlsError, TlsFiles, Token};
pub use error::{AgentError, PushError};
pub use event::{Because, Event, How};
pub use evidence::{EVIDENCE_FILES_MAX, Evidence, EvidenceError, Finding};
pub use handle::{Handle, Until, start};
pub use home::stream_of;
pub use leave::{forget, is_running, pending};
pub use look::{FolderState, IncarnationState, look};
pub use ship::check_sequencers;
pub use socket::SocketPath;
pub use status::{AgentStatus, Captured, Pending, Problem, ProblemKind, PromiseCheck, Promises, Statistics};
