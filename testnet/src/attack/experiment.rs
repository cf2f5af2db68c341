//! One simulated attack, and what is measured of it.
//!
//! Only honest nodes are measured. A delivery is the arrival of a message's first copy at a node that did not publish it, within the
//! drain; every message counts, whenever it was published. Meshes are looked at once a second of simulated time.

use super::{Attackers, AttackersError, recruits};
use crate::measure::statistics::nearest_rank;
use crate::sim::{Engine, Scenario, World};
use serde::{Deserialize, Serialize};
use starling_protocol::id::{PeerHandle, PeerId};
use starling_protocol::node::Node;
use starling_protocol::time::{Duration, Time, micros};
use std::collections::BTreeMap;

/// Between two looks at the meshes.
const LOOK: Duration = Duration::from_secs(1);

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
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The engine's name.
    pub engine: String,
    /// Honest nodes.
    pub nodes: usize,
    /// Identities of attackers.
    pub attackers: usize,
    /// Messages that were published.
    pub published: u64,
    /// Messages that their publisher could not publish.
    pub unpublished: u64,
    /// Deliveries that there should have been.
    pub expected: u64,
    /// Deliveries that there were.
    pub delivered: u64,
    /// Latency of deliveries in microseconds: median.
    pub p50_us: u64,
    /// The same: 99th percentile.
    pub p99_us: u64,
    /// The same: the worst.
    pub max_us: u64,
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
    /// The least number of the victim's mesh links that lead to honest nodes, after the turn.
    pub victim_links: Option<usize>,
    /// Peers of one address in the mesh of one node, at most.
    pub per_ip: usize,
    /// Messages that were not accepted.
    pub refused: u64,
    /// Peers that were sent away for their score, of all honest nodes.
    pub graylisted: u64,
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
        let (end, nodes) = (scenario.end(), scenario.nodes);
        let mut world = World::with_adversaries(scenario, |setting| {
            recruits(&self.attackers, setting).expect("attackers were checked")
        });
        let mut look = Look::new(self);
        let mut at = Time::ZERO;
        while at < end {
            at = (at + LOOK).min(end);
            world.run_until(at);
            look.at(&world, at);
        }
        world.check();
        Ok(look.outcome(&world, engine, nodes, processor_s() - began_s))
    }
}

/// What is seen of the meshes while a run goes on.
struct Look {
    turns: Time,
    /// When the load ends. Without messages nobody can be told from a silent peer.
    load_ends: Time,
    victim: Option<u32>,
    attackers: usize,
    honest_share: Vec<f64>,
    links: u64,
    looks: u64,
    /// Since when an attacker is in a mesh: by node, peer and topic.
    places: BTreeMap<(u32, PeerHandle, usize), Time>,
    clung: [Duration; 2],
    victim_links: Option<usize>,
    per_ip: usize,
}

impl Look {
    fn new(experiment: &Experiment) -> Self {
        Self {
            turns: experiment.turns,
            load_ends: Time::ZERO + experiment.scenario.warm_up + experiment.scenario.duration,
            victim: experiment.victim,
            attackers: experiment.attackers.iter().map(Attackers::identities).sum(),
            honest_share: Vec::new(),
            links: 0,
            looks: 0,
            places: BTreeMap::new(),
            clung: [Duration::ZERO; 2],
            victim_links: None,
            per_ip: 0,
        }
    }

    fn at(&mut self, world: &World, now: Time) {
        let (mut links, mut honest_links) = (0, 0);
        let mut places = BTreeMap::new();
        for (number, node) in world.running() {
            let topics = [node.genesis().transaction_topic(), node.genesis().block_topic()];
            for (place, topic) in topics.into_iter().enumerate() {
                let mesh = node.mesh().mesh_peers(topic);
                let honest = mesh.iter().filter(|peer| is_honest(world, node, **peer)).count();
                if place == 0 {
                    links += mesh.len();
                    honest_links += honest;
                    self.per_ip = self.per_ip.max(most_of_an_address(world, node, mesh));
                    if self.victim == Some(number) && now >= self.turns {
                        self.victim_links = Some(self.victim_links.unwrap_or(usize::MAX).min(honest));
                    }
                }
                if self.attackers > 0 && now >= self.turns {
                    for peer in mesh.iter().filter(|peer| !is_honest(world, node, **peer)) {
                        let key = (number, *peer, place);
                        let since = self.places.get(&key).copied().unwrap_or(now);
                        self.clung[place] = self.clung[place].max(now.since(since));
                        places.insert(key, since);
                    }
                }
            }
        }
        self.places = places;
        self.links += links as u64;
        self.looks += world.scenario().nodes as u64;
        self.honest_share.push(if links == 0 { 0.0 } else { honest_links as f64 / links as f64 });
    }

    /// Seconds from the turn after which the share stays above four fifths as long as there are messages.
    fn healed_s(&self) -> Option<f64> {
        let turned = usize::try_from(micros(self.turns.since(Time::ZERO)) / 1_000_000).unwrap_or(usize::MAX);
        let load_ends = usize::try_from(micros(self.load_ends.since(Time::ZERO)) / 1_000_000).unwrap_or(usize::MAX);
        let after = self.honest_share.get(turned..load_ends.min(self.honest_share.len()))?;
        let bad = after.iter().rposition(|share| *share < 0.8);
        let healed = bad.map_or(0, |last| last + 1);
        (healed < after.len()).then_some(healed as f64)
    }

    fn outcome(self, world: &World, engine: Engine, nodes: usize, cpu_s: f64) -> Outcome {
        let observer = world.observer();
        let messages = observer.messages();
        let arrivals_us = messages.iter().flat_map(|message| message.arrivals_us());
        let mut latencies_us: Vec<u64> = arrivals_us.map(u64::from).collect();
        latencies_us.sort_unstable();
        let delivered = latencies_us.len() as u64;
        let published = messages.len() as u64;
        let quantile = |percent| nearest_rank(&latencies_us, percent).unwrap_or(0);
        Outcome {
            engine: engine.name.to_owned(),
            nodes,
            attackers: self.attackers,
            published,
            unpublished: world.unpublished(),
            expected: published * (nodes as u64 - 1),
            delivered,
            p50_us: quantile(50),
            p99_us: quantile(99),
            max_us: latencies_us.last().copied().unwrap_or(0),
            copies: (delivered + observer.duplicates) as f64 / delivered.max(1) as f64,
            degree: self.links as f64 / self.looks.max(1) as f64,
            healed_s: self.healed_s(),
            clung_s: self.clung[0].as_secs_f64(),
            clung_blocks_s: self.clung[1].as_secs_f64(),
            honest_share: self.honest_share,
            victim_links: self.victim_links,
            per_ip: self.per_ip,
            refused: observer.refused,
            graylisted: world.nodes().map(|node| node.mesh().counters().graylisted).sum(),
            events: world.counts().engine(),
            trace: world.trace().to_string(),
            cpu_s,
        }
    }
}

/// The place of a peer in the network.
fn place_of(id: &PeerId) -> Option<usize> {
    let number = u64::from_be_bytes(id.as_bytes().try_into().ok()?);
    usize::try_from(number.checked_sub(1)?).ok()
}

fn is_honest(world: &World, node: &Node, peer: PeerHandle) -> bool {
    node.peer_id(peer).and_then(|id| place_of(&id)).is_some_and(|place| place < world.scenario().nodes)
}

/// How many of these peers share one address, at most.
fn most_of_an_address(world: &World, node: &Node, mesh: &[PeerHandle]) -> usize {
    let places = mesh.iter().filter_map(|peer| place_of(&node.peer_id(*peer)?));
    let mut counts = BTreeMap::new();
    for ip in places.filter_map(|place| world.addresses().get(place)) {
        *counts.entry(*ip).or_insert(0_usize) += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

/// Seconds for which this thread has run, as Linux counts them; zero elsewhere.
fn processor_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
