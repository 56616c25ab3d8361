//! Closing lines as the runners print them.

use xtask::summary::{Counts, forge, libtest, pytest};

fn counts(passed: u64, failed: u64, skipped: u64) -> Option<Counts> {
    Some(Counts { passed, failed, skipped })
}

#[test]
fn libtest_closing_lines_are_read() {
    let ok = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.31s";
    assert_eq!(libtest(ok), counts(12, 0, 3));
    let failed =
        "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";
    assert_eq!(libtest(failed), counts(3, 2, 0));
}

#[test]
fn libtest_other_lines_are_not() {
    for line in ["", "running 3 tests", "test a ... ok", "note: test result: ok. 1 passed", "failures:"] {
        assert_eq!(libtest(line), None, "{line}");
    }
}

#[test]
fn pytest_closing_lines_are_read() {
    let lines = [
        ("3 passed in 0.12s", counts(3, 0, 0)),
        ("1 failed, 2 passed, 1 skipped, 4 warnings in 10.34s", counts(2, 1, 1)),
        (
            "========= 5 passed, 1 xfailed, 1 xpassed, 2 deselected in 61.02s (0:01:01) =========",
            counts(6, 0, 3),
        ),
        ("2 passed, 1 error in 0.50s", counts(2, 1, 0)),
        ("2 errors in 0.50s", counts(0, 2, 0)),
        ("4 passed, 7 subtests passed in 0.2s", counts(4, 0, 0)),
        ("no tests ran in 0.01s", counts(0, 0, 0)),
    ];
    for (line, expected) in lines {
        assert_eq!(pytest(line), expected, "{line}");
    }
}

#[test]
fn pytest_other_lines_are_not() {
    for line in [
        "",
        "....  [100%]",
        "3 passed",
        "FAILED test_a.py::test - assert 1 in 2",
        "collected 3 items in 0.1s or so",
    ] {
        assert_eq!(pytest(line), None, "{line}");
    }
}

#[test]
fn counts_are_said_in_one_line() {
    let mut all = Counts { passed: 1, failed: 2, skipped: 3 };
    all += Counts { passed: 10, failed: 0, skipped: 1 };
    assert_eq!(all.to_string(), "11 passed, 2 failed, 4 skipped");
}

#[test]
fn forge_closing_lines_are_read() {
    let ok =
        "Ran 2 test suites in 1.23s (2.04s CPU time): 12 tests passed, 0 failed, 1 skipped (13 total tests)";
    assert_eq!(forge(ok), counts(12, 0, 1));
    let one =
        "Ran 1 test suite in 38.74ms (20.80ms CPU time): 0 tests passed, 1 failed, 0 skipped (1 total tests)";
    assert_eq!(forge(one), counts(0, 1, 0));
}

#[test]
fn forge_other_lines_are_not() {
    for line in [
        "Suite result: ok. 5 passed; 0 failed; 0 skipped",
        "Ran 5 tests for test/A.t.sol:A",
        "No tests found",
    ] {
        assert_eq!(forge(line), None, "{line}");
    }
}
