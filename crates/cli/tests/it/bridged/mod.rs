//! Rows that become transactions on a real chain: an application, sequencer, validators and relayer as processes, the contracts on anvil.
//!
//! | module | shows |
//! |---|---|
//! | `out` | without a quorum nothing is executed, with one each row exactly once, whatever is killed |
//! | `forged` | what a sequencer signs that is not in the log is executed by nobody |
//! | `changed` | a row that is changed or deleted is refused and said |
//! | `renewed` | an id that was used says nothing else in a database that is made anew |
//! | `escrow` | what fails stays in custody, and is done once it can be |
//! | `lying` | a node that drops, delays, repeats and lies changes nothing of that |
//! | `followed` | what the bridge tells the application is given once and in order, and nothing that the chain takes back |
//! | `deposited` | what the bridge tells the application becomes rows, each once and in order, whoever is killed and whatever a node says |
//! | `late` | an application that does not acknowledge is warned, then delayed, then halted, and goes on when it has caught up |
//! | `unseen` | what was acknowledged while no agent ran, and came with a snapshot, makes nobody late |
//! | `ignored` | a deposit that a sequencer leaves out past its time halts what goes out, until it is in the log |
//! | `circle` | deposit, credit, trades, withdrawal: what is in custody is what the application owes |
//! | `equivocated` | a key that signed two contents for one place is frozen by whoever shows both |
//!
//! `cargo xtask e2e out` runs what goes out, `in` what comes in, `bridge` the circle.

mod application;
mod chain;
mod changed;
mod circle;
mod deposited;
mod equivocated;
mod escrow;
mod followed;
mod forged;
mod foundry;
mod front;
mod ignored;
mod late;
mod lying;
mod out;
mod renewed;
mod unseen;
mod world;
