//! Every limit: at it a frame is read, one beyond it the frame is refused with what was too many.

use super::mirror::{ControlGraft, ControlIHave, ControlMessage, ControlPrune, Ids, Message, PeerInfo, Rpc, SubOpts};
use prost::Message as _;
use starling_protocol::wire::{Counted, TopicInterner, WireError, WireLimits, decode, scan};

/// Small limits, all different.
fn limits() -> WireLimits {
    WireLimits {
        frame_bytes_max: 10_000,
        topic_bytes_max: 5,
        subscriptions_max: 2,
        publish_max: 3,
        ihave_max: 4,
        ihave_ids_max: 5,
        iwant_ids_max: 6,
        graft_max: 7,
        prune_max: 8,
        exchanged_peers_max: 9,
        idontwant_ids_max: 10,
    }
}

fn control(control: ControlMessage) -> Rpc {
    Rpc { control: Some(control), ..Rpc::default() }
}

fn ids(n: u32) -> Vec<Vec<u8>> {
    (0..n).map(|i| vec![i.to_le_bytes()[0]; 20]).collect()
}

/// An RPC with so many of that.
fn with(what: Counted, n: u32) -> Rpc {
    let many = n as usize;
    match what {
        Counted::Subscriptions => Rpc { subscriptions: vec![SubOpts::default(); many], ..Rpc::default() },
        Counted::Publish => {
            // Signed messages count like others.
            let mut publish = vec![Message::default(); many];
            publish[0].seqno = Some(vec![1]);
            Rpc { publish, ..Rpc::default() }
        }
        Counted::IHave => control(ControlMessage { ihave: vec![ControlIHave::default(); many], ..Default::default() }),
        Counted::IHaveIds => {
            let ihave = [(n / 2), n - n / 2].map(|n| ControlIHave { topic: None, ids: ids(n) }).to_vec();
            control(ControlMessage { ihave, ..Default::default() })
        }
        Counted::IWantIds => {
            let iwant = [(n / 2), n - n / 2].map(|n| Ids { ids: ids(n) }).to_vec();
            control(ControlMessage { iwant, ..Default::default() })
        }
        Counted::Graft => control(ControlMessage { graft: vec![ControlGraft::default(); many], ..Default::default() }),
        Counted::Prune => control(ControlMessage { prune: vec![ControlPrune::default(); many], ..Default::default() }),
        Counted::ExchangedPeers => {
            let prune = [many / 2, many - many / 2]
                .map(|n| ControlPrune { peers: vec![PeerInfo::default(); n], ..Default::default() })
                .to_vec();
            control(ControlMessage { prune, ..Default::default() })
        }
        Counted::IDontWantIds => control(ControlMessage { idontwant: vec![Ids { ids: ids(n) }], ..Default::default() }),
    }
}

#[test]
fn each_count_is_accepted_at_its_limit_and_refused_beyond_it() {
    let l = limits();
    for (what, max) in [
        (Counted::Subscriptions, l.subscriptions_max),
        (Counted::Publish, l.publish_max),
        (Counted::IHave, l.ihave_max),
        (Counted::IHaveIds, l.ihave_ids_max),
        (Counted::IWantIds, l.iwant_ids_max),
        (Counted::Graft, l.graft_max),
        (Counted::Prune, l.prune_max),
        (Counted::ExchangedPeers, l.exchanged_peers_max),
        (Counted::IDontWantIds, l.idontwant_ids_max),
    ] {
        let at = with(what, max).encode_to_vec();
        assert!(decode(&at, &l, &TopicInterner::default()).is_ok(), "{max} {what}");
        let beyond = with(what, max + 1).encode_to_vec();
        assert_eq!(scan(&beyond, &l), Err(WireError::TooMany { what, max }));
        assert_eq!(scan(&beyond, &l).map_err(|e| e.to_string()), Err(format!("the RPC holds more than {max} {what}")));
    }
}

#[test]
fn a_count_cannot_be_split_over_several_controls() {
    let half = with(Counted::Graft, 4).encode_to_vec();
    let twice = [half.clone(), half].concat();
    assert_eq!(scan(&twice, &limits()), Err(WireError::TooMany { what: Counted::Graft, max: 7 }));
}

#[test]
fn topics_are_bounded_everywhere_and_must_be_text() {
    let topic = |n: usize| Some("x".repeat(n));
    let rpcs = |n| {
        [
            Rpc { subscriptions: vec![SubOpts { topic: topic(n), ..Default::default() }], ..Default::default() },
            Rpc { publish: vec![Message { topic: topic(n), ..Default::default() }], ..Default::default() },
            control(ControlMessage {
                ihave: vec![ControlIHave { topic: topic(n), ids: vec![] }],
                ..Default::default()
            }),
            control(ControlMessage { graft: vec![ControlGraft { topic: topic(n) }], ..Default::default() }),
            control(ControlMessage {
                prune: vec![ControlPrune { topic: topic(n), ..Default::default() }],
                ..Default::default()
            }),
        ]
    };
    for rpc in rpcs(5) {
        assert!(scan(&rpc.encode_to_vec(), &limits()).is_ok());
        let mut bytes = rpc.encode_to_vec();
        let last = bytes.len() - 1;
        bytes[last] = 0xff;
        assert_eq!(scan(&bytes, &limits()), Err(WireError::TopicNotUtf8 { at: bytes.len() - 5 }));
    }
    for rpc in rpcs(6) {
        let bytes = rpc.encode_to_vec();
        assert_eq!(scan(&bytes, &limits()), Err(WireError::TopicTooLong { at: bytes.len() - 6, len: 6, max: 5 }));
    }
}

#[test]
fn a_frame_beyond_the_limit_is_refused_unread() {
    let frame = vec![0xff; 10_001];
    assert_eq!(scan(&frame, &limits()), Err(WireError::FrameTooLong { len: 10_001, max: 10_000 }));
    assert!(matches!(scan(&frame[..10_000], &limits()), Err(WireError::VarintTooLong { at: 0 })));
}
