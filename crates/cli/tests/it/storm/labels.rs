//! The places on the sequencer's way at which it is killed.
//!
//! Not here are `tail fenced` and `begun anew`, which only a sequencer passes that was deposed: those are in `sequencer/tests/it/clones.rs`.

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label {
    pub(super) name: &'static str,
    /// Of how many times that a process comes by, the last at which it is killed, so that the place is reached in time.
    pub(super) times: Times,
    /// What must be so for a process to come by.
    pub(super) needs: Needs,
}

/// How often a process comes by a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    /// Once for each stream.
    EachStream,
    /// Again and again.
    Often,
    /// Perhaps once.
    Once,
}

/// What has to be done for a process to come by a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing more than clients.
    Clients,
    /// Clients that send snapshots.
    Snapshots,
    /// That the process before died with a batch that was cut and not put.
    Cut,
    /// That the process is asked to end.
    End,
}

/// A label at which another one is killed first, so that a batch is left that was cut and not put.
pub(super) const CUT_JOURNALLED: &str = "cut journalled";

const fn label(name: &'static str, times: Times, needs: Needs) -> Label {
    Label { name, times, needs }
}

/// All of them, in the order of a life.
pub(super) const LABELS: [Label; 16] = [
    label("epoch claimed", Times::EachStream, Needs::Clients),
    label("group committed", Times::Often, Needs::Clients),
    label("put sent", Times::Often, Needs::Clients),
    label("cut put again", Times::Once, Needs::Cut),
    label("tail adopted", Times::EachStream, Needs::Clients),
    label("put answered", Times::Often, Needs::Clients),
    label("fence written", Times::EachStream, Needs::Clients),
    label("group written", Times::Often, Needs::Clients),
    label("fence journalled", Times::EachStream, Needs::Clients),
    label("cut", Times::Often, Needs::Clients),
    label("fence stored", Times::EachStream, Needs::Clients),
    label(CUT_JOURNALLED, Times::Often, Needs::Clients),
    label("answered", Times::Often, Needs::Clients),
    label("marked", Times::Often, Needs::Clients),
    label("chunk stored", Times::Once, Needs::Snapshots),
    label("drain begun", Times::Once, Needs::End),
];
