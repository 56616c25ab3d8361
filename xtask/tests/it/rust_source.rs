//! Code and comments, told apart.

use xtask::rust_source::{RustSource, line_of};

/// The code of `text` with runs of spaces made one.
fn code(text: &str) -> String {
    RustSource::new(text).code.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn comments_are_no_code() {
    assert_eq!(code("a // b\nc /* d /* e */ f */ g"), "a c g");
    assert_eq!(RustSource::new("a // b\nc").comments, "  // b\n ");
}

#[test]
fn text_is_no_code() {
    assert_eq!(code(r#"f("a \" // b", b"c", c"d")"#), r#"f(" ", b" ", c" ")"#);
    // Of a raw literal the first and the last character are left, which no rule looks for.
    assert_eq!(code(r##"f(r"a\", r#"b " c"#, br"d")"##), r#"f(r ", r #, b ")"#);
}

#[test]
fn characters_and_lifetimes_differ() {
    assert_eq!(
        code("fn f<'a>(x: &'a str) { ['\"', '\\'', '\\\\', '/'] } // x"),
        "fn f<'a>(x: &'a str) { [' ', ' ', ' ', ' '] }"
    );
}

#[test]
fn raw_names_are_code() {
    assert_eq!(code("r#type + for_r + br#fn"), "r#type + for_r + br#fn");
}

#[test]
fn lines_hold_in_both_halves() {
    let text = "/* one\ntwo */ three\n\"four\nfive\" six";
    let source = RustSource::new(text);
    assert_eq!(source.code.lines().count(), 4);
    assert_eq!(line_of(&source.code, source.code.find("six").unwrap_or(0)), 4);
    assert_eq!(source.code_lines(), 3);
}
