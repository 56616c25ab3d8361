//! Prometheus as operators run it, over real processes: what they show is well formed and described, and every query of the dashboard and every alert
//! evaluates.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use synddb_servers::prometheus::{Prometheus, check};
use synddb_servers::{Program, need};

use super::get;
use crate::programs::sql;
use crate::roles::{Role, System};

/// How long every panel may take to have data.
const PATIENCE: Duration = Duration::from_secs(20);

/// What stands for Grafana's interval of rates: four scrapes, as Grafana takes them.
const RATE_INTERVAL: &str = "2s";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

/// The panels of the dashboard: title, and the expressions in it.
fn panels() -> Vec<(String, Vec<String>)> {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/synddb.json")).unwrap();
    let ids: BTreeSet<u64> =
        dashboard["panels"].as_array().unwrap().iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), dashboard["panels"].as_array().unwrap().len(), "each panel has an id of its own");
    let mut panels = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        let expressions = panel["targets"].as_array().unwrap().iter().map(|target| {
            let expression = target["expr"].as_str().unwrap();
            expression
                .replace("$__rate_interval", RATE_INTERVAL)
                .replace("$stream", ".*")
                .replace("$job", ".*")
        });
        panels.push((panel["title"].as_str().unwrap().to_owned(), expressions.collect()));
    }
    panels
}

#[test]
fn the_dashboard_and_the_alerts_evaluate_over_real_processes() {
    if !need(Program::Prometheus) || !need(Program::Promtool) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let system = System::start(folder.path());
    sql(&system.app, "PRAGMA journal_mode = WAL; CREATE TABLE t(a INTEGER PRIMARY KEY, b);");
    let mut command = system.agent();
    command.args(["--port", "0"]);
    let agent = Role::start(command);
    let urls = [
        ("agent", agent.event("listening", |_| true)["url"].as_str().unwrap().to_owned()),
        ("sequencer", system.sequencer.event("listening", |_| true)["url"].as_str().unwrap().to_owned()),
        ("validator", system.validator_url().to_owned()),
    ];
    let jobs: Vec<(&str, SocketAddr)> = urls.iter().map(|(job, url)| (*job, address(url))).collect();
    let prometheus = Prometheus::scrape(&jobs, &repository().join("deploy/prometheus/rules.yml")).unwrap();
    let (panels, began) = (panels(), Instant::now());
    let mut rows = 0;
    let mut waiting: Vec<(&str, &str)> = panels
        .iter()
        .flat_map(|(title, expressions)| {
            expressions.iter().map(move |expression| (title.as_str(), expression.as_str()))
        })
        .collect();
    let count = waiting.len();
    while !waiting.is_empty() {
        assert!(began.elapsed() < PATIENCE, "these have no data: {waiting:#?}");
        rows += 1;
        sql(&system.app, &format!("INSERT INTO t(b) VALUES({rows})"));
        waiting.retain(|(title, expression)| {
            let samples = prometheus.query(expression).unwrap_or_else(|error| panic!("{title}: {error:#}"));
            // What nobody asked for lately has no percentile.
            samples.iter().all(|sample| sample["value"][1] == "NaN")
        });
    }
    println!(
        "{count} queries of {} panels have data after {:.1?} and {rows} commits",
        panels.len(),
        began.elapsed()
    );
    system.assert_equal();
    lag_is_a_subtraction_across_roles(&prometheus, rows);
    alerts_are_healthy_and_quiet(&prometheus, began);
    let shown: Vec<(&str, String)> =
        urls.iter().map(|(role, url)| (*role, get(&format!("{url}/metrics")))).collect();
    for (role, text) in &shown {
        check(&["check", "metrics"], &[], text).unwrap_or_else(|error| panic!("{role}: {error:#}\n{text}"));
    }
    for (role, text) in &shown {
        println!(
            "{role}: {:.1} MiB in RAM",
            super::metrics_of(text, "process_resident_memory_bytes")[0].1 / 1_048_576.0
        );
    }
    the_reference_names_what_is_shown(&shown);
}

fn lag_is_a_subtraction_across_roles(prometheus: &Prometheus, commits: usize) {
    let until = Instant::now() + PATIENCE;
    let lag = "synddb_agent_captured_commit - on (stream) synddb_validator_applied_commit";
    let applied = "min by (stream) (synddb_validator_applied_commit)";
    loop {
        let value = |expression: &str| {
            let samples = prometheus.query(expression).unwrap();
            samples.first().map(|sample| sample["value"][1].as_str().unwrap().to_owned())
        };
        let (lag, applied) = (value(lag), value(applied));
        if lag.as_deref() == Some("0") && applied == Some(commits.to_string()) {
            return;
        }
        assert!(Instant::now() < until, "{lag:?} {applied:?} {commits}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// Every alert was evaluated without an error, and none of a healthy system fires.
fn alerts_are_healthy_and_quiet(prometheus: &Prometheus, began: Instant) {
    loop {
        let answer = prometheus.get("/api/v1/rules").unwrap();
        let rules: Vec<Value> = answer["data"]["groups"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap().clone())
            .collect();
        let written = read("deploy/prometheus/rules.yml").matches("- alert:").count();
        assert!(written > 10 && rules.len() == written, "{rules:#?}");
        assert!(rules.iter().all(|rule| rule["state"] != "firing"), "{rules:#?}");
        // One that is pending has seen something for a moment, as a scrape that a busy machine was late for.
        if rules.iter().all(|rule| rule["health"] == "ok" && rule["state"] == "inactive") {
            return;
        }
        assert!(began.elapsed() < PATIENCE * 2, "{rules:#?}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// The families of a text: name to type and help.
fn families(text: &str) -> BTreeMap<String, (String, String)> {
    let mut families = BTreeMap::<String, (String, String)>::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let (Some("#"), Some(kind), Some(name), Some(rest)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let family = families.entry(name.to_owned()).or_default();
        if kind == "TYPE" { family.0 = rest.to_owned() } else { family.1 = rest.to_owned() }
    }
    families
}

/// `docs/reference/metrics.md` has a row for each metric that is shown, with its type and help, and no other; but for those that
/// only come with an event, which the code names.
///
/// Metrics of a relayer are shown where one runs.
pub(crate) fn the_reference_names_what_is_shown(shown: &[(&str, String)]) {
    let is_relayer = |name: &str| name.starts_with("synddb_relayer_");
    let of_relayer = shown.iter().any(|(role, _)| *role == "relayer");
    let is_looked_at = |name: &str| is_relayer(name) == of_relayer;
    let mut all = BTreeMap::new();
    for (role, text) in shown {
        for (name, (kind, help)) in families(text).into_iter().filter(|(name, _)| is_looked_at(name)) {
            assert!(!help.is_empty(), "{name} of the {role} has no help");
            all.insert(name, (kind, help));
        }
    }
    let reference = read("docs/reference/metrics.md");
    let mut rows = BTreeMap::new();
    for line in reference.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else { panic!("{line}") };
        let name = name.trim_matches('`').to_owned();
        if is_looked_at(&name) {
            rows.insert(name, (kind.to_owned(), labels.to_owned(), help.to_owned()));
        }
    }
    let mut missing = Vec::new();
    for (name, (kind, help)) in &all {
        let row = rows.get(name).map(|(kind, _, help)| (kind, help));
        if row != Some((kind, help)) {
            missing.push(format!("| `{name}` | {kind} | | {help} |"));
        }
    }
    assert!(missing.is_empty(), "the reference lacks:\n{}", missing.join("\n"));
    let more: Vec<&String> = rows.keys().filter(|name| !all.contains_key(*name)).collect();
    for name in more {
        let (_, labels, _) = &rows[name];
        assert!(labels.contains("(with the first)"), "{name} is in the reference, and nobody shows it");
        let is_named = ["agent", "sequencer", "validator", "service"].iter().any(|of| names(of, name));
        assert!(is_named, "{name} is in the reference, and nobody counts it");
    }
}

/// Whether the code of a crate names a metric.
fn names(of: &str, metric: &str) -> bool {
    let mut folders = vec![repository().join("crates").join(of).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if std::fs::read_to_string(&entry).unwrap().contains(&format!("\"{metric}\"")) {
                return true;
            }
        }
    }
    false
}

#[test]
fn the_rules_do_what_their_tests_say() {
    if !need(Program::Promtool) {
        return;
    }
    let tests = repository().join("deploy/prometheus/rules_test.yml");
    let said = check(&["test", "rules"], &[tests], "").unwrap();
    assert!(said.contains("SUCCESS"), "{said}");
    let said = check(&["check", "rules"], &[repository().join("deploy/prometheus/rules.yml")], "").unwrap();
    assert!(said.contains("rules found"), "{said}");
}

#[test]
fn every_alert_leads_to_a_section() {
    let rules = read("deploy/prometheus/rules.yml");
    let links: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")).collect();
    assert_eq!(links.len(), rules.matches("- alert:").count(), "each alert has one");
    for link in links {
        let (file, section) = link.trim_matches('"').split_once('#').unwrap_or_else(|| panic!("{link}"));
        let page = read(file);
        let has = page.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == section);
        assert!(has, "{file} has no section {section}");
    }
}

/// The anchor of a heading, as it is linked to.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
