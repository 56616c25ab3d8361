//! Leases and standing by: who leads where several sequencers could, and when another one begins.
//!
//! ```text
//! standby:  watch -> take the lease -> lead, and keep it -> (the owner ends) -> release -> watch
//! leader:            seize it       -> lead, and keep it -> (the owner ends) -> release
//!                                        |        ^
//!                                        v        |
//!                          somebody else's -> watch it, not ready, and lead on until a put says deposed
//! deposed:  a standby watches again; a leader refuses all writes from there on
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `content` | what stands in a lease |
//! | `watch` | the pure decision whether a lease may be taken |
//! | `keeper` | taking, keeping and releasing the lease of one stream |
//! | `post` | the streams that a standby watches, and the tasks that do |
//!
//! What must stay true:
//!
//! - A lease is a hint. Nothing here decides whether a message may be stored: the fence in the log does (I6).
//! - Whoever stands by begins to lead only with a lease that its own write took: of several standbys one begins.
//! - Times of two machines are never compared, and only an answered read makes a lease older.
//! - A lease is released after everything accepted is stored, or can not be stored by this process any more.

mod content;
mod keeper;
mod post;
mod watch;

pub(crate) use content::Holder;
pub(crate) use keeper::{Keeper, Leases, Start, UNTRUSTED};
pub(crate) use post::stand_by;
