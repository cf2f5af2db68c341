//! Catching up: what is asked of peers, and what they ask.

use super::messages::FractionGauge;
use super::series;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use starling_protocol::chain::ServeCounters;
use starling_protocol::sync::{SyncCounters, SyncProgress};

/// Catching up.
#[derive(Debug)]
pub struct SyncMetrics {
    rate: FractionGauge,
    in_flight: Gauge,
    headers_ahead: Gauge,
    held: Gauge,
    silent_slots: Gauge,
    sent: [Counter; 3],
    served: [Counter; 3],
    reassigned: Counter,
}

impl SyncMetrics {
    pub(super) fn register(own: &mut Registry) -> Self {
        let of = series::of;
        let sent = of("sync_requests_sent", "Requests sent to peers: all, and of these what failed or met a busy peer");
        let served =
            of("sync_requests_received", "Requests of peers: answered, refused as too many, failed on the disk");
        Self {
            rate: of("sync_blocks_per_second", "Blocks placed in a second while the node catches up").single(own),
            in_flight: of("sync_requests_in_flight", "Requests to peers that are not answered").single(own),
            headers_ahead: of("sync_headers_ahead", "Verified headers whose blocks are not placed").single(own),
            held: series::bytes("sync_held", "Blocks that have come and are not placed").single(own),
            silent_slots: of("silent_slots", "Slots without news of the network when that is suspicious, else 0")
                .single(own),
            sent: sent.by(own, "outcome", ["all", "failed", "busy"]),
            served: served.by(own, "outcome", ["answered", "refused", "failed"]),
            reassigned: of("sync_blocks_reassigned", "Blocks asked of another peer because the first was slow")
                .single(own),
        }
    }

    /// Takes over the machine's figures.
    pub(crate) fn report(
        &self,
        progress: &SyncProgress,
        (asked, answered): (SyncCounters, ServeCounters),
        silent_slots: Option<u64>,
    ) {
        self.rate.set(progress.blocks_per_second);
        self.in_flight.set(series::count(progress.requests));
        self.headers_ahead.set(series::count(progress.headers_ahead));
        self.held.set(series::count(progress.held_bytes));
        self.silent_slots.set(i64::try_from(silent_slots.unwrap_or(0)).unwrap_or(i64::MAX));
        for (counter, total) in self.sent.iter().zip([asked.sent, asked.failed, asked.refused]) {
            series::raise(counter, total);
        }
        for (counter, total) in self.served.iter().zip([answered.served, answered.refused, answered.failed]) {
            series::raise(counter, total);
        }
        series::raise(&self.reassigned, asked.reassigned);
    }
}
