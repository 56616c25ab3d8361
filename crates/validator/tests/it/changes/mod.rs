//! `GET /changes`: what is shown, from where, to whom, and that whoever applies it has what the application has.

mod consumer;
mod copied;
mod reader;
mod refused;
mod revoked;
mod told;

use synddb_validator::{Config, Mode};

use crate::log::Log;

/// A replica of this log that can be asked.
fn listening(log: &Log) -> Config {
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    config
}
