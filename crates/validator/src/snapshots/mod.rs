//! Snapshots of a replica: taken and stored for those who begin later, and begun from.
//!
//! ```text
//! listed.rs  which snapshots lie in the store, and which batch ends at a place
//! begin.rs   a replica that is not there yet begins from one
//! learned.rs who signed what is before one
//! unfit.rs   why one is passed
//! take.rs    one is taken: scanned, and laid beside the replica, inside of one read transaction
//! spool.rs   what lies beside the replica: chunks that are not stored yet, and what the last snapshot was made of
//! taker.rs   when one is due, and how it comes into the store
//! shelf.rs   what is told of them over HTTP
//! ```
//!
//! What must stay true:
//!
//! - Nothing is signed that was not scanned, in the very transaction that its pages come from.
//! - A snapshot counts by the log alone: its checkpoint stands in a stored batch that a trusted leader signed, and its rows hash to what that
//!   claims. Who took it is believed in nothing.
//! - Neither taking nor looking for one keeps a replica from following the log.

mod begin;
mod learned;
mod listed;
mod shelf;
mod spool;
mod take;
mod taker;
mod unfit;

pub(crate) use begin::{Beginning, begin};
pub(crate) use shelf::{Shelf, routes};
pub(crate) use taker::{Taker, check_key, check_key_file, key};
