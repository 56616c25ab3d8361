// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice Where a message is in its life. The zero value is what storage holds of a message that nobody brought.
///
///     NotStarted -> PreExecution -> Executing -> PostExecution -> Completed
///          |             |              |             |
///          |             |              +-------------+--> Failed -> (retry) Executing
///          +-------------+--> Rejected, Expired <--------------+
///
/// Both at once, a message goes from NotStarted straight to Executing. What may be done in each state is said in README.md.
enum State {
    /// Unknown here.
    NotStarted,
    /// Brought with the sequencer's signature, and not executed yet; or told to wait by a module.
    PreExecution,
    /// The call is running.
    Executing,
    /// The call has returned, and the modules look at what it did.
    PostExecution,
    /// Final: executed.
    Completed,
    /// Authorised and undone: its value is still in custody, and it may be retried.
    Failed,
    /// Final: authorised, and refused by the deny list or a module, or larger than a transaction.
    Rejected,
    /// Final: authorised, and brought after its deadline.
    Expired
}

/// @notice When a module looks at a message.
enum Phase {
    /// Before the call. What a module writes then stays written, even if the call fails.
    Pre,
    /// After the call. What a module writes then is undone with the call.
    Post
}

/// @notice What a module says of a message. The zero value passes nothing, so a module that forgets to answer stops its message.
enum Verdict {
    /// No answer.
    None,
    /// Go on.
    Pass,
    /// Not now. Before the call the message waits; after it the call is undone.
    Wait,
    /// Never. Before the call the message is rejected; after it the call is undone.
    Reject
}
