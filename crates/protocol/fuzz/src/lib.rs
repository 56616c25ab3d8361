//! The decoders of the fuzz targets. What each promises is written in the tests of the protocol, where
//! the kept inputs of `corpus/` are run too.

#[path = "../../tests/it/decoders.rs"]
mod decoders;

/// Runs the decoder of the fuzz target `name`.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, decoder) = decoders::DECODERS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a target is named like its decoder");
    decoder(bytes);
}
