//! The words of a query, for what SQLite tells nobody of it.

/// Whether a query has a word outside of what is quoted and of comments.
pub(super) fn has_word(sql: &str, word: &str) -> bool {
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let skipped =
            |from: usize, end: &str| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
        let length = match first {
            '\'' | '"' | '`' => skipped(1, &first.to_string()),
            '[' => skipped(1, "]"),
            '-' if rest.starts_with("--") => skipped(2, "\n"),
            '/' if rest.starts_with("/*") => skipped(2, "*/"),
            _ if is_of_word(first) => {
                let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
                if rest[..end].eq_ignore_ascii_case(word) {
                    return true;
                }
                end
            }
            _ => first.len_utf8(),
        };
        rest = &rest[length..];
    }
    false
}

/// Whether a character may stand in a name that is not quoted, as SQLite sees it.
const fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_where_it_is_one() {
        for sql in [
            "a JOIN b USING(c)",
            "a join b using\n(c)",
            "using",
            "'it''s' USING (c)",
            "[x]using",
            "a/**/USING",
            "-- x\nUSING",
        ] {
            assert!(has_word(sql, "USING"), "{sql}");
        }
        for sql in [
            "SELECT 'USING'",
            "SELECT \"using\"",
            "`using`",
            "[using]",
            "a -- USING",
            "a /* USING */",
            "usings",
            "_using",
            "using_",
            "$using",
            "ä USINGä",
            "'USING",
            "/* USING",
            "'it''s USING'",
            "",
        ] {
            assert!(!has_word(sql, "USING"), "{sql}");
        }
    }
}
