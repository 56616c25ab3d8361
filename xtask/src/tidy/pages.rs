//! Pages: relative links lead to files of the tree, and commands named are commands that exist.
//!
//! Links to other sites are not followed: a page of ours must not fail because of somebody else's.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::Result;
use regex::Regex;

use crate::cli;
use crate::tree::Tree;

static LINK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)|^\s*\[[^\]]+\]:\s+(\S+)"#)
        .expect("the pattern is well formed")
});

static INLINE_CODE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"`[^`]*`").expect("the pattern is well formed"));

static COMMAND: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"cargo xtask ([a-z][a-z0-9-]*)").expect("the pattern is well formed"));

/// Dead links and commands that do not exist, in every Markdown file.
///
/// # Errors
/// When a page cannot be read.
pub fn problems(tree: &Tree) -> Result<Vec<String>> {
    let commands = cli::command_names();
    let mut problems = Vec::new();
    for path in tree.files("md")? {
        let mut in_block = false;
        for (index, line) in tree.read(&path)?.lines().enumerate() {
            let place = format!("{}:{}", path.display(), index + 1);
            let named = COMMAND.captures_iter(line).map(|found| found[1].to_owned());
            let unknown = named.filter(|name| !commands.contains(name));
            problems.extend(unknown.map(|name| {
                format!("{place}: there is no `cargo xtask {name}`; there is {}", commands.join(", "))
            }));
            if line.trim_start().starts_with("```") {
                in_block = !in_block;
            }
            if !in_block {
                problems.extend(
                    dead_links(tree, &path, line)
                        .map(|link| format!("{place}: the link leads nowhere. link=`{link}`")),
                );
            }
        }
    }
    Ok(problems)
}

fn dead_links(tree: &Tree, page: &Path, line: &str) -> impl Iterator<Item = String> {
    let line = INLINE_CODE.replace_all(line, "");
    let links: Vec<String> = LINK
        .captures_iter(&line)
        .filter_map(|found| found.get(1).or_else(|| found.get(2)))
        .map(|link| link.as_str().to_owned())
        .collect();
    let folder = page.parent().unwrap_or(Path::new("")).to_owned();
    links.into_iter().filter(move |link| is_relative(link) && !leads_somewhere(tree, &folder, link))
}

fn is_relative(link: &str) -> bool {
    !link.starts_with('#') && !link.contains("://") && !link.starts_with("mailto:")
}

/// Whether the file part of a link exists inside of the tree.
fn leads_somewhere(tree: &Tree, folder: &Path, link: &str) -> bool {
    let file = link.split('#').next().unwrap_or(link);
    let path = file.strip_prefix('/').map_or_else(|| folder.join(file), PathBuf::from);
    // A link that climbs out of the root works on one machine only.
    let mut depth = 0_i32;
    for part in path.components() {
        depth += if part.as_os_str() == ".." { -1 } else { 1 };
        if depth < 0 {
            return false;
        }
    }
    tree.has(path)
}
