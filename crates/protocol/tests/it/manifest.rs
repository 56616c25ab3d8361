//! A manifest that contradicts itself is neither signed nor read, and one at the bounds is both.

use synddb_protocol::DecodeError;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::Sequence;
use synddb_protocol::limits::{
    CHUNK_BYTES_MAX, CHUNK_STORED_MAX, MANIFEST_BYTES_MAX, PAGE_PLACES_MAX, SNAPSHOT_CHUNKS_MAX,
    SNAPSHOT_PATCHES_MAX,
};
use synddb_protocol::log::{Entry, Manifest, PagePlaces, Patch, SignedManifest, Tip};
use synddb_protocol::submission::{Chunk, Content, PageSize};

use crate::sample::{self, Leader};

fn refused(edit: impl FnOnce(&mut Manifest)) -> String {
    let mut manifest = sample::manifest(true);
    edit(&mut manifest);
    manifest.sign(&sample::key(9)).unwrap_err().to_string()
}

#[test]
fn what_contradicts_itself_is_not_signed() {
    let place = |first, pages| PagePlaces { first, pages };
    let places = |first, pages| refused(|manifest| manifest.patches[1].places[0] = place(first, pages));
    let nowhere = "a patch lays pages where none are";
    assert!(places(Some(0), 1).contains(nowhere) && places(Some(0), 0).contains(nowhere));
    assert!(places(Some(515), 1).contains(nowhere), "behind the last page");
    assert!(places(Some(514), 2).contains(nowhere), "over the last page");
    assert!(places(Some(u32::MAX), u32::MAX).contains(nowhere));
    assert!(places(None, 0).contains(nowhere));
    let count = "a patch has another number of pages than places";
    assert!(places(Some(1), 2).contains(count) && places(None, 2).contains(count));
    assert!(refused(|manifest| manifest.patches[0].places.clear()).contains(count));
    let empty = refused(|manifest| {
        manifest.patches[0] = Patch { chunk: Chunk { pages: 0, ..manifest.runs[0] }, places: Vec::new() }
    });
    assert!(empty.contains("at least one page"), "{empty}");
    assert!(refused(|manifest| manifest.runs.clear()).contains("at least one page"));
    assert!(refused(|manifest| manifest.runs[1].pages = 0).contains("at least one page"));
    let pages_max = CHUNK_BYTES_MAX as u64 / 4096;
    assert!(refused(|manifest| manifest.runs[0].pages = pages_max + 1).contains("pages of a chunk"));
    assert!(refused(|manifest| manifest.patches[0].chunk.pages = pages_max + 1).contains("pages of a chunk"));
    let bytes = CHUNK_STORED_MAX as u64 + 1;
    assert!(refused(|manifest| manifest.patches[0].chunk.stored_bytes = bytes).contains("stored bytes"));
}

#[test]
fn nothing_is_taken_inside_a_commit_or_before_the_first_snapshot() {
    let mut leader = Leader::begin(1, sample::key(7), Tip::start(sample::stream()));
    let before = leader.cut().checkpoint().clone();
    let error = refused(|manifest| manifest.checkpoint = before);
    assert!(error.contains("before the first snapshot"), "{error}");
    leader.push(&Entry::Snapshot(sample::first_snapshot()));
    leader.push(&Entry::Submission(sample::submission(Content::Part(sample::part(
        1,
        0,
        leader.last(),
        None,
    )))));
    let inside = leader.cut().checkpoint().clone();
    let error = refused(|manifest| manifest.checkpoint = inside);
    assert!(error.contains("coming in parts"), "{error}");
}

#[test]
fn it_stands_where_its_checkpoint_stands() {
    let manifest = sample::manifest(true);
    let claim = manifest.checkpoint.claim().clone();
    assert_eq!((manifest.stream(), manifest.sequence()), (claim.stream, claim.size));
    assert_eq!(manifest.state(), claim.client.map(|client| client.state));
    assert_eq!(manifest.chunks().count(), 4);
    // The size stands in the protected header too, behind the algorithm.
    let mut moved = sample::signed_manifest(true).to_bytes();
    let label = [0x3a, 0, 1, 0, 0];
    let at = moved.windows(5).position(|part| part == label).unwrap() + 5;
    assert_eq!(Sequence::new(moved[at].into()).unwrap(), claim.size);
    moved[at] -= 1;
    let error = SignedManifest::from_bytes(&moved).unwrap_err();
    assert!(
        matches!(error, DecodeError::Invalid { why: "its checkpoint is of another place", .. }),
        "{error}"
    );
}

#[test]
fn full_lists_fit_and_longer_ones_do_not() {
    let hash = ChunkHash::from_bytes([0xff; 32]);
    let mut manifest = sample::manifest(false);
    manifest.page_size = PageSize::new(512).unwrap();
    let (pages, stored_bytes) = (CHUNK_BYTES_MAX as u64 / 512, CHUNK_STORED_MAX as u64);
    manifest.runs = vec![Chunk { hash, pages, stored_bytes }; SNAPSHOT_CHUNKS_MAX];
    // The largest numbers: the end of the database.
    let last = u32::try_from(pages * SNAPSHOT_CHUNKS_MAX as u64).unwrap();
    let of_patch = PAGE_PLACES_MAX / SNAPSHOT_PATCHES_MAX;
    let place = PagePlaces { first: Some(last), pages: 1 };
    let patch =
        Patch { chunk: Chunk { hash, pages: of_patch as u64, stored_bytes }, places: vec![place; of_patch] };
    manifest.patches = vec![patch; SNAPSHOT_PATCHES_MAX];
    let signed = manifest.clone().sign(&sample::key(9)).unwrap();
    let bytes = signed.to_bytes();
    assert!(bytes.len() <= MANIFEST_BYTES_MAX, "{}", bytes.len());
    assert_eq!(SignedManifest::from_bytes(&bytes).unwrap(), signed);
    let over = |manifest: Manifest| manifest.sign(&sample::key(9)).unwrap_err();
    let mut more = manifest.clone();
    more.patches[0].places.push(PagePlaces { first: None, pages: 1 });
    more.patches[0].chunk.pages += 1;
    assert!(matches!(over(more), DecodeError::OverLimit { what: "places of pages", .. }));
    let mut more = manifest.clone();
    more.patches.push(Patch { chunk: manifest.runs[0], places: Vec::new() });
    assert!(matches!(over(more), DecodeError::OverLimit { what: "patches", .. }));
    let mut more = manifest.clone();
    more.runs.push(manifest.runs[0]);
    assert!(matches!(over(more), DecodeError::OverLimit { what: "runs", .. }));
    assert!(SignedManifest::from_bytes(&vec![0xd2; MANIFEST_BYTES_MAX + 1]).is_err());
}
