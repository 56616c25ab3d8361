//! What an owner leaves that is killed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;

use super::child::{Role, spawn};
use super::reader::Reader;
use super::{create, noise, open, poll_of, position, rows, state};

/// How many polls of one owner are looked at. Each next one dies at another place of a poll.
const ROUNDS: usize = 12;

/// How many commits a poll has, so that a reader can tell from the position alone how many there must be.
fn commits_of(poll: u64) -> u64 {
    poll % 5 + 1
}

/// Keeps polls, and says before and after each. A huge commit in every third poll puts pages into the file before it is kept.
pub(crate) fn keep_until_killed(folder: &Path) {
    let mut outbox = open(folder);
    for poll in poll_of(outbox.position()) + 1.. {
        for number in outbox.next_commit().get()..outbox.next_commit().get() + commits_of(poll) {
            if poll.is_multiple_of(3) {
                outbox.take_piece(rows(noise(300_000))).unwrap();
            }
            outbox.take_commit(rows(poll.to_be_bytes()), state(number)).unwrap();
            println!("\ngiven {number}");
        }
        println!("\nkeeping {poll}");
        outbox.keep(position(poll)).unwrap();
        println!("\nkept {poll}");
    }
}

#[test]
fn a_killed_owner_leaves_whole_polls_and_their_position() {
    let folder = tempfile::tempdir().unwrap();
    drop(create(folder.path()));
    let mut rounds_inside = 0;
    for round in 0..ROUNDS {
        let mut child = spawn(Role::Keep, folder.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let enough = lines.by_ref().filter(|line| said(line, "given").is_some()).nth(3 + round);
        assert!(enough.is_some(), "the child ended by itself");
        child.kill().unwrap();
        // What the child wrote before it died, it did before it died.
        let last: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
        child.wait().unwrap();
        let kept = last.iter().filter_map(|line| said(line, "kept")).max();
        rounds_inside += usize::from(last.last().is_none_or(|line| said(line, "kept").is_none()));

        let outbox = open(folder.path());
        let poll = poll_of(outbox.position());
        assert!(kept.is_none_or(|kept| poll >= kept), "poll {kept:?} was kept, and the file ends at {poll}");
        let commits: u64 = (1..=poll).map(commits_of).sum();
        assert_eq!(outbox.next_commit().get(), commits + 1, "the position is of poll {poll}");
        let reader = Reader::of(&outbox);
        assert_eq!((reader.client.next, reader.client.last), (outbox.next_commit(), outbox.last_digest()));
        assert_eq!((reader.client.state, outbox.state()), (state(commits), state(commits)));
        assert_eq!(reader.commits.len() as u64, commits);
    }
    assert!(rounds_inside > 0, "no owner died inside a poll");
}

fn said(line: &str, word: &str) -> Option<u64> {
    line.strip_prefix(word)?.trim().parse().ok()
}
