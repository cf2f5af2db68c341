//! Places of the mesh for peers that have been of use of late.
//!
//! Trials find out who brings nothing ([`super::trial`]). Who takes the place then is a matter of chance, and where nearly all peers are attackers chance is
//! against us: one after the other is found out, and the next one is drawn from the same. What was announced to us and asked for tells whom to ask: who
//! *has been of use* has brought the first copy of an accepted message within the last [`SO_LATE`], mostly because it was asked. *Rationale:* first copies,
//! because whoever brings what others have brought as well, to pass trials for example, has helped nobody; and of the last seconds, because attackers that have served for long and turn
//! at the same time are preferred for as long.
//!
//! # Rules
//! 1. The place of who is replaced goes to a peer that we dialled, if there is one that may be grafted, and among these, or else among all, to one that has been of use, or else to
//!    one that has announced a recent message within some seconds ([`Mesh::take_told`]), as honest peers do. *Rationale:*
//!    whoever dialled us to take a place may be one of many, and the others are waiting for this one; and a transaction of its own costs it little and makes it of use.
//! 2. Where a mesh has suspects, and fewer than half of D of its links bring anything, a heartbeat grafts one peer that has been of use and that we dialled, up to D_high. *Rationale:* such a node
//!    hears of messages because it asks for them, a heartbeat late, and knows whom it has asked. A node that nobody suspects anything of
//!    has links that bring something, so in a sound network it happens hardly ever.
//!
//! A peer that was of use and brings nothing in the mesh leaves it as soon as any other.

use super::Mesh;
use super::io::{Output, Sink};
use super::peers::Told;
use super::topic::TopicIndex;
use super::trial::Use;
use crate::id::PeerHandle;
use crate::time::{Duration, Time};

/// How long somebody who has brought a message counts as of use. A guess: some heartbeats, in each of which a node that lives by asking asks several peers.
const SO_LATE: Duration = Duration::from_secs(10);

impl Mesh {
    /// Who is to have a place that somebody loses who brings nothing, if there is anybody: rule 1.
    pub(super) fn replacement(&mut self, now: Time, topic: TopicIndex) -> Option<PeerHandle> {
        let mut candidates = self.graft_candidates(now, topic);
        if candidates.iter().any(|peer| self.is_outbound(*peer)) {
            candidates.retain(|peer| self.is_outbound(*peer));
        }
        if candidates.iter().any(|peer| self.has_been_of_use(now, topic, *peer)) {
            candidates.retain(|peer| self.has_been_of_use(now, topic, *peer));
        } else if candidates.iter().any(|peer| self.has_told(*peer)) {
            candidates.retain(|peer| self.has_told(*peer));
        }
        self.choose_among(candidates, 1).first().copied()
    }

    /// Rule 2.
    pub(super) fn graft_useful(&mut self, now: Time, topic: TopicIndex, out: &mut impl Sink<Output>) {
        let (uses, degree) = (&self.states[topic.index()].uses, &self.config.degree);
        let helps = |known: &&Use| known.brought && !known.is_suspect();
        if self.config.trial.messages == 0
            || uses.len() >= degree.high
            || uses.iter().filter(helps).count() >= degree.target / 2
            || !uses.iter().any(Use::is_suspect)
        {
            return;
        }
        let mut candidates = self.graft_candidates(now, topic);
        candidates.retain(|peer| self.is_outbound(*peer) && self.has_been_of_use(now, topic, *peer));
        if let Some(peer) = self.choose_among(candidates, 1).first().copied() {
            self.counters.grafts_useful += 1;
            self.graft(now, topic, peer, out);
        }
    }

    /// Whether the peer has announced a recent message within some seconds.
    pub(super) fn has_told(&self, peer: PeerHandle) -> bool {
        self.peers.get(peer).is_some_and(|slot| slot.told != Told::Nothing)
    }

    fn has_been_of_use(&self, now: Time, topic: TopicIndex, peer: PeerHandle) -> bool {
        let link = self.peers.get(peer).map(|slot| slot.rest.links[topic.index()]);
        link.and_then(|link| link.brought_at).is_some_and(|at| now.since(at) <= SO_LATE)
    }
}
