//! Expensive computations, as jobs for a worker: verifying signatures, and searching for stamps.
//!
//! The machine decides *that* something has to be computed and what follows from the answer; a [`Job`] is what is in
//! between. It is a pure function of its content, so a driver may run it on any thread, and a simulator may run it
//! inline and charge virtual time for it. Each unique message is verified once: duplicates never get this far.
//!
//! No job takes longer than some milliseconds, so that none keeps a worker from more urgent ones for long; what takes
//! longer is cut into several.

use crate::block::{Block, BlockError, BodyError, SignedHeader};
use crate::genesis::Genesis;
use crate::transaction::{Transaction, find_stamp};
use bytes::Bytes;
use starling_crypto::Digest;

/// Signatures in one [`Job::Body`]: some two milliseconds of work.
pub const BODY_SIGNATURES_MAX: usize = 32;

/// Numbers tried by one [`Job::Stamp`]: some two milliseconds of work.
pub const STAMP_TRIES: u64 = 1 << 14;

/// Something to compute.
#[derive(Clone, Debug)]
pub enum Job {
    /// The signature of one transaction.
    Transaction(Transaction),
    /// The producer's signature over a block's header.
    Header(Block),
    /// The producers' signatures over headers, at most [`crate::sync::io::HEADERS_PER_JOB`].
    Headers(Vec<SignedHeader>),
    /// A block that the mesh brought: the producer's signature over its header, and only if that is valid, what
    /// [`Job::Block`] does. So nobody but a producer has others decode blocks.
    Relayed(Bytes),
    /// Decoding a block that was asked for, and checking all but its signatures: some 2 ms for 2,048 transactions.
    Block(Bytes),
    /// The signatures of at most [`BODY_SIGNATURES_MAX`] transactions of a block, each with its place in the block.
    Body(Vec<(usize, Transaction)>),
    /// A stamp for a transaction of our own, sought among [`STAMP_TRIES`] numbers from `first` on.
    Stamp {
        /// The digest of the transaction's body without its stamp.
        content: Digest,
        /// Bits of work that the stamp must show.
        bits: u32,
        /// The first number to try.
        first: u64,
    },
}

/// How soon a job should be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// A message waits to be forwarded.
    Relay,
    /// A block waits to be adopted, or a transaction of our own to be stamped, which delays nobody else.
    Adoption,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every signature is valid.
    Valid,
    /// A signature is not valid.
    Invalid {
        /// The first such transaction's place in its block; 0 when the job is not about a block's body.
        index: usize,
    },
    /// The answer to [`Job::Block`] and [`Job::Relayed`].
    Block(Box<Result<DecodedBlock, BlockError>>),
    /// The answer to [`Job::Stamp`]: the lowest stamp among the numbers tried, if there is one.
    Stamp(Option<u64>),
    /// The job was dropped unexamined, because the workers are overloaded.
    Shed,
}

/// A block that was decoded off the event loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedBlock {
    /// The block.
    pub block: Block,
    /// What [`Block::check_bodies`] says of it.
    pub body: Result<(), BodyError>,
}

impl DecodedBlock {
    fn of(encoded: &Bytes, genesis: &Genesis) -> Outcome {
        let decoded = Block::decode(encoded.clone(), genesis);
        Outcome::Block(Box::new(decoded.map(|block| Self { body: block.check_bodies(genesis), block })))
    }
}

impl Job {
    /// Does the work: one strict ed25519 verification (some 30 to 60 microseconds) for each signature, or one or two
    /// compressions of SHA-256 for each stamp tried.
    #[must_use]
    pub fn run(&self, genesis: &Genesis) -> Outcome {
        let invalid = match self {
            Self::Transaction(transaction) => transaction.verify_signature().err().map(|_| 0),
            Self::Header(block) => block.verify_header_signature(genesis).err().map(|_| 0),
            Self::Headers(headers) => headers.iter().find_map(|header| header.verify(genesis).err()).map(|_| 0),
            Self::Relayed(encoded) => {
                match SignedHeader::of_block(encoded, genesis).and_then(|header| header.verify(genesis)) {
                    Ok(()) => return DecodedBlock::of(encoded, genesis),
                    Err(_) => Some(0),
                }
            }
            Self::Block(encoded) => return DecodedBlock::of(encoded, genesis),
            Self::Body(transactions) => {
                let invalid = transactions.iter().find(|(_, transaction)| transaction.verify_signature().is_err());
                invalid.map(|(index, _)| *index)
            }
            Self::Stamp { content, bits, first } => {
                return Outcome::Stamp(find_stamp(content, *bits, *first..first.saturating_add(STAMP_TRIES)));
            }
        };
        invalid.map_or(Outcome::Valid, |index| Outcome::Invalid { index })
    }

    /// How soon it should be done.
    #[must_use]
    pub fn urgency(&self) -> Urgency {
        match self {
            Self::Transaction(_) | Self::Header(_) | Self::Relayed(_) => Urgency::Relay,
            Self::Headers(_) | Self::Block(_) | Self::Body(_) | Self::Stamp { .. } => Urgency::Adoption,
        }
    }
}
