//! The keys of a configuration, read from its type: what is printed of them and what is accepted cannot part.
//!
//! The words come from the doc comments, through the type's JSON schema; the order and the defaults from its default, as it serializes.

use std::fmt;

use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What a configuration says under one heading: the keys at its top, or those of one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// The names of the tables down to this one; none of the top.
    pub path: Vec<String>,
    /// What it is.
    pub doc: String,
    /// Whether it is there unless somebody leaves it out. One that is not has the effect of its keys only where it is written.
    pub is_default: bool,
    /// Its keys in the order of the type.
    pub keys: Vec<Key>,
}

/// One key.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its name in its table.
    pub name: String,
    /// What it is.
    pub doc: String,
    /// What it is unless somebody says otherwise. `None` where nothing is meant then.
    pub default: Option<Value>,
    /// What may be written, where the type names some.
    pub example: Option<Value>,
    /// The words that it takes, where it takes only some, each with its meaning.
    pub words: Vec<(String, String)>,
}

impl Section {
    /// The key in the dotted form of TOML.
    pub fn dotted(&self, key: &Key) -> String {
        let names: Vec<&str> = self.path.iter().chain([&key.name]).map(String::as_str).collect();
        names.join(".")
    }

    /// The variable of the environment that sets the key.
    pub fn variable(&self, prefix: &str, key: &Key) -> String {
        let names: Vec<String> =
            self.path.iter().chain([&key.name]).map(|name| name.to_uppercase()).collect();
        format!("{prefix}{}", names.join("__"))
    }
}

/// The sections of a configuration: the top, then its tables, each before those in it.
pub fn sections<T: JsonSchema + Serialize + Default>() -> Vec<Section> {
    let root = SchemaGenerator::default().into_root_schema_for::<T>();
    let Some(top) = root.as_object() else { return Vec::new() };
    let reader = Reader { definitions: root.get("$defs").and_then(Value::as_object) };
    let text = serde_json::to_string(&T::default()).unwrap_or_default();
    let default = serde_json::from_str(&text).unwrap_or(Node::Value(Value::Null));
    let mut sections = Vec::new();
    reader.read(&[], top, String::new(), Some(&default), &mut sections);
    sections
}

struct Reader<'s> {
    definitions: Option<&'s Map<String, Value>>,
}

impl<'s> Reader<'s> {
    fn read(
        &self,
        path: &[String],
        schema: &'s Map<String, Value>,
        doc: String,
        default: Option<&Node>,
        sections: &mut Vec<Section>,
    ) {
        let doc = if doc.is_empty() { described(schema) } else { doc };
        let at = sections.len();
        sections.push(Section { path: path.to_vec(), doc, is_default: default.is_some(), keys: Vec::new() });
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
        let mut entries: Vec<(&str, Option<&Node>)> = Vec::new();
        if let Some(Node::Table(written)) = default {
            entries.extend(written.iter().map(|(name, node)| (name.as_str(), Some(node))));
        }
        // What the default leaves out is named all the same.
        for name in properties.keys().map(String::as_str) {
            if !entries.iter().any(|(written, _)| *written == name) {
                entries.push((name, None));
            }
        }
        for (name, node) in entries {
            let Some(property) = properties.get(name).and_then(Value::as_object) else { continue };
            let (resolved, doc) = (self.resolve(property), described(property));
            if resolved.contains_key("properties") {
                let inner = [path, &[name.to_owned()]].concat();
                let node = node.filter(|node| matches!(node, Node::Table(_)));
                self.read(&inner, resolved, doc, node, sections);
                continue;
            }
            let default = match node {
                Some(Node::Value(value)) => Some(value.clone()),
                Some(Node::Table(_)) => None,
                None => property.get("default").cloned(),
            };
            let default = default.filter(|value| !value.is_null());
            let example = property.get("examples").and_then(|examples| examples.get(0)).cloned();
            let doc = if doc.is_empty() { described(resolved) } else { doc };
            let words = words(resolved);
            sections[at].keys.push(Key { name: name.to_owned(), doc, default, example, words });
        }
    }

    /// The schema that is meant: behind a reference, and of what may be left out the one that is not null.
    fn resolve(&self, schema: &'s Map<String, Value>) -> &'s Map<String, Value> {
        if let Some(Value::String(reference)) = schema.get("$ref") {
            let name = reference.rsplit('/').next().unwrap_or_default();
            let found = self.definitions.and_then(|all| all.get(name)?.as_object());
            return found.map_or(schema, |found| self.resolve(found));
        }
        if let Some(Value::Array(any)) = schema.get("anyOf") {
            let is_null = |schema: &Value| schema.get("type").is_some_and(|kind| kind == "null");
            let mut some = any.iter().filter(|schema| !is_null(schema)).filter_map(Value::as_object);
            if let (Some(one), None) = (some.next(), some.next()) {
                return self.resolve(one);
            }
        }
        schema
    }
}

/// The doc comment as one paragraph for each of its own.
fn described(schema: &Map<String, Value>) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let paragraphs: Vec<String> =
        text.split("\n\n").map(|lines| lines.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    paragraphs.join("\n\n")
}

fn words(schema: &Map<String, Value>) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(Value::Array(words)) = schema.get("enum") {
        return words.iter().filter_map(word).map(|word| (word, String::new())).collect();
    }
    let Some(Value::Array(forms)) = schema.get("oneOf") else { return Vec::new() };
    let forms = forms.iter().filter_map(Value::as_object);
    forms.filter_map(|form| Some((word(form.get("const")?)?, described(form)))).collect()
}

/// A value in JSON whose tables keep their order.
enum Node {
    Table(Vec<(String, Self)>),
    Value(Value),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Nodes;
        impl<'de> Visitor<'de> for Nodes {
            type Value = Node;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a value in JSON")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
                Ok(Node::Value(Value::Null))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element::<Value>()? {
                    list.push(item);
                }
                Ok(Node::Value(list.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
                let mut table = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    table.push(entry);
                }
                Ok(Node::Table(table))
            }
        }
        deserializer.deserialize_any(Nodes)
    }
}
