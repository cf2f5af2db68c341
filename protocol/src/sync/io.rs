//! What the machine of catching up is told, what it asks for, and its bounds.

use crate::block::{Block, BodyError, SignedHeader};
use crate::chain::{Event, PeerFault, Position, RequestId, VerifyTicket};
use crate::genesis::Genesis;
use crate::id::{BlockId, PeerHandle};
use crate::request::{Request, Status};
use crate::time::Duration;
use bytes::Bytes;

/// Headers that are verified and whose blocks are not placed, at most: half a megabyte. A guess.
pub const HEADERS_AHEAD_MAX: usize = 2_048;
/// How far beyond the first block that is missing others are asked for, in blocks. A guess: a second or two of work.
pub const WINDOW_BLOCKS_MAX: usize = 512;
/// Bytes of blocks that have come and are not placed, or that a request under way may bring, at most; beyond that only
/// the block that all others wait for is asked for, of two peers at most.
pub const WINDOW_BYTES_MAX: usize = 32 << 20;
/// Requests for blocks under way at once, beside as many that are late and whose blocks are asked of others. With responses of 2 MiB, all of
/// [`WINDOW_BYTES_MAX`] together.
pub const BLOCK_REQUESTS_MAX: usize = 8;
/// Requests for blocks under way to one peer; fewer than a peer refuses ([`crate::chain::SERVED_PER_PEER_MAX`]).
pub const BLOCK_REQUESTS_PER_PEER_MAX: usize = 2;
/// The most blocks in one request.
pub const CHUNK_BLOCKS_MAX: usize = 64;
/// Bytes of blocks in the first request to a peer, whose pace is not known yet.
pub const CHUNK_BYTES_FIRST: usize = 256 << 10;
/// The fewest bytes of blocks in a request, unless it is for one block. A peer that does not give as many within
/// [`Config::request_timeout`] is of no use: that is some 13 kB a second.
pub const CHUNK_BYTES_MIN: usize = 64 << 10;
/// Blocks in verification at once.
pub const VERIFYING_BLOCKS_MAX: usize = 64;
/// Transactions of blocks in verification at once, though there may always be one block. Their jobs fit into the workers'
/// queue.
pub const VERIFYING_TRANSACTIONS_MAX: usize = 8_192;
/// The most blocks that are placed, and stored, in one go.
pub const PLACED_AT_ONCE_MAX: usize = 64;
/// Signatures of headers in one job: some two milliseconds of work.
pub const HEADERS_PER_JOB: usize = 32;
/// Of how many peers headers are asked for at once, while none have come: half a megabyte of answers. A guess.
pub const HEADERS_ASKED_MAX: usize = 4;
/// How often a peer may lead nowhere before its claims say nothing any more beside those of others.
pub const LED_NOWHERE_MAX: u32 = 3;
/// How often a peer may fail to give what it says it has before it is at fault.
pub const STRIKES_MAX: u32 = 4;
/// How often the rest of a peer that goes on failing doubles.
pub const REST_DOUBLINGS_MAX: u32 = 3;

/// Waiting times. All are guesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a peer has to answer.
    pub request_timeout: Duration,
    /// After this long what a peer was asked for is asked of another one that can take it, and the slow one rests. An
    /// answer within this time also sets the pace: the next request is larger, and smaller after a later one.
    pub slow_after: Duration,
    /// After this long another peer is asked for headers, too, while none have come.
    pub headers_slow_after: Duration,
    /// After this long without a new head a peer is asked how it stands.
    pub stall_after: Duration,
    /// How long a peer rests that failed, the first time.
    pub rest_first: Duration,
    /// How long a peer that has too much to do rests, and our own workers, when they have.
    pub busy_pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(5),
            slow_after: Duration::from_millis(1_500),
            headers_slow_after: Duration::from_millis(500),
            stall_after: Duration::from_secs(10),
            rest_first: Duration::from_secs(1),
            busy_pause: Duration::from_millis(250),
        }
    }
}

/// What the machine reads of the chain.
pub trait Local {
    /// The network.
    fn genesis(&self) -> &Genesis;
    /// The waiting times.
    fn config(&self) -> &Config;
    /// How we stand, as others are told.
    fn status(&self) -> Status;
    /// The last canonical block.
    fn head(&self) -> Position;
    /// The last canonical block that cannot be undone.
    fn root(&self) -> Position;
    /// Where a block that is in its place above the root, or the root, stands.
    fn position(&self, id: &BlockId) -> Option<Position>;
    /// Whether the block is known to be invalid.
    fn is_invalid(&self, id: &BlockId) -> bool;
    /// Ids of the canonical chain: the last ones, then ever further apart down to the root, and the first block.
    fn locator(&self) -> Vec<BlockId>;
    /// Whether the disk has fallen behind so far that no more should be placed for now.
    fn disk_lags(&self) -> bool;
}

/// An effect for whoever owns the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a request; answer with [`super::Sync::on_response`].
    Request {
        /// To be given back.
        request: RequestId,
        /// Whom to ask.
        peer: PeerHandle,
        /// What.
        body: Request,
    },
    /// Verify the signatures; answer with [`super::Sync::on_headers_verified`].
    VerifyHeaders {
        /// To be given back.
        ticket: VerifyTicket,
        /// At most [`HEADERS_PER_JOB`] headers.
        headers: Vec<SignedHeader>,
    },
    /// Decode a block and verify what is in it; answer with [`super::Sync::on_block_verified`].
    VerifyBlock {
        /// To be given back.
        ticket: VerifyTicket,
        /// Its encoding; the header's digest is right.
        encoded: Bytes,
        /// Its header, whose signature was verified.
        header: SignedHeader,
    },
    /// Put these verified blocks, which follow on each other, into their places; answer with
    /// [`super::Sync::on_placed`].
    Place {
        /// The blocks.
        blocks: Vec<Block>,
        /// In whose chain they are.
        peer: PeerHandle,
    },
    /// A block's body is invalid, whoever sent it.
    Invalid {
        /// The block.
        position: Position,
        /// What is wrong with it.
        error: BodyError,
    },
    /// A peer did what no honest peer does.
    PeerFault {
        /// Who.
        peer: PeerHandle,
        /// What.
        fault: PeerFault,
    },
    /// Nothing is being caught up with any more.
    Ended {
        /// Whose chain was followed.
        peer: PeerHandle,
        /// Whether [`Event::SyncStarted`] was emitted.
        started: bool,
        /// Whether we have all that the peer has.
        complete: bool,
    },
    /// Something to be observed.
    Event(Event),
}

/// What came of decoding and verifying a block that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The bytes are no block of this network.
    Malformed,
    /// The header is in order, but the body is not the one that it commits to.
    OtherBody,
    /// Nothing was done, because the node is overloaded.
    Shed,
    /// It was decoded and verified.
    Block(Block, crate::chain::Verified),
}

/// What is being done about being behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SyncState {
    /// Nothing: no peer is known to be ahead.
    #[default]
    Idle,
    /// The headers of what is missing are being fetched.
    Headers,
    /// Blocks are being fetched.
    Blocks,
}

impl SyncState {
    /// The name in metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Headers => "headers",
            Self::Blocks => "blocks",
        }
    }
}

/// How far catching up has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SyncProgress {
    /// What is being done.
    pub state: SyncState,
    /// Whose chain is being followed, if any.
    pub peer: Option<PeerHandle>,
    /// Height of our head when it began; the present one when nothing is being done.
    pub from: u64,
    /// Height of our head.
    pub height: u64,
    /// The greatest height that a connected peer claims whose claims are believed, but at least ours.
    pub target: u64,
    /// No connected peer has told how it stands so far, and one may still do so: whether we are behind is not known.
    pub unheard: bool,
    /// Nobody is followed, because those that are ahead are given a rest.
    pub waiting: bool,
    /// Blocks placed in a second, lately; 0 when nothing is being done.
    pub blocks_per_second: f64,
    /// How long the rest takes at this rate, if that can be said.
    pub remaining: Option<Duration>,
    /// Peers that something is asked of at the moment.
    pub peers: usize,
    /// Requests under way.
    pub requests: usize,
    /// Verified headers whose blocks are not placed.
    pub headers_ahead: usize,
    /// Bytes of blocks that have come and are not placed.
    pub held_bytes: usize,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCounters {
    /// Requests that we sent.
    pub sent: u64,
    /// Of those, requests that failed or were not answered in time.
    pub failed: u64,
    /// Of those, requests that the peer had no time for.
    pub refused: u64,
    /// Blocks whose request was given to another peer because the first was slow.
    pub reassigned: u64,
}
