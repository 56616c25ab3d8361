//! Where the programs are that the servers are made of.
//!
//! `cargo xtask test` installs them and names them in the environment. Otherwise they are looked for where it installs them: in
//! `tools/bin` of the target folder that this test was built into; anvil and forge where npm installs them. The static host and Prometheus are also looked for where systems have them.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// A program that a server is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Google Cloud Storage, but for what [`ObjectServer`](crate::ObjectServer) puts before it.
    FakeGcs,
    /// S3.
    Minio,
    /// Azure Blob Storage.
    Azurite,
    /// The static host.
    Nginx,
    /// What scrapes metrics.
    Prometheus,
    /// What checks metrics, rules and configurations of Prometheus.
    Promtool,
    /// What checks units of systemd.
    SystemdAnalyze,
    /// An EVM chain of one node.
    Anvil,
    /// What builds and deploys contracts.
    Forge,
}

impl Program {
    /// The variable that names it.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::FakeGcs => "SYNDDB_FAKE_GCS",
            Self::Minio => "SYNDDB_MINIO",
            Self::Azurite => "SYNDDB_AZURITE",
            Self::Nginx => "SYNDDB_NGINX",
            Self::Prometheus => "SYNDDB_PROMETHEUS",
            Self::Promtool => "SYNDDB_PROMTOOL",
            Self::SystemdAnalyze => "SYNDDB_SYSTEMD_ANALYZE",
            Self::Anvil => "SYNDDB_ANVIL",
            Self::Forge => "SYNDDB_FORGE",
        }
    }

    /// Its file name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FakeGcs => "fake-gcs-server",
            Self::Minio => "minio",
            Self::Azurite => "azurite-blob",
            Self::Nginx => "nginx",
            Self::Prometheus => "prometheus",
            Self::Promtool => "promtool",
            Self::SystemdAnalyze => "systemd-analyze",
            Self::Anvil => "anvil",
            Self::Forge => "forge",
        }
    }

    /// Finds it.
    ///
    /// # Errors
    /// When it is nowhere. The text says how to get it.
    pub fn find(self) -> Result<PathBuf> {
        if let Some(named) = std::env::var_os(self.variable()) {
            let named = PathBuf::from(named);
            if !named.is_file() {
                bail!("{} names no file. path=`{}`", self.variable(), named.display());
            }
            return Ok(named);
        }
        let built = std::env::current_exe().context("cannot tell where this test was built")?;
        let installed = built.ancestors().map(|folder| folder.join("tools/bin").join(self.name()));
        let is_of_system =
            matches!(self, Self::Nginx | Self::Prometheus | Self::Promtool | Self::SystemdAnalyze);
        let systems = is_of_system.then(|| {
            ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(|folder| Path::new(folder).join(self.name()))
        });
        let foundry =
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/node_modules/@foundry-rs"));
        let package = |name: &str| foundry.join(format!("{name}-linux-amd64/bin/{name}"));
        let is_of_foundry = matches!(self, Self::Anvil | Self::Forge);
        let installed = installed.chain(is_of_foundry.then(|| package(self.name())));
        let found = installed.chain(systems.into_iter().flatten()).find(|path| path.is_file());
        found.with_context(|| {
            format!(
                "{} is not here: `cargo xtask test` installs it, or {} names it",
                self.name(),
                self.variable()
            )
        })
    }
}

/// Whether a test may go on that needs `program`. Where it is missing, the test is left out, which is said on the terminal whatever is
/// captured.
///
/// # Panics
/// When it is missing in CI, where nothing may be left out.
#[must_use]
pub fn need(program: Program) -> bool {
    let Err(cause) = program.find() else { return true };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!in_ci, "nothing may be left out in CI: {cause:#}");
    // Not by `eprintln`, which a passing test shows to nobody.
    writeln!(std::io::stderr(), "!! LEFT OUT {test}: {cause:#}").ok();
    false
}
