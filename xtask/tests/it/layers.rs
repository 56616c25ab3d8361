//! `layers` against planted arrows.

use anyhow::Result;
use xtask::layers::table::Table;

use crate::planted::{Planted, assert_only};

fn table_problems(text: &str) -> Result<Vec<String>> {
    let table: Table = toml::from_str(text)?;
    Ok(table.problems())
}

#[test]
fn tree_in_order_passes() -> Result<()> {
    assert_eq!(Planted::new()?.layers()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn arrow_upwards_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.member("storage", "")?;
    planted.member("protocol", "synddb-storage = { path = \"../storage\" }")?;
    assert_only(&planted.layers()?, &["synddb-protocol -> synddb-storage (normal)", "nothing of ours"]);
    Ok(())
}

#[test]
fn dev_arrow_fails_like_any_other() -> Result<()> {
    let planted = Planted::new()?;
    planted.member("storage", "")?;
    planted.member("protocol", "[dev-dependencies]\nsynddb-storage = { path = \"../storage\" }")?;
    assert_only(&planted.layers()?, &["synddb-protocol -> synddb-storage (dev)"]);
    Ok(())
}

#[test]
fn renamed_arrow_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.member("storage", "")?;
    planted.member("protocol", "harmless = { package = \"synddb-storage\", path = \"../storage\" }")?;
    assert_only(&planted.layers()?, &["synddb-protocol -> synddb-storage"]);
    Ok(())
}

#[test]
fn fenced_crate_elsewhere_fails() -> Result<()> {
    let planted = Planted::new()?;
    let rusqlite = planted.third_party("rusqlite", "")?;
    planted.member("storage", &rusqlite)?;
    assert_only(&planted.layers()?, &["synddb-storage -> rusqlite", "only synddb-sqlite"]);
    Ok(())
}

#[test]
fn fenced_crate_at_home_passes() -> Result<()> {
    let planted = Planted::new()?;
    let rusqlite = planted.third_party("rusqlite", "")?;
    planted.members(&["protocol", "storage", "sqlite"])?;
    planted.member("sqlite", &rusqlite)?;
    assert_eq!(planted.layers()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn fence_with_a_star_holds_every_name_it_begins() -> Result<()> {
    let planted = Planted::new()?;
    let provider = planted.third_party("alloy-provider", "")?;
    planted.member("storage", &provider)?;
    assert_only(&planted.layers()?, &["synddb-storage -> alloy-provider"]);
    Ok(())
}

#[test]
fn forbidden_crate_deep_below_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.third_party("tokio", "")?;
    let harmless = planted.third_party("harmless", "tokio = { path = \"../tokio\" }")?;
    planted.member("protocol", &harmless)?;
    assert_only(&planted.layers()?, &["synddb-protocol: contains `tokio`", "-i tokio"]);
    Ok(())
}

#[test]
fn forbidden_crate_behind_a_feature_fails() -> Result<()> {
    let planted = Planted::new()?;
    let tokio = planted.third_party("tokio", "")?.replace(" }", ", optional = true }");
    planted.member("protocol", &tokio)?;
    assert_only(&planted.layers()?, &["synddb-protocol: contains `tokio`"]);
    Ok(())
}

#[test]
fn forbidden_crate_for_tests_only_passes() -> Result<()> {
    let planted = Planted::new()?;
    let tokio = planted.third_party("tokio", "")?;
    planted.member("protocol", &format!("[dev-dependencies]\n{tokio}"))?;
    assert_eq!(planted.layers()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn clock_in_protocol_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.write(
        "crates/protocol/src/lib.rs",
        "//! Knows nothing about std::time.\n\nuse std::time::Duration;\n",
    )?;
    assert_only(&planted.layers()?, &["crates/protocol/src/lib.rs:3:", "`std::time`"]);
    Ok(())
}

#[test]
fn clock_in_prose_and_text_passes() -> Result<()> {
    let planted = Planted::new()?;
    let source =
        "//! No std::time here, and no Instant.\n\n/// Says it.\npub const TEXT: &str = \"std::fs\";\n";
    planted.write("crates/protocol/src/lib.rs", source)?;
    assert_eq!(planted.layers()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn member_without_a_row_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.members(&["protocol", "storage", "stray"])?;
    planted.member("stray", "")?;
    assert_only(&planted.layers()?, &["synddb-stray", "without a row"]);
    Ok(())
}

#[test]
fn member_in_another_folder_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.members(&["protocol", "storage", "elsewhere"])?;
    planted.member("elsewhere", "")?;
    let manifest =
        planted.tree().read("crates/elsewhere/Cargo.toml")?.replace("synddb-elsewhere", "synddb-sqlite");
    planted.write("crates/elsewhere/Cargo.toml", &manifest)?;
    assert_only(&planted.layers()?, &["synddb-sqlite", "crates/elsewhere", "crates/sqlite"]);
    Ok(())
}

#[test]
fn xtask_that_imports_ours_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted.members(&["protocol", "storage", "xtask"])?;
    planted.member("xtask", "synddb-protocol = { path = \"../protocol\" }")?;
    let manifest = planted.tree().read("crates/xtask/Cargo.toml")?.replace("synddb-xtask", "xtask");
    planted.write("crates/xtask/Cargo.toml", &manifest)?;
    assert_only(&planted.layers()?, &["xtask -> synddb-protocol", "outside of the product"]);
    Ok(())
}

/// A planted tree with a member for tests, and what `layers` finds when `storage` has these dependencies.
fn with_a_crate_for_tests(dependencies: &str) -> Result<Vec<String>> {
    let planted = Planted::new()?;
    let table = planted.tree().read("crates/layers.toml")?;
    let outside =
        table.replacen("outside = [", "for_tests = [\"synddb-servers\"]\noutside = [\"synddb-servers\", ", 1);
    planted.write("crates/layers.toml", &outside)?;
    planted.members(&["protocol", "storage", "servers"])?;
    planted.member("servers", "")?;
    planted.member("storage", dependencies)?;
    planted.layers()
}

#[test]
fn a_crate_for_tests_as_dev_dependency_passes() -> Result<()> {
    let found = with_a_crate_for_tests("[dev-dependencies]\nsynddb-servers = { path = \"../servers\" }")?;
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_crate_for_tests_in_the_product_fails() -> Result<()> {
    let normal = with_a_crate_for_tests("synddb-servers = { path = \"../servers\" }")?;
    assert_only(&normal, &["synddb-storage -> synddb-servers (normal)", "make it a dev-dependency"]);
    let build = with_a_crate_for_tests("[build-dependencies]\nsynddb-servers = { path = \"../servers\" }")?;
    assert_only(&build, &["synddb-storage -> synddb-servers (build)", "make it a dev-dependency"]);
    Ok(())
}

#[test]
fn a_crate_for_tests_imports_nothing_of_ours() -> Result<()> {
    let planted = Planted::new()?;
    let table = planted.tree().read("crates/layers.toml")?;
    planted
        .write("crates/layers.toml", &table.replacen("outside = [", "outside = [\"synddb-servers\", ", 1))?;
    planted.members(&["protocol", "storage", "servers"])?;
    planted.member("servers", "synddb-protocol = { path = \"../protocol\" }")?;
    assert_only(&planted.layers()?, &["synddb-servers -> synddb-protocol", "outside of the product"]);
    Ok(())
}

#[test]
fn table_for_tests_is_outside() -> Result<()> {
    let inside = ROWS.replacen("outside = []", "outside = []\nfor_tests = [\"synddb-servers\"]", 1);
    let problems = table_problems(&inside)?;
    assert!(problems.iter().any(|told| told.contains("`synddb-servers` is for tests, but not in `outside`")));
    Ok(())
}

#[test]
fn arrow_behind_a_feature_must_be_optional() -> Result<()> {
    let planted = Planted::new()?;
    let table = planted.tree().read("crates/layers.toml")?;
    planted.write("crates/layers.toml", &format!("{table}only_with_feature = [\"protocol\"]\n"))?;
    assert_only(&planted.layers()?, &["synddb-storage -> synddb-protocol", "behind a feature only"]);
    planted.member("storage", "synddb-protocol = { path = \"../protocol\", optional = true }")?;
    assert_eq!(planted.layers()?, Vec::<String>::new());
    Ok(())
}

const ROWS: &str = r#"
outside = []

[[crate]]
name = "agent"
layer = "L2"
responsibility = "a role"
may_import = []

[[crate]]
name = "client"
layer = "L2"
responsibility = "another role"
may_import = ["agent"]
"#;

#[test]
fn table_sideways_unmarked_fails() -> Result<()> {
    assert_only(&table_problems(ROWS)?, &["client (L2) -> agent (L2)"]);
    Ok(())
}

#[test]
fn table_sideways_marked_passes() -> Result<()> {
    assert_eq!(table_problems(&format!("{ROWS}sideways = [\"agent\"]\n"))?, Vec::<String>::new());
    Ok(())
}

#[test]
fn table_mark_does_not_allow_an_arrow_upwards() -> Result<()> {
    let upwards = ROWS.replacen("\"L2\"", "\"L3\"", 1);
    assert_only(
        &table_problems(&format!("{upwards}sideways = [\"agent\"]\n"))?,
        &["client (L2) -> agent (L3)"],
    );
    Ok(())
}

#[test]
fn table_arrow_to_an_unknown_crate_fails() -> Result<()> {
    assert_only(
        &table_problems(&ROWS.replace("[\"agent\"]", "[\"agnet\"]"))?,
        &["`agnet`, which has no row"],
    );
    Ok(())
}

#[test]
fn table_with_an_unknown_key_is_refused() {
    assert!(table_problems(&format!("{ROWS}may_imprt = []\n")).is_err());
}
