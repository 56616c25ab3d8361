//! Comments in a file of credentials. What stands right above an entry is about it, and goes with it. What stands above that, parted from it by
//! an empty line, is about more, and so is what a file begins with: that stays when the entry goes.

use toml_edit::{Decor, DocumentMut, Table};

use super::edit::{KINDS, NOBODY, key};

/// What stays of the comments above this entry when it goes. `is_first` where no other one is above it.
pub(super) fn staying(entry: &Table, is_first: bool) -> String {
    let above = text(entry.decor());
    let lines: Vec<&str> = above.split_inclusive('\n').collect();
    let parted = lines.iter().rposition(|line| line.trim().is_empty()).map_or(0, |at| at + 1);
    let stays = if parted == 0 && is_first { lines.len() } else { parted };
    let stays = lines[..stays].concat();
    if stays.contains('#') { stays } else { String::new() }
}

/// Puts comments above the first entry, or the first behind a place. Where there is none, above what says that nobody is listed, or at the end.
pub(super) fn put_above(document: &mut DocumentMut, behind: Option<isize>, comments: &str) {
    if comments.is_empty() {
        return;
    }
    let first = entries_mut(document)
        .filter(|entry| behind.is_none_or(|behind| entry.position() > Some(behind)))
        .min_by_key(|entry| entry.position());
    if let Some(entry) = first {
        let above = format!("{comments}{}", text(entry.decor()).trim_start_matches('\n'));
        entry.decor_mut().set_prefix(above);
    } else if let Some(mut nobody) = document.key_mut(NOBODY) {
        nobody.leaf_decor_mut().set_prefix(comments);
    } else {
        let last = format!("{comments}{}", document.trailing().as_str().unwrap_or_default());
        document.set_trailing(last);
    }
}

/// What stands above the line that says that nobody is listed.
pub(super) fn above_nobody(document: &DocumentMut) -> String {
    document.key(NOBODY).map(|key| text(key.leaf_decor()).to_owned()).unwrap_or_default()
}

fn text(decor: &Decor) -> &str {
    decor.prefix().and_then(|above| above.as_str()).unwrap_or_default()
}

fn entries_mut(document: &mut DocumentMut) -> impl Iterator<Item = &mut Table> {
    let lists = document.iter_mut().filter(|(name, _)| KINDS.map(key).contains(&name.get()));
    lists.filter_map(|(_, item)| item.as_array_of_tables_mut()).flat_map(|entries| entries.iter_mut())
}
