//! Which targets there are, which options belong to which, and the end of a libFuzzer log.

use std::path::Path;

use xtask::fuzz::{Bounds, Report, Request, check, find};
use xtask::tree::Tree;

/// A tree with these fuzz packages.
fn tree(packages: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
    let folder = tempfile::tempdir().unwrap();
    for (name, manifest) in packages {
        let package = folder.path().join("crates").join(name).join("fuzz");
        std::fs::create_dir_all(&package).unwrap();
        std::fs::write(package.join("Cargo.toml"), format!("[package]\nname = \"{name}-fuzz\"\n{manifest}"))
            .unwrap();
    }
    let tree = Tree::at(folder.path());
    (folder, tree)
}

const ONE: &str = "[[bin]]\nname = \"batch\"\n[[bin]]\nname = \"page\"\n";
const OTHER: &str =
    "[package.metadata.bounds]\nwal = { rss_mib = 64, seconds = 5 }\n[[bin]]\nname = \"wal\"\n";

#[test]
fn targets_of_all_packages_are_found_with_their_bounds() {
    let (_folder, tree) = tree(&[("one", ONE), ("other", OTHER)]);
    let all = find(&tree, "all").unwrap();
    let names: Vec<&str> = all.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(names, ["batch", "page", "wal"]);
    let wal = find(&tree, "wal").unwrap().remove(0);
    assert_eq!(wal.package, Path::new("crates/other/fuzz"));
    assert_eq!(wal.bounds, Bounds { rss_mib: 64, seconds: 5, ..Bounds::default() });
    assert_eq!(all[0].bounds, Bounds::default());
    let error = find(&tree, "nothing").unwrap_err().to_string();
    assert!(error.contains("batch, page, wal"), "{error}");
}

#[test]
fn two_targets_of_one_name_are_refused() {
    let (_folder, tree) = tree(&[("one", ONE), ("other", ONE)]);
    assert!(find(&tree, "all").unwrap_err().to_string().contains("batch"));
}

#[test]
fn bounds_of_no_target_are_refused() {
    let (_folder, tree) = tree(&[("other", &OTHER.replace("name = \"wal\"", "name = \"law\""))]);
    assert!(find(&tree, "all").unwrap_err().to_string().contains("wal"));
}

#[test]
fn an_option_of_another_target_is_refused() {
    let request = |target: &str| Request {
        target: target.to_owned(),
        seconds: 1,
        jobs: None,
        seed: None,
        coverage: false,
        script: None,
    };
    for right in [
        request("all"),
        Request { jobs: Some(2), ..request("page") },
        Request { seed: Some(7), coverage: true, ..request("capture") },
        Request { script: Some("a.script".into()), ..request("capture") },
    ] {
        check(&right).unwrap();
    }
    for wrong in [
        Request { seed: Some(7), ..request("all") },
        Request { coverage: true, ..request("page") },
        Request { jobs: Some(2), ..request("capture") },
        Request { script: Some("a.script".into()), ..request("all") },
        Request { script: Some("a.script".into()), seed: Some(7), ..request("capture") },
        Request { script: Some("a.script".into()), coverage: true, ..request("capture") },
    ] {
        assert!(check(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn report_is_read_from_the_log() {
    let log = "\
#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 40Mb
#65536\tpulse  cov: 431 ft: 900 corp: 57/3210b lim: 128 exec/s: 21845 rss: 120Mb
Done 70000 runs in 4 second(s)
stat::number_of_executed_units: 70000
stat::average_exec_per_sec:     17500
stat::new_units_added:          56
stat::slowest_unit_time_sec:    0
stat::peak_rss_mb:              131
";
    let expected = Report {
        executions: Some(70_000),
        executions_per_s: Some(17_500),
        coverage: Some(431),
        corpus: Some(57),
        rss_mib_max: Some(131),
        crashes: 0,
    };
    assert_eq!(Report::read(log), expected);
}

#[test]
fn crash_is_counted() {
    let log = "artifact_prefix='a/'; Test unit written to a/crash-52\nBase64: YWIK\n";
    assert_eq!(Report::read(log).crashes, 1);
}

#[test]
fn report_of_a_run_that_did_not_start_is_unknown() {
    assert_eq!(Report::read("error: could not compile"), Report::default());
}
