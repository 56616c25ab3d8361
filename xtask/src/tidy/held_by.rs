//! Tables whose last cell names tests.
//!
//! The cell is `not yet`, or references to tests, each in backticks, as in
//! `crates/protocol/tests/it/batch.rs::name_of_test`, parted by commas. A reference is alive when the file
//! exists, is compiled, and has a test of that name which is not ignored. Tests of contracts are named in the same way: forge runs every
//! function under `contracts/test/` whose name begins as a test's. Whether a test proves what the row says stays a reader's question.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use super::RustFile;
use super::sources::is_orphan;
use crate::tree::Tree;

static REFERENCE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^`([\w./-]+\.rs)::(\w+)`$").expect("the pattern is well formed"));

/// Forge compiles whatever lies there.
static SOLIDITY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^`(contracts/test/[\w./-]+\.t\.sol)::((?:test|invariant|check)\w*_\w+)`$")
        .expect("the pattern is well formed")
});

/// What is wrong with the last cell of a row.
pub(super) fn row_problems<const CELLS: usize>(
    line: &str,
    form: [&str; CELLS],
    tree: &Tree,
    files: &[RustFile],
) -> Vec<String> {
    let cells = cells(line);
    let Some(held_by) = cells.last().filter(|_| cells.len() == CELLS) else {
        return vec![format!(
            "the row has {} cells; it needs {CELLS}: `| {} |`",
            cells.len(),
            form.join(" | ")
        )];
    };
    if held_by == "not yet" {
        return Vec::new();
    }
    let references = held_by.split(',').map(str::trim);
    references.filter_map(|reference| reference_problem(reference, tree, files)).collect()
}

/// The cells of a table row; a `\|` is text, not an edge.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').replace(r"\|", "\0");
    let line = line.strip_suffix('|').unwrap_or(&line);
    line.split('|').map(|cell| cell.replace('\0', "|").trim().to_owned()).collect()
}

fn reference_problem(reference: &str, tree: &Tree, files: &[RustFile]) -> Option<String> {
    if let Some(found) = SOLIDITY.captures(reference) {
        let (path, name) = (&found[1], &found[2]);
        let is_there = tree.read(path).is_ok_and(|source| source.contains(&format!("function {name}(")));
        return (!is_there).then(|| {
            format!("`{path}` has no test `{name}`; name the test that holds this, or write `not yet`")
        });
    }
    let Some(found) = REFERENCE.captures(reference) else {
        return Some(format!(
            "cannot understand {reference:?}; write `not yet`, or `path/to/file.rs::test` with commas between"
        ));
    };
    let (path, name) = (&found[1], &found[2]);
    let Some(file) = files.iter().find(|file| file.path == Path::new(path)) else {
        return Some(format!("`{path}` does not exist; name the test that holds this, or write `not yet`"));
    };
    if is_orphan(file, files) {
        return Some(format!("`{path}` is compiled by nobody; declare it with `mod`"));
    }
    match test_state(&file.source.code, name) {
        TestState::Runs => None,
        TestState::Ignored => {
            Some(format!("the test `{name}` of `{path}` is ignored; make it run, or write `not yet`"))
        }
        TestState::NoTest => Some(format!("`{name}` of `{path}` is a function but no test; give it #[test]")),
        TestState::Missing => Some(format!("`{path}` has no test `{name}`; name the test that holds this")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TestState {
    Runs,
    Ignored,
    NoTest,
    Missing,
}

/// How a function of that name stands in `code`. Tests inside `proptest!` carry `#[test]` like any other.
fn test_state(code: &str, name: &str) -> TestState {
    let function = format!(r"((?:#\[[^\]]*\]\s*)*)(?:pub(?:\([^)]*\))?\s+)?(?:async\s+)?fn\s+{name}\s*[(<]");
    // `name` consists of word characters, so the pattern stays well formed.
    let Ok(function) = Regex::new(&function) else { return TestState::Missing };
    let mut state = TestState::Missing;
    for found in function.captures_iter(code) {
        let attributes: BTreeSet<&str> = found[1].split('#').filter_map(attribute_name).collect();
        if attributes.contains("ignore") {
            return TestState::Ignored;
        }
        let is_test = attributes.iter().any(|name| *name == "test" || name.ends_with("::test"));
        state = if is_test { TestState::Runs } else { TestState::NoTest };
        if is_test {
            break;
        }
    }
    state
}

/// `tokio::test` of `[tokio::test(flavor = "multi_thread")]`.
fn attribute_name(text: &str) -> Option<&str> {
    let text = text.trim().strip_prefix('[')?;
    text.split(['(', ']', '=']).next().map(str::trim)
}
