//! Rust files: their size, and what their code may not say.
//!
//! Only code is judged; comments and literals may say what they like.

use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use super::RustFile;
use crate::rust_source::line_of;

/// Lines, all counted, above which a file fails.
pub const LINES_MAX: usize = 700;

/// Lines of code above which a file is asked why.
pub const CODE_LINES_ASKED: usize = 500;

/// Where a rule applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Everywhere,
    Tests,
    Sources,
}

struct Rule {
    pattern: Regex,
    scope: Scope,
    fix: &'static str,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rule = |pattern: &str, scope, fix| Rule {
        pattern: Regex::new(pattern).expect("the pattern is well formed"),
        scope,
        fix,
    };
    vec![
        rule(r"#\[\s*ignore\b", Scope::Everywhere, "make the test run, or remove it"),
        rule(r"\b(todo|unimplemented)!\s*[(\[{]", Scope::Everywhere, "write it, or remove the call"),
        rule(r"\bsleep(_until|_ms)?\s*\(", Scope::Tests, "wait for the event itself"),
        rule(
            r"\bunbounded(_channel)?\s*(::\s*<[^;]*>)?\s*\(",
            Scope::Sources,
            "use a bounded channel with a named limit",
        ),
        rule(
            r"\b(\w+\s*::\s*)?channel\s*(::\s*<[^;]*>)?\s*\(\s*\)",
            Scope::Sources,
            "use sync_channel with a named limit",
        ),
    ]
});

static TEST_MODULE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"#\[cfg\(test\)\]\s*(pub\s+)?mod\b").expect("the pattern is well formed"));

/// Files that are too long, forbidden code, and files that nobody compiles.
#[must_use]
pub fn problems(files: &[RustFile]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files {
        let path = file.path.display();
        if file.lines > LINES_MAX {
            problems.push(format!("{path}: {} lines; split it below {LINES_MAX}", file.lines));
        }
        if is_orphan(file, files) {
            problems.push(format!("{path}: nobody compiles this file; declare it with `mod`, or remove it"));
        }
        problems.extend(RULES.iter().flat_map(|rule| rule_problems(rule, file)));
    }
    problems
}

/// Files that are not wrong, but long enough to ask whether they should be a folder.
#[must_use]
pub fn questions(files: &[RustFile]) -> Vec<String> {
    let counted = files.iter().map(|file| (file, file.source.code_lines()));
    let long = counted.filter(|(_, lines)| *lines > CODE_LINES_ASKED);
    long.map(|(file, lines)| {
        format!("question: {}: {lines} lines of code; is it more than one thing?", file.path.display())
    })
    .collect()
}

fn rule_problems(rule: &Rule, file: &RustFile) -> Vec<String> {
    let code = &file.source.code;
    // Tests stand last in a file, so all that follows the first test module is test code.
    let tests_start = if in_tests_folder(&file.path) {
        0
    } else {
        TEST_MODULE.find(code).map_or(code.len(), |found| found.start())
    };
    let applies = |start: usize| match rule.scope {
        Scope::Everywhere => true,
        Scope::Tests => start >= tests_start,
        Scope::Sources => start < tests_start,
    };
    // A oneshot channel has no argument either, and holds one value by its nature.
    let found = rule
        .pattern
        .find_iter(code)
        .filter(|found| applies(found.start()) && !found.as_str().starts_with("oneshot"));
    found
        .map(|found| {
            let text = found.as_str().split_whitespace().collect::<String>();
            format!("{}:{}: `{text}`: {}", file.path.display(), line_of(code, found.start()), rule.fix)
        })
        .collect()
}

fn in_tests_folder(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
}

/// Whether a file below `src/` or in a folder of `tests/` is declared by no file that could declare it.
///
/// The roots of a package (`lib.rs`, `main.rs`, `build.rs`, `src/bin/*`, `tests/*.rs`, `examples/*.rs`, ...)
/// need no declaration.
#[must_use]
pub fn is_orphan(file: &RustFile, files: &[RustFile]) -> bool {
    let (Some(folder), Some(stem)) = (file.path.parent(), file.path.file_stem()) else { return false };
    let stem = stem.to_string_lossy();
    let folder_name = folder.file_name().unwrap_or_default().to_string_lossy();
    let is_root = ["lib", "main", "build"].contains(&&*stem);
    let holds_roots = ["bin", "tests", "examples", "benches", "fuzz_targets"].contains(&&*folder_name);
    let is_module =
        file.path.components().any(|part| part.as_os_str() == "src" || part.as_os_str() == "tests");
    if is_root || holds_roots || !is_module {
        return false;
    }
    // A `mod.rs` is declared one folder further up, under its folder's name.
    let (name, parent) =
        if stem == "mod" { (folder_name, folder.parent().unwrap_or(folder)) } else { (stem, folder) };
    let Ok(declaration) = Regex::new(&format!(r"\bmod\s+(r#)?{name}\s*;")) else { return false };
    let candidates =
        [parent.join("mod.rs"), parent.join("lib.rs"), parent.join("main.rs"), parent.with_extension("rs")];
    let mut declarers = files.iter().filter(|other| candidates.contains(&other.path));
    !declarers.any(|other| declaration.is_match(&other.source.code))
}
