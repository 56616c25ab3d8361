//! Whatever goes in comes out, in a form that every reader accepts.

use proptest::collection::vec;
use proptest::prelude::*;
use synddb_protocol::submission::Changes;

use super::reader::Reader;
use super::{create, drops, noise, open, position, rows, state};

/// A commit as the follower gives it.
#[derive(Debug, Clone)]
struct Given {
    pieces: Vec<Piece>,
    last: Piece,
    header: (Option<i32>, Option<i32>),
}

#[derive(Debug, Clone)]
struct Piece {
    schema: usize,
    rows: usize,
}

impl Piece {
    fn changes(&self) -> Changes {
        Changes { schema: drops(self.schema), ..rows(noise(self.rows)) }
    }
}

/// What ends a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kept,
    GivenUp,
    KeptAndReopened,
}

fn piece() -> impl Strategy<Value = Piece> {
    let rows = prop_oneof![8 => 0..200usize, 2 => 0..700_000usize, 1 => 4_100_000..4_400_000usize];
    (prop_oneof![6 => Just(0), 3 => 0..40usize, 1 => 200..700usize], rows)
        .prop_map(|(schema, rows)| Piece { schema, rows })
}

fn given() -> impl Strategy<Value = Given> {
    let pieces = prop_oneof![5 => Just(Vec::new()), 1 => vec(piece(), 1..4)];
    (pieces, piece(), any::<(Option<i32>, Option<i32>)>()).prop_map(|(pieces, last, header)| Given {
        pieces,
        last,
        header,
    })
}

fn polls() -> impl Strategy<Value = Vec<(Vec<Given>, End)>> {
    let end = prop_oneof![4 => Just(End::Kept), 1 => Just(End::GivenUp), 1 => Just(End::KeptAndReopened)];
    vec((vec(given(), 0..8), end), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(polls in polls()) {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = create(folder.path());
        let mut expected = Vec::new();
        for (poll, (commits, end)) in (1..).zip(polls) {
            let mut taken = Vec::new();
            for commit in commits {
                let mut whole = Changes::default();
                for piece in &commit.pieces {
                    let changes = piece.changes();
                    whole.schema.extend(changes.schema.clone());
                    whole.rows.extend(&changes.rows);
                    outbox.take_piece(changes).unwrap();
                }
                let (user_version, application_id) = commit.header;
                let changes = Changes { user_version, application_id, ..commit.last.changes() };
                whole.schema.extend(changes.schema.clone());
                whole.rows.extend(&changes.rows);
                (whole.user_version, whole.application_id) = commit.header;
                taken.push(whole);
                outbox.take_commit(changes, state((expected.len() + taken.len()) as u64)).unwrap();
            }
            match end {
                End::GivenUp => outbox.give_up().unwrap(),
                End::Kept | End::KeptAndReopened => {
                    outbox.keep(position(poll)).unwrap();
                    expected.append(&mut taken);
                }
            }
            if end == End::KeptAndReopened {
                drop(outbox);
                outbox = open(folder.path());
            }
        }
        let reader = Reader::of(&outbox);
        prop_assert_eq!(reader.client.next, outbox.next_commit());
        prop_assert_eq!(reader.client.last, outbox.last_digest());
        prop_assert_eq!(reader.client.state, outbox.state());
        prop_assert_eq!(reader.commits.len(), expected.len());
        for (number, (read, whole)) in (1..).zip(reader.commits.into_iter().zip(expected)) {
            prop_assert!(read.changes == whole, "commit {} changed on its way", number);
            if let Some(claim) = read.claim {
                prop_assert_eq!(claim.state, state(number));
            }
        }
    }
}
