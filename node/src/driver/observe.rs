//! What the machine tells about itself, turned into trace lines, metrics and log messages.

use crate::api::MessageClass;
use crate::metrics::{Links, Metrics};
use crate::rate_limited;
use crate::trace::{Trace, TraceLine};
use starling_protocol::block::{SIGNED_HEADER_BYTES, SignedHeader};
use starling_protocol::chain;
use starling_protocol::codec::decode_canonical;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{MessageId, PeerHandle, PeerId, Topic};
use starling_protocol::mesh::{self, Arrival, Verdict};
use starling_protocol::message::Payload;
use starling_protocol::node::{Event, Node};
use starling_protocol::time::{Duration, Time};
use std::collections::VecDeque;

/// First copies whose verdict is awaited, for the validation latency; a bound well above what the machine has under way.
const ARRIVALS_MAX: usize = 16_384;

/// Observes one node.
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) trace: Trace,
    pub(super) metrics: Metrics,
    /// What each link brought.
    pub(super) links: Links,
    /// Unix time in microseconds at [`Time::ZERO`]; zero while it is unknown.
    pub(super) unix_us_at_zero: u64,
    genesis: Genesis,
    /// Recent arrivals in order, to measure how long validation takes.
    arrivals: VecDeque<(MessageId, Time)>,
}

impl Observer {
    pub(super) fn new(trace: Trace, metrics: Metrics, genesis: &Genesis) -> Self {
        let links = Links::default();
        Self { trace, metrics, links, unix_us_at_zero: 0, genesis: genesis.clone(), arrivals: VecDeque::new() }
    }

    /// The class of messages on a topic of the network.
    pub(super) fn class(&self, topic: &Topic) -> MessageClass {
        if topic == self.genesis.transaction_topic() { MessageClass::Transaction } else { MessageClass::Block }
    }

    pub(super) fn observe(&mut self, now: Time, event: Event, node: &Node) {
        match event {
            Event::Mesh(event) => self.mesh(now, event, node),
            Event::InBlock { message, peer } => {
                self.trace.write(TraceLine::InBlock { id: message, at: now, from: name(node, peer) });
            }
            Event::Produced { id, height, slot, transactions } => {
                self.metrics.chain.produced.inc();
                tracing::info!(height, slot, transactions, block = %id, "produced a block");
            }
            Event::Chain(event) => chain_event(event),
            Event::HeadChanged { head, undone, settled } => {
                self.head_delay(now, head.slot, node);
                if undone > 0 {
                    self.metrics.chain.reorganisations.inc();
                    let returned = settled.returned;
                    rate_limited!(info, height = head.height, undone, returned, head = %head.id, "the chain was reorganised");
                } else {
                    rate_limited!(debug, height = head.height, slot = head.slot, head = %head.id, "new head");
                }
            }
            Event::PeerFault { peer, fault } => {
                rate_limited!(info, peer = ?name(node, peer), %fault, "a peer failed us");
            }
            Event::StorageFailed => {
                rate_limited!(
                    warn,
                    "a block could not be stored; what was not stored is fetched again after a restart"
                );
            }
        }
    }

    fn mesh(&mut self, now: Time, event: mesh::Event, node: &Node) {
        match event {
            mesh::Event::Published { payload } => {
                let class = self.class(payload.topic());
                self.metrics.messages.published[class].inc();
                let payload_bytes = payload.data().len() as u64;
                self.trace.write(TraceLine::Publish { class, id: payload.id(), at: now, payload_bytes });
            }
            mesh::Event::Arrived { payload, peer, received, how } => {
                let (class, id) = (self.class(payload.topic()), payload.id());
                self.metrics.messages.arrived[class].inc();
                self.links.first(peer, class);
                if self.arrivals.len() == ARRIVALS_MAX {
                    self.arrivals.pop_front();
                }
                self.arrivals.push_back((id, received));
                let frame_bytes = payload.encoded().len() as u64;
                let (from, pulled) = (name(node, peer), how == Arrival::Pulled);
                if pulled {
                    self.metrics.messages.pulled[class].inc();
                }
                self.trace.write(TraceLine::Arrive { class, id, at: received, from, pulled, frame_bytes });
            }
            mesh::Event::Duplicate { id, topic, peer, received, frame_bytes } => {
                let class = self.class(&topic);
                self.metrics.messages.duplicate[class].inc();
                self.links.duplicate(peer, class);
                let (from, frame_bytes) = (name(node, peer), u64::from(frame_bytes));
                self.trace.write(TraceLine::Copy { class, id, at: received, from, frame_bytes });
            }
            mesh::Event::Validated { payload, peer, verdict } => {
                let class = self.class(payload.topic());
                self.validated(now, &payload, class, verdict);
                if verdict == Verdict::Reject {
                    rate_limited!(debug, class = class.name(), id = %payload.id(), peer = ?name(node, peer), "rejected a message");
                }
            }
            mesh::Event::Grafted { peer, topic } => {
                rate_limited!(debug, peer = ?name(node, peer), %topic, "peer joined our mesh");
            }
            mesh::Event::Pruned { peer, topic, reason } => {
                rate_limited!(debug, peer = ?name(node, peer), %topic, ?reason, "peer left our mesh");
            }
            mesh::Event::MeshDegree { topic, degree } => {
                let class = self.class(&topic);
                let gauge = &self.metrics.mesh.degree[class];
                if gauge.set(i64::from(degree)) != i64::from(degree) {
                    self.trace.write(TraceLine::Mesh { at: now, class, degree });
                }
            }
        }
    }

    fn validated(&mut self, now: Time, payload: &Payload, class: MessageClass, verdict: Verdict) {
        let id = payload.id();
        let messages = &self.metrics.messages;
        // Verdicts come nearly in the order of arrival, so the search is short.
        if let Some(place) = self.arrivals.iter().position(|(arrived, _)| *arrived == id)
            && let Some((_, received)) = self.arrivals.remove(place)
        {
            messages.validation_seconds[class].observe(now.since(received).as_secs_f64());
            if class == MessageClass::Block && verdict == Verdict::Accept {
                self.arrival_delay(received, payload);
            }
        }
        let messages = &self.metrics.messages;
        let counters = match verdict {
            Verdict::Accept => {
                self.trace.write(TraceLine::Accept { class, id, at: now });
                &messages.accepted
            }
            Verdict::Ignore => &messages.ignored,
            Verdict::Reject => &messages.rejected,
            Verdict::Shed => &messages.shed,
        };
        counters[class].inc();
    }

    /// How long after its slot began a block reached us. Only blocks that are relayed count: the slot of any other is what its
    /// sender likes.
    fn arrival_delay(&self, received: Time, payload: &Payload) {
        let header = payload.data().get(..SIGNED_HEADER_BYTES);
        if let Some(Ok(SignedHeader { header, .. })) = header.map(|bytes| decode_canonical(bytes, SIGNED_HEADER_BYTES))
            && let Some(delay) = self.since_slot_began(received, header.slot)
        {
            self.metrics.chain.arrival_delay_seconds.observe(delay.as_secs_f64());
        }
    }

    /// How long after its slot began a block became the head, unless it was fetched to catch up.
    fn head_delay(&self, now: Time, slot: u64, node: &Node) {
        let sync = node.sync_progress(now);
        let catching_up = sync.peer.is_some() && sync.height < sync.target;
        if !catching_up && let Some(delay) = self.since_slot_began(now, slot) {
            self.metrics.chain.head_delay_seconds.observe(delay.as_secs_f64());
        }
    }

    /// Time since the slot began, zero if it has not by our clock; none without a wall clock.
    fn since_slot_began(&self, at: Time, slot: u64) -> Option<Duration> {
        let unix_us = self.unix_us_at_zero.checked_add(at.as_micros()).filter(|_| self.unix_us_at_zero != 0)?;
        Some(Duration::from_micros(unix_us.saturating_sub(self.genesis.slot_start(slot))))
    }
}

fn chain_event(event: chain::Event) {
    match event {
        chain::Event::Equivocation { headers } => {
            let (slot, producer) = (headers[0].header.slot, headers[0].header.producer);
            rate_limited!(warn, slot, %producer, "a producer signed two blocks for one slot");
        }
        chain::Event::Invalid { block, height, reason } => {
            rate_limited!(warn, %block, height, %reason, "a block is invalid");
        }
        chain::Event::DeepFork { block, height, root_height, .. } => rate_limited!(warn,
            %block,
            height,
            root_height,
            "a block belongs to a fork that began before the oldest block that can be undone; \
             to follow that fork, start over with an empty data directory"
        ),
        chain::Event::Orphaned { block, parent } => {
            rate_limited!(debug, %block, %parent, "a block waits for its parent");
        }
        chain::Event::OrphansDropped { count } => rate_limited!(debug, count, "blocks without a parent were dropped"),
        chain::Event::NobodyKeeps { height, earliest, peers } => rate_limited!(
            warn,
            height,
            earliest,
            peers,
            "no connected peer keeps the next block any more; import an export of the chain (`starling db import`), or \
             connect to a peer that keeps all blocks (--bootnodes)"
        ),
        chain::Event::SyncStarted { height, .. } => rate_limited!(debug, height, "catching up"),
        chain::Event::SyncEnded { height, complete, .. } => {
            rate_limited!(debug, height, complete, "stopped catching up");
        }
    }
}

/// Who a handle stands for; the handle was in force when the machine emitted it.
fn name(node: &Node, peer: PeerHandle) -> PeerId {
    node.peer_id(peer).unwrap_or(PeerId::from_number(0))
}
