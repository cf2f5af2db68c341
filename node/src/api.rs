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

mod bans;
mod event;
pub mod feed;
mod reply;
pub(crate) mod schema;

pub use bans::{BAN_DEFAULT, BAN_MAX, BanCommand, BanReply, TargetError, UnbanReply, parse_target, target_text};
pub use event::*;
use feed::{Feed, Topic};
pub use reply::*;

use serde::{Deserialize, Serialize};
use starling_crypto::PublicKeyBytes;
use starling_protocol::id::{BlockId, TransactionId};
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
        id: TransactionId,
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
    /// A page of the mempool.
    MempoolList {
        /// Only transactions whose ids come after this one.
        after: Option<TransactionId>,
        /// At most so many.
        limit: usize,
        /// The page.
        reply: Reply<MempoolPage>,
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
    /// Who is kept out.
    Bans(BanCommand),
    /// Hear of what happens from now on.
    Subscribe {
        /// Of what.
        topic: Topic,
        /// The events, or why there are too many subscriptions.
        reply: Reply<Result<Feed, Refusal>>,
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
    Id(BlockId),
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

/// The kinds of refusal. Each has a JSON-RPC error code of its own (see [`crate::rpc::codes`]).
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
    /// The ban cannot be: too many, too long a reason, or the node itself.
    Ban,
    /// The node, or the connection, has as many subscriptions as it takes.
    TooManySubscriptions,
}

impl RefusalReason {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Malformed,
        Self::WrongNetwork,
        Self::BadSignature,
        Self::Expired,
        Self::ExpiryTooFar,
        Self::NonceUsed,
        Self::NonceTooFar,
        Self::WrongStamp,
        Self::PayloadTooLarge,
        Self::AlreadyKnown,
        Self::MempoolFull,
        Self::NoAccountKey,
        Self::Overloaded,
        Self::Storage,
        Self::Ban,
        Self::TooManySubscriptions,
    ];
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
    pub async fn transaction_status(&self, id: TransactionId) -> Result<TransactionReply, ApiError> {
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

    /// A page of the mempool: at most `limit` transactions whose ids come after `after`.
    pub async fn mempool_list(&self, after: Option<TransactionId>, limit: usize) -> Result<MempoolPage, ApiError> {
        self.ask(|reply| Command::MempoolList { after, limit, reply }).await
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

    /// Hears of what happens from now on.
    pub async fn subscribe(&self, topic: Topic) -> Result<Feed, ApiError> {
        Ok(self.ask(|reply| Command::Subscribe { topic, reply }).await??)
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
}
