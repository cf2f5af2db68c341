//! A node whose peers are of no use has some of them make room.

use crate::bench::Bench;
use crate::support::*;
use starling_protocol::id::{Direction, PeerHandle, PeerId};
use starling_protocol::mesh::{DisconnectReason, Verdict};
use starling_protocol::message::message_id;
use starling_protocol::node::{Input, Output};
use starling_protocol::peers::{Source, Standing};
use starling_protocol::rpc::{IHave, Rpc};
use starling_protocol::time::Duration;

/// Who was asked to make room.
fn made_room(bench: &Bench) -> Vec<PeerHandle> {
    let gone = bench.out.iter().filter_map(|output| match output {
        Output::Disconnect { peer, reason: DisconnectReason::Evicted } => Some(*peer),
        _ => None,
    });
    gone.collect()
}

/// Somebody to dial in the stead of others.
fn know_others(bench: &mut Bench) {
    for number in 1..=8_u8 {
        let address = bytes::Bytes::from(vec![4, 20, number, 1, 1, 6, 1, 2]);
        let (standing, source) = (Standing::Heard, Source::Lookup);
        let id = PeerId::from_number(1_000 + u64::from(number));
        bench.input(Input::Discovered { id, addresses: &[address], standing, source });
    }
}

/// Whoever announces what we know is there for us; who says nothing at all is not, when we suspect that we are cut off.
#[test]
fn the_silent_make_room_when_nothing_is_heard_and_those_who_announce_stay() {
    let mut bench = Bench::new(&genesis(2));
    let peers: Vec<PeerHandle> = (0..30).map(|_| bench.connect_as(Direction::Outbound)).collect();
    let transaction = transaction(&bench.genesis, 1, 0, 30);
    assert_eq!(bench.judge_transaction(&transaction).verdict, Some(Verdict::Accept));
    let topic = bench.genesis.transaction_topic().clone();
    let ids = vec![message_id(topic.as_str(), transaction.bytes())];
    let announced = Rpc { ihave: vec![IHave { topic, ids }], ..Rpc::default() };
    let (speaking, silent) = peers.split_at(15);
    bench.out.clear();
    // Sixteen slots of a second, twice as many, and so on: two suspicions at least.
    for second in 0..80 {
        bench.run(Duration::from_secs(1));
        speaking.iter().for_each(|peer| bench.rpc(*peer, &announced));
        if second == 20 {
            assert_eq!(made_room(&bench), [], "there is nobody else to dial");
            know_others(&mut bench);
        }
    }
    let gone = made_room(&bench);
    assert!(!gone.is_empty());
    assert!(gone.iter().all(|peer| silent.contains(peer)), "{gone:?} of {silent:?}");
}
