//! How nodes answer requests that are not honest.

use crate::support::misplaced;
use bytes::Bytes;
use starling_crypto::Digest;
use starling_protocol::block::{HEADER_BYTES, SignedHeader};
use starling_protocol::chain::RequestFailure;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{BlockId, NetworkId};
use starling_protocol::request::{Answer, Head, Response, Status};
use starling_protocol::time::Duration;

/// As late as one dares: requests may take 5 s.
const LATE: Duration = Duration::from_millis(4_800);

/// A chain that is longer than any.
const LONG: u64 = 1 << 40;

/// How a node answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    /// Never answers.
    Silent,
    /// Closes the stream.
    Refuses,
    /// Answers with bytes that are no response.
    Garbage,
    /// Claims a long chain and sends nothing.
    Boasts,
    /// Says that its chain ends with a block that the fork choice would prefer, and never gives it.
    Pretends,
    /// Sends blocks in the wrong order.
    Shuffles,
    /// Sends blocks whose signatures were spoilt.
    Spoils,
    /// Spoils the first signature of each answer of headers.
    SpoilsFirst,
    /// Sends what nobody asked for.
    Unasked,
    /// Sends one block at a time, as late as it dares.
    Drips,
    /// Answers each request for headers with the first ones of the chain.
    Repeats,
    /// Claims a long chain, and answers each request for headers with the next one of the chain that the asker has, from the first on, before others would be asked.
    Rehearses,
    /// Says that it has too much to do.
    Busy,
    /// Claims a long chain, and denies it when it is asked for headers.
    Claims,
    /// Sends headers, and says that it has not got the blocks.
    Withholds,
    /// Sends blocks whose signatures were spoilt, but not headers.
    SpoilsSignatures,
    /// Sends blocks with other bodies.
    SpoilsBodies,
    /// Sends blocks in the wrong order, but not headers.
    Swaps,
    /// Sends more blocks than were asked for.
    Overflows,
    /// Says that it is of another network.
    Foreign,
    /// Takes nearly as long as it may for blocks.
    Slow,
    /// Takes long for headers.
    Far,
    /// Claims a long chain, and says as late as it dares that it has too much to do.
    BusyLate,
    /// Claims a long chain, and gives one header at a time as if there were no more, as late as it dares.
    Sips,
    /// Sends headers, and never answers when it is asked for blocks.
    Mute,
    /// Sends headers, and says late that it has too much to do when it is asked for blocks.
    Evades,
}

impl Manner {
    /// How long it takes for this answer, if that is not the usual time.
    pub(crate) fn takes(self, honest: &Answer) -> Option<Duration> {
        match (self, honest) {
            (Self::Drips, _) | (Self::Sips, Answer::Headers(_)) => Some(LATE),
            (Self::BusyLate, Answer::Headers(_) | Answer::Blocks(_) | Answer::Busy) => Some(LATE),
            (Self::Far, Answer::Headers(_)) => Some(Duration::from_secs(2)),
            (Self::Rehearses, Answer::Headers(_)) => Some(Duration::from_millis(400)),
            (Self::Slow, Answer::Blocks(_)) => Some(Duration::from_millis(4_000)),
            (Self::Evades, Answer::Blocks(_)) => Some(Duration::from_millis(1_400)),
            _ => None,
        }
    }

    /// What it says instead of an honest response, as the wire would have it; nothing if it never answers.
    pub(crate) fn says(self, honest: Response, genesis: &Genesis) -> Option<Result<Response, RequestFailure>> {
        match (self, &honest.answer) {
            (Self::Silent, _) | (Self::Mute, Answer::Blocks(_)) => return None,
            (Self::Refuses, _) => return Some(Err(RequestFailure::Failed)),
            (Self::Garbage, _) => return Some(Err(RequestFailure::Malformed)),
            _ => {}
        }
        let Response { mut status, answer } = honest;
        self.says_of_itself(&mut status, &answer);
        let answer = match (self, answer) {
            (Self::Busy, _) | (Self::Evades, Answer::Blocks(_)) => Answer::Busy,
            (Self::BusyLate, Answer::Headers(_) | Answer::Blocks(_)) => Answer::Busy,
            (_, Answer::Headers(headers)) => Answer::Headers(self.gives_headers(headers, genesis)),
            (_, Answer::Blocks(blocks)) => Answer::Blocks(self.gives_blocks(blocks, genesis)),
            (_, answer) => answer,
        };
        let bytes = Response { status, answer }.encode();
        Some(Response::decode(&bytes.into(), genesis).map_err(|_error| RequestFailure::Malformed))
    }

    /// What it says of its own chain beside this answer.
    fn says_of_itself(self, status: &mut Status, honest: &Answer) {
        match (self, honest) {
            (Self::Sips, Answer::Headers(headers)) => {
                status.head.height = headers.first().map_or(0, |only| only.header.height);
            }
            (Self::Claims, Answer::Headers(_)) => status.head.height = 0,
            (Self::Boasts | Self::BusyLate | Self::Sips | Self::Rehearses, _) | (Self::Claims, Answer::Status) => {
                status.head.height = LONG;
            }
            (Self::Pretends, _) => {
                status.head = Head { slot: 0, id: BlockId(Digest([0; 32])), ..status.head };
            }
            (Self::Foreign, _) => status.network = NetworkId(Digest([1; 32])),
            _ => {}
        }
    }

    fn gives_headers(self, mut headers: Vec<SignedHeader>, genesis: &Genesis) -> Vec<SignedHeader> {
        // A byte of a header's signature.
        let spoil = |header: &mut SignedHeader| header.signature.0[3] ^= 1;
        match self {
            Self::Boasts | Self::Pretends | Self::Claims => headers.clear(),
            Self::Shuffles => headers.reverse(),
            Self::Spoils => headers.iter_mut().for_each(spoil),
            Self::SpoilsFirst => headers.iter_mut().take(1).for_each(spoil),
            Self::Unasked => return vec![*misplaced(genesis, BlockId(Digest([9; 32])), 7, 3).signed_header()],
            Self::Drips | Self::Sips => headers.truncate(1),
            _ => {}
        }
        headers
    }

    fn gives_blocks(self, mut blocks: Vec<Bytes>, genesis: &Genesis) -> Vec<Bytes> {
        match self {
            Self::Boasts => blocks.clear(),
            Self::Withholds => blocks.fill(Bytes::new()),
            Self::Shuffles | Self::Swaps => blocks.reverse(),
            Self::Spoils | Self::SpoilsSignatures => {
                blocks.iter_mut().for_each(|block| *block = spoilt(block, HEADER_BYTES + 3));
            }
            // The last byte of a block, which is in its body.
            Self::SpoilsBodies => {
                blocks.iter_mut().for_each(|block| *block = spoilt(block, block.len().saturating_sub(1)));
            }
            Self::Unasked => return vec![misplaced(genesis, genesis.block_id(), 5, 2).bytes().clone()],
            Self::Overflows => blocks.extend(blocks.clone()),
            Self::Drips => blocks.truncate(1),
            _ => {}
        }
        blocks
    }
}

fn spoilt(block: &Bytes, at: usize) -> Bytes {
    let mut bytes = block.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    bytes.into()
}
