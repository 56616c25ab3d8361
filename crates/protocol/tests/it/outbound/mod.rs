//! What asks the bridge to act, and that nothing of it can be exchanged.

mod cases;

use std::collections::BTreeSet;

use synddb_protocol::signing::RecoverableSignature;

use crate::sample;

#[test]
fn the_digest_is_over_every_field_and_the_domain() {
    let all = cases::all();
    let digests: BTreeSet<_> = all.iter().map(|(_, domain, message)| message.digest(domain)).collect();
    assert_eq!(digests.len(), all.len(), "no two are signed as one");
}

#[test]
fn a_signature_is_for_one_message_of_one_bridge() {
    let key = sample::key(7);
    let (signed, domain) = (cases::message(), cases::DOMAIN);
    let signature = signed.sign(&key, &domain);
    assert_eq!(signature, signed.sign(&key, &domain), "there is one");
    for (name, elsewhere, message) in cases::all() {
        let is_this = (elsewhere, message) == (domain, signed);
        let recovered = signature.recover(&message.digest(&elsewhere));
        assert_eq!(recovered == Some(key.id()), is_this, "{name}");
    }
}

#[test]
fn a_signature_has_one_form() {
    let key = sample::key(7);
    for (name, domain, message) in cases::all() {
        let signature = *message.sign(&key, &domain).as_bytes();
        let digest = message.digest(&domain);
        let by = |bytes| RecoverableSignature::from_bytes(bytes).recover(&digest);
        assert_eq!(by(signature), Some(key.id()), "{name}");
        // The order less s, with the other v, is the same point to `ecrecover`.
        let mut high = signature;
        high[32..64].copy_from_slice(&sample::negated(&signature[32..64]));
        high[64] = 55 - signature[64];
        assert_eq!(by(high), None, "{name}");
        let mut bare = signature;
        bare[64] -= 27;
        assert_eq!(by(bare), None, "{name}");
    }
}
