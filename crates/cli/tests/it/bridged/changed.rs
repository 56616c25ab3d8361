//! A row that is changed or deleted after it was inserted, and one that comes again with other content.

use super::chain::State;
use super::foundry::Foundry;
use super::world::{RECIPIENT, World};
use crate::keys::get;

#[test]
fn a_row_that_is_changed_or_deleted_is_refused_said_and_never_executed() {
    let Some(foundry) = Foundry::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::begin_with_one_paid(folder.path(), foundry);

    // Nobody looks between the row and its change.
    world.validators[0].kill();
    world.validators[1].kill();
    world
        .database()
        .execute_batch("DROP TRIGGER outbound_messages_kept; DROP TRIGGER outbound_messages_not_deleted; DROP TRIGGER outbound_messages_in_order")
        .unwrap();
    assert_eq!((world.pay(RECIPIENT, 2_000), world.pay(RECIPIENT, 3_000)), (2, 3));
    world.until_sequenced(3);
    let database = world.database();
    database.execute("UPDATE outbound_messages SET value = '999999' WHERE id = 2", []).unwrap();
    database.execute("DELETE FROM outbound_messages WHERE id = 3", []).unwrap();
    drop(database);
    world.start_validator(0);
    world.start_validator(1);
    for validator in [0, 1] {
        world.assert_replica_equals(validator);
        for nonce in [2, 3] {
            let said = world.until_said(validator, nonce, "refused");
            assert!(said["detail"].as_str().unwrap().contains("changed or deleted"), "{said}");
        }
        let refusals = get(&format!("{}/refusals", world.validators[validator].url()));
        assert!(refusals.contains("outbound messages"), "{refusals}");
    }
    // What was signed before stays, and nothing behind the violation is signed while it is open.
    world.ask(RECIPIENT, &[("value", "'4000'"), ("id", "4")]);
    world.until_said(0, 4, "waiting");
    world.chain.mine(20);
    for nonce in [2, 3, 4] {
        assert_eq!(world.chain.state(nonce), State::NotStarted, "{nonce}");
    }
    assert_eq!(world.chain.balance(RECIPIENT), 1_000);
}
