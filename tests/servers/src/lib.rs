#![doc = include_str!("../README.md")]

mod ask;
mod child;
mod front;
mod host;
mod port;
mod programs;
mod server;
mod signing;

pub use ask::Answer;
pub use host::StaticHost;
pub use programs::{Program, need};
pub use server::{ObjectServer, Platform};
