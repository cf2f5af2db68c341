//! Whom nodes have in their meshes: asked of each node by RPC, several times a second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use starling_node::api::{MessageClass, PeerReply};
use starling_node::rpc::client::RpcClient;
use tokio::task::JoinSet;

use crate::cluster::host;

/// Between two questions to a node. What is shorter is not seen.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

/// What nodes said of their peers: by the node's number and the peer's id.
pub(super) type Seen = BTreeMap<(usize, String), Track>;

/// What a node said of one peer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Track {
    /// Places in the meshes of transactions and of blocks.
    pub(super) places: [Vec<Span>; 2],
    /// The least score.
    pub(super) score_min: Option<f64>,
}

/// From the first to the last answer in a row that said so, in microseconds of the host's monotonic clock.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Span {
    pub(super) from_us: u64,
    pub(super) to_us: u64,
    /// The number of the last answer.
    pub(super) round: u64,
}

/// Asks until it is ended.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    /// Ends the asking when dropped.
    _asking: JoinSet<()>,
}

impl Watch {
    /// Begins to ask the nodes, which are numbered in this order.
    pub(super) fn begin(nodes: Vec<RpcClient>) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let mut asking = JoinSet::new();
        for (node, client) in nodes.into_iter().enumerate() {
            let seen = Arc::clone(&seen);
            asking.spawn(async move {
                for round in 0.. {
                    if let Ok(peers) = client.net_peers().await {
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        take_in(&mut seen, node, &peers, round, host::now_us());
                    }
                    tokio::time::sleep(INTERVAL).await;
                }
            });
        }
        Self { seen, _asking: asking }
    }

    /// What was seen.
    pub(super) fn end(self) -> Seen {
        core::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn take_in(seen: &mut Seen, node: usize, peers: &[PeerReply], round: u64, now_us: u64) {
    for peer in peers {
        let track = seen.entry((node, peer.peer_id.clone())).or_default();
        track.score_min = Some(track.score_min.unwrap_or(f64::INFINITY).min(peer.score.total));
        for (class, spans) in MessageClass::ALL.into_iter().zip(&mut track.places) {
            if !peer.mesh.contains(&class) {
                continue;
            }
            match spans.last_mut().filter(|span| span.round + 1 == round) {
                Some(span) => (span.to_us, span.round) = (now_us, round),
                None => spans.push(Span { from_us: now_us, to_us: now_us, round }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_node::api::{PeerDirection, ScoreReply};

    #[test]
    fn answers_in_a_row_make_one_span() {
        let peer = |mesh: &[MessageClass], total| PeerReply {
            peer_id: "x".into(),
            address: String::new(),
            direction: PeerDirection::Inbound,
            protocol: String::new(),
            agent: None,
            connected_s: 0,
            rtt_ms: None,
            subscribed: Vec::new(),
            mesh: mesh.to_vec(),
            queue_bytes: 0,
            frame_in_bytes: 0,
            frame_out_bytes: 0,
            score: ScoreReply { total, ..ScoreReply::default() },
        };
        let mut seen = Seen::new();
        let tx = [MessageClass::Transaction];
        for (round, (mesh, score)) in [(&tx[..], 1.0), (&tx, -3.0), (&[], 0.0), (&tx, 0.0)].into_iter().enumerate() {
            take_in(&mut seen, 2, &[peer(mesh, score)], round as u64, 10 * round as u64);
        }
        // Without an answer in between nobody knows.
        take_in(&mut seen, 2, &[peer(&tx, 0.0)], 5, 50);
        let track = &seen[&(2, "x".to_owned())];
        let spans: Vec<_> = track.places[0].iter().map(|span| (span.from_us, span.to_us)).collect();
        assert_eq!(spans, [(0, 10), (30, 30), (50, 50)]);
        assert_eq!((track.score_min, track.places[1].len()), (Some(-3.0), 0));
    }
}
