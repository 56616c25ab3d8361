//! Rows that become transactions on a real chain: an application, sequencer, validators and relayer as processes, the contracts on anvil.
//!
//! | module | shows |
//! |---|---|
//! | `out` | without a quorum nothing is executed, with one each row exactly once, whatever is killed |
//! | `forged` | what a sequencer signs that is not in the log is executed by nobody |
//! | `changed` | a row that is changed, removed or written anew is refused and said |
//! | `escrow` | what fails stays in custody, and is done once it can be |
//! | `lying` | a node that drops, delays, repeats and lies changes nothing of that |
//!
//! `cargo xtask e2e out` runs these alone.

mod chain;
mod foundry;
mod out;
mod world;
