//! Messages, counted as they come and go, and how the work is spread over the links.
//!
//! Which link brought what matters: a mesh whose first copies all come over one link depends on that peer. A label for the
//! peer would let whoever connects make series without end, so the links are told as a distribution: once a
//! minute every link that existed throughout adds its first deliveries and its duplicates of that time to
//! a histogram, and a gauge says what share of the first copies the most useful link brought.

use super::series::{self, ByClass};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

/// A gauge of a fraction or another number that is not whole.
pub type FractionGauge = Gauge<f64, AtomicU64>;

/// Handles; see the module.
#[derive(Debug)]
pub struct MessageMetrics {
    /// Messages of our own that entered the mesh.
    pub published: ByClass<Counter>,
    /// First copies that arrived.
    pub arrived: ByClass<Counter>,
    /// Further copies that arrived.
    pub duplicate: ByClass<Counter>,
    /// First copies that arrived in answer to IWANT.
    pub pulled: ByClass<Counter>,
    /// Messages that validation accepted.
    pub accepted: ByClass<Counter>,
    /// Messages that validation rejected.
    pub rejected: ByClass<Counter>,
    /// Messages dropped by validation without blame.
    pub ignored: ByClass<Counter>,
    /// Messages dropped for overload.
    pub shed: ByClass<Counter>,
    /// Time from arrival to the end of validation.
    pub validation_seconds: ByClass<Histogram>,
    /// First deliveries of a link in one window.
    pub link_first_deliveries: ByClass<Histogram>,
    /// Duplicates from a link in one window.
    pub link_duplicates: ByClass<Histogram>,
    /// The largest share of a window's first deliveries that came over one link.
    pub link_top_share: ByClass<FractionGauge>,
}

impl MessageMetrics {
    pub(super) fn register(own: &mut Registry) -> Self {
        let of = series::of;
        let validation = "Time from a message's arrival to its verdict";
        let first = "First deliveries of each link in each minute that it existed throughout";
        let duplicates = "Duplicates from each link in each minute that it existed throughout";
        let top = "Largest share of the last minute's first deliveries that came over one link";
        Self {
            published: of("messages_published", "Own messages that entered the mesh").by_class(own),
            arrived: of("messages_arrived", "First copies of messages that arrived").by_class(own),
            duplicate: of("messages_duplicate", "Further copies of messages that arrived").by_class(own),
            pulled: of("messages_pulled", "First copies that arrived because we asked by IWANT").by_class(own),
            accepted: of("messages_accepted", "Messages found valid").by_class(own),
            rejected: of("messages_rejected", "Messages found invalid").by_class(own),
            ignored: of("messages_ignored", "Messages dropped without blame").by_class(own),
            shed: of("messages_shed", "Messages dropped because of our own overload").by_class(own),
            validation_seconds: series::seconds("validation_latency", validation)
                .by_class_from(own, series::latency_histogram),
            link_first_deliveries: of("link_first_deliveries", first).by_class_from(own, link_histogram),
            link_duplicates: of("link_duplicates", duplicates).by_class_from(own, link_histogram),
            link_top_share: of("link_first_deliveries_top_ratio", top).by_class(own),
        }
    }
}

/// Buckets 0, 1, 2, 4 … 32,768 messages in a minute.
fn link_histogram() -> Histogram {
    Histogram::new([0.0].into_iter().chain(exponential_buckets(1.0, 2.0, 16)))
}
