//! What the swarm reports, turned into what the driver is told.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use libp2p::request_response::{self, OutboundFailure, OutboundRequestId};
use libp2p::swarm::{StreamUpgradeError, SwarmEvent};
use libp2p::{Multiaddr, identify, ping};
use starling_protocol::id::{Direction, PeerHandle, Version};
use starling_protocol::peers::{Address, DialPurpose};

use super::words::dial_words;
use super::{InboundRequest, NetEvent, Network, RequestError, to_address, to_protocol_id};
use crate::net::external::translated;
use crate::net::limits::ip_of;
use crate::net::swarm::{BehaviourEvent, NETWORK_NAME_PREFIX};
use crate::net::{blocks, discovery, mesh};
use crate::rate_limited;

/// What is known of a peer that has no handle yet.
#[derive(Debug, Default)]
pub(super) struct Early {
    pub(super) identity: Option<Identity>,
    pub(super) rtt: Option<Duration>,
}

/// What a peer said of itself.
#[derive(Debug)]
pub(super) struct Identity {
    agent_version: String,
    addresses: Vec<Address>,
    signed_record: Option<Bytes>,
}

impl Identity {
    fn of(self, peer: PeerHandle) -> NetEvent {
        let Self { agent_version, addresses, signed_record } = self;
        NetEvent::Identified { peer, agent_version, addresses, signed_record }
    }
}

impl Network {
    pub(super) fn translate(&mut self, event: SwarmEvent<BehaviourEvent>) {
        self.metrics.swarm(&event);
        match event {
            SwarmEvent::Behaviour(event) => self.translate_behaviour(event),
            SwarmEvent::NewListenAddr { address, .. } => self.listening.push(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.listening.retain(|other| *other != address),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "a listener closed");
                self.listening.retain(|other| !addresses.contains(other));
            }
            SwarmEvent::ListenerError { error, .. } => {
                rate_limited!(warn, %error, "a connection could not be accepted");
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(id), error, .. } => {
                rate_limited!(debug, %id, %error, "a dial failed");
                if self.swarm.behaviour().mesh.handle_of(&id).is_none() && !self.swarm.is_connected(&id) {
                    self.dial_failed_if_asked(&id, || dial_words(&error));
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                rate_limited!(debug, from = %send_back_addr, %error, "an inbound connection failed");
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                self.early.remove(&peer_id);
                self.dial_failed_if_asked(&peer_id, || match cause {
                    Some(cause) => cause.to_string(),
                    None => "the connection closed before its mesh stream opened".to_owned(),
                });
            }
            _ => {}
        }
    }

    fn translate_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Mesh(event) => self.translate_mesh(event),
            BehaviourEvent::Discovery(event) => self.translate_discovery(event),
            BehaviourEvent::Identify(event) => self.translate_identify(event),
            BehaviourEvent::Ping(event) => self.translate_ping(&event),
            BehaviourEvent::Blocks(event) => self.translate_blocks(event),
            BehaviourEvent::Limits(never) => match never {},
            BehaviourEvent::Reachability(event) => {
                let outcome = if event.result.is_ok() { "reached" } else { "not reached" };
                tracing::info!(address = %event.tested_addr, by = %event.server, "an address of ours was {outcome}");
                self.tested.insert(event.tested_addr, event.result.is_ok());
            }
            BehaviourEvent::ReachabilityOfOthers(event) => {
                tracing::debug!(address = %event.tested_addr, of = %event.client, "tested another node's address");
            }
        }
    }

    fn translate_mesh(&mut self, event: mesh::Event) {
        let event = match event {
            mesh::Event::Connected { peer, id, ip, direction, version } => {
                return self.connected(peer, &id, ip, direction, version);
            }
            mesh::Event::Turned { peer, direction } => NetEvent::Turned { peer, direction },
            mesh::Event::Disconnected { peer, id } => match to_protocol_id(&id) {
                Some(id) => NetEvent::Disconnected { peer, id },
                None => return,
            },
            mesh::Event::Rpc { peer, rpc, received, frame_bytes } => NetEvent::Rpc { peer, rpc, received, frame_bytes },
            mesh::Event::SendQueueFull { peer, dropped } => NetEvent::SendQueueFull { peer, dropped },
            mesh::Event::BadFrame { peer, error } => NetEvent::BadFrame { peer, error },
            mesh::Event::Unsupported { id } => {
                let asked = to_protocol_id(&id).is_some_and(|id| self.dials.contains_key(&id));
                if asked {
                    self.dial_failed_if_asked(&id, || "the peer speaks no gossipsub".to_owned());
                    // Fails only when the peer has gone already.
                    let _ = self.swarm.disconnect_peer_id(id);
                } else {
                    // It may have come to ask who else is there.
                    self.swarm.behaviour_mut().limits.see_off_peer(id);
                }
                return;
            }
        };
        self.events.push_back(event);
    }

    fn connected(
        &mut self,
        peer: PeerHandle,
        libp2p_id: &libp2p::PeerId,
        ip: IpAddr,
        direction: Direction,
        version: Version,
    ) {
        let Some(id) = to_protocol_id(libp2p_id) else {
            return self.disconnect(peer);
        };
        self.dials.remove(&id);
        self.swarm.behaviour_mut().limits.introduced(*libp2p_id);
        self.events.push_back(NetEvent::Connected { peer, id, ip, direction, version });
        let Early { identity, rtt } = self.early.remove(libp2p_id).unwrap_or_default();
        self.events.extend(identity.map(|identity| identity.of(peer)));
        self.events.extend(rtt.map(|rtt| NetEvent::Rtt { peer, rtt }));
    }

    fn translate_discovery(&mut self, event: discovery::Event) {
        let (id, addresses, proven) = match event {
            discovery::Event::Discovered { id, addresses } => (id, addresses, false),
            discovery::Event::Proven { id, address } => (id, vec![address], true),
            discovery::Event::Kademlia(event) => return self.metrics.kademlia(&event),
        };
        if let Some(id) = to_protocol_id(&id) {
            let addresses = addresses.into_iter().map(to_address).collect();
            self.events.push_back(NetEvent::Discovered { id, addresses, proven });
        }
    }

    fn translate_identify(&mut self, event: identify::Event) {
        self.metrics.identify(&event);
        let (connection_id, peer_id, info) = match event {
            identify::Event::Received { connection_id, peer_id, info } => (connection_id, peer_id, info),
            identify::Event::Error { peer_id, error, .. } => return self.not_identified(peer_id, &error),
            identify::Event::Sent { .. } | identify::Event::Pushed { .. } => return,
        };
        if info.protocol_version.starts_with(NETWORK_NAME_PREFIX) && info.protocol_version != self.network_name {
            let (theirs, ours) = (info.protocol_version, self.network_name.clone());
            rate_limited!(debug, %peer_id, theirs, "disconnecting a node of another network");
            self.dial_failed_if_asked(&peer_id, || {
                format!("it belongs to another network, {theirs:?} and not {ours:?}")
            });
            // Whoever dialled closes, so that it learns why before the connection is gone; it is given a moment to do so.
            let behaviour = self.swarm.behaviour_mut();
            if behaviour.mesh.is_admitted(&peer_id) || !behaviour.limits.see_off(connection_id) {
                self.swarm.close_connection(connection_id);
            }
            return;
        }
        if self.reached(peer_id) {
            return;
        }
        self.admit(peer_id);
        self.seen_at(peer_id, &info.observed_addr);
        let behaviour = self.swarm.behaviour_mut();
        behaviour.discovery.identified(peer_id, connection_id, &info);
        let peer = behaviour.mesh.handle_of(&peer_id);
        let identity = Identity {
            agent_version: info.agent_version,
            addresses: info.listen_addrs.into_iter().map(to_address).collect(),
            // identify keeps only a record that is signed by the peer itself.
            signed_record: info.signed_peer_record.map(|record| record.into_protobuf_encoding().into()),
        };
        match peer {
            Some(peer) => self.events.push_back(identity.of(peer)),
            None if self.swarm.is_connected(&peer_id) => {
                self.early.entry(peer_id).or_default().identity = Some(identity);
            }
            None => {}
        }
    }

    /// Takes in at which address a peer that we dialled sees us.
    fn seen_at(&mut self, id: libp2p::PeerId, observed: &Multiaddr) {
        let behaviour = self.swarm.behaviour_mut();
        let Some(client) = behaviour.reachability.as_mut() else { return };
        let Some(from) = behaviour.limits.dialled_address(id).and_then(ip_of) else { return };
        let Some(ip) = ip_of(observed).and_then(|observed| self.voices.hear(from, observed)) else { return };
        let candidates = self.listening.iter().filter_map(|listening| translated(listening, ip));
        candidates.filter(|candidate| !self.listening.contains(candidate)).for_each(|address| client.test(&address));
    }

    /// Reports that a dial has reached its peer. True if that was all that was wanted.
    fn reached(&mut self, libp2p_id: libp2p::PeerId) -> bool {
        let Some(id) = to_protocol_id(&libp2p_id) else { return false };
        let Some(purpose) = self.dials.get(&id).copied() else { return false };
        let behaviour = self.swarm.behaviour();
        let Some(address) = behaviour.limits.dialled_address(libp2p_id).cloned() else { return false };
        self.events.push_back(NetEvent::Reached { id, address: to_address(address) });
        if purpose == DialPurpose::Connect {
            return false;
        }
        self.dials.remove(&id);
        // A peer that is in the mesh by now dialled us itself, and stays.
        if !behaviour.mesh.is_admitted(&libp2p_id) {
            let _gone_already = self.swarm.disconnect_peer_id(libp2p_id);
        }
        true
    }

    /// A peer that does not support identify is of another kind; whatever else went wrong, nobody knows who it is.
    fn not_identified(&mut self, id: libp2p::PeerId, error: &StreamUpgradeError<identify::UpgradeError>) {
        if matches!(error, StreamUpgradeError::NegotiationFailed) {
            if !self.reached(id) {
                self.admit(id);
            }
            return;
        }
        if !self.swarm.behaviour().mesh.is_admitted(&id) {
            rate_limited!(debug, %id, %error, "disconnecting a peer that cannot be identified");
            self.dial_failed_if_asked(&id, || format!("it could not be identified: {error}"));
            // Fails only when the peer has gone already.
            let _ = self.swarm.disconnect_peer_id(id);
        }
    }

    /// Lets an identified peer into the mesh, unless it is only visiting.
    fn admit(&mut self, id: libp2p::PeerId) {
        let behaviour = self.swarm.behaviour_mut();
        if !behaviour.limits.is_visitor(id) {
            behaviour.mesh.admit(&id);
        }
    }

    fn translate_ping(&mut self, event: &ping::Event) {
        self.metrics.ping(event);
        let peer = self.swarm.behaviour().mesh.handle_of(&event.peer);
        match (&event.result, peer) {
            (Ok(rtt), Some(peer)) => self.events.push_back(NetEvent::Rtt { peer, rtt: *rtt }),
            (Ok(rtt), None) if self.swarm.is_connected(&event.peer) => {
                self.early.entry(event.peer).or_default().rtt = Some(*rtt);
            }
            (Ok(_), None) => {}
            (Err(error), _) => rate_limited!(debug, id = %event.peer, %error, "a ping was not answered"),
        }
    }

    fn translate_blocks(&mut self, event: blocks::Event) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request_id, request, channel } => {
                    // Without a mesh stream nobody could judge the peer; dropping the channel refuses the request.
                    let Some(peer) = self.swarm.behaviour().mesh.handle_of(&peer) else { return };
                    let request_name = InboundRequest(self.next_request);
                    self.next_request += 1;
                    self.to_answer.insert(request_name, channel);
                    self.answering.insert(request_id, request_name);
                    self.events.push_back(NetEvent::Request { peer, request: request_name, body: request });
                }
                request_response::Message::Response { request_id, response } => {
                    self.answered(request_id, Ok(response.into()));
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                let error = match error {
                    OutboundFailure::DialFailure | OutboundFailure::ConnectionClosed => RequestError::Disconnected,
                    OutboundFailure::Timeout => RequestError::Timeout,
                    OutboundFailure::UnsupportedProtocols => RequestError::Unsupported,
                    OutboundFailure::Io(_) => RequestError::Broken,
                };
                self.answered(request_id, Err(error));
            }
            request_response::Event::InboundFailure { request_id, .. }
            | request_response::Event::ResponseSent { request_id, .. } => {
                if let Some(request) = self.answering.remove(&request_id) {
                    self.to_answer.remove(&request);
                    self.events.push_back(NetEvent::Responded { request });
                }
            }
        }
    }

    fn answered(&mut self, request: OutboundRequestId, result: Result<Bytes, RequestError>) {
        if let Some((peer, ticket)) = self.asked.remove(&request) {
            self.events.push_back(NetEvent::Response { peer, ticket, result });
        }
    }
}
