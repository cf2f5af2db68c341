//! What the machine tells about itself, turned into trace lines, metrics and log messages.

use super::early::EarlyBlocks;
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
    /// Blocks that arrive before their time.
    pub(super) early: EarlyBlocks,
    genesis: Genesis,
    /// Recent arrivals in order, to measure how long validation takes.
    arrivals: VecDeque<(MessageId, Time)>,
}

impl Observer {
    pub(super) fn new(trace: Trace, metrics: Metrics, genesis: &Genesis) -> Self {
        let (links, early) = (Links::default(), EarlyBlocks::default());
        Self { trace, metrics, links, early, unix_us_at_zero: 0, genesis: genesis.clone(), arrivals: VecDeque::new() }
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
            Event::CutOff { slots, peers } => {
                rate_limited!(
                    warn,
                    slots,
                    peers,
                    "this node suspects that it is cut off: nothing of the network was seen for several slots; others are \
                     being sought. Check the host's network and clock, and that the network runs"
                );
            }
            // The thread that found out has said why.
            Event::StorageFailed | Event::StorageBack => {}
            Event::Restored { pending, pool } => {
                if pending + pool > 0 {
                    tracing::info!(submitted = pending, others = pool, "transactions of the last run wait here again");
                }
            }
            Event::SlotSigned { slot, signed } => tracing::warn!(
                slot,
                signed,
                "leaving out a turn: an earlier run may have signed a block for it; if the clock was set back, set it right"
            ),
            Event::KeyElsewhere { slot, block, height } => {
                self.metrics.chain.key_elsewhere.inc();
                rate_limited!(
                    error,
                    slot,
                    height,
                    %block,
                    "another node signs blocks with the producer key of this one: stop one of the two, before they sign \
                     different blocks for one slot, which is proof of misbehaviour"
                );
            }
            Event::BehindPeers { slot, height, target } => {
                tracing::info!(
                    slot,
                    height,
                    target,
                    "leaving out a turn: blocks that peers have are being fetched first"
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
                self.validated(now, &payload, peer, verdict);
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

    fn validated(&mut self, now: Time, payload: &Payload, peer: PeerHandle, verdict: Verdict) {
        let (id, class) = (payload.id(), self.class(payload.topic()));
        let messages = &self.metrics.messages;
        // Verdicts come nearly in the order of arrival, so the search is short.
        if let Some(place) = self.arrivals.iter().position(|(arrived, _)| *arrived == id)
            && let Some((_, received)) = self.arrivals.remove(place)
        {
            messages.validation_seconds[class].observe(now.since(received).as_secs_f64());
            if class == MessageClass::Block {
                self.block_in_time(received, payload, peer, verdict);
            }
        }
        let messages = &self.metrics.messages;
        let counters = match verdict {
            Verdict::Accept | Verdict::AcceptWithoutTrial => {
                self.trace.write(TraceLine::Accept { class, id, at: now });
                &messages.accepted
            }
            Verdict::Ignore => &messages.ignored,
            Verdict::Reject => &messages.rejected,
            Verdict::Shed => &messages.shed,
        };
        counters[class].inc();
    }

    /// Compares a block's arrival with its slot. The delay of those that are relayed is told; of any other the slot is what
    /// its sender likes, and counts only together with others.
    fn block_in_time(&mut self, received: Time, payload: &Payload, peer: PeerHandle, verdict: Verdict) {
        let header = payload.data().get(..SIGNED_HEADER_BYTES);
        let header = header.and_then(|bytes| decode_canonical(bytes, SIGNED_HEADER_BYTES).ok());
        let Some(SignedHeader { header, .. }) = header else { return };
        let Some((delay, early)) = self.against_slot(received, header.slot) else { return };
        match verdict {
            Verdict::Accept | Verdict::AcceptWithoutTrial => {
                self.metrics.chain.arrival_delay_seconds.observe(delay.as_secs_f64());
                self.early.reset();
            }
            Verdict::Ignore => self.early.ignored(peer, early),
            Verdict::Reject | Verdict::Shed => {}
        }
    }

    /// How long after its slot began a block became the head, unless it was fetched to catch up.
    fn head_delay(&self, now: Time, slot: u64, node: &Node) {
        let sync = node.sync_progress(now);
        let catching_up = sync.peer.is_some() && sync.height < sync.target;
        if !catching_up && let Some((delay, _)) = self.against_slot(now, slot) {
            self.metrics.chain.head_delay_seconds.observe(delay.as_secs_f64());
        }
    }

    /// Time since the slot began and time until it does, one of them zero; none without a wall clock.
    fn against_slot(&self, at: Time, slot: u64) -> Option<(Duration, Duration)> {
        let unix_us = self.unix_us_at_zero.checked_add(at.as_micros()).filter(|_| self.unix_us_at_zero != 0)?;
        let start_us = self.genesis.slot_start(slot);
        let (late_us, early_us) = (unix_us.saturating_sub(start_us), start_us.saturating_sub(unix_us));
        Some((Duration::from_micros(late_us), Duration::from_micros(early_us)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;
    use starling_crypto::SecretKey;
    use starling_protocol::genesis::{GenesisParameters, Limits};
    use starling_protocol::id::HandleAllocator;
    use starling_protocol::node::NodeParts;
    use std::sync::Arc;

    fn genesis() -> Genesis {
        Genesis::new(GenesisParameters {
            name: "observed".into(),
            start_time_ms: 0,
            slot_ms: 1_000,
            producers: vec![SecretKey::from_seed(&[1; 32]).public_key().to_bytes()],
            limits: Limits::default(),
            stamp_bits: 0,
        })
        .expect("acceptable")
    }

    /// Thousands of peers with messages of every fate, and not one series more.
    #[test]
    fn nothing_that_arrives_makes_a_series() {
        let genesis = genesis();
        let parts = NodeParts::new(genesis.clone(), PeerId::from_number(1), 8).expect("acceptable");
        let node = Node::new(parts, [7; 32], Time::ZERO);
        let metrics = Metrics::new(Registry::default(), std::path::Path::new("/"));
        let mut observer = Observer::new(Trace::disabled(), metrics.clone(), &genesis);
        observer.unix_us_at_zero = 1;
        let series = || metrics.encode().lines().filter(|line| !line.starts_with('#')).count();
        let before = series();
        let mut handles = HandleAllocator::default();
        for number in 0..3_000_u32 {
            let (now, peer) = (Time::from_micros(u64::from(number) * 100_000), handles.allocate());
            observer.links.connected(peer);
            let topic = if number % 2 == 0 { genesis.block_topic() } else { genesis.transaction_topic() };
            let payload = Payload::new(topic, &number.to_le_bytes().repeat(60));
            let how = if number % 3 == 0 { Arrival::Pulled } else { Arrival::Pushed };
            let verdict = [Verdict::Accept, Verdict::Ignore, Verdict::Reject, Verdict::Shed][number as usize % 4];
            for event in [
                mesh::Event::Arrived { payload: Arc::clone(&payload), peer, received: now, how },
                mesh::Event::Duplicate { id: payload.id(), topic: topic.clone(), peer, received: now, frame_bytes: 9 },
                mesh::Event::Validated { payload: Arc::clone(&payload), peer, verdict },
                mesh::Event::Published { payload },
                mesh::Event::Grafted { peer, topic: topic.clone() },
                mesh::Event::MeshDegree { topic: topic.clone(), degree: number },
            ] {
                observer.observe(now, Event::Mesh(event), &node);
            }
            observer.links.report(now, &metrics.messages);
            if number % 2 == 0 {
                observer.links.disconnected(peer);
                handles.release(peer);
            }
        }
        assert_eq!(series(), before);
        let text = metrics.encode();
        for line in [
            "starling_messages_rejected_total{class=\"block\"} 750",
            "starling_messages_pulled_total{class=\"block\"} 500",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
        }
    }
}
