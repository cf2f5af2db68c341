//! The crash test: nodes are killed at chosen moments while transactions are submitted, and nothing acknowledged may be lost.
//!
//! # A round
//! 1. **A moment**, of one of the four kinds of [`Moment`]; every four rounds have each of them once, in an order drawn from
//!    the seed.
//! 2. **Victims**: one node, several, or all at once, drawn. When all are killed right after an acknowledgement, only the disks
//!    know of the transaction; no neighbour covers for a promise that was not kept.
//! 3. **SIGKILL**, after a further delay that is drawn from the time that the moment takes.
//! 4. In half of the rounds `starling db check` looks at the directories as the kill left them, before the nodes do.
//! 5. **Restart**, and then, within [`ROUND_PATIENCE`], all nodes must have one chain that goes on and holds every transaction
//!    that was acknowledged before the end of the round.
//!
//! After the last round the load ends, the nodes stop in order, and every data directory must pass `starling db check` and
//! hold, block by block, the chain that the nodes had agreed on, with everything acknowledged in it exactly once and in time.
//!
//! # How a reorganisation is made
//! One node is restarted at a new port without bootnodes and without its list of peers: it knows nobody, and nobody knows
//! where it is. It goes on making blocks at its turns and acknowledging transactions, and so do the others. Then another node
//! is restarted with the lone node's address. The lone node learns of the longer chain and gives up its own: what
//! only its blocks held has to go back to its pool and out to the others.
//!
//! # What the seed decides
//! Kinds, victims, delays, keys, payloads, and whom a transaction is given to. The processes' timing it cannot decide, so the
//! same seed gives the same plan and not the same interleaving.

use std::time::Duration;

use serde::Serialize;
use starling_node::api::BlockSelector;
use starling_node::rpc::client::RpcClient;
use starling_protocol::id::BlockId;
use tokio::time::{Instant, sleep, timeout};

use super::network::Network;
use super::verdict::Follower;
use super::wallet::{Ledger, Wallet};
use crate::cluster::{ClusterError, host};
use crate::wan::Stream;

/// How long a round may take from the last restart until all is well again.
pub(super) const ROUND_PATIENCE: Duration = Duration::from_secs(60);
/// How long a moment may take to come. When it does not (no acknowledgement, no lone block), the round kills all the same.
const MOMENT_PATIENCE: Duration = Duration::from_secs(15);
/// How long submissions may take to be answered after the last round.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// How often a node's head is looked at while a reorganisation is awaited.
const HEAD_POLL: Duration = Duration::from_millis(4);
/// About how long a node takes to start.
const START_MS: u64 = 400;
/// Blocks that a lone node makes before it meets the others again.
const LONE_BLOCKS: u64 = 2;

/// When nodes are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Moment {
    /// Right after a node has acknowledged a transaction.
    Submission,
    /// While a block is being imported: shortly after a slot has begun.
    Import,
    /// While a node gives up its own blocks for a longer chain.
    Reorganisation,
    /// While a node starts, after an earlier kill.
    StartUp,
}

impl Moment {
    const ALL: [Self; 4] = [Self::Submission, Self::Import, Self::Reorganisation, Self::StartUp];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Submission => "submission",
            Self::Import => "import",
            Self::Reorganisation => "reorganisation",
            Self::StartUp => "start-up",
        }
    }
}

/// What a round did.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Round {
    pub(super) round: u32,
    pub(super) moment: Moment,
    pub(super) victims: Vec<usize>,
    /// Whether the moment came; if not, the kill was at another one.
    pub(super) met: bool,
    pub(super) seconds: f64,
    pub(super) height: u64,
    pub(super) accepted: usize,
}

/// What the whole test came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) rounds: Vec<Round>,
    /// What is wrong, in words; empty if all is well.
    pub(super) findings: Vec<String>,
    pub(super) kills: u64,
}

/// The test under way.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    network: &'a mut Network,
    wallet: Wallet,
    follower: Follower,
    draws: Stream,
    outcome: &'a mut Outcome,
}

impl<'a> Trial<'a> {
    /// A test of a network that is up.
    pub(super) fn new(network: &'a mut Network, outcome: &'a mut Outcome) -> Self {
        let options = &network.options;
        let targets = network.rpcs().to_vec();
        let wallet = Wallet::start(&network.plan.genesis, targets, options.tx_rate, options.tx_bytes, options.seed);
        let draws = Stream::new(options.seed, "crashes");
        Self { wallet, follower: Follower::default(), draws, outcome, network }
    }

    /// All rounds, then the end. Stops at the first finding.
    /// Returns what was acknowledged, and the height up to which all nodes agreed in the end.
    pub(super) async fn run(
        mut self,
        rounds: u32,
        mut progress: impl FnMut(&Round),
    ) -> Result<(Ledger, u64), ClusterError> {
        let mut moments: Vec<Moment> = Vec::new();
        for round in 1..=rounds {
            if moments.is_empty() {
                moments = Moment::ALL.to_vec();
                self.draws.shuffle(&mut moments);
            }
            let moment = moments.pop().expect("it was just filled");
            let done = self.round(round, moment).await?;
            progress(&done);
            self.outcome.rounds.push(done);
            if !self.outcome.findings.is_empty() {
                return Ok(self.result());
            }
        }
        self.wallet.stop(ANSWER_PATIENCE).await;
        self.settle("after the last round").await;
        Ok(self.result())
    }

    fn result(&self) -> (Ledger, u64) {
        (self.wallet.ledger().clone(), self.follower.chain.height())
    }

    async fn round(&mut self, round: u32, moment: Moment) -> Result<Round, ClusterError> {
        self.wallet.begin_round(round);
        let started = Instant::now();
        let victims = self.victims();
        let (met, victims) = match moment {
            Moment::Submission => (self.at_submission(&victims).await, victims),
            Moment::Import => (self.at_import(&victims).await, victims),
            Moment::Reorganisation => self.at_reorganisation(&victims).await?,
            Moment::StartUp => (self.at_start_up(&victims).await?, victims),
        };
        if self.draws.below(2) == 0 {
            for &victim in &victims {
                let problem = self.network.check_database(victim).await;
                self.outcome
                    .findings
                    .extend(problem.map(|problem| format!("round {round}: after the kill, {problem}")));
            }
        }
        for &victim in &victims {
            self.network.revive(victim)?;
        }
        self.network.fleet.all_up().await?;
        self.settle(&format!("round {round}")).await;
        let accepted = self.wallet.ledger().accepted.len();
        let (seconds, height) = (started.elapsed().as_secs_f64(), self.follower.chain.height());
        Ok(Round { round, moment, victims, met, seconds, height, accepted })
    }

    /// One node in half of the cases, else several, or all.
    fn victims(&mut self) -> Vec<usize> {
        let nodes = self.network.names.len();
        let mut order: Vec<usize> = (0..nodes).collect();
        self.draws.shuffle(&mut order);
        let count = match self.draws.below(4) {
            0 | 1 => 1,
            2 => 1 + self.draws.index(nodes),
            _ => nodes,
        };
        order.truncate(count);
        order
    }

    async fn kill(&mut self, victims: &[usize]) {
        // All of them get the signal before any is waited for, so that none outlives the others for long.
        for &victim in victims {
            self.network.fleet.signal_kill(victim);
        }
        for &victim in victims {
            self.network.kill(victim).await;
            self.outcome.kills += 1;
        }
    }

    /// A delay of up to `most_ms`; none at all in one case of four.
    fn delay(&mut self, most_ms: u64) -> Duration {
        let delay = Duration::from_micros(self.draws.below(most_ms * 1_000));
        if self.draws.below(4) == 0 { Duration::ZERO } else { delay }
    }

    async fn at_submission(&mut self, victims: &[usize]) -> bool {
        let count = 1 + self.draws.index(4);
        let delay = self.delay(20);
        let met = timeout(MOMENT_PATIENCE, self.wallet.acknowledgements(victims[0], count)).await.is_ok();
        sleep_exactly(delay).await;
        self.kill(victims).await;
        met
    }

    async fn at_import(&mut self, victims: &[usize]) -> bool {
        // From making the block to having it on every disk takes some tens of milliseconds.
        let delay = self.delay(80);
        let genesis = &self.network.plan.genesis;
        let now_us = host::unix_us();
        let next_us = genesis.slot_start(genesis.slot_at(now_us).map_or(0, |slot| slot + 1));
        sleep_exactly(Duration::from_micros(next_us.saturating_sub(now_us)) + delay).await;
        self.kill(victims).await;
        true
    }

    async fn at_start_up(&mut self, victims: &[usize]) -> Result<bool, ClusterError> {
        self.kill(victims).await;
        for _ in 0..=self.draws.below(3) {
            let delay = self.delay(START_MS);
            for &victim in victims {
                self.network.revive(victim)?;
            }
            sleep_exactly(delay).await;
            self.kill(victims).await;
        }
        Ok(true)
    }

    /// Kills while a lone node gives up its blocks. The lone node is always among the victims.
    async fn at_reorganisation(&mut self, victims: &[usize]) -> Result<(bool, Vec<usize>), ClusterError> {
        let nodes = self.network.names.len();
        let lone = victims[0];
        let bridge = (lone + 1 + self.draws.index(nodes - 1)) % nodes;
        let (watch, delay) = (self.draws.below(3) > 0, self.delay(20));
        let blind = self.delay(1_500);
        self.kill(&[lone]).await;
        let address = self.network.revive_alone(lone).await?;
        let rpc = self.network.rpcs()[lone].clone();
        let fork = rpc.chain_head().await.map_or(0, |head| head.height);
        let apart = until(|| async { rpc.chain_head().await.is_ok_and(|head| head.height >= fork + LONE_BLOCKS) });
        let mut met = timeout(MOMENT_PATIENCE, apart).await.is_ok();
        let first_alone = block_at(&rpc, fork + 1).await;
        self.kill(&[bridge]).await;
        let other = (0..nodes).find(|node| *node != lone && *node != bridge);
        let known = std::iter::once(address).chain(other.map(|other| self.network.address(other))).collect();
        self.network.revive_knowing(bridge, known)?;
        self.network.fleet.is_up(bridge).await?;
        if watch {
            let switched = until(|| async {
                let now = block_at(&rpc, fork + 1).await;
                now.is_some() && now != first_alone
            });
            met &= timeout(MOMENT_PATIENCE, switched).await.is_ok();
            sleep_exactly(delay).await;
        } else {
            sleep_exactly(blind).await;
        }
        self.kill(victims).await;
        Ok((met, victims.to_vec()))
    }

    /// Waits until all is well.
    async fn settle(&mut self, when: &str) {
        let accepted = self.wallet.ledger().accepted.clone();
        let height = self.follower.chain.height();
        let (rpcs, names) = (self.network.rpcs(), &self.network.names);
        if let Err(problem) = self.follower.agree(rpcs, names, height, &accepted, ROUND_PATIENCE).await {
            self.outcome.findings.push(format!("{when}: {problem}"));
        }
        let findings = self.follower.chain.findings(&accepted, names);
        self.outcome.findings.extend(findings.into_iter().map(|finding| format!("{when}: {finding}")));
    }
}

/// The canonical block at a height, as a node has it.
async fn block_at(rpc: &RpcClient, height: u64) -> Option<BlockId> {
    Some(rpc.chain_block(BlockSelector::Height(height)).await.ok()??.block_id)
}

/// Waits until a condition holds.
async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    while !holds().await {
        sleep(HEAD_POLL).await;
    }
}

/// Sleeps without rounding up to the timer's millisecond, which is the order of what a kill has to hit.
async fn sleep_exactly(time: Duration) {
    let until = Instant::now() + time;
    sleep(time.saturating_sub(Duration::from_millis(2))).await;
    while Instant::now() < until {
        tokio::task::yield_now().await;
    }
}
