//! An application that does not acknowledge what the bridge told it: warned, delayed, halted at the times that were said, and well again when it has caught up.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::application::{credits, make, take};
use super::chain::{State, until};
use super::foundry::Foundry;
use super::world::{CUSTODY, RECIPIENT, Size, World};
use crate::processes::{run, synddb};
use crate::roles::store;

/// Deadlines in milliseconds, by what the log calls the level.
const DEADLINES: [(&str, u64); 3] = [("warned", 2_000), ("degraded", 20_000), ("halted", 30_000)];

/// What a level may be later than its deadline: a look of the sequencer, and a busy machine.
const LATE_MS_MAX: u64 = 2_000;

#[test]
fn an_application_that_is_late_is_warned_delayed_and_halted_in_time_and_goes_on_when_it_has_caught_up() {
    let Some(foundry) = Foundry::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::prepare(folder.path(), foundry, Size { validators: 2, threshold: 2 });
    let deadlines = DEADLINES.map(|(_, deadline)| deadline.to_string());
    world.name_its_node(&[
        ("DEADLINES__WARNED_MS", &deadlines[0]),
        ("DEADLINES__DEGRADED_MS", &deadlines[1]),
        ("DEADLINES__HALTED_MS", &deadlines[2]),
    ]);
    make(&world.database());
    world.start();
    world.start_relayer();
    // One that nobody can process, and one behind it.
    world.chain.fund(7);
    until_level(&world, "warned");
    assert_eq!(world.pay(RECIPIENT, 1_000), 1);
    world.chain.until(1, State::Completed);
    until_level(&world, "degraded");
    assert_eq!(world.pay(RECIPIENT, 1_000), 2);
    let waits = until("the sequencer knows the row", || {
        let said = world.asked("messages/outbound/2/status");
        if said["state"] == "waiting" { Ok(said) } else { Err(said.to_string()) }
    });
    assert!(waits["detail"].as_str().unwrap().contains("inbound"), "{waits}");
    until_level(&world, "halted");
    assert_eq!(world.pay(RECIPIENT, 1_000), 3);
    world.chain.mine(20);
    assert_eq!(world.chain.state(2), State::NotStarted);
    assert_eq!(world.chain.balance(RECIPIENT), 1_000);

    until("the application has caught up", || {
        // Of both at once: of the second alone, which came later, it would be less late for a moment.
        let mut database = world.database();
        database.execute_batch("BEGIN").unwrap();
        take(&mut database, &world.sequencer.url(), |nonce| nonce != 1);
        database.execute_batch("COMMIT").unwrap();
        let list = world.asked("messages/inbound");
        if list["acknowledged"] == 2 { Ok(()) } else { Err(list.to_string()) }
    });
    assert_eq!(credits(&world.database()), [(2, 7)], "the first one is rejected, and blocks nothing");
    let list = world.asked("messages/inbound");
    let outcomes: Vec<&Value> = list["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| &message["acknowledged"]["outcome"])
        .collect();
    assert_eq!(outcomes, ["rejected", "done"]);
    shown_as_events(&world);
    until_level(&world, "healthy");
    for nonce in 2..=3 {
        world.chain.until(nonce, State::Completed);
    }
    assert_eq!(world.chain.balance(RECIPIENT), 3_000);
    assert_eq!(world.chain.custody(&world.chain.wrapped()), CUSTODY + 7 - 3_000);
    world.assert_replica_equals(0);
    levels_came_in_time(&world);
}

/// Whoever listens is shown both, and whoever saw the first is shown the other.
fn shown_as_events(world: &World) {
    let url = format!("{}/messages/inbound/stream", world.sequencer.url());
    for (last_seen, expected) in [(None, &["1", "2"][..]), (Some("Last-Event-ID: 1"), &["2"][..])] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--no-buffer", "--max-time", "5", &url]);
        curl.args(last_seen.into_iter().flat_map(|header| ["--header", header]));
        let told = String::from_utf8(curl.output().unwrap().stdout).unwrap();
        let ids: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
        assert_eq!(ids, expected, "{told}");
        assert_eq!(told.matches("event: inbound\n").count(), expected.len(), "{told}");
    }
}

/// Waits until the stream is so, or further behind: levels pass while nobody looks.
fn until_level(world: &World, level: &str) {
    const LEVELS: [&str; 4] = ["healthy", "warned", "degraded", "halted"];
    let place = |of: &str| LEVELS.iter().position(|level| *level == of);
    until(&format!("the stream is {level}"), || {
        let status = world.asked("status");
        let found = status["status"].as_str().and_then(place);
        let is_so = if level == "healthy" { found == Some(0) } else { found >= place(level) };
        if is_so { Ok(()) } else { Err(status["status"].to_string()) }
    });
}

/// The log says each level within the time behind its deadline, by its own time.
fn levels_came_in_time(world: &World) {
    let list = world.asked("messages/inbound");
    let came = list["messages"][0]["timestamp"].as_u64().unwrap();
    let found = statuses(world);
    let mut levels: Vec<&str> = found.iter().map(|(level, _)| level.as_str()).collect();
    // One may say the same again, for what is acknowledged.
    levels.dedup();
    assert_eq!(levels, ["warned", "degraded", "halted", "healthy"], "{found:?}");
    for (level, deadline) in DEADLINES {
        let (_, at) = found.iter().find(|(found, _)| found == level).unwrap();
        let late = Duration::from_millis(at - came - deadline);
        assert!(at - came >= deadline && late <= Duration::from_millis(LATE_MS_MAX), "{level}: {late:?}");
    }
    println!("levels in log time, of a message that came at {came}: {}", json!(found));
}

/// The statuses that the log says, with their times.
fn statuses(world: &World) -> Vec<(String, u64)> {
    let stored = world.asked("status")["stored"].as_u64().unwrap();
    let stream = world.stream.to_string();
    let mut found = Vec::new();
    for sequence in 1..=stored {
        let (store, sequence) = (store(&world.folder), sequence.to_string());
        let arguments =
            ["inspect", "--store", &store, "--stream", &stream, "--sequence", &sequence, "--json"];
        let (exit, told, errors) = run(synddb(arguments));
        assert_eq!(exit, 0, "{errors}");
        let pieces: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let status = pieces.iter().find(|piece| piece["object"] == "status");
        let header = pieces.iter().find_map(|piece| piece["timestamp"].as_u64());
        found.extend(status.map(|status| (status["level"].as_str().unwrap().to_owned(), header.unwrap())));
    }
    found
}
