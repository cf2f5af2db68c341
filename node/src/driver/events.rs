//! What the network reports, turned into the machine's inputs.

use super::{Driver, PeerAgent};
use crate::clock;
use crate::net::network::NetEvent;
use crate::rate_limited;
use starling_protocol::id::PeerHandle;

/// Longest text that a peer may call itself by, in bytes.
const AGENT_BYTES_MAX: usize = 128;

impl Driver {
    pub(super) fn network_event(&mut self, event: &NetEvent) {
        if !self.discovery && matches!(event, NetEvent::Discovered { .. }) {
            return;
        }
        self.note(event);
        if let Some(input) = self.port.input(event) {
            self.feed(input);
        }
        if let NetEvent::Connected { peer, direction, .. } = event {
            self.tell_connected(*peer, *direction);
        }
    }

    /// Takes note of what an event means to the driver itself, before the machine hears of it.
    fn note(&mut self, event: &NetEvent) {
        match event {
            NetEvent::Rpc { received, .. } => self.lag.record(clock::now().since(*received)),
            NetEvent::Connected { peer, id, .. } => {
                if self.unreachable.remove(id) {
                    rate_limited!(info, peer = ?id, "reached a peer that could not be reached before");
                }
                self.remember_agent(*peer);
                self.observer.links.connected(*peer);
            }
            NetEvent::Disconnected { peer, .. } => {
                self.tell_disconnected(*peer);
                if let Some(seat) = self.agents.get_mut(peer.index()) {
                    seat.take_if(|agent| agent.peer == *peer);
                }
                self.observer.links.disconnected(*peer);
            }
            NetEvent::BadFrame { peer, error } => {
                rate_limited!(info, peer = ?self.node.peer_id(*peer), %error, "a peer sent a frame that cannot be read");
            }
            NetEvent::DialFailed { id, reason } => self.say_if_named(*id, reason),
            NetEvent::Identified { peer, agent_version, .. } => {
                if let Some(Some(seat)) = self.agents.get_mut(peer.index())
                    && seat.peer == *peer
                {
                    seat.agent = Some(shortened(agent_version.clone()));
                }
            }
            NetEvent::Response { result: Err(error), .. } => {
                rate_limited!(debug, %error, "a request to a peer failed");
            }
            NetEvent::Turned { .. }
            | NetEvent::SendQueueFull { .. }
            | NetEvent::Discovered { .. }
            | NetEvent::Reached { .. }
            | NetEvent::Rtt { .. }
            | NetEvent::Request { .. }
            | NetEvent::Responded { .. }
            | NetEvent::Response { result: Ok(_), .. } => {}
        }
    }

    fn remember_agent(&mut self, peer: PeerHandle) {
        if self.agents.len() <= peer.index() {
            self.agents.resize_with(peer.index() + 1, || None);
        }
        self.agents[peer.index()] = Some(PeerAgent { peer, since: clock::now(), agent: None });
    }

    /// A peer that the operator named and that cannot be reached is worth a warning, once until it is reached.
    fn say_if_named(&mut self, id: starling_protocol::id::PeerId, reason: &str) {
        let Some(known) = self.known_peers.iter().find(|known| known.id == id) else { return };
        if self.unreachable.insert(id) {
            let reason = reason.trim_end_matches('.');
            tracing::warn!(
                "cannot reach {}: {reason}; it is tried again in the background. Check the address, and that the peer \
                 runs and belongs to the same network",
                known.text
            );
        }
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > AGENT_BYTES_MAX {
        let end = (0..=AGENT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
