//! A load that remembers what it was promised: signed transactions at a steady rate, and every one that a node acknowledged.
//!
//! # Rules
//! - A transaction is **accepted** when a node has answered `tx_submit` with its id. That answer is the promise that is checked
//!   in the end; nothing else counts as one.
//! - Submission times are evenly spaced and do not wait for answers. Each transaction goes to a node drawn at random,
//!   whether that node is up or not; when it cannot be reached, does not answer or is too busy, the same bytes go to the
//!   next one.
//! - A node that knows a transaction already has not promised anything by saying so: another node may have told it, and it
//!   may keep that in memory only. The transaction is offered again until a node accepts it or has it in a block. It is *not*
//!   counted as accepted in the latter case.
//! - Transactions go through **lanes**, accounts of their own with nonces 0, 1, 2, ... A lane rests for [`LANE_REST`] after each
//!   answer and does not wait for the block: so a node that was killed may hold a nonce that the others, which hold the
//!   next ones, are waiting for. Only after its **first** transaction a lane waits until every node that can be reached has it
//!   in its chain. *Rationale:* the chain takes any nonce from a sender that it does not know. If a later one is included first,
//!   because the two went to nodes that could not reach each other, the former is superseded, as by any wallet that does so.
//! - A nonce is signed once. Nothing that was accepted can be superseded by another transaction of ours.
//! - There are as many lanes as the rate needs, and up to [`LANES_FACTOR`] times as many while nodes are slow to answer. When all
//!   are under way a transaction is **held back**: not submitted at all, and counted.
//!
//! Keys, payloads and targets follow from the seed. Times, and what the nodes answer, do not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use starling_crypto::SecretKey;
use starling_node::api::{RefusalReason, TransactionStatus};
use starling_node::rpc::client::{ClientError, RpcClient};
use starling_node::rpc::codes;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::TransactionId;
use starling_protocol::transaction::{Transaction, TransactionBuilder};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, sleep};

use crate::cluster::host;
use crate::wan::Stream;

/// How long a lane rests between two transactions.
const LANE_REST: Duration = Duration::from_secs(3);
/// Lanes that there may be, as a multiple of what the rate needs if every node answers at once.
const LANES_FACTOR: usize = 4;
/// Before a transaction goes to the next node: because the last could not be reached, or because it was busy.
const PAUSE_UNREACHABLE: Duration = Duration::from_millis(20);
const PAUSE_BUSY: Duration = Duration::from_millis(250);
/// Refusals that are kept in words; further ones are only counted.
const REFUSALS_KEPT: usize = 20;

/// A transaction that a node has acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepted {
    pub(super) id: TransactionId,
    /// Who acknowledged it.
    pub(super) node: usize,
    /// When, in microseconds of the host's monotonic clock.
    pub(super) at_us: u64,
    /// The round of the test in which it was acknowledged.
    pub(super) round: u32,
    /// The last slot whose block may include it.
    pub(super) expiry_slot: u64,
}

/// What became of the load so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    pub(super) accepted: Vec<Accepted>,
    /// Transactions that were due.
    pub(super) offered: u64,
    /// Of these, how many were not submitted because all lanes were under way.
    pub(super) held_back: u64,
    /// Attempts that failed and led to the next node.
    pub(super) retries: u64,
    /// Transactions that were included although no node had acknowledged them.
    pub(super) included_unacknowledged: u64,
    /// Transactions that expired before any node acknowledged them.
    pub(super) given_up: u64,
    /// How many were refused for good, and what was said of the first of them.
    pub(super) refused: u64,
    pub(super) refusals: Vec<String>,
}

/// A load under way.
#[derive(Debug)]
pub(super) struct Wallet {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    genesis: Genesis,
    targets: Vec<RpcClient>,
    payload_bytes: usize,
    ledger: Mutex<Ledger>,
    round: watch::Sender<u32>,
    /// Told of every acknowledgement.
    acknowledged: Notify,
}

/// An account that takes its turn.
#[derive(Debug)]
struct Lane {
    key: SecretKey,
    nonce: u64,
    rested: Instant,
}

impl Wallet {
    /// Begins to submit `rate` transactions a second to these nodes.
    pub(super) fn start(
        genesis: &Genesis,
        targets: Vec<RpcClient>,
        rate: f64,
        payload_bytes: usize,
        seed: u64,
    ) -> Self {
        let shared = Arc::new(Shared {
            genesis: genesis.clone(),
            targets,
            payload_bytes,
            ledger: Mutex::default(),
            round: watch::Sender::new(0),
            acknowledged: Notify::new(),
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(submit_all(Arc::clone(&shared), rate, seed, stopped));
        Self { shared, stop, task }
    }

    /// What has come of it so far.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger()
    }

    /// Names the round that further acknowledgements belong to.
    pub(super) fn begin_round(&self, round: u32) {
        self.shared.round.send_replace(round);
    }

    /// Waits until `node` has acknowledged `count` more transactions.
    pub(super) async fn acknowledgements(&self, node: usize, count: usize) {
        let by_node = |ledger: &Ledger| ledger.accepted.iter().filter(|accepted| accepted.node == node).count();
        let wanted = by_node(&self.ledger()) + count;
        loop {
            let told = self.shared.acknowledged.notified();
            if by_node(&self.ledger()) >= wanted {
                return;
            }
            told.await;
        }
    }

    /// Submits nothing more, and waits at most `patience` for the answers that are due.
    pub(super) async fn stop(&mut self, patience: Duration) {
        self.stop.send_replace(true);
        // What is cut off was never acknowledged.
        if tokio::time::timeout(patience, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Drop for Wallet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Submits until it is told to stop, then waits for the answers.
async fn submit_all(shared: Arc<Shared>, rate: f64, seed: u64, mut stopped: watch::Receiver<bool>) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is checked to be small")]
    let lanes_max = (rate * LANE_REST.as_secs_f64()).ceil() as usize * LANES_FACTOR;
    let (mut keys, mut draws) = (Stream::new(seed, "lane keys"), Stream::new(seed, "load"));
    let mut lanes: VecDeque<Lane> = VecDeque::new();
    let mut under_way: JoinSet<Option<Lane>> = JoinSet::new();
    let mut due = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            Some(Ok(Some(lane))) = under_way.join_next() => lanes.push_back(lane),
            _ = due.tick() => {
                let now = Instant::now();
                let (target, mut payload) = (draws.index(shared.targets.len()), vec![0; shared.payload_bytes]);
                draws.fill(&mut payload);
                shared.ledger().offered += 1;
                let rested = lanes.front().is_some_and(|lane| lane.rested <= now);
                let lane = if rested { lanes.pop_front() } else { None };
                let lane = lane.or_else(|| {
                    (lanes.len() + under_way.len() < lanes_max).then(|| Lane { key: new_key(&mut keys), nonce: 0, rested: now })
                });
                match lane {
                    Some(lane) => drop(under_way.spawn(submit(Arc::clone(&shared), lane, target, payload))),
                    None => shared.ledger().held_back += 1,
                }
            }
        }
    }
    while under_way.join_next().await.is_some() {}
}

fn new_key(keys: &mut Stream) -> SecretKey {
    let mut seed = [0; 32];
    keys.fill(&mut seed);
    SecretKey::from_seed(&seed)
}

/// What an attempt came to.
enum Attempt {
    /// The node has promised to keep it.
    Accepted,
    /// It is in a block, whoever promised what.
    Included,
    /// It may or may not be known; another attempt will tell.
    Again(Duration),
    /// No node would take it.
    Refused(String),
}

/// Offers one transaction until its fate is known. Answers the lane, unless nobody knows whether its nonce is used.
async fn submit(shared: Arc<Shared>, mut lane: Lane, first: usize, payload: Vec<u8>) -> Option<Lane> {
    let transaction = shared.transaction(&lane, payload);
    let mut node = first;
    loop {
        match shared.attempt(node, &transaction).await {
            Attempt::Accepted => {
                shared.acknowledge(&transaction, node);
                if lane.nonce == 0 && !shared.included_everywhere(&transaction).await {
                    return None;
                }
                break;
            }
            Attempt::Included => {
                shared.ledger().included_unacknowledged += 1;
                break;
            }
            Attempt::Again(pause) => {
                shared.ledger().retries += 1;
                sleep(pause).await;
            }
            Attempt::Refused(reason) => {
                shared.refuse(reason);
                return None;
            }
        }
        if shared.slot_now() > transaction.expiry_slot() {
            shared.ledger().given_up += 1;
            return None;
        }
        node = (node + 1) % shared.targets.len();
    }
    lane.nonce += 1;
    lane.rested = Instant::now() + LANE_REST;
    Some(lane)
}

impl Shared {
    async fn attempt(&self, node: usize, transaction: &Transaction) -> Attempt {
        let is = |code: i32, reasons: &[RefusalReason]| reasons.iter().any(|reason| codes::of(*reason) == code);
        match self.targets[node].tx_submit(transaction.bytes()).await {
            Ok(_) => Attempt::Accepted,
            // Only this transaction has the nonce.
            Err(ClientError::Refused { code, .. }) if is(code, &[RefusalReason::NonceUsed]) => Attempt::Included,
            Err(ClientError::Refused { code, .. }) if is(code, &[RefusalReason::AlreadyKnown]) => {
                match self.targets[node].tx_get(&transaction.id()).await.map(|reply| reply.status) {
                    Ok(TransactionStatus::Included { .. }) => Attempt::Included,
                    _ => Attempt::Again(PAUSE_BUSY),
                }
            }
            // These say that the transaction is wrong, and the same at every node.
            Err(ClientError::Refused { code, message, .. }) if is(code, &WRONG) => Attempt::Refused(message),
            Err(ClientError::Refused { .. }) => Attempt::Again(PAUSE_BUSY),
            Err(_not_reached) => Attempt::Again(PAUSE_UNREACHABLE),
        }
    }

    /// Waits until all nodes that answer, most of all nodes, have a transaction in their chains. False if it expired before.
    async fn included_everywhere(&self, transaction: &Transaction) -> bool {
        while self.slot_now() <= transaction.expiry_slot() {
            let (mut yes, mut no) = (0, 0);
            for target in &self.targets {
                match target.tx_get(&transaction.id()).await.map(|reply| reply.status) {
                    Ok(TransactionStatus::Included { .. }) => yes += 1,
                    Ok(_) | Err(ClientError::Refused { .. }) => no += 1,
                    Err(_not_reached) => {}
                }
            }
            if no == 0 && yes * 2 > self.targets.len() {
                return true;
            }
            sleep(PAUSE_BUSY).await;
        }
        false
    }

    fn transaction(&self, lane: &Lane, payload: Vec<u8>) -> Transaction {
        // Half of what is allowed: a node's clock may be in another slot already, and blocks have time to include it.
        let expiry_slot = self.slot_now() + self.genesis.limits().expiry_slots_max.div_ceil(2);
        TransactionBuilder::new(&self.genesis, expiry_slot)
            .nonce(lane.nonce)
            .payload(payload)
            .build(&lane.key)
            .expect("the genesis of a testnet allows the payload and asks for no stamp")
    }

    fn slot_now(&self) -> u64 {
        self.genesis.slot_at(host::unix_us()).unwrap_or(0)
    }

    fn acknowledge(&self, transaction: &Transaction, node: usize) {
        self.ledger().accepted.push(Accepted {
            id: transaction.id(),
            node,
            at_us: host::now_us(),
            round: *self.round.borrow(),
            expiry_slot: transaction.expiry_slot(),
        });
        self.acknowledged.notify_waiters();
    }

    fn refuse(&self, reason: String) {
        let mut ledger = self.ledger();
        ledger.refused += 1;
        if ledger.refusals.len() < REFUSALS_KEPT {
            ledger.refusals.push(reason);
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A ledger is whole between any two statements, so one that was held when a task panicked is as good.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refusals that no other node would take back.
const WRONG: [RefusalReason; 7] = [
    RefusalReason::Malformed,
    RefusalReason::WrongNetwork,
    RefusalReason::BadSignature,
    RefusalReason::ExpiryTooFar,
    RefusalReason::WrongStamp,
    RefusalReason::PayloadTooLarge,
    RefusalReason::NoAccountKey,
];
