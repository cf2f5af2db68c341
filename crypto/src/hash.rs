//! Domain-separated SHA-256.
//!
//! # Construction
//! With `tag = SHA-256(name of the domain)`, the digest of a message in a domain is
//!
//! ```text
//! SHA-256(tag ‖ tag ‖ message)
//! ```
//!
//! which is the tagged hash of BIP-340.
//!
//! # Why two domains cannot meet
//! Everything hashed by this crate begins with 64 bytes that name its domain. These prefixes have
//! one length and differ pairwise, so no domain's input is a prefix of, or equal to, another's:
//! equal digests in two domains would be a collision of plain SHA-256. The doubled tag matters
//! twice more. It fills exactly one block of SHA-256, so the state after it is computed once for
//! each domain and then copied. And no input of an ordinary, untagged SHA-256 begins with it unless
//! somebody put it there.
//!
//! Within one domain the *caller* must feed an unambiguous encoding; all of ours are fixed-size
//! fields or canonical encodings (see `docs/PROTOCOL.md`).
//!
//! # Changing it
//! The names are part of the protocol. A change in what a domain's input means takes a new name
//! (the number at the end), never a new meaning for an old one.

use crate::bytes::fixed_bytes;
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

/// A SHA-256 digest taken in some [`Domain`].
///
/// Written as 64 hex digits for people, and as its 32 bytes for machines. The order is that of the
/// bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

fixed_bytes!(Digest, 32, "a digest");

impl Digest {
    /// Thirty-two zero bytes: a placeholder that is the digest of nothing known.
    pub const ZERO: Self = Self([0; 32]);

    /// How many bits are zero before the first one, reading from the first byte's most significant
    /// bit: from 0 to 256.
    #[must_use]
    pub fn leading_zero_bits(&self) -> u32 {
        let mut bits = 0;
        for byte in self.0 {
            bits += byte.leading_zeros();
            if byte != 0 {
                break;
            }
        }
        bits
    }
}

/// What a digest is for. Each purpose has a domain of its own, and each domain one kind of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Domain {
    /// The genesis parameters, giving the network id.
    Network,
    /// The network id, giving the id of the block that every chain of the network starts from.
    GenesisBlock,
    /// A transaction's fields except stamp and signature.
    TransactionContent,
    /// A transaction's content digest and stamp, counted for proof of work.
    TransactionStamp,
    /// A transaction's content digest and stamp, giving the transaction id.
    TransactionId,
    /// A transaction id, giving what the sender signs.
    TransactionSigning,
    /// A block header without its signature, giving the block id.
    BlockId,
    /// A block id, giving what the producer signs.
    BlockSigning,
    /// One leaf of a Merkle tree.
    MerkleLeaf,
    /// Two child digests of a Merkle tree.
    MerkleNode,
    /// The number of leaves and the top node of a Merkle tree.
    MerkleRoot,
    /// The topic and the data of a mesh message, giving its message id.
    MessageId,
    /// The check of the record before and a record of an exported chain, giving the record's check.
    ExportRecord,
}

impl Domain {
    /// Every domain, in the order of the enumeration.
    pub const ALL: [Self; 13] = [
        Self::Network,
        Self::GenesisBlock,
        Self::TransactionContent,
        Self::TransactionStamp,
        Self::TransactionId,
        Self::TransactionSigning,
        Self::BlockId,
        Self::BlockSigning,
        Self::MerkleLeaf,
        Self::MerkleNode,
        Self::MerkleRoot,
        Self::MessageId,
        Self::ExportRecord,
    ];

    /// The domain's name, whose SHA-256 is its tag.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "starling/network/1",
            Self::GenesisBlock => "starling/genesis-block/1",
            Self::TransactionContent => "starling/transaction-content/1",
            Self::TransactionStamp => "starling/transaction-stamp/1",
            Self::TransactionId => "starling/transaction-id/1",
            Self::TransactionSigning => "starling/transaction-signing/1",
            Self::BlockId => "starling/block-id/1",
            Self::BlockSigning => "starling/block-signing/1",
            Self::MerkleLeaf => "starling/merkle-leaf/1",
            Self::MerkleNode => "starling/merkle-node/1",
            Self::MerkleRoot => "starling/merkle-root/1",
            Self::MessageId => "starling/message-id/1",
            Self::ExportRecord => "starling/export-record/1",
        }
    }

    /// A hasher that has taken in the domain's tag and nothing else.
    #[must_use]
    pub fn hasher(self) -> Hasher {
        Hasher::new(self)
    }

    /// The digest, in this domain, of `message`.
    #[must_use]
    pub fn digest(self, message: &[u8]) -> Digest {
        self.digest_parts(&[message])
    }

    /// The digest, in this domain, of the concatenation of `parts`.
    ///
    /// Where one part ends and the next begins is not hashed: use it with parts of fixed size only.
    #[must_use]
    pub fn digest_parts(self, parts: &[&[u8]]) -> Digest {
        let mut hasher = Hasher::new(self);
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    }
}

/// Takes in a message piece by piece.
///
/// ```
/// use starling_crypto::{Domain, Hasher};
///
/// let mut hasher = Hasher::new(Domain::MessageId);
/// hasher.update(b"one ").update(b"message");
/// assert_eq!(hasher.finish(), Domain::MessageId.digest(b"one message"));
/// ```
#[derive(Clone, Debug)]
pub struct Hasher(Sha256);

impl Hasher {
    /// A hasher that has taken in the domain's tag and nothing else.
    #[must_use]
    pub fn new(domain: Domain) -> Self {
        Self(MIDSTATES[domain as usize].clone())
    }

    /// Takes in the next bytes of the message.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The digest of all that was taken in.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// The state of SHA-256 after each domain's doubled tag, computed once a process.
static MIDSTATES: LazyLock<[Sha256; Domain::ALL.len()]> = LazyLock::new(|| {
    Domain::ALL.map(|domain| {
        let tag = Sha256::digest(domain.name());
        Sha256::new().chain_update(tag).chain_update(tag)
    })
});

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_digest_is_the_tagged_hash_written_out() {
        for domain in Domain::ALL {
            let tag = Sha256::digest(domain.name());
            let mut input = [tag, tag].concat();
            input.extend_from_slice(b"message");
            assert_eq!(domain.digest(b"message").0, <[u8; 32]>::from(Sha256::digest(&input)));
        }
    }

    #[test]
    fn the_table_of_midstates_is_in_the_order_of_the_enumeration() {
        for (index, domain) in Domain::ALL.into_iter().enumerate() {
            assert_eq!(domain as usize, index, "{domain:?}");
        }
    }

    #[test]
    fn no_two_domains_share_a_digest() {
        for message in [&b""[..], b"x", &[0; 64]] {
            let digests: BTreeSet<_> = Domain::ALL.iter().map(|domain| domain.digest(message)).collect();
            assert_eq!(digests.len(), Domain::ALL.len());
            assert!(!digests.contains(&Digest(Sha256::digest(message).into())));
        }
    }

    /// Computed by an independent implementation (Python's `hashlib`).
    #[test]
    fn pinned_digests() {
        assert_eq!(
            Domain::TransactionId.digest(b"").to_string(),
            "3dbcc85a1b7dda93b6be6b9b53694f8f3903828386715c71254fafa0fd2f7ac3"
        );
        assert_eq!(
            Domain::MessageId.digest(b"abc").to_string(),
            "7fcb9bb3ac04477f3472623bf9dc1c8145cf9a492d414e3bf229d84d14c65e67"
        );
    }

    #[test]
    fn leading_zero_bits_count_across_bytes() {
        let with = |index: usize, byte: u8| {
            let mut bytes = [0; 32];
            bytes[index] = byte;
            Digest(bytes).leading_zero_bits()
        };
        assert_eq!(Digest::ZERO.leading_zero_bits(), 256);
        assert_eq!(with(0, 0x80), 0);
        assert_eq!(with(0, 0x01), 7);
        assert_eq!(with(1, 0xff), 8);
        assert_eq!(with(2, 0x10), 19);
        assert_eq!(with(31, 0x01), 255);
    }

    proptest! {
        #[test]
        fn how_a_message_is_cut_does_not_matter(message: Vec<u8>, cuts in prop::collection::vec(0_usize..64, 0..8)) {
            let mut hasher = Hasher::new(Domain::BlockId);
            let mut rest = &message[..];
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                hasher.update(head);
                rest = tail;
            }
            hasher.update(rest);
            prop_assert_eq!(hasher.finish(), Domain::BlockId.digest(&message));
        }
    }
}
