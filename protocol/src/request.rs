//! Requests about the chain and the answers to them: bodies of the request-response protocol.
//!
//! # Rules
//! - A request is one [`Request`], a response one [`Response`], in exactly one encoding; anything else is the sender's
//!   fault.
//! - A response answers one request. It always says where the responder's chain ends and from which height on it keeps
//!   blocks ([`Status`]), so that nobody has to be asked for what it does not have.
//! - An answer may be partial, and says so: [`Answer::Blocks`] has a place for each block asked for, empty if the responder
//!   has not got it; if it has fewer places, the rest did not fit. [`Answer::Headers`] has fewer headers than asked
//!   for only where the chain ends.
//! - A responder that has too much to do says [`Answer::Busy`], at once. Nothing is queued.
//! - Whatever a request says, a response has at most [`HEADERS_MAX`] headers, or [`BLOCKS_MAX`] blocks of
//!   [`RESPONSE_BLOCK_BYTES_MAX`] bytes, though it may always have one block.
//!
//! # Cost
//! Decoding a request or the headers of a response costs some microseconds, because both are short. The blocks in a
//! response share its bytes and are not looked into, so that a response of megabytes costs no more: what is inside is decoded
//! by a worker ([`crate::verify::Job::Block`]).
//!
//! # Layout
//! `docs/PROTOCOL.md`, section 9; `docs/adr/0009-catching-up.md` says why it is as it is.

use crate::block::{SIGNED_HEADER_BYTES, SignedHeader};
use crate::codec::{self, CodecError};
use crate::genesis::{BLOCK_BYTES_MAX, Genesis};
use crate::id::{BlockId, NetworkId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The most ids in a locator. With exponential spacing, 64 span more blocks than any chain will have.
pub const LOCATOR_IDS_MAX: usize = 64;
/// The most headers in a response, which are then some 100 KiB. A guess.
pub const HEADERS_MAX: u16 = 512;
/// The most blocks in a response. A guess: some minutes' worth of blocks.
pub const BLOCKS_MAX: u16 = 128;
/// The most bytes of blocks in a response with more than one block. A guess: a second of a 16 Mbit/s line.
pub const RESPONSE_BLOCK_BYTES_MAX: u32 = 2 << 20;
/// The longest encoded request: the variant, a list's length, and the most ids.
pub const REQUEST_BYTES_MAX: usize = 4 + 8 + 32 * BLOCKS_MAX as usize;
/// Bytes of an encoded [`Status`].
pub const STATUS_BYTES: usize = 32 + 8 + 32 + 8 + 8;

/// Status, variant and length of a list.
const RESPONSE_OVERHEAD_BYTES: usize = STATUS_BYTES + 4 + 8;

const _: () =
    assert!(RESPONSE_BLOCK_BYTES_MAX <= BLOCK_BYTES_MAX, "the codec's limit is for one of the largest blocks");
const _: () = assert!(LOCATOR_IDS_MAX < BLOCKS_MAX as usize, "a locator with its limit fits into a request");
const _: () = assert!(
    HEADERS_MAX as usize * SIGNED_HEADER_BYTES <= RESPONSE_BLOCK_BYTES_MAX as usize,
    "a response with the most headers is no longer than one with the most blocks"
);

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its network.
    pub network: NetworkId,
    /// Where its canonical chain ends.
    pub head: Head,
    /// The lowest height from which on it keeps all its canonical blocks. 1 means all of them; what is lower than the
    /// head's height plus one was pruned.
    pub earliest: u64,
}

/// Where a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Height of the last canonical block.
    pub height: u64,
    /// Its id.
    pub id: BlockId,
    /// Its slot.
    pub slot: u64,
}

/// Asks about the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Tells how the asking node stands, and asks how the other one does.
    Status(Status),
    /// The headers of the responder's canonical blocks that follow the first id in the locator which is canonical for
    /// it, in order.
    Headers {
        /// Ids of the asking node's chain, from its head downwards and ever further apart; the last one is where every
        /// chain of the network starts.
        locator: Vec<BlockId>,
        /// The most headers wanted.
        headers_max: u16,
    },
    /// The blocks with these ids, canonical or not.
    Blocks(Vec<BlockId>),
}

/// Answers a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// How the responder stands.
    pub status: Status,
    /// What was asked for.
    pub answer: Answer,
}

/// What a response has beside the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: the status was all that was asked for.
    Status,
    /// Headers that follow on each other, the first one on the locator.
    Headers(Vec<SignedHeader>),
    /// Encoded blocks ([`crate::block::Block::bytes`]) in the order of the request; an empty one is a block that the
    /// responder has not got. Those that are missing at the end did not fit.
    Blocks(Vec<Bytes>),
    /// The responder has too much to do; it may be asked again later.
    Busy,
}

/// Why bytes are not a request or response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not the encoding of one.
    #[error("not a request or response: {0}")]
    Encoding(#[from] CodecError),
    /// The locator is longer than any honest one.
    #[error("a locator of {found} ids, but at most {LOCATOR_IDS_MAX} are allowed; space them exponentially")]
    LocatorTooLong {
        /// How many ids there are.
        found: usize,
    },
    /// There is no such alternative.
    #[error("a response of kind {found}, but there are only kinds 0 to 3")]
    UnknownKind {
        /// Its number.
        found: u32,
    },
    /// More than can be asked for.
    #[error("{found} entries, but at most {max} are allowed")]
    TooMany {
        /// How many there are.
        found: u64,
        /// How many there may be.
        max: u16,
    },
}

impl Request {
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
            Self::Headers { locator, .. } if locator.len() > LOCATOR_IDS_MAX => {
                Err(RequestError::LocatorTooLong { found: locator.len() })
            }
            _ => Ok(request),
        }
    }
}

impl Response {
    /// The longest encoded response in the network of this genesis.
    #[must_use]
    pub fn bytes_max(genesis: &Genesis) -> usize {
        let blocks = RESPONSE_BLOCK_BYTES_MAX.max(genesis.limits().block_bytes_max);
        RESPONSE_OVERHEAD_BYTES + 8 * usize::from(BLOCKS_MAX) + blocks as usize
    }

    /// The encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body = match &self.answer {
            Answer::Blocks(blocks) => blocks.iter().map(|block| 8 + block.len()).sum(),
            Answer::Headers(headers) => headers.len() * SIGNED_HEADER_BYTES,
            Answer::Status | Answer::Busy => 0,
        };
        let mut bytes = Vec::with_capacity(RESPONSE_OVERHEAD_BYTES + body);
        bytes.extend(codec::encode(&self.status));
        bytes.extend(self.answer.kind().to_le_bytes());
        match &self.answer {
            Answer::Status | Answer::Busy => {}
            Answer::Headers(headers) => {
                bytes.extend((headers.len() as u64).to_le_bytes());
                headers.iter().for_each(|header| bytes.extend(codec::encode(header)));
            }
            Answer::Blocks(blocks) => {
                bytes.extend((blocks.len() as u64).to_le_bytes());
                for block in blocks {
                    bytes.extend((block.len() as u64).to_le_bytes());
                    bytes.extend_from_slice(block);
                }
            }
        }
        bytes
    }

    /// Decodes a response. The blocks in it share its bytes and are not decoded.
    ///
    /// # Errors
    /// If the bytes are too many, not the encoding of a response, or there are too many headers or blocks.
    pub fn decode(bytes: &Bytes, genesis: &Genesis) -> Result<Self, RequestError> {
        let max = Self::bytes_max(genesis);
        if bytes.len() > max {
            return Err(CodecError::TooLong { found: bytes.len(), max }.into());
        }
        let mut rest = bytes.clone();
        let status = codec::decode_canonical(&take(&mut rest, STATUS_BYTES)?, STATUS_BYTES)?;
        let answer = match number(&mut rest, 4)? {
            0 => Answer::Status,
            1 => {
                let count = count(&mut rest, HEADERS_MAX)?;
                let header = |_| {
                    let header = take(&mut rest, SIGNED_HEADER_BYTES)?;
                    Ok(codec::decode_canonical(&header, SIGNED_HEADER_BYTES)?)
                };
                Answer::Headers((0..count).map(header).collect::<Result<_, RequestError>>()?)
            }
            2 => {
                let count = count(&mut rest, BLOCKS_MAX)?;
                let block = |_| {
                    let length = number(&mut rest, 8)?;
                    take(&mut rest, usize::try_from(length).unwrap_or(usize::MAX))
                };
                Answer::Blocks((0..count).map(block).collect::<Result<_, RequestError>>()?)
            }
            3 => Answer::Busy,
            found => return Err(RequestError::UnknownKind { found: u32::try_from(found).unwrap_or(u32::MAX) }),
        };
        if rest.is_empty() { Ok(Self { status, answer }) } else { Err(CodecError::TrailingBytes.into()) }
    }
}

impl Answer {
    fn kind(&self) -> u32 {
        match self {
            Self::Status => 0,
            Self::Headers(_) => 1,
            Self::Blocks(_) => 2,
            Self::Busy => 3,
        }
    }
}

/// Splits off so many bytes, without copying them.
fn take(rest: &mut Bytes, count: usize) -> Result<Bytes, RequestError> {
    if count > rest.len() {
        return Err(CodecError::Truncated.into());
    }
    Ok(rest.split_to(count))
}

/// An integer of up to eight bytes.
fn number(rest: &mut Bytes, bytes: usize) -> Result<u64, RequestError> {
    let mut number = [0; 8];
    number[..bytes].copy_from_slice(&take(rest, bytes)?);
    Ok(u64::from_le_bytes(number))
}

/// The length of a list.
fn count(rest: &mut Bytes, max: u16) -> Result<u64, RequestError> {
    let found = number(rest, 8)?;
    if found > u64::from(max) { Err(RequestError::TooMany { found, max }) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Header;
    use starling_crypto::{Digest, PublicKeyBytes, Signature};

    fn id(byte: u8) -> BlockId {
        BlockId(Digest([byte; 32]))
    }

    fn genesis() -> Genesis {
        let key = starling_crypto::SecretKey::from_seed(&[1; 32]).public_key();
        Genesis::from_toml(&format!(
            "name = \"request\"\nstart_time = 2026-01-01T00:00:00Z\nslot_ms = 1000\nstamp_bits = 0\nproducers = [\"{key}\"]\n\n\
             [limits]\npayload_bytes_max = 100\ntransactions_per_block_max = 10\nblock_bytes_max = 4096\n\
             expiry_slots_max = 9\nnonce_window = 9\n"
        ))
        .expect("a valid genesis")
    }

    fn status() -> Status {
        Status { network: NetworkId(Digest([6; 32])), head: Head { height: 9, id: id(3), slot: 10 }, earliest: 1 }
    }

    fn status_bytes() -> Vec<u8> {
        let numbers = |number: u8| [number, 0, 0, 0, 0, 0, 0, 0];
        [&[6; 32][..], &numbers(9), &[3; 32], &numbers(10), &numbers(1)].concat()
    }

    fn header() -> SignedHeader {
        let header = Header {
            network: NetworkId(Digest([1; 32])),
            slot: 2,
            height: 3,
            parent: id(4),
            transaction_root: Digest([5; 32]),
            transaction_count: 6,
            producer: PublicKeyBytes([7; 32]),
        };
        SignedHeader { header, signature: Signature([8; 64]) }
    }

    #[test]
    fn the_layout_is_pinned() {
        assert_eq!(Request::Status(status()).encode(), [&[0, 0, 0, 0][..], &status_bytes()].concat());
        let headers = Request::Headers { locator: vec![id(1), id(2)], headers_max: 0x0102 };
        let expected = [&[1, 0, 0, 0][..], &[2, 0, 0, 0, 0, 0, 0, 0], &[1; 32], &[2; 32], &[2, 1]].concat();
        assert_eq!(headers.encode(), expected);
        let blocks = Request::Blocks(vec![id(7)]).encode();
        assert_eq!(blocks, [&[2, 0, 0, 0][..], &[1, 0, 0, 0, 0, 0, 0, 0], &[7; 32]].concat());

        let encode = |answer| Response { status: status(), answer }.encode();
        let with = |body: &[u8]| [&status_bytes()[..], body].concat();
        assert_eq!(encode(Answer::Status), with(&[0, 0, 0, 0]));
        assert_eq!(encode(Answer::Busy), with(&[3, 0, 0, 0]));
        let one = [&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0][..], &codec::encode(&header())].concat();
        assert_eq!(encode(Answer::Headers(vec![header()])), with(&one));
        let two = [&[2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0][..], &[2, 0, 0, 0, 0, 0, 0, 0, 4, 5], &[0; 8]].concat();
        assert_eq!(encode(Answer::Blocks(vec![vec![4, 5].into(), Bytes::new()])), with(&two));
    }

    #[test]
    fn what_is_encoded_decodes_and_what_is_not_is_refused() {
        let request = Request::Blocks(vec![id(0); usize::from(BLOCKS_MAX)]);
        let bytes = request.encode();
        assert_eq!(bytes.len(), REQUEST_BYTES_MAX);
        assert_eq!(Request::decode(&bytes), Ok(request));
        assert!(Request::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(Request::decode(&[&bytes[..], &[0]].concat()).is_err());
        assert!(Request::decode(&[3, 0, 0, 0]).is_err(), "there is no fourth kind");
        let longest = Request::Headers { locator: vec![id(0); LOCATOR_IDS_MAX], headers_max: u16::MAX };
        assert_eq!(Request::decode(&longest.encode()), Ok(longest));
        let longer = Request::Headers { locator: vec![id(0); LOCATOR_IDS_MAX + 1], headers_max: 1 };
        assert_eq!(Request::decode(&longer.encode()), Err(RequestError::LocatorTooLong { found: 65 }));

        let genesis = genesis();
        let blocks = Answer::Blocks(vec![vec![4, 5].into(), Bytes::new()]);
        for answer in [Answer::Status, Answer::Busy, Answer::Headers(vec![header(); 3]), blocks] {
            let response = Response { status: status(), answer };
            let bytes = Bytes::from(response.encode());
            assert_eq!(Response::decode(&bytes, &genesis), Ok(response));
            for end in 0..bytes.len() {
                assert!(Response::decode(&bytes.slice(..end), &genesis).is_err(), "cut at {end}");
            }
            assert!(Response::decode(&[&bytes[..], &[0]].concat().into(), &genesis).is_err());
        }
    }

    #[test]
    fn no_number_in_a_response_makes_us_allocate() {
        let genesis = genesis();
        let response = |kind: u8, body: &[u8]| {
            let bytes = [&status_bytes()[..], &[kind, 0, 0, 0], body].concat();
            Response::decode(&bytes.into(), &genesis)
        };
        let many = |found, max| Err(RequestError::TooMany { found, max });
        assert_eq!(response(1, &[0xff; 8]), many(u64::MAX, HEADERS_MAX));
        assert_eq!(response(2, &129_u64.to_le_bytes()), many(129, BLOCKS_MAX));
        assert_eq!(response(2, &[&1_u64.to_le_bytes()[..], &[0xff; 8]].concat()), Err(CodecError::Truncated.into()));
        assert_eq!(response(4, &[]), Err(RequestError::UnknownKind { found: 4 }));
        let long = vec![0; Response::bytes_max(&genesis) + 1].into();
        assert!(matches!(Response::decode(&long, &genesis), Err(RequestError::Encoding(CodecError::TooLong { .. }))));
    }
}
