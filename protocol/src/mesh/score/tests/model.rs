//! Scoring against a naive copy of its rules: one record per peer with plain maps, every rule written out as in the
//! specification, decay step by step.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const TOPICS: usize = 2;
const SLOTS: u32 = 4;

#[derive(Clone, Debug)]
enum Step {
    Connect { slot: u32, identity: u64, ip: u8 },
    Disconnect { slot: u32 },
    Graft { slot: u32, topic: u8 },
    Prune { slot: u32, topic: u8 },
    First { slot: u32, topic: u8 },
    Duplicate { slot: u32, topic: u8, validated_ms_ago: Option<u64> },
    Invalid { slot: u32, topic: u8 },
    Penalize { slot: u32, count: u32 },
    BrokenPromise { slot: u32 },
    Application { slot: u32, value: f64 },
    Suspend { for_ms: u64 },
    Pass { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let slot = 0..SLOTS;
    let topic = 0..u8::try_from(TOPICS).expect("few topics");
    let on = move || (slot.clone(), topic.clone());
    let step = prop_oneof![
        2 => (0..SLOTS, 0_u64..6, 0_u8..2).prop_map(|(slot, identity, ip)| Step::Connect { slot, identity, ip }),
        1 => (0..SLOTS).prop_map(|slot| Step::Disconnect { slot }),
        3 => on().prop_map(|(slot, topic)| Step::Graft { slot, topic }),
        1 => on().prop_map(|(slot, topic)| Step::Prune { slot, topic }),
        4 => on().prop_map(|(slot, topic)| Step::First { slot, topic }),
        3 => (on(), prop::option::of(0_u64..4_000))
            .prop_map(|((slot, topic), validated_ms_ago)| Step::Duplicate { slot, topic, validated_ms_ago }),
        1 => on().prop_map(|(slot, topic)| Step::Invalid { slot, topic }),
        1 => (0..SLOTS, 0_u32..4).prop_map(|(slot, count)| Step::Penalize { slot, count }),
        1 => (0..SLOTS).prop_map(|slot| Step::BrokenPromise { slot }),
        1 => (0..SLOTS, -30.0..30.0_f64).prop_map(|(slot, value)| Step::Application { slot, value }),
        1 => (0_u64..3_000).prop_map(|for_ms| Step::Suspend { for_ms }),
        5 => (0_u64..5_000).prop_map(|ms| Step::Pass { ms }),
    ];
    prop::collection::vec(step, 1..120)
}

fn config() -> ScoreConfig {
    let mesh_deliveries = MeshDeliveriesConfig {
        weight: -30.0,
        decay: 0.9,
        deliveries_max: 4.0,
        threshold: 2.0,
        window: Duration::from_secs(2),
        activation: Duration::from_secs(3),
        // Whole messages never add up to the threshold exactly, where rounding would decide.
        traffic_fraction: Some(0.53),
    };
    let mesh_failure = PenaltyConfig { weight: -5.0, decay: 0.8 };
    let first = TopicScoreConfig { mesh_deliveries, mesh_failure, ..TopicScoreConfig::transactions() };
    let classic = MeshDeliveriesConfig { traffic_fraction: None, ..mesh_deliveries };
    let second = TopicScoreConfig { mesh_deliveries: classic, ..TopicScoreConfig::blocks() };
    ScoreConfig {
        topics: vec![first, second],
        colocation: ColocationConfig { threshold: 1, ..ScoreConfig::default().colocation },
        behaviour: BehaviourConfig { threshold: 1.0, ..ScoreConfig::default().behaviour },
        retention: RetentionConfig { duration: Duration::from_secs(20), entries_max: 100 },
        ..ScoreConfig::default()
    }
}

#[derive(Clone, Debug, Default)]
struct ModelTopic {
    in_mesh_since: Option<u64>,
    mesh_ms: u64,
    active: bool,
    first: f64,
    mesh: f64,
    /// What others and the peer itself delivered first while it was in the mesh.
    carried: f64,
    failure: f64,
    invalid: f64,
}

#[derive(Clone, Debug, Default)]
struct ModelPeer {
    identity: u64,
    ip: u8,
    application: f64,
    behaviour: f64,
    topics: [ModelTopic; TOPICS],
}

#[derive(Debug)]
struct Model {
    config: ScoreConfig,
    now_ms: u64,
    next_decay_ms: u64,
    suspended_until_ms: u64,
    peers: BTreeMap<u32, ModelPeer>,
    retained: BTreeMap<u64, (u64, ModelPeer)>,
}

impl Model {
    fn suspended(&self) -> bool {
        self.now_ms < self.suspended_until_ms
    }

    fn deficit(&self, peer: &ModelPeer, topic: usize) -> f64 {
        let (state, config) = (&peer.topics[topic], &self.config.topics[topic].mesh_deliveries);
        if self.suspended() || !state.active || state.in_mesh_since.is_none() {
            return 0.0;
        }
        if let Some(fraction) = config.traffic_fraction
            && fraction * state.carried < config.threshold
        {
            return 0.0;
        }
        f64::max(config.threshold - state.mesh, 0.0)
    }

    fn topic_parts(&self, peer: &ModelPeer, topic: usize) -> (f64, f64) {
        let (state, config) = (&peer.topics[topic], &self.config.topics[topic]);
        let mesh_ms = state.in_mesh_since.map_or(0, |_| state.mesh_ms);
        let seconds = f64::from(u32::try_from(mesh_ms).expect("short runs")) / 1_000.0;
        let p1 = f64::min(seconds, config.time_in_mesh.quanta_max) * config.time_in_mesh.weight;
        let p2 = state.first * config.first_deliveries.weight;
        let deficit = self.deficit(peer, topic);
        let p3 = deficit * deficit * config.mesh_deliveries.weight;
        let p3b = state.failure * config.mesh_failure.weight;
        let p4 = state.invalid * state.invalid * config.invalid.weight;
        (f64::min(config.weight * (p1 + p2), config.positive_max), config.weight * (p3 + p3b + p4))
    }

    fn score(&self, slot: u32) -> f64 {
        let Some(peer) = self.peers.get(&slot) else { return 0.0 };
        let parts: Vec<(f64, f64)> = (0..TOPICS).map(|topic| self.topic_parts(peer, topic)).collect();
        let positive: f64 = parts.iter().map(|(positive, _)| positive).sum();
        let negative: f64 = parts.iter().map(|(_, negative)| negative).sum();
        let neighbours = self.peers.values().filter(|other| other.ip == peer.ip).count();
        let surplus = f64::from(u32::try_from(neighbours).expect("few peers") - 1);
        let breaches = f64::max(peer.behaviour - self.config.behaviour.threshold, 0.0);
        f64::min(positive, self.config.positive_max)
            + negative
            + peer.application
            + self.config.colocation.weight * surplus * surplus
            + self.config.behaviour.weight * breaches * breaches
    }

    fn leave_mesh(&mut self, slot: u32, topic: usize) {
        let Some(peer) = self.peers.get(&slot).cloned() else { return };
        let deficit = self.deficit(&peer, topic);
        let state = &mut self.peers.get_mut(&slot).expect("just found").topics[topic];
        state.failure += deficit * deficit;
        (state.in_mesh_since, state.active, state.carried) = (None, false, 0.0);
    }

    fn disconnect(&mut self, slot: u32) {
        let score = self.score(slot);
        (0..TOPICS).for_each(|topic| self.leave_mesh(slot, topic));
        let Some(peer) = self.peers.remove(&slot) else { return };
        if score > 0.0 {
            return;
        }
        let mut kept =
            ModelPeer { behaviour: peer.behaviour, application: peer.application.min(0.0), ..ModelPeer::default() };
        for topic in 0..TOPICS {
            kept.topics[topic].failure = peer.topics[topic].failure;
            kept.topics[topic].invalid = peer.topics[topic].invalid;
        }
        self.retained.insert(peer.identity, (self.now_ms + 20_000, kept));
    }

    fn deliver_in_mesh(&mut self, slot: u32, topic: usize) {
        let most = self.config.topics[topic].mesh_deliveries.deliveries_max;
        if let Some(peer) = self.peers.get_mut(&slot)
            && peer.topics[topic].in_mesh_since.is_some()
        {
            peer.topics[topic].mesh = f64::min(peer.topics[topic].mesh + 1.0, most);
        }
    }

    fn first(&mut self, slot: u32, topic: usize) {
        if !self.suspended() {
            for peer in self.peers.values_mut().filter(|peer| peer.topics[topic].in_mesh_since.is_some()) {
                peer.topics[topic].carried += 1.0;
            }
        }
        let most = self.config.topics[topic].first_deliveries.deliveries_max;
        if let Some(peer) = self.peers.get_mut(&slot) {
            peer.topics[topic].first = f64::min(peer.topics[topic].first + 1.0, most);
        }
        self.deliver_in_mesh(slot, topic);
    }

    fn decay(&mut self) {
        let shrink = |value: &mut f64, factor: f64| {
            *value *= factor;
            if *value < 0.01 {
                *value = 0.0;
            }
        };
        let suspended = self.suspended();
        while self.next_decay_ms <= self.now_ms {
            self.next_decay_ms += 1_000;
            for peer in self.peers.values_mut() {
                shrink(&mut peer.behaviour, self.config.behaviour.decay);
                for (state, config) in peer.topics.iter_mut().zip(&self.config.topics) {
                    shrink(&mut state.first, config.first_deliveries.decay);
                    shrink(&mut state.failure, config.mesh_failure.decay);
                    shrink(&mut state.invalid, config.invalid.decay);
                    if !suspended {
                        shrink(&mut state.mesh, config.mesh_deliveries.decay);
                        state.carried *= config.mesh_deliveries.decay;
                    }
                    if let Some(since) = state.in_mesh_since {
                        state.mesh_ms = self.now_ms - since;
                        state.active |= state.mesh_ms > 3_000;
                    }
                }
            }
        }
    }
}

/// Applies one step to both and compares.
fn apply(step: &Step, scores: &mut Scores, model: &mut Model, generations: &mut [u32]) {
    let now = Time::from_millis(model.now_ms);
    let handle_of = |slot: u32, generations: &[u32]| PeerHandle { slot, generation: generations[slot as usize] };
    match *step {
        Step::Connect { slot, identity, ip } => {
            if model.peers.contains_key(&slot) || model.peers.values().any(|peer| peer.identity == identity) {
                return;
            }
            let peer = handle_of(slot, generations);
            scores.connected(now, peer, PeerId::from_number(identity), IpAddr::from([8, 8, 8, ip]));
            let record = model.retained.remove(&identity).filter(|(expires_ms, _)| *expires_ms > model.now_ms);
            let known = record.map_or_else(ModelPeer::default, |(_, peer)| peer);
            model.peers.insert(slot, ModelPeer { identity, ip, ..known });
        }
        Step::Disconnect { slot } => {
            scores.disconnected(now, handle_of(slot, generations));
            if model.peers.contains_key(&slot) {
                model.disconnect(slot);
                generations[slot as usize] += 1;
            }
        }
        Step::Graft { slot, topic } => {
            scores.grafted(now, handle_of(slot, generations), TopicIndex(topic));
            if let Some(peer) = model.peers.get_mut(&slot) {
                let state = &mut peer.topics[usize::from(topic)];
                (state.in_mesh_since, state.mesh_ms) = (Some(model.now_ms), 0);
                (state.active, state.carried) = (false, 0.0);
            }
        }
        Step::Prune { slot, topic } => {
            scores.pruned(now, handle_of(slot, generations), TopicIndex(topic));
            model.leave_mesh(slot, usize::from(topic));
        }
        Step::First { slot, topic } => {
            scores.first_delivery(now, handle_of(slot, generations), TopicIndex(topic));
            model.first(slot, usize::from(topic));
        }
        Step::Duplicate { slot, topic, validated_ms_ago } => {
            let validated_at = validated_ms_ago.map(|ms| now - Duration::from_millis(ms));
            scores.duplicate_delivery(now, handle_of(slot, generations), TopicIndex(topic), validated_at);
            let ago_ms = validated_ms_ago.map(|ms| ms.min(model.now_ms));
            if ago_ms.is_none_or(|ms| ms <= 2_000) {
                model.deliver_in_mesh(slot, usize::from(topic));
            }
        }
        Step::Invalid { slot, topic } => {
            scores.invalid_message(handle_of(slot, generations), TopicIndex(topic));
            model.peers.entry(slot).and_modify(|peer| peer.topics[usize::from(topic)].invalid += 1.0);
        }
        Step::Penalize { slot, count } => {
            scores.penalize(handle_of(slot, generations), count);
            model.peers.entry(slot).and_modify(|peer| peer.behaviour += f64::from(count));
        }
        Step::BrokenPromise { slot } => {
            scores.broken_promises(now, handle_of(slot, generations), 1);
            if !model.suspended() {
                model.peers.entry(slot).and_modify(|peer| peer.behaviour += 1.0);
            }
        }
        Step::Application { slot, value } => {
            scores.set_application_score(handle_of(slot, generations), value);
            model.peers.entry(slot).and_modify(|peer| peer.application = value);
        }
        Step::Suspend { for_ms } => {
            scores.suspend_deficits(now + Duration::from_millis(for_ms));
            model.suspended_until_ms = model.suspended_until_ms.max(model.now_ms + for_ms);
        }
        Step::Pass { ms } => {
            model.now_ms += ms;
            scores.decay(Time::from_millis(model.now_ms));
            model.decay();
        }
    }
    scores.check();
    for slot in 0..SLOTS {
        let peer = handle_of(slot, generations);
        assert_close(scores.score(peer), model.score(slot));
        for topic in 0..TOPICS {
            let (positive, negative) = model.peers.get(&slot).map_or((0.0, 0.0), |peer| model.topic_parts(peer, topic));
            let index = TopicIndex(u8::try_from(topic).expect("few topics"));
            assert_close(scores.topic_score(peer, index), positive + negative);
        }
    }
}

proptest! {
    #[test]
    fn scoring_agrees_with_the_naive_model(steps in steps()) {
        let mut scores = scores(config());
        let mut generations = vec![0; SLOTS as usize];
        let mut model = Model {
            config: config(),
            now_ms: 0,
            next_decay_ms: 1_000,
            suspended_until_ms: 0,
            peers: BTreeMap::new(),
            retained: BTreeMap::new(),
        };
        for step in &steps {
            apply(step, &mut scores, &mut model, &mut generations);
        }
    }
}
