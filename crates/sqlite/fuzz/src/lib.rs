//! The decoders of the fuzz targets. What each promises is written in the tests of the crate, where the kept inputs of `corpus/` are run
//! too.

#[path = "../../tests/it/hostile/decoders.rs"]
mod decoders;
#[path = "../../tests/it/hostile/files.rs"]
mod files;
#[path = "../../tests/it/hostile/images.rs"]
pub mod images;
#[path = "../../tests/it/hostile/patches.rs"]
mod patches;
#[path = "../../tests/it/hostile/replica.rs"]
mod replica;
#[path = "../../tests/it/hostile/restored.rs"]
mod restored;

/// Runs the decoder of the fuzz target `name`.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, decoder) = decoders::DECODERS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a target is named like its decoder");
    decoder(bytes);
}
