//! The end of a libFuzzer log.

use xtask::fuzz::Report;

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
