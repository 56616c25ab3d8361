//! The table against the code: what a crate's `src/` may not mention.
//!
//! A crate that reads no clock has no dependency to show for it, since the clock is in the standard library;
//! its code has to be read. This holds invariant I13 for `protocol`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use regex::Regex;

use super::table::{PATH, Row, Table};
use crate::rust_source::{RustSource, line_of};
use crate::tree::Tree;

/// Every place in the code that a pattern of its crate's `forbid_source` matches.
///
/// # Errors
/// When a pattern is not well formed or a file cannot be read.
pub fn problems(tree: &Tree, table: &Table) -> Result<Vec<String>> {
    let files = tree.files("rs")?;
    let mut problems = Vec::new();
    for row in table.rows.iter().filter(|row| !row.forbid_source.is_empty()) {
        let patterns = patterns(row)?;
        let folder = row.folder().join("src");
        for path in files.iter().filter(|path| path.starts_with(&folder)) {
            let source = RustSource::new(&tree.read(path)?);
            // `std::fs::read` matches more than one pattern; one line for it is enough.
            let mut lines = BTreeMap::new();
            for found in patterns.iter().flat_map(|pattern| pattern.find_iter(&source.code)) {
                lines.entry(line_of(&source.code, found.start())).or_insert(found.as_str());
            }
            for (line, text) in lines {
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                let place = path.display();
                problems.push(format!(
                    "{place}:{line}: `{text}` is not for `{}`; make it an argument ({PATH}, forbid_source)",
                    row.name
                ));
            }
        }
    }
    Ok(problems)
}

fn patterns(row: &Row) -> Result<Vec<Regex>> {
    let patterns = row.forbid_source.iter();
    patterns
        .map(|text| {
            Regex::new(text).with_context(|| format!("{PATH}: not a regular expression. pattern=`{text}`"))
        })
        .collect()
}
