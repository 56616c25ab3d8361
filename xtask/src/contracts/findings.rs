//! The table of tool findings in `contracts/SECURITY.md`: every finding that stays, with an id and a reason.
//!
//! The table is what suppresses: nothing in the sources does, and no file of a tool. A row names how many findings it covers, so one more in a
//! place that is known already is told as well as one in a new place, and a row that covers nothing any more is told too.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

/// Where the table is, from the folder of the contracts.
pub(super) const PAGE: &str = "SECURITY.md";
const SECTION: &str = "## Tool findings";
const COLUMNS: [&str; 6] = ["id", "tool", "detector", "findings", "places", "reason"];

/// The tools whose findings the table may name.
const TOOLS: [&str; 1] = ["slither"];

/// What a tool found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// The tool's name of what it looked for.
    pub(super) detector: String,
    /// Contract, function and variable, as far as there are any, with dots between.
    pub(super) place: String,
    /// The tool's words.
    pub(super) text: String,
}

/// A row: findings that stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    id: String,
    tool: String,
    detector: String,
    findings: usize,
    places: Vec<String>,
    reason: String,
}

impl Row {
    fn covers(&self, tool: &str, finding: &Finding) -> bool {
        let within = |place: &String| {
            finding.place.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.tool == tool && self.detector == finding.detector && self.places.iter().any(within)
    }
}

/// The rows of the page.
///
/// # Errors
/// When there is no such section, or a row is not of the form.
pub(super) fn rows(page: &str) -> Result<Vec<Row>> {
    let mut lines = page.lines().skip_while(|line| line.trim() != SECTION).skip(1);
    let mut lines = lines
        .by_ref()
        .take_while(|line| !line.starts_with("## "))
        .map(str::trim)
        .filter(|line| line.starts_with('|'))
        .map(cells);
    let head = lines.next().with_context(|| format!("{PAGE} has no table under `{SECTION}`"))?;
    ensure!(head == COLUMNS, "the columns of the table in {PAGE} must be {}", COLUMNS.join(", "));
    lines.skip(1).map(row).collect()
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "the cells are an iterator's items")]
fn row(cells: Vec<&str>) -> Result<Row> {
    let [id, tool, detector, findings, places, reason] = cells[..] else {
        anyhow::bail!("a row of the table in {PAGE} has {} cells. row=`{}`", cells.len(), cells.join(" | "));
    };
    Ok(Row {
        id: id.to_owned(),
        tool: tool.to_owned(),
        detector: detector.trim_matches('`').to_owned(),
        findings: findings.parse().with_context(|| format!("{id} names no number of findings"))?,
        places: places.split(',').map(|place| place.trim().trim_matches('`').to_owned()).collect(),
        reason: reason.to_owned(),
    })
}

/// What is wrong with the rows themselves, whatever was found.
pub(super) fn problems_of_rows(rows: &[Row]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut ids = BTreeSet::new();
    for row in rows {
        if !ids.insert(&row.id) {
            problems.push(format!("{PAGE}: {} is there twice", row.id));
        }
        if row.id.is_empty() || row.reason.is_empty() || row.places.iter().any(String::is_empty) {
            problems.push(format!("{PAGE}: a row has no id, no place or no reason. id=`{}`", row.id));
        }
        if !TOOLS.contains(&row.tool.as_str()) {
            problems.push(format!("{PAGE}: {} is of a tool that no stage runs. tool=`{}`", row.id, row.tool));
        }
    }
    problems
}

/// Findings without a row, findings with two, and rows that cover another number than they say.
pub(super) fn problems(rows: &[Row], tool: &str, findings: &[Finding]) -> Vec<String> {
    let mut problems = Vec::new();
    for finding in findings {
        let ids: Vec<&str> =
            rows.iter().filter(|row| row.covers(tool, finding)).map(|row| row.id.as_str()).collect();
        let Finding { detector, place, text } = finding;
        match ids.len() {
            0 => problems.push(format!("{detector} at {place}: {text}")),
            1 => {}
            _ => problems.push(format!("{detector} at {place} is in two rows: {}", ids.join(", "))),
        }
    }
    for row in rows.iter().filter(|row| row.tool == tool) {
        let covered: Vec<&Finding> = findings.iter().filter(|finding| row.covers(tool, finding)).collect();
        if covered.len() != row.findings {
            problems.push(format!(
                "{PAGE}: {} says {} findings of {}, there are {}",
                row.id,
                row.findings,
                row.detector,
                covered.len()
            ));
            problems
                .extend(covered.iter().map(|finding| format!("  at {}: {}", finding.place, finding.text)));
        }
        for place in &row.places {
            let one = Row { places: vec![place.clone()], ..row.clone() };
            if !findings.iter().any(|finding| one.covers(tool, finding)) {
                problems.push(format!("{PAGE}: {} names a place without a finding. place=`{place}`", row.id));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# A page\n\n## Tool findings\n\nWords.\n\n\
        | id | tool | detector | findings | places | reason |\n|---|---|---|---|---|---|\n\
        | S1 | slither | `timestamp` | 2 | `Bridge._settle`, `Keys` | seconds do not matter |\n\n## Next\n\n| a |\n";

    fn finding(detector: &str, place: &str) -> Finding {
        Finding { detector: detector.to_owned(), place: place.to_owned(), text: "told".to_owned() }
    }

    #[test]
    fn what_the_table_names_is_in_order_and_everything_else_is_told() {
        let rows = rows(TABLE).unwrap();
        assert_eq!(problems_of_rows(&rows), Vec::<String>::new());
        let known = [finding("timestamp", "Bridge._settle"), finding("timestamp", "Keys.isLive")];
        assert_eq!(problems(&rows, "slither", &known), Vec::<String>::new());
        let another_detector = [&known[..], &[finding("unused-return", "Keys.isLive")]].concat();
        assert_eq!(problems(&rows, "slither", &another_detector).len(), 1);
        let another_place = [&known[..], &[finding("timestamp", "KeysOf.isLive")]].concat();
        assert_eq!(problems(&rows, "slither", &another_place).len(), 1);
    }

    #[test]
    fn one_more_finding_in_a_known_place_and_one_that_is_gone_are_told() {
        let rows = rows(TABLE).unwrap();
        let settle = finding("timestamp", "Bridge._settle");
        let three = [settle.clone(), settle.clone(), finding("timestamp", "Keys.isLive")];
        assert!(problems(&rows, "slither", &three)[0].contains("says 2 findings of timestamp, there are 3"));
        let gone = problems(&rows, "slither", &[settle.clone(), settle]);
        assert_eq!(gone, ["SECURITY.md: S1 names a place without a finding. place=`Keys`"]);
    }

    #[test]
    fn a_row_without_a_reason_and_an_id_that_is_there_twice_are_told() {
        let twice = TABLE.replace(
            "\n\n## Next",
            "\n| S1 | slither | `pragma` | 1 | `all files` | |\n| S3 | nobody | `x` | 1 | `Y` | why |\n\n## Next",
        );
        assert_eq!(problems_of_rows(&rows(&twice).unwrap()).len(), 3);
        assert!(rows("# A page\n").is_err());
        assert!(rows(&TABLE.replace("| 2 |", "| some |")).is_err());
    }
}
