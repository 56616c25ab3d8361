//! Static analysis: all detectors of Slither over `src`, held to the table of findings.
//!
//! Every finding counts that has at least one element in our sources. No filter of the tool is used: its filters are patterns over paths, and a
//! finding with one element in a library disappears with them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::findings::{self, Finding};
use super::scratch::Scratch;
use super::{Forge, SOURCES};
use crate::process;
use crate::stage::Outcome;
use crate::tree::Tree;

/// What it is installed from.
pub(super) const REQUIREMENTS: &str = "contracts/tools/slither.txt";
/// Where it is installed, in the target folder.
pub(super) const ENVIRONMENT: &str = "tools/slither";

const TOOL: &str = "slither";

/// Files that would change what the tool tells; it looks for them by itself.
const OWN_FILES: [&str; 2] = ["slither.config.json", "slither.db.json"];

/// What the tool says of a function that it could not read.
const UNREAD: &str = "Impossible to generate IR for ";

/// Where a finding is that is of no contract.
const ALL_FILES: &str = "all files";

pub(super) fn run(tree: &Tree, forge: &Forge, python: &Path, scratch: &Scratch) -> Result<Outcome> {
    let page = forge.folder.join(findings::PAGE);
    let page =
        fs::read_to_string(&page).with_context(|| format!("cannot read. file=`{}`", page.display()))?;
    let rows = findings::rows(&page)?;
    let mut problems = findings::problems_of_rows(&rows);
    problems.extend(suppressions_elsewhere(tree, &forge.folder)?);

    forge.build_for_tools(scratch, &["--build-info", "--skip", "test/**", "--skip", "script/**"])?;
    let report = scratch.folder.join("slither.json");
    let mut slither = forge.tool(&python.with_file_name(TOOL), scratch);
    slither.args([".", "--ignore-compile", "--foundry-ignore-compile", "--foundry-out-directory"]);
    slither.arg(scratch.out()).arg("--json").arg(&report);
    let said = said(&mut slither)?;
    let report = fs::read_to_string(&report).with_context(|| format!("slither wrote no report. {said}"))?;
    let (ours, others) = findings_of(&serde_json::from_str(&report).context("the report is no JSON")?)?;
    let (unread_ours, unread_others) = unread(&said);
    problems.extend(unread_ours.iter().map(|line| format!("slither could not read {line}")));
    problems.extend(findings::problems(&rows, TOOL, &ours));
    println!(
        "{} findings in our sources, {} rows in {}; {others} in libraries alone, which are not judged",
        ours.len(),
        rows.len(),
        findings::PAGE
    );
    for line in unread_others {
        println!("of a library, and not read: {line}");
    }
    Ok(Outcome::of_problems(&problems))
}

/// Everything the tool wrote. It exits with an error when it found something, so the report says how it ended.
fn said(slither: &mut Command) -> Result<String> {
    println!("{}", process::typed(slither));
    let output = slither.output().context("cannot start slither")?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// Ways to be silent that the table does not know.
fn suppressions_elsewhere(tree: &Tree, folder: &Path) -> Result<Vec<String>> {
    let mut problems: Vec<String> = OWN_FILES
        .iter()
        .filter(|name| folder.join(name).exists())
        .map(|name| format!("{name}: suppressions are rows in {}", findings::PAGE))
        .collect();
    for source in tree.files_under(SOURCES, "sol")? {
        if tree.read(&source)?.contains("slither-disable") {
            problems.push(format!("{}: suppressions are rows in {}", source.display(), findings::PAGE));
        }
    }
    Ok(problems)
}

/// The findings in our sources, and how many there are in libraries alone.
fn findings_of(report: &Value) -> Result<(Vec<Finding>, usize)> {
    ensure!(report["success"] == true, "slither did not come to its end. error=`{}`", report["error"]);
    let mut ours = Vec::new();
    let mut others = 0;
    // Without any finding the list is left out.
    for found in report["results"]["detectors"].as_array().into_iter().flatten() {
        let elements = found["elements"].as_array().context("a finding has no elements")?;
        let is_ours = |element: &Value| {
            element["source_mapping"]["filename_relative"]
                .as_str()
                .is_some_and(|file| file.starts_with("src/"))
        };
        // A finding without elements is of nobody, so it is ours.
        if !elements.is_empty() && !elements.iter().any(is_ours) {
            others += 1;
            continue;
        }
        let word = |name: &str| {
            found[name].as_str().map(str::trim).with_context(|| format!("a finding has no {name}"))
        };
        ours.push(Finding {
            detector: word("check")?.to_owned(),
            place: elements.first().map_or_else(|| ALL_FILES.to_owned(), place),
            text: word("description")?.lines().next().unwrap_or_default().to_owned(),
        });
    }
    Ok((ours, others))
}

fn place(element: &Value) -> String {
    let mut names = Vec::new();
    let mut next = Some(element);
    while let Some(element) = next {
        let is_named = element["type"].as_str().is_some_and(|kind| kind != "pragma" && kind != "node");
        if let (true, Some(name)) = (is_named, element["name"].as_str()) {
            names.push(name);
        }
        next = element.pointer("/type_specific_fields/parent");
    }
    names.reverse();
    if names.is_empty() { ALL_FILES.to_owned() } else { names.join(".") }
}

/// The functions that the tool could not read: ours, and those of libraries.
fn unread(said: &str) -> (Vec<&str>, Vec<&str>) {
    let lines = said.lines().filter_map(|line| line.trim().strip_prefix(UNREAD));
    lines.map(|line| line.trim_end_matches(':')).partition(|line| line.contains("(src/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(file: &str, kind: &str, name: &str) -> Value {
        serde_json::json!({
            "type": kind, "name": name, "source_mapping": {"filename_relative": file},
            "type_specific_fields": {"parent": {"type": "contract", "name": "Bridge"}},
        })
    }

    fn report(elements: &[Value]) -> Value {
        serde_json::json!({"success": true, "error": null, "results": {"detectors": [
            {"check": "timestamp", "description": "uses time\n\tfor this", "elements": elements}
        ]}})
    }

    #[test]
    fn a_finding_counts_when_one_of_its_elements_is_ours() {
        let library = element("node_modules/a.sol", "function", "f");
        let ours = element("src/attestation/B.sol", "function", "g");
        assert_eq!(findings_of(&report(std::slice::from_ref(&library))).unwrap(), (Vec::new(), 1));
        let (found, others) = findings_of(&report(&[ours, library])).unwrap();
        assert_eq!((found.len(), others), (1, 0));
        assert_eq!((found[0].place.as_str(), found[0].text.as_str()), ("Bridge.g", "uses time"));
        assert_eq!(findings_of(&report(&[])).unwrap().0[0].place, ALL_FILES);
    }

    #[test]
    fn a_report_of_a_run_that_failed_is_no_report() {
        assert!(findings_of(&serde_json::json!({"success": false, "error": "why"})).is_err());
        assert!(findings_of(&serde_json::json!({})).is_err());
    }

    #[test]
    fn a_function_that_was_not_read_is_told() {
        let said = "x\nImpossible to generate IR for A.f (src/A.sol#1):\nImpossible to generate IR for B.g (node_modules/b.sol#1):\n";
        assert_eq!(unread(said), (vec!["A.f (src/A.sol#1)"], vec!["B.g (node_modules/b.sol#1)"]));
    }
}
