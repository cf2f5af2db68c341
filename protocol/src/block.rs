//! Blocks: a signed header and the transactions that it commits to.
//!
//! # Digests
//! ```text
//! id     = H_BlockId(encode(header))                       the header without its signature
//! signed = H_BlockSigning(id)                              the producer's signature is over this
//! root   = Merkle root over the transactions' leaves       see starling_crypto::merkle and crate::transaction
//! ```
//! The chain of every network starts from a block that nobody made: height 0, slot 0, its id derived from the network
//! id ([`Genesis::block_id`]). It has no header and is never sent.
//!
//! # Two layers of rules, because two parties can be to blame
//! 1. *Rules of the header*, and that the body is the one that the header commits to: [`Block::decode`] and
//!    [`Block::verify_header_signature`]. Every honest node checks these before it passes a block on, so whoever sends
//!    a block that breaks one is to blame. The leaves cover the transactions' signatures, so a relay cannot spoil the
//!    body unnoticed.
//! 2. *Rules of the body*, [`Block::verify_bodies`]: every transaction valid on its own, none twice. The producer
//!    signed for these; relays pass the block on without checking them, which takes milliseconds off every hop, and are
//!    not to blame. A block that breaks one is not extended.
//!
//! Nonces and the parent's height and slot need the chain, and are its business.
//!
//! # Limits
//! A block has at most `block_bytes_max` bytes and `transactions_per_block_max` transactions (genesis); both are
//! checked before anything is allocated for its transactions.

use crate::codec::{self, CodecError};
use crate::genesis::Genesis;
use crate::id::{BlockId, NetworkId, TransactionId};
use crate::transaction::{SignedTransactionRef, Transaction, TransactionError};
use bytes::Bytes;
use core::fmt;
use serde::{Deserialize, Serialize};
use starling_crypto::{Digest, Domain, PublicKeyBytes, SecretKey, Signature, SignatureError, merkle};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of an encoded header without its signature.
pub const HEADER_BYTES: usize = 32 + 8 + 8 + 32 + 32 + 4 + 32;

/// Bytes of an encoded header with its signature.
pub const SIGNED_HEADER_BYTES: usize = HEADER_BYTES + Signature::LENGTH;

/// Bytes of an encoded block besides its transactions: the signed header, and their number.
pub const BLOCK_OVERHEAD_BYTES: usize = SIGNED_HEADER_BYTES + 8;

/// Why a block is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The bytes are no block.
    #[error("not a block: {0}")]
    Encoding(#[from] CodecError),
    /// Made for another network.
    #[error("the block is for network {found}, but this is network {expected}; start both nodes with the same genesis")]
    Network {
        /// The network that the header names.
        found: NetworkId,
        /// The network that it was given to.
        expected: NetworkId,
    },
    /// A slot or height that no block after the first can have.
    #[error(
        "height {height} in slot {slot} is impossible: heights begin at 1, and each block has a later slot than its parent"
    )]
    Position {
        /// The header's slot.
        slot: u64,
        /// The header's height.
        height: u64,
    },
    /// Made by somebody whose turn it is not.
    #[error(
        "slot {slot} belongs to producer {expected}, but {found} made the block; producers take turns in the genesis' order"
    )]
    OutOfTurn {
        /// The header's slot.
        slot: u64,
        /// The producer that the header names.
        found: PublicKeyBytes,
        /// The producer whose turn it is.
        expected: PublicKeyBytes,
    },
    /// More transactions than the genesis allows.
    #[error("the block has {found} transactions, but the genesis allows {max}")]
    TooManyTransactions {
        /// How many there are.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// More bytes than the genesis allows.
    #[error("the block has {found} bytes, but the genesis allows {max}; leave transactions to the next one")]
    TooLong {
        /// Bytes of its encoding.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The header does not give the number of transactions in the body.
    #[error("the header counts {header} transactions, but the body has {body}")]
    Count {
        /// According to the header.
        header: u32,
        /// In the body.
        body: usize,
    },
    /// The body is not the one that the header commits to.
    #[error("the header commits to transaction root {header}, but the body's is {body}")]
    Root {
        /// According to the header.
        header: Digest,
        /// Computed from the body.
        body: Digest,
    },
    /// The signature is not the producer's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Why a block's body is not acceptable. The producer is to blame, not whoever sent the block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A transaction is not valid on its own.
    #[error("transaction {index} of the block is not valid: {error}")]
    Transaction {
        /// Its place in the block, counted from 0.
        index: usize,
        /// What is wrong with it.
        error: TransactionError,
    },
    /// A transaction stands in the block twice.
    #[error("transactions {first} and {second} of the block are one, {id}")]
    Duplicate {
        /// Place of its first occurrence, counted from 0.
        first: usize,
        /// Place of its second occurrence.
        second: usize,
        /// Its id.
        id: TransactionId,
    },
}

/// What the producer signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The network it is for.
    pub network: NetworkId,
    /// The slot it was made in.
    pub slot: u64,
    /// How many blocks come before it.
    pub height: u64,
    /// The block that it follows.
    pub parent: BlockId,
    /// Merkle root over the transactions' leaves.
    pub transaction_root: Digest,
    /// How many transactions it has.
    pub transaction_count: u32,
    /// Who made it.
    pub producer: PublicKeyBytes,
}

impl Header {
    /// The id of the block with this header.
    #[must_use]
    pub fn id(&self) -> BlockId {
        BlockId(Domain::BlockId.digest(&codec::encode(self)))
    }

    /// Signs the header as it stands. The key should be the producer's: otherwise the signature is not valid.
    #[must_use]
    pub fn sign(self, key: &SecretKey) -> SignedHeader {
        SignedHeader { header: self, signature: key.sign(&signing_digest(&self.id())) }
    }

    /// Checks everything about a header that needs nothing but the genesis: network, position, number of transactions
    /// and whose turn it is.
    ///
    /// # Errors
    /// If one of them is wrong.
    pub fn check(&self, genesis: &Genesis) -> Result<(), BlockError> {
        let (found, expected) = (self.network, genesis.network_id());
        if found != expected {
            return Err(BlockError::Network { found, expected });
        }
        let (slot, height) = (self.slot, self.height);
        if height == 0 || height > slot {
            return Err(BlockError::Position { slot, height });
        }
        let (found, max) = (self.transaction_count as usize, genesis.limits().transactions_per_block_max as usize);
        if found > max {
            return Err(BlockError::TooManyTransactions { found, max });
        }
        let (found, expected) = (self.producer, genesis.producer_of(slot).to_bytes());
        if found != expected {
            return Err(BlockError::OutOfTurn { slot, found, expected });
        }
        Ok(())
    }
}

/// A header and its producer's signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedHeader {
    /// What was signed.
    pub header: Header,
    /// The producer's signature over the header.
    pub signature: Signature,
}

impl SignedHeader {
    /// The header of a block with this encoding, which stands first and has a fixed size. The rest is judged by its length
    /// alone; the rules of the header are checked, but for the signature.
    ///
    /// # Errors
    /// See [`BlockError`].
    pub fn of_block(encoded: &[u8], genesis: &Genesis) -> Result<Self, BlockError> {
        let (found, max) = (encoded.len(), genesis.limits().block_bytes_max as usize);
        if found > max {
            return Err(BlockError::TooLong { found, max });
        }
        let bytes = encoded.get(..SIGNED_HEADER_BYTES).ok_or(CodecError::Truncated)?;
        let header: Self = codec::decode_canonical(bytes, SIGNED_HEADER_BYTES)?;
        header.header.check(genesis)?;
        Ok(header)
    }

    /// Verifies that the producer of the header's slot signed it. Takes some tens of microseconds.
    ///
    /// # Errors
    /// If the header breaks a rule of [`Header::check`], or the signature is not the producer's.
    pub fn verify(&self, genesis: &Genesis) -> Result<(), BlockError> {
        self.header.check(genesis)?;
        // The genesis keeps its producers' keys decompressed, and the check has just shown that this is the one named.
        let producer = genesis.producer_of(self.header.slot);
        Ok(producer.verify(&signing_digest(&self.header.id()), &self.signature)?)
    }
}

/// The wire form, payloads borrowed from the bytes that it is read from.
#[derive(Serialize, Deserialize)]
struct BlockRef<'a> {
    header: SignedHeader,
    #[serde(borrow)]
    transactions: Vec<SignedTransactionRef<'a>>,
}

/// A block in memory: decoded, beside its encoding and its id. Cloning copies a pointer.
///
/// It obeys the genesis' limits, its producer is the one whose turn it is, and its transactions are those that the
/// header commits to. Signatures are verified by [`Block::verify_header_signature`] and [`Block::verify_bodies`].
#[derive(Clone)]
pub struct Block(Arc<Decoded>);

struct Decoded {
    id: BlockId,
    header: SignedHeader,
    transactions: Vec<Transaction>,
    encoded: Bytes,
}

impl Block {
    /// Decodes a block and checks all rules of the header but the signature. The transactions share the block's bytes.
    ///
    /// # Errors
    /// See [`BlockError`]; whoever sent the bytes is to blame for any of them.
    pub fn decode(bytes: impl Into<Bytes>, genesis: &Genesis) -> Result<Self, BlockError> {
        let encoded: Bytes = bytes.into();
        // Before anything is done about the body.
        SignedHeader::of_block(&encoded, genesis)?;
        let block: BlockRef<'_> = codec::decode_canonical(&encoded, genesis.limits().block_bytes_max as usize)?;
        let header = block.header.header;
        if header.transaction_count as usize != block.transactions.len() {
            let (header, body) = (header.transaction_count, block.transactions.len());
            return Err(BlockError::Count { header, body });
        }
        let mut offset = BLOCK_OVERHEAD_BYTES;
        let transactions: Vec<_> = block
            .transactions
            .iter()
            .map(|transaction| {
                let range = offset..offset + transaction.encoded_len();
                offset = range.end;
                Transaction::with_encoding(transaction, encoded.slice(range))
            })
            .collect();
        let (claimed, root) = (header.transaction_root, root_of(&transactions));
        if claimed != root {
            return Err(BlockError::Root { header: claimed, body: root });
        }
        let (id, header) = (header.id(), block.header);
        Ok(Self(Arc::new(Decoded { id, header, transactions, encoded })))
    }

    /// Makes a block.
    ///
    /// # Errors
    /// If it is not the key's turn, the position is impossible, or there are more transactions or bytes than the
    /// genesis allows. The transactions themselves are taken as they are.
    pub fn produce(
        genesis: &Genesis,
        key: &SecretKey,
        (slot, height, parent): (u64, u64, BlockId),
        transactions: Vec<Transaction>,
    ) -> Result<Self, BlockError> {
        let limits = genesis.limits();
        let (found, max) = (transactions.len(), limits.transactions_per_block_max as usize);
        let too_many = BlockError::TooManyTransactions { found, max };
        let header = Header {
            network: genesis.network_id(),
            slot,
            height,
            parent,
            transaction_root: root_of(&transactions),
            transaction_count: u32::try_from(found).map_err(|_beyond_any_limit| too_many)?,
            producer: key.public_key().to_bytes(),
        };
        header.check(genesis)?;
        let body: usize = transactions.iter().map(Transaction::encoded_len).sum();
        let (found, max) = (BLOCK_OVERHEAD_BYTES + body, limits.block_bytes_max as usize);
        if found > max {
            return Err(BlockError::TooLong { found, max });
        }
        Ok(Self::from_parts(header.sign(key), transactions))
    }

    /// The block with this header and these transactions, whether they belong together or not.
    #[must_use]
    pub fn from_parts(header: SignedHeader, transactions: Vec<Transaction>) -> Self {
        let mut encoded = codec::encode(&header);
        encoded.extend_from_slice(&(transactions.len() as u64).to_le_bytes());
        for transaction in &transactions {
            encoded.extend_from_slice(transaction.bytes());
        }
        Self(Arc::new(Decoded { id: header.header.id(), header, transactions, encoded: encoded.into() }))
    }

    /// Verifies that the producer signed the header. Takes some tens of microseconds.
    ///
    /// # Errors
    /// If not; whoever sent the block is to blame.
    pub fn verify_header_signature(&self, genesis: &Genesis) -> Result<(), BlockError> {
        self.0.header.verify(genesis)
    }

    /// Verifies that each transaction is valid on its own (network, payload, stamp, expiry, signature) and none stands
    /// twice. Takes some tens of microseconds for each transaction.
    ///
    /// # Errors
    /// For the first that is not; the producer is to blame.
    pub fn verify_bodies(&self, genesis: &Genesis) -> Result<(), BodyError> {
        self.check_bodies(genesis)?;
        for (index, transaction) in self.0.transactions.iter().enumerate() {
            transaction.verify_signature().map_err(|error| BodyError::Transaction { index, error })?;
        }
        Ok(())
    }

    /// The part of [`Block::verify_bodies`] that is cheap: everything but the signatures.
    ///
    /// # Errors
    /// For the first transaction that is not valid; the producer is to blame.
    pub fn check_bodies(&self, genesis: &Genesis) -> Result<(), BodyError> {
        let mut first_places = BTreeMap::new();
        for (second, transaction) in self.0.transactions.iter().enumerate() {
            let id = transaction.id();
            if let Some(first) = first_places.insert(id, second) {
                return Err(BodyError::Duplicate { first, second, id });
            }
        }
        for (index, transaction) in self.0.transactions.iter().enumerate() {
            transaction
                .check(genesis)
                .and_then(|()| transaction.check_expiry(self.header().slot, genesis))
                .map_err(|error| BodyError::Transaction { index, error })?;
        }
        Ok(())
    }

    /// Its name: a digest of the header, without the signature.
    #[must_use]
    pub fn id(&self) -> BlockId {
        self.0.id
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.0.header.header
    }

    /// The header and its signature.
    #[must_use]
    pub fn signed_header(&self) -> &SignedHeader {
        &self.0.header
    }

    /// The transactions, in their order.
    #[must_use]
    pub fn transactions(&self) -> &[Transaction] {
        &self.0.transactions
    }

    /// Its encoding.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0.encoded
    }

    /// Bytes of its encoding.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.0.encoded.len()
    }
}

impl PartialEq for Block {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.encoded == other.0.encoded
    }
}

impl Eq for Block {}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, header) = (self.id(), self.header());
        let (height, slot, count) = (header.height, header.slot, header.transaction_count);
        write!(f, "block {id:?} (height {height}, slot {slot}, {count} transactions)")
    }
}

/// The id of the block with this encoding, if it is one; [`Block::decode`] says whether it is.
#[must_use]
pub fn encoded_id(encoded: &[u8]) -> Option<BlockId> {
    Some(BlockId(Domain::BlockId.digest(encoded.get(..HEADER_BYTES)?)))
}

fn root_of(transactions: &[Transaction]) -> Digest {
    merkle::root(transactions.iter().map(Transaction::leaf))
}

fn signing_digest(id: &BlockId) -> Digest {
    Domain::BlockSigning.digest(id.as_bytes())
}
