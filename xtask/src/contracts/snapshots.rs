//! What follows from what was compiled and is kept: interfaces, storage, and the code that is deployed with the lines it comes from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha3::{Digest as _, Keccak256};

use super::{CONTRACTS, FIX};
use crate::tree::Tree;

/// Folders of what is not called from outside: it has lines, but neither interface nor storage.
const PARTS: [&str; 2] = ["libraries", "types"];

/// Each file's lines of code, and each contract's code.
pub(super) const SCOPE: &str = "contracts/snapshots/scope.json";

/// Files that follow from what was compiled, by their names from the root.
pub(super) struct Snapshots(BTreeMap<PathBuf, String>);

impl Snapshots {
    /// What the artifacts say.
    pub(super) fn of_artifacts(tree: &Tree) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut scope = serde_json::Map::new();
        for source in tree.files_under(super::SOURCES, "sol")? {
            let mut entry = json!({ "linesOfCode": lines_of_code(&tree.read(&source)?) });
            let name = source.file_stem().unwrap_or_default().to_string_lossy();
            if !PARTS.iter().any(|part| source.parent().is_some_and(|folder| folder.ends_with(part))) {
                let artifact = artifact(tree, &name)?;
                let [abi, storage] = Self::folder().map(|folder| folder.join(format!("{name}.json")));
                files.insert(abi, pretty(artifact.get("abi").context("an artifact has no abi")?)?);
                let layout = storage_of(&artifact)?;
                if layout.as_array().is_some_and(|slots| !slots.is_empty()) {
                    files.insert(storage, pretty(&layout)?);
                }
                if let Some(code) = code_of(&artifact)? {
                    entry["code"] = code;
                }
            }
            let from_the_contracts = source.strip_prefix(CONTRACTS)?.to_string_lossy().into_owned();
            scope.insert(from_the_contracts, entry);
        }
        files.insert(PathBuf::from(SCOPE), pretty(&Value::Object(scope))?);
        Ok(Self(files))
    }

    fn folder() -> [PathBuf; 2] {
        ["abi", "storage"].map(|name| Path::new(CONTRACTS).join("snapshots").join(name))
    }

    /// Writes them, in the place of all that were there.
    pub(super) fn write(&self, tree: &Tree) -> Result<()> {
        for folder in Self::folder() {
            let folder = tree.root().join(folder);
            if folder.exists() {
                fs::remove_dir_all(&folder)
                    .with_context(|| format!("cannot remove. folder=`{}`", folder.display()))?;
            }
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make. folder=`{}`", folder.display()))?;
        }
        for (file, text) in &self.0 {
            fs::write(tree.root().join(file), text)
                .with_context(|| format!("cannot write. file=`{}`", file.display()))?;
        }
        println!("wrote {} snapshots", self.0.len());
        Ok(())
    }

    /// What differs from the files that are there.
    pub(super) fn problems(&self, tree: &Tree) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        for (file, text) in &self.0 {
            if tree.read(file).ok().as_ref() != Some(text) {
                problems.push(format!("{}: is not what was compiled; {FIX}", file.display()));
            }
        }
        for folder in Self::folder() {
            let present = tree.root().join(&folder);
            if !present.exists() {
                continue;
            }
            for entry in fs::read_dir(&present)? {
                let file = folder.join(entry?.file_name());
                if !self.0.contains_key(&file) {
                    problems.push(format!("{}: is of no contract; {FIX}", file.display()));
                }
            }
        }
        Ok(problems)
    }
}

/// What forge wrote of a contract, compiled as it would be deployed.
fn artifact(tree: &Tree, name: &str) -> Result<Value> {
    let file = format!("{CONTRACTS}/out/{name}.sol/{name}.json");
    serde_json::from_str(&tree.read(&file)?).with_context(|| format!("is no JSON. file=`{file}`"))
}

/// How many lines are neither empty nor comment alone.
fn lines_of_code(source: &str) -> usize {
    let is_code = |line: &&str| !line.is_empty() && !line.starts_with("//");
    source.lines().map(str::trim).filter(is_code).count()
}

/// The hash of what is sent to deploy, before the arguments, and the size of what then lies on the chain. Absent of what is not deployed.
fn code_of(artifact: &Value) -> Result<Option<Value>> {
    let bytes = |pointer: &str| {
        let text = artifact.pointer(pointer).and_then(Value::as_str).context("an artifact has no code")?;
        hex::decode(text.trim_start_matches("0x")).context("the code is not hexadecimal")
    };
    let creation = bytes("/bytecode/object")?;
    if creation.is_empty() {
        return Ok(None);
    }
    let hash = hex::encode(Keccak256::digest(&creation));
    let size = bytes("/deployedBytecode/object")?.len();
    Ok(Some(json!({ "creationCodeHash": format!("0x{hash}"), "deployedBytes": size })))
}

/// Which variable lies where. The compiler's names of types hold numbers that change with any file, so their labels are taken.
fn storage_of(artifact: &Value) -> Result<Value> {
    let Some(layout) = artifact.get("storageLayout") else { return Ok(Value::Array(Vec::new())) };
    let slots = layout.get("storage").and_then(Value::as_array).context("a storage layout has no list")?;
    let slots = slots.iter().map(|slot| {
        let kind = slot.get("type").and_then(Value::as_str).context("a slot has no type")?;
        let label = layout.pointer(&format!("/types/{}/label", kind.replace('~', "~0").replace('/', "~1")));
        let field = |name: &str| slot.get(name).cloned().unwrap_or_default();
        Ok(serde_json::json!({
            "label": field("label"), "slot": field("slot"), "offset": field("offset"),
            "type": label.cloned().unwrap_or_default(),
        }))
    });
    slots.collect::<Result<Vec<_>>>().map(Value::Array)
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(tree: &Tree) -> Snapshots {
        let file = Snapshots::folder()[0].join("Bridge.json");
        let snapshots = Snapshots([(file, "[]\n".to_owned())].into());
        snapshots.write(tree).unwrap();
        snapshots
    }

    #[test]
    fn a_snapshot_that_differs_is_missing_or_is_left_over_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::at(folder.path());
        let snapshots = generated(&tree);
        assert_eq!(snapshots.problems(&tree).unwrap(), Vec::<String>::new());
        let [abi, storage] = Snapshots::folder().map(|name| folder.path().join(name));
        fs::write(abi.join("Bridge.json"), "[1]\n").unwrap();
        fs::write(storage.join("Gone.json"), "[]\n").unwrap();
        assert_eq!(snapshots.problems(&tree).unwrap().len(), 2);
        fs::remove_file(abi.join("Bridge.json")).unwrap();
        assert_eq!(snapshots.problems(&tree).unwrap().len(), 2);
    }

    #[test]
    fn a_storage_layout_has_labels_of_types_and_no_numbers_of_the_compiler() {
        let artifact = serde_json::json!({"storageLayout": {
            "storage": [{"astId": 7, "label": "_keys", "slot": "2", "offset": 0, "type": "t_mapping(t_address,t_struct(Key)77_storage)"}],
            "types": {"t_mapping(t_address,t_struct(Key)77_storage)": {"label": "mapping(address => struct Key)"}},
        }});
        let expected = serde_json::json!([{"label": "_keys", "slot": "2", "offset": 0, "type": "mapping(address => struct Key)"}]);
        assert_eq!(storage_of(&artifact).unwrap(), expected);
    }
}
