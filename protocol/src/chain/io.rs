//! What goes into the chain and what comes out.

use crate::block::{Block, BodyError, SignedHeader};
use crate::genesis::Genesis;
use crate::id::{BlockId, PeerHandle};
use crate::request::{Head, Request, Response};
use crate::store::{Batch, LoadRequest};
use crate::sync;
use crate::time::{Duration, Time};
use bytes::Bytes;

/// Bounds and waiting times that a node chooses for itself; the rules of the network come from its genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many canonical blocks can be undone. A fork that began earlier is refused.
    pub undo_depth: usize,
    /// How many of these stay undoable even if the blocks in memory take more than [`Config::tree_bytes_max`].
    pub undo_depth_min: usize,
    /// The most blocks in the tree, the canonical ones that can be undone included.
    pub tree_blocks_max: usize,
    /// Bytes of blocks in the tree above which the undoable depth shrinks and side branches are dropped.
    pub tree_bytes_max: usize,
    /// The most blocks that wait for their parents.
    pub orphans_max: usize,
    /// The most bytes of blocks that wait for their parents.
    pub orphan_bytes_max: usize,
    /// The most of them that one peer may have sent.
    pub orphans_per_peer_max: usize,
    /// How many peers are asked for a missing parent before its descendants are dropped.
    pub parent_attempts_max: usize,
    /// A missing parent that is this many blocks away (in height, or in parents fetched one by one) is
    /// caught up with by forward sync.
    pub sync_gap: u64,
    /// How long a block whose header was accepted may take until its body is verified, before its children's sender is
    /// asked for it.
    pub verify_timeout: Duration,
    /// Waiting times of catching up; whoever is asked for a missing parent has as long to answer.
    pub sync: sync::Config,
    /// How many slots a block may be late to be relayed. Older ones are fetched, not relayed.
    pub relay_slots_max: u64,
    /// How many answers to peers may be on their way.
    pub served_max: usize,
    /// The most of them to one peer; more than an honest one waits for at once.
    pub served_per_peer_max: usize,
}

impl Default for Config {
    /// All figures are guesses but one: `undo_depth` covers a partition of ten minutes with slots of two seconds,
    /// in which each half makes 150 blocks.
    fn default() -> Self {
        Self {
            undo_depth: 256,
            undo_depth_min: 16,
            tree_blocks_max: 1_024,
            tree_bytes_max: 128 << 20,
            orphans_max: 64,
            orphan_bytes_max: 16 << 20,
            orphans_per_peer_max: 16,
            parent_attempts_max: 4,
            sync_gap: 4,
            verify_timeout: Duration::from_secs(5),
            sync: sync::Config::default(),
            relay_slots_max: 32,
            served_max: 64,
            served_per_peer_max: SERVED_PER_PEER_MAX,
        }
    }
}

/// How many requests of one peer are answered at once. An honest node asks for a status, headers, two runs of blocks and a
/// missing parent at once.
pub const SERVED_PER_PEER_MAX: usize = 6;

const _: () = assert!(sync::io::BLOCK_REQUESTS_PER_PEER_MAX + 3 < SERVED_PER_PEER_MAX, "honest peers are served");

/// How far a block's slot may be ahead of our clock: clocks synchronised over the internet agree within some tens of
/// milliseconds, and half a second is still short against a slot. A guess.
pub const CLOCK_ALLOWANCE: Duration = Duration::from_millis(500);

/// A moment, by both of the clocks that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic time, for waiting.
    pub now: Time,
    /// The current slot by wall time; 0 before the network starts.
    pub slot: u64,
    /// The slot a little later: blocks up to this one are not from the future.
    pub slot_ahead: u64,
}

impl Moment {
    /// The moment `now` which is `unix_us` microseconds since 1970, on a network that allows clocks to differ by
    /// `allowance`.
    #[must_use]
    pub fn new(now: Time, unix_us: u64, genesis: &Genesis, allowance: Duration) -> Self {
        let slot_at = |unix_us| genesis.slot_at(unix_us).unwrap_or(0);
        let ahead = unix_us.saturating_add(crate::time::micros(allowance));
        Self { now, slot: slot_at(unix_us), slot_ahead: slot_at(ahead) }
    }
}

/// Names a request that was sent; never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names a block that is being verified; never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifyTicket(pub u64);

/// Names a load from disk; never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoadTicket(pub u64);

/// Names a request that a peer waits to have answered; made by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResponseTicket(pub u64);

/// How the verification of a block's signatures and transactions ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// [`Block::verify_header_signature`] and [`Block::verify_bodies`] hold.
    Valid,
    /// The producer did not sign the header: whoever sent the block is to blame.
    HeaderInvalid,
    /// The producer signed for transactions that are not valid.
    BodyInvalid(BodyError),
    /// Not verified, because the node is overloaded.
    Shed,
}

/// Why a request got no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestFailure {
    /// The connection or stream failed, or the peer refused to answer.
    Failed,
    /// What came was no encoded response.
    Malformed,
}

/// What the mesh should do with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// Pass it on.
    Accept,
    /// Do not pass it on; its sender may be honest. Whatever this node knows and others may not know speaks against a block and never against who
    /// sent it: a producer could have honest nodes blame each other otherwise, by giving some of them what it keeps from the others.
    Ignore(IgnoreReason),
}

/// Why a block is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum IgnoreReason {
    /// Its slot has not begun.
    #[error("the block is for slot {slot}, which has not begun; the producer should set its clock")]
    Early {
        /// The block's slot.
        slot: u64,
    },
    /// Its slot is long past.
    #[error("the block is for slot {slot}, which is long past; nodes that lack it fetch it")]
    Late {
        /// The block's slot.
        slot: u64,
    },
    /// Its producer made two others for the slot already.
    #[error("the producer of slot {slot} has made two other blocks for it, which is evidence enough")]
    Third {
        /// The block's slot.
        slot: u64,
    },
    /// The same block is here with another signature of its producer, who is the only one that can make others.
    #[error("the block for slot {slot} is here with another signature of its producer")]
    SignedAgain {
        /// The block's slot.
        slot: u64,
    },
    /// It is invalid, or follows a block that is, for a reason that not everybody who passes it on can know.
    #[error("the block, or one before it, is known to be invalid")]
    Invalid,
}

/// Why a block cannot stand where it says that it does. Its producer is to blame, and no relay that lacks the parent can know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Copy, thiserror::Error)]
pub enum Misplaced {
    /// The height does not follow from the parent's.
    #[error("height {height} does not follow on the parent's, {parent}")]
    Height {
        /// The block's height.
        height: u64,
        /// The parent's height.
        parent: u64,
    },
    /// The slot is not after the parent's.
    #[error("slot {slot} is not after the parent's, {parent}")]
    Slot {
        /// The block's slot.
        slot: u64,
        /// The parent's slot.
        parent: u64,
    },
}

/// Why a block is invalid although its header was in order. Its producer is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A transaction is not valid on its own, or stands in the block twice.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A transaction's nonce is not its sender's next one.
    #[error(transparent)]
    Nonce(#[from] NonceError),
    /// Height or slot do not follow on the parent's.
    #[error(transparent)]
    Position(#[from] Misplaced),
    /// It follows an invalid block.
    #[error("it follows block {0}, which is invalid")]
    Ancestor(BlockId),
}

/// A transaction's nonce is not its sender's next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NonceError {
    /// The sender's next nonce is another one.
    #[error("transaction {index} of the block has nonce {found}, but its sender's next one is {expected}")]
    Unexpected {
        /// Its place in the block, counted from 0.
        index: usize,
        /// Its nonce.
        found: u64,
        /// The nonce that it should have.
        expected: u64,
    },
    /// The highest number is no nonce.
    #[error(
        "transaction {index} of the block has nonce 18446744073709551615, which is never valid, since none can follow it"
    )]
    Exhausted {
        /// Its place in the block, counted from 0.
        index: usize,
    },
}

/// How a peer failed us. Only what no honest peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum PeerFault {
    /// Bytes that are no response, or no block of this network.
    #[error("sent bytes that are no block of this network")]
    Malformed,
    /// Says that it is of another network.
    #[error("is of another network, although it speaks our protocol")]
    OtherNetwork,
    /// Not the block that was asked for.
    #[error("sent another block than the one that was asked for")]
    WrongBlock,
    /// A block whose body is not the one that its header commits to.
    #[error("sent a block with another body than its header commits to")]
    OtherBody,
    /// More headers or blocks than were asked for.
    #[error("sent more headers or blocks than were asked for")]
    TooMany,
    /// Headers that do not follow on each other, or on any block that we named.
    #[error("sent headers that do not follow on each other or on any block that we named")]
    Unconnected,
    /// A header that its producer did not sign.
    #[error("sent a header that its producer did not sign")]
    BadSignature,
    /// A canonical chain with an invalid block.
    #[error("has an invalid block in its chain")]
    InvalidChain,
    /// Says that its chain is longer than ours, but sends nothing of it, or does so again and again.
    #[error("says that its chain is longer, but sends nothing of it")]
    Useless,
}

/// An effect for the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Decode a block that was asked for and verify its header's signature and its transactions, off the event loop; answer
    /// with [`super::Chain::on_verified`]. Blocks may be verified in any order.
    Verify {
        /// To be given back.
        ticket: VerifyTicket,
        /// The block's encoding.
        encoded: Bytes,
        /// Its header, if that was verified: if the block's is the same, signature included, it need not be again.
        header: Option<SignedHeader>,
    },
    /// Verify the producers' signatures over headers, off the event loop; answer with
    /// [`super::Chain::on_headers_verified`].
    VerifyHeaders {
        /// To be given back.
        ticket: VerifyTicket,
        /// The headers, some tens.
        headers: Vec<SignedHeader>,
    },
    /// Send a request to a peer; answer with [`super::Chain::on_response`]. After a timeout of the chain's own, a late
    /// answer is ignored.
    Request {
        /// To be given back.
        request: RequestId,
        /// Whom to ask.
        peer: PeerHandle,
        /// What to ask.
        body: Request,
    },
    /// Answer a peer's request, or refuse to (close the stream without an answer).
    Respond {
        /// Which request.
        ticket: ResponseTicket,
        /// The answer.
        response: Option<Response>,
    },
    /// Load blocks from disk; answer with [`super::Chain::on_loaded`].
    Load {
        /// To be given back.
        ticket: LoadTicket,
        /// What to load.
        what: LoadRequest,
    },
    /// Apply to the store.
    Persist(Batch),
    /// The canonical chain has changed. The mempool is to follow ([`crate::mempool::Mempool::on_head_changed`]).
    HeadChanged {
        /// Blocks that are canonical no more, lowest first.
        undone: Vec<Block>,
        /// Blocks that have become canonical, lowest first.
        adopted: Vec<Block>,
    },
    /// The producer of a slot has signed twice for it, or a block for it is invalid: honest nodes may differ in what of it they pass on.
    Disputed {
        /// The slot.
        slot: u64,
    },
    /// A peer did what no honest peer does.
    PeerFault {
        /// Who.
        peer: PeerHandle,
        /// What.
        fault: PeerFault,
    },
    /// Something to be observed; nobody has to act on it.
    Event(Event),
}

/// An observation, for traces, metrics and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A producer signed two blocks for one slot. The two headers are proof of it.
    Equivocation {
        /// The header that was seen first, and the other one.
        headers: Box<[SignedHeader; 2]>,
    },
    /// A block turned out invalid; its descendants are invalid too.
    Invalid {
        /// Which block.
        block: BlockId,
        /// Its height.
        height: u64,
        /// Why.
        reason: Invalid,
    },
    /// A block belongs to a fork that began before the oldest block that can be undone. To follow that fork, the node
    /// has to start over with an empty data directory.
    DeepFork {
        /// The block.
        block: BlockId,
        /// Its height.
        height: u64,
        /// The height of the last block that cannot be undone.
        root_height: u64,
        /// Who sent it, if it came from a peer.
        from: Option<PeerHandle>,
    },
    /// A block waits for its parent.
    Orphaned {
        /// The block.
        block: BlockId,
        /// The parent that is missing.
        parent: BlockId,
    },
    /// Blocks were dropped because nobody had their missing ancestor, or there was no room.
    OrphansDropped {
        /// How many.
        count: usize,
    },
    /// All peers that claim to have the next block have pruned it: nobody can help us on.
    NobodyKeeps {
        /// Height of the block.
        height: u64,
        /// The lowest height that any of them keeps.
        earliest: u64,
        /// How many they are.
        peers: usize,
    },
    /// A peer's chain is followed, because it is longer than ours.
    SyncStarted {
        /// Who.
        peer: PeerHandle,
        /// Height of our head.
        height: u64,
    },
    /// The peer has nothing more for us, or failed.
    SyncEnded {
        /// Who.
        peer: PeerHandle,
        /// Height of our head.
        height: u64,
        /// Whether we have all that the peer has.
        complete: bool,
    },
}

/// Where a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its name.
    pub id: BlockId,
    /// How many blocks come before it.
    pub height: u64,
    /// The slot it was made in.
    pub slot: u64,
}

impl Position {
    /// The position of this block.
    #[must_use]
    pub fn of(block: &Block) -> Self {
        let header = block.header();
        Self { id: block.id(), height: header.height, slot: header.slot }
    }

    /// Where a chain with this last block ends.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { height: self.height, id: self.id, slot: self.slot }
    }
}

/// Where in the canonical chain a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The block.
    pub block: BlockId,
    /// The block's height.
    pub height: u64,
    /// Place in the block, counted from 0.
    pub position: u32,
}
