//! What is said of rules, refusals, endorsements and messages. Names and values of a database stand in it.

use synddb_protocol::id::{CommitNumber, Sequence};
use synddb_validator::rules::{Offending, ServedRefusal};

use super::{Event, counted, printable};

#[allow(clippy::wildcard_enum_match_arm, reason = "what is said of other events, others say")]
pub(super) fn of(event: &Event) -> String {
    match event {
        Event::Violated { rule, sequence, detail } => format!(
            "violated at message {sequence}: {}: {}; nothing from here on is endorsed until it is resolved (`synddb rules list`)",
            printable(rule),
            printable(detail)
        ),
        Event::Resolved { id, rule, sequence } => {
            format!("violation {id} is resolved: {} at message {sequence}", printable(rule))
        }
        Event::Endorses { validator, attested } => format!(
            "endorses with key {validator}{}",
            if *attested { "" } else { ", which no contract has registered" }
        ),
        Event::Endorsed { sequence } => format!("endorsed to message {sequence}"),
        Event::RuleProblem { rule, problem } => format!("{}: {}", printable(rule), printable(problem)),
        Event::RulesChecked { rules, problems: 0, over_tables: true } => {
            format!("{}, nothing wrong", counted(*rules, "rule"))
        }
        Event::RulesChecked { rules, problems: 0, over_tables: false } => format!(
            "{}, nothing wrong with the file; with a database also its queries are checked: `synddb rules check RULES DATABASE`",
            counted(*rules, "rule")
        ),
        Event::RulesChecked { rules, problems, .. } => {
            format!("{}, of which {problems} cannot be evaluated", counted(*rules, "rule"))
        }
        Event::RuleHolds { rule, elapsed_ms } => format!("holds     {} ({elapsed_ms} ms)", printable(rule)),
        Event::RuleViolated { rule, detail, offending, elapsed_ms } => format!(
            "violated  {} ({elapsed_ms} ms): {}{}",
            printable(rule),
            printable(detail),
            rows(offending)
        ),
        Event::RulesTested { rules, violated: 0 } => format!("{}, all hold", counted(*rules, "rule")),
        Event::RulesTested { rules, violated } => {
            format!("{}, of which {violated} do not hold", counted(*rules, "rule"))
        }
        Event::Violation(listed) => violation(listed),
        Event::ViolationsOpen { open: 0 } => "no violation is open".to_owned(),
        Event::ViolationsOpen { open } => format!(
            "{} open: nothing from the first one on is endorsed; resolve each with `synddb rules resolve REPLICA ID --because REASON`",
            counted(*open, "violation")
        ),
        Event::ResolutionLeft { id, rule, file } => format!(
            "the resolution of violation {id} ({}) waits in {} until the validator takes it in",
            printable(rule),
            printable(file)
        ),
        Event::Gathered { sequence, state, has_quorum, signers, .. } => {
            let state = state.map_or_else(String::new, |state| format!(", state {state}"));
            let signers: Vec<String> = signers.iter().map(ToString::to_string).collect();
            let quorum = if *has_quorum { ", a quorum" } else { "" };
            format!("message {sequence}{state}: {}{quorum}", signers.join(" "))
        }
        Event::NotCounted { sequence, signer, why } => {
            let signer = signer.map_or_else(|| "nobody".to_owned(), |signer| signer.to_string());
            format!("message {sequence}: {signer} does not count: {why}")
        }
        Event::Quorum { threshold, of, sequence: Some(sequence), .. } => {
            format!("{threshold} of {of} have endorsed message {sequence}")
        }
        Event::Quorum { threshold, of, sequence: None, .. } => format!(
            "no checkpoint has endorsements of {threshold} of these {of}; are the key ids those in `endorsing.validator` of /status, and chain and registry those that they endorse for?"
        ),
        Event::MessagesMade { database, made } => {
            let made = if *made { "made in" } else { "already in" };
            format!("outbound_messages and inbound_messages are {made} {}", printable(database))
        }
        Event::MessagesSql { sql } => sql.trim_end().to_owned(),
        _ => String::new(),
    }
}

fn violation(listed: &ServedRefusal) -> String {
    let at = place(listed.sequence, listed.commit);
    let further =
        if listed.further > 0 { format!(", and {} more after it", listed.further) } else { String::new() };
    let resolved = listed
        .because
        .as_ref()
        .map_or_else(|| "open".to_owned(), |because| format!("resolved: {}", printable(because)));
    format!(
        "{}  {} at {at}{further}: {}; {resolved}{}",
        listed.id,
        printable(&listed.rule),
        printable(&listed.detail),
        rows(&listed.offending)
    )
}

fn place(sequence: Sequence, commit: Option<CommitNumber>) -> String {
    commit.map_or_else(
        || format!("message {sequence}"),
        |commit| format!("message {sequence}, commit {commit}"),
    )
}

fn rows(offending: &Offending) -> String {
    let mut text = String::new();
    for row in &offending.rows {
        let values = offending.columns.iter().zip(row).map(|(column, value)| format!("{column}={value}"));
        text.push_str("\n    ");
        text.push_str(&printable(&values.collect::<Vec<_>>().join(" ")));
    }
    if offending.more {
        text.push_str("\n    and more");
    }
    text
}
