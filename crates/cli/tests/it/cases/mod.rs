//! What happens to a database, its agent and their machine, each once: the replica is the application's database in the end, and where
//! something was not seen, that is told.

mod away;
mod clock;
mod copied;
mod exchanged;
mod full;
mod huge;
mod stopped;

use super::roles::{Role, signal, until_gone};

/// What an agent says that went on exactly where it was.
pub(crate) const EXACTLY: &str = "goes on exactly";

/// Kills an agent together with what keeps its place, as the loss of a container would.
fn kill_with_pin(agent: &mut Role) {
    let pin = agent.pin();
    // While it lives it may start another one.
    agent.kill();
    if let Some(pin) = pin {
        signal(pin, "KILL");
        until_gone(pin);
    }
}
