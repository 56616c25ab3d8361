//! The toolchain of the contracts, as npm installed it.

use std::path::{Path, PathBuf};

use synddb_servers::{Program, need};

/// Where its programs are.
#[derive(Debug, Clone)]
pub(crate) struct Foundry {
    pub(crate) anvil: PathBuf,
    pub(crate) forge: PathBuf,
    pub(crate) cast: PathBuf,
    pub(crate) contracts: PathBuf,
}

impl Foundry {
    /// Finds it. Where it is missing, the test is left out, loudly.
    pub(crate) fn find() -> Option<Self> {
        if !need(Program::Anvil) || !need(Program::Forge) {
            return None;
        }
        let (anvil, forge) = (Program::Anvil.find().unwrap(), Program::Forge.find().unwrap());
        // Its package lies beside that of forge.
        let cast = PathBuf::from(forge.to_str().unwrap().replace("forge", "cast"));
        assert!(cast.is_file(), "{}", cast.display());
        let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts");
        Some(Self { anvil, forge, cast, contracts: contracts.canonicalize().unwrap() })
    }
}
