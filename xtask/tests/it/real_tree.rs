//! The repository itself is in order.

use anyhow::Result;
use xtask::layers::readme;
use xtask::layers::table::Table;
use xtask::tree::Tree;

#[test]
fn layers_of_the_real_tree_pass() -> Result<()> {
    assert_eq!(xtask::layers::problems(&Tree::here())?, Vec::<String>::new());
    Ok(())
}

#[test]
fn the_real_tree_is_tidy() -> Result<()> {
    assert_eq!(xtask::tidy::problems(&Tree::here())?, Vec::<String>::new());
    Ok(())
}

#[test]
fn the_page_of_crates_is_the_table() -> Result<()> {
    let tree = Tree::here();
    assert_eq!(tree.read(readme::PATH)?, readme::render(&tree, &Table::read(&tree)?));
    Ok(())
}
