//! Reading the engine's state, for the RPC, metrics and tests. Nothing here changes anything.

use super::Mesh;
use super::peers::Told;
use super::score::{ScoreBreakdown, Thresholds};
use crate::id::{Direction, MessageId, PeerHandle, PeerId, Topic, Version};
use crate::memory::{MemoryLedger, tree_bytes};
use crate::message::Payload;
use crate::time::{Duration, Time};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// How often things happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Heartbeats.
    pub heartbeats: u64,
    /// Heartbeats that were more than half an interval late.
    pub heartbeats_late: u64,
    /// Heartbeats at which so many peers had turned bad at once that deficits and broken promises were suspended.
    pub doubts: u64,
    /// First copies taken into validation.
    pub messages_first: u64,
    /// Further copies of known messages.
    pub messages_duplicate: u64,
    /// Messages on topics that we have not joined.
    pub messages_unwanted: u64,
    /// Messages that broke StrictNoSign.
    pub messages_signed: u64,
    /// Verdicts Accept.
    pub messages_accepted: u64,
    /// Verdicts Ignore, late ones included.
    pub messages_ignored: u64,
    /// Verdicts Reject.
    pub messages_rejected: u64,
    /// Messages dropped by our own overload: by verdict, because too many validations were under way, or by the gater.
    pub messages_shed: u64,
    /// Validations without a verdict in time.
    pub validations_late: u64,
    /// Messages of our own.
    pub messages_published: u64,
    /// Copies sent of our own and of forwarded messages.
    pub messages_sent: u64,
    /// Copies not sent because the peer said IDONTWANT.
    pub sends_refused: u64,
    /// Copies sent in answer to IWANT.
    pub messages_served: u64,
    /// IDONTWANT ids sent.
    pub idontwant_sent: u64,
    /// IDONTWANT ids taken in.
    pub idontwant_received: u64,
    /// IDONTWANT ids beyond the budget.
    pub idontwant_excess: u64,
    /// Ids announced to others.
    pub ids_announced: u64,
    /// Ids that others announced, taken in or not.
    pub ihave_received: u64,
    /// Ids asked of others.
    pub ids_pulled: u64,
    /// Ids that others asked for, served or not.
    pub iwant_received: u64,
    /// Announcements beyond the budgets.
    pub ihave_excess: u64,
    /// Requests beyond the budgets.
    pub iwant_excess: u64,
    /// Messages held back from silent peers of the mesh, to try them.
    pub trials: u64,
    /// Of those, how many the peer has brought itself.
    pub trials_passed: u64,
    /// And how many it has not.
    pub trials_failed: u64,
    /// Peers of the mesh that were silent for longer than was borne of them.
    pub peers_gone: u64,
    /// Peers of the mesh that were replaced because they failed or were gone.
    pub links_replaced: u64,
    /// Batches of IWANT that nobody answered.
    pub promises_broken: u64,
    /// GRAFTs sent.
    pub grafts_sent: u64,
    /// Of those, opportunistic ones.
    pub grafts_opportunistic: u64,
    /// Of those, for a nearer link.
    pub grafts_nearer: u64,
    /// Of those, to peers that have been of use of late, while the mesh had few links that bring anything.
    pub grafts_useful: u64,
    /// GRAFTs of others, whatever became of them.
    pub grafts_received: u64,
    /// GRAFTs answered by a PRUNE.
    pub grafts_refused: u64,
    /// GRAFTs for topics that we have not joined.
    pub grafts_ignored: u64,
    /// PRUNEs sent.
    pub prunes_sent: u64,
    /// PRUNEs of others, whatever became of them.
    pub prunes_received: u64,
    /// PRUNEs for topics that we have not joined.
    pub prunes_ignored: u64,
    /// RPCs of graylisted peers.
    pub rpcs_graylisted: u64,
    /// Peers disconnected for their score.
    pub graylisted: u64,
    /// Topics that are not configured, in subscriptions.
    pub topics_unknown: u64,
    /// Ids of a length that no message here has.
    pub ids_foreign: u64,
    /// Frames that send queues dropped.
    pub frames_dropped: u64,
}

/// A connected peer, as the engine sees it.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Its handle.
    pub handle: PeerHandle,
    /// Who it is.
    pub id: PeerId,
    /// Its address.
    pub ip: IpAddr,
    /// Who dialled.
    pub direction: Direction,
    /// What it speaks.
    pub version: Version,
    /// Whether it is a direct peer.
    pub direct: bool,
    /// The last measured round-trip time.
    pub rtt: Option<Duration>,
    /// What it is subscribed to, among the configured topics.
    pub subscribed: Vec<Topic>,
    /// Whose mesh it is in.
    pub mesh: Vec<Topic>,
    /// Its score, taken apart.
    pub score: ScoreBreakdown,
}

impl Mesh {
    /// The round-trip time of a connected peer, and by topic when it last brought the first copy of an accepted message; and whether it is a
    /// direct peer.
    pub(crate) fn merit_of(&self, peer: PeerHandle) -> Option<(Option<Duration>, Vec<Option<Time>>, bool)> {
        let slot = self.peers.get(peer)?;
        Some((slot.rest.rtt, slot.rest.links.iter().map(|link| link.brought_at).collect(), slot.direct))
    }

    /// Whether a peer is in our mesh of any topic.
    pub(crate) fn is_in_a_mesh(&self, peer: PeerHandle) -> bool {
        self.peers.get(peer).is_some_and(|slot| slot.mesh.iter().next().is_some())
    }

    /// When a peer last brought a copy of an accepted message that we had not sent to it.
    pub(crate) fn served_at(&self, peer: PeerHandle) -> Option<Time> {
        self.peers.get(peer)?.rest.links.iter().filter_map(|link| link.served_at).max()
    }

    /// The peers that have announced a message of late that we have accepted, before or after we had it, since this was last asked.
    pub(crate) fn take_told(&mut self) -> BTreeSet<PeerId> {
        let told = self.peers.iter_mut().filter_map(|slot| {
            let has_told = slot.told == Told::Now;
            slot.told = if has_told { Told::Before } else { Told::Nothing };
            has_told.then_some(slot.rest.id)
        });
        told.collect()
    }

    /// How often things happened.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The configured topics and whether they are joined.
    pub fn topics(&self) -> impl Iterator<Item = (&Topic, bool)> {
        self.topics.iter().map(|topic| (self.topics.name(topic), self.states[topic.index()].joined))
    }

    /// Peers in our mesh of the topic; zero when it is not joined.
    #[must_use]
    pub fn mesh_degree(&self, topic: &Topic) -> usize {
        self.mesh_peers(topic).len()
    }

    /// The peers in our mesh of the topic, ascending.
    #[must_use]
    pub fn mesh_peers(&self, topic: &Topic) -> &[PeerHandle] {
        self.topics.find(topic).map_or(&[], |topic| &self.states[topic.index()].mesh)
    }

    /// The peers to which we publish without having joined the topic, ascending.
    #[must_use]
    pub fn fanout_peers(&self, topic: &Topic) -> &[PeerHandle] {
        let state = self.topics.find(topic).map(|topic| &self.states[topic.index()]);
        state.and_then(|state| state.fanout.as_ref()).map_or(&[], |fanout| &fanout.peers)
    }

    /// The degree below which the mesh of a joined topic seeks further peers (D_low).
    #[must_use]
    pub fn degree_low(&self) -> usize {
        self.config.degree.low
    }

    /// How many connected peers are subscribed to the topic.
    #[must_use]
    pub fn topic_peers(&self, topic: &Topic) -> usize {
        let Some(topic) = self.topics.find(topic) else { return 0 };
        self.peers.iter().filter(|slot| slot.subscribed.contains(topic)).count()
    }

    /// Whether the message is known, whatever became of it.
    #[must_use]
    pub fn has_seen(&self, id: &MessageId) -> bool {
        self.state_of(self.seen.fingerprint(id)).is_some()
    }

    /// Adds what the engine has allocated, estimated.
    pub(crate) fn add_memory(&self, ledger: &mut MemoryLedger) {
        ledger.seen += self.seen.memory_bytes();
        ledger.recent += self.recent.memory_bytes();
        ledger.peers += self.peers.memory_bytes() + self.promises.memory_bytes() + self.backoffs.memory_bytes();
        ledger.peers += self.health.memory_bytes();
        ledger.peers += tree_bytes::<PeerHandle>(self.proven.len());
        ledger.scores += self.scores.memory_bytes() + self.gater.memory_bytes();
        ledger.cache += self.cache.memory_bytes();
    }

    /// How many peers are connected.
    #[must_use]
    pub fn peers_len(&self) -> usize {
        self.peers.len()
    }

    /// All connected peers, in the order of their slots.
    #[must_use]
    pub fn peer_views(&self) -> Vec<PeerView> {
        self.peers.iter().filter_map(|slot| self.peer_view(slot.handle)).collect()
    }

    /// One connected peer.
    #[must_use]
    pub fn peer_view(&self, peer: PeerHandle) -> Option<PeerView> {
        let slot = self.peers.get(peer)?;
        let names = |set: super::TopicSet| set.iter().map(|topic| self.topics.name(topic).clone()).collect();
        Some(PeerView {
            handle: peer,
            id: slot.rest.id,
            ip: slot.rest.ip,
            direction: slot.direction,
            version: slot.version,
            direct: slot.direct,
            rtt: slot.rest.rtt,
            subscribed: names(slot.subscribed),
            mesh: names(slot.mesh),
            score: self.scores.breakdown(peer)?,
        })
    }

    /// Whether a connected peer could be in the mesh of a topic: it is subscribed, and its score is not negative.
    #[must_use]
    pub fn could_be_in_mesh(&self, topic: &Topic, peer: PeerHandle) -> bool {
        self.topics.find(topic).is_some_and(|topic| self.is_eligible(topic, peer))
    }

    /// The peer's score; zero when it is not connected.
    #[must_use]
    pub fn score(&self, peer: PeerHandle) -> f64 {
        self.scores.score(peer)
    }

    /// The scores of all connected peers, in the order of their slots.
    pub fn scores(&self) -> impl Iterator<Item = f64> {
        self.peers.iter().map(|slot| self.scores.score(slot.handle))
    }

    /// What scores are compared with.
    #[must_use]
    pub fn thresholds(&self) -> &Thresholds {
        self.scores.thresholds()
    }

    /// A recent accepted message, as long as it can be served.
    #[must_use]
    pub fn cached(&self, id: &MessageId) -> Option<&Arc<Payload>> {
        self.cache.get(self.seen.fingerprint(id))
    }

    /// Validations under way.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Messages that are being pulled.
    #[must_use]
    pub fn wanted_len(&self) -> usize {
        self.promises.len()
    }

    /// Backoffs that are remembered, in force or about to be forgotten.
    #[must_use]
    pub fn backoffs_len(&self) -> usize {
        self.backoffs.len()
    }

    /// Whether any table still refers to the peer; false once it has disconnected, but for what is remembered of its
    /// identity.
    #[must_use]
    pub fn knows(&self, peer: PeerHandle) -> bool {
        self.peers.get(peer).is_some()
            || self.cache.knows(peer)
            || self.recent.knows(peer.slot)
            || self.proven.contains(&peer)
            || self.states.iter().any(|state| {
                let fanout = state.fanout.iter().flat_map(|fanout| &fanout.peers);
                state.mesh.iter().chain(fanout).any(|other| *other == peer)
            })
    }
}
