//! What a validator says of its halt: at once what is known, and what differs as soon as it is found out.

use std::path::Path;

use synddb_protocol::chain;
use synddb_protocol::http::{Halt, Naming};
use synddb_service::shutdown::Shutdown;
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::config::Config;
use crate::difference;
use crate::error::HaltCause;
use crate::naming::name;
use crate::report::Report;
use crate::run::{Checked, Source};
use crate::view::View;

/// A validator that halted, and what it says of that.
pub(crate) struct Halting<'h> {
    pub(crate) config: &'h Config,
    pub(crate) checked: Checked,
    pub(crate) view: &'h View,
    pub(crate) replica: &'h Path,
    pub(crate) shutdown: &'h Shutdown,
}

impl Halting<'_> {
    /// A replica that was fetched again and halts where it did before: it is the log that cannot be followed.
    pub(crate) fn advise(&self, halt: &mut Halt, before: Option<&Report>) {
        let at = |halt: &Halt| halt.difference.as_deref().map(|difference| difference.sequence);
        if before.is_some_and(|before| at(&before.halted) == at(halt) && at(halt).is_some()) {
            let report = Report::path(self.replica);
            halt.detail = format!(
                "{}: a rebuilt replica halts at the same message, so the log itself diverges; accept the gap with `synddb validator \
                 resume --after-divergence {}`",
                halt.detail,
                report.display()
            );
        }
    }

    /// Serves and reports a halt: at once what is known, and what differs as soon as it is found out.
    pub(crate) async fn tell(&self, halt: &mut Halt, cause: &HaltCause, source: Source) {
        let stood = self.view.position();
        let is_named = cause.is_of_file() && stood.is_some();
        if let Some(difference) = halt.difference.as_deref_mut().filter(|_| is_named) {
            difference.naming = if self.config.name_differences { Naming::UnderWay } else { Naming::Off };
        }
        self.said(halt).await;
        let Some(stood) = stood.filter(|_| is_named && self.config.name_differences) else { return };
        let named = name(self.config, self.checked.aside(), source, self.replica, stood, self.shutdown).await;
        let Some(difference) = halt.difference.as_deref_mut() else { return };
        match named {
            Ok(named) => difference::named(difference, named.told, named.tables),
            Err(failure) => {
                warn!(error = %chain(&failure), "what differs in the replica could not be found out");
                difference.naming = Naming::Failed;
            }
        }
        self.said(halt).await;
    }

    async fn said(&self, halt: &Halt) {
        self.view.halted(halt.clone());
        let Some(report) = Report::of(self.checked.stream, self.view.position(), halt) else { return };
        let replica = self.replica.to_owned();
        let written = spawn_blocking(move || report.write(&replica)).await;
        // The halt is served all the same.
        match written {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => warn!(error = %chain(&failure), "the divergence is not reported in a file"),
            Err(fault) => warn!(error = %fault, "the divergence is not reported in a file"),
        }
    }
}
