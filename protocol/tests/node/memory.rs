//! What the ledger of a node's memory counts.

use crate::bench::Bench;
use crate::support::*;
use starling_protocol::id::{MessageId, PeerHandle};
use starling_protocol::rpc::{IHave, Rpc};
use starling_protocol::time::Duration;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

#[test]
fn broken_promises_are_counted_until_they_are_charged() {
    let mut bench = Bench::new(&genesis(1));
    let topic = bench.genesis.transaction_topic().clone();
    let peers: Vec<PeerHandle> = (1..=20)
        .map(|number| {
            let peer = bench.connect();
            let ihave = vec![IHave { topic: topic.clone(), ids: vec![MessageId([number; 20])] }];
            bench.rpc(peer, &Rpc { ihave, ..Rpc::default() });
            peer
        })
        .collect();
    let counters = |bench: &Bench| *bench.node.mesh().counters();
    while counters(&bench).promises_broken == 0 {
        bench.run(LOOK);
    }
    let (broken, noted) = (counters(&bench), bench.node.memory().peers);
    assert_eq!(broken.promises_broken, peers.len() as u64);
    while counters(&bench).heartbeats == broken.heartbeats {
        bench.run(LOOK);
    }
    // A handle and a count for each of them.
    let freed = noted.saturating_sub(bench.node.memory().peers);
    assert!(freed >= peers.len() * size_of::<(PeerHandle, u32)>(), "{freed} bytes of {noted}");
}
