//! The log tree against the definitions of RFC 9162, written out naively.

use proptest::prelude::*;
use synddb_protocol::hash::TreeHash;
use synddb_protocol::log::Frontier;
use synddb_protocol::log::tree::{
    NoSuchProof, Node, consistency_proof, inclusion_proof, leaf_hash, node_hash, verify_consistency,
    verify_inclusion,
};

/// The only error there is: a proof that was asked for outside the tree.
#[derive(Debug, PartialEq)]
struct Outside;

impl From<NoSuchProof> for Outside {
    fn from(_: NoSuchProof) -> Self {
        Self
    }
}

fn leaves(count: u64) -> Vec<TreeHash> {
    (0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect()
}

/// MTH(D[n]) of RFC 9162, section 2.1.1.
fn root(leaves: &[TreeHash]) -> TreeHash {
    match leaves {
        [] => Frontier::default().root(),
        [leaf] => *leaf,
        _ => {
            let mut split = 1;
            while split * 2 < leaves.len() {
                split *= 2;
            }
            node_hash(root(&leaves[..split]), root(&leaves[split..]))
        }
    }
}

/// Looks perfect subtrees up in the leaves, and refuses one that is not perfect and inside.
fn lookup(leaves: &[TreeHash]) -> impl FnMut(Node) -> Result<TreeHash, Outside> + '_ {
    |node| {
        let from = usize::try_from(node.index << node.level).unwrap();
        Ok(root(&leaves[from..from + (1 << node.level)]))
    }
}

fn frontier(leaves: &[TreeHash]) -> Frontier {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier
}

#[test]
fn roots_are_those_of_certificate_transparency() {
    // The empty root, and the roots of the test inputs that every RFC 6962 implementation carries.
    let inputs =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = Frontier::default();
    assert_eq!(tree.root().to_key(), roots[0]);
    for (input, root) in inputs.iter().zip(&roots[1..]) {
        tree.push(leaf_hash(&hex(input)));
        assert_eq!(tree.root().to_key(), *root);
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_proof_of_every_small_tree_holds_and_no_other() {
    let leaves = leaves(33);
    for size in 1..=33u64 {
        let tree = &leaves[..usize::try_from(size).unwrap()];
        let top = root(tree);
        assert_eq!(frontier(tree).root(), top);
        for index in 0..size {
            let leaf = tree[usize::try_from(index).unwrap()];
            let path = inclusion_proof(index, size, lookup(tree)).unwrap();
            assert!(verify_inclusion(leaf, index, size, &path, top));
            for other in (0..size).filter(|other| *other != index) {
                assert!(
                    !verify_inclusion(leaf, other, size, &path, top),
                    "{index} passes for {other} of {size}"
                );
            }
            assert!(!verify_inclusion(leaf, index, size, &path, leaf_hash(b"another root")));
        }
        for from in 1..=size {
            let before = root(&tree[..usize::try_from(from).unwrap()]);
            let path = consistency_proof(from, size, lookup(tree)).unwrap();
            assert!(verify_consistency(from, before, size, top, &path), "{from} of {size}");
            assert!(!verify_consistency(from, leaf_hash(b"another"), size, top, &path));
            assert!(!verify_consistency(from, before, size, leaf_hash(b"another"), &path));
        }
    }
}

#[test]
fn proofs_outside_the_tree_are_refused() {
    let leaves = leaves(4);
    let top = root(&leaves);
    assert_eq!(inclusion_proof(4, 4, lookup(&leaves)), Err(Outside));
    assert_eq!(consistency_proof(0, 4, lookup(&leaves)), Err(Outside));
    assert_eq!(consistency_proof(5, 4, lookup(&leaves)), Err(Outside));
    assert!(!verify_inclusion(leaves[0], 4, 4, &[], top));
    assert!(!verify_inclusion(leaves[0], 0, 0, &[], top));
    assert!(!verify_consistency(0, top, 4, top, &[]));
    assert!(!verify_consistency(5, top, 4, top, &[]));
}

proptest! {
    #[test]
    fn a_changed_proof_is_refused(size in 2u64..200, at in any::<u64>(), step in any::<usize>(), bit in 0u8..8) {
        let leaves = leaves(size);
        let (top, index) = (root(&leaves), at % size);
        let mut path = inclusion_proof(index, size, lookup(&leaves)).unwrap();
        let step = step % path.len();
        let mut bytes = *path[step].as_bytes();
        bytes[usize::from(bit) * 4] ^= 1 << bit;
        path[step] = TreeHash::from_bytes(bytes);
        prop_assert!(!verify_inclusion(leaves[usize::try_from(index).unwrap()], index, size, &path, top));
        path.pop();
        prop_assert!(!verify_inclusion(leaves[usize::try_from(index).unwrap()], index, size, &path, top));
    }
}
