//! A configuration as text: the file of its defaults, and the page of its reference.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::keys::{Key, Section, sections};

/// The longest line of a comment, in characters.
const LINE_CHARS: usize = 110;

/// The configuration file in which every key has its default, each with what it means. Read as a file, it changes nothing.
pub fn default_file<T: JsonSchema + Serialize + Default>(process: &str, prefix: &str) -> String {
    file_with::<T>(process, prefix, &[])
}

/// The same with some keys set, by their dotted form.
pub fn file_with<T: JsonSchema + Serialize + Default>(
    process: &str,
    prefix: &str,
    set: &[(&str, Value)],
) -> String {
    let mut text = String::new();
    let head = format!(
        "What {process} is told, where nobody says otherwise. A variable of the environment goes before this file: `{prefix}` and the key in \
         capitals, with two underscores between a table and its key. What is commented out is not set."
    );
    comment(&mut text, &head);
    for section in sections::<T>() {
        let mark = if section.is_default { "" } else { "#" };
        if !section.path.is_empty() {
            text.push('\n');
            comment(&mut text, &section.doc);
            writeln!(text, "{mark}[{}]", section.path.join(".")).ok();
        }
        for key in &section.keys {
            text.push('\n');
            comment(&mut text, &key.doc);
            for (word, meaning) in &key.words {
                comment(&mut text, format!("\"{word}\": {meaning}").trim_end_matches([' ', ':']));
            }
            let dotted = section.dotted(key);
            if let Some((_, of)) = set.iter().find(|(name, _)| *name == dotted) {
                writeln!(text, "{mark}{} = {}", key.name, value(of)).ok();
                continue;
            }
            match (&key.default, &key.example) {
                (Some(default), _) => writeln!(text, "{mark}{} = {}", key.name, value(default)),
                (None, Some(example)) => writeln!(text, "#{} = {}", key.name, value(example)),
                (None, None) => writeln!(text, "#{} = ", key.name),
            }
            .ok();
        }
    }
    text
}

/// The reference page in Markdown.
pub fn reference_page<T: JsonSchema + Serialize + Default>(process: &str, prefix: &str) -> String {
    let mut text = format!("## Configuration of {process}\n");
    for section in sections::<T>() {
        if !section.path.is_empty() {
            let absent = if section.is_default { "" } else { " (not there unless written)" };
            writeln!(text, "\n### `[{}]`{absent}\n\n{}", section.path.join("."), section.doc).ok();
        }
        if !section.keys.is_empty() {
            text.push_str("\n| key | default | what it is | variable |\n|---|---|---|---|\n");
        }
        for key in &section.keys {
            writeln!(text, "{}", row(&section, key, prefix)).ok();
        }
    }
    text
}

fn row(section: &Section, key: &Key, prefix: &str) -> String {
    let default = key.default.as_ref().map_or_else(|| "not set".to_owned(), |of| format!("`{}`", value(of)));
    let mut doc = key.doc.replace("\n\n", " ");
    for (word, meaning) in &key.words {
        write!(doc, " `\"{word}\"`: {meaning}").ok();
    }
    if let (None, Some(example)) = (&key.default, &key.example) {
        write!(doc, " For example `{}`.", value(example)).ok();
    }
    let doc = doc.replace('|', "\\|");
    format!("| `{}` | {default} | {doc} | `{}` |", section.dotted(key), section.variable(prefix, key))
}

/// A value in TOML, which writes what configurations hold as JSON does.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(self::value).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(name, of)| format!("{name} = {}", self::value(of))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// Writes a text as lines of a comment.
fn comment(to: &mut String, text: &str) {
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        let mut line = String::from("#");
        for word in paragraph.split(' ') {
            if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > LINE_CHARS {
                writeln!(to, "{line}").ok();
                line.truncate(1);
            }
            line.push(' ');
            line.push_str(word);
        }
        writeln!(to, "{line}").ok();
    }
}
