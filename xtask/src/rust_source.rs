//! Rust source with code and comments told apart, so that a rule about code does not trip over prose or text.
//!
//! A lexer for just that: it knows comments (nested ones too), string literals (raw, byte and C ones too),
//! character literals and lifetimes. It knows nothing about syntax, and expects source that compiles.

/// One file's text, twice: once with only its code left, once with only its comments. Everything else is
/// blanked with spaces, so line numbers hold in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RustSource {
    /// The code; of string literals only the quotes are left.
    pub code: String,
    /// The comments, doc comments included.
    pub comments: String,
}

impl RustSource {
    /// Tells code and comments of `text` apart.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let characters: Vec<char> = text.chars().collect();
        let mut source = Self { code: String::with_capacity(text.len()), comments: String::new() };
        let mut at = 0;
        while at < characters.len() {
            let (kind, end) = lexeme(&characters, at);
            let end = end.min(characters.len());
            for (index, &character) in characters.iter().enumerate().take(end).skip(at) {
                let blank = if character == '\n' { '\n' } else { ' ' };
                let edge = index == at || index + 1 == end;
                source.code.push(match kind {
                    Kind::Code => character,
                    Kind::Literal if edge => character,
                    Kind::Literal | Kind::Comment => blank,
                });
                source.comments.push(if kind == Kind::Comment { character } else { blank });
            }
            at = end;
        }
        source
    }

    /// How many lines hold code.
    #[must_use]
    pub fn code_lines(&self) -> usize {
        self.code.lines().filter(|line| !line.trim().is_empty()).count()
    }
}

/// The line, counted from 1, of a byte position in `text`.
#[must_use]
pub fn line_of(text: &str, position: usize) -> usize {
    1 + text.bytes().take(position).filter(|&byte| byte == b'\n').count()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Literal,
    Comment,
}

/// What starts at `at`, and where it ends.
fn lexeme(text: &[char], at: usize) -> (Kind, usize) {
    let next = text.get(at + 1).copied();
    match text[at] {
        '/' if next == Some('/') => (Kind::Comment, line_end(text, at)),
        '/' if next == Some('*') => (Kind::Comment, block_comment_end(text, at)),
        '"' => (Kind::Literal, string_end(text, at + 1)),
        '\'' => character_end(text, at).map_or((Kind::Code, at + 1), |end| (Kind::Literal, end)),
        'r' | 'b' | 'c' if !continues_name(text, at) => {
            raw_string_end(text, at).map_or((Kind::Code, at + 1), |end| (Kind::Literal, end))
        }
        _ => (Kind::Code, at + 1),
    }
}

fn line_end(text: &[char], at: usize) -> usize {
    text[at..].iter().position(|&character| character == '\n').map_or(text.len(), |length| at + length)
}

fn block_comment_end(text: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut index = at;
    while index < text.len() {
        match (text[index], text.get(index + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                index += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                index += 2;
                if depth == 0 {
                    return index;
                }
            }
            _ => index += 1,
        }
    }
    text.len()
}

/// The end of a string whose first character after the quote is at `at`.
fn string_end(text: &[char], at: usize) -> usize {
    let mut index = at;
    while index < text.len() {
        match text[index] {
            '\\' => index += 2,
            '"' => return index + 1,
            _ => index += 1,
        }
    }
    text.len()
}

/// The end of `r"..."`, `br#"..."#` and their like, if that is what starts here. Plain `b"` and `c"` strings
/// are left to the quote itself; `r#name` is a name.
fn raw_string_end(text: &[char], at: usize) -> Option<usize> {
    let mut index = at;
    if matches!(text[index], 'b' | 'c') {
        index += 1;
    }
    if text.get(index) != Some(&'r') {
        return None;
    }
    index += 1;
    let hashes = text[index..].iter().take_while(|&&character| character == '#').count();
    index += hashes;
    if text.get(index) != Some(&'"') {
        return None;
    }
    let mut closing = vec!['"'];
    closing.resize(hashes + 1, '#');
    let body = index + 1;
    let length = text[body..].windows(closing.len()).position(|window| window == closing);
    Some(length.map_or(text.len(), |length| body + length + closing.len()))
}

/// The end of a character literal; `None` when the quote starts a lifetime.
fn character_end(text: &[char], at: usize) -> Option<usize> {
    if text.get(at + 1) == Some(&'\\') {
        // The escaped character itself may be a quote, so the search for the end starts after it.
        let body = at + 3;
        let length = text.get(body..)?.iter().position(|&character| character == '\'')?;
        return Some(body + length + 1);
    }
    (text.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

fn continues_name(text: &[char], at: usize) -> bool {
    at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_')
}
