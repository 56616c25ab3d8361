#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | module | holds |
//! |---|---|
//! | `key` | [`Key`]: the closed set of names in a store, their text, their size bounds |
//! | `store` | [`BatchStore`]: the contract; what its methods answer and how they fail |
//! | `url` | [`StoreUrl`]: the address of a store |
//! | `object` | [`ObjectBatchStore`]: buckets, static hosts, files and memory, over `object_store` |
//! | `remote` | what is reached over HTTP: clients, credentials from [`Variables`], what a [`Refusal`] means |
//! | `failure` | errors of backends, sorted (private) |
//! | `local` | what files need to survive a power cut (private) |
//! | `names` | the names in a folder of files (private) |
//! | `last` | [`last_batch`], [`last_epoch`], [`last_snapshot`]: the end of a log in few requests |
//! | `missing` | [`missing_chunks`]: which chunks of a snapshot are not there |
//! | `lease` | [`Lease`]: the one object that is overwritten, a hint for standby sequencers |
//! | `survey` | [`Name`]: everything that a store holds, also what is no key |
//! | `sweep` | [`Sweeper`]: removing manifests and chunks, which a [`BatchStore`] cannot |
//! | [`faulty`] | a wrapper that is slow, lossy or behind on demand |
//! | [`conformance`] | the contract as a suite that every implementation runs |

pub mod conformance;
mod failure;
pub mod faulty;
mod key;
mod last;
mod lease;
mod local;
mod missing;
mod names;
mod object;
mod remote;
mod store;
mod survey;
mod sweep;
mod url;

pub use key::{Folder, Key, KeyError, Kind};
pub use last::{last_batch, last_epoch, last_snapshot};
pub use lease::{LEASE_BYTES_MAX, Lease, LeaseError, LeaseName, LeaseNameError, LeaseVersion};
pub use missing::missing_chunks;
pub use object::{ObjectBatchStore, OpenError};
pub use remote::{Refusal, SettingsError, Variables};
pub use store::{
    BatchStore, Cause, Existing, Failure, GetError, ListError, PAGE_KEYS_MAX, Page, PageLimit, Put, PutError,
    Start,
};
pub use survey::Name;
pub use sweep::{Removable, RemoveError, Stored, Sweeper};
pub use url::{StoreUrl, StoreUrlError};
