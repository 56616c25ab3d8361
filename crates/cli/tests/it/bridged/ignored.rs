//! A sequencer that leaves a deposit out: past its time nothing goes out any more, and everything does once it is in the log.

use super::chain::{State, until, until_past};
use super::foundry::Foundry;
use super::world::{RECIPIENT, Size, World};

/// How long a deposit may be missing, in milliseconds since its block.
const INCLUSION_MS: u64 = 3_000;

#[test]
fn a_deposit_that_the_sequencer_ignores_halts_what_goes_out_until_it_is_in_the_log() {
    let Some(foundry) = Foundry::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::prepare(folder.path(), foundry, Size { validators: 2, threshold: 2 });
    world.name_its_node(&[]);
    let deposited = world.chain.now();
    world.variables.push(("SYNDDB_VALIDATOR_ENDORSE__INCLUSION_MS".to_owned(), INCLUSION_MS.to_string()));
    // It signs whatever the application asks for, and tells it of no deposit.
    world.is_brought = false;
    world.start();
    world.start_relayer();
    let held = |validator: usize| {
        until(&format!("validator {validator} says what it misses"), || {
            let status = world.said("status", validator);
            let failing = status["endorsing"]["failing"].as_str().unwrap_or_default();
            // What was put into custody at the beginning.
            if failing.contains("nonce=`1`") { Ok(()) } else { Err(status["endorsing"].to_string()) }
        });
    };
    // Until then it may still come, and so what goes out is signed.
    until_past(deposited * 1_000 + INCLUSION_MS);
    assert_eq!(world.pay(RECIPIENT, 1_000), 1);
    let sequenced = world.until_sequenced(1)["sequence"].as_u64().unwrap();
    held(0);
    held(1);
    until("checkpoints are endorsed all the same", || {
        let endorsed = world.newest_endorsed(0)["sequence"].as_u64().unwrap_or_default();
        if endorsed >= sequenced { Ok(()) } else { Err(endorsed.to_string()) }
    });
    world.chain.mine(20);
    assert_eq!(world.chain.state(1), State::NotStarted);
    assert_eq!(world.chain.balance(RECIPIENT), 0);
    for validator in 0..2 {
        let said = world.said_by(validator, 1);
        assert!(said.is_none_or(|said| said["state"] != "signed"));
    }

    world.sequencer.kill();
    world.is_brought = true;
    world.start_sequencer();
    world.chain.until(1, State::Completed);
    assert_eq!(world.chain.balance(RECIPIENT), 1_000);
    world.assert_replica_equals(0);
}
