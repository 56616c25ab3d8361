//! The decoders of the fuzz targets. What each promises is written in the tests of the protocol, where
//! the kept inputs of `corpus/` are run too.

#[path = "../../tests/it/decoders.rs"]
mod decoders;
#[allow(dead_code, unreachable_pub, reason = "the tests use more of it")]
#[path = "../../tests/it/sample.rs"]
mod sample;

/// Runs the decoder of the fuzz target `name`.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, decoder) = decoders::DECODERS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a target is named like its decoder");
    decoder(bytes);
}
