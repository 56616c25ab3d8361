//! What is written of the services: the OpenAPI documents that are checked in, and the runbook.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use synddb_agent::ProblemKind;
use synddb_protocol::http::HaltKind;

use crate::processes::{run, synddb};

const RUNBOOK: &str = include_str!("../../../../docs/runbook.md");

fn openapi() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/openapi")
}

fn documents() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(openapi()).unwrap().map(|entry| entry.unwrap().path());
    let read = |file: PathBuf| {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap())
    };
    files.map(read).collect()
}

/// Every value below this one.
fn values(value: &Value) -> Vec<&Value> {
    let inner: Vec<&Value> = match value {
        Value::Object(object) => object.values().collect(),
        Value::Array(array) => array.iter().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    std::iter::once(value).chain(inner.into_iter().flat_map(values)).collect()
}

/// Everything of `spec/openapi` is written by the command: run `cargo xtask codegen` after a change of a path.
#[test]
fn the_documents_that_are_checked_in_are_those_that_are_served() {
    let written = tempfile::tempdir().unwrap();
    let (exit, _, errors) = run(synddb(["openapi", written.path().to_str().unwrap()]));
    assert_eq!((exit, errors.as_str()), (0, ""));
    let names = |folder: &Path| -> BTreeSet<OsString> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_eq!(names(written.path()), names(&openapi()));
    for name in names(written.path()) {
        let read = |folder: &Path| std::fs::read(folder.join(&name)).unwrap();
        let same = read(written.path()) == read(&openapi());
        assert!(same, "spec/openapi/{} differs; run `cargo xtask codegen`", name.display());
    }
}

#[test]
fn what_a_document_refers_to_is_in_it() {
    let documents = documents();
    assert_eq!(documents.len(), 4);
    for (name, document) in &documents {
        let references = values(document).into_iter().filter_map(|value| value["$ref"].as_str());
        let missing: BTreeSet<&str> = references
            .filter(|reference| document.pointer(reference.strip_prefix('#').unwrap()).is_none())
            .collect();
        assert!(missing.is_empty(), "{name}: {missing:?}");
    }
}

#[test]
fn every_operation_has_a_name_of_its_own_and_says_what_it_does() {
    for (name, document) in documents() {
        let items = document["paths"].as_object().unwrap().iter();
        let operations: Vec<&Value> =
            items.flat_map(|(_, item)| item.as_object().unwrap().values()).collect();
        let names: BTreeSet<&str> =
            operations.iter().map(|one| one["operationId"].as_str().unwrap()).collect();
        assert_eq!(names.len(), operations.len(), "{name}");
        for operation in operations {
            assert!(
                operation["summary"].is_string() && operation["responses"]["500"].is_object(),
                "{name}: {operation}"
            );
        }
    }
}

/// The sources below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// A route that is made with `routes!` is in the document. One that is made otherwise would be in none.
#[test]
fn no_route_is_made_beside_the_documents() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut documented = 0;
    for name in ["agent", "cli", "relayer", "sequencer", "service", "validator"] {
        for file in sources(&crates.join(name).join("src")) {
            let source = std::fs::read_to_string(&file).unwrap();
            let code = source.split("#[cfg(test)]").next().unwrap();
            assert!(!code.contains(".route(") && !code.contains(".route_service("), "{}", file.display());
            documented += code.matches("routes(routes!(").count();
        }
    }
    assert!(documented > 20, "{documented}");
}

/// The names that an enum has in JSON, as its reader tells who sends another one.
fn names<T: DeserializeOwned>() -> Vec<String> {
    let Err(error) = serde_json::from_value::<T>(json!("none of them")) else { panic!("it takes anything") };
    error.to_string().split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_runbook_tells_of_every_way_to_stop() {
    let (halts, problems) = (names::<HaltKind>(), names::<ProblemKind>());
    assert!(halts.contains(&"divergence".to_owned()) && problems.contains(&"outbox_full".to_owned()));
    for kind in halts.iter().chain(&problems) {
        assert!(RUNBOOK.contains(&format!("`{kind}`")), "{kind}");
    }
}
