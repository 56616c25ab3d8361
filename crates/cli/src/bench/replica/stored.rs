//! An application whose log is stored, and nobody runs any more.

use std::fs;
use std::path::{Path, PathBuf};

use synddb_protocol::id::StreamId;
use synddb_service::secret::write_new_secret;
use synddb_sqlite::name::beside;
use tempfile::TempDir;

use crate::bench::agent::TOKEN;
use crate::bench::inside::Inside;
use crate::bench::pairs::number;
use crate::bench::scenario::alone;
use crate::bench::sequencer::Sequencer;
use crate::bench::writer::{Order, Reference, Synchronous, Until, Workload, Writer};
use crate::bench::{Bench, BenchError};
use crate::exit::CommandError;

/// A stored log, and the database that it is of.
pub(super) struct Stored {
    /// Everything of it; it goes with this value.
    pub(super) room: TempDir,
    pub(super) database: PathBuf,
    pub(super) store: String,
    pub(super) stream: StreamId,
    pub(super) key: String,
    /// How much is stored, in bytes.
    pub(super) bytes: u64,
    /// What the writer did while its commits were captured.
    pub(super) transactions: u64,
    pub(super) row_changes: u64,
    /// Row changes a second of the same writer alone.
    pub(super) app_per_second: f64,
}

impl Stored {
    /// Writes for the time that the benchmark has, alone, and then as much into a log.
    pub(super) fn make(bench: &Bench, scenario: &str, workload: Workload) -> Result<Self, BenchError> {
        bench.progress.set(format!("{scenario}, the application alone"));
        let bare = {
            let room = bench.room()?;
            let order = order(bench, &room.path().join("app.db"), workload, Until::Seconds(bench.seconds));
            alone(bench, &order.database, Writer::start(bench, &order)?)?
        };
        bench.progress.set(format!("{scenario}, making the log"));
        let room = bench.room()?;
        let database = room.path().join("app.db");
        let order = order(bench, &database, workload, Until::Transactions(bare.wrote.transactions));
        let mut writer = Writer::start(bench, &order)?;
        let token = beside(&database, "-token");
        write_new_secret(&token, TOKEN).map_err(CommandError::from)?;
        let sequencer = Sequencer::start(bench, room.path(), &token)?;
        let agent = Inside::start(bench, &database, sequencer.url(), &token)?;
        writer.go()?;
        let wrote = writer.wrote()?;
        agent.check(bench, scenario, wrote.transactions)?;
        agent.store(bench)?;
        let stream = agent.stream();
        agent.stop()?;
        let (store, key) = (sequencer.store().to_owned(), sequencer.key().to_owned());
        sequencer.end()?;
        writer.end()?;
        let bytes =
            folder_bytes(&room.path().join("store")).map_err(BenchError::system("look at the store"))?;
        Ok(Self {
            room,
            database,
            store,
            stream,
            key,
            bytes,
            transactions: wrote.transactions,
            row_changes: wrote.rows,
            app_per_second: number(bare.wrote.rows) / bare.wrote.seconds,
        })
    }
}

fn order(bench: &Bench, database: &Path, workload: Workload, until: Until) -> Order {
    Order {
        database: database.to_owned(),
        sqlite: bench.sqlite.clone(),
        workload,
        synchronous: Synchronous::Normal,
        until,
        warm_up: 0.0,
        capture: Reference::None,
    }
}

/// The bytes of all files below a folder.
fn folder_bytes(folder: &Path) -> std::io::Result<u64> {
    fs::read_dir(folder)?.try_fold(0, |sum, entry| {
        let entry = entry?;
        let metadata = entry.metadata()?;
        Ok(sum + if metadata.is_dir() { folder_bytes(&entry.path())? } else { metadata.len() })
    })
}
