//! What only tests ask of capture: what a commit did to the trees and faults that are planted on purpose, with the feature `probes`; and
//! places to be killed at, with the feature `killable` alone, since a footprint takes as long as the database is large.
//!
//! Without the features nothing here costs anything: no fault can be planted, and no footprint is taken.

mod footprint;
mod killed;
pub mod planted;

#[cfg(feature = "probes")]
pub use footprint::{Footprint, TableRows};
pub(super) use footprint::{Footprints, Step};
pub use killed::reached;
