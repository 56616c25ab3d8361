//! What only tests ask of capture, with the feature `probes`: what a commit did to the trees, and faults that are planted on purpose.
//!
//! Without the feature nothing here costs anything: no fault can be planted, and no footprint is taken.

mod footprint;
pub mod planted;

#[cfg(feature = "probes")]
pub use footprint::{Footprint, TableRows};
pub(super) use footprint::{Footprints, Step};
