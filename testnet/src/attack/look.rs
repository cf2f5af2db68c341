//! What is seen of meshes, connections and memory while a run goes on, once a second of simulated time.

use super::experiment::{Experiment, Outcome};
use crate::sim::World;
use starling_protocol::id::{PeerHandle, PeerId, Topic};
use starling_protocol::node::Node;
use starling_protocol::time::{Duration, Time, micros};
use std::collections::BTreeMap;

/// What is seen of the meshes while a run goes on.
pub(super) struct Look {
    turns: Time,
    /// When the load ends. Without messages nobody can be told from a silent peer.
    load_ends: Time,
    victim: Option<u32>,
    attacked: bool,
    honest_share: Vec<f64>,
    links: u64,
    looks: u64,
    /// Since when an attacker is in a mesh: by node, peer and topic.
    places: BTreeMap<(u32, PeerHandle, usize), Time>,
    clung: [Duration; 2],
    /// Since when an attacker is connected: by node and peer.
    connected: BTreeMap<(u32, PeerHandle), Time>,
    stayed: Duration,
    connected_at_once: usize,
    places_at_once: usize,
    memory_bytes: usize,
    victim_links: Option<usize>,
    per_ip: usize,
}

impl Look {
    pub(super) fn new(experiment: &Experiment) -> Self {
        Self {
            turns: experiment.turns,
            load_ends: Time::ZERO + experiment.scenario.warm_up + experiment.scenario.duration,
            victim: experiment.victim,
            attacked: !experiment.attackers.is_empty(),
            honest_share: Vec::new(),
            links: 0,
            looks: 0,
            places: BTreeMap::new(),
            clung: [Duration::ZERO; 2],
            connected: BTreeMap::new(),
            stayed: Duration::ZERO,
            connected_at_once: 0,
            places_at_once: 0,
            memory_bytes: 0,
            victim_links: None,
            per_ip: 0,
        }
    }

    pub(super) fn at(&mut self, world: &World, now: Time) {
        let (mut links, mut honest_links) = (0, 0);
        let mut places = BTreeMap::new();
        for (number, node) in world.running() {
            self.memory_bytes = self.memory_bytes.max(world.memory_of(number));
            let topics = [node.genesis().transaction_topic(), node.genesis().block_topic()];
            for (place, topic) in topics.into_iter().enumerate() {
                let mesh = node.mesh().mesh_peers(topic);
                self.per_ip = self.per_ip.max(most_of_an_address(world, node, topic, number));
                let honest = mesh.iter().filter(|peer| is_honest(world, node, **peer)).count();
                if place == 0 {
                    links += mesh.len();
                    honest_links += honest;
                    if self.victim == Some(number) && now >= self.turns {
                        self.victim_links = Some(self.victim_links.unwrap_or(usize::MAX).min(honest));
                    }
                }
                if self.attacked && now >= self.turns {
                    for peer in mesh.iter().filter(|peer| !is_honest(world, node, **peer)) {
                        let key = (number, *peer, place);
                        let since = self.places.get(&key).copied().unwrap_or(now);
                        self.clung[place] = self.clung[place].max(now.since(since));
                        places.insert(key, since);
                    }
                }
            }
        }
        self.places_at_once = self.places_at_once.max(places.len());
        self.places = places;
        if self.attacked && now >= self.turns {
            self.connections(world, now);
        }
        self.links += links as u64;
        self.looks += world.scenario().nodes as u64;
        self.honest_share.push(if links == 0 { 0.0 } else { honest_links as f64 / links as f64 });
    }

    /// Who of the attackers is connected, and since when.
    fn connections(&mut self, world: &World, now: Time) {
        let mut connected = BTreeMap::new();
        for (number, _) in world.running() {
            for (peer, far) in world.connections(number) {
                if far as usize >= world.scenario().nodes {
                    let since = self.connected.get(&(number, peer)).copied().unwrap_or(now);
                    self.stayed = self.stayed.max(now.since(since));
                    connected.insert((number, peer), since);
                }
            }
        }
        self.connected_at_once = self.connected_at_once.max(connected.len());
        self.connected = connected;
    }

    /// Seconds from the turn after which the share stays above four fifths as long as there are messages: the first look is a second after it.
    fn healed_s(&self) -> Option<f64> {
        let turned = usize::try_from(micros(self.turns.since(Time::ZERO)) / 1_000_000).unwrap_or(usize::MAX);
        let load_ends = usize::try_from(micros(self.load_ends.since(Time::ZERO)) / 1_000_000).unwrap_or(usize::MAX);
        let after = self.honest_share.get(turned..load_ends.min(self.honest_share.len()))?;
        let bad = after.iter().rposition(|share| *share < 0.8);
        let healed = bad.map_or(0, |last| last + 1);
        (healed < after.len()).then_some((healed + 1) as f64)
    }

    pub(super) fn finish(self, world: &World, outcome: &mut Outcome) {
        outcome.degree = self.links as f64 / self.looks.max(1) as f64;
        outcome.healed_s = self.healed_s();
        outcome.clung_s = self.clung[0].as_secs_f64();
        outcome.clung_blocks_s = self.clung[1].as_secs_f64();
        outcome.stayed_s = self.stayed.as_secs_f64();
        outcome.connected_at_once = self.connected_at_once as u64;
        outcome.places_at_once = self.places_at_once as u64;
        outcome.memory_bytes = self.memory_bytes as u64;
        outcome.victim_links = self.victim_links;
        outcome.per_ip = self.per_ip;
        outcome.honest_share = self.honest_share;
        let observer = world.observer();
        outcome.false_prunes = observer.prunes.len() as u64;
        outcome.rejected_max = observer.dealings.pairs().map(|(_, dealing)| dealing.rejected).max().unwrap_or(0);
        outcome.verified_max = observer.dealings.pairs().map(|(_, dealing)| dealing.verified).max().unwrap_or(0);
    }
}

/// The place of a peer in the network.
fn place_of(id: &PeerId) -> Option<usize> {
    let number = u64::from_be_bytes(id.as_bytes().try_into().ok()?);
    usize::try_from(number.checked_sub(1)?).ok()
}

pub(super) fn is_honest(world: &World, node: &Node, peer: PeerHandle) -> bool {
    node.peer_id(peer).and_then(|id| place_of(&id)).is_some_and(|place| place < world.scenario().nodes)
}

/// How many of the peers that could be in the mesh of a topic share one address, at most.
fn most_of_an_address(world: &World, node: &Node, topic: &Topic, number: u32) -> usize {
    let eligible = world.connections(number).filter(|(peer, _)| node.mesh().could_be_in_mesh(topic, *peer));
    let mut counts = BTreeMap::new();
    for ip in eligible.filter_map(|(_, far)| world.addresses().get(far as usize)) {
        *counts.entry(*ip).or_insert(0_usize) += 1;
    }
    counts.into_values().max().unwrap_or(0)
}
