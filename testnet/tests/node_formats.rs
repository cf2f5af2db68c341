//! What the node writes is what this crate reads, and the other way round: two definitions of each format exist, because the
//! node must not depend on this crate nor this crate's library half on the node.

use std::net::Ipv4Addr;

use starling_node::api::MessageClass;
use starling_node::trace::{self, Trace, TraceLine};
use starling_protocol::id::{MessageId, PeerId};
use starling_protocol::time::Time;
use starling_testnet::measure::trace::{HEADER, TraceReader};
use starling_testnet::measure::{Class, Counters, Event, How};
use starling_testnet::wan::emulation::{LinkEmulation, Trouble};
use starling_testnet::wan::{Profile, Topology};

#[test]
fn every_line_of_the_nodes_trace_is_read_as_it_was_meant() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("trace.csv");
    let (id, at) = (MessageId([7; 20]), Time::from_micros(123));
    // An identity multihash of two bytes, whose base58 text is known.
    let from = PeerId::from_bytes(&[0, 2, 1, 1]).expect("a peer id");
    let (transaction, block) = (MessageClass::Transaction, MessageClass::Block);
    let trace = Trace::create(&path).expect("a trace");
    for line in [
        TraceLine::Publish { class: transaction, id, at, payload_bytes: 1 },
        TraceLine::Arrive { class: block, id, at, from, pulled: false, frame_bytes: 2 },
        TraceLine::Arrive { class: block, id, at, from, pulled: true, frame_bytes: 2 },
        TraceLine::Copy { class: transaction, id, at, from, frame_bytes: 3 },
        TraceLine::Accept { class: block, id, at },
        TraceLine::InBlock { id, at, from },
        TraceLine::Mesh { at, class: transaction, degree: 4 },
        TraceLine::Lag { at, p50_us: 5, p99_us: 6, max_us: 7 },
        TraceLine::Bytes { at, socket_in: 8, socket_out: 9, frame_in: 10, frame_out: 11 },
    ] {
        trace.write(line);
    }
    trace.close().expect("written");
    let (t_us, from) = (123, "1g3J");
    let mut expected = vec![
        Event::Publish { class: Class::Transaction, id, t_us, payload_bytes: 1 },
        Event::Arrive { class: Class::Block, id, t_us, from, how: How::Pushed, frame_bytes: 2 },
        Event::Arrive { class: Class::Block, id, t_us, from, how: How::Pulled, frame_bytes: 2 },
        Event::Copy { class: Class::Transaction, id, t_us, from, frame_bytes: 3 },
        Event::Accept { class: Class::Block, id, t_us },
        Event::InBlock { id, t_us, from },
        Event::Mesh { t_us, class: Class::Transaction, degree: 4 },
        Event::Lag { t_us, p50_us: 5, p99_us: 6, max_us: 7 },
        Event::Bytes { t_us, counters: Counters { socket_in: 8, socket_out: 9, frame_in: 10, frame_out: 11 } },
    ];
    let mut reader = TraceReader::new(&path);
    reader.poll(|event| assert_eq!(*event, expected.remove(0))).expect("the node's trace is understood");
    assert!(expected.is_empty(), "lines are lacking: {expected:?}");
    assert_eq!(HEADER, trace::HEADER);
}

#[test]
fn the_node_takes_the_links_that_it_is_given() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("links.toml");
    for profile in [Profile::wan(), Profile::loopback()] {
        let topology = Topology::new(profile, 4, 3);
        let ips: Vec<Ipv4Addr> = (1..=4).map(|last| Ipv4Addr::new(127, 4, 0, last)).collect();
        let links = LinkEmulation::of(&topology, 2, &ips, u64::MAX >> 1);
        std::fs::write(&path, links.to_toml()).expect("written");
        let taken = starling_node::net::emulation::LinkEmulation::load(&path).expect("the node takes it");
        assert_eq!(taken.uplink_bits_per_s, topology.site(2).uplink_bits_per_s.unwrap_or(0));
        assert_eq!(u64::from(taken.jitter_us_max), topology.profile().jitter_us_max());
        assert_eq!((taken.seed, taken.peers.len()), (links.seed, 3));
        for (peer, other) in taken.peers.iter().zip([0, 1, 3]) {
            assert_eq!(peer.ip, std::net::IpAddr::from(ips[other]));
            assert_eq!(u64::from(peer.delay_us), topology.one_way_us(2, other));
            assert_eq!((peer.loss_ppm, peer.cut), (0, false));
        }
        let trouble = |peer| Trouble { added_us: 7, loss_ppm: 9, cut: peer == 3 };
        let links = LinkEmulation { dead_after_us: 5, ..LinkEmulation::troubled(&topology, 2, &ips, 1, trouble) };
        std::fs::write(&path, links.to_toml()).expect("written");
        let taken = starling_node::net::emulation::LinkEmulation::load(&path).expect("the node takes it");
        assert_eq!(taken.dead_after_us, 5);
        assert_eq!(u64::from(taken.peers[2].delay_us), topology.one_way_us(2, 3) + 7);
        assert_eq!(
            taken.peers.iter().map(|peer| (peer.loss_ppm, peer.cut)).collect::<Vec<_>>(),
            [(9, false), (9, false), (9, true)]
        );
    }
}
