//! Who endorsed what, and whether they are enough.

use synddb_protocol::hash::{StateHash, TreeHash};
use synddb_protocol::id::{Address, Sequence, StreamId, Timestamp};
use synddb_protocol::log::{
    Checkpoint, Endorsement, Frontier, KeyProof, NotCounted, Quorum, QuorumError, SignedEndorsement,
};
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

/// The word of a validator for another checkpoint of the size that the sample log ends with.
fn contradicting(seed: u8) -> SignedEndorsement {
    let (_, log) = sample::log();
    let mut claim = log[1].1.checkpoint().claim().clone();
    claim.client.as_mut().unwrap().state = StateHash::from_bytes([9; 32]);
    let checkpoint = claim.sign(&sample::key(7)).unwrap();
    Endorsement::sign(checkpoint, DOMAIN, &RegisteredSigner::unattested(sample::key(seed))).unwrap()
}

#[test]
fn who_signs_two_contents_of_one_place_counts_for_neither() {
    let by = |seed| sample::endorsement(1, DOMAIN, seed);
    let words = [by(1), by(2), contradicting(2), sample::endorsement(0, DOMAIN, 2)];
    let gathered = of(&[1, 2], 2).gather(sample::stream(), DOMAIN, words);
    let why: Vec<_> = gathered.uncounted.iter().map(|uncounted| uncounted.why).collect();
    assert_eq!(why, [NotCounted::Equivocation; 2]);
    let counted: Vec<_> = gathered.endorsed.iter().map(|endorsed| endorsed.signatures.len()).collect();
    assert_eq!(counted, [1, 1], "its word for the older place counts");
}

#[test]
fn what_is_for_another_contract_contradicts_nothing() {
    let words = [sample::endorsement(1, Domain::NONE, 1), sample::endorsement(1, DOMAIN, 1)];
    for words in [words.clone(), {
        let [one, two] = words;
        [two, one]
    }] {
        let gathered = of(&[1], 1).gather(sample::stream(), DOMAIN, words);
        assert!(gathered.endorsed.len() == 1 && gathered.endorsed[0].has_quorum);
        assert_eq!((gathered.uncounted.len(), gathered.uncounted[0].why), (1, NotCounted::OtherDomain));
    }
}

#[test]
fn no_order_changes_what_counts() {
    let quorum = of(&[1, 2, 3, 4], 2);
    let mut words: Vec<_> = (1..=4).map(|seed| sample::endorsement(1, DOMAIN, seed)).collect();
    words.extend([contradicting(3), words[3].clone(), sample::endorsement(1, DOMAIN, 9), contradicting(1)]);
    let expected = quorum.gather(sample::stream(), DOMAIN, words.clone()).endorsed;
    assert_eq!((expected.len(), expected[0].signatures.len(), expected[0].has_quorum), (1, 2, true));
    for _ in 0..words.len() {
        words.rotate_left(1);
        assert_eq!(quorum.gather(sample::stream(), DOMAIN, words.clone()).endorsed, expected);
        let reversed = words.iter().rev().cloned();
        assert_eq!(quorum.gather(sample::stream(), DOMAIN, reversed).endorsed, expected);
    }
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
    let honest = bytes[v];
    for other in [0, 1, 26, 29, 255] {
        bytes[v] = other;
        assert_eq!(SignedEndorsement::from_bytes(&bytes).unwrap().recover(), None, "v = {other}");
    }
    // The order less s, with the other v, is the same point to `ecrecover`.
    bytes[v] = 55 - honest;
    assert_ne!(SignedEndorsement::from_bytes(&bytes).unwrap().recover(), signed.recover());
    let high = sample::negated(&bytes[v - 32..v]);
    bytes[v - 32..v].copy_from_slice(&high);
    assert_eq!(SignedEndorsement::from_bytes(&bytes).unwrap().recover(), None, "a high s");
}

#[test]
fn the_digest_is_over_every_field_and_the_domain() {
    let signed = sample::endorsement_with_inbox(DOMAIN, 1);
    let claim = signed.endorsement().checkpoint.claim().clone();
    let of = |claim: Checkpoint, domain| {
        let checkpoint = claim.sign(&sample::key(7)).unwrap();
        Endorsement { checkpoint, domain, proof: KeyProof::Unattested }.digest().unwrap()
    };
    assert_eq!(of(claim.clone(), DOMAIN), *signed.digest());
    let peaks = claim.frontier.peaks().len();
    let edits: [fn(&mut Checkpoint); 6] = [
        |claim| claim.stream = StreamId::from_bytes([9; 32]),
        |claim| claim.epoch = claim.epoch.next().unwrap(),
        |claim| claim.timestamp = Timestamp::from_ms(claim.timestamp.as_ms() + 1).unwrap(),
        |claim| claim.client.as_mut().unwrap().state = StateHash::from_bytes([9; 32]),
        |claim| claim.inbox_consumed = 0,
        |claim| {
            let peaks = vec![TreeHash::from_bytes([9; 32]); claim.frontier.peaks().len()];
            claim.frontier = Frontier::new(claim.size.get(), peaks).unwrap();
        },
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        let mut other = claim.clone();
        edit(&mut other);
        assert_ne!(of(other, DOMAIN), *signed.digest(), "edit {number}");
    }
    // Another size of as many peaks, with the same root.
    let mut sizes = claim.size.get() + 1..=claim.size.get() * 2;
    let size = sizes.find(|size| size.count_ones() as usize == peaks).unwrap();
    let frontier = Frontier::new(size, claim.frontier.peaks().to_vec()).unwrap();
    let other = Checkpoint { size: Sequence::new(size).unwrap(), frontier, ..claim.clone() };
    assert_eq!(other.root(), claim.root());
    assert_ne!(of(other, DOMAIN), *signed.digest());
    for domain in [
        Domain::NONE,
        Domain { chain_id: DOMAIN.chain_id + 1, ..DOMAIN },
        Domain { contract: Address::from_bytes([0xc1; 20]), ..DOMAIN },
    ] {
        assert_ne!(of(claim.clone(), domain), *signed.digest(), "{domain:?}");
    }
}
