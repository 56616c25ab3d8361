//! Follows what a bridge tells: each of its inbound messages once and in order, over nodes that drop, repeat, reorder, lag and answer only small questions.
//!
//! # How
//!
//! [`Core`] decides; it has no clock and asks nobody. [`Follower`] asks the nodes that it names, and gives what comes next.
//!
//! # What may be believed
//!
//! - Only blocks that are final are looked at ([`Finality`](crate::Finality)), so nothing that a chain takes back before that is ever given.
//! - Nonces are dense, so an event that a node leaves out is noticed by the one behind it; and the bridge counts what it sent, so one that is left out at
//!   the end is noticed by the count. Both have the blocks since the last event looked at again.
//! - An event is of a block that the chain has: the hash of the block is asked for, too.
//! - Where several nodes are named, all have to say the same, or nothing is given.
//!
//! Looks are made at times; [`hear_blocks`] says when one is worth it before that.
//!
//! [`Nodes`] and [`Deadlines`] are what a configuration says of it.
//!
//! Where to go on is the caller's to remember ([`Cursor`]); whoever forgets it looks at everything again, and is given nothing twice.

mod core;
mod driver;
mod event;
mod late;
mod nodes;
mod wake;

pub use self::core::{Ask, Core, Cursor, Fault, Head, RANGE_MAX};
pub use self::driver::{FollowError, Follower};
pub use self::event::{BridgeEvent, EventError};
pub use self::late::Deadlines;
pub use self::nodes::{Nodes, NodesError};
pub use self::wake::hear_blocks;
