//! What subscribers are told: the JSON shapes of the RPC's notifications. Units stand last in names; digests and keys are
//! lowercase hex.
//!
//! Notifications say what changed, not what is: a subscriber that needs the present state asks for it *after* its
//! subscription was confirmed, so that nothing falls between. Within one subscription they come in the order in which
//! things happened, and none is left out: a subscriber that does not keep up loses the whole subscription
//! ([`super::feed`]).

use super::schema::{Class, Hex32};
use super::{MessageClass, PeerDirection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_crypto::PublicKeyBytes;
use starling_protocol::id::{BlockId, TransactionId};
use starling_protocol::mesh::PruneReason as MeshPruneReason;
use starling_protocol::mesh::score::Thresholds;

/// Transactions to which the same thing happened at the same time; a notification of `tx_subscribe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransactionEvent {
    /// What happened to them.
    pub event: TransactionChange,
    /// The block that holds them (`included`) or held them (`returned`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<BlockName>,
    /// Which transactions; at least one, at most 64. More are told in several notifications.
    pub transactions: Vec<TransactionName>,
}

/// What can happen to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransactionChange {
    /// The mempool took it in: submitted here, or heard from a peer.
    Accepted,
    /// It stands in a canonical block now.
    Included,
    /// Its block was undone; it is pending again, and an `included` is to be expected.
    Returned,
    /// Its expiry slot passed before a block took it. Final, unless an earlier fork with it wins.
    Expired,
    /// Another transaction of its sender used its nonce.
    Superseded,
    /// The mempool was full and it made room for others. Other nodes may still have it.
    Evicted,
}

/// Names one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransactionName {
    /// The transaction id.
    #[schemars(with = "Hex32")]
    pub id: TransactionId,
    /// Who signed it.
    #[schemars(with = "Hex32")]
    pub sender: PublicKeyBytes,
    /// The sender's running number.
    pub nonce: u64,
}

/// Names one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlockName {
    /// Height; 0 is the genesis.
    pub height: u64,
    /// Id of the block.
    #[schemars(with = "Hex32")]
    pub block_id: BlockId,
}

/// The canonical chain ends elsewhere now; a notification of `chain_subscribe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainEvent {
    /// Height of the new head.
    pub height: u64,
    /// Id of the new head.
    #[schemars(with = "Hex32")]
    pub block_id: BlockId,
    /// The slot it was made for.
    pub slot: u64,
    /// Transactions in it; none when it has left the memory already, as it may while catching up.
    pub transactions: Option<u32>,
    /// The highest block that cannot be undone any more. `height - final_height` blocks still can.
    pub final_height: u64,
    /// Blocks that are canonical no more, highest first. Empty unless the chain was reorganised.
    pub undone: Vec<BlockName>,
    /// Blocks that are canonical now and were not before, lowest first; the last one is the new head. While the node
    /// catches up, only the last 256 are named.
    pub adopted: Vec<BlockName>,
}

/// Something happened to a peer; a notification of `net_subscribe`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PeerEvent {
    /// It takes part in the mesh protocol with us.
    Connected {
        /// libp2p peer id.
        peer_id: String,
        /// Multiaddress of the connection's other end.
        address: String,
        /// Who dialled.
        direction: PeerDirection,
    },
    /// It is gone.
    Disconnected {
        /// libp2p peer id.
        peer_id: String,
    },
    /// Its score has passed a threshold, up or down. Scores are looked at every second.
    Score {
        /// libp2p peer id.
        peer_id: String,
        /// The score.
        score: f64,
        /// Where it was.
        before: ScoreLevel,
        /// Where it is.
        level: ScoreLevel,
    },
    /// It entered our mesh of a topic.
    Grafted {
        /// libp2p peer id.
        peer_id: String,
        /// What the topic carries.
        #[schemars(with = "Class")]
        class: MessageClass,
    },
    /// It left our mesh of a topic.
    Pruned {
        /// libp2p peer id.
        peer_id: String,
        /// What the topic carries.
        #[schemars(with = "Class")]
        class: MessageClass,
        /// Why.
        reason: PruneReason,
    },
    /// We closed the connection because its score fell below the graylist threshold.
    Graylisted {
        /// libp2p peer id.
        peer_id: String,
    },
    /// It is kept out from now on; or for another time, or another reason, than before.
    Banned {
        /// A peer id, an IP address or a subnet.
        target: String,
        /// When that ends, in seconds of Unix time.
        until_unix_s: u64,
        /// Why, in the operator's words.
        reason: String,
    },
    /// It may come again: the ban has ended, or was lifted.
    Unbanned {
        /// A peer id, an IP address or a subnet.
        target: String,
    },
}

/// Why a peer left our mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PruneReason {
    /// It pruned us.
    ByPeer,
    /// The mesh had too many peers.
    Excess,
    /// Its score was negative.
    Score,
    /// Its send queue kept overflowing.
    Slow,
    /// It brought nothing, even what was left to it to bring.
    Silent,
    /// One of the two left the topic.
    Unsubscribed,
    /// The connection ended.
    Disconnected,
}

impl From<MeshPruneReason> for PruneReason {
    fn from(reason: MeshPruneReason) -> Self {
        match reason {
            MeshPruneReason::ByPeer => Self::ByPeer,
            MeshPruneReason::Excess => Self::Excess,
            MeshPruneReason::Score => Self::Score,
            MeshPruneReason::Slow => Self::Slow,
            MeshPruneReason::Silent => Self::Silent,
            MeshPruneReason::Unsubscribed => Self::Unsubscribed,
            MeshPruneReason::Disconnected => Self::Disconnected,
        }
    }
}

/// What a score means, by the thresholds of gossipsub v1.1. Better levels are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScoreLevel {
    /// Everything it sends is ignored.
    Graylisted,
    /// Nothing of our own is published to it.
    BelowPublish,
    /// No gossip to or from it.
    BelowGossip,
    /// Negative: in no mesh of ours.
    Negative,
    /// Zero or better.
    Good,
}

impl ScoreLevel {
    /// The level of a score.
    #[must_use]
    pub fn of(score: f64, thresholds: &Thresholds) -> Self {
        if score < thresholds.graylist {
            Self::Graylisted
        } else if score < thresholds.publish {
            Self::BelowPublish
        } else if score < thresholds.gossip {
            Self::BelowGossip
        } else if score < 0.0 {
            Self::Negative
        } else {
            Self::Good
        }
    }
}
