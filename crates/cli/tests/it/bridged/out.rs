//! From a row to a transaction: nothing without a quorum, and with one exactly once, whatever is killed meanwhile.

use std::collections::BTreeMap;

use super::chain::{State, until};
use super::foundry::Foundry;
use super::world::{CUSTODY, RECIPIENT, Size, World};
use crate::telemetry::the_reference_names_what_is_shown;

/// Who is paid. Nobody has their keys, and nothing is at these addresses.
const RECIPIENTS: [&str; 3] =
    [RECIPIENT, "0x0000000000000000000000000000000000000b0b", "0x00000000000000000000000000000000000ca201"];

/// Blocks in which nothing happens.
const QUIET_BLOCKS: u64 = 20;

/// Times that each process is killed.
const ROUNDS: usize = 2;

/// Who is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Sequencer,
    Validator,
    Relayer,
}

#[test]
fn a_row_is_paid_by_a_quorum_alone_and_once_whatever_is_killed() {
    let Some(foundry) = Foundry::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::begin(folder.path(), foundry, Size { validators: 3, threshold: 2 });
    world.checkpoints = true;
    let mut owed = BTreeMap::<&str, u128>::new();
    let mut last = 0;
    let mut pay = |world: &World, number: usize| {
        let (target, wei) = (RECIPIENTS[number % RECIPIENTS.len()], 1_000 + number as u128);
        *owed.entry(target).or_default() += wei;
        last += 1;
        assert_eq!(world.pay(target, wei), last, "ids are dense");
    };

    world.validators[1].kill();
    world.validators[2].kill();
    world.start_relayer();
    pay(&world, 0);
    world.until_sequenced(1);
    world.until_said(0, 1, "signed");
    world.chain.mine(QUIET_BLOCKS);
    assert_eq!(world.chain.state(1), State::NotStarted, "one of two is no quorum");
    assert_eq!(world.chain.balance(RECIPIENTS[0]), 0);

    world.start_validator(1);
    world.chain.until(1, State::Completed);
    assert_eq!(world.chain.balance(RECIPIENTS[0]), 1_000);

    // From here on two live, and each kill takes away what the next message needs.
    let mut number = 1;
    for round in 0..ROUNDS {
        for victim in [Victim::Sequencer, Victim::Validator, Victim::Relayer] {
            for _ in 0..2 {
                pay(&world, number);
                number += 1;
            }
            match victim {
                Victim::Sequencer => world.sequencer.kill(),
                Victim::Validator => world.validators[round % 2].kill(),
                Victim::Relayer => world.relayer.kill(),
            }
            pay(&world, number);
            number += 1;
            match victim {
                Victim::Sequencer => world.start_sequencer(),
                Victim::Validator => world.start_validator(round % 2),
                Victim::Relayer => world.start_relayer(),
            }
        }
    }
    let rows = u64::try_from(number).unwrap();
    for nonce in 1..=rows {
        world.chain.until(nonce, State::Completed);
    }
    world.chain.mine(QUIET_BLOCKS);
    for (target, wei) in &owed {
        assert_eq!(world.chain.balance(target), *wei, "{target} is paid exactly once for each row");
    }
    let paid: u128 = owed.values().sum();
    assert_eq!(world.chain.custody(&world.chain.wrapped()), CUSTODY - paid);
    for validator in [0, 1] {
        world.assert_replica_equals(validator);
    }
    let registry = world.chain.at("CheckpointRegistry");
    until("a checkpoint that a quorum endorsed is recorded", || {
        let newest = world.chain.call(&registry, "newestSequence()(uint64)", &[]);
        if newest.parse::<u64>().unwrap() > 2 { Ok(()) } else { Err(newest) }
    });
    let metrics = crate::keys::get(&format!("{}/metrics", world.relayer.url()));
    the_reference_names_what_is_shown(&[("relayer", metrics)]);
    println!("{rows} rows, {paid} wei paid once each, {} kills", 3 * ROUNDS + 2);
}
