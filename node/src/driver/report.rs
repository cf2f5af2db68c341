//! What is told once a second: counters to the trace, gauges and totals to the metrics.

use super::Driver;
use crate::api::StorageState;
use crate::clock;
use crate::trace::TraceLine;
use starling_protocol::time::micros;

impl Driver {
    /// Writes the counters to the trace and brings the metrics up to date.
    pub(super) fn report(&mut self) {
        let at = clock::now();
        crate::telemetry::limit::report(at);
        if let Some(lag) = self.lag.take() {
            self.observer.metrics.event_loop.lag_seconds.observe(lag.max.as_secs_f64());
            let (p50_us, p99_us, max_us) = (micros(lag.p50), micros(lag.p99), micros(lag.max));
            self.observer.trace.write(TraceLine::Lag { at, p50_us, p99_us, max_us });
        }
        let (sockets, frames) = (self.port.network.socket_counters(), self.port.network.mesh_counters());
        let sockets = (sockets.read_bytes(), sockets.written_bytes());
        let frames = (frames.read_bytes(), frames.written_bytes());
        self.observer.trace.write(TraceLine::Bytes {
            at,
            socket_in: sockets.0,
            socket_out: sockets.1,
            frame_in: frames.0,
            frame_out: frames.1,
        });
        self.observer.links.report(at, &self.observer.metrics.messages);
        self.report_network(frames, sockets);
        self.report_chain();
        self.report_storage();
        self.report_readiness();
        self.note_interest();
        self.tell_scores();
    }

    /// Tells the metrics and the service manager what `/ready` would answer.
    fn report_readiness(&mut self) {
        let ready = self.ready();
        let metrics = &self.observer.metrics;
        metrics.event_loop.set_waiting(&ready.reasons);
        let failing = matches!(ready.storage, StorageState::Failing { .. });
        metrics.storage.failing.set(i64::from(failing));
        if !self.stopping {
            self.notifier.beat(|| match ready.waiting_for.first() {
                None => {
                    let plural = if ready.peers == 1 { "" } else { "s" };
                    format!("ready at height {} with {} peer{plural}", ready.height, ready.peers)
                }
                Some(first) => format!("waits for {first}"),
            });
        }
    }

    fn report_network(&mut self, frames: (u64, u64), sockets: (u64, u64)) {
        let stats = self.node.peer_stats();
        let metrics = &self.observer.metrics;
        let mesh = self.node.mesh();
        metrics.mesh.set(mesh.counters());
        metrics.mesh.degree_low.set(count(mesh.degree_low()));

        let (inbound, outbound) = self.port.network.connections();
        metrics.peers.set_connections(inbound, outbound);
        metrics.peers.target.set(count(self.peers_target));
        metrics.peers.known.set(count(stats.known));
        metrics.memory.set(&stats, self.port.network.refused());
        let mut scores: Vec<f64> = mesh.scores().collect();
        metrics.peers.set_scores(&mut scores, mesh.thresholds());

        let queues = self.port.network.queue_totals();
        metrics.queues.waiting_bytes.set(count(queues.bytes));
        metrics.queues.largest_bytes.set(count(queues.largest_bytes));
        metrics.queues.set(&queues.stats);
        metrics.queues.set_bytes(frames, sockets);
    }

    fn report_chain(&self) {
        let chain = &self.observer.metrics.chain;
        let pool = self.node.mempool().stats();
        chain.mempool_transactions.set(count(pool.transactions));
        chain.mempool_bytes.set(count(pool.bytes));
        let head = self.node.chain().head();
        chain.height.set(signed(head.height));
        chain.head_slot.set(signed(head.slot));
        chain.slot.set(signed(self.slot_now()));
        chain
            .slot_seconds
            .set(starling_protocol::time::Duration::from_micros(self.node.genesis().slot_us()).as_secs_f64());
        let sync = self.node.sync_progress(clock::now());
        let syncing = sync.peer.is_some() && sync.height < sync.target;
        let counters = (self.node.chain().sync_counters(), self.node.chain().serve_counters());
        self.observer.metrics.sync.report(&sync, counters, self.node.silent_slots(clock::now()));
        chain.syncing.set(i64::from(syncing));
        chain.sync_target.set(signed(if syncing { sync.target } else { sync.height }));
    }
}

/// A gauge's value for a count.
fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A gauge's value for a height or a slot.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
