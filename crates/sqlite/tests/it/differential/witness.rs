//! Who else watches a transaction: SQLite's session extension from outside, or the recorder of the embedded source from inside. Those are
//! two of the three witnesses; the third, the full scan, comes with every `check` (mirror.rs).
//!
//! Both work while statements run, capture works on pages afterwards. What they say is compared when the commit was captured.

use synddb_protocol::hash::StateHash;
use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::embedded::{RecordError, Recorder, Scope};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::session::{Keyless, Session};
use synddb_sqlite::state::RunningState;

use super::model::Outcome;
use super::script::Witness;
use super::setup::Local;

/// What a witness says of one commit.
pub(super) enum Testimony {
    /// A changeset of the session extension.
    Session(Vec<u8>),
    /// What the recorder would have sent, and the state hash after it.
    Recorder(Box<Changes>, StateHash),
}

/// A witness of the transaction under way.
pub(super) enum Watching {
    Nobody,
    Session(Session),
    Recorder(Box<Recording>),
}

/// The recorder, from BEGIN to COMMIT.
pub(super) struct Recording {
    recorder: Option<Recorder>,
    state: RunningState,
    testimony: Option<Changes>,
}

impl Watching {
    pub(super) fn begin(witness: Witness, local: Option<&Local>) -> Self {
        let Some(local) = local else { return Self::Nobody };
        match witness {
            Witness::Nobody => Self::Nobody,
            Witness::Session => {
                let mut session = Session::open(&local.connection, Keyless::Skip).unwrap();
                session.attach(None).unwrap();
                Self::Session(session)
            }
            Witness::Recorder => {
                let state = RunningState::scan(&local.connection).unwrap();
                Self::Recorder(Box::new(Recording { recorder: None, state, testimony: None }))
            }
        }
    }

    /// What the witness says of the one commit that was made.
    pub(super) fn testimony(self) -> Result<Option<Testimony>, &'static str> {
        match self {
            Self::Nobody => Ok(None),
            Self::Session(mut session) => match session.changeset() {
                Ok(changeset) => Ok(Some(Testimony::Session(changeset))),
                Err(_) => Err("the session failed"),
            },
            Self::Recorder(recording) => {
                let Recording { state, testimony, .. } = *recording;
                Ok(testimony.map(|changes| Testimony::Recorder(Box::new(changes), state.hash())))
            }
        }
    }

    /// Runs a statement with the witness watching. The error is what a recorder must not do.
    pub(super) fn run(
        &mut self,
        connection: &Connection,
        sql: &str,
        run: impl FnOnce() -> Outcome,
    ) -> Result<Outcome, String> {
        match self {
            Self::Nobody | Self::Session(_) => Ok(run()),
            Self::Recorder(recording) => recording.run(connection, sql, run),
        }
    }
}

impl Recording {
    fn run(
        &mut self,
        connection: &Connection,
        sql: &str,
        run: impl FnOnce() -> Outcome,
    ) -> Result<Outcome, String> {
        let failed = |doing: &str, error: RecordError| format!("the recorder cannot {doing}: {error}");
        if sql == "COMMIT"
            && let Some(recorder) = &mut self.recorder
        {
            match recorder.finish(&mut self.state, Scope::Schema) {
                Ok(changes) => self.testimony = Some(changes),
                Err(RecordError::TooLarge) => {}
                Err(error) => return Err(failed("finish", error)),
            }
        }
        let outcome = run();
        if outcome.in_transaction && self.recorder.is_none() && sql.starts_with("BEGIN") {
            let mut recorder =
                Recorder::install(connection).map_err(|error| failed("be installed", error))?;
            recorder.begin(&self.state).map_err(|error| failed("begin", error))?;
            self.recorder = Some(recorder);
        }
        if let Some(recorder) = &mut self.recorder {
            let committed = sql == "COMMIT" && outcome.error.is_none();
            if committed {
                recorder.committed(&mut self.state);
            } else if sql == "COMMIT" || !outcome.in_transaction {
                recorder.rolled_back(&mut self.state);
                self.testimony = None;
            }
            if committed || !outcome.in_transaction {
                self.recorder = None;
            }
        }
        Ok(outcome)
    }
}
