//! The answers: the JSON shapes of the RPC. Units stand last in names; digests and keys are lowercase hex.

use super::schema::{Class, Hex32, Hex64};
use crate::net::external::Reach;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_crypto::{Digest, PublicKeyBytes, Signature};
use starling_protocol::block::Block;
use starling_protocol::id::{BlockId, NetworkId, TransactionId};
pub use starling_protocol::node::MessageClass;
use starling_protocol::sync;
use starling_protocol::transaction::Transaction;

/// A transaction was taken in and is being spread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Submitted {
    /// The transaction id.
    #[schemars(with = "Hex32")]
    pub id: TransactionId,
    /// The id of the mesh message that carries it, in hex.
    pub message_id: String,
    /// The nonce that was used.
    pub nonce: u64,
}

/// Answer of `tx_get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransactionReply {
    /// The transaction id that was asked for.
    #[schemars(with = "Hex32")]
    pub id: TransactionId,
    /// What became of it.
    #[serde(flatten)]
    pub status: TransactionStatus,
    /// The transaction itself, while the node still has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionBody>,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum TransactionStatus {
    /// It waits in the mempool.
    Pending,
    /// It stands in a canonical block.
    Included {
        /// Height of the block.
        height: u64,
        /// Id of the block.
        #[schemars(with = "Hex32")]
        block_id: BlockId,
        /// Position in the block, from 0.
        index: u32,
    },
    /// Its expiry slot passed before a block took it.
    Expired,
    /// Another transaction of the same sender used its nonce.
    Superseded,
    /// The node has never seen it, or has forgotten it.
    Unknown,
}

/// A transaction's fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransactionBody {
    /// Who signed it.
    #[schemars(with = "Hex32")]
    pub sender: PublicKeyBytes,
    /// The sender's running number, from 0.
    pub nonce: u64,
    /// The last slot in which a block may include it.
    pub expiry_slot: u64,
    /// The opaque payload, in hex.
    pub payload_hex: String,
    /// The number that makes up the proof of work.
    pub stamp: u64,
    /// The sender's signature.
    #[schemars(with = "Hex64")]
    pub signature: Signature,
}

impl From<&Transaction> for TransactionBody {
    fn from(transaction: &Transaction) -> Self {
        Self {
            sender: transaction.sender(),
            nonce: transaction.nonce(),
            expiry_slot: transaction.expiry_slot(),
            payload_hex: hex::encode(transaction.payload()),
            stamp: transaction.stamp(),
            signature: transaction.signature(),
        }
    }
}

/// Answer of `account_get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountReply {
    /// Whose account.
    #[schemars(with = "Hex32")]
    pub public_key: PublicKeyBytes,
    /// The nonce that the next transaction should carry, counting those that are pending.
    pub next_nonce: u64,
    /// The next nonce of the canonical chain alone.
    pub next_nonce_included: u64,
    /// Transactions of the account that wait in the mempool.
    pub pending: u32,
}

/// Answer of `mempool_info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MempoolReply {
    /// Transactions held.
    pub transactions: u64,
    /// Of these, how many wait for an earlier nonce of their sender.
    pub transactions_future: u64,
    /// Most transactions that are held.
    pub transactions_max: u64,
    /// Bytes held.
    pub held_bytes: u64,
    /// Most bytes that are held.
    pub held_bytes_max: u64,
}

/// Answer of `mempool_list`: a part of the mempool, in the order of the transactions' ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MempoolPage {
    /// The transactions of this page.
    pub transactions: Vec<PendingReply>,
    /// Give this as `after` for the next page; null when this is the last.
    #[schemars(with = "Option<Hex32>")]
    pub next: Option<TransactionId>,
    /// Transactions in the whole mempool.
    pub total: u64,
}

/// A transaction that waits for a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PendingReply {
    /// The transaction id.
    #[schemars(with = "Hex32")]
    pub id: TransactionId,
    /// Who signed it.
    #[schemars(with = "Hex32")]
    pub sender: PublicKeyBytes,
    /// The sender's running number, from 0.
    pub nonce: u64,
    /// The last slot in which a block may include it.
    pub expiry_slot: u64,
    /// How many slots it has been here; null when it came back from a block that was undone.
    pub age_slots: Option<u64>,
    /// Its size on the wire.
    pub encoded_bytes: u64,
    /// Whether the next block could include it; if not, it waits for an earlier nonce of its sender.
    pub executable: bool,
    /// Who brought it.
    pub source: TransactionSource,
}

/// Where a pending transaction came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransactionSource {
    /// It was submitted to this node.
    Local,
    /// A peer sent it.
    Peer,
    /// It stood in a block that was undone.
    Reorganisation,
}

/// Answer of `admin_log_filter`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogFilterReply {
    /// The filter that holds now; null when the process writes no log.
    pub filter: Option<String>,
}

/// Answer of `admin_shutdown`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShutdownReply {
    /// Always true: the node has begun to stop, and needs some seconds for it.
    pub stopping: bool,
}

/// Answer of `chain_head`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeadReply {
    /// Height; 0 is the genesis.
    pub height: u64,
    /// Id of the block.
    #[schemars(with = "Hex32")]
    pub block_id: BlockId,
    /// The slot of the block.
    pub slot: u64,
    /// The present slot by this node's clock.
    pub slot_now: u64,
}

/// Answer of `chain_block`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlockReply {
    /// Id of the block.
    #[schemars(with = "Hex32")]
    pub block_id: BlockId,
    /// Height; 0 is the genesis.
    pub height: u64,
    /// The slot it was made for.
    pub slot: u64,
    /// Id of the block before.
    #[schemars(with = "Hex32")]
    pub parent_id: BlockId,
    /// Merkle root of the transactions.
    #[schemars(with = "Hex32")]
    pub transaction_root: Digest,
    /// Who made it.
    #[schemars(with = "Hex32")]
    pub producer: PublicKeyBytes,
    /// Whether it is on the canonical chain.
    pub canonical: bool,
    /// Its size on the wire.
    pub encoded_bytes: u64,
    /// Ids of its transactions, in order.
    #[schemars(with = "Vec<Hex32>")]
    pub transactions: Vec<TransactionId>,
}

impl BlockReply {
    /// The reply about a block.
    #[must_use]
    pub fn new(block: &Block, canonical: bool) -> Self {
        let header = block.header();
        Self {
            block_id: block.id(),
            height: header.height,
            slot: header.slot,
            parent_id: header.parent,
            transaction_root: header.transaction_root,
            producer: header.producer,
            canonical,
            encoded_bytes: block.encoded_len() as u64,
            transactions: block.transactions().iter().map(Transaction::id).collect(),
        }
    }
}

/// Answer of `node_info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeReply {
    /// Version of the software.
    pub version: String,
    /// The network's name, from its genesis.
    pub network_name: String,
    /// The network's id, the hash of its genesis.
    #[schemars(with = "Hex32")]
    pub network_id: NetworkId,
    /// libp2p peer id.
    pub peer_id: String,
    /// The account that `tx_publish` signs for.
    #[schemars(with = "Option<Hex32>")]
    pub account: Option<PublicKeyBytes>,
    /// The key that the node makes blocks with.
    #[schemars(with = "Option<Hex32>")]
    pub producer: Option<PublicKeyBytes>,
    /// The last slot for which another node has signed a block with that key, since the start.
    #[serde(default)]
    pub producer_elsewhere_slot: Option<u64>,
    /// Operating-system process id.
    pub pid: u32,
    /// Time since the start.
    pub uptime_s: u64,
    /// The present slot by this node's clock.
    pub slot_now: u64,
    /// Length of a slot.
    pub slot_ms: u64,
    /// Most bytes of a transaction's payload.
    pub payload_bytes_max: u64,
    /// Leading zero bits that a transaction's stamp must have.
    pub stamp_bits: u32,
    /// Most slots between now and a transaction's expiry.
    pub expiry_slots_max: u64,
}

/// Answer of `net_info`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetReply {
    /// libp2p peer id.
    pub peer_id: String,
    /// Multiaddresses that the node listens on, each ending in `/p2p/<peer id>`.
    pub listen_addresses: Vec<String>,
    /// Further addresses at which others may reach the node, behind address translation, and what is known of each.
    #[serde(default)]
    pub external_addresses: Vec<ExternalAddress>,
    /// Peers that dialled us.
    pub peers_inbound: u32,
    /// Peers that we dialled.
    pub peers_outbound: u32,
    /// How many peers the node tries to have.
    pub peers_target: u32,
    /// How many peers the node allows.
    pub peers_max: u32,
    /// Peers in the Kademlia table.
    pub peers_known: u32,
    /// The topics and how well we are placed in them.
    pub topics: Vec<TopicReply>,
    /// Bytes read from sockets.
    pub socket_in_bytes: u64,
    /// Bytes written to sockets.
    pub socket_out_bytes: u64,
    /// Bytes of mesh frames received.
    pub frame_in_bytes: u64,
    /// Bytes of mesh frames sent.
    pub frame_out_bytes: u64,
}

/// An address at which others may reach a node that does not listen there itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExternalAddress {
    /// Multiaddress.
    pub address: String,
    /// What is known of it.
    pub verdict: ReachVerdict,
}

/// Whether an address leads to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReachVerdict {
    /// The operator says so.
    Given,
    /// Another node has dialled it and met us.
    Confirmed,
    /// Peers see us there, and another node has dialled it in vain.
    Failed,
}

impl From<Reach> for ReachVerdict {
    fn from(reach: Reach) -> Self {
        match reach {
            Reach::Given => Self::Given,
            Reach::Confirmed => Self::Confirmed,
            Reach::Failed => Self::Failed,
        }
    }
}

/// One topic, as `net_info` and `/ready` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TopicReply {
    /// What it carries.
    #[schemars(with = "Class")]
    pub class: MessageClass,
    /// Its name on the wire.
    pub topic: String,
    /// Peers in our mesh.
    pub mesh_degree: u32,
    /// Below this degree the mesh seeks further peers (D_low).
    pub mesh_degree_low: u32,
    /// Connected peers that are subscribed.
    pub peers_subscribed: u32,
}

/// One peer, as `net_peers` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerReply {
    /// libp2p peer id.
    pub peer_id: String,
    /// Multiaddress of the connection's other end.
    pub address: String,
    /// `inbound` when the peer dialled us, else `outbound`.
    pub direction: PeerDirection,
    /// The mesh protocol that was agreed, such as `/meshsub/1.2.0`.
    pub protocol: String,
    /// What the peer calls itself (identify), cut to 128 bytes.
    pub agent: Option<String>,
    /// Since when it is connected.
    pub connected_s: u64,
    /// Last round-trip time.
    pub rtt_ms: Option<f64>,
    /// Classes whose topic the peer subscribes to.
    #[schemars(with = "Vec<Class>")]
    pub subscribed: Vec<MessageClass>,
    /// Classes in whose mesh the peer is.
    #[schemars(with = "Vec<Class>")]
    pub mesh: Vec<MessageClass>,
    /// Bytes that wait to be sent to it.
    pub queue_bytes: u64,
    /// Bytes of mesh frames that it sent since it connected.
    #[serde(default)]
    pub frame_in_bytes: u64,
    /// Bytes of mesh frames sent to it since it connected.
    #[serde(default)]
    pub frame_out_bytes: u64,
    /// The score and what it is made of.
    pub score: ScoreReply,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeerDirection {
    /// The peer dialled us.
    Inbound,
    /// We dialled the peer.
    Outbound,
}

/// A peer's score, broken down as gossipsub v1.1 defines it. Each part is weighted already, so the parts add up to
/// `total` unless the cap on the topics' sum cuts in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScoreReply {
    /// The score.
    pub total: f64,
    /// P1 to P4 of each topic.
    pub topics: Vec<TopicScoreReply>,
    /// P5, given by the application.
    pub application: f64,
    /// P6, peers that share an address.
    pub ip_colocation: f64,
    /// P7, breaches of the protocol.
    pub behaviour: f64,
}

/// P1 to P4 of one topic, weighted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopicScoreReply {
    /// Which topic.
    #[schemars(with = "Class")]
    pub class: MessageClass,
    /// P1, time in the mesh.
    pub time_in_mesh: f64,
    /// P2, first deliveries.
    pub first_deliveries: f64,
    /// P3, deficit of mesh deliveries.
    pub mesh_deficit: f64,
    /// P3b, deficits at earlier prunes.
    pub mesh_failures: f64,
    /// P4, invalid messages.
    pub invalid_messages: f64,
}

/// Answer of `GET /ready`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReadyReply {
    /// Whether the node takes part in the mesh of every topic, with its chain up to date and kept on the disk.
    pub ready: bool,
    /// In words, what it waits for, what is to be mended first in front; empty when ready.
    pub waiting_for: Vec<String>,
    /// The same for programs, in the same order.
    #[serde(default)]
    pub reasons: Vec<WaitReason>,
    /// Connected peers.
    pub peers: u32,
    /// Mesh degree of each topic.
    pub topics: Vec<TopicReply>,
    /// Height of the canonical head.
    pub height: u64,
    /// The chain that is caught up with; none when it is complete as far as is known.
    #[serde(default)]
    pub sync: Option<SyncReply>,
    /// Whether what should be kept is stored.
    #[serde(default)]
    pub storage: StorageState,
    /// How the disk is, in figures.
    #[serde(default)]
    pub disk: DiskReply,
    /// The clock.
    #[serde(default)]
    pub clock: ClockState,
}

/// Something that a node waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its kind.
    pub reason: WaitReason,
    /// In words.
    pub text: String,
}

/// Kinds of what a node may wait for, in the order in which they are to be mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// What should be kept cannot be stored.
    Storage,
    /// The wall clock is wrong.
    Clock,
    /// Nobody is connected.
    NoPeers,
    /// There are peers, but nothing of the network's life.
    Isolated,
    /// Too few peers in the mesh of a topic.
    Mesh,
    /// Blocks are missing.
    Chain,
}

impl WaitReason {
    /// All kinds, in the order of the enumeration.
    pub const ALL: [Self; 6] = [Self::Storage, Self::Clock, Self::NoPeers, Self::Isolated, Self::Mesh, Self::Chain];

    /// The name in JSON and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Clock => "clock",
            Self::NoPeers => "no_peers",
            Self::Isolated => "isolated",
            Self::Mesh => "mesh",
            Self::Chain => "chain",
        }
    }
}

/// How far a node that catches up has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SyncReply {
    /// What is being done.
    #[serde(default)]
    pub state: SyncState,
    /// Height of our head when that began.
    #[serde(default)]
    pub from: u64,
    /// Height of our head.
    pub height: u64,
    /// Height that is to be reached: the greatest that a connected peer claims.
    pub target: u64,
    /// How fast, over the last seconds; none while that is not known.
    pub blocks_per_s: Option<f64>,
    /// Seconds that the rest takes at this rate; none while that is not known.
    #[serde(default)]
    pub remaining_s: Option<u64>,
    /// Peers that something is asked of at the moment.
    #[serde(default)]
    pub peers: u32,
    /// Requests under way.
    #[serde(default)]
    pub requests: u32,
}

/// What a node does about being behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// Nothing at the moment: nobody that is ahead can be asked.
    #[default]
    Idle,
    /// The headers of what is missing are being fetched.
    Headers,
    /// Blocks are being fetched.
    Blocks,
}

impl From<sync::SyncState> for SyncState {
    fn from(state: sync::SyncState) -> Self {
        match state {
            sync::SyncState::Idle => Self::Idle,
            sync::SyncState::Headers => Self::Headers,
            sync::SyncState::Blocks => Self::Blocks,
        }
    }
}

/// Whether what should be kept is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StorageState {
    /// It is.
    #[default]
    Ok,
    /// It is not.
    Failing {
        /// Why, and what to do.
        cause: String,
    },
}

/// Whether the wall clock can be right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ClockState {
    /// Nothing speaks against it.
    #[default]
    Ok,
    /// It reads the time before 1970 of a host whose clock was never set.
    Unset,
    /// The network begins later.
    BeforeStart {
        /// How much later.
        seconds: u64,
    },
    /// It was set a while ago, or the machine slept: it may be wrong now, or was before.
    Stepped {
        /// By how many milliseconds; positive if forward.
        by_ms: i64,
    },
    /// Blocks arrive before their time.
    Behind {
        /// By how much.
        seconds: u64,
    },
}

/// How the disk is, as `/health` and `/ready` show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskReply {
    /// Since when nothing can be stored; none while it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since_unix_s: Option<u64>,
    /// How often it was tried in vain to store again.
    pub attempts: u64,
    /// Blocks that wait to be stored.
    pub unsaved_blocks: u64,
    /// Whether so much waits that no further block is adopted; they are still relayed.
    pub import_paused: bool,
    /// Submitted transactions that are kept until they are included for good or have expired.
    pub pending_transactions: u64,
    /// Bytes that the database's file takes on the disk.
    pub file_bytes: u64,
    /// Bytes that were free on its file system when something was last stored, or tried to; none when that is not known.
    #[serde(default)]
    pub free_bytes: Option<u64>,
    /// How many of the last blocks are kept; 0 when all are.
    #[serde(default)]
    pub keep_blocks: u64,
    /// How many bytes the blocks may take on the disk; none without such a bound.
    #[serde(default)]
    pub keep_bytes: Option<u64>,
    /// How many bytes the blocks take; none without a bound, or before they were counted.
    #[serde(default)]
    pub kept_bytes: Option<u64>,
    /// Height of the stored head.
    pub height: u64,
    /// The lowest height whose block is kept; 0 while there is none.
    pub earliest: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_a_transaction_is_flat() {
        let reply = TransactionReply {
            id: TransactionId(Digest::ZERO),
            status: TransactionStatus::Included { height: 3, block_id: BlockId(Digest::ZERO), index: 1 },
            transaction: None,
        };
        let json = serde_json::to_value(&reply).expect("serialisable");
        assert_eq!(json["status"], "included");
        assert_eq!(json["height"], 3);
        assert_eq!(serde_json::from_value::<TransactionReply>(json).expect("round trip"), reply);
    }
}
