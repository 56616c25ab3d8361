#![doc = include_str!("../README.md")]

mod config;
mod error;
mod run;

pub use config::{Config, ConfigProblem, FeePolicy, Finality, PORT, RetryPolicy, VALIDATORS_ASKED_MAX};
pub use error::RelayerError;
pub use run::{Started, check, run};
