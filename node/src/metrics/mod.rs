//! What the node tells Prometheus.
//!
//! One registry serves everything: the node's own metrics, under the prefix `starling`, those of the process, under
//! `process`, and libp2p's. The groups of [`Metrics`] say what there is; each registers its own.
//!
//! # Rules
//! 1. **Names** follow the conventions of Prometheus and OpenMetrics: base units (seconds, bytes), the unit last, `_total`
//!    for counters (appended on encoding), a gauge for what can fall.
//! 2. **No peer can make a series.** Labels have values from lists in this program, and every series of this crate exists from
//!    the start: a rate over it has no gap, and nothing that arrives from the network can add one. What differs from link to
//!    link is told as a distribution over the links (see [`messages`]); `net_peers` of the RPC has each link by name.
//! 3. **A message costs a few atomic additions.** [`messages`] is counted as things happen, through handles that were looked
//!    up once: no map, no allocation; one uncontended lock per histogram. All the rest is copied from the node's own
//!    counters once a second, or read when the scraper asks.
//! 4. A counter counts since the start of the process.
//!
//! # Sources
//! [Metric and label naming](https://prometheus.io/docs/practices/naming/),
//! [OpenMetrics 1.0](https://prometheus.io/docs/specs/om/open_metrics_spec/).

mod chain;
mod disk;
mod links;
mod log;
mod memory;
pub mod messages;
mod network;
mod process;
mod rpc;
mod series;
mod sync;

pub use chain::{ChainMetrics, StorageMetrics};
pub use links::Links;
pub use memory::MemoryMetrics;
pub use messages::MessageMetrics;
pub use network::{MeshMetrics, PeerMetrics, QueueMetrics};
pub use rpc::RpcMetrics;
pub use series::ByClass;
pub use sync::SyncMetrics;

use crate::api::WaitReason;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What the scraper is told about the format of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
    /// Messages, as they come and go.
    pub messages: Arc<MessageMetrics>,
    /// The mesh and its control messages.
    pub mesh: Arc<MeshMetrics>,
    /// What waits to be sent.
    pub queues: Arc<QueueMetrics>,
    /// Connected and known peers, and what they are worth.
    pub peers: Arc<PeerMetrics>,
    /// Whom the node remembers and keeps out.
    pub memory: Arc<MemoryMetrics>,
    /// The chain and the mempool.
    pub chain: Arc<ChainMetrics>,
    /// Catching up.
    pub sync: Arc<SyncMetrics>,
    /// The disk.
    pub storage: Arc<StorageMetrics>,
    /// The event loop.
    pub event_loop: Arc<LoopMetrics>,
    /// The RPC, besides its calls.
    pub rpc: Arc<RpcMetrics>,
    /// RPC requests.
    pub rpc_requests: Family<RpcLabel, Counter>,
}

impl Metrics {
    /// Registers the node's metrics in `registry`, which may hold others (libp2p's) already. `database` is the file whose
    /// size and place are told.
    #[must_use]
    pub fn new(mut registry: Registry, database: &Path) -> Self {
        process::register(&mut registry);
        disk::register(&mut registry, database);
        log::register(&mut registry, crate::telemetry::lines_lost);
        let own = registry.sub_registry_with_prefix("starling");
        own.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let rpc_requests = Family::<RpcLabel, Counter>::default();
        own.register("rpc_requests", "RPC requests by method and outcome", rpc_requests.clone());
        for outcome in ["ok", "refused", "failed"] {
            drop(rpc_requests.get_or_create(&RpcLabel { method: "other", outcome }));
        }
        Self {
            messages: Arc::new(MessageMetrics::register(own)),
            mesh: Arc::new(MeshMetrics::register(own)),
            queues: Arc::new(QueueMetrics::register(own)),
            peers: Arc::new(PeerMetrics::register(own)),
            memory: Arc::new(MemoryMetrics::register(own)),
            chain: Arc::new(ChainMetrics::register(own)),
            sync: Arc::new(SyncMetrics::register(own)),
            storage: Arc::new(StorageMetrics::register(own)),
            event_loop: Arc::new(LoopMetrics::register(own)),
            rpc: Arc::new(RpcMetrics::register(own)),
            rpc_requests,
            registry: Arc::new(Mutex::new(registry)),
        }
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
}

/// The event loop, and whether the node does what it is for.
#[derive(Debug)]
pub struct LoopMetrics {
    /// How late the event loop ran: the worst of each second.
    pub lag_seconds: Histogram,
    /// 1 while `/ready` answers 200.
    ready: Gauge,
    /// 1 for each kind of what the node waits for, in the order of [`WaitReason::ALL`].
    waiting: [Gauge; WaitReason::ALL.len()],
    /// Steps of the wall clock.
    pub clock_steps: Counter,
}

impl LoopMetrics {
    fn register(own: &mut Registry) -> Self {
        let of = series::of;
        let lag = series::seconds("loop_lag", "How late the event loop ran: the worst of each second");
        Self {
            lag_seconds: lag.histogram(own, series::latency_histogram()),
            ready: of("ready", "1 while the node takes part in the network, else 0").single(own),
            waiting: of("waiting", "1 while the node waits for this to become ready, else 0").by(
                own,
                "reason",
                WaitReason::ALL.map(WaitReason::name),
            ),
            clock_steps: of("clock_steps", "Times that the wall clock was set").single(own),
        }
    }

    /// Sets what the node waits for; with nothing it is ready.
    pub fn set_waiting(&self, reasons: &[WaitReason]) {
        self.ready.set(i64::from(reasons.is_empty()));
        for (gauge, reason) in self.waiting.iter().zip(WaitReason::ALL) {
            gauge.set(i64::from(reasons.contains(&reason)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::MessageClass;

    #[test]
    fn metrics_are_encoded_with_what_was_registered_before() {
        let mut registry = Registry::default();
        let others: Counter = Counter::default();
        registry.register("libp2p_something", "Of another crate", others);
        let metrics = Metrics::new(registry, Path::new("/"));
        metrics.mesh.degree[MessageClass::Block].set(6);
        metrics.messages.arrived[MessageClass::Transaction].inc();
        metrics.messages.validation_seconds[MessageClass::Block].observe(0.001);
        let text = metrics.encode();
        for line in [
            "libp2p_something_total 0",
            "starling_mesh_degree{class=\"block\"} 6",
            "starling_messages_arrived_total{class=\"transaction\"} 1",
            "starling_messages_published_total{class=\"transaction\"} 0",
            "starling_validation_latency_seconds_count{class=\"block\"} 1",
            "starling_mempool_bytes 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
