//! `fuzz`: what nobody thought of, against the decoders and against the capture.
//!
//! | file | does |
//! |---|---|
//! | `packages.rs` | which fuzz packages there are, and what each target may take |
//! | `decoders.rs` | random bytes against decoders, with limits on time and memory |
//! | `capture.rs` | random applications against the whole capture, for as long as it is told, or one script done again |
//! | `coverage.rs` | which branches of the capture that run took, and which never |
//!
//! Knows of the packages and tests only their names.

mod capture;
mod coverage;
mod decoders;
mod packages;

use std::path::PathBuf;

use anyhow::{Result, ensure};

pub use decoders::Report;
pub use packages::{Bounds, Target, find};

use crate::tree::Tree;
use crate::verdict::Verdict;

/// The target that is no decoder: whole captures.
pub const CAPTURE: &str = "capture";
/// All decoders.
pub const ALL: &str = "all";

/// What to fuzz, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// A decoder, [`ALL`] of them, or [`CAPTURE`].
    pub target: String,
    /// Seconds for each target.
    pub seconds: u64,
    /// Decoders at the same time; 1 when nothing is said.
    pub jobs: Option<usize>,
    /// Where chance begins, to see a run of the capture again.
    pub seed: Option<u64>,
    /// Whether to tell which branches of the capture were taken.
    pub coverage: bool,
    /// A script of the capture to do again, instead of a hunt.
    pub script: Option<PathBuf>,
}

/// Runs what is asked for.
///
/// # Errors
/// When there is no such target, an option does not belong to it, or it cannot be built or started.
pub fn run(tree: &Tree, request: &Request) -> Result<Verdict> {
    check(request)?;
    let Request { target, seconds, jobs, seed, coverage, script } = request;
    if target != CAPTURE {
        return decoders::run(tree, target, *seconds, jobs.unwrap_or(1));
    }
    if let Some(script) = script {
        return capture::replay(tree, script);
    }
    let hunt = capture::Hunt { seconds: *seconds, seed: *seed };
    if *coverage { coverage::run(tree, &hunt) } else { capture::run(tree, &hunt) }
}

/// Whether the options are those of the target: one that does nothing would pass for one that did.
///
/// # Errors
/// When one is not.
pub fn check(request: &Request) -> Result<()> {
    if request.target == CAPTURE {
        ensure!(
            request.jobs.is_none(),
            "`--jobs` is for the decoders; the capture decides itself what runs at once"
        );
        ensure!(
            request.script.is_none() || (request.seed.is_none() && !request.coverage),
            "`--script` does one script and hunts for nothing: `--seed` and `--coverage` do not go with it"
        );
    } else {
        ensure!(
            request.seed.is_none() && !request.coverage && request.script.is_none(),
            "`--seed`, `--coverage` and `--script` are for `{CAPTURE}`"
        );
    }
    Ok(())
}
