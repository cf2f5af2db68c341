//! The maintenance of one topic's mesh at a heartbeat (gossipsub v1.0 "Mesh maintenance"; v1.1 "Adaptive Gossip", "Outbound
//! Mesh Quotas", "Opportunistic Grafting").
//!
//! In order:
//!
//! 1. **Merit.** Who has a negative score, in all or on the topic, is pruned.
//! 2. **Too few**, below D_low: grafts up to D.
//! 3. **Too many**, above D_high: prunes down to D. D_score of the places go to the peers that rank best on this topic, the
//!    lower round-trip time deciding between equals; the others are drawn at random; D_out of all are links that we
//!    dialled. *Rationale:* a Sybil that ranks well gets at most D_score places, and one that dials us at most D - D_out.
//! 4. **Too few outbound**: grafts until D_out links of the mesh are ones that we dialled.
//! 5. **Opportunistic graft**, every `opportunistic_ticks`: when the median score of the mesh is below the threshold, peers
//!    above the median are added. *Rationale:* a mesh full of peers that are just not bad enough heals itself.
//! 6. **Nearer links**, every `nearer_ticks`: above D, one link that is neither near, nor of the best, nor needed for
//!    D_out goes; then a peer clearly nearer than the `near`-th nearest of the mesh is added. *Rationale:* round-trip times
//!    become known only after the mesh has formed; one exchange at a time settles without shaking the mesh. The new link
//!    comes before the old one goes, since the peer may refuse. The backoff of such a PRUNE is short, because the pruned
//!    peer may have nobody else to graft.
//!
//! After these that are outbound, peers that have proven useful in former connections are grafted ([`super::proven`]), and those that have been of use of late
//! ([`super::useful`]).
//!
//! Between heartbeats, a mesh that falls below D_low because a peer left or ended an established link is filled up to D_low
//! at once. *Rationale:* the messages of up to one heartbeat would otherwise come late. A PRUNE within [`REFUSAL_TIME`] of the
//! graft is a refusal instead, and its replacement waits for the heartbeat. *Rationale:* while a network forms, many meshes
//! are full for a moment, and whoever asked one peer after the other at once would have no one left to ask.
//!
//! Ranking is by [`super::score::Scores::rank`], which does not count time in the mesh nor merit on other topics.

use super::Mesh;
use super::io::{Output, PruneReason, Sink};
use super::topic::TopicIndex;
use crate::id::{Direction, PeerHandle};
use crate::time::{Duration, Time};

/// A PRUNE so soon after the graft refuses it. A guess: longer than any round trip.
pub(super) const REFUSAL_TIME: Duration = Duration::from_secs(1);

impl Mesh {
    pub(super) fn maintain_mesh(&mut self, now: Time, topic: TopicIndex, out: &mut impl Sink<Output>) {
        self.prune_without_merit(now, topic, out);
        let degree = self.config.degree;
        if self.degree_of(topic) < degree.low {
            let missing = degree.target - self.degree_of(topic);
            for peer in self.choose_grafts(now, topic, missing) {
                self.graft(now, topic, peer, out);
            }
        }
        if self.degree_of(topic) > degree.high {
            self.prune_excess(now, topic, out);
        }
        self.graft_outbound(now, topic, out);
        self.graft_proven(now, topic, out);
        self.graft_useful(now, topic, out);
        let heartbeat = self.config.heartbeat;
        if self.beat.ticks.is_multiple_of(heartbeat.opportunistic_ticks) {
            self.graft_opportunistically(now, topic, out);
        }
        let staggered = self.beat.ticks + self.beat.nearer_phase;
        if heartbeat.nearer_ticks > 0 && staggered.is_multiple_of(heartbeat.nearer_ticks) {
            self.seek_nearer(now, topic, out);
        }
    }

    /// Grafts up to D_low at once when a peer's leaving has brought a mesh below it.
    pub(super) fn refill_mesh(&mut self, now: Time, topic: TopicIndex, out: &mut impl Sink<Output>) {
        let missing = self.config.degree.low.saturating_sub(self.degree_of(topic));
        if missing > 0 && self.states[topic.index()].joined {
            for peer in self.choose_grafts(now, topic, missing) {
                self.graft(now, topic, peer, out);
            }
        }
    }

    fn degree_of(&self, topic: TopicIndex) -> usize {
        self.states[topic.index()].mesh.len()
    }

    pub(super) fn is_outbound(&self, peer: PeerHandle) -> bool {
        self.peers.get(peer).is_some_and(|slot| slot.direction == Direction::Outbound)
    }

    fn prune_without_merit(&mut self, now: Time, topic: TopicIndex, out: &mut impl Sink<Output>) {
        // Pruning one changes nothing about the merit of another one.
        let mesh = self.states[topic.index()].mesh.iter().copied();
        let without: Vec<PeerHandle> = mesh.filter(|peer| !self.has_merit(topic, *peer)).collect();
        for peer in without {
            self.prune(now, topic, peer, PruneReason::Score, out);
        }
    }

    fn prune_excess(&mut self, now: Time, topic: TopicIndex, out: &mut impl Sink<Output>) {
        let degree = self.config.degree;
        let mut order = self.ranked_mesh(topic);
        self.random.graft.shuffle(&mut order[degree.score..]);
        self.put_proven_first(topic, &mut order);
        // Outbound links come up from behind D to the places that were drawn, from the last one on.
        let mut outbound = order[..degree.target].iter().filter(|peer| self.is_outbound(**peer)).count();
        let mut place = degree.target;
        for spare in degree.target..order.len() {
            if outbound >= degree.outbound {
                break;
            }
            if !self.is_outbound(order[spare]) {
                continue;
            }
            let Some(given_up) = (0..place).rev().find(|place| !self.is_outbound(order[*place])) else { break };
            order.swap(given_up, spare);
            place = given_up;
            outbound += 1;
        }
        for peer in order.split_off(degree.target) {
            self.prune(now, topic, peer, PruneReason::Excess, out);
        }
    }

    /// The mesh, best first: by rank, then by round-trip time, then at random.
    pub(super) fn ranked_mesh(&mut self, topic: TopicIndex) -> Vec<PeerHandle> {
        let mut order = self.states[topic.index()].mesh.clone();
        self.random.graft.shuffle(&mut order);
        let mut ranked: Vec<(f64, Duration, PeerHandle)> =
            order.into_iter().map(|peer| (self.scores.rank(peer, topic), self.rtt_of(peer), peer)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        ranked.into_iter().map(|(_, _, peer)| peer).collect()
    }

    fn graft_outbound(&mut self, now: Time, topic: TopicIndex, out: &mut impl Sink<Output>) {
        let outbound = self.states[topic.index()].mesh.iter().filter(|peer| self.is_outbound(**peer)).count();
        let missing = self.config.degree.outbound.saturating_sub(outbound);
        if missing == 0 {
            return;
        }
        let mut candidates = self.graft_candidates(now, topic);
        candidates.retain(|peer| self.is_outbound(*peer));
        self.random.graft.sample(&mut candidates, missing);
        for peer in candidates {
            self.graft(now, topic, peer, out);
        }
    }

    fn graft_opportunistically(&mut self, now: Time, topic: TopicIndex, out: &mut impl Sink<Output>) {
        let mesh = &self.states[topic.index()].mesh;
        let mut scores: Vec<f64> = mesh.iter().map(|peer| self.scores.score(*peer)).collect();
        if scores.len() < 2 {
            return;
        }
        scores.sort_by(f64::total_cmp);
        let median = scores[scores.len() / 2];
        if median >= self.scores.thresholds().opportunistic_graft {
            return;
        }
        let mut candidates = self.graft_candidates(now, topic);
        candidates.retain(|peer| self.scores.score(*peer) > median);
        self.random.graft.sample(&mut candidates, self.config.heartbeat.opportunistic_peers);
        self.counters.grafts_opportunistic += candidates.len() as u64;
        for peer in candidates {
            self.graft(now, topic, peer, out);
        }
    }

    fn seek_nearer(&mut self, now: Time, topic: TopicIndex, out: &mut impl Sink<Output>) {
        let degree = self.config.degree;
        if degree.near == 0 || self.degree_of(topic) < degree.low {
            return;
        }
        if self.degree_of(topic) > degree.target {
            self.prune_surplus(now, topic, out);
        }
        if self.degree_of(topic) >= degree.high {
            return;
        }
        let nearest = self.graft_candidates(now, topic).into_iter().min_by_key(|peer| self.rtt_of(*peer));
        let Some(candidate) = nearest.filter(|peer| self.rtt_of(*peer) < Duration::MAX) else { return };
        let bar = self.nearest_of_mesh(topic).get(degree.near - 1).map_or(Duration::MAX, |peer| self.rtt_of(*peer));
        // A quarter nearer, so that jitter of the measurement does not keep links changing.
        if self.rtt_of(candidate).saturating_mul(5) / 4 < bar {
            self.counters.grafts_nearer += 1;
            self.graft(now, topic, candidate, out);
        }
    }

    /// The mesh by round-trip time, the nearest first.
    fn nearest_of_mesh(&self, topic: TopicIndex) -> Vec<PeerHandle> {
        let mut mesh = self.states[topic.index()].mesh.clone();
        mesh.sort_by_key(|peer| self.rtt_of(*peer));
        mesh
    }

    /// Prunes one link that is neither among the near ones, nor among the best, nor needed for D_out.
    fn prune_surplus(&mut self, now: Time, topic: TopicIndex, out: &mut impl Sink<Output>) {
        let degree = self.config.degree;
        let near = self.nearest_of_mesh(topic);
        let ranked = self.ranked_mesh(topic);
        let spare_outbound = ranked.iter().filter(|peer| self.is_outbound(**peer)).count() > degree.outbound;
        let best = degree.score.min(degree.target - degree.near);
        let candidates: Vec<PeerHandle> = ranked
            .into_iter()
            .skip(best)
            .filter(|peer| !near[..degree.near].contains(peer))
            .filter(|peer| spare_outbound || !self.is_outbound(*peer))
            .collect();
        if let Some(peer) = self.random.graft.choose(&candidates).copied() {
            let backoff = self.config.prune.surplus_backoff;
            self.prune_for(now, topic, peer, PruneReason::Excess, backoff, out);
        }
    }
}
