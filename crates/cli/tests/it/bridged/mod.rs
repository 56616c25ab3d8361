//! Rows that become transactions on a real chain: an application, sequencer, validators and relayer as processes, the contracts on anvil.
//!
//! `out` shows that without a quorum nothing is executed, and with one each row exactly once, whatever is killed meanwhile.

mod chain;
mod changed;
mod escrow;
mod forged;
mod foundry;
mod lying;
mod out;
mod world;
