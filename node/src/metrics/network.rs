//! The mesh, the peers and what waits to be sent to them. Copied once a second from what the machine and the network count.

use super::messages::FractionGauge;
use super::series::{self, ByClass, count, raise};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use starling_protocol::mesh::Counters;
use starling_protocol::mesh::score::Thresholds;
use starling_protocol::rpc::Class;
use starling_protocol::send_queue::SendQueueStats;

/// Kinds of control, in the order of their series.
const CONTROL_KINDS: [&str; 5] = ["ihave", "iwant", "idontwant", "graft", "prune"];

/// Kinds of control of which a peer may send only so much.
const BUDGETED_KINDS: [&str; 3] = ["ihave", "iwant", "idontwant"];

/// Classes of a send queue, in the order of [`Class`].
const QUEUE_CLASSES: [&str; 5] = ["control", "priority", "forward", "reply", "gossip"];

/// Which score is shown: the least, the quartiles, the greatest.
const QUANTILES: [(&str, usize); 5] = [("0", 0), ("0.25", 25), ("0.5", 50), ("0.75", 75), ("1", 100)];

/// Where a score stands between the thresholds of gossipsub v1.1, worst first.
const SCORE_BANDS: [&str; 5] = ["below_graylist", "below_publish", "below_gossip", "negative", "not_negative"];

/// The mesh and its control messages.
#[derive(Debug)]
pub struct MeshMetrics {
    /// Peers in our mesh.
    pub degree: ByClass<Gauge>,
    /// The degree below which a mesh seeks further peers.
    pub degree_low: Gauge,
    sent: [Counter; CONTROL_KINDS.len()],
    received: [Counter; CONTROL_KINDS.len()],
    excess: [Counter; BUDGETED_KINDS.len()],
    copies_pushed: Counter,
    copies_served: Counter,
    copies_refused: Counter,
    grafts_refused: Counter,
    promises_broken: Counter,
    links_replaced: Counter,
    peers_graylisted: Counter,
    heartbeats: Counter,
    heartbeats_late: Counter,
    doubts: Counter,
    validations_late: Counter,
}

impl MeshMetrics {
    pub(super) fn register(own: &mut Registry) -> Self {
        let of = series::of;
        let control = of("mesh_control", "Control: ids of ihave, iwant and idontwant; messages of graft and prune");
        let labels = |direction| CONTROL_KINDS.map(|kind| [("kind", kind), ("direction", direction)]);
        let both = [labels("sent"), labels("received")].concat();
        let both: [_; 2 * CONTROL_KINDS.len()] = both.try_into().expect("two directions");
        let [s0, s1, s2, s3, s4, r0, r1, r2, r3, r4] = control.family(own, both, Counter::default);
        let excess =
            of("mesh_control_excess", "Ids and messages of control beyond what a peer may send, which are ignored");
        let [pushed, served] = of(
            "mesh_copies_sent",
            "Copies of messages sent: pushed along the mesh or served on IWANT",
        )
        .by(own, "how", ["pushed", "served"]);
        Self {
            degree: of("mesh_degree", "Peers in our mesh of the class's topic").by_class(own),
            degree_low: of("mesh_degree_low", "The degree below which a mesh seeks further peers").single(own),
            sent: [s0, s1, s2, s3, s4],
            received: [r0, r1, r2, r3, r4],
            excess: excess.by(own, "kind", BUDGETED_KINDS),
            copies_pushed: pushed,
            copies_served: served,
            copies_refused: of("mesh_copies_refused", "Copies not sent because the peer had said IDONTWANT")
                .single(own),
            grafts_refused: of("mesh_grafts_refused", "GRAFTs of peers that we answered by PRUNE").single(own),
            promises_broken: of("mesh_promises_broken", "IWANTs that nobody answered").single(own),
            links_replaced: of(
                "mesh_links_replaced",
                "Peers that lost their place in our mesh because they brought nothing",
            )
            .single(own),
            peers_graylisted: of("mesh_peers_graylisted", "Peers disconnected for their score").single(own),
            heartbeats: of("mesh_heartbeats", "Heartbeats of the mesh").single(own),
            heartbeats_late: of("mesh_heartbeats_late", "Heartbeats that were late by over half an interval")
                .single(own),
            doubts: of(
                "mesh_doubts",
                "Heartbeats at which so many peers had turned bad at once that none was punished for it",
            )
            .single(own),
            validations_late: of("mesh_validations_late", "Validations that had no verdict in time").single(own),
        }
    }

    /// Brings the counters up to the machine's.
    pub fn set(&self, counters: &Counters) {
        let c = counters;
        let sent = [c.ids_announced, c.ids_pulled, c.idontwant_sent, c.grafts_sent, c.prunes_sent];
        let received = [
            c.ihave_received,
            c.iwant_received,
            c.idontwant_received + c.idontwant_excess,
            c.grafts_received,
            c.prunes_received,
        ];
        let excess = [c.ihave_excess, c.iwant_excess, c.idontwant_excess];
        let singles = [
            (&self.copies_pushed, c.messages_sent),
            (&self.copies_served, c.messages_served),
            (&self.copies_refused, c.sends_refused),
            (&self.grafts_refused, c.grafts_refused),
            (&self.promises_broken, c.promises_broken),
            (&self.links_replaced, c.links_replaced),
            (&self.peers_graylisted, c.graylisted),
            (&self.heartbeats, c.heartbeats),
            (&self.heartbeats_late, c.heartbeats_late),
            (&self.doubts, c.doubts),
            (&self.validations_late, c.validations_late),
        ];
        let by_kind = self.sent.iter().zip(sent).chain(self.received.iter().zip(received));
        for (counter, total) in by_kind.chain(self.excess.iter().zip(excess)).chain(singles) {
            raise(counter, total);
        }
    }
}

/// What waits to be sent, and what was given up.
#[derive(Debug)]
pub struct QueueMetrics {
    /// Bytes in all peers' queues.
    pub waiting_bytes: Gauge,
    /// Bytes in the fullest one.
    pub largest_bytes: Gauge,
    full: [Counter; QUEUE_CLASSES.len()],
    expired: [Counter; QUEUE_CLASSES.len()],
    cancelled: Counter,
    frames_in: Counter,
    frames_out: Counter,
    sockets_in: Counter,
    sockets_out: Counter,
}

impl QueueMetrics {
    pub(super) fn register(own: &mut Registry) -> Self {
        let (of, bytes) = (series::of, series::bytes);
        let dropped =
            of("send_queue_dropped_frames", "Frames given up: the queue was full, or they had waited too long");
        let labels = |cause| QUEUE_CLASSES.map(|class| [("queue_class", class), ("cause", cause)]);
        let both = [labels("full"), labels("expired")].concat();
        let both: [_; 2 * QUEUE_CLASSES.len()] = both.try_into().expect("two causes");
        let [f0, f1, f2, f3, f4, e0, e1, e2, e3, e4] = dropped.family(own, both, Counter::default);
        let cancelled = "Waiting messages that were not sent because the peer said IDONTWANT";
        let directions = ["received", "sent"];
        let [frames_in, frames_out] = bytes("frames", "Mesh frames").by(own, "direction", directions);
        let [sockets_in, sockets_out] = bytes("sockets", "TCP, under the encryption").by(own, "direction", directions);
        Self {
            waiting_bytes: bytes("send_queues", "Bytes that wait to be sent to peers").single(own),
            largest_bytes: bytes("send_queue_largest", "Bytes that wait in the fullest send queue").single(own),
            full: [f0, f1, f2, f3, f4],
            expired: [e0, e1, e2, e3, e4],
            cancelled: of("send_queue_cancelled_messages", cancelled).single(own),
            frames_in,
            frames_out,
            sockets_in,
            sockets_out,
        }
    }

    /// Brings the counters up to what all queues have done, those of departed peers included.
    pub fn set(&self, totals: &SendQueueStats) {
        let classes = [Class::Control, Class::Priority, Class::Forward, Class::Reply, Class::Gossip];
        for class in classes {
            raise(&self.full[class as usize], totals.dropped[class]);
            raise(&self.expired[class as usize], totals.expired[class]);
        }
        raise(&self.cancelled, totals.cancelled);
    }

    /// Brings the counters of bytes up to these totals: received, sent.
    pub fn set_bytes(&self, frames: (u64, u64), sockets: (u64, u64)) {
        raise(&self.frames_in, frames.0);
        raise(&self.frames_out, frames.1);
        raise(&self.sockets_in, sockets.0);
        raise(&self.sockets_out, sockets.1);
    }
}

/// Connected and known peers, and what they are worth.
#[derive(Debug)]
pub struct PeerMetrics {
    inbound: Gauge,
    outbound: Gauge,
    /// Peers that the node aims at.
    pub target: Gauge,
    /// Peers that the book knows.
    pub known: Gauge,
    scores: [FractionGauge; QUANTILES.len()],
    bands: [Gauge; SCORE_BANDS.len()],
}

impl PeerMetrics {
    pub(super) fn register(own: &mut Registry) -> Self {
        let of = series::of;
        let [inbound, outbound] =
            of("peers", "Connected peers by who dialled").by(own, "direction", ["inbound", "outbound"]);
        Self {
            inbound,
            outbound,
            target: of("peers_target", "Peers that the node aims at").single(own),
            known: of("peers_known", "Peers that the node could dial").single(own),
            scores: of("peer_score", "Scores of the connected peers: least, quartiles, greatest").by(
                own,
                "quantile",
                QUANTILES.map(|(name, _)| name),
            ),
            bands: of("peers_by_score", "Connected peers by where their score stands").by(own, "band", SCORE_BANDS),
        }
    }

    /// Sets the numbers of connections.
    pub fn set_connections(&self, inbound: usize, outbound: usize) {
        self.inbound.set(count(inbound));
        self.outbound.set(count(outbound));
    }

    /// Sets the distribution of the scores; `scores` is sorted in place. Without peers all are zero.
    pub fn set_scores(&self, scores: &mut [f64], thresholds: &Thresholds) {
        scores.sort_unstable_by(f64::total_cmp);
        for (gauge, (_, hundredths)) in self.scores.iter().zip(QUANTILES) {
            let place = scores.len().saturating_sub(1) * hundredths / 100;
            gauge.set(scores.get(place).copied().unwrap_or(0.0));
        }
        let mut bands = [0_usize; SCORE_BANDS.len()];
        for score in scores {
            let limits = [thresholds.graylist, thresholds.publish, thresholds.gossip, 0.0];
            bands[limits.iter().position(|limit| *score < *limit).unwrap_or(limits.len())] += 1;
        }
        for (gauge, peers) in self.bands.iter().zip(bands) {
            gauge.set(count(peers));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;
    use prometheus_client::registry::Registry;
    use starling_protocol::mesh::Counters;
    use starling_protocol::mesh::score::Thresholds;

    fn lines(metrics: &Metrics, expected: &[&str]) {
        let text = metrics.encode();
        for line in expected {
            assert!(text.lines().any(|found| found == *line), "{line} is missing from\n{text}");
        }
    }

    #[test]
    fn scores_are_told_by_quartiles_and_thresholds() {
        let metrics = Metrics::new(Registry::default(), std::path::Path::new("/"));
        let thresholds = Thresholds {
            gossip: -10.0,
            publish: -50.0,
            graylist: -80.0,
            accept_peer_exchange: 10.0,
            opportunistic_graft: 5.0,
        };
        let mut scores = [3.0, -100.0, -60.0, -10.0, 0.0];
        metrics.peers.set_scores(&mut scores, &thresholds);
        lines(
            &metrics,
            &[
                "starling_peer_score{quantile=\"0\"} -100.0",
                "starling_peer_score{quantile=\"0.25\"} -60.0",
                "starling_peer_score{quantile=\"0.5\"} -10.0",
                "starling_peer_score{quantile=\"1\"} 3.0",
                "starling_peers_by_score{band=\"below_graylist\"} 1",
                "starling_peers_by_score{band=\"below_publish\"} 1",
                "starling_peers_by_score{band=\"below_gossip\"} 0",
                "starling_peers_by_score{band=\"negative\"} 1",
                "starling_peers_by_score{band=\"not_negative\"} 2",
            ],
        );
        metrics.peers.set_scores(&mut [], &thresholds);
        lines(&metrics, &["starling_peer_score{quantile=\"0\"} 0.0", "starling_peers_by_score{band=\"negative\"} 0"]);
    }

    #[test]
    fn control_is_counted_both_ways_and_by_kind() {
        let metrics = Metrics::new(Registry::default(), std::path::Path::new("/"));
        metrics.mesh.set(&Counters {
            ids_announced: 1,
            ids_pulled: 2,
            idontwant_sent: 3,
            grafts_sent: 4,
            prunes_sent: 5,
            ihave_received: 6,
            iwant_received: 7,
            idontwant_received: 8,
            idontwant_excess: 100,
            grafts_received: 9,
            prunes_received: 10,
            ..Counters::default()
        });
        let sent = CONTROL
            .map(|(kind, sent, _)| format!("starling_mesh_control_total{{kind=\"{kind}\",direction=\"sent\"}} {sent}"));
        let received = CONTROL.map(|(kind, _, received)| {
            format!("starling_mesh_control_total{{kind=\"{kind}\",direction=\"received\"}} {received}")
        });
        let all: Vec<&str> = sent.iter().chain(&received).map(String::as_str).collect();
        lines(&metrics, &all);
        lines(&metrics, &["starling_mesh_control_excess_total{kind=\"idontwant\"} 100"]);
    }

    const CONTROL: [(&str, u64, u64); 5] =
        [("ihave", 1, 6), ("iwant", 2, 7), ("idontwant", 3, 108), ("graft", 4, 9), ("prune", 5, 10)];
}
