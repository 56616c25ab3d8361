//! The build logic of SyndDB, in Rust so that one toolchain is enough to work on it.
//!
//! Commands, one file or folder each:
//!
//! | module | command | answers |
//! |---|---|---|
//! | [`check`] | `check` | is this tree fit to be merged, without running it |
//! | [`test`] | `test` | does it work |
//! | [`servers`] | `servers` | which servers do tests of remote stores start |
//! | [`contracts`] | `contracts` | do the contracts build, hold, cost and look as they did |
//! | [`e2e`] | `e2e` | does a row become a transaction, and a transaction a row, whatever is killed |
//! | [`demo`] | `demo` | what does it look like |
//! | [`layers`] | `layers` | do the crates depend on each other as `crates/layers.toml` says |
//! | [`tidy`] | `tidy` | is the tree in order: invariants, names, sizes, links, lock file |
//! | [`codegen`] | `codegen` | are the generated files what the code would generate |
//! | [`fuzz`] | `fuzz` | can a decoder be made to panic, to over-allocate or to hang; does the capture miss anything |
//!
//! Below them: [`cli`] (arguments), [`dispatch`] (from arguments to a command), [`verdict`] (how it ended), [`stage`] (one line and the seconds of each step), [`process`]
//! (children), [`machine`] (what may be installed here), [`tools`] (pinned third-party programs), [`tree`]
//! (files of the repository), [`python`] (environments with pinned packages), [`runtimes`] (Go and Node.js), [`rust_source`] (code apart from comments), [`summary`] (closing lines of test
//! runners), [`failed`] (what tests that failed said), [`quick_start`] (the README's commands).
//!
//! Imports none of the crates it checks. Of SyndDB it knows the names that are constants here: of pages, of tests, and of the files that
//! coverage is told of; tests hold them to the tree.

pub mod check;
pub mod cli;
pub mod codegen;
pub mod contracts;
pub mod counted;
pub mod demo;
pub mod dispatch;
pub mod e2e;
pub mod failed;
pub mod fuzz;
pub mod layers;
pub mod machine;
pub mod process;
pub mod python;
pub mod quick_start;
pub mod runtimes;
pub mod rust_source;
pub mod servers;
pub mod stage;
pub mod summary;
pub mod test;
pub mod tidy;
pub mod tools;
pub mod tree;
pub mod verdict;
