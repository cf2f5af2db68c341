//! What the network reports, turned into the machine's inputs.

use super::{Driver, PeerAgent};
use crate::clock;
use crate::net::network::NetEvent;
use crate::rate_limited;
use bytes::Bytes;
use starling_protocol::id::PeerHandle;
use starling_protocol::node::Input;
use starling_protocol::peers::{Source, Standing};

/// Behaviour penalties for a frame that could not be decoded: no honest peer sends one, and the stream ends with it.
const BAD_FRAME_PENALTIES: u32 = 5;

/// Longest text that a peer may call itself by, in bytes.
const AGENT_BYTES_MAX: usize = 128;

impl Driver {
    pub(super) fn network_event(&mut self, event: NetEvent) {
        match event {
            NetEvent::Rpc { peer, rpc, received, .. } => {
                self.lag.record(clock::now().since(received));
                self.feed(Input::Rpc { peer, rpc: &rpc, received });
            }
            NetEvent::Connected { peer, id, ip, direction, version } => {
                if self.unreachable.remove(&id) {
                    rate_limited!(info, peer = ?id, "reached a peer that could not be reached before");
                }
                self.remember_agent(peer);
                self.observer.links.connected(peer);
                self.feed(Input::Connected { peer, id, ip, direction, version });
                self.tell_connected(peer, direction);
            }
            NetEvent::Turned { peer, direction } => self.feed(Input::Turned { peer, direction }),
            NetEvent::Disconnected { peer, .. } => {
                self.tell_disconnected(peer);
                if let Some(seat) = self.agents.get_mut(peer.index()) {
                    seat.take_if(|agent| agent.peer == peer);
                }
                self.observer.links.disconnected(peer);
                self.feed(Input::Disconnected { peer });
            }
            NetEvent::SendQueueFull { peer, dropped } => {
                self.feed(Input::SendQueueFull { peer, dropped: u32::try_from(dropped).unwrap_or(u32::MAX) });
            }
            NetEvent::BadFrame { peer, error } => {
                rate_limited!(info, peer = ?self.node.peer_id(peer), %error, "a peer sent a frame that cannot be read");
                self.feed(Input::Misbehaved { peer, penalties: BAD_FRAME_PENALTIES });
            }
            NetEvent::DialFailed { id, reason } => {
                self.say_if_named(id, &reason);
                self.feed(Input::DialFailed { id });
            }
            NetEvent::Discovered { id, addresses, proven } => {
                // A peer's own word that a dial-back has proven, or what somebody answered to a lookup.
                let source = if proven { Source::Peer(id) } else { Source::Lookup };
                self.feed(Input::Discovered { id, addresses: &addresses, standing: Standing::Heard, source });
            }
            NetEvent::Reached { id, address } => self.feed(Input::Reached { id, address }),
            NetEvent::Identified { peer, agent_version, signed_record, .. } => {
                if let Some(Some(seat)) = self.agents.get_mut(peer.index())
                    && seat.peer == peer
                {
                    seat.agent = Some(shortened(agent_version));
                }
                if let Some(signed_record) = signed_record {
                    self.feed(Input::PeerRecord { peer, signed_record });
                }
            }
            NetEvent::Rtt { peer, rtt } => self.feed(Input::Rtt { peer, rtt }),
            NetEvent::Request { peer, request, body } => {
                let ticket = self.ticket();
                self.requests.insert(ticket, request);
                self.answering.insert(request, ticket);
                self.feed(Input::Request { ticket, peer, body: &body });
            }
            NetEvent::Responded { request } => {
                if let Some(ticket) = self.answering.remove(&request) {
                    self.requests.remove(&ticket);
                    self.feed(Input::Responded { ticket });
                }
            }
            NetEvent::Response { ticket, result, .. } => {
                let ticket = starling_protocol::node::Ticket(ticket);
                match result {
                    Ok(body) => self.feed(Input::Response { ticket, body: Some(Bytes::from(body)) }),
                    Err(error) => {
                        rate_limited!(debug, %error, "a request to a peer failed");
                        self.feed(Input::Response { ticket, body: None });
                    }
                }
            }
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
