//! Whom the node remembers, and whom it keeps out. Copied once a second.

use super::messages::FractionGauge;
use super::series::{self, count, raise};
use crate::net::limits::REASONS;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use starling_protocol::peers::PeerStats;

/// The address book, the bans, and refused connections.
#[derive(Debug)]
pub struct MemoryMetrics {
    new: Gauge,
    tried: Gauge,
    anchors: Gauge,
    bans: Gauge,
    outbound_ratio: FractionGauge,
    refused: [Counter; REASONS.len()],
}

impl MemoryMetrics {
    pub(super) fn register(own: &mut Registry) -> Self {
        let of = series::of;
        let tables = of("address_book_entries", "Peers remembered, by table");
        let [new, tried] = tables.by(own, "table", ["new", "tried"]);
        Self {
            new,
            tried,
            anchors: of("anchors", "Peers that are dialled first after a restart").single(own),
            bans: of("bans", "Bans in force").single(own),
            outbound_ratio: of("peers_outbound_ratio", "Outbound links among all; 1 without any").single(own),
            refused: of("connections_refused", "Connections refused by reason").by(own, "reason", REASONS),
        }
    }

    /// Shows these figures, and raises the counters to these totals.
    pub fn set(&self, stats: &PeerStats, refused: impl Iterator<Item = (&'static str, u64)>) {
        self.new.set(count(stats.new));
        self.tried.set(count(stats.tried));
        self.anchors.set(count(stats.anchors));
        self.bans.set(count(stats.bans));
        #[expect(clippy::cast_precision_loss, reason = "few peers")]
        let ratio = if stats.connected == 0 { 1.0 } else { stats.outbound as f64 / stats.connected as f64 };
        self.outbound_ratio.set(ratio);
        for (reason, total) in refused {
            let known = REASONS.iter().zip(&self.refused).filter(|(known, _)| **known == reason);
            known.for_each(|(_, counter)| raise(counter, total));
        }
    }
}
