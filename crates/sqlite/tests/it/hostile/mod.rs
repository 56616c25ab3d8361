//! Bytes that no SQLite wrote: whatever reads them says so, in bounded time and memory.
//!
//! The decoders here are those of the fuzz targets; every input that is kept in `fuzz/corpus/` is run through them.

mod bounds;
mod decoders;
mod files;
#[allow(unreachable_pub, reason = "the fuzz package shows it to the program that writes the seeds")]
mod images;
mod patches;
mod replica;
mod restored;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use decoders::DECODERS;

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

#[test]
fn every_kept_input_keeps_the_promises_of_its_decoder() {
    for (name, decoder) in DECODERS {
        let (mut accepted, mut refused) = (0, 0);
        let folder = package().join("corpus").join(name);
        for file in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{name}: {error}")) {
            let input = std::fs::read(file.unwrap().path()).unwrap();
            if decoder(&input) { accepted += 1 } else { refused += 1 }
        }
        assert!(accepted > 0, "{name}: no kept input is accepted, so the fuzzer starts blind");
        assert!(refused > 0, "{name}: no kept input is refused");
    }
}

#[test]
fn every_decoder_has_a_fuzz_target_with_bounds() {
    let manifest = std::fs::read_to_string(package().join("Cargo.toml")).unwrap();
    let found: BTreeSet<&str> =
        manifest.split("[[bin]]").skip(1).map(|bin| bin.split('"').nth(1).unwrap()).collect();
    let expected: BTreeSet<&str> = DECODERS.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, expected);
    for name in expected {
        assert!(manifest.contains(&format!("\n{name} = {{ rss_mib = ")), "{name}: no bounds");
        let source = std::fs::read_to_string(package().join(format!("targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("run(\"{name}\", bytes)")), "{name}");
    }
}
