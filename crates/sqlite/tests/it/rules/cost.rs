//! What rules cost a replica that catches up.

use std::time::Instant;

use synddb_protocol::hash::CommitDigest;
use synddb_protocol::id::CommitNumber;
use synddb_protocol::submission::{Changes, Commit, CommitKind, Commits, Content, StateClaim, TextEncoding};
use synddb_sqlite::rules::{RuleText, Rules};
use synddb_sqlite::state::RunningState;

use super::{BOUNDS, Judged, Judging, rule};
use crate::apply_random::Random;

const COMMITS: u64 = 800;
/// Commits of one submission.
const BATCH: u64 = 100;

const SCHEMA: &str = "CREATE TABLE accounts(id INTEGER PRIMARY KEY, owner TEXT, balance INTEGER, held INTEGER);
    CREATE TABLE orders(id INTEGER PRIMARY KEY, account INTEGER, side TEXT, price INTEGER, open INTEGER, state TEXT);
    CREATE TABLE trades(id INTEGER PRIMARY KEY, maker INTEGER, taker INTEGER, price INTEGER, amount INTEGER);
    INSERT INTO accounts WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
        SELECT i, 'account ' || i, 1000000, 0 FROM n";

/// Ten rules as a validator of an exchange would have them.
pub(super) fn ten() -> Vec<RuleText> {
    vec![
        rule("balance", &["accounts"], "SELECT id, balance FROM changed_accounts WHERE balance < 0"),
        rule("held", &["accounts"], "SELECT id, held FROM changed_accounts WHERE held < 0 OR held > balance"),
        rule("kept", &["accounts"], "SELECT id FROM removed_accounts"),
        rule("owner", &["accounts"], "SELECT id FROM changed_accounts WHERE owner IS NULL"),
        rule("price", &["orders"], "SELECT id, price FROM changed_orders WHERE price <= 0"),
        rule("side", &["orders"], "SELECT id, side FROM changed_orders WHERE side NOT IN ('buy', 'sell')"),
        rule("state", &["orders"], "SELECT id FROM changed_orders WHERE state = 'filled' AND open <> 0"),
        rule(
            "owned",
            &["orders"],
            "SELECT id FROM changed_orders AS c WHERE NOT EXISTS (SELECT 1 FROM accounts AS a WHERE a.id = c.account)",
        ),
        rule("amount", &["trades"], "SELECT id, amount FROM changed_trades WHERE amount <= 0"),
        rule("final", &["trades"], "SELECT id FROM before_trades"),
    ]
}

/// One commit of an order book: an order comes, and meets another.
fn step(random: &mut Random, number: u64) -> String {
    let (maker, taker) = (1 + random.next(200), 1 + random.next(200));
    let (price, other) = (100 + random.next(50), 1 + random.next(usize::try_from(number).unwrap()));
    format!(
        "INSERT INTO orders VALUES({number}, {taker}, 'buy', {price}, 5, 'open');
         UPDATE orders SET open = open - 1 WHERE id = {other} AND open > 1;
         INSERT INTO trades VALUES({number}, {maker}, {taker}, {price}, 1);
         UPDATE accounts SET balance = balance - 1 WHERE id = {taker};
         UPDATE accounts SET balance = balance + 1 WHERE id = {maker}"
    )
}

/// The submissions of an order book.
fn submissions() -> Vec<Content> {
    let judged = Judged::new(TextEncoding::Utf8, Vec::new());
    let mut random = Random(7);
    let mut contents = Vec::new();
    let mut commits: Vec<Commit> = Vec::new();
    for number in 1..=COMMITS {
        let sql = if number == 1 { SCHEMA.to_owned() } else { step(&mut random, number) };
        let captured = judged.pair.capture(&sql);
        commits.push(Commit {
            number: CommitNumber::new(number).unwrap(),
            prev: commits.last().map_or(CommitDigest::from_bytes([0; 32]), Commit::digest),
            kind: CommitKind::Transaction,
            changes: Changes {
                schema: captured.schema,
                rows: captured.rows,
                user_version: captured.user_version,
                application_id: captured.application_id,
            },
            state: number.is_multiple_of(BATCH).then(|| {
                let state = RunningState::scan(&judged.pair.source).unwrap().hash();
                StateClaim { state, scanned: None }
            }),
        });
        if number % BATCH == 0 {
            contents.push(Content::Commits(Commits::new(std::mem::take(&mut commits)).unwrap()));
        }
    }
    contents
}

/// Nanoseconds a commit that a replica takes with these rules, or without a judge.
fn nanoseconds(contents: &[Content], rules: Option<&[RuleText]>) -> u128 {
    let texts = rules.unwrap_or_default();
    let mut judged = Judged::new(TextEncoding::Utf8, texts.to_vec());
    judged.judging = Judging { rules: Rules::new(texts.to_vec(), BOUNDS), found: Vec::new() };
    // What a transaction costs is another matter, and the first submission makes the tables.
    judged.replica.begin().unwrap();
    let mut since = Instant::now();
    for (at, content) in contents.iter().enumerate() {
        if rules.is_some() {
            judged.replica.take_judged(content, &mut judged.judging).unwrap();
        } else {
            judged.replica.take(content).unwrap();
        }
        if at == 0 {
            since = Instant::now();
        }
    }
    let took = since.elapsed().as_nanos() / u128::from(COMMITS - BATCH);
    judged.replica.commit().unwrap();
    assert_eq!(judged.judging.found, [], "the order book keeps its rules");
    took
}

#[test]
fn ten_rules_leave_a_replica_most_of_its_speed() {
    let contents = submissions();
    let (mut without, mut with, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    let ten = ten();
    for _ in 0..5 {
        without.push(nanoseconds(&contents, None));
        empty.push(nanoseconds(&contents, Some(&[])));
        with.push(nanoseconds(&contents, Some(&ten)));
    }
    let least = |taken: &[u128]| taken.iter().copied().min().unwrap();
    let (without, empty, with) = (least(&without), least(&empty), least(&with));
    println!("ns a commit: {without} without a judge, {empty} with no rule, {with} with ten rules");
}
