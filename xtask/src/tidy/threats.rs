//! The threats of SECURITY.md and the tests that show what stands against them.
//!
//! A row reads `| T7 | threat | what stands against it | shown by |`, the last cell as
//! [`held_by`](super::held_by) says. Rows are numbered from 1 on, so that others can name one.

use std::sync::LazyLock;

use anyhow::Result;
use regex::Regex;

use super::{RustFile, held_by};
use crate::tree::Tree;

/// The page that holds the table.
pub const PATH: &str = "SECURITY.md";

/// The cells of a row.
const FORM: [&str; 4] = ["T1", "threat", "what stands against it", "shown by"];

static ROW: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\|\s*T(\d+)\s*\|").expect("the pattern is well formed"));

/// A table that is missing, rows out of order or malformed, and references that are dead.
///
/// # Errors
/// When SECURITY.md cannot be read.
pub fn problems(tree: &Tree, files: &[RustFile]) -> Result<Vec<String>> {
    let page = tree.read(PATH)?;
    let mut problems = Vec::new();
    let mut next = 1;
    for (index, line) in page.lines().enumerate() {
        let Some(number) = ROW.captures(line).map(|found| found[1].to_owned()) else { continue };
        let place = format!("{PATH}:{}: T{number}", index + 1);
        if number != next.to_string() {
            problems.push(format!("{place}: threats are numbered from 1 on; this one is T{next}"));
        }
        next += 1;
        let found = held_by::row_problems(line, FORM, tree, files);
        problems.extend(found.into_iter().map(|problem| format!("{place}: {problem}")));
    }
    if next == 1 {
        problems.push(format!("{PATH}: has no table of threats; a row reads `| {} |`", FORM.join(" | ")));
    }
    Ok(problems)
}
