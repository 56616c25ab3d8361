#![doc = include_str!("../README.md")]

mod anvil;
mod ask;
mod authority;
mod child;
mod deaf;
mod front;
mod host;
mod listener;
mod port;
mod programs;
pub mod prometheus;
mod proxy;
mod schemathesis;
mod server;
mod signing;

pub use anvil::Anvil;
pub use ask::Answer;
pub use authority::{Authority, Pair};
pub use deaf::DeafProxy;
pub use host::StaticHost;
pub use port::Port;
pub use programs::{Program, need};
pub use proxy::{Blackout, Counts, Fault, Outcome, Proxy};
pub use schemathesis::{Answers, Questions, Statuses, document, operations};
pub use server::{ObjectServer, Platform};
