//! decode(encode(x)) = x, for every type that is encoded.

use proptest::prelude::*;
use synddb_protocol::Canonical;
use synddb_protocol::limits::{BODY_BYTES_MAX, CHECKPOINT_BYTES_MAX, RECEIPT_BYTES_MAX};
use synddb_protocol::log::{
    Batch, Body, Endorsement, Entry, Receipt, SignedCheckpoint, SignedEndorsement, SignedEpochRecord,
    SignedManifest,
};
use synddb_protocol::proof::{Leaves, Proven};
use synddb_protocol::signing::{Domain, RegisteredSigner};

use crate::arbitrary as any;
use crate::sample;

fn cbor<T: Canonical + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = value.to_bytes();
    assert_eq!(T::from_bytes(&bytes).unwrap(), *value);
    assert!(T::from_bytes(&bytes[..bytes.len() - 1]).is_err(), "a cut encoding is refused");
    assert!(T::from_bytes(&[&bytes[..], &[0]].concat()).is_err(), "a longer encoding is refused");
}

fn json<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), *value);
}

fn text<T: std::fmt::Display + std::str::FromStr + PartialEq + std::fmt::Debug>(value: &T) {
    assert_eq!(value.to_string().parse::<T>().ok().as_ref(), Some(value));
}

proptest! {
    #[test]
    fn identifiers_and_hashes(
        stream in any::stream(), address in any::address(), sequence in any::sequence(), epoch in any::epoch(),
        commit in any::commit_number(), hash in any::body_hash(), key in any::signing_key(),
    ) {
        text(&stream);
        text(&address);
        text(&sequence);
        text(&epoch);
        text(&commit);
        text(&hash);
        text(key.verifying_key());
        json(&stream);
        json(&sequence);
    }

    #[test]
    fn incarnations(value in any::incarnation()) { cbor(&value); json(&value) }

    #[test]
    fn schema_rows(value in any::schema_row()) { cbor(&value) }

    #[test]
    fn schema_changes(value in any::schema_change()) { cbor(&value) }

    #[test]
    fn changes(value in any::changes()) { cbor(&value) }

    #[test]
    fn text_encodings(value in any::text_encoding()) { cbor(&value) }

    #[test]
    fn commits(value in any::commits()) {
        for commit in value.as_slice() {
            cbor(commit);
        }
    }

    #[test]
    fn parts(value in any::part()) { cbor(&value) }

    #[test]
    fn submissions(value in any::submission()) {
        cbor(&value);
        body(&Entry::Submission(value));
    }

    #[test]
    fn snapshots(value in any::snapshot()) {
        cbor(&value);
        body(&Entry::Snapshot(value));
    }

    #[test]
    fn inbound_messages(value in any::inbound()) {
        cbor(&value);
        body(&Entry::Inbound(value));
    }

    #[test]
    fn status_messages(value in any::status()) {
        cbor(&value);
        body(&Entry::Status(value));
    }

    #[test]
    fn epoch_messages(value in any::epoch_start()) {
        cbor(&value);
        body(&Entry::Epoch(value));
    }

    #[test]
    fn key_proofs(value in any::key_proof()) { cbor(&value) }

    #[test]
    fn items_of_a_log(value in any::log_item()) { cbor(&value) }

    #[test]
    fn proofs(inclusion in any::inclusion_proof(), consistency in any::consistency_proof(), checkpoint in any::checkpoint()) {
        cbor(&Leaves(inclusion.path.clone()));
        let proven = Proven { proof: inclusion, checkpoint: checkpoint.clone() };
        cbor(&proven);
        json(&proven);
        let proven = Proven { proof: consistency, checkpoint };
        cbor(&proven);
        json(&proven);
    }

    #[test]
    fn receipts(value in any::receipts()) {
        cbor(&value);
        for receipt in value.0 {
            let bytes = receipt.to_bytes();
            prop_assert!(bytes.len() <= RECEIPT_BYTES_MAX, "{}", bytes.len());
            let read = Receipt::from_bytes(&bytes).unwrap();
            prop_assert_eq!(read.recover().unwrap().id(), receipt.key());
            prop_assert_eq!(read, receipt);
        }
    }

    #[test]
    fn checkpoints(value in any::checkpoint()) {
        let bytes = value.to_bytes();
        prop_assert!(bytes.len() <= CHECKPOINT_BYTES_MAX, "{}", bytes.len());
        prop_assert_eq!(SignedCheckpoint::from_bytes(&bytes).unwrap(), value);
    }

    #[test]
    fn epoch_records(value in any::epoch_record()) {
        let read = SignedEpochRecord::from_bytes(&value.to_bytes()).unwrap();
        prop_assert_eq!(read.recover().unwrap(), value.recover().unwrap());
        prop_assert_eq!(read, value);
    }

    #[test]
    fn manifests(value in any::manifest(), key in any::signing_key()) {
        let signed = value.clone().sign(&key).unwrap();
        let bytes = signed.to_bytes();
        let read = SignedManifest::from_bytes(&bytes).unwrap();
        prop_assert_eq!(read.manifest(), &value);
        prop_assert_eq!(&read.recover().unwrap(), key.verifying_key());
        prop_assert_eq!(read, signed);
        prop_assert!(SignedManifest::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        prop_assert!(SignedManifest::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn endorsements(checkpoint in any::checkpoint_with_state(), key in any::signing_key(), chain_id in 1u64.., contract in any::address()) {
        let signer = RegisteredSigner::unattested(key);
        for domain in [Domain::NONE, Domain { chain_id, contract }] {
            let signed = Endorsement::sign(checkpoint.clone(), domain, &signer).unwrap();
            let bytes = signed.to_bytes();
            let read = SignedEndorsement::from_bytes(&bytes).unwrap();
            prop_assert_eq!(read.recover(), Some(signer.id()));
            prop_assert_eq!(&read, &signed);
            prop_assert!(SignedEndorsement::from_bytes(&bytes[..bytes.len() - 1]).is_err());
            prop_assert!(SignedEndorsement::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn batches(commits in 1u64..40) {
        let (_, log) = sample::log();
        let mut leader = sample::Leader::begin(2, sample::key(7), log[1].0.clone());
        for number in 0..commits {
            leader.push(&Entry::Submission(sample::commits(4 + number, leader.last(), 1)));
        }
        let batch = leader.cut();
        prop_assert_eq!(Batch::from_cbor(&batch.to_cbor()).unwrap(), batch.clone());
        prop_assert_eq!(Batch::from_stored(&batch.to_stored().unwrap()).unwrap(), batch);
    }

    #[test]
    fn http_types(
        problem in any::problem(), status in any::stream_status(),
        inclusion in any::inclusion_proof(), consistency in any::consistency_proof(),
    ) {
        json(&problem);
        json(&status);
        json(&inclusion);
        json(&consistency);
    }
}

fn body(entry: &Entry) {
    let body = Body::of(entry).unwrap();
    let read = Body::read(entry.message_type(), body.as_stored().to_vec(), BODY_BYTES_MAX).unwrap();
    assert_eq!(read.entry(), entry);
    assert_eq!(read, body);
}
