//! Where a machine meets the network: its outputs go in, its inputs come out.
//!
//! # Contract
//! - [`Port::carry_out`] does what an [`Output`] asks of the network, and gives back every output that is not the network's.
//! - [`Port::input`] is the [`Input`] that an event of the network is for a machine, if it is any.
//! - A peer's request gets a ticket of the port's own, which comes back in [`Output::Respond`] and ends with
//!   [`Input::Responded`]. Tickets that the machine gives out for its own requests pass through unchanged. The two never mix, because
//!   each kind only ever comes back in its own outputs.
//!
//! Nothing is decided here and nothing is known of who decides: the node's driver serves its machine with it, and whoever plays by
//! other rules at the same boundary, such as an attacker of a test network, is served alike and can do no more.
//!
//! The maps hold peers' requests that are under way; the network bounds those.

use super::network::{InboundRequest, NetEvent, Network};
use starling_protocol::node::{Input, Output, Ticket};
use starling_protocol::peers::{DialPurpose, Source, Standing};
use std::collections::BTreeMap;

/// Behaviour penalties for a frame that could not be decoded: no honest peer sends one, and the stream ends with it.
const BAD_FRAME_PENALTIES: u32 = 5;

/// A network, spoken to in the words of machines.
pub struct Port {
    /// The network itself, for what machines do not speak of: counters, bans, addresses.
    pub network: Network,
    tickets: u64,
    requests: BTreeMap<Ticket, InboundRequest>,
    /// Peers' requests whose answers have not gone out.
    answering: BTreeMap<InboundRequest, Ticket>,
}

impl Port {
    /// A port to this network.
    #[must_use]
    pub fn new(network: Network) -> Self {
        Self { network, tickets: 0, requests: BTreeMap::new(), answering: BTreeMap::new() }
    }

    /// Does what `output` asks of the network. Gives back one that asks something of somebody else.
    pub fn carry_out(&mut self, output: Output) -> Option<Output> {
        match output {
            Output::Send { peer, frame } => self.network.send(peer, frame),
            Output::Cancel { peer, ids } => self.network.cancel(peer, &ids),
            Output::Dial { id, addresses, purpose: DialPurpose::Connect } => self.network.dial(id, &addresses),
            Output::Dial { id, addresses, purpose: DialPurpose::Feeler } => self.network.probe(id, &addresses),
            Output::Discover => self.network.discover(),
            Output::Disconnect { peer, .. } => self.network.disconnect(peer),
            Output::Request { ticket, peer, body } => self.network.request(peer, ticket.0, body.to_vec()),
            Output::Respond { ticket, body } => {
                if let Some(request) = self.requests.remove(&ticket) {
                    match body {
                        Some(body) => self.network.respond(request, body.into()),
                        None => self.network.refuse(request),
                    }
                }
            }
            other @ (Output::Verify { .. }
            | Output::Abandon { .. }
            | Output::SavePeers
            | Output::PeerExchangeCandidates { .. }
            | Output::Persist { .. }
            | Output::Load { .. }
            | Output::SubmitResult { .. }
            | Output::Event(_)) => return Some(other),
        }
        None
    }

    /// What `event` is to a machine; none if it is nothing to it.
    pub fn input<'a>(&mut self, event: &'a NetEvent) -> Option<Input<'a>> {
        Some(match *event {
            NetEvent::Rpc { peer, ref rpc, received, .. } => Input::Rpc { peer, rpc, received },
            NetEvent::Connected { peer, id, ip, direction, version } => {
                Input::Connected { peer, id, ip, direction, version }
            }
            NetEvent::Turned { peer, direction } => Input::Turned { peer, direction },
            NetEvent::Disconnected { peer, .. } => Input::Disconnected { peer },
            NetEvent::SendQueueFull { peer, dropped } => {
                Input::SendQueueFull { peer, dropped: u32::try_from(dropped).unwrap_or(u32::MAX) }
            }
            NetEvent::BadFrame { peer, .. } => Input::Misbehaved { peer, penalties: BAD_FRAME_PENALTIES },
            NetEvent::DialFailed { id, .. } => Input::DialFailed { id },
            NetEvent::Discovered { id, ref addresses, proven } => {
                // A peer's own word that a dial-back has proven, or what somebody answered to a lookup.
                let source = if proven { Source::Peer(id) } else { Source::Lookup };
                Input::Discovered { id, addresses, standing: Standing::Heard, source }
            }
            NetEvent::Reached { id, ref address } => Input::Reached { id, address: address.clone() },
            NetEvent::Identified { peer, ref signed_record, .. } => {
                Input::PeerRecord { peer, signed_record: signed_record.clone()? }
            }
            NetEvent::Rtt { peer, rtt } => Input::Rtt { peer, rtt },
            NetEvent::Request { peer, request, ref body } => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.requests.insert(ticket, request);
                self.answering.insert(request, ticket);
                Input::Request { ticket, peer, body }
            }
            NetEvent::Responded { request } => {
                let ticket = self.answering.remove(&request)?;
                self.requests.remove(&ticket);
                Input::Responded { ticket }
            }
            NetEvent::Response { ticket, ref result, .. } => {
                let body = result.as_ref().ok().cloned();
                Input::Response { ticket: Ticket(ticket), body }
            }
        })
    }
}
