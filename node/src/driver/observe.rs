//! What the machine tells about itself, turned into trace lines, metrics and log messages.

use crate::api::MessageClass;
use crate::metrics::Metrics;
use crate::rate_limited;
use crate::trace::{Trace, TraceLine};
use starling_protocol::chain;
use starling_protocol::genesis::Genesis;
use starling_protocol::id::{MessageId, PeerHandle, PeerId, Topic};
use starling_protocol::mesh::{self, Arrival, Verdict};
use starling_protocol::node::{Event, Node};
use starling_protocol::time::Time;
use std::collections::VecDeque;

/// First copies whose verdict is awaited, for the validation latency; a bound well above what the machine has under way.
const ARRIVALS_MAX: usize = 16_384;

/// Observes one node.
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) trace: Trace,
    pub(super) metrics: Metrics,
    transactions: Topic,
    /// Recent arrivals in order, to measure how long validation takes.
    arrivals: VecDeque<(MessageId, Time)>,
}

impl Observer {
    pub(super) fn new(trace: Trace, metrics: Metrics, genesis: &Genesis) -> Self {
        Self { trace, metrics, transactions: genesis.transaction_topic().clone(), arrivals: VecDeque::new() }
    }

    /// The class of messages on a topic of the network.
    pub(super) fn class(&self, topic: &Topic) -> MessageClass {
        if *topic == self.transactions { MessageClass::Transaction } else { MessageClass::Block }
    }

    pub(super) fn observe(&mut self, now: Time, event: Event, node: &Node) {
        match event {
            Event::Mesh(event) => self.mesh(now, event, node),
            Event::InBlock { message, peer } => {
                self.trace.write(TraceLine::InBlock { id: message, at: now, from: name(node, peer) });
            }
            Event::Produced { id, height, slot, transactions } => {
                tracing::info!(height, slot, transactions, block = %id, "produced a block");
            }
            Event::Chain(event) => chain_event(event),
            Event::HeadChanged { head, undone, settled } => {
                self.metrics.chain_height.set(i64::try_from(head.height).unwrap_or(i64::MAX));
                if undone > 0 {
                    self.metrics.chain_reorganisations.inc();
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
                self.metrics.messages_published.get_or_create(&class.into()).inc();
                let payload_bytes = payload.data().len() as u64;
                self.trace.write(TraceLine::Publish { class, id: payload.id(), at: now, payload_bytes });
            }
            mesh::Event::Arrived { payload, peer, received, how } => {
                let (class, id) = (self.class(payload.topic()), payload.id());
                self.metrics.messages_arrived.get_or_create(&class.into()).inc();
                if self.arrivals.len() == ARRIVALS_MAX {
                    self.arrivals.pop_front();
                }
                self.arrivals.push_back((id, received));
                let frame_bytes = payload.encoded().len() as u64;
                let (from, pulled) = (name(node, peer), how == Arrival::Pulled);
                self.trace.write(TraceLine::Arrive { class, id, at: received, from, pulled, frame_bytes });
            }
            mesh::Event::Duplicate { id, topic, peer, received, frame_bytes } => {
                let class = self.class(&topic);
                self.metrics.messages_duplicate.get_or_create(&class.into()).inc();
                let (from, frame_bytes) = (name(node, peer), u64::from(frame_bytes));
                self.trace.write(TraceLine::Copy { class, id, at: received, from, frame_bytes });
            }
            mesh::Event::Validated { payload, peer, verdict } => {
                let class = self.class(payload.topic());
                self.validated(now, payload.id(), class, verdict);
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
                let gauge = self.metrics.mesh_degree.get_or_create(&class.into());
                if gauge.set(i64::from(degree)) != i64::from(degree) {
                    self.trace.write(TraceLine::Mesh { at: now, class, degree });
                }
            }
        }
    }

    fn validated(&mut self, now: Time, id: MessageId, class: MessageClass, verdict: Verdict) {
        // Verdicts come nearly in the order of arrival, so the search is short.
        if let Some(place) = self.arrivals.iter().position(|(arrived, _)| *arrived == id)
            && let Some((_, received)) = self.arrivals.remove(place)
        {
            self.metrics.validation_latency_seconds.observe(now.since(received).as_secs_f64());
        }
        let counters = match verdict {
            Verdict::Accept => {
                self.trace.write(TraceLine::Accept { class, id, at: now });
                &self.metrics.messages_accepted
            }
            Verdict::Ignore => &self.metrics.messages_ignored,
            Verdict::Reject => &self.metrics.messages_rejected,
            Verdict::Shed => &self.metrics.messages_shed,
        };
        counters.get_or_create(&class.into()).inc();
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
