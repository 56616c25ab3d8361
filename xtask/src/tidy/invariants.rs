//! The invariants of ARCHITECTURE.md and the tests that hold them.
//!
//! A row reads `| I7 | what must be true | held by |`, the last cell as [`held_by`](super::held_by) says.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anyhow::Result;
use regex::Regex;

use super::{RustFile, held_by};
use crate::rust_source::line_of;
use crate::tree::Tree;

/// The page that holds the table.
pub const PATH: &str = "ARCHITECTURE.md";

/// How many invariants the product has. A new one gets the next number, here and in the table.
pub const INVARIANTS: u32 = 17;

/// The cells of a row.
const FORM: [&str; 3] = ["I1", "text", "held by"];

static ROW: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\|\s*I(\d+)\s*\|").expect("the pattern is well formed"));

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
        problems.extend(
            held_by::row_problems(line, FORM, tree, files)
                .into_iter()
                .map(|problem| format!("{place}: {problem}")),
        );
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
