//! Merkle roots over lists of leaves, after RFC 6962 (section 2.1), with the number of leaves in
//! the root.
//!
//! # Construction
//! ```text
//! leaf(data)       = digest in the domain MerkleLeaf of data
//! tree([l])        = l
//! tree([l1 … ln])  = digest in the domain MerkleNode of tree([l1 … lk]) ‖ tree([lk+1 … ln]),
//!                    k the largest power of two below n
//! root([])         = digest in the domain MerkleRoot of 0 as 8 bytes
//! root([l1 … ln])  = digest in the domain MerkleRoot of n as 8 bytes, little-endian ‖ tree([l1 … ln])
//! ```
//!
//! # What it withstands
//! - *Second preimages*: an inner node passed off as a leaf. Leaves and nodes are hashed in
//!   different domains.
//! - *Duplicated leaves* (CVE-2012-2459, where an odd node was paired with itself, so that `[a, b,
//!   c]` and `[a, b, c, c]` had one root): an odd node is never doubled; it moves up as it is.
//! - *Confusion about size*: the number of leaves is part of the root, so a proof cannot be read
//!   against a tree of another shape.
//!
//! Two lists of leaf digests with the same root are therefore a collision of SHA-256. The caller
//! makes leaves with [`leaf`], or another domain-separated digest of its own; the list of these
//! digests is what the root commits to.
//!
//! # Cost
//! A root takes `n - 1` node hashes and a stack of at most 64 digests; a proof has at most 64
//! digests.

use crate::hash::{Digest, Domain};

/// The digest of one leaf.
#[must_use]
pub fn leaf(data: &[u8]) -> Digest {
    Domain::MerkleLeaf.digest(data)
}

/// The root over `leaves`, which are digests made with [`leaf`].
#[must_use]
pub fn root(leaves: impl IntoIterator<Item = Digest>) -> Digest {
    // The stack holds the tops of perfect subtrees, from the left and of falling size, so that bit
    // i of `count` says whether one with 2^i leaves is there: like a binary counter, two of one
    // size merge.
    let mut stack: Vec<Digest> = Vec::new();
    let mut count: u64 = 0;
    for leaf in leaves {
        let mut top = leaf;
        for _ in 0..count.trailing_ones() {
            let left = stack.pop().expect("a one in the count stands for a subtree on the stack");
            top = node(&left, &top);
        }
        stack.push(top);
        count += 1;
    }
    let tree = stack.into_iter().rev().reduce(|right, left| node(&left, &right));
    finish(count, tree.as_ref())
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Domain::MerkleNode.digest_parts(&[left.as_ref(), right.as_ref()])
}

fn finish(count: u64, tree: Option<&Digest>) -> Digest {
    let mut hasher = Domain::MerkleRoot.hasher();
    hasher.update(&count.to_le_bytes());
    if let Some(tree) = tree {
        hasher.update(tree.as_ref());
    }
    hasher.finish()
}

/// Shows that one leaf stands at one place in the list behind a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Place of the leaf, counted from 0.
    pub index: u64,
    /// Number of leaves in the list.
    pub count: u64,
    /// The siblings of the nodes between the leaf and the top, from the leaf upwards.
    pub siblings: Vec<Digest>,
}

impl Proof {
    /// The proof for the leaf at `index`, or `None` if there is no such leaf.
    #[must_use]
    pub fn new(leaves: &[Digest], index: usize) -> Option<Self> {
        if index >= leaves.len() {
            return None;
        }
        let mut siblings = Vec::new();
        let mut range = leaves;
        let mut place = index;
        while range.len() > 1 {
            let (left, right) = range.split_at(split(range.len()));
            if place < left.len() {
                siblings.push(tree(right));
                range = left;
            } else {
                place -= left.len();
                siblings.push(tree(left));
                range = right;
            }
        }
        siblings.reverse();
        Some(Self { index: index as u64, count: leaves.len() as u64, siblings })
    }

    /// Whether `leaf` stands at this proof's place in the list behind `root`.
    ///
    /// A proof with siblings missing or left over is false, so each leaf of a tree has exactly one
    /// proof.
    #[must_use]
    pub fn verify(&self, root: &Digest, leaf: &Digest) -> bool {
        if self.index >= self.count {
            return false;
        }
        // Climbing from the leaf: `place` is the node's place on its level and `last` that of the
        // level's last node. The last node on the left side of nothing has no sibling and moves up
        // as it is (RFC 9162, section 2.1.3.2).
        let (mut place, mut last) = (self.index, self.count - 1);
        let mut top = *leaf;
        for sibling in &self.siblings {
            if last == 0 {
                return false;
            }
            if place & 1 == 1 || place == last {
                top = node(sibling, &top);
                while place & 1 == 0 && place != 0 {
                    place >>= 1;
                    last >>= 1;
                }
            } else {
                top = node(&top, sibling);
            }
            place >>= 1;
            last >>= 1;
        }
        last == 0 && finish(self.count, Some(&top)) == *root
    }
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: usize) -> usize {
    1 << (count - 1).ilog2()
}

/// The top node over at least one leaf.
fn tree(leaves: &[Digest]) -> Digest {
    match leaves {
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&tree(left), &tree(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|number| leaf(&number.to_le_bytes())).collect()
    }

    /// The definition at the head of the module, word for word.
    fn root_as_defined(leaves: &[Digest]) -> Digest {
        let mut input = (leaves.len() as u64).to_le_bytes().to_vec();
        if !leaves.is_empty() {
            input.extend_from_slice(tree_as_defined(leaves).as_bytes());
        }
        Domain::MerkleRoot.digest(&input)
    }

    fn tree_as_defined(leaves: &[Digest]) -> Digest {
        if leaves.len() == 1 {
            return leaves[0];
        }
        let mut k = 1;
        while 2 * k < leaves.len() {
            k *= 2;
        }
        let (left, right) = (tree_as_defined(&leaves[..k]), tree_as_defined(&leaves[k..]));
        Domain::MerkleNode.digest(&[left.0, right.0].concat())
    }

    #[test]
    fn the_root_is_as_defined_for_every_small_count() {
        for count in 0..130 {
            let leaves = leaves(count);
            assert_eq!(root(leaves.iter().copied()), root_as_defined(&leaves), "{count} leaves");
        }
    }

    /// Computed by an independent implementation (Python's `hashlib`).
    #[test]
    fn pinned_roots() {
        let abc = [leaf(b"a"), leaf(b"b"), leaf(b"c")];
        assert_eq!(root([]).to_string(), "bee69e741de3cc724c07397abd9d8ff0a2a6e0c27a5812cd3beacd72e6c57462");
        assert_eq!(root(abc).to_string(), "9d8483f0a59e3a97881a4dba6abe5007003b4ce7c66445b7375f17798195bdb7");
    }

    #[test]
    fn doubling_the_last_leaves_changes_the_root() {
        for count in 1..20 {
            let list = leaves(count);
            for doubled in 1..=count {
                let mut longer = list.clone();
                longer.extend_from_slice(&list[count - doubled..]);
                assert_ne!(root(longer), root(list.clone()), "last {doubled} of {count} doubled");
            }
        }
    }

    #[test]
    fn an_inner_node_is_no_leaf() {
        let list = leaves(4);
        let (left, right) = (node(&list[0], &list[1]), node(&list[2], &list[3]));
        assert_ne!(root([left, right]), root(list.clone()));
        assert_ne!(leaf(&[list[0].0, list[1].0].concat()), left);
        // Nor is a tree's top a list of one, nor one leaf its own root.
        assert_ne!(root([tree(&list)]), root(list.clone()));
        assert_ne!(root([list[0]]), list[0]);
    }

    #[test]
    fn every_proof_holds_and_only_for_its_place() {
        for count in 1..34 {
            let list = leaves(count);
            let root = root(list.clone());
            for index in 0..count {
                let proof = Proof::new(&list, index).unwrap();
                assert!(proof.siblings.len() <= 6);
                for (other, leaf) in list.iter().enumerate() {
                    assert_eq!(proof.verify(&root, leaf), other == index, "{index} of {count} against {other}");
                }
            }
            assert_eq!(Proof::new(&list, count), None);
        }
        assert_eq!(Proof::new(&[], 0), None);
    }

    proptest! {
        #[test]
        fn a_changed_list_has_a_changed_root(count in 1_usize..40, swap in (0_usize..40, 0_usize..40), bit in 0_usize..256) {
            let list = leaves(count);
            let (i, j) = (swap.0 % count, swap.1 % count);
            let mut swapped = list.clone();
            swapped.swap(i, j);
            prop_assert_eq!(root(swapped) == root(list.clone()), i == j);
            let mut flipped = list.clone();
            flipped[i].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(root(flipped), root(list.clone()));
            prop_assert_ne!(root(list[1..].to_vec()), root(list));
        }

        #[test]
        fn a_changed_proof_fails(count in 1_u64..40, place in 0_u64..40, other_count in 0_u64..80, other_place in 0_u64..80, bit in 0_usize..256) {
            let list = leaves(usize::try_from(count).unwrap());
            let root = root(list.clone());
            let index = usize::try_from(place % count).unwrap();
            let proof = Proof::new(&list, index).unwrap();
            let holds = |proof: &Proof| proof.verify(&root, &list[index]);
            prop_assert!(holds(&proof));

            let elsewhere = Proof { index: other_place, ..proof.clone() };
            prop_assert_eq!(holds(&elsewhere), other_place == proof.index);
            let resized = Proof { count: other_count, ..proof.clone() };
            prop_assert_eq!(holds(&resized), other_count == count);
            let mut longer = proof.clone();
            longer.siblings.push(root);
            prop_assert!(!holds(&longer));
            let mut shorter = proof.clone();
            if shorter.siblings.pop().is_some() {
                prop_assert!(!holds(&shorter));
            }
            for level in 0..proof.siblings.len() {
                let mut flipped = proof.clone();
                flipped.siblings[level].0[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!holds(&flipped));
            }
        }
    }
}
