//! What an application acknowledges while no agent runs: it comes with the state of the next incarnation, in no commit.

use serde_json::json;

use super::application::{credits, make, take};
use super::chain::{until, until_past};
use super::foundry::Foundry;
use super::world::{CUSTODY, RECIPIENT, Size, World};

/// When nothing goes out any more, in milliseconds of log time behind a message that is not acknowledged.
const DEGRADED_MS: u64 = 3_000;

#[test]
fn what_was_acknowledged_while_no_agent_ran_makes_nobody_late_and_is_claimed_by_nobody() {
    let Some(foundry) = Foundry::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::prepare(folder.path(), foundry, Size { validators: 1, threshold: 1 });
    let deadline = DEGRADED_MS.to_string();
    world.name_its_node(&[
        ("DEADLINES__WARNED_MS", "1000"),
        ("DEADLINES__DEGRADED_MS", &deadline),
        ("DEADLINES__HALTED_MS", "60000"),
    ]);
    world.variables.push(("SYNDDB_VALIDATOR_ENDORSE__INCARNATION_MAX".to_owned(), "2".to_owned()));
    make(&world.database());
    world.start();
    until_credited(&world, 1);
    until_claimed(&world, 1);

    world.agent = None;
    world.chain.fund(7);
    world.chain.fund(8);
    until_credited(&world, 3);
    // It is the same application in another file: nobody can tell what was committed between.
    let copy = folder.path().join("copy.db");
    world.database().execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    world.replace_application(&copy);
    world.follow();
    world.assert_replica_equals(0);
    assert_eq!(world.said("status", 0)["refused"], 0, "{}", world.said("refusals", 0));

    let last = world.asked("messages/inbound")["messages"][2]["timestamp"].as_u64().unwrap();
    // It would be too late by then.
    until_past(last + DEGRADED_MS * 2);
    until("the stream is healthy", || {
        let status = world.asked("status")["status"].clone();
        if status == "healthy" { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(world.pay(RECIPIENT, 1_000), 1);
    world.until_said(0, 1, "signed");
    assert_eq!(world.newest_endorsed(0)["inbox_consumed"], 1, "no commit acknowledged the others");

    world.chain.fund(9);
    until_credited(&world, 4);
    until_claimed(&world, 4);
    assert_eq!(credits(&world.database()), [(1, CUSTODY), (2, 7), (3, 8), (4, 9)]);
    world.assert_replica_equals(0);
    assert_eq!(world.said("status", 0)["refused"], 0);
}

fn until_credited(world: &World, count: usize) {
    until(&format!("{count} deposits are credited"), || {
        take(&mut world.database(), &world.sequencer.url(), |_| true);
        let credited = credits(&world.database()).len();
        if credited == count { Ok(()) } else { Err(credited.to_string()) }
    });
}

fn until_claimed(world: &World, count: u64) {
    until(&format!("a checkpoint claims that {count} are acknowledged"), || {
        let claimed = world.newest_endorsed(0)["inbox_consumed"].clone();
        if claimed == json!(count) { Ok(()) } else { Err(claimed.to_string()) }
    });
}
