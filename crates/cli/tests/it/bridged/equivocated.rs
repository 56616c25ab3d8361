//! A sequencer that signs two contents for one place, and whoever shows both to the chain.

use std::path::Path;

use synddb_protocol::id::Timestamp;
use synddb_protocol::log::{MessageHeader, MessageType, Receipt};
use synddb_service::secret::signing_key;

use super::chain::State;
use super::foundry::Foundry;
use super::world::{PURSE, RECIPIENT, Size, World};
use crate::processes::{run, synddb};

#[test]
fn a_key_that_equivocated_is_frozen_by_anyone_and_brings_no_message_any_more() {
    let Some(foundry) = Foundry::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::begin(folder.path(), foundry, Size { validators: 1, threshold: 1 });
    let key = signing_key(&world.folder.join("sequencer.key")).unwrap();
    let header = MessageHeader {
        stream: world.stream,
        epoch: 1.try_into().unwrap(),
        sequence: 2.try_into().unwrap(),
        timestamp: Timestamp::from_ms(1000).unwrap(),
        message_type: MessageType::Status,
    };
    let object = |name: &str, body: &[u8]| {
        let file = world.folder.join(name);
        std::fs::write(&file, Receipt::sign(header, body, &key).to_bytes()).unwrap();
        file
    };
    let (one, other) = (object("one", b"one"), object("other", b"other"));
    let payer = world.folder.join("payer.key");
    let account = signing_key(&payer).unwrap().id().to_string();
    world.chain.rpc("anvil_setBalance", &[&account, PURSE]);
    let report = |first: &Path, second: &Path| {
        let mut command = synddb(["bridge", "report-equivocation", "--json"]);
        command.args([first, second]).args(["--rpc", &world.chain.url]);
        command.args(["--stream", &world.stream.to_string()]);
        command.arg("--deployments").arg(&world.chain.record).arg("--account").arg(&payer);
        run(command)
    };
    let is_live = || {
        let keys = world.chain.at("TeeKeyManager");
        world.chain.call(&keys, "isLive(address,uint8)(bool)", &[&key.id().to_string(), "1"]) == "true"
    };

    // Nothing is paid for what proves nothing.
    let (exit, _, errors) = report(&one, &one);
    assert_eq!(exit, 2, "{errors}");
    let (exit, _, errors) = report(&one, &payer);
    assert_eq!((exit, errors.contains("neither a receipt nor a checkpoint")), (2, true), "{errors}");
    assert_eq!((is_live(), world.chain.transactions(&account)), (true, 0));

    let (exit, told, errors) = report(&one, &other);
    assert_eq!(exit, 0, "{errors}");
    assert!(told.contains("reported") && told.contains(&key.id().to_string()), "{told}");
    assert_eq!((is_live(), world.chain.transactions(&account)), (false, 1));
    let (exit, _, errors) = report(&one, &other);
    assert_eq!((exit, world.chain.transactions(&account)), (2, 1), "once is enough: {errors}");

    // What such a key signs is brought by nobody.
    world.start_relayer();
    assert_eq!(world.pay(RECIPIENT, 1_000), 1);
    world.until_said(0, 1, "signed");
    world.chain.mine(20);
    assert_eq!(world.chain.state(1), State::NotStarted);
}
