//! One simulated attack or fault, and what is measured of it.
//!
//! Only honest nodes are measured. A delivery is the arrival of a message's first copy at a node that did not publish it, within the
//! drain; every message counts, whenever it was published, for every node that ran when it was published and for [`AROUND`] after that.
//! Latencies are those of messages that were published after the attackers began to do harm: what came before them would dilute what they do.
//! Meshes, connections and memory are looked at once a second of simulated time. What only some rows ask for is a
//! [`Study`].

use super::look::Look;
use super::recovery::{self, Recovery};
use super::suspicion::{self, Suspicion};
use super::{Attackers, AttackersError, floor, recruits};
use crate::measure::statistics::nearest_rank;
use crate::sim::heads::Heads;
use crate::sim::memory::experiment_mib;
use crate::sim::run::absences;
use crate::sim::trace::TraceHash;
use crate::sim::{Engine, Scenario, World};
use serde::{Deserialize, Serialize};
use starling_protocol::time::{Duration, Time, micros};

/// Between two looks at the meshes.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks at what must never be: each of them has every machine check all of its invariants.
const RULES: Duration = Duration::from_secs(30);
/// A node that ends so soon after a message was published need not have received it.
pub const AROUND: Duration = Duration::from_secs(5);

/// What is to be tried.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The network and its load.
    pub scenario: Scenario,
    /// Who attacks it.
    pub attackers: Vec<Attackers>,
    /// When attackers begin to do harm.
    pub turns: Time,
    /// A node that is looked at by itself.
    pub victim: Option<u32>,
    /// What else is to be found out.
    pub study: Study,
    /// Whether the rules of [`crate::sim::safety`] are watched, which takes longer.
    pub watched: bool,
}

/// What else is to be found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Study {
    /// Nothing.
    #[default]
    None,
    /// How soon a network is one again after this moment.
    Heals(Time),
    /// Whether nodes that were started again then have honest peers half a minute later.
    Restarts(Vec<(u32, Time)>),
    /// How soon nodes that were down and come back then have what they have missed.
    Returns(Vec<(u32, Time)>),
    /// Who is suspected rightly and wrongly, where these nodes stop for ever then.
    Suspects(Vec<(u32, Time)>),
    /// Whether the nodes agree about the chain in the end.
    Agreement,
    /// Nothing but what becomes of links: the run is long, so nothing is looked at between times.
    Links,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The engine's name.
    pub engine: String,
    /// Honest nodes.
    pub nodes: usize,
    /// Identities of attackers.
    pub attackers: usize,
    /// When the first of them come, in seconds from the start; none if nobody attacks.
    pub attackers_come_s: Option<f64>,
    /// When the last of them turn that behave at first; none if none do.
    pub attackers_turn_s: Option<f64>,
    /// From when on places, links and connections of attackers are looked at, in seconds from the start: what [`Experiment::turns`] was.
    pub judged_from_s: f64,
    /// Messages that were published.
    pub published: u64,
    /// Messages that their publisher could not publish although it should have been there.
    pub unpublished: u64,
    /// Deliveries that there should have been.
    pub expected: u64,
    /// Deliveries that there were.
    pub delivered: u64,
    /// Of these, how many came by being asked for.
    pub pulled: u64,
    /// Latency in microseconds of the deliveries of messages that were published from [`Self::judged_from_s`] on: median.
    pub p50_us: u64,
    /// The same: 99th percentile.
    pub p99_us: u64,
    /// The same: the worst.
    pub max_us: u64,
    /// The 99th percentile of the latencies of the victim's own messages alone; none where nobody is looked at by itself, or nothing of it arrived.
    pub victim_p99_us: Option<u64>,
    /// The 99th percentile of latency that no engine can beat ([`super::floor`]).
    pub floor_p99_us: u64,
    /// Copies that honest nodes received for each delivery.
    pub copies: f64,
    /// Links in a mesh of transactions on average over nodes and time.
    pub degree: f64,
    /// Of these, the share that leads to honest nodes, second by second from the start.
    pub honest_share: Vec<f64>,
    /// Seconds from the turn until four of five mesh links lead to honest nodes for as long as there are messages; none if they never do.
    pub healed_s: Option<f64>,
    /// The longest time in seconds for which one attacker kept a place in one mesh of transactions after the turn.
    pub clung_s: f64,
    /// The same in meshes of blocks.
    pub clung_blocks_s: f64,
    /// The longest time in seconds for which an attacker was connected with one node after the turn.
    pub stayed_s: f64,
    /// How many connections honest nodes had with attackers, all in all.
    pub connected: u64,
    /// How many there have to have been at least for the attack to count as one.
    pub connected_least: u64,
    /// How many there were at the same time, at most.
    pub connected_at_once: u64,
    /// How many places in meshes of transactions and blocks attackers had at the same time, at most.
    pub places_at_once: u64,
    /// Messages that attackers have sent, to each peer that one was sent to.
    pub sent: u64,
    /// Messages of one attacker that one node rejected, at most.
    pub rejected_max: u64,
    /// Invalid transactions and forged blocks of one attacker that one node verified, at most.
    pub verified_max: u64,
    /// The most bytes that one node had allocated and queued.
    pub memory_bytes: u64,
    /// The least number of the victim's mesh links that lead to honest nodes, after the turn.
    pub victim_links: Option<usize>,
    /// Peers of one address that could be in a mesh of one node, at most.
    pub per_ip: usize,
    /// Messages that were not accepted.
    pub refused: u64,
    /// Peers that were sent away for their score, of all honest nodes.
    pub graylisted: u64,
    /// Honest peers that honest nodes took out of their meshes for bringing nothing, for their score, or for being slow.
    pub false_prunes: u64,
    /// For how many days nodes ran, added up over nodes.
    pub node_days: f64,
    /// How rules were broken that hold whatever happens, with the times; nothing where they were not watched.
    pub violations: Vec<String>,
    /// How often a node saw two blocks of one producer for one slot.
    pub equivocations: u64,
    /// What became of a network that was divided, or of nodes that were started again.
    pub recovery: Recovery,
    /// Who was suspected.
    pub suspicion: Suspicion,
    /// Inputs that decoders and machines were given.
    pub inputs: u64,
    /// Events of the engine.
    pub events: u64,
    /// What the run hashes to.
    pub trace: String,
    /// Seconds of processor time.
    pub cpu_s: f64,
}

impl Outcome {
    /// Delivered of expected, from 0 to 1.
    #[must_use]
    pub fn coverage(&self) -> f64 {
        if self.expected == 0 { 0.0 } else { self.delivered as f64 / self.expected as f64 }
    }

    /// Adds what another run of the same experiment has found.
    pub(super) fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.unpublished += other.unpublished;
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.pulled += other.pulled;
        self.p99_us = self.p99_us.max(other.p99_us);
        self.max_us = self.max_us.max(other.max_us);
        self.graylisted += other.graylisted;
        self.connected += other.connected;
        self.connected_least += other.connected_least;
        self.connected_at_once = self.connected_at_once.max(other.connected_at_once);
        self.places_at_once = self.places_at_once.max(other.places_at_once);
        self.false_prunes += other.false_prunes;
        self.violations.extend_from_slice(&other.violations);
        self.node_days += other.node_days;
        self.recovery.add(&other.recovery);
        // One hash for all of them.
        let mut trace = TraceHash::default();
        self.trace.as_bytes().chunks(8).chain(other.trace.as_bytes().chunks(8)).for_each(|word| trace.mix_prefix(word));
        self.trace = trace.to_string();
        self.events += other.events;
        self.cpu_s += other.cpu_s;
    }
}

impl Experiment {
    /// Runs it, with this engine in place of the scenario's.
    ///
    /// # Errors
    /// If the attackers cannot take part.
    pub fn run(&self, engine: Engine) -> Result<Outcome, AttackersError> {
        self.attackers.iter().try_for_each(|some| some.check(self.scenario.nodes))?;
        let began_s = processor_s();
        let scenario = Scenario { engine, ..self.scenario.clone() };
        let (end, floor_p99_us) = (scenario.end(), floor::least_p99_us(&scenario));
        let mut world = World::with_adversaries(scenario, |setting| {
            recruits(&self.attackers, setting).expect("attackers were checked")
        });
        // Weaker engines are not to do without harm.
        if self.watched && engine.name == Engine::default().name {
            world.watch();
        }
        let mut look = Look::new(self);
        let mut studied = Studied::new(&self.study, &mut world);
        let between = if self.study == Study::Links { Duration::from_secs(600) } else { LOOK };
        let step = studied.step().unwrap_or(between);
        let (mut at, mut look_at, mut rules_at) = (Time::ZERO, Time::ZERO + between, Time::ZERO);
        while at < end {
            at = (at + step).min(end);
            world.run_until(at);
            studied.at(&world, at);
            if at >= look_at {
                look.at(&world, at);
                look_at = look_at + between;
            }
            if at >= rules_at {
                world.look();
                rules_at = at + RULES;
            }
        }
        world.check();
        let violations = world.look().to_vec();
        let mut outcome = deliveries(&world, self);
        outcome.violations = violations;
        outcome.engine = engine.name.to_owned();
        outcome.floor_p99_us = floor_p99_us;
        outcome.attackers = self.attackers.iter().map(Attackers::identities).sum();
        outcome.attackers_come_s = self.attackers.iter().map(|some| some.at_s).reduce(f64::min);
        let turn_s = self.attackers.iter().map(|some| some.param("turn_s")).reduce(f64::max);
        outcome.judged_from_s = self.turns.since(Time::ZERO).as_secs_f64();
        outcome.attackers_turn_s = turn_s.filter(|turn_s| Some(*turn_s) > outcome.attackers_come_s);
        outcome.connected = world.attackers_connected;
        outcome.connected_least = self.attackers.iter().map(|some| some.connections_least(&self.scenario)).sum();
        outcome.events = world.counts().engine();
        outcome.trace = world.trace().to_string();
        outcome.node_days = world.scenario().nodes as f64 * end.since(Time::ZERO).as_secs_f64() / 86_400.0;
        look.finish(&world, &mut outcome);
        studied.finish(&world, &mut outcome);
        outcome.cpu_s = processor_s() - began_s;
        Ok(outcome)
    }

    /// Memory that it takes while it runs, in MiB, about.
    pub(super) fn memory_mib(&self) -> u64 {
        experiment_mib(&self.scenario, &self.attackers)
    }
}

/// A study under way.
enum Studied {
    None,
    Heals(recovery::Healing),
    Restarts(recovery::Restarts),
    Returns(recovery::Returns),
    Suspects(suspicion::Watch),
    Agreement,
}

impl Studied {
    fn new(study: &Study, world: &mut World) -> Self {
        match study {
            Study::None | Study::Links => Self::None,
            Study::Heals(at) => Self::Heals(recovery::Healing::new(*at)),
            Study::Restarts(restarts) => Self::Restarts(recovery::Restarts::new(restarts, world.scenario().end())),
            Study::Returns(returns) => Self::Returns(recovery::Returns::new(returns)),
            Study::Suspects(crashes) => Self::Suspects(suspicion::Watch::new(crashes, world)),
            Study::Agreement => Self::Agreement,
        }
    }

    /// Between two looks, if they have to be closer together than usual.
    fn step(&self) -> Option<Duration> {
        match self {
            Self::Heals(_) | Self::Returns(_) | Self::Suspects(_) => Some(Duration::from_millis(100)),
            Self::None | Self::Restarts(_) | Self::Agreement => None,
        }
    }

    fn at(&mut self, world: &World, now: Time) {
        match self {
            Self::None | Self::Agreement => {}
            Self::Heals(healing) => healing.at(world, now),
            Self::Restarts(restarts) => restarts.at(world, now),
            Self::Returns(returns) => returns.at(world, now),
            Self::Suspects(watch) => watch.at(world, now),
        }
    }

    fn finish(self, world: &World, outcome: &mut Outcome) {
        match self {
            Self::None => {}
            Self::Heals(healing) => outcome.recovery = chain(world, &healing.finish()),
            Self::Restarts(restarts) => outcome.recovery = restarts.finish(),
            Self::Returns(returns) => outcome.recovery = returns.finish(),
            Self::Suspects(watch) => outcome.suspicion = watch.finish(world),
            Self::Agreement => outcome.recovery = chain(world, &Recovery::default()),
        }
    }
}

/// How the chain stands in the end.
fn chain(world: &World, found: &Recovery) -> Recovery {
    let heights = world.nodes().map(|node| node.chain().head().height);
    let slot_us = micros(world.scenario().slot).max(1);
    Recovery {
        heads: Heads::of(world).chains() as u64,
        height: heights.min().unwrap_or(0),
        slots: micros(world.scenario().end().since(Time::ZERO)) / slot_us,
        ..found.clone()
    }
}

/// What arrived where and when.
fn deliveries(world: &World, experiment: &Experiment) -> Outcome {
    let observer = world.observer();
    let nodes = world.scenario().nodes;
    let mut gone: Vec<Vec<(u64, u64)>> = vec![Vec::new(); nodes];
    for (node, from_us, until_us) in absences(world.scenario()) {
        gone[node].push((from_us, until_us));
    }
    let (mut latencies_us, mut of_victim_us) = (Vec::new(), Vec::new());
    let (mut published, mut expected, mut delivered, mut pulled) = (0, 0, 0, 0);
    for message in observer.messages() {
        published += 1;
        let published_us = message.published.as_micros();
        let owed_until_us = published_us + micros(AROUND);
        for (node, reception) in message.receptions().enumerate() {
            let absent =
                gone[node].iter().any(|(from_us, until_us)| published_us < *until_us && *from_us < owed_until_us);
            if node == message.origin as usize || absent {
                continue;
            }
            expected += 1;
            // What came and was refused, because the pool was full for example, was not delivered.
            if let (Some(arrival_us), Some(_)) = (reception.arrival_us, reception.accepted_us) {
                delivered += 1;
                pulled += u64::from(reception.pulled);
                if message.published >= experiment.turns {
                    latencies_us.push(u64::from(arrival_us));
                    of_victim_us.extend((experiment.victim == Some(message.origin)).then_some(u64::from(arrival_us)));
                }
            }
        }
    }
    latencies_us.sort_unstable();
    of_victim_us.sort_unstable();
    let quantile = |percent| nearest_rank(&latencies_us, percent).unwrap_or(0);
    Outcome {
        nodes,
        published,
        // Who does not run publishes nothing, and owes nothing; who runs and refuses owes it.
        unpublished: if world.scenario().faults.is_empty() { world.unpublished() } else { 0 }
            + world.refused_submissions().0,
        expected,
        delivered,
        pulled,
        p50_us: quantile(50),
        p99_us: quantile(99),
        max_us: latencies_us.last().copied().unwrap_or(0),
        victim_p99_us: nearest_rank(&of_victim_us, 99),
        copies: (delivered + observer.duplicates) as f64 / delivered.max(1) as f64,
        sent: world.wire().of_attackers,
        refused: observer.refused,
        equivocations: observer.equivocations,
        graylisted: world.nodes().map(|node| node.mesh().counters().graylisted).sum(),
        ..Outcome::default()
    }
}

/// Seconds for which this thread has run, as Linux counts them; zero elsewhere.
fn processor_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
