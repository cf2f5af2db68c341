//! What goes into the node machine and what comes out.
//!
//! These two enums are the whole boundary between deciding and doing. A driver (the real node's event loop, a
//! simulator, a fuzzer) turns what happens into [`Input`]s and carries out [`Output`]s; it decides nothing itself.

use crate::chain;
use crate::id::{BlockId, Direction, MessageId, PeerHandle, PeerId, TransactionId, Version};
use crate::mempool::{MempoolError, Settled};
use crate::mesh;
use crate::peers::{Address, DialPurpose, Source, Standing};
use crate::rpc::{ExchangedPeer, Frame, Rpc};
use crate::store::{Batch, LoadRequest};
use crate::time::{Duration, Time};
use crate::transaction::TransactionError;
use crate::verify::{Job, Outcome};
use bytes::Bytes;
use core::fmt;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Names something that the driver will answer, or that the node will answer to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A peer's gossipsub stream is up.
    Connected {
        /// The handle by which the peer is called until `Disconnected`.
        peer: PeerHandle,
        /// Who it is.
        id: PeerId,
        /// The remote address, for colocation rules.
        ip: IpAddr,
        /// Who dialled.
        direction: Direction,
        /// The negotiated gossipsub.
        version: Version,
    },
    /// The peer's mesh goes over another connection now, which somebody else dialled.
    Turned {
        /// Who.
        peer: PeerHandle,
        /// Who dialled.
        direction: Direction,
    },
    /// The peer is gone.
    Disconnected {
        /// Who.
        peer: PeerHandle,
    },
    /// A mesh RPC was decoded.
    Rpc {
        /// From whom.
        peer: PeerHandle,
        /// The content.
        rpc: &'a Rpc,
        /// When it was decoded.
        received: Time,
    },
    /// Frames were dropped because the peer's send queue was full.
    SendQueueFull {
        /// Whose.
        peer: PeerHandle,
        /// How many.
        dropped: u32,
    },
    /// A fault of the peer that the driver saw: undecodable frames, wire limits exceeded.
    Misbehaved {
        /// Who.
        peer: PeerHandle,
        /// How many behaviour penalties it costs.
        penalties: u32,
    },
    /// A round-trip time was measured.
    Rtt {
        /// To whom.
        peer: PeerHandle,
        /// How long.
        rtt: Duration,
    },
    /// The peer's own signed record, verified by the driver.
    PeerRecord {
        /// Whose.
        peer: PeerHandle,
        /// The signed envelope.
        signed_record: Bytes,
    },
    /// Addresses of a peer, proven or claimed.
    Discovered {
        /// Whose.
        id: PeerId,
        /// Binary multiaddrs.
        addresses: &'a [Address],
        /// How much the peer is worth remembering.
        standing: Standing,
        /// Who says so.
        source: Source,
    },
    /// A dial that the node asked for reached the peer: the handshake has shown that it is the one, and of this network.
    Reached {
        /// Whom.
        id: PeerId,
        /// At which binary multiaddr.
        address: Address,
    },
    /// A dial did not lead to a connection.
    DialFailed {
        /// Whom.
        id: PeerId,
    },
    /// A signed transaction was submitted locally; answered by [`Output::SubmitResult`].
    Submit {
        /// Given back with the result.
        ticket: Ticket,
        /// The encoded transaction.
        bytes: &'a [u8],
    },
    /// A payload was submitted locally, to be signed with the node's own account key; answered likewise.
    SubmitPayload {
        /// Given back with the result.
        ticket: Ticket,
        /// The payload.
        payload: &'a [u8],
    },
    /// The answer to [`Output::Verify`].
    Verified {
        /// Which job.
        ticket: Ticket,
        /// What came of it.
        outcome: Outcome,
    },
    /// A peer asks about the chain; answered by [`Output::Respond`].
    Request {
        /// Given back with the response.
        ticket: Ticket,
        /// Who asks.
        peer: PeerHandle,
        /// The encoded request.
        body: &'a [u8],
    },
    /// The answer to [`Output::Request`]; none when it failed or timed out.
    Response {
        /// Which request.
        ticket: Ticket,
        /// The encoded response. Blocks in it are not copied but share its memory.
        body: Option<Bytes>,
    },
    /// What [`Output::Respond`] asked for has been done, or cannot be any more.
    Responded {
        /// Which request.
        ticket: Ticket,
    },
    /// The store keeps the canonical blocks from this height on, and not those before. Given at the start if blocks were
    /// pruned, and whenever some are.
    Earliest {
        /// The height.
        height: u64,
    },
    /// The answer to [`Output::Persist`].
    Persisted {
        /// Which batch.
        ticket: Ticket,
        /// Whether it is on disk.
        durable: bool,
    },
    /// After batches that could not be stored, the store works again. Every batch that was emitted before has been
    /// answered.
    StorageBack,
    /// What an earlier life left on the disk; given once, after the wall clock.
    Restore {
        /// Transactions that were submitted to this node, by their ids.
        pending: Vec<(TransactionId, Bytes)>,
        /// What waited in the mempool, in the order of arrival.
        pool: Vec<Bytes>,
    },
    /// The answer to [`Output::Load`].
    Loaded {
        /// Which query.
        ticket: Ticket,
        /// What [`LoadRequest`] says; none if the store failed.
        blocks: Option<Vec<Bytes>>,
    },
    /// Unix time in microseconds at [`Time::ZERO`]; given at the start and whenever the wall clock was set.
    WallClock {
        /// The offset.
        unix_us_at_zero: u64,
    },
}

impl From<(PeerHandle, Frame)> for Output {
    fn from((peer, frame): (PeerHandle, Frame)) -> Self {
        Self::Send { peer, frame }
    }
}

impl From<(PeerHandle, Vec<MessageId>)> for Output {
    fn from((peer, ids): (PeerHandle, Vec<MessageId>)) -> Self {
        Self::Cancel { peer, ids }
    }
}

impl From<&mesh::Copied<'_>> for Output {
    fn from(copy: &mesh::Copied<'_>) -> Self {
        Self::Event(Event::Mesh(copy.into()))
    }
}

/// What the driver shall do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Put a frame into the peer's send queue.
    Send {
        /// To whom.
        peer: PeerHandle,
        /// What.
        frame: Frame,
    },
    /// Remove what is still queued of these messages for the peer.
    Cancel {
        /// Whose queue.
        peer: PeerHandle,
        /// Which messages.
        ids: Vec<MessageId>,
    },
    /// Verify; answer with [`Input::Verified`].
    Verify {
        /// To be given back.
        ticket: Ticket,
        /// The work.
        job: Job,
    },
    /// These verifications are not wanted any more. Those that have not begun need not begin; answers are not needed and change nothing.
    Abandon {
        /// As given with [`Output::Verify`].
        tickets: Vec<Ticket>,
    },
    /// Dial the peer; answer with [`Input::Reached`] when its handshake is done, and with [`Input::Connected`] or
    /// [`Input::DialFailed`]. A feeler ends with `Reached`: its connection is closed again.
    Dial {
        /// Whom.
        id: PeerId,
        /// Binary multiaddrs to try.
        addresses: Vec<Address>,
        /// What for.
        purpose: DialPurpose,
    },
    /// Write [`super::Node::peers_file`] to the disk, when there is time. No answer.
    SavePeers,
    /// Look for peers (a Kademlia random walk); what is found comes as [`Input::Discovered`].
    Discover,
    /// Close every connection with the peer.
    Disconnect {
        /// Who.
        peer: PeerHandle,
        /// Why.
        reason: mesh::DisconnectReason,
    },
    /// Offered peers: verify their records and answer with [`Input::Discovered`] for the good ones.
    PeerExchangeCandidates {
        /// Who offers.
        peer: PeerHandle,
        /// Whom.
        candidates: Vec<ExchangedPeer>,
    },
    /// Store atomically; answer with [`Input::Persisted`].
    Persist {
        /// To be given back.
        ticket: Ticket,
        /// What.
        batch: Batch,
    },
    /// Load headers or blocks from the store; answer with [`Input::Loaded`].
    Load {
        /// To be given back.
        ticket: Ticket,
        /// Which.
        what: LoadRequest,
    },
    /// Ask a peer; answer with [`Input::Response`].
    Request {
        /// To be given back.
        ticket: Ticket,
        /// Whom.
        peer: PeerHandle,
        /// The encoded request.
        body: Bytes,
    },
    /// Answer a peer's request; say with [`Input::Responded`] when that is over.
    Respond {
        /// Which request.
        ticket: Ticket,
        /// The encoded response; none to refuse.
        body: Option<Bytes>,
    },
    /// The end of a submission.
    SubmitResult {
        /// Which.
        ticket: Ticket,
        /// Its id in the network, or why it was refused.
        result: Result<Submitted, SubmitError>,
    },
    /// Something to be observed; nobody has to act on it.
    Event(Event),
}

/// The traffic class of a message, one topic each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageClass {
    /// A signed transaction.
    Transaction,
    /// A signed block.
    Block,
}

impl MessageClass {
    /// Both classes, in the order of the enumeration.
    pub const ALL: [Self; 2] = [Self::Transaction, Self::Block];

    /// The name in traces, metrics, JSON and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Block => "block",
        }
    }
}

impl fmt::Display for MessageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An observation, for traces, metrics and logs.
#[derive(Clone, Debug)]
pub enum Event {
    /// Something in the mesh.
    Mesh(mesh::Event),
    /// A transaction reached us inside a block before it did over the mesh.
    InBlock {
        /// The mesh message it would have been.
        message: MessageId,
        /// Who sent the block.
        peer: PeerHandle,
    },
    /// Something in the chain.
    Chain(chain::Event),
    /// The canonical chain has changed.
    HeadChanged {
        /// Where it ends now.
        head: chain::Position,
        /// How many blocks are canonical no more.
        undone: usize,
        /// What that did to the mempool.
        settled: Settled,
    },
    /// A peer answered a request as no honest peer does.
    PeerFault {
        /// Who.
        peer: PeerHandle,
        /// What it did.
        fault: chain::PeerFault,
    },
    /// Our producer key made a block.
    Produced {
        /// The block.
        id: BlockId,
        /// Its height.
        height: u64,
        /// Its slot.
        slot: u64,
        /// How many transactions it holds.
        transactions: u32,
    },
    /// Nothing has been seen of the network for so long that we suspect to be cut off from it; others are being sought.
    /// Told again, ever more rarely, while that lasts.
    CutOff {
        /// For how many slots.
        slots: u64,
        /// Connected peers.
        peers: usize,
    },
    /// A batch could not be stored: nothing is until [`Input::StorageBack`].
    StorageFailed,
    /// Batches are stored again; what waited for that is on its way.
    StorageBack,
    /// What an earlier life left on the disk has been looked at: so many transactions wait here again.
    Restored {
        /// Own ones, which are offered again.
        pending: usize,
        /// Others.
        pool: usize,
    },
    /// It is our turn, but an earlier life may have signed a block for this slot or a later one.
    SlotSigned {
        /// The slot.
        slot: u64,
        /// Up to which slot blocks may have been signed.
        signed: u64,
    },
    /// Another node makes blocks with our producer key: this one was signed with it, and not by us.
    KeyElsewhere {
        /// The block's slot.
        slot: u64,
        /// The block.
        block: BlockId,
        /// Its height.
        height: u64,
    },
    /// It is our turn, but peers say that their chain is longer than ours and we are fetching it.
    BehindPeers {
        /// The slot.
        slot: u64,
        /// The height of our head.
        height: u64,
        /// The height that a peer claims.
        target: u64,
    },
}

/// A transaction was taken in and published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its id.
    pub id: TransactionId,
    /// The id of the mesh message that carries it.
    pub message: MessageId,
    /// The nonce that it uses up.
    pub nonce: u64,
}

/// Why a submission was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The bytes are no valid transaction of this network.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// The mempool cannot take it.
    #[error(transparent)]
    Mempool(#[from] MempoolError),
    /// The signature is not the sender's.
    #[error("the signature is not the sender's over this transaction; sign the transaction id with the sender's key")]
    BadSignature,
    /// There is no key to sign with.
    #[error(
        "this node has no account key to sign with; start it with --account-key, or sign elsewhere and use tx_submit"
    )]
    NoAccountKey,
    /// It could not be written to the disk, and so was neither spread nor kept.
    #[error(
        "the transaction could not be stored, and was not accepted; submit it again when the node's disk has recovered"
    )]
    Storage,
    /// Too much is under way.
    #[error("the node is verifying as many signatures as it can; try again in a moment")]
    Overloaded,
}

/// Why a node machine wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// The mesh has something to do.
    Mesh(mesh::WakeReason),
    /// The chain has something to do.
    Chain,
    /// Somebody is to be dialled or looked for.
    Peers,
    /// A slot begins.
    Slot,
    /// We have listened in our first turn, and make a block.
    Turn,
    /// Nothing was seen of the network for a while.
    Silence,
}
