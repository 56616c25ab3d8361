//! How a command judges the tree.

/// How a command that ran to its end judges the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Passed,
    /// Something is wrong, and was printed.
    Failed,
}
