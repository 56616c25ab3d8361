//! Digests are twins: what the protocol signs, the contracts and viem compute likewise. Random messages, checkpoints and pairs, new ones each time.

use std::hash::{BuildHasher as _, RandomState};

use anyhow::{Context, Result};

use super::{CONTRACTS, Forge};
use crate::counted::Tally;
use crate::process;
use crate::stage::Outcome;
use crate::tree::Tree;

/// Where they lie, from the folder of the contracts; forge may read there.
const FOLDER: &str = "out/digests";

/// How many of messages, and how many of checkpoints; both who read them want so many.
const COUNT: &str = "1000";

/// What makes the same ones again.
const SEED: &str = "SYNDDB_DIGESTS_SEED";

/// Writes them, and has both compare.
pub(super) fn compare(tree: &Tree, forge: &Forge, tally: &mut Tally) -> Result<Outcome> {
    let seed = seed()?;
    println!("{SEED}={seed} repeats this");
    let folder = tree.root().join(CONTRACTS).join(FOLDER);
    let mut write = process::example(tree, "digests");
    process::run(write.args([seed.to_string().as_str(), COUNT]).arg(folder))?;
    let mut viem = process::command("node", &forge.folder);
    process::run(viem.args(["tools/digests.mjs", FOLDER]).env("PATH", &forge.path))?;
    forge.test(&["--match-path", "test/digests/*"], tally)
}

fn seed() -> Result<u64> {
    match std::env::var(SEED) {
        Ok(text) => text.parse().with_context(|| format!("is no seed. {SEED}=`{text}`")),
        // The hasher's keys come from the operating system.
        Err(_) => Ok(RandomState::new().hash_one(())),
    }
}
