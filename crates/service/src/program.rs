//! The program of one role, from its arguments to its exit code: it runs, prints its defaults, or checks a configuration.
//!
//! The configuration file is the first argument, or the one that `SYNDDB_{ROLE}_CONFIG` names; the environment beats it. `config default` prints
//! the file of the defaults, `config check` says what a configuration comes to. It ends with 0 when asked to, otherwise as [`End`] says, with the
//! reason on standard error. Knows no role.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use synddb_protocol::chain;

use crate::config::{self, Asked, ConfigError, Misasked};
use crate::process::{self, ProcessError, Setting};
use crate::shutdown::Shutdown;
use crate::telemetry::settings::Default as Defaults;
use crate::telemetry::{self, Format, Metrics, Settings};

/// How it logs where nobody says otherwise.
const DEFAULTS: Defaults = Defaults { format: Format::Text, filter: "info" };

/// A role that has a program of its own.
pub trait Program {
    /// What it plays, as in `sequencer`: the program is `synddb-{ROLE}`, and the environment sets its configuration by `SYNDDB_{ROLE}_`.
    const ROLE: &'static str;
    /// Its configuration.
    type Config: JsonSchema + Serialize + DeserializeOwned + Default;
    /// Why it ends without being asked to.
    type Error: Error + 'static;

    /// What a configuration says of logs and traces.
    fn telemetry(config: &Self::Config) -> &Settings;

    /// Looks at whether a configuration could be run. Nothing is made.
    fn check(config: &Self::Config) -> impl Future<Output = Result<(), Self::Error>>;

    /// Runs until it is asked to end.
    fn run(
        config: Self::Config,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// What an error means for whoever started it.
    fn end(error: &Self::Error) -> End;
}

/// How a program ends that was not asked to; the number is its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    /// What it follows or holds must not be gone on with.
    Halted = 1,
    /// What it was told is refused, which is the same at the next start.
    Refused = 2,
    /// It failed.
    Failed = 3,
}

/// The `main` of a program.
pub fn main<P: Program>() -> ExitCode {
    let variable = env::var_os(format!("{}CONFIG", prefix::<P>()));
    let done = config::asked(env::args_os().skip(1), variable).map_err(Failure::from).and_then(act::<P>);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("synddb-{}: {}", P::ROLE, chain(&failure));
            ExitCode::from(end::<P>(&failure) as u8)
        }
    }
}

fn prefix<P: Program>() -> String {
    format!("SYNDDB_{}_", P::ROLE.to_uppercase())
}

fn act<P: Program>(asked: Asked) -> Result<(), Failure<P::Error>> {
    match asked {
        Asked::Run(file) => run::<P>(file.as_deref())?,
        Asked::Default => {
            print!("{}", config::default_file::<P::Config>(&format!("a {}", P::ROLE), &prefix::<P>()));
        }
        Asked::Check(file) => check::<P>(file.as_deref())?,
        Asked::Version => println!("synddb-{} {}", P::ROLE, env!("CARGO_PKG_VERSION")),
    }
    Ok(())
}

fn check<P: Program>(file: Option<&Path>) -> Result<(), Failure<P::Error>> {
    let (config, settings) = config::settings::<P::Config>(file, &prefix::<P>())?;
    settings.iter().for_each(|setting| println!("{setting}"));
    telemetry::check(P::telemetry(&config), DEFAULTS).map_err(ProcessError::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ProcessError::Runtime)?;
    runtime.block_on(P::check(&config)).map_err(Failure::Role)
}

fn run<P: Program>(file: Option<&Path>) -> Result<(), Failure<P::Error>> {
    // The command line names a file and overrides nothing.
    let config: P::Config = config::load(file, &prefix::<P>(), &BTreeMap::<&str, &str>::new())?;
    let telemetry = P::telemetry(&config).clone();
    let setting = Setting { role: P::ROLE, telemetry, default: DEFAULTS, stop_on_eof: false };
    process::run(&setting, async |metrics, shutdown| {
        P::run(config, metrics, shutdown).await.map_err(Failure::Role)
    })
}

fn end<P: Program>(failure: &Failure<P::Error>) -> End {
    match failure {
        Failure::Misasked(_) | Failure::Config(_) => End::Refused,
        Failure::Process(error) if error.is_refusal() => End::Refused,
        Failure::Process(_) => End::Failed,
        Failure::Role(error) => P::end(error),
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure<E: Error + 'static> {
    #[error(transparent)]
    Misasked(#[from] Misasked),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Role(E),
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Is refused, fails or halts as its configuration says.
    struct Example;

    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    struct Config {
        /// Where it ends.
        ends: String,
        telemetry: Settings,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("it ends")]
    struct Ended(End);

    impl Program for Example {
        const ROLE: &'static str = "example";
        type Config = Config;
        type Error = Ended;

        fn telemetry(config: &Config) -> &Settings {
            &config.telemetry
        }

        async fn check(config: &Config) -> Result<(), Ended> {
            match config.ends.as_str() {
                "halted" => Err(Ended(End::Halted)),
                "refused" => Err(Ended(End::Refused)),
                "failed" => Err(Ended(End::Failed)),
                _ => Ok(()),
            }
        }

        async fn run(config: Config, _: Metrics, _: Shutdown) -> Result<(), Ended> {
            Self::check(&config).await
        }

        fn end(error: &Ended) -> End {
            error.0
        }
    }

    #[test]
    fn what_ends_it_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("example.toml");
        let ends = |text: &str| {
            std::fs::write(&file, text).unwrap();
            act::<Example>(Asked::Check(Some(file.clone()))).map_err(|failure| end::<Example>(&failure))
        };
        assert_eq!(ends(""), Ok(()));
        assert_eq!(ends("ends = \"halted\"\n"), Err(End::Halted));
        assert_eq!(ends("ends = \"refused\"\n"), Err(End::Refused));
        assert_eq!(ends("ends = \"failed\"\n"), Err(End::Failed));
        assert_eq!(ends("end = \"failed\"\n"), Err(End::Refused), "no such key");
        assert_eq!(ends("telemetry.filter = \"nobody=loud\"\n"), Err(End::Refused), "no such level");
        assert_eq!([End::Halted, End::Refused, End::Failed].map(|end| end as u8), [1, 2, 3]);
    }
}
