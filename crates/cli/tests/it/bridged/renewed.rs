//! A database that is made anew and says other things under ids that were used.

use super::foundry::Foundry;
use super::world::{RECIPIENT, World};

/// Who is named under the same ids by the database that took the place of the first one.
const OTHER: &str = "0x0000000000000000000000000000000000000b0b";

#[test]
fn an_id_says_one_thing_for_ever_also_in_a_database_that_is_made_anew() {
    let Some(foundry) = Foundry::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::begin_with_one_paid(folder.path(), foundry);
    // Signed by everybody, and not brought yet.
    world.relayer.kill();
    assert_eq!(world.pay(RECIPIENT, 2_000), 2);
    let signed = [1, 2].map(|nonce| world.until_sequenced(nonce)["digest"].clone());
    for validator in [0, 1] {
        world.until_said(validator, 2, "signed");
    }

    // With the same tables and no row.
    let anew = folder.path().join("anew.db");
    World::make_application(&anew);
    world.replace_application(&anew);
    let agent = world.agent.as_ref().unwrap();
    agent.event("attached", |event| event["incarnation"] == 2);
    assert_eq!((world.pay(OTHER, 5_000), world.pay(OTHER, 6_000)), (1, 2));
    for validator in [0, 1] {
        world.assert_replica_equals(validator);
        for (nonce, digest) in [1, 2].into_iter().zip(&signed) {
            let said = world.said_by(validator, nonce).unwrap();
            assert!(said["state"] == "refused" || said["digest"] == *digest, "{said}");
        }
    }
    assert_eq!([1, 2].map(|nonce| world.until_sequenced(nonce)["digest"].clone()), signed);

    world.start_relayer();
    world.chain.mine(20);
    assert_eq!(world.chain.balance(OTHER), 0, "an id that was used moves nothing else");
    let paid = world.chain.balance(RECIPIENT);
    assert!([1_000, 3_000].contains(&paid), "{paid}");
}
