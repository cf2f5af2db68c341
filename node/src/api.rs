//! The boundary between whoever asks a node something (the RPC, tests) and the driver that owns the node's state.
//!
//! # Promises
//! - **Questions go through one bounded channel** ([`COMMANDS_MAX`]). A saturated node answers [`ApiError::Busy`] at once
//!   instead of queueing without bound; nobody who asks can make it grow.
//! - **Every question is answered, refused or abandoned within [`REPLY_DEADLINE`].** A driver that is stopping drops the
//!   reply channel, which the asker sees as [`ApiError::Stopped`].
//! - **The driver never waits here.** It takes a [`Command`], answers into its oneshot sender whenever the answer is
//!   known, possibly after a look at the disk, and does not care whether the asker is still there.
//!
//! The reply types are the JSON shapes of the RPC: one definition serves the server, the Rust client, the command line
//! and the testnet tool. Units stand last in names. Digests and keys are lowercase hex.

use serde::{Deserialize, Serialize};
use starling_crypto::{Digest, PublicKeyBytes};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for the driver; the next one is answered "busy". A guess: some tens of milliseconds of work.
pub const COMMANDS_MAX: usize = 1_024;

/// How long an asker waits for an answer. Long enough for a slow disk, short enough that a stuck driver is noticed.
pub const REPLY_DEADLINE: Duration = Duration::from_secs(10);

/// Where the driver puts the answer to a command.
pub type Reply<T> = oneshot::Sender<T>;

/// What the driver can be asked. Each variant carries the channel for its answer.
#[derive(Debug)]
pub enum Command {
    /// Take in a signed transaction and spread it.
    SubmitTransaction {
        /// The transaction as it stands on the wire.
        transaction: Vec<u8>,
        /// Its id, or why it was refused.
        reply: Reply<Result<Submitted, Refusal>>,
    },
    /// Make a transaction of this payload, signed with the node's own account key, and spread it.
    PublishPayload {
        /// The opaque payload.
        payload: Vec<u8>,
        /// The transaction's id, or why it was refused.
        reply: Reply<Result<Submitted, Refusal>>,
    },
    /// What became of a transaction.
    TransactionStatus {
        /// The transaction id.
        id: Digest,
        /// Its status; an id never heard of is [`TransactionStatus::Unknown`], not an error.
        reply: Reply<Result<TransactionReply, Refusal>>,
    },
    /// The state of an account.
    Account {
        /// Whose.
        public_key: PublicKeyBytes,
        /// Its next nonce.
        reply: Reply<AccountReply>,
    },
    /// How full the mempool is.
    MempoolInfo {
        /// The figures.
        reply: Reply<MempoolReply>,
    },
    /// The last block of the canonical chain.
    ChainHead {
        /// The head.
        reply: Reply<HeadReply>,
    },
    /// One block.
    Block {
        /// Which.
        block: BlockSelector,
        /// The block; `None` when the node does not have it.
        reply: Reply<Result<Option<BlockReply>, Refusal>>,
    },
    /// All connected peers.
    Peers {
        /// In order of peer id.
        reply: Reply<Vec<PeerReply>>,
    },
    /// The node's place in the network.
    NetInfo {
        /// The figures.
        reply: Reply<NetReply>,
    },
    /// Who the node is.
    NodeInfo {
        /// The facts.
        reply: Reply<NodeReply>,
    },
    /// Whether the node takes part in the mesh.
    Ready {
        /// Yes or no, and what it waits for.
        reply: Reply<ReadyReply>,
    },
    /// Stop cleanly.
    Shutdown {
        /// Answered when the shutdown has begun.
        reply: Reply<()>,
    },
}

/// How to name a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSelector {
    /// The canonical block at this height.
    Height(u64),
    /// The block with this id, canonical or not.
    Id(Digest),
}

/// Why an answer did not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Too many commands wait already, or the answer took longer than [`REPLY_DEADLINE`].
    #[error("the node is busy; try again in a moment")]
    Busy,
    /// The driver has ended or is ending.
    #[error("the node is shutting down; start it again with `starling run`")]
    Stopped,
    /// The driver looked at the request and refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A request that was understood and refused: the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{cause}; {remedy}")]
pub struct Refusal {
    /// The kind, for programs.
    pub reason: RefusalReason,
    /// What is wrong, for people.
    pub cause: String,
    /// What to do about it, for people.
    pub remedy: String,
}

impl Refusal {
    /// A refusal with its cause and remedy in words.
    pub fn new(reason: RefusalReason, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason, cause: cause.into(), remedy: remedy.into() }
    }
}

/// The kinds of refusal. Each has a JSON-RPC error code of its own (see `docs/CLI.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// The bytes are no transaction of the canonical encoding.
    Malformed,
    /// The transaction belongs to another network.
    WrongNetwork,
    /// The signature is missing or wrong, or the sender is no valid key.
    BadSignature,
    /// The expiry slot has passed.
    Expired,
    /// The expiry slot is further away than the genesis allows.
    ExpiryTooFar,
    /// The nonce has been used: a replay, or a rival that came too late.
    NonceUsed,
    /// The nonce is too far ahead of the sender's next one.
    NonceTooFar,
    /// The proof-of-work stamp is missing or too weak.
    WrongStamp,
    /// The payload is larger than the genesis allows.
    PayloadTooLarge,
    /// The same transaction is already pending or included.
    AlreadyKnown,
    /// The mempool is full of transactions that go first.
    MempoolFull,
    /// The node has no account key to sign with.
    NoAccountKey,
    /// The node is overloaded and shed the work.
    Overloaded,
    /// The disk failed.
    Storage,
}

/// A transaction was taken in and is being spread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The transaction id.
    pub id: Digest,
    /// The id of the mesh message that carries it, in hex.
    pub message_id: String,
    /// The nonce that was used.
    pub nonce: u64,
}

/// Answer of `tx_get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionReply {
    /// The transaction id that was asked for.
    pub id: Digest,
    /// What became of it.
    #[serde(flatten)]
    pub status: TransactionStatus,
    /// The transaction itself, while the node still has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionBody>,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum TransactionStatus {
    /// It waits in the mempool.
    Pending,
    /// It stands in a canonical block.
    Included {
        /// Height of the block.
        height: u64,
        /// Id of the block.
        block_id: Digest,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionBody {
    /// Who signed it.
    pub sender: PublicKeyBytes,
    /// The sender's running number, from 0.
    pub nonce: u64,
    /// The last slot in which a block may include it.
    pub expiry_slot: u64,
    /// The opaque payload, in hex.
    pub payload_hex: String,
}

/// Answer of `account_get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountReply {
    /// Whose account.
    pub public_key: PublicKeyBytes,
    /// The nonce that the next transaction should carry, counting those that are pending.
    pub next_nonce: u64,
    /// The next nonce of the canonical chain alone.
    pub next_nonce_included: u64,
    /// Transactions of the account that wait in the mempool.
    pub pending: u32,
}

/// Answer of `mempool_info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Answer of `chain_head`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadReply {
    /// Height; 0 is the genesis.
    pub height: u64,
    /// Id of the block.
    pub block_id: Digest,
    /// The slot of the block.
    pub slot: u64,
    /// The present slot by this node's clock.
    pub slot_now: u64,
}

/// Answer of `chain_block`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockReply {
    /// Id of the block.
    pub block_id: Digest,
    /// Height; 0 is the genesis.
    pub height: u64,
    /// The slot it was made for.
    pub slot: u64,
    /// Id of the block before.
    pub parent_id: Digest,
    /// Merkle root of the transactions.
    pub transaction_root: Digest,
    /// Who made it.
    pub producer: PublicKeyBytes,
    /// Whether it is on the canonical chain.
    pub canonical: bool,
    /// Its size on the wire.
    pub encoded_bytes: u64,
    /// Ids of its transactions, in order.
    pub transactions: Vec<Digest>,
}

/// Answer of `node_info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReply {
    /// Version of the software.
    pub version: String,
    /// The network's name, from its genesis.
    pub network_name: String,
    /// The network's id, the hash of its genesis.
    pub network_id: Digest,
    /// libp2p peer id.
    pub peer_id: String,
    /// The account that `tx_publish` signs for.
    pub account: Option<PublicKeyBytes>,
    /// The key that the node makes blocks with.
    pub producer: Option<PublicKeyBytes>,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetReply {
    /// libp2p peer id.
    pub peer_id: String,
    /// Multiaddresses that the node listens on, each ending in `/p2p/<peer id>`.
    pub listen_addresses: Vec<String>,
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

/// One topic, as `net_info` and `/ready` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicReply {
    /// What it carries.
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

/// The kinds of messages, one topic each.
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

    /// The name in traces, metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Block => "block",
        }
    }
}

/// One peer, as `net_peers` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    pub subscribed: Vec<MessageClass>,
    /// Classes in whose mesh the peer is.
    pub mesh: Vec<MessageClass>,
    /// Bytes that wait to be sent to it.
    pub queue_bytes: u64,
    /// The score and what it is made of.
    pub score: ScoreReply,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerDirection {
    /// The peer dialled us.
    Inbound,
    /// We dialled the peer.
    Outbound,
}

/// A peer's score, broken down as gossipsub v1.1 defines it. Each part is weighted already, so the parts add up to
/// `total` unless the cap on the topics' sum cuts in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicScoreReply {
    /// Which topic.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyReply {
    /// Whether the node takes part in the mesh of every topic.
    pub ready: bool,
    /// In words, what it waits for; empty when ready.
    pub waiting_for: Vec<String>,
    /// Connected peers.
    pub peers: u32,
    /// Mesh degree of each topic.
    pub topics: Vec<TopicReply>,
    /// Height of the canonical head.
    pub height: u64,
}

/// Asks the driver. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    commands: mpsc::Sender<Command>,
}

impl NodeHandle {
    /// A handle and the end that the driver reads from.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        (Self { commands }, receiver)
    }

    /// Takes in a signed transaction and spreads it.
    pub async fn submit_transaction(&self, transaction: Vec<u8>) -> Result<Submitted, ApiError> {
        Ok(self.ask(|reply| Command::SubmitTransaction { transaction, reply }).await??)
    }

    /// Signs a payload with the node's own account key and spreads it.
    pub async fn publish_payload(&self, payload: Vec<u8>) -> Result<Submitted, ApiError> {
        Ok(self.ask(|reply| Command::PublishPayload { payload, reply }).await??)
    }

    /// What became of a transaction.
    pub async fn transaction_status(&self, id: Digest) -> Result<TransactionReply, ApiError> {
        Ok(self.ask(|reply| Command::TransactionStatus { id, reply }).await??)
    }

    /// The state of an account.
    pub async fn account(&self, public_key: PublicKeyBytes) -> Result<AccountReply, ApiError> {
        self.ask(|reply| Command::Account { public_key, reply }).await
    }

    /// How full the mempool is.
    pub async fn mempool_info(&self) -> Result<MempoolReply, ApiError> {
        self.ask(|reply| Command::MempoolInfo { reply }).await
    }

    /// The last block of the canonical chain.
    pub async fn chain_head(&self) -> Result<HeadReply, ApiError> {
        self.ask(|reply| Command::ChainHead { reply }).await
    }

    /// One block; `None` when the node does not have it.
    pub async fn block(&self, block: BlockSelector) -> Result<Option<BlockReply>, ApiError> {
        Ok(self.ask(|reply| Command::Block { block, reply }).await??)
    }

    /// All connected peers.
    pub async fn peers(&self) -> Result<Vec<PeerReply>, ApiError> {
        self.ask(|reply| Command::Peers { reply }).await
    }

    /// The node's place in the network.
    pub async fn net_info(&self) -> Result<NetReply, ApiError> {
        self.ask(|reply| Command::NetInfo { reply }).await
    }

    /// Who the node is.
    pub async fn node_info(&self) -> Result<NodeReply, ApiError> {
        self.ask(|reply| Command::NodeInfo { reply }).await
    }

    /// Whether the node takes part in the mesh.
    pub async fn ready(&self) -> Result<ReadyReply, ApiError> {
        self.ask(|reply| Command::Ready { reply }).await
    }

    /// Begins a clean stop.
    pub async fn shutdown(&self) -> Result<(), ApiError> {
        self.ask(|reply| Command::Shutdown { reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ApiError::Busy,
            mpsc::error::TrySendError::Closed(_) => ApiError::Stopped,
        })?;
        match tokio::time::timeout(REPLY_DEADLINE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_dropped)) => Err(ApiError::Stopped),
            Err(_elapsed) => Err(ApiError::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_saturated_node_answers_busy_and_a_gone_one_stopped() {
        let (handle, receiver) = NodeHandle::channel();
        let mut waiting = Vec::new();
        for _ in 0..COMMANDS_MAX {
            let (reply, answer) = oneshot::channel();
            handle.commands.try_send(Command::ChainHead { reply }).expect("there is room");
            waiting.push(answer);
        }
        assert_eq!(handle.chain_head().await, Err(ApiError::Busy));
        drop(receiver);
        assert_eq!(handle.chain_head().await, Err(ApiError::Stopped));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_given_up() {
        let (handle, mut receiver) = NodeHandle::channel();
        let asked = tokio::spawn(async move { handle.ready().await });
        let kept = receiver.recv().await.expect("a command");
        assert_eq!(asked.await.expect("no panic"), Err(ApiError::Busy));
        drop(kept);
    }

    #[test]
    fn the_json_of_a_transaction_is_flat() {
        let reply = TransactionReply {
            id: Digest::ZERO,
            status: TransactionStatus::Included { height: 3, block_id: Digest::ZERO, index: 1 },
            transaction: None,
        };
        let json = serde_json::to_value(&reply).expect("serialisable");
        assert_eq!(json["status"], "included");
        assert_eq!(json["height"], 3);
        assert_eq!(serde_json::from_value::<TransactionReply>(json).expect("round trip"), reply);
    }
}
