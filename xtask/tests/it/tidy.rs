//! `tidy` against one planted fault of each kind.

use anyhow::Result;
use xtask::tidy::lock::content_problems;

use crate::planted::{Planted, assert_only};

const HOLDS: &str = "`crates/protocol/tests/it/batch.rs::nothing_unverified_reaches_apply`";

/// A tree whose seventh invariant is held by a function with these attributes.
fn held_by_function(attributes: &str) -> Result<Planted> {
    let planted = Planted::new()?;
    planted.architecture(HOLDS)?;
    planted.write("crates/protocol/tests/it/main.rs", "//! Tests.\n\nmod batch;\n")?;
    let source = format!("//! Batches.\n\n{attributes}\nfn nothing_unverified_reaches_apply() {{}}\n");
    planted.write("crates/protocol/tests/it/batch.rs", &source)?;
    Ok(planted)
}

#[test]
fn tree_in_order_passes() -> Result<()> {
    assert_eq!(Planted::new()?.tidy()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn invariant_held_by_a_test_passes() -> Result<()> {
    for attributes in
        ["#[test]", "#[tokio::test(flavor = \"multi_thread\")]", "#[should_panic]\n/// Says why.\n#[test]"]
    {
        assert_eq!(held_by_function(attributes)?.tidy()?, Vec::<String>::new(), "{attributes}");
    }
    Ok(())
}

#[test]
fn invariant_held_by_a_property_passes() -> Result<()> {
    let planted = held_by_function("#[test]")?;
    let property = r#"proptest! {
    #[test]
    fn nothing_unverified_reaches_apply(bytes in any::<Vec<u8>>()) {}
}
"#;
    planted.write("crates/protocol/tests/it/batch.rs", property)?;
    assert_eq!(planted.tidy()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn invariant_held_by_a_test_of_a_contract_passes_while_it_is_there() -> Result<()> {
    let planted = Planted::new()?;
    planted.architecture("`contracts/test/attacks/Twice.t.sol::test_attack_twice_reverts`")?;
    assert_only(&planted.tidy()?, &["I7", "test_attack_twice_reverts"]);
    let source = "contract Twice {\n    function test_attack_twice_reverts() public {}\n}\n";
    planted.write("contracts/test/attacks/Twice.t.sol", source)?;
    assert_eq!(planted.tidy()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn invariant_held_by_a_missing_file_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.architecture(HOLDS)?;
    assert_only(&planted.tidy()?, &["ARCHITECTURE.md:11: I7", "does not exist"]);
    Ok(())
}

#[test]
fn invariant_held_by_a_missing_test_fails() -> Result<()> {
    let planted = held_by_function("#[test]")?;
    planted.write(
        "crates/protocol/tests/it/batch.rs",
        "//! fn nothing_unverified_reaches_apply() was here.\n",
    )?;
    assert_only(&planted.tidy()?, &["I7", "has no test `nothing_unverified_reaches_apply`"]);
    Ok(())
}

#[test]
fn invariant_held_by_no_test_fails() -> Result<()> {
    assert_only(&held_by_function("#[inline]")?.tidy()?, &["I7", "no test"]);
    Ok(())
}

#[test]
fn invariant_held_by_an_ignored_test_fails() -> Result<()> {
    let problems = held_by_function("#[test]\n#[ignore = \"slow\"]")?.tidy()?;
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].contains("I7") && problems[0].contains("is ignored"), "{problems:#?}");
    assert!(problems[1].contains("batch.rs:4") && problems[1].contains("#[ignore"), "{problems:#?}");
    Ok(())
}

#[test]
fn invariant_held_by_an_orphan_fails() -> Result<()> {
    let planted = held_by_function("#[test]")?;
    planted.write("crates/protocol/tests/it/main.rs", "//! Tests.\n// mod batch;\n")?;
    let problems = planted.tidy()?;
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems.iter().all(|problem| problem.contains("declare it with `mod`")), "{problems:#?}");
    Ok(())
}

#[test]
fn invariant_held_by_prose_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.architecture("the tests of storage")?;
    assert_only(&planted.tidy()?, &["I7", "cannot understand"]);
    Ok(())
}

#[test]
fn invariant_without_a_row_fails() -> Result<()> {
    let planted = Planted::new()?;
    let page = planted.tree().read("ARCHITECTURE.md")?.replace("| I9 |", "| nine |");
    planted.write("ARCHITECTURE.md", &page)?;
    assert_only(&planted.tidy()?, &["I9 has 0 rows"]);
    Ok(())
}

#[test]
fn invariant_with_two_rows_fails() -> Result<()> {
    let planted = Planted::new()?;
    let page = planted.tree().read("ARCHITECTURE.md")?;
    planted.write("ARCHITECTURE.md", &format!("{page}| I9 | again | not yet |\n"))?;
    assert_only(&planted.tidy()?, &["I9 has 2 rows"]);
    Ok(())
}

#[test]
fn citation_of_an_unknown_invariant_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.write(
        "crates/protocol/src/lib.rs",
        "//! A crate.\n\n/// Holds two things (I7, I44).\npub fn f() {}\n",
    )?;
    assert_only(&planted.tidy()?, &["crates/protocol/src/lib.rs:3: I44"]);
    Ok(())
}

#[test]
fn threat_shown_by_a_test_passes() -> Result<()> {
    let planted = held_by_function("#[test]")?;
    planted.security(&format!(r"| T1 | one \| two | something | {HOLDS} |"))?;
    assert_eq!(planted.tidy()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn threat_shown_by_a_missing_test_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.security(&format!("| T1 | a threat | something | {HOLDS} |"))?;
    assert_only(&planted.tidy()?, &["SECURITY.md:5: T1", "does not exist"]);
    Ok(())
}

#[test]
fn threats_out_of_order_or_without_a_test_fail() -> Result<()> {
    let planted = Planted::new()?;
    for (row, problem) in [
        ("| T2 | a threat | something | not yet |", "this one is T1"),
        ("| T1 | a threat | not yet |", "it needs 4"),
        ("| T1 | a threat | something | the tests |", "cannot understand"),
        ("no row", "has no table of threats"),
    ] {
        planted.security(row)?;
        assert_only(&planted.tidy()?, &["SECURITY.md", problem]);
    }
    Ok(())
}

#[test]
fn stray_root_file_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.write("PLAN.md", "# Plan\n")?;
    assert_only(&planted.tidy()?, &["PLAN.md", "does not belong in the root"]);
    Ok(())
}

#[test]
fn ignored_root_file_passes() -> Result<()> {
    let planted = Planted::new()?;
    planted.write("notes/a.md", "[dead](nowhere.md)\n")?;
    planted.write(".gitignore", "/notes\n")?;
    assert_eq!(planted.tidy()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn drawers_fail() -> Result<()> {
    let planted = Planted::new()?;
    planted.write("crates/protocol/src/lib.rs", "//! A crate.\n\nmod utils;\n")?;
    planted.write("crates/protocol/src/utils.rs", "//! Everything.\n")?;
    assert_only(&planted.tidy()?, &["crates/protocol/src/utils.rs", "says nothing"]);
    Ok(())
}

#[test]
fn crate_named_like_a_drawer_fails() -> Result<()> {
    let planted = Planted::new()?;
    let manifest =
        planted.tree().read("crates/storage/Cargo.toml")?.replace("synddb-storage", "synddb-shared");
    planted.write("crates/storage/Cargo.toml", &manifest)?;
    planted.write(
        "crates/layers.toml",
        &planted.tree().read("crates/layers.toml")?.replace("storage", "sqlite2"),
    )?;
    assert_only(&planted.tidy()?, &["synddb-shared", "says nothing"]);
    Ok(())
}

#[test]
fn file_that_is_too_long_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.write("crates/protocol/src/lib.rs", &"//! A line.\n".repeat(701))?;
    assert_only(&planted.tidy()?, &["crates/protocol/src/lib.rs: 701 lines"]);
    Ok(())
}

#[test]
fn forbidden_code_fails() -> Result<()> {
    let faults = [
        ("pub fn f() { todo!(\"later\") }", "todo!("),
        ("#[cfg(test)]\nmod tests {\n    fn f() { std::thread::sleep(D); }\n}", "sleep("),
        ("pub fn f() { tokio::sync::mpsc::unbounded_channel::<u8>(); }", "unbounded_channel"),
        ("pub fn f() { std::sync::mpsc::channel::<u8>(); }", "mpsc::channel"),
    ];
    for (code, needle) in faults {
        let planted = Planted::new()?;
        planted.write("crates/protocol/src/lib.rs", &format!("//! A crate.\n\n{code}\n"))?;
        assert_only(&planted.tidy()?, &["crates/protocol/src/lib.rs:", needle]);
    }
    Ok(())
}

#[test]
fn allowed_code_passes() -> Result<()> {
    let planted = Planted::new()?;
    let code = r#"//! Never todo!() or #[ignore].

pub fn f() {
    tokio::time::sleep(D);
    oneshot::channel();
    mpsc::channel(8);
    let _text = "todo!()";
}
"#;
    planted.write("crates/protocol/src/lib.rs", code)?;
    assert_eq!(planted.tidy()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn dead_relative_link_fails() -> Result<()> {
    let planted = Planted::new()?;
    let page = r#"# A

[alive](../README.md) [far](https://example.org/x)

`[code](nowhere.md)`

```
[block](nowhere.md)
```
"#;
    planted.write("docs/a.md", &format!("{page}\n[dead](nowhere.md#part)\n"))?;
    assert_only(&planted.tidy()?, &["docs/a.md:11", "nowhere.md#part"]);
    Ok(())
}

#[test]
fn link_out_of_the_tree_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.third_party("harmless", "")?;
    planted.write("docs/a.md", "[out](../../third-party/harmless/Cargo.toml)\n")?;
    assert_only(&planted.tidy()?, &["docs/a.md:1", "leads nowhere"]);
    Ok(())
}

#[test]
fn unknown_command_on_a_page_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.write("docs/a.md", "Run `cargo xtask check`, then `cargo xtask polish`.\n")?;
    assert_only(&planted.tidy()?, &["docs/a.md:1", "no `cargo xtask polish`"]);
    Ok(())
}

#[test]
fn crate_without_a_readme_fails() -> Result<()> {
    let planted = Planted::new()?;
    std::fs::remove_file(planted.tree().root().join("crates/storage/README.md"))?;
    assert_only(&planted.tidy()?, &["crates/storage", "no README.md"]);
    Ok(())
}

#[test]
fn crate_without_the_lints_fails() -> Result<()> {
    let planted = Planted::new()?;
    let manifest =
        planted.tree().read("crates/storage/Cargo.toml")?.replace("[lints]\nworkspace = true\n", "");
    planted.write("crates/storage/Cargo.toml", &manifest)?;
    assert_only(&planted.tidy()?, &["crates/storage/Cargo.toml", "[lints]"]);
    Ok(())
}

/// The text of a lock file with these packages.
fn lock(packages: &[(&str, &str)]) -> String {
    let packages = packages
        .iter()
        .map(|(name, version)| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n"));
    format!("version = 4\n\n{}", packages.collect::<Vec<_>>().join("\n"))
}

#[test]
fn lock_with_two_majors_fails() -> Result<()> {
    let problems = content_problems(&lock(&[
        ("reqwest", "0.11.27"),
        ("reqwest", "0.12.9"),
        ("hyper", "1.4.0"),
        ("hyper", "1.9.1"),
    ]))?;
    assert_only(&problems, &["two majors of `reqwest` (0.11, 0.12)"]);
    Ok(())
}

#[test]
fn lock_with_a_forbidden_crate_fails() -> Result<()> {
    for name in ["aws-lc-sys", "openssl-sys", "bindgen"] {
        assert_only(&content_problems(&lock(&[(name, "1.0.0")]))?, &[name]);
    }
    Ok(())
}
