//! What the node tells Prometheus.
//!
//! One registry serves everything: the node's own metrics below, under the prefix `starling`, and libp2p's, which register
//! themselves into the same one. The driver sets and counts through the handles in [`Metrics`], which are atomics; only
//! [`Metrics::encode`] takes a lock. Names follow the Prometheus conventions: base units, a unit suffix, `_total` for
//! counters (appended on encoding). Labels have few values each: a class, a direction, an outcome; never a peer.

use crate::api::MessageClass;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::{Arc, Mutex};

/// What the scraper is told about the format of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A class of messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClassLabel {
    class: &'static str,
}

impl From<MessageClass> for ClassLabel {
    fn from(class: MessageClass) -> Self {
        Self { class: class.name() }
    }
}

/// Who opened a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DirectionLabel {
    /// `inbound` or `outbound`.
    pub direction: &'static str,
}

/// How an RPC request ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RpcLabel {
    /// The method; `other` for unknown ones, whose names a client chooses.
    pub method: &'static str,
    /// `ok`, `refused` or `failed`.
    pub outcome: &'static str,
}

/// Handles of the node's own metrics. Cheap to clone; all clones count into the same place.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    /// Peers in our mesh, by class.
    pub mesh_degree: Family<ClassLabel, Gauge>,
    /// Connected peers, by direction.
    pub peers: Family<DirectionLabel, Gauge>,
    /// Messages of our own that entered the mesh, by class.
    pub messages_published: Family<ClassLabel, Counter>,
    /// First copies that arrived, by class.
    pub messages_arrived: Family<ClassLabel, Counter>,
    /// Further copies that arrived, by class.
    pub messages_duplicate: Family<ClassLabel, Counter>,
    /// Messages that validation accepted, by class.
    pub messages_accepted: Family<ClassLabel, Counter>,
    /// Messages that validation rejected, by class.
    pub messages_rejected: Family<ClassLabel, Counter>,
    /// Messages dropped by validation without blame, by class.
    pub messages_ignored: Family<ClassLabel, Counter>,
    /// Messages dropped for overload, by class.
    pub messages_shed: Family<ClassLabel, Counter>,
    /// Bytes in all peers' send queues.
    pub queue_bytes: Gauge,
    /// Frames dropped because a send queue was full.
    pub queue_dropped: Counter,
    /// Time from arrival to the end of validation.
    pub validation_latency_seconds: Histogram,
    /// How late the event loop ran.
    pub loop_lag_seconds: Histogram,
    /// Transactions in the mempool.
    pub mempool_transactions: Gauge,
    /// Bytes in the mempool.
    pub mempool_bytes: Gauge,
    /// Height of the canonical head.
    pub chain_height: Gauge,
    /// Times that the head moved to another branch.
    pub chain_reorganisations: Counter,
    /// RPC requests.
    pub rpc_requests: Family<RpcLabel, Counter>,
}

impl Metrics {
    /// Registers the node's metrics in `registry`, which may hold others (libp2p's) already.
    #[must_use]
    pub fn new(mut registry: Registry) -> Self {
        let own = registry.sub_registry_with_prefix("starling");
        // Validation takes 50 µs when idle and seconds when drowning; a loop that is late by 5 ms is saturated.
        let latency = || Histogram::new(exponential_buckets(20e-6, 2.0, 18));
        let mut metrics = Self {
            registry: Arc::default(),
            mesh_degree: Family::default(),
            peers: Family::default(),
            messages_published: Family::default(),
            messages_arrived: Family::default(),
            messages_duplicate: Family::default(),
            messages_accepted: Family::default(),
            messages_rejected: Family::default(),
            messages_ignored: Family::default(),
            messages_shed: Family::default(),
            queue_bytes: Gauge::default(),
            queue_dropped: Counter::default(),
            validation_latency_seconds: latency(),
            loop_lag_seconds: latency(),
            mempool_transactions: Gauge::default(),
            mempool_bytes: Gauge::default(),
            chain_height: Gauge::default(),
            chain_reorganisations: Counter::default(),
            rpc_requests: Family::default(),
        };
        metrics.register_mesh(own);
        metrics.register_state(own);
        // A label value that never occurred is absent until it does, and a graph of it would start with a gap.
        for class in MessageClass::ALL {
            drop(metrics.mesh_degree.get_or_create(&class.into()));
            for family in [&metrics.messages_published, &metrics.messages_arrived, &metrics.messages_accepted] {
                drop(family.get_or_create(&class.into()));
            }
        }
        metrics.registry = Arc::new(Mutex::new(registry));
        metrics
    }

    /// The whole registry in OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if text::encode(&mut text, &registry).is_err() {
            // Writing into a string fails only if a metric's own encoder does.
            tracing::error!("a metric could not be encoded");
        }
        text
    }

    fn register_mesh(&self, own: &mut Registry) {
        own.register("mesh_degree", "Peers in our mesh of the class's topic", self.mesh_degree.clone());
        own.register("peers", "Connected peers by who dialled", self.peers.clone());
        own.register("messages_published", "Own messages that entered the mesh", self.messages_published.clone());
        own.register("messages_arrived", "First copies of messages that arrived", self.messages_arrived.clone());
        own.register("messages_duplicate", "Further copies of messages that arrived", self.messages_duplicate.clone());
        own.register("messages_accepted", "Messages found valid", self.messages_accepted.clone());
        own.register("messages_rejected", "Messages found invalid", self.messages_rejected.clone());
        own.register("messages_ignored", "Messages dropped without blame", self.messages_ignored.clone());
        own.register("messages_shed", "Messages dropped because of our own overload", self.messages_shed.clone());
        let bytes = Unit::Bytes;
        own.register_with_unit("send_queues", "Bytes that wait to be sent to peers", bytes, self.queue_bytes.clone());
        own.register("send_queue_dropped_frames", "Frames dropped from full send queues", self.queue_dropped.clone());
    }

    fn register_state(&self, own: &mut Registry) {
        let help = "Time from a message's arrival to its verdict";
        own.register_with_unit("validation_latency", help, Unit::Seconds, self.validation_latency_seconds.clone());
        own.register_with_unit("loop_lag", "How late the event loop ran", Unit::Seconds, self.loop_lag_seconds.clone());
        own.register("mempool_transactions", "Transactions in the mempool", self.mempool_transactions.clone());
        own.register_with_unit("mempool", "Bytes in the mempool", Unit::Bytes, self.mempool_bytes.clone());
        own.register("chain_height", "Height of the canonical head", self.chain_height.clone());
        own.register(
            "chain_reorganisations",
            "Moves of the head to another branch",
            self.chain_reorganisations.clone(),
        );
        own.register("rpc_requests", "RPC requests by method and outcome", self.rpc_requests.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_encoded_with_what_was_registered_before() {
        let mut registry = Registry::default();
        let others: Counter = Counter::default();
        registry.register("libp2p_something", "Of another crate", others);
        let metrics = Metrics::new(registry);
        metrics.mesh_degree.get_or_create(&MessageClass::Block.into()).set(6);
        metrics.messages_arrived.get_or_create(&MessageClass::Transaction.into()).inc();
        metrics.validation_latency_seconds.observe(0.001);
        let text = metrics.encode();
        for line in [
            "libp2p_something_total 0",
            "starling_mesh_degree{class=\"block\"} 6",
            "starling_messages_arrived_total{class=\"transaction\"} 1",
            "starling_messages_published_total{class=\"transaction\"} 0",
            "starling_validation_latency_seconds_count 1",
            "starling_mempool_bytes 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
