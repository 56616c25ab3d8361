//! What the `synddb` command does. `main` only calls it.
//!
//! | module | holds |
//! |---|---|
//! | `arguments` | the command line: the closed set of commands and what they accept |
//! | `output` | what is printed, for people and for programs |
//! | `exit` | how a command ends: errors and exit codes |
//! | `refusal` | paths that commands refuse before they touch anything |
//! | `mirror` | keeps a second file equal to an application's, without network |
//! | `diff` | says whether two databases are equal |
//!
//! Knows how roles are put together, and nothing of what they do.

mod arguments;
mod diff;
mod exit;
mod mirror;
mod output;
mod refusal;

pub use arguments::Arguments;
pub use exit::{CommandError, Exit, chain};
pub use mirror::{Divergence, Summary};
pub use output::{Event, Output};
pub use refusal::Refusal;
