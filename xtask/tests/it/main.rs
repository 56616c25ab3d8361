//! The rules of xtask against trees with one planted fault each, and against the real tree.
//!
//! Planted trees are real workspaces in temporary folders, described by the real cargo without network.

#[cfg(test)]
mod codegen;
#[cfg(test)]
mod failed;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod planted;
#[cfg(test)]
mod process;
#[cfg(test)]
mod quick_start;
#[cfg(test)]
mod real_tree;
#[cfg(test)]
mod runtimes;
#[cfg(test)]
mod rust_source;
#[cfg(test)]
mod summary;
#[cfg(test)]
mod tidy;
