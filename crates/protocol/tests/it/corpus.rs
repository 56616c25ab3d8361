//! The kept fuzz inputs, run as ordinary tests.

use std::path::{Path, PathBuf};

use crate::decoders::DECODERS;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

#[test]
fn every_kept_input_keeps_the_promises_of_its_decoder() {
    for (name, decoder) in DECODERS {
        let mut accepted = 0;
        let mut refused = 0;
        for file in std::fs::read_dir(corpus().join(name)).unwrap_or_else(|e| panic!("{name}: {e}")) {
            let input = std::fs::read(file.unwrap().path()).unwrap();
            if decoder(&input) { accepted += 1 } else { refused += 1 }
        }
        assert!(accepted > 0, "{name}: no kept input is accepted, so the fuzzer starts blind");
        assert!(refused > 0, "{name}: no kept input is refused");
    }
}

#[test]
fn every_decoder_has_a_fuzz_target_and_every_target_a_decoder() {
    let manifest = std::fs::read_to_string(corpus().parent().unwrap().join("Cargo.toml")).unwrap();
    let mut found: Vec<String> = manifest
        .split("[[bin]]")
        .skip(1)
        .map(|bin| {
            let name = bin.split('"').nth(1).unwrap();
            assert!(bin.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
            let target = corpus().parent().unwrap().join(format!("targets/{name}.rs"));
            let source = std::fs::read_to_string(target).unwrap();
            assert!(source.contains(&format!("run(\"{name}\", bytes)")), "{name}");
            name.to_owned()
        })
        .collect();
    found.sort();
    let mut expected: Vec<_> = DECODERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    expected.sort();
    assert_eq!(found, expected);
}
