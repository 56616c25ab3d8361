//! The quick start, found in a page or refused.

use anyhow::Result;
use xtask::quick_start::extract;
use xtask::stage::Outcome;

use crate::planted::Planted;

#[test]
fn extract_block_after_the_marker() -> Result<()> {
    let page = "\
# A

```sh
not this
```

<!-- quick-start -->

```sh
echo one
echo two
```

```sh
nor this
```
";
    assert_eq!(extract(page)?, "echo one\necho two\n");
    Ok(())
}

#[test]
fn extract_refuses_what_is_not_there() {
    let pages = [
        ("# A\n", "no quick start"),
        ("<!-- quick-start -->\n\nProse.\n\n```sh\necho\n```\n", "must follow"),
        ("<!-- quick-start -->\n```rust\nfn main() {}\n```\n", "must follow"),
        ("<!-- quick-start -->\n```sh\n\n```\n", "is empty"),
        ("<!-- quick-start -->\n```sh\necho one\n", "no closing"),
        ("<!-- quick-start -->\n```sh\ncargo xtask test\n```\n", "cannot run them itself"),
    ];
    for (page, needle) in pages {
        let error = extract(page).map_err(|error| error.to_string());
        assert!(error.as_ref().is_err_and(|text| text.contains(needle)), "{page:?}: {error:?}");
    }
}

#[test]
fn run_stops_at_the_first_command_that_fails() -> Result<()> {
    let planted = Planted::new()?;
    planted
        .write("README.md", "<!-- quick-start -->\n```sh\ntouch \"$TMPDIR/a\"\ntest -f README.md\n```\n")?;
    assert_eq!(xtask::quick_start::run(&planted.tree())?, Outcome::Passed);
    planted.write("README.md", "<!-- quick-start -->\n```sh\nfalse | true\ntouch crates/reached\n```\n")?;
    assert_eq!(xtask::quick_start::run(&planted.tree())?, Outcome::Failed);
    assert!(!planted.tree().has("crates/reached"));
    Ok(())
}
