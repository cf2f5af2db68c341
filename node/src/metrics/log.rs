//! The log's losses, looked at whenever the scraper asks: the log belongs to the process, not to a node.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use std::fmt;

/// `lost` says how many lines have been lost since the start.
pub(super) fn register(registry: &mut Registry, lost: fn() -> u64) {
    registry.sub_registry_with_prefix("starling_log").register_collector(Box::new(Log { lost }));
}

#[derive(Debug)]
struct Log {
    lost: fn() -> u64,
}

impl Collector for Log {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let lost = ConstCounter::new((self.lost)());
        let help = "Log lines that a sink could not take: too many at once, a reader that is stuck, a full disk";
        lost.encode(encoder.encode_descriptor("lines_lost", help, None, lost.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_lines_are_counted() {
        let mut registry = Registry::default();
        register(&mut registry, || 7);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        assert!(text.contains("\nstarling_log_lines_lost_total 7\n"), "{text}");
    }
}
