//! What libtest prints of tests that failed.

use xtask::failed::Failures;

fn said(output: &str) -> String {
    let mut failures = Failures::default();
    for line in output.lines() {
        failures.read(line);
    }
    failures.to_string()
}

#[test]
fn each_failure_is_told_with_its_panic() {
    let output = "
running 3 tests
test a::holds ... ok
test a::does_not ... FAILED
test b::neither ... FAILED

failures:

---- a::does_not stdout ----
what it printed

thread 'a::does_not' (51) panicked at tests/it/a.rs:9:5:
assertion `left == right` failed: why
  left: 1
 right: 2
stack backtrace:
   0: begin
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.

thread 'another' (52) panicked at tests/it/a.rs:1:1:
because of the first

---- b::neither stdout ----
Error: it ended with an error

failures:
    a::does_not
    b::neither

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
    let expected = "
failed: a::does_not
  thread 'a::does_not' (51) panicked at tests/it/a.rs:9:5:
  assertion `left == right` failed: why
    left: 1
   right: 2

failed: b::neither
";
    assert_eq!(said(output), expected);
}

#[test]
fn long_lines_are_cut_where_a_character_ends() {
    let long = "ä".repeat(5_000);
    let told = said(&format!("---- a stdout ----\nthread 'a' panicked at a.rs:1:1:\n{long}\n"));
    assert_eq!(told.chars().filter(|character| *character == 'ä').count(), 600);
}

#[test]
fn where_nothing_failed_nothing_is_told() {
    assert_eq!(said("running 1 test\ntest a ... ok\nthread 'a' panicked at a.rs:1:1:\nas it should\n"), "");
}
