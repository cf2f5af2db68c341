//! The load: signed transactions at a steady rate, each to a random node.
//!
//! # Rules
//! - Submission times are evenly spaced and do not wait for answers (an open loop): a slow network cannot slow its own
//!   load down and so look better than it is.
//! - Transactions go through **lanes**. A lane is an account of its own, whose transactions have nonces 0, 1, 2, ... and
//!   which rests for [`LANE_REST`] after each, so that the last one has reached every node before the next one sets out from
//!   another. Otherwise a node could receive them in the wrong order and the gap would show up as latency.
//! - There are as many lanes as the rate needs; one is opened whenever none is rested.
//! - A lane whose submission failed is closed: whether its nonce is used is then unknown.
//!
//! Keys, payloads and targets follow from the seed.

use std::collections::VecDeque;
use std::time::Duration;

use starling_crypto::SecretKey;
use starling_node::rpc::client::RpcClient;
use starling_protocol::genesis::Genesis;
use starling_protocol::transaction::{Transaction, TransactionBuilder};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::host;
use crate::wan::Stream;

/// How long a lane rests between two transactions: several times what a transaction takes around the Earth.
const LANE_REST: Duration = Duration::from_secs(3);

/// What the load came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Transactions that a node took in.
    pub(super) submitted: usize,
    /// What was said of those that none did.
    pub(super) refused: Vec<String>,
}

/// A load under way.
#[derive(Debug)]
pub(super) struct Load {
    genesis: Genesis,
    targets: Vec<RpcClient>,
    payload_bytes: usize,
    /// From one submission to the next; `None` for no load at all.
    interval: Option<Duration>,
    next: Instant,
    end: Instant,
    lanes: VecDeque<Lane>,
    keys: Stream,
    draws: Stream,
    under_way: JoinSet<(Lane, Result<(), String>)>,
    outcome: Outcome,
}

/// An account that takes its turn.
#[derive(Debug)]
struct Lane {
    key: SecretKey,
    nonce: u64,
    rested: Instant,
}

impl Load {
    /// A load of `rate` transactions a second from `start` to `end`.
    pub(super) fn new(
        genesis: &Genesis,
        targets: Vec<RpcClient>,
        rate: f64,
        payload_bytes: usize,
        seed: u64,
        span: (Instant, Instant),
    ) -> Self {
        Self {
            genesis: genesis.clone(),
            targets,
            payload_bytes,
            interval: (rate > 0.0).then(|| Duration::from_secs_f64(1.0 / rate)),
            next: span.0,
            end: span.1,
            lanes: VecDeque::new(),
            keys: Stream::new(seed, "lane keys"),
            draws: Stream::new(seed, "load"),
            under_way: JoinSet::new(),
            outcome: Outcome::default(),
        }
    }

    /// Submits until the end of the span or until `until`, whichever is first.
    pub(super) async fn run_until(&mut self, until: Instant) {
        while let Some(interval) = self.interval {
            if self.next >= self.end || self.next >= until {
                break;
            }
            tokio::time::sleep_until(self.next).await;
            self.next += interval;
            self.submit();
            self.collect();
        }
        tokio::time::sleep_until(until.min(self.end)).await;
        self.collect();
    }

    /// Whether every submission has been answered.
    pub(super) fn is_answered(&mut self) -> bool {
        self.collect();
        self.under_way.is_empty()
    }

    /// What the load came to. Submissions that are still unanswered count as refused.
    pub(super) fn finish(mut self) -> Outcome {
        self.collect();
        let unanswered = self.under_way.len();
        self.outcome.refused.extend((0..unanswered).map(|_| "a submission was not answered".to_owned()));
        self.outcome
    }

    fn submit(&mut self) {
        let mut lane = self.take_lane();
        let target = self.targets[self.draws.index(self.targets.len())].clone();
        let transaction = self.transaction(&lane);
        lane.nonce += 1;
        self.under_way.spawn(async move {
            let answer = target.tx_submit(transaction.bytes()).await.map(drop);
            lane.rested = Instant::now() + LANE_REST;
            (lane, answer.map_err(|error| error.to_string()))
        });
    }

    /// The lane that has rested longest, or a new one.
    fn take_lane(&mut self) -> Lane {
        let now = Instant::now();
        if self.lanes.front().is_some_and(|lane| lane.rested <= now)
            && let Some(lane) = self.lanes.pop_front()
        {
            return lane;
        }
        let mut seed = [0; 32];
        self.keys.fill(&mut seed);
        Lane { key: SecretKey::from_seed(&seed), nonce: 0, rested: now }
    }

    fn transaction(&mut self, lane: &Lane) -> Transaction {
        let mut payload = vec![0; self.payload_bytes];
        self.draws.fill(&mut payload);
        // Half of what is allowed: a node's clock may be in another slot already, and blocks have time to include it.
        let slot = self.genesis.slot_at(host::unix_us()).unwrap_or(0);
        let expiry_slot = slot + self.genesis.limits().expiry_slots_max.div_ceil(2);
        TransactionBuilder::new(&self.genesis, expiry_slot)
            .nonce(lane.nonce)
            .payload(payload)
            .build(&lane.key)
            .expect("the genesis of a testnet allows the payload and asks for no stamp")
    }

    /// Takes in the answers that have come.
    fn collect(&mut self) {
        while let Some(answered) = self.under_way.try_join_next() {
            match answered {
                Ok((lane, Ok(()))) => {
                    self.outcome.submitted += 1;
                    self.lanes.push_back(lane);
                }
                Ok((_, Err(reason))) => self.outcome.refused.push(reason),
                Err(panicked) => self.outcome.refused.push(format!("a submission failed: {panicked}")),
            }
        }
    }
}
