//! Power cuts: what a disk that forgets what was not synced leaves, and that everything published is among it (I2).
//!
//! ```text
//! the machine that loses power                              other machines
//! application (Python, sqlite3 shell), `synddb follow` ---> sequencer, store, validator
//!        | shim.c: every write, sync, name in one trace
//!        v
//! the disk at a record, strict or torn (disk.rs) -> same processes again -> goes on, equal in the end
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `shim.c`, `trace.rs` | what the processes of a machine do to its disk, in one order |
//! | `disk.rs` | what a power cut leaves of it |
//! | `machine.rs` | the disk and its processes, and the cut |
//! | `told.rs`, `world.rs`, `application.rs` | processes and what they say; the other machines; who writes, and what a file holds |
//! | `found.rs` | what a cut may show |
//! | `published.rs` | an application and its agent lose power (I2, I3) |
//! | `services.rs` | sequencer, store, validator lose power (I4, I5, I6, I8) |
//!
//! ```sh
//! SYNDDB_POWER_CUTS=100 SYNDDB_POWER_LOOKS=20 SYNDDB_POWER_SEED=7 cargo test -p synddb-cli --test it powercut::published -- --nocapture
//! SYNDDB_POWER_SERVICE_CUTS=20 cargo test -p synddb-cli --test it powercut::services -- --nocapture
//! ```

mod application;
mod disk;
mod found;
mod machine;
mod published;
mod services;
mod told;
mod trace;
mod world;

use crate::chance::Chance;
use disk::Mode;

/// What is left of what was not synced, by chance: nothing or some.
fn drawn_mode(chance: &mut Chance) -> Mode {
    match chance.below(2) {
        0 => Mode::Strict,
        _ => Mode::Torn { kept: chance.one(&[5, 50, 95]), seed: chance.next() },
    }
}

/// A number that the environment may set.
fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}
