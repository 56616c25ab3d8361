#![cfg_attr(feature = "embedded", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "embedded"),
    doc = "What an application embeds. Everything here so far is behind the feature `embedded`."
)]

#[cfg(feature = "embedded")]
mod embedded;

#[cfg(feature = "embedded")]
pub use embedded::{Database, Error, Forbidden, Location, Locking, Options, Status};

/// What the agent of an embedded database is told, asked and tells.
#[cfg(feature = "embedded")]
pub use synddb_agent::{
    AgentError, AgentStatus, Because, Ended, Event, How, Problem, ProblemKind, PushError, Tls, TlsFiles,
    Token, Until, outbox,
};

/// The one copy of SQLite of this process. Another one that opens the same file would lose committed data.
#[cfg(feature = "embedded")]
pub use synddb_sqlite::rusqlite;
