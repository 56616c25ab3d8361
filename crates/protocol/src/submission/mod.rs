//! What a client sends: commits, parts of a huge commit, and the snapshot a replica starts from.
//!
//! ```text
//! snapshot <- commit 1 <- commit 2 <- part 0 <- part 1 (last) <- commit 4      (one incarnation)
//! ```
//!
//! Every arrow is `prev`, the digest of what came before, so two agents on copies of one database part
//! at the first commit and are caught there. Row changes are opaque bytes here: what they mean belongs
//! to the crate that captures and applies them.

mod commit;
mod incarnation;
mod schema;
mod snapshot;

pub use commit::{Changes, Commit, CommitKind, Commits, Content, Part, StateClaim, Submission};
pub use schema::{ObjectKind, SchemaChange, SchemaRow, TextEncoding};
pub use snapshot::{Chunk, PageSize, Predecessor, Snapshot, SnapshotPlace};
