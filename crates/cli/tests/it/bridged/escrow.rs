//! Targets that fail, targets that burn gas, and a token that takes a fee: what fails stays in custody, and is done once it can be.

use super::chain::{OWNER, State};
use super::foundry::Foundry;
use super::world::{CUSTODY, RECIPIENT, Size, World};

#[test]
fn what_fails_stays_in_custody_and_is_done_once_it_can_be() {
    let Some(foundry) = Foundry::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::begin(folder.path(), foundry, Size { validators: 2, threshold: 2 });
    let build = folder.path().join("build");
    let counter = world.chain.put("Targets.sol", "Counter", &build);
    let burner = world.chain.put("Targets.sol", "GasBurner", &build);
    let token = world.chain.put("Tokens.sol", "FeeToken", &build);
    let bridge = world.chain.bridge();
    world.chain.decide(&bridge, "setTokenAdmitted(address,bool)", &[&token, "true"]);
    world.chain.send(&token, "mint(address,uint256)", &[OWNER, "1000000"]);
    world.chain.send(&token, "approve(address,uint256)", &[&bridge, "1000000"]);
    world.chain.send(&bridge, "deposit(address,uint256,bytes)", &[&token, "1000000", "0x"]);
    let held = world.chain.custody(&token);
    assert!(held < 1_000_000, "what arrived is credited: {held}");
    world.chain.send(&counter, "setFailing(bool)", &["true"]);
    world.start_relayer();

    let count = format!("x'{}'", world.chain.data("count()", &[]).trim_start_matches("0x"));
    let failing = world.ask(&counter, &[("value", "'700'"), ("payload", &count)]);
    let burning = world.ask(&burner, &[("payload", "x'00'"), ("gas_limit", "300000")]);
    let token_text = format!("'{token}'");
    let fee = world.ask(RECIPIENT, &[("token", &token_text), ("amount", "'1000'")]);
    world.chain.until(failing, State::Failed);
    world.chain.until(burning, State::Failed);
    world.chain.until(fee, State::Completed);
    let wrapped = world.chain.wrapped();
    assert_eq!(world.chain.custody(&wrapped), CUSTODY, "what failed is there");
    assert_eq!(world.chain.custody(&token), held - 1_000);
    let arrived: u128 =
        world.chain.call(&token, "balanceOf(address)(uint256)", &[RECIPIENT]).parse().unwrap();
    assert!(arrived > 0 && arrived < 1_000, "{arrived}");

    world.chain.send(&counter, "setFailing(bool)", &["false"]);
    world.chain.until(failing, State::Completed);
    assert_eq!(world.chain.balance(&counter), 700);
    assert_eq!(world.chain.custody(&wrapped), CUSTODY - 700);
    assert_eq!(world.chain.state(burning), State::Failed);
    world.assert_replica_equals(0);
}
