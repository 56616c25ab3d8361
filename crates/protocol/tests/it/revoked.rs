//! Keys that are revoked: up to where they are believed, on both sides of the boundary.

use synddb_protocol::id::{Epoch, Sequence};
use synddb_protocol::log::{
    AdmissionError, Batch, BatchError, Entry, KeyProof, Leaders, MessageError, RevokedError,
    SignedEpochRecord, Signers, Tip, VerifiedBatch,
};
use synddb_protocol::signing::{LastValid, Revocations, SignatureError, SigningKey, TrustedKeys};

use super::sample::{self, Leader};

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn sequence(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

/// The last valid place; size 0 is none.
fn last_valid(number: u64, size: u64) -> LastValid {
    LastValid { epoch: epoch(number), size: Sequence::new(size).ok() }
}

fn revoked(key: &SigningKey, number: u64, size: u64) -> Revocations {
    [(key.id(), last_valid(number, size))].into_iter().collect()
}

/// Epoch 2 of key 7 from message 3 on, behind two messages of epoch 1 of the same key; and the leaders of both.
fn running() -> (Leader, Leaders) {
    let mut first = Leader::begin(1, sample::key(7), Tip::start(sample::stream()));
    first.push(&Entry::Snapshot(sample::first_snapshot()));
    let records = [1, 2].map(|number| sample::record(number, &first.key));
    let leaders = sample::leaders(&records, [&first.key]);
    let mut second = Leader::begin(2, sample::key(7), first.tip);
    second.pending.splice(0..0, first.pending);
    for number in [1, 2, 3] {
        second.push(&Entry::Submission(sample::commits(number, second.last(), 1)));
    }
    (second, leaders)
}

#[test]
fn a_message_is_believed_up_to_the_last_valid_place_and_not_beyond() {
    let (leader, mut leaders) = running();
    // Messages 1 and 2 are of epoch 1, 3 to 6 of epoch 2.
    let cases = [
        ((2, 6), 7),
        ((2, 5), 6),
        ((2, 3), 4),
        ((2, 2), 3),
        ((2, 0), 3),
        ((1, 9), 3),
        ((1, 2), 3),
        ((1, 1), 2),
        ((1, 0), 1),
    ];
    for ((at, size), first_refused) in cases {
        leaders.set_revoked(revoked(&leader.key, at, size));
        for message in &leader.pending {
            let header = *message.receipt.header();
            let found = message.clone().verify(&leaders, usize::MAX);
            let receipt = message.receipt.verify(&leaders);
            if header.sequence.get() < first_refused {
                assert!(found.is_ok() && receipt.is_ok(), "{at}/{size}: {found:?}");
                continue;
            }
            let refused = SignatureError::Revoked {
                key: leader.key.id(),
                last_valid: last_valid(at, size),
                epoch: header.epoch,
                sequence: Some(header.sequence),
            };
            assert!(matches!(found, Err(MessageError::Signature(found)) if found == refused), "{found:?}");
            assert_eq!(receipt, Err(refused));
        }
    }
    // Another key's revocation is nobody else's, and one that is taken back is none.
    leaders.set_revoked(revoked(&sample::key(8), 1, 0));
    assert!(leader.pending.iter().all(|message| message.receipt.verify(&leaders).is_ok()));
    leaders.set_revoked(Revocations::default());
    assert!(leader.pending.iter().all(|message| message.receipt.verify(&leaders).is_ok()));
}

#[test]
fn a_checkpoint_is_believed_by_its_size() {
    let (leader, mut leaders) = running();
    let checkpoint = leader.tip.checkpoint(leader.epoch, 0).unwrap().sign(&leader.key).unwrap();
    for ((at, size), is_believed) in [((2, 6), true), ((3, 0), true), ((2, 5), false), ((1, 6), false)] {
        leaders.set_revoked(revoked(&leader.key, at, size));
        let found = checkpoint.clone().verify(&leaders);
        assert_eq!(found.is_ok(), is_believed, "{at}/{size}");
        if let Err(found) = found {
            let expected = SignatureError::Revoked {
                key: leader.key.id(),
                last_valid: last_valid(at, size),
                epoch: leader.epoch,
                sequence: Some(sequence(6)),
            };
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn no_later_epoch_is_claimed_with_a_revoked_key() {
    let key = sample::key(7);
    let mut trusted = TrustedKeys::pinned([*key.verifying_key()]);
    trusted.revoke(key.id(), last_valid(2, 0));
    // The smaller of two places counts, whichever comes first.
    trusted.revoke(key.id(), last_valid(9, 9));
    let records = [1, 2, 3].map(|number| sample::record(number, &key));
    let refused = SignatureError::Revoked {
        key: key.id(),
        last_valid: last_valid(2, 0),
        epoch: epoch(3),
        sequence: None,
    };
    assert_eq!(records[2].verify(&trusted), Err(refused));
    type Admit = fn(&mut Leaders, &SignedEpochRecord) -> Result<(), AdmissionError>;
    let by_key: Admit = Leaders::admit;
    let by_judgement: Admit = |leaders, record| leaders.admit_as(record, sample::key(7).verifying_key());
    for admit in [by_key, by_judgement] {
        let mut leaders = Leaders::new(sample::stream(), trusted.clone());
        admit(&mut leaders, &records[0]).unwrap();
        admit(&mut leaders, &records[1]).unwrap();
        assert_eq!(admit(&mut leaders, &records[2]), Err(AdmissionError::Signature(refused)));
        assert_eq!(leaders.next(), Some(epoch(3)), "nothing was admitted");
        leaders.pass(epoch(3)).unwrap();
        assert!(leaders.is_passed(epoch(3)) && !leaders.leads(epoch(3), key.id()));
        // Taken back, the claim stands where it stood.
        leaders.set_revoked(Revocations::default());
        admit(&mut leaders, &records[2]).unwrap();
        assert!(leaders.leads(epoch(3), key.id()));
    }
}

#[test]
fn a_batch_across_the_boundary_is_refused_whole_and_names_the_first_message_beyond() {
    let (mut leader, mut leaders) = running();
    let start = Tip::start(sample::stream());
    let checkpoint = leader.tip.checkpoint(leader.epoch, 0).unwrap().sign(&leader.key).unwrap();
    let batch = Batch::new(std::mem::take(&mut leader.pending), checkpoint).unwrap();
    for size in 3..=5 {
        leaders.set_revoked(revoked(&leader.key, 2, size));
        let Err(BatchError::Message { sequence: at, source: MessageError::Signature(source) }) =
            batch.clone().verify(&leaders, &start)
        else {
            panic!("it is not refused at a message")
        };
        assert_eq!(at, sequence(size + 1));
        assert!(matches!(source, SignatureError::Revoked { .. }), "{source}");
        assert!(source.to_string().contains(&format!("last_valid=`epoch 2, size {size}`")), "{source}");
    }
    leaders.set_revoked(revoked(&leader.key, 2, 6));
    assert_eq!(batch.verify(&leaders, &start).unwrap().tip().last(), Some(sequence(6)));
}

#[test]
fn a_new_leader_publishes_nothing_of_a_journal_beyond_the_boundary() {
    let (mut old, mut leaders) = running();
    let start = Tip::start(sample::stream());
    let heir = sample::key(9);
    leaders.trust(*heir.verifying_key());
    leaders.admit(&sample::record(3, &heir)).unwrap();
    let checkpoint = old.tip.checkpoint(epoch(3), 0).unwrap().sign(&heir).unwrap();
    let batch = Batch::new(std::mem::take(&mut old.pending), checkpoint).unwrap();
    leaders.set_revoked(revoked(&old.key, 2, 5));
    let refused = batch.clone().verify(&leaders, &start);
    assert!(
        matches!(refused, Err(BatchError::Message { sequence: at, .. }) if at == sequence(6)),
        "{refused:?}"
    );
    leaders.set_revoked(revoked(&old.key, 2, 6));
    batch.verify(&leaders, &start).unwrap();
}

#[test]
fn who_signed_what_is_kept_and_compared_with_what_is_revoked() {
    // Key 7 leads epochs 1 and 2, key 9 leads 3 and begins by signing the checkpoint of what key 7 left.
    let (mut old, mut leaders) = running();
    let heir = sample::key(9);
    leaders.trust(*heir.verifying_key());
    leaders.admit(&sample::record(3, &heir)).unwrap();
    let checkpoint = old.tip.checkpoint(epoch(3), 0).unwrap().sign(&heir).unwrap();
    let batch = Batch::new(std::mem::take(&mut old.pending), checkpoint).unwrap();
    let batch = batch.verify(&leaders, &Tip::start(sample::stream())).unwrap();
    let mut signers = Signers::default();
    signers.add(&batch);
    let heir_id = heir.id();
    let next = Leader::begin(3, heir, batch.tip().clone());
    let checkpoint = next.tip.checkpoint(epoch(3), 0).unwrap().sign(&next.key).unwrap();
    let last = Batch::new(next.pending, checkpoint).unwrap().verify(&leaders, batch.tip()).unwrap();
    signers.add(&last);
    let through: Vec<_> =
        signers.epochs().map(|(epoch, signed)| (epoch.get(), signed.key, signed.through.get())).collect();
    assert_eq!(through, [(1, old.key.id(), 2), (2, old.key.id(), 6), (3, heir_id, 7)]);
    assert_eq!(signers.since(epoch(2)).count(), 2);

    let check = |revoked: Revocations| signers.check(&revoked);
    for (number, size) in [(2, 6), (2, 7), (3, 0), (9, 9)] {
        assert_eq!(check(revoked(&old.key, number, size)), Ok(()), "{number}/{size}");
    }
    for (number, size, at, through) in [(2, 5, 2, 6), (2, 0, 2, 6), (1, 2, 2, 6), (1, 1, 1, 2)] {
        let last_valid = last_valid(number, size);
        let (key, epoch, through) = (old.key.id(), epoch(at), sequence(through));
        let found = check(revoked(&old.key, number, size)).unwrap_err();
        assert_eq!(found, RevokedError::Signed { key, last_valid, epoch, through });
        assert_eq!(found.span(), (sequence((size + 1).min(through.get())), through));
    }
    // The new leader's first signature was a checkpoint, before its epoch message.
    assert_eq!(check(revoked(&next.key, 3, 7)), Ok(()));
    assert!(check(revoked(&next.key, 3, 6)).is_err());
    assert!(check(revoked(&next.key, 2, 9)).is_err());
    assert_eq!(check(revoked(&sample::key(8), 1, 0)), Ok(()));

    // Whoever joined behind it knows only that it does not know.
    let joined = Signers::joining(last.checkpoint().claim());
    let unknown = last_valid(3, 7);
    assert_eq!(joined.check(&revoked(&old.key, 3, 7)), Ok(()));
    let found = joined.check(&revoked(&old.key, 3, 6)).unwrap_err();
    assert_eq!(found, RevokedError::Unknown { key: old.key.id(), last_valid: last_valid(3, 6), unknown });
    assert_eq!(found.span(), (sequence(7), sequence(7)));
    assert_eq!(Signers::kept(signers.unknown(), signers.epochs()), signers);

    // It learns backwards what everybody knows who read all of it.
    let mut learned = Signers::ending(last.checkpoint());
    assert!(learned.reach(last.checkpoint().claim()));
    learned.learn(&last, Some(batch.checkpoint()));
    assert_eq!(learned.unknown(), Some(last_valid(3, 6)));
    assert_eq!(learned.since(epoch(3)).collect::<Vec<_>>(), signers.since(epoch(3)).collect::<Vec<_>>());
    // What is before is not known, and what was learned is.
    assert_eq!(learned.check(&revoked(&old.key, 3, 6)), Ok(()));
    assert!(learned.check(&revoked(&old.key, 2, 6)).is_err());
    assert!(learned.check(&revoked(&next.key, 3, 6)).is_err());
    learned.learn(&batch, None);
    assert_eq!(learned, signers);

    // Of a log that ends earlier, less.
    let mut first = Signers::default();
    first.add(&batch);
    let cut = |signers: &Signers, at: &VerifiedBatch| {
        signers.clone().cut(at.checkpoint().claim(), at.checkpoint().key())
    };
    assert_eq!((cut(&signers, &batch), cut(&signers, &last)), (first, signers.clone()));
    assert_eq!(cut(&joined, &batch), Signers::joining(batch.checkpoint().claim()));
    assert_eq!(cut(&joined, &last), joined);
}

#[test]
fn a_judgement_admits_one_epoch_and_believes_no_forged_record() {
    let (key, other) = (sample::key(7), sample::key(8));
    let mut leaders = Leaders::new(sample::stream(), TrustedKeys::default());
    let record = sample::record(1, &key);
    let untrusted = |found: Result<(), AdmissionError>| {
        assert!(
            matches!(found, Err(AdmissionError::Signature(SignatureError::UntrustedKey { .. }))),
            "{found:?}"
        );
    };
    untrusted(leaders.admit(&record));
    untrusted(leaders.admit_as(&record, other.verifying_key()));
    // The right name under somebody else's signature.
    let mut forged = record.to_bytes();
    let stranger = sample::record(1, &other).to_bytes();
    let at = forged.len() - 64;
    forged[at..].copy_from_slice(&stranger[stranger.len() - 64..]);
    let forged = SignedEpochRecord::from_bytes(&forged).unwrap();
    let found = leaders.admit_as(&forged, key.verifying_key());
    assert!(
        matches!(found, Err(AdmissionError::Signature(SignatureError::BadSignature { .. }))),
        "{found:?}"
    );
    leaders.admit_as(&record, key.verifying_key()).unwrap();
    assert_eq!(record.recover().unwrap().0.proof, KeyProof::Unattested);
    // For this epoch and no other.
    untrusted(leaders.admit(&sample::record(2, &key)));
}
