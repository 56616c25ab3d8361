//! The invariants of ARCHITECTURE.md and the tests that hold them.
//!
//! A row reads `| I7 | what must be true | held by |`. The last cell is `not yet`, or references to tests,
//! each in backticks, as in `crates/protocol/tests/it/batch.rs::name_of_test`, parted by commas. A reference
//! is alive when the file exists, is compiled, and has a test of that name which is not ignored. Whether the
//! test proves what the row says stays a reader's question.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use anyhow::Result;
use regex::Regex;

use super::RustFile;
use super::sources::is_orphan;
use crate::rust_source::line_of;
use crate::tree::Tree;

/// The page that holds the table.
pub const PATH: &str = "ARCHITECTURE.md";

/// How many invariants the product has. A new one gets the next number, here and in the table.
pub const INVARIANTS: u32 = 13;

static ROW: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\|\s*I(\d+)\s*\|").expect("the pattern is well formed"));

static REFERENCE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^`([\w./-]+\.rs)::(\w+)`$").expect("the pattern is well formed"));

static CITATION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\((I\d+(?:\s*,\s*I\d+)*)\)").expect("the pattern is well formed"));

/// Rows that are missing, doubled or malformed, references that are dead, and citations of unknown
/// invariants.
///
/// # Errors
/// When ARCHITECTURE.md cannot be read.
pub fn problems(tree: &Tree, files: &[RustFile]) -> Result<Vec<String>> {
    let page = tree.read(PATH)?;
    let mut problems = Vec::new();
    let mut rows = BTreeMap::<u32, usize>::new();
    for (index, line) in page.lines().enumerate() {
        let Some(number) = ROW.captures(line).and_then(|found| found[1].parse::<u32>().ok()) else {
            continue;
        };
        *rows.entry(number).or_default() += 1;
        let place = format!("{PATH}:{}: I{number}", index + 1);
        if !is_known(number) {
            problems.push(format!(
                "{place}: the invariants end at I{INVARIANTS}; raise INVARIANTS in xtask to add one"
            ));
        }
        problems.extend(row_problems(line, files).into_iter().map(|problem| format!("{place}: {problem}")));
    }
    for number in 1..=INVARIANTS {
        let count = rows.get(&number).copied().unwrap_or(0);
        if count != 1 {
            problems.push(format!(
                "{PATH}: I{number} has {count} rows in the table of invariants; it needs exactly one"
            ));
        }
    }
    problems.extend(files.iter().flat_map(citation_problems));
    Ok(problems)
}

fn is_known(number: u32) -> bool {
    (1..=INVARIANTS).contains(&number)
}

/// What is wrong with the last cell of a row.
fn row_problems(line: &str, files: &[RustFile]) -> Vec<String> {
    let cells = cells(line);
    let [_, _, held_by] = cells.as_slice() else {
        return vec![format!("the row has {} cells; it needs three: `| I1 | text | held by |`", cells.len())];
    };
    if held_by == "not yet" {
        return Vec::new();
    }
    let references = held_by.split(',').map(str::trim);
    references.filter_map(|reference| reference_problem(reference, files)).collect()
}

/// The cells of a table row; a `\|` is text, not an edge.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').replace(r"\|", "\0");
    let line = line.strip_suffix('|').unwrap_or(&line);
    line.split('|').map(|cell| cell.replace('\0', "|").trim().to_owned()).collect()
}

fn reference_problem(reference: &str, files: &[RustFile]) -> Option<String> {
    let Some(found) = REFERENCE.captures(reference) else {
        return Some(format!(
            "cannot understand {reference:?}; write `not yet`, or `path/to/file.rs::test` with commas between"
        ));
    };
    let (path, name) = (&found[1], &found[2]);
    let Some(file) = files.iter().find(|file| file.path == Path::new(path)) else {
        return Some(format!(
            "`{path}` does not exist; name the test that holds the invariant, or write `not yet`"
        ));
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
        TestState::Missing => {
            Some(format!("`{path}` has no test `{name}`; name the test that holds the invariant"))
        }
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

fn citation_problems(file: &RustFile) -> Vec<String> {
    let comments = &file.source.comments;
    let mut problems = Vec::new();
    for found in CITATION.captures_iter(comments) {
        let line = line_of(comments, found.get(0).map_or(0, |all| all.start()));
        for cited in found[1].split(',').map(str::trim) {
            let known = cited.trim_start_matches('I').parse::<u32>().is_ok_and(is_known);
            if !known {
                problems.push(format!(
                    "{}:{line}: {cited} is cited, but {PATH} has no such invariant",
                    file.path.display()
                ));
            }
        }
    }
    problems
}
