//! What inputs are going to look at: see [`crate::node::Node::fetch`].

use super::Mesh;
use super::io::ValidationTicket;
use crate::id::PeerHandle;
use crate::memory::Fetch;
use crate::rpc::Rpc;
use crate::time::Time;
use core::hint::black_box;

impl Mesh {
    /// What stands in the engine itself, by what nearly every input looks at.
    pub(crate) fn fetch(&self, fetch: &mut impl Fetch) {
        let Self { states, peers, config, beat, pending, pulse, counters, .. } = self;
        fetch.value(states);
        fetch.value(peers);
        fetch.value(config);
        fetch.value(beat);
        fetch.value(pending);
        pulse.fetch(fetch);
        fetch.value(&counters.ids_foreign);
        fetch.value(&counters.idontwant_received);
        fetch.value(&counters.messages_duplicate);
        self.trials.fetch(fetch);
        self.promises.fetch(fetch);
        self.recent.fetch(fetch);
        self.seen.fetch(fetch);
        self.scores.fetch(fetch);
    }

    pub(crate) fn fetch_rpc(&self, step: u8, peer: PeerHandle, rpc: &Rpc, fetch: &mut impl Fetch) {
        let message = rpc.publish.first();
        let id = message.map(|payload| payload.id()).or_else(|| rpc.idontwant.first().copied());
        let key = id.map(|id| self.seen.fingerprint(&id));
        match step {
            0 => {
                self.peers.fetch(peer, fetch);
                key.iter().for_each(|key| self.recent.fetch_place(*key, fetch));
                if message.is_some() {
                    self.scores.fetch_peer(peer, fetch);
                    self.fetch_states(fetch);
                }
            }
            1 => {
                let Some(key) = key else { return };
                let known = self.recent.fetch_entry(key, fetch);
                if message.is_none() {
                    return;
                }
                self.fetch_mesh(fetch);
                if !known {
                    self.gater.fetch(peer, fetch);
                } else if let Some(slot) = self.peers.get(peer) {
                    fetch.value(&*slot.rest);
                    fetch.value(&slot.rest.links);
                }
            }
            _ => {
                let Some((key, _)) = key.zip(message) else { return };
                if !self.recent.is_known(key) {
                    // The table says where to look only by looking.
                    black_box(self.seen.peek(key));
                    self.fetch_mesh_peers(fetch);
                } else if let Some(slot) = self.peers.get(peer) {
                    fetch.item(&slot.rest.links, 0);
                }
            }
        }
    }

    /// `validation` is what the verdict is on, as soon as it is known.
    pub(crate) fn fetch_verdict(
        &self,
        step: u8,
        validation: Option<(ValidationTicket, PeerHandle)>,
        fetch: &mut impl Fetch,
    ) {
        if step == 0 {
            self.pending.fetch(fetch);
            self.fetch_states(fetch);
            return;
        }
        let Some((ticket, from)) = validation else { return };
        let key =
            self.pending.iter().next().filter(|(first, _)| *first == ticket).map(|(_, validation)| validation.key);
        let Some(key) = key else { return };
        if step == 1 {
            self.peers.fetch(from, fetch);
            self.scores.fetch_peer(from, fetch);
            self.gater.fetch(from, fetch);
            self.recent.fetch_place(key, fetch);
            self.fetch_mesh(fetch);
        } else {
            self.recent.fetch_entry(key, fetch);
            self.fetch_mesh_peers(fetch);
            if let Some(slot) = self.peers.get(from) {
                fetch.value(&*slot.rest);
            }
        }
    }

    pub(crate) fn fetch_wake(&self, until: Time, fetch: &mut impl Fetch) {
        if self.beat.next <= until {
            self.fetch_states(fetch);
            self.peers.fetch_all(fetch);
            self.gater.fetch_all(fetch);
            self.scores.fetch_all(fetch);
        }
    }

    fn fetch_states(&self, fetch: &mut impl Fetch) {
        for state in &self.states {
            fetch.value(&state.mesh);
            fetch.value(&state.uses);
            fetch.value(&state.joined);
        }
    }

    fn fetch_mesh(&self, fetch: &mut impl Fetch) {
        for state in &self.states {
            fetch.item(&state.mesh, 0);
            fetch.item(&state.uses, 0);
        }
    }

    fn fetch_mesh_peers(&self, fetch: &mut impl Fetch) {
        for peer in self.states.iter().flat_map(|state| &state.mesh) {
            self.peers.fetch(*peer, fetch);
        }
    }
}
