//! `cargo xtask e2e`: what the whole does, from end to end: real processes, a real chain, and nothing else. `cargo xtask test` does the same among all tests.

use anyhow::Result;

use crate::contracts;
use crate::counted::{Counted, runner};
use crate::process;
use crate::servers::{ANVIL, FORGE};
use crate::stage::Outcome;
use crate::summary::{self, Counts};
use crate::tree::Tree;
use crate::verdict::Verdict;

/// A way through the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// From a row of the application to a transaction of the chain.
    Out,
    /// From a transaction of the chain to a row of the application.
    In,
    /// Both, one behind the other: what is in custody is what the application owes.
    Bridge,
}

impl Way {
    /// The tests of it, in the command's own.
    const fn tests(self) -> &'static [&'static str] {
        match self {
            Self::Out => &[
                "bridged::changed",
                "bridged::equivocated",
                "bridged::escrow",
                "bridged::forged",
                "bridged::lying",
                "bridged::out",
                "bridged::renewed",
            ],
            Self::In => &[
                "bridged::deposited",
                "bridged::followed",
                "bridged::ignored",
                "bridged::late",
                "bridged::unseen",
            ],
            Self::Bridge => &["bridged::circle"],
        }
    }
}

/// Goes one way.
///
/// # Errors
/// Never because of what is found; that is the verdict.
pub(crate) fn run(tree: &Tree, way: Way) -> Result<Verdict> {
    let mut run = Counted::default();
    let mut tests = process::cargo(tree);
    run.stage("chain", "anvil and forge, of the npm packages of the contracts", |_| {
        for (variable, name) in [(ANVIL, "anvil"), (FORGE, "forge")] {
            tests.env(variable, contracts::program(tree, name)?);
        }
        Ok(Outcome::Passed)
    });
    tests.args(["test", "--locked", "--package", "synddb-cli", "--test", "it", "--", "--nocapture"]);
    tests.args(way.tests());
    let what = process::typed(&tests);
    run.stage("end to end", &what, |tally| {
        // The tests that are filtered out here are none of this way.
        let closing_line = |line: &str| Some(Counts { skipped: 0, ..summary::libtest(line)? });
        runner(&mut tests, closing_line, tally)
    });
    Ok(run.finish(None))
}
