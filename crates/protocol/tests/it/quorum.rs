//! Who endorsed what, and whether they are enough.

use synddb_protocol::hash::StateHash;
use synddb_protocol::id::StreamId;
use synddb_protocol::log::{Endorsement, NotCounted, Quorum, QuorumError, SignedEndorsement};
use synddb_protocol::signing::{Domain, RegisteredSigner};

use crate::sample::{self, DOMAIN};

fn of(seeds: &[u8], threshold: usize) -> Quorum {
    Quorum::new(seeds.iter().map(|seed| sample::key(*seed).id()), threshold).unwrap()
}

#[test]
fn nobody_is_a_quorum_of_none_and_nobody_counts_twice() {
    let id = |seed| sample::key(seed).id();
    assert_eq!(Quorum::new([id(1)], 0), Err(QuorumError::Zero));
    assert_eq!(Quorum::new([], 1), Err(QuorumError::TooFew { validators: 0, threshold: 1 }));
    assert_eq!(Quorum::new([id(1), id(1)], 2), Err(QuorumError::TooFew { validators: 1, threshold: 2 }));
}

#[test]
fn a_quorum_is_so_many_of_those_who_count() {
    let quorum = of(&[1, 2, 3], 2);
    let by = |seed| sample::endorsement(1, DOMAIN, seed);
    let one = quorum.gather(sample::stream(), DOMAIN, [by(1), by(1), by(9)]);
    assert!(!one.endorsed[0].has_quorum, "one of three, twice, and a stranger");
    assert_eq!(one.uncounted.len(), 1);
    assert_eq!(one.uncounted[0].why, NotCounted::Stranger);
    let two = quorum.gather(sample::stream(), DOMAIN, [by(3), by(1)]);
    let [endorsed] = two.endorsed.as_slice() else { panic!("{two:?}") };
    assert!(endorsed.has_quorum);
    let signers: Vec<_> = endorsed.signatures.keys().copied().collect();
    let mut sorted = vec![sample::key(1).id(), sample::key(3).id()];
    sorted.sort();
    assert_eq!(signers, sorted, "as a contract wants them");
    for (signer, signature) in &endorsed.signatures {
        assert_eq!(signature.recover(&endorsed.digest), Some(*signer));
    }
}

#[test]
fn what_is_for_somebody_else_does_not_count() {
    let quorum = of(&[1], 1);
    let gathered = quorum.gather(sample::stream(), DOMAIN, [sample::endorsement(1, Domain::NONE, 1)]);
    assert_eq!((gathered.endorsed.len(), gathered.uncounted[0].why), (0, NotCounted::OtherDomain));
    let elsewhere = StreamId::from_bytes([9; 32]);
    let gathered = quorum.gather(elsewhere, DOMAIN, [sample::endorsement(1, DOMAIN, 1)]);
    assert_eq!((gathered.endorsed.len(), gathered.uncounted[0].why), (0, NotCounted::ForeignStream));
}

#[test]
fn two_contents_of_one_place_are_found() {
    let (_, log) = sample::log();
    let honest = log[1].1.checkpoint().clone();
    let mut claim = honest.claim().clone();
    claim.client.as_mut().unwrap().state = StateHash::from_bytes([9; 32]);
    let other = claim.sign(&sample::key(7)).unwrap();
    let signer = RegisteredSigner::unattested(sample::key(1));
    let two = [honest, other].map(|checkpoint| Endorsement::sign(checkpoint, DOMAIN, &signer).unwrap());
    let gathered = of(&[1], 1).gather(sample::stream(), DOMAIN, two);
    assert_eq!(gathered.endorsed.len(), 1);
    assert_eq!(gathered.uncounted[0].why, NotCounted::Equivocation);
}

#[test]
fn what_cannot_be_endorsed_is_not_signed() {
    let (_, log) = sample::log();
    let checkpoint = || log[1].1.checkpoint().clone();
    let signer = RegisteredSigner::unattested(sample::key(1));
    let half = Domain { chain_id: 1, ..Domain::NONE };
    assert!(Endorsement::sign(checkpoint(), half, &signer).is_err(), "a chain without a contract");
    let mut claim = checkpoint().claim().clone();
    claim.client = None;
    let stateless = claim.sign(&sample::key(7)).unwrap();
    assert!(Endorsement::sign(stateless, DOMAIN, &signer).is_err(), "no state");
}

#[test]
fn a_signature_that_no_contract_takes_recovers_nobody() {
    let signed = sample::endorsement(1, DOMAIN, 1);
    assert_eq!(signed.recover(), Some(sample::key(1).id()));
    let mut bytes = signed.to_bytes();
    let v = bytes.len() - 1;
    for other in [0, 1, 26, 29, 255] {
        bytes[v] = other;
        assert_eq!(SignedEndorsement::from_bytes(&bytes).unwrap().recover(), None, "v = {other}");
    }
}
