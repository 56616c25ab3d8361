//! A stored batch with one byte changed is refused, or says what it said before.

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use synddb_protocol::log::{
    Batch, Leaders, SignedEndorsement, SignedManifest, SignedRefusal, Tip, VerifiedBatch,
};

use crate::sample;

const MUTATIONS: usize = 100_000;

/// What a reader makes of a stored object.
fn read(stored: &[u8], leaders: &Leaders, tip: &Tip) -> Option<VerifiedBatch> {
    Batch::from_stored(stored).ok()?.verify(leaders, tip).ok()
}

#[test]
fn no_mutation_of_a_stored_batch_is_accepted_with_other_content() {
    let (leaders, log) = sample::log();
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
    let mut same = 0;
    for (tip, batch) in &log {
        let stored = batch.to_stored().unwrap();
        let honest = read(&stored, &leaders, tip).unwrap();
        for _ in 0..MUTATIONS / log.len() / 2 {
            let mut mutated = stored.clone();
            mutate(&mut mutated, &mut rng);
            if let Some(verified) = read(&mutated, &leaders, tip) {
                assert_eq!(verified, honest);
                same += 1;
            }
        }
    }
    println!("compressed: {} mutations, {same} accepted, all with the same content", MUTATIONS / 2);
}

#[test]
fn no_mutation_inside_a_batch_is_accepted() {
    let (leaders, log) = sample::log();
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[6; 32]);
    for (tip, batch) in &log {
        let cbor = batch.to_cbor();
        for _ in 0..MUTATIONS / log.len() / 2 {
            let mut mutated = cbor.clone();
            let at = mutate(&mut mutated, &mut rng);
            let accepted = Batch::from_cbor(&mutated).ok().and_then(|batch| batch.verify(&leaders, tip).ok());
            assert!(accepted.is_none(), "byte {at} changed and nobody noticed");
        }
    }
    println!("uncompressed: {} mutations, 0 accepted", MUTATIONS / 2);
}

/// Changes one byte to another value, and says where.
fn mutate(bytes: &mut [u8], rng: &mut TestRng) -> usize {
    let at = usize::try_from(rng.next_u64() % bytes.len() as u64).unwrap();
    bytes[at] ^= u8::try_from(rng.next_u64() % 255 + 1).unwrap();
    at
}

#[test]
fn every_byte_of_a_batch_counts() {
    let (leaders, log) = sample::log();
    let (tip, batch) = &log[0];
    let cbor = batch.to_cbor();
    for at in 0..cbor.len() {
        for bit in 0..8 {
            let mut mutated = cbor.clone();
            mutated[at] ^= 1 << bit;
            let accepted = Batch::from_cbor(&mutated).ok().and_then(|batch| batch.verify(&leaders, tip).ok());
            assert!(accepted.is_none(), "bit {bit} of byte {at} changed and nobody noticed");
        }
    }
}

#[test]
fn every_byte_of_an_endorsement_counts() {
    let signed = sample::endorsement(1, sample::DOMAIN, 9);
    let (bytes, key) = (signed.to_bytes(), signed.recover());
    // The leader's own signature is not under the validator's: whoever reads the log checks that.
    let leaders = 64;
    let checkpoint = signed.endorsement().checkpoint.to_bytes();
    let begins = bytes.windows(checkpoint.len()).position(|part| part == checkpoint).unwrap();
    let unsigned = begins + checkpoint.len() - leaders..begins + checkpoint.len();
    for at in (0..bytes.len()).filter(|at| !unsigned.contains(at)) {
        for bit in 0..8 {
            let mut mutated = bytes.clone();
            mutated[at] ^= 1 << bit;
            let Ok(read) = SignedEndorsement::from_bytes(&mutated) else { continue };
            let same = read.recover() == key && read.digest() == signed.digest();
            assert!(
                !same || read.endorsement().checkpoint != signed.endorsement().checkpoint,
                "bit {bit} of byte {at}"
            );
            let leader = read.endorsement().checkpoint.recover();
            assert!(!same || leader.is_err(), "bit {bit} of byte {at} changed and nobody noticed");
        }
    }
}

#[test]
fn every_byte_of_a_refusal_counts() {
    let signed = sample::signed_refusal(true);
    let (bytes, key) = (signed.to_bytes(), signed.recover().unwrap());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut mutated = bytes.clone();
            mutated[at] ^= 1 << bit;
            let recovered = SignedRefusal::from_bytes(&mutated).ok().and_then(|signed| signed.recover().ok());
            assert!(recovered != Some(key), "bit {bit} of byte {at} changed and nobody noticed");
        }
    }
}

#[test]
fn every_byte_of_a_manifest_counts() {
    let signed = sample::signed_manifest(true);
    let (bytes, key) = (signed.to_bytes(), signed.recover().unwrap());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut mutated = bytes.clone();
            mutated[at] ^= 1 << bit;
            let recovered =
                SignedManifest::from_bytes(&mutated).ok().and_then(|signed| signed.recover().ok());
            assert!(recovered != Some(key), "bit {bit} of byte {at} changed and nobody noticed");
        }
    }
}
