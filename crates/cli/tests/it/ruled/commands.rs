//! From a file of rules to a refusal, its resolution, and endorsements that are counted.

use std::time::Instant;

use super::*;
use crate::dev::{Dev, curl};
use crate::programs::sql;
use crate::roles::PATIENCE;

#[test]
fn a_violation_is_refused_listed_and_resolved_and_the_replica_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), SETUP);
    let rules = write_rules(folder.path(), RULES);
    let with_rules = |command: &mut std::process::Command| _ = command.args(["--rules", &rules]);
    let dev = Dev::start_with(folder.path(), with_rules);
    sql(&dev.app, "UPDATE balances SET amount = 5 WHERE account = 1");
    dev.assert_replica_equals();
    dev.event("endorsed", |_| true);
    sql(&dev.app, "UPDATE balances SET amount = -7 WHERE account = 2");
    let violated = dev.event("violated", |_| true);
    assert_eq!(violated["rule"], "no negative balance");
    sql(&dev.app, "UPDATE balances SET amount = 1 WHERE account = 2");
    dev.assert_replica_equals();
    let at = violated["sequence"].as_u64().unwrap();
    let validator = dev.running("validator");
    let (code, status) = curl(&[&format!("{validator}/status")]);
    assert_eq!((code, &status["refused"]), (200, &1.into()), "{status}");
    assert!(status["endorsing"]["sequence"].as_u64().unwrap() < at, "{status}");
    let (code, refusals) = curl(&[&format!("{validator}/refusals")]);
    assert_eq!((code, &refusals[0]["offending"]["rows"]), (200, &serde_json::json!([[2, -7]])));
    let (_, metrics) = run_curl(&format!("{validator}/metrics"));
    assert!(metrics.contains("synddb_validator_violations_total"), "{metrics}");

    let replica = dev.replica().to_str().unwrap().to_owned();
    let (exit, listed, errors) = told(["rules", "list", &replica]);
    assert_eq!((exit, listed.len()), (0, 2), "{listed:?}{errors}");
    assert_eq!(
        (&listed[0]["id"], &listed[0]["resolved_at"], &listed[1]["open"]),
        (&1.into(), &Value::Null, &1.into())
    );
    for (arguments, why) in [
        (vec!["rules", "resolve", &replica, "9", "--because", "x"], "no violation of this number"),
        (vec!["rules", "resolve", &replica, "1", "--because", " "], "say in 1 to"),
    ] {
        let (exit, _, errors) = told(arguments);
        assert_eq!(exit, 2, "{errors}");
        assert!(errors.contains(why), "{errors}");
    }
    let (exit, resolved, errors) =
        told(["rules", "resolve", &replica, "1", "--because", "paid back by hand"]);
    assert_eq!(exit, 0, "{resolved:?}{errors}");
    assert_eq!(resolved[0]["event"], "resolved");
    dev.event("endorsed", |event| event["sequence"].as_u64() > Some(at));
    let (exit, _, errors) = told(["rules", "resolve", &replica, "1", "--because", "again"]);
    assert_eq!(exit, 2, "{errors}");
    assert!(errors.contains("resolved already") && errors.contains("paid back by hand"), "{errors}");

    // Who reads the store counts what was endorsed.
    let (_, endorsement) = curl(&[&format!("{validator}/endorsements")]);
    let signer = endorsement["validator"].as_str().unwrap().to_owned();
    assert_eq!(dev.event("endorses", |_| true)["validator"], endorsement["validator"]);
    let store = format!("file://{}", dev.folder.join("store").display());
    let (exit, gathered, errors) = told(["endorsements", &store, "--validator", &signer]);
    assert_eq!(exit, 0, "{gathered:?}{errors}");
    let quorum = gathered.last().unwrap();
    assert_eq!((&quorum["event"], &quorum["sequence"]), (&"quorum".into(), &endorsement["sequence"]));
    assert_eq!(gathered[0]["signatures"], serde_json::json!([endorsement["signature"]]));
    let of_stream = quorum["stream"].as_str().unwrap().to_owned();
    let other = "0x00000000000000000000000000000000000000aa";
    let both = ["endorsements", &store, "--validator", &signer, "--validator", other];
    let (exit, gathered, _) = told(both.into_iter().chain(["--threshold", "2"]));
    assert_eq!(exit, 1, "one of two: {gathered:?}");
    let (exit, gathered, _) =
        told(["endorsements", &store, "--validator", &signer, "--chain-id", "1", "--registry", other]);
    assert_eq!(exit, 1, "for another contract: {gathered:?}");
    let (exit, _, errors) = told(["endorsements", &store, "--validator", &signer, "--threshold", "2"]);
    assert_eq!(exit, 2, "{errors}");
    // Whoever else may write there has named more places than are looked at, all of them newer.
    let stream = of_stream.trim_start_matches("0x");
    for place in 0..300 {
        let folder = dev.folder.join(format!("store/{stream}/endorsements/{:012}", 900_000_000 + place));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{}.cbor", &other[2..])), "none").unwrap();
    }
    let (exit, gathered, errors) = told(["endorsements", &store, "--validator", &signer]);
    assert_eq!(exit, 0, "{gathered:?}{errors}");
    drop(dev);

    // Without a validator a resolution waits.
    let dev = Dev::start_with(folder.path(), with_rules);
    sql(&dev.app, "UPDATE balances SET amount = -1 WHERE account = 2");
    dev.event("violated", |_| true);
    dev.assert_replica_equals();
    drop(dev);
    let (exit, left, errors) = told(["rules", "resolve", &replica, "2", "--because", "a test account"]);
    assert_eq!((exit, &left[0]["event"]), (0, &"resolution_left".into()), "{errors}");
    let (_, listed, errors) = told(["rules", "list", &replica]);
    assert_eq!((&listed[0]["id"], &listed[1]), (&2.into(), &left[0]), "{errors}");
    // A run without rules judges nothing, and says what is open.
    let dev = Dev::start_with(folder.path(), |_| ());
    let url = format!("{}/status", dev.running("validator"));
    // Until it has opened its replica it does not say.
    let until = Instant::now() + PATIENCE;
    let status = loop {
        let (_, status) = curl(&[&url]);
        if !status["refused"].is_null() {
            break status;
        }
        assert!(Instant::now() < until, "{status}");
    };
    assert_eq!((&status["refused"], status.get("endorsing")), (&1.into(), None), "{status}");
    drop(dev);
    let dev = Dev::start_with(folder.path(), with_rules);
    dev.event("resolved", |event| event["id"] == 2);
    drop(dev);
}

fn run_curl(url: &str) -> (i32, String) {
    let mut command = std::process::Command::new("curl");
    command.args(["-sS", url]);
    let (exit, told, _) = run(command);
    (exit, told)
}

#[test]
fn rules_are_checked_and_tried_before_anybody_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let (app, old) = (folder.path().join("app.db"), folder.path().join("old.db"));
    sql(&app, SETUP);
    sql(&app, &format!("VACUUM INTO '{}'", old.display()));
    let rules = write_rules(folder.path(), RULES);
    let (app, old) = (app.to_str().unwrap(), old.to_str().unwrap());
    let (exit, checked, errors) = told(["rules", "check", &rules]);
    assert_eq!((exit, &checked[0]["rules"]), (0, &1.into()), "{errors}");
    assert_eq!(told(["rules", "check", &rules, app]).0, 0);
    let (exit, tested, errors) = told(["rules", "test", &rules, app]);
    assert_eq!((exit, &tested[0]["event"]), (0, &"rule_holds".into()), "{errors}");

    sql(app.as_ref(), "UPDATE balances SET amount = -3 WHERE account = 2; INSERT INTO balances VALUES(3, 4)");
    let before = std::fs::read(app).unwrap();
    let (exit, tested, errors) = told(["rules", "test", &rules, app, "--before", old]);
    assert_eq!((exit, &tested[0]["event"]), (1, &"rule_violated".into()), "{errors}");
    assert_eq!(tested[0]["offending"]["rows"], serde_json::json!([[2, -3]]));
    let (exit, tested, _) = told(["rules", "test", &rules, old, "--before", app]);
    assert_eq!(exit, 0, "{tested:?}");
    assert_eq!(std::fs::read(app).unwrap(), before, "nothing is written");

    let wrong = write_rules(
        folder.path(),
        r#"
        [[rule]]
        name = "one"
        tables = ["absent"]
        sql = "SELECT 1 FROM changed_absent"
        [[rule]]
        name = "two"
        tables = ["balances"]
        sql = "SELECT account FROM changed_balances WHERE random() > 0"
        [[rule]]
        name = "three"
        tables = ["balances"]
        sql = "SELECT account FROM balances WHERE amount < 0"
        "#,
    );
    let (exit, tested, errors) = told(["rules", "test", &wrong, app]);
    assert_eq!((exit, &tested[0]["event"]), (1, &"rule_violated".into()), "{errors}");
    assert!(tested[0]["detail"].as_str().unwrap().contains("no table `absent`"), "{tested:?}");
    // What is no replica has no violations, and does not pass for one without.
    let (exit, _, errors) = told(["rules", "list", app]);
    assert_eq!(exit, 2, "{errors}");
    assert!(errors.contains("the file is no replica"), "{errors}");
    let (exit, checked, errors) = told(["rules", "check", &wrong, app]);
    assert_eq!((exit, checked.len()), (2, 3), "{checked:?}{errors}");
    assert!(checked[0]["problem"].as_str().unwrap().contains("no table `absent`"), "{checked:?}");
    assert!(checked[1]["problem"].as_str().unwrap().contains("does not answer the same"), "{checked:?}");
    let twice = write_rules(folder.path(), &RULES.repeat(2));
    let (exit, _, errors) = told(["rules", "check", &twice]);
    assert_eq!(exit, 2);
    assert!(errors.contains("two rules have this name"), "{errors}");
    let (exit, _, errors) = told(["rules", "check", "/no/such/file"]);
    assert_eq!(exit, 2, "{errors}");
}
