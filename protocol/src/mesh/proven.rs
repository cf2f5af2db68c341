//! Places of the mesh for peers that have proven useful in former connections.
//!
//! A node that restarts among attackers is connected with a hundred of them, who graft it before anybody else, and with a few peers that it can
//! know to be others. It takes minutes to try them all ([`super::trial`]). The node remembers who was of use
//! ([`crate::peers::proven`]) and says so when such a peer connects ([`Mesh::recognise`]).
//!
//! # Rules
//! 1. While fewer than half of D links of a mesh are with such peers, or a link of it is suspect ([`super::trial`]), a heartbeat grafts them up to that
//!    number, and a GRAFT of theirs is accepted, even if the mesh is full.
//! 2. At D_high each of them takes the place of a suspect, or, up to half of D, of whoever ranks last among the others, for the shortest backoff.
//! 3. Where a mesh that has links with such peers has too many, half of D with them are kept, and suspects go first.
//!
//! *Rationale:* half and not all, so that peers that were of use until they turned, who are known as well, keep nobody else out but those that
//! bring nothing themselves. A peer that was recognised is tried like any other, and leaves the mesh like any other.

use super::Mesh;
use super::io::{Output, PruneReason, Sink};
use super::topic::TopicIndex;
use crate::id::PeerHandle;
use crate::time::Time;

impl Mesh {
    /// A peer is known to have been of use in former connections. To be told when it connects.
    pub fn recognise(&mut self, peer: PeerHandle) {
        if self.peers.get(peer).is_some() {
            self.proven.insert(peer);
        }
    }

    pub(super) fn is_proven(&self, peer: PeerHandle) -> bool {
        self.proven.contains(&peer)
    }

    /// Whether a mesh has a place for a proven peer.
    pub(super) fn wants_proven(&self, topic: TopicIndex) -> bool {
        self.proven_wanted(topic) > 0
    }

    fn proven_wanted(&self, topic: TopicIndex) -> usize {
        self.proven_missing(topic).max(self.suspects(topic).count())
    }

    /// How many links with proven peers a mesh has less than half of D.
    fn proven_missing(&self, topic: TopicIndex) -> usize {
        let proven = self.states[topic.index()].mesh.iter().filter(|peer| self.is_proven(**peer)).count();
        (self.config.degree.target / 2).saturating_sub(proven)
    }

    /// Peers of the mesh that have been silent for long.
    fn suspects(&self, topic: TopicIndex) -> impl Iterator<Item = PeerHandle> {
        let (state, tries) = (&self.states[topic.index()], self.config.trial.messages > 0);
        let links = state.mesh.iter().zip(&state.uses);
        links.filter(move |(_, known)| tries && known.is_suspect()).map(|(peer, _)| *peer)
    }

    /// Grafts proven peers, as far as there are any: rule 1.
    pub(super) fn graft_proven(&mut self, now: Time, topic: TopicIndex, out: &mut impl Sink<Output>) {
        let wanted = if self.proven.is_empty() { 0 } else { self.proven_wanted(topic) };
        if wanted == 0 {
            return;
        }
        let mut proven = self.graft_candidates(now, topic);
        proven.retain(|peer| self.is_proven(*peer));
        self.random.graft.sample(&mut proven, wanted);
        for peer in proven {
            self.make_room_for_proven(now, topic, out);
            self.graft(now, topic, peer, out);
        }
    }

    /// A suspect or else whoever ranks last among those who are not proven leaves a full mesh: rule 2.
    pub(super) fn make_room_for_proven(&mut self, now: Time, topic: TopicIndex, out: &mut impl Sink<Output>) {
        if self.states[topic.index()].mesh.len() < self.config.degree.high {
            return;
        }
        let ranked = self.ranked_mesh(topic);
        let suspects: Vec<PeerHandle> = self.suspects(topic).collect();
        let suspect = ranked.iter().copied().rfind(|peer| suspects.contains(peer));
        let last = suspect.or_else(|| ranked.into_iter().rfind(|peer| !self.is_proven(*peer)));
        if let Some(last) = last {
            self.prune_for(now, topic, last, PruneReason::Excess, self.config.prune.surplus_backoff, out);
        }
    }

    /// Puts half of D proven peers of a ranked mesh before the others, and suspects behind them: rule 3.
    pub(super) fn put_proven_first(&self, topic: TopicIndex, order: &mut [PeerHandle]) {
        if !order.iter().any(|peer| self.is_proven(*peer)) {
            return;
        }
        let suspects: Vec<PeerHandle> = self.suspects(topic).collect();
        let helps = |peer: &PeerHandle| self.is_proven(*peer) && !suspects.contains(peer);
        let kept: Vec<PeerHandle> = order.iter().copied().filter(helps).take(self.config.degree.target / 2).collect();
        order.sort_by_key(|peer| (!kept.contains(peer), suspects.contains(peer)));
    }
}
