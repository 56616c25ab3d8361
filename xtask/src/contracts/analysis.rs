//! The analyses: what judges the contracts beside their tests, each with artifacts of its own.

use clap::ValueEnum;

use super::scratch::Scratch;
use super::{Forge, coverage, halmos, slither};
use crate::counted::Counted;
use crate::python;
use crate::stage::Outcome;
use crate::tree::Tree;

/// One analysis, which is one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Analysis {
    /// Static analysis by Slither.
    Slither,
    /// Proofs by halmos.
    Halmos,
    /// Which branches the tests take.
    Coverage,
}

impl Analysis {
    /// All, in the order in which they run.
    pub(super) const ALL: [Self; 3] = [Self::Slither, Self::Halmos, Self::Coverage];

    /// Runs one.
    pub(super) fn run(self, tree: &Tree, forge: &Forge, run: &mut Counted) -> Outcome {
        match self {
            Self::Slither => {
                let what = "static analysis; each finding that stays is a row with a reason";
                run.stage("contracts slither", what, |_| {
                    let python =
                        python::environment(tree, slither::ENVIRONMENT, slither::REQUIREMENTS.as_ref())?;
                    slither::run(tree, forge, &python, &Scratch::new(tree, "slither")?)
                })
            }
            Self::Halmos => {
                let what = "proofs: any storage, any caller, any arguments within the bounds";
                run.stage("contracts halmos", what, |_| {
                    let python =
                        python::environment(tree, halmos::ENVIRONMENT, halmos::REQUIREMENTS.as_ref())?;
                    halmos::run(tree, forge, &python, &Scratch::new(tree, "halmos")?, None)
                })
            }
            Self::Coverage => {
                let what = "which branches of src the tests take";
                run.stage("contracts coverage", what, |_| {
                    coverage::run(forge, &Scratch::new(tree, "coverage")?)
                })
            }
        }
    }
}
