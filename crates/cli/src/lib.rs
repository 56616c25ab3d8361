//! What the `synddb` command does. `main` only calls it.
//!
//! | module | holds |
//! |---|---|
//! | `arguments` | the command line: the closed set of commands and what they accept |
//! | `commands` | which command does what |
//! | `output` | what is printed, for people and for programs |
//! | `exit` | how a command ends: errors and exit codes |
//! | `refusal` | paths that commands refuse before they touch anything |
//! | `folder` | the folder beside a database: what lies where |
//! | `process` | what long-running commands begin with |
//! | `peer` | asking a running process something |
//! | `stop` | whether a command was asked to end |
//! | `dev` | agent, sequencer and validator under one command |
//! | `follow` | the agent, with its HTTP front |
//! | `services` | sequencer, validator, replica |
//! | `relayer`, `bridge` | what brings messages to a chain, and what became of them there |
//! | `wait`, `status`, `detach` | waiting, looking, ending for good |
//! | `named` | stores and keys that are named on the command line, and what the wrong ones are |
//! | `mirror` | keeps a second file equal to an application's, without network |
//! | `diff` | says whether two databases are equal |
//! | `verify` | checks a whole stored log |
//! | `gc` | removes from a store what nobody needs |
//! | `restore` | the database as it was, from a store alone |
//! | `configuration` | what the processes can be told, and what a configuration comes to |
//! | `inspect` | shows an object of a log to people |
//! | `doctor` | says whether a database can be followed, and what to do about it |
//! | `bench` | what following costs the application, and how far behind it is |
//!
//! Knows how roles are put together, and nothing of what they do.

mod arguments;
mod bench;
mod bridge;
mod commands;
mod configuration;
mod detach;
mod dev;
mod diff;
mod doctor;
mod endorsements;
mod exit;
mod folder;
mod follow;
mod gc;
mod init;
mod inspect;
mod messages;
mod mirror;
mod named;
mod output;
mod peer;
mod process;
mod refusal;
mod relayer;
mod restore;
mod rules;
mod services;
mod status;
mod stop;
mod token;
mod verify;
mod wait;

pub use arguments::Arguments;
pub use bench::{
    Acknowledged, Agent, BenchError, CallsPerMinute, CatchUp, Figures, Giant, Idle, Lag, Lags, Latencies,
    Latency, Load, Machine, Measured, Paced, Pairs, Ratio, Restart, Ruled, Single, Synchronous, Syncs, Walk,
};
pub use bridge::{BridgeReport, MessageReport, Signatures};
pub use commands::run;
pub use dev::{ChainError, ENVIRONMENT_IS_WHOLE};
pub use diff::{Compared, DifferingRow, History, Stand};
pub use doctor::{Code, Count, Finding, Severity};
pub use exit::{CommandError, Exit};
pub use follow::StoredState;
pub use inspect::{InspectError, Shown, Signed, Trust};
pub use mirror::{Divergence, Summary};
pub use output::{Bridged, Continuity, Event, Output, Process, Stage, Writer};
pub use peer::PeerError;
pub use refusal::Refusal;
