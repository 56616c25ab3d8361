//! Grammar of values, as SQL expressions: every storage class, and what lies on the edges of each.

use synddb_protocol::submission::TextEncoding;

use super::random::Random;

/// What values and schemas depend on: the page size moves the boundaries of overflow, the encoding decides which bytes are no text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground {
    pub(super) page_size: u64,
    pub(super) encoding: TextEncoding,
    /// Whether an old SQLite has to understand every table.
    pub(super) is_old: bool,
}

const INTEGERS: [&str; 24] = [
    "0",
    "1",
    "-1",
    "2",
    "127",
    "128",
    "-128",
    "-129",
    "32767",
    "32768",
    "-32769",
    "8388607",
    "8388608",
    "2147483647",
    "2147483648",
    "-2147483649",
    "140737488355327",
    "140737488355328",
    "9007199254740993",
    "-9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "255",
    "65536",
];

const REALS: [&str; 20] = [
    "0.0",
    "-0.0",
    "1.0",
    "1.5",
    "-2.25",
    "0.1",
    "3.0",
    "1e300",
    "-1e300",
    "9e999",
    "-9e999",
    "9007199254740993.0",
    "9223372036854775807.0",
    "-9223372036854775808.0",
    "1e-320",
    "4503599627370496.5",
    "140737488355328.0",
    "140737488355327.0",
    "1e15",
    "123456789012345680.0",
];

const TEXTS: [&str; 22] = [
    "''",
    "'a'",
    "'A'",
    "'a '",
    "'a  '",
    "' '",
    "'12'",
    "'1e3'",
    "' 7'",
    "'0x10'",
    "'-0.0'",
    "'9007199254740993'",
    "'na\u{ef}ve \u{540d}\u{524d}'",
    "char(128512)",
    "'a' || char(0) || 'b'",
    "char(0)",
    "char(65279) || 'mark'",
    "char(65534) || 'x'",
    "'it''s'",
    "'the quick brown fox'",
    "'null'",
    "char(10, 13, 9)",
];

/// Bytes that are no text, in the database's encoding.
const BROKEN_UTF8: [&str; 6] = ["c328", "ff", "eda080", "c080", "f8888080", "61ff62"];
const BROKEN_UTF16: [&str; 6] = ["00d8", "d800", "00dc41", "0041d8", "d83d", "fffe4100"];

const WORDS: [&str; 12] =
    ["alpha", "beta", "gamma", "delta", "eta", "theta", "iota", "kappa", "lambda", "mu", "omega", "zeta"];

/// The storage class that a value is wanted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Null,
    Integer,
    Real,
    Text,
    Blob,
}

/// A value of any class.
pub(super) fn any(random: &mut Random, ground: Ground) -> String {
    let class = random.weighted(&[
        (2, Class::Null),
        (6, Class::Integer),
        (5, Class::Real),
        (7, Class::Text),
        (5, Class::Blob),
    ]);
    of_class(random, ground, class)
}

/// A value of this class.
pub(super) fn of_class(random: &mut Random, ground: Ground, class: Class) -> String {
    match class {
        Class::Null => "NULL".to_owned(),
        Class::Integer if random.percent(40) => (*random.pick(&INTEGERS)).to_owned(),
        Class::Integer => random.below(5000).to_string(),
        Class::Real if random.percent(60) => (*random.pick(&REALS)).to_owned(),
        Class::Real => format!("{}.0 / 7", random.below(100_000)),
        Class::Text => text(random, ground),
        Class::Blob => blob(random, ground),
    }
}

fn text(random: &mut Random, ground: Ground) -> String {
    match random.below(20) {
        0..=7 => (*random.pick(&TEXTS)).to_owned(),
        8 | 9 => {
            let bytes = match ground.encoding {
                TextEncoding::Utf8 => random.pick(&BROKEN_UTF8),
                TextEncoding::Utf16Le | TextEncoding::Utf16Be => random.pick(&BROKEN_UTF16),
            };
            format!("CAST(x'{bytes}' AS TEXT)")
        }
        10..=12 => long_text(random, ground),
        _ => format!("'{}'", words(random)),
    }
}

fn blob(random: &mut Random, ground: Ground) -> String {
    match random.below(20) {
        0 => "x''".to_owned(),
        1 => "x'00'".to_owned(),
        2..=4 => format!("zeroblob({})", length(random, ground)),
        5 | 6 => format!("CAST({} AS BLOB)", long_text(random, ground)),
        _ => {
            let bytes: String = (0..random.below(24)).map(|_| format!("{:02x}", random.below(256))).collect();
            format!("x'{bytes}'")
        }
    }
}

fn long_text(random: &mut Random, ground: Ground) -> String {
    let length = length(random, ground);
    let seed = random.below(1_000_000);
    if random.percent(50) {
        format!("printf('%.*c', {length}, '{}')", random.below(10))
    } else {
        format!("substr(replace(hex(zeroblob({})), '0', '{seed}.'), 1, {length})", length / 4 + 1)
    }
}

/// A few words, for full-text search too.
pub(super) fn words(random: &mut Random) -> String {
    let words: Vec<&str> = (0..random.range(1, 6)).map(|_| *random.pick(&WORDS)).collect();
    format!("{} {}", words.join(" "), random.below(1000))
}

/// A length at which the layout of a cell changes, or nearly so: what fits on a page, the least that stays on it when the rest
/// overflows (SQLite file format, section 1.6), and whole overflow pages.
pub(super) fn length(random: &mut Random, ground: Ground) -> u64 {
    let usable = ground.page_size;
    let edge = match random.below(12) {
        0..=2 => usable - 35,
        3 => (usable - 12) * 64 / 255 - 23,
        4 => (usable - 12) * 32 / 255 - 23,
        5 => usable,
        6 => 2 * usable - 39,
        7 => random.range(2, 6) * (usable - 4),
        8 => random.below(4 * usable),
        9 => random.below(200),
        10 => 127,
        _ if random.percent(15) => random.below(100_000),
        _ => random.below(6_000),
    };
    (edge + random.below(48)).saturating_sub(24).min(100_000)
}
