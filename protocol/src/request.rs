//! Requests for blocks and the answers to them: bodies of the request-response protocol.
//!
//! # Rules
//! - A request or response is the canonical encoding ([`crate::codec`]) of [`BlockRequest`] or [`BlockResponse`];
//!   anything else is the sender's fault.
//! - A response answers one request, and always says where the responder's head is, so that an empty one tells "I have
//!   no more than you" from "I have not got it".
//! - Whatever the request says, a response has at most [`BLOCKS_MAX`] blocks and [`RESPONSE_BLOCK_BYTES_MAX`] bytes of
//!   blocks, but it may always have one block.
//!
//! # Layout
//! `docs/PROTOCOL.md`, section 9.

use crate::codec::{self, CodecError};
use crate::genesis::{BLOCK_BYTES_MAX, Genesis};
use crate::id::BlockId;
use serde::{Deserialize, Serialize};

/// The most ids in a locator. With exponential spacing, 64 span more blocks than any chain will have.
pub const LOCATOR_IDS_MAX: usize = 64;
/// The most blocks in a response. A guess: some minutes' worth of blocks.
pub const BLOCKS_MAX: u16 = 128;
/// The most bytes of blocks in a response with more than one block. A guess: a second of a 16 Mbit/s line.
pub const RESPONSE_BLOCK_BYTES_MAX: u32 = 2 << 20;
/// The longest encoded request: the variant, the longest locator with its length, and the two limits.
pub const REQUEST_BYTES_MAX: usize = 4 + 8 + 32 * LOCATOR_IDS_MAX + 2 + 4;

const _: () =
    assert!(RESPONSE_BLOCK_BYTES_MAX <= BLOCK_BYTES_MAX, "the codec's limit is for one of the largest blocks");

/// Asks for blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockRequest {
    /// The block with this id, canonical or not. Answered with that block or none.
    ByHash(BlockId),
    /// The responder's canonical blocks that follow the first id in the locator which is canonical for it, in order.
    After {
        /// Ids of the asking node's chain, from its head downwards and ever further apart; the last one is where every
        /// chain of the network starts.
        locator: Vec<BlockId>,
        /// The most blocks wanted.
        blocks_max: u16,
        /// The most bytes of blocks wanted, though one block may exceed it.
        bytes_max: u32,
    },
}

/// Where a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Height of the last canonical block.
    pub height: u64,
    /// Its id.
    pub id: BlockId,
}

/// Answers a [`BlockRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockResponse {
    /// Where the responder's chain ends.
    pub head: Head,
    /// Encoded blocks ([`crate::block::Block::bytes`]).
    pub blocks: Vec<EncodedBlock>,
}

/// The bytes of a block, encoded as a byte string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodedBlock(#[serde(with = "codec::byte_string")] pub Vec<u8>);

/// Why bytes are not a request or response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not the encoding of one.
    #[error("not a block request or response: {0}")]
    Encoding(#[from] CodecError),
    /// The locator is longer than any honest one.
    #[error("a locator of {found} ids, but at most {LOCATOR_IDS_MAX} are allowed; space them exponentially")]
    LocatorTooLong {
        /// How many ids there are.
        found: usize,
    },
    /// More blocks than were asked for.
    #[error("a response with {found} blocks, but at most {max} are allowed")]
    TooManyBlocks {
        /// How many there are.
        found: usize,
        /// How many there may be.
        max: usize,
    },
}

impl BlockRequest {
    /// The encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes a request.
    ///
    /// # Errors
    /// If the bytes are too many, not the canonical encoding of a request, or the locator is too long.
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        let request: Self = codec::decode_canonical(bytes, REQUEST_BYTES_MAX)?;
        match &request {
            Self::After { locator, .. } if locator.len() > LOCATOR_IDS_MAX => {
                Err(RequestError::LocatorTooLong { found: locator.len() })
            }
            _ => Ok(request),
        }
    }
}

impl BlockResponse {
    /// The longest encoded response in the network of this genesis.
    #[must_use]
    pub fn bytes_max(genesis: &Genesis) -> usize {
        let blocks = RESPONSE_BLOCK_BYTES_MAX.max(genesis.limits().block_bytes_max);
        40 + 8 + 8 * usize::from(BLOCKS_MAX) + blocks as usize
    }

    /// The encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes a response. The blocks in it are not decoded.
    ///
    /// # Errors
    /// If the bytes are too many, not the canonical encoding of a response, or there are too many blocks.
    pub fn decode(bytes: &[u8], genesis: &Genesis) -> Result<Self, RequestError> {
        let response: Self = codec::decode_canonical(bytes, Self::bytes_max(genesis))?;
        let (found, max) = (response.blocks.len(), usize::from(BLOCKS_MAX));
        if found > max {
            return Err(RequestError::TooManyBlocks { found, max });
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_crypto::Digest;

    fn id(byte: u8) -> BlockId {
        BlockId(Digest([byte; 32]))
    }

    #[test]
    fn the_layout_is_pinned() {
        let by_hash = BlockRequest::ByHash(id(7)).encode();
        assert_eq!(by_hash, [&[0, 0, 0, 0][..], &[7; 32]].concat());
        let after = BlockRequest::After { locator: vec![id(1), id(2)], blocks_max: 0x0102, bytes_max: 0x0304_0506 };
        let expected = [&[1, 0, 0, 0][..], &[2, 0, 0, 0, 0, 0, 0, 0], &[1; 32], &[2; 32], &[2, 1, 6, 5, 4, 3]].concat();
        assert_eq!(after.encode(), expected);
        let response = BlockResponse { head: Head { height: 9, id: id(3) }, blocks: vec![EncodedBlock(vec![4, 5])] };
        let expected =
            [&[9, 0, 0, 0, 0, 0, 0, 0][..], &[3; 32], &[1, 0, 0, 0, 0, 0, 0, 0], &[2, 0, 0, 0, 0, 0, 0, 0, 4, 5]];
        assert_eq!(response.encode(), expected.concat());
    }

    #[test]
    fn what_is_encoded_decodes_and_what_is_not_is_refused() {
        let longest = vec![id(0); LOCATOR_IDS_MAX];
        let request = BlockRequest::After { locator: longest.clone(), blocks_max: BLOCKS_MAX, bytes_max: u32::MAX };
        let bytes = request.encode();
        assert_eq!(bytes.len(), REQUEST_BYTES_MAX);
        assert_eq!(BlockRequest::decode(&bytes), Ok(request));
        assert!(BlockRequest::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(BlockRequest::decode(&[&bytes[..], &[0]].concat()).is_err());
        assert!(BlockRequest::decode(&[2, 0, 0, 0]).is_err(), "there is no third kind");
        let longer = BlockRequest::After { locator: [longest, vec![id(1)]].concat(), blocks_max: 1, bytes_max: 1 };
        assert!(BlockRequest::decode(&longer.encode()).is_err());
    }
}
