//! The wire format against structures derived by `prost`, in both directions, and against arbitrary bytes.

mod limits;
mod mirror;
mod reading;

use mirror::{ControlMessage, arbitrary_rpc};
use proptest::prelude::*;
use prost::Message as _;
use starling_protocol::id::{MessageId, PeerId, Topic};
use starling_protocol::message::Payload;
use starling_protocol::rpc::{Class, ExchangedPeer, Frame, IHave, Prune, Rpc, Subscription};
use starling_protocol::wire::{self, RpcAssembly as _, SharedRpc, TopicInterner, WireLimits};
use std::sync::Arc;

fn interner() -> TopicInterner {
    TopicInterner::new([Topic::new("a"), Topic::new("tx")])
}

fn decode(frame: &[u8]) -> Result<Rpc, wire::WireError> {
    wire::decode(frame, &WireLimits::default(), &interner())
}

/// The frame of an encoded RPC: its bytes without the length prefix, which must be right.
fn frame_of(encoded: &wire::EncodedRpc) -> Vec<u8> {
    let bytes = encoded.to_vec();
    assert_eq!(bytes.len(), encoded.len);
    assert!(encoded.chunks.iter().all(|chunk| !chunk.is_empty()));
    let prefix = wire::read_prefix(&bytes, &WireLimits::default()).expect("in the limits").expect("complete");
    assert_eq!(prefix.prefix_bytes + prefix.frame_bytes, bytes.len());
    bytes[prefix.prefix_bytes..].to_vec()
}

fn topic() -> impl Strategy<Value = Topic> {
    prop_oneof![
        Just(Topic::new("a")),
        Just(Topic::new("tx")),
        Just(Topic::new("")),
        "[a-zäöü/]{1,20}".prop_map(|s| Topic::new(&s))
    ]
}

fn message_id() -> impl Strategy<Value = MessageId> {
    any::<[u8; 20]>().prop_map(MessageId)
}

fn prune() -> impl Strategy<Value = Prune> {
    let peer =
        (prop::collection::vec(any::<u8>(), 1..=48), prop::option::of(prop::collection::vec(any::<u8>(), 0..300)));
    let peer = peer.prop_map(|(id, record)| ExchangedPeer {
        id: PeerId::from_bytes(&id).expect("a possible length"),
        signed_record: record.map(Into::into),
    });
    (topic(), prop::option::of(prop_oneof![Just(0), 1..=3_600u64]), prop::collection::vec(peer, 0..5))
        .prop_map(|(topic, backoff_seconds, peers)| Prune { topic, backoff_seconds, peers })
}

fn frame() -> impl Strategy<Value = Frame> {
    let ids = || prop::collection::vec(message_id(), 0..20);
    prop_oneof![
        3 => (topic(), prop::collection::vec(any::<u8>(), 0..6_000))
            .prop_map(|(topic, data)| Frame::Publish { payload: Payload::new(&topic, &data), class: Class::Forward }),
        1 => (topic(), any::<bool>()).prop_map(|(topic, subscribe)| Frame::Subscription(Subscription { subscribe, topic })),
        1 => topic().prop_map(Frame::Graft),
        1 => prune().prop_map(Frame::Prune),
        1 => (topic(), ids()).prop_map(|(topic, ids)| Frame::IHave { topic, ids: ids.into() }),
        1 => ids().prop_map(|ids| Frame::IWant(ids.into())),
        1 => ids().prop_map(|ids| Frame::IDontWant(ids.into())),
    ]
}

/// What the receiver of these frames in one RPC must see.
fn expected(frames: &[Frame]) -> Rpc {
    let mut rpc = Rpc::default();
    for frame in frames.iter().cloned() {
        match frame {
            Frame::Publish { payload, .. } => rpc.publish.push(payload),
            Frame::Subscription(subscription) => rpc.subscriptions.push(subscription),
            Frame::Graft(topic) => rpc.graft.push(topic),
            Frame::Prune(prune) => rpc.prune.push(prune),
            Frame::IHave { topic, ids } => rpc.ihave.push(IHave { topic, ids: ids.to_vec() }),
            Frame::IWant(ids) => rpc.iwant.extend_from_slice(&ids),
            Frame::IDontWant(ids) => rpc.idontwant.extend_from_slice(&ids),
        }
    }
    rpc
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_encoded_is_decoded_the_same_by_us_and_by_prost(frames in prop::collection::vec(frame(), 0..12)) {
        let bytes = frame_of(&wire::encode(&frames));
        let expected = expected(&frames);
        prop_assert_eq!(decode(&bytes), Ok(expected.clone()));
        let by_prost = mirror::Rpc::decode(&bytes[..]).expect("prost reads our frames");
        prop_assert_eq!(by_prost.understood(), Ok(expected));
        // Ours is also the encoding that prost would write, but for the order of fields within one RPC.
        prop_assert_eq!(by_prost.encoded_len(), bytes.len());
    }

    #[test]
    fn what_is_shared_is_as_long_and_says_the_same_as_what_is_encoded(frames in prop::collection::vec(frame(), 0..12)) {
        let mut shared = SharedRpc::default();
        frames.iter().for_each(|frame| shared.frame(frame));
        let encoded = wire::encode(&frames);
        prop_assert_eq!(shared.is_empty(), frames.is_empty());
        prop_assert_eq!(shared.wire_len(), encoded.len);
        prop_assert_eq!(Ok(shared.into_rpc()), decode(&frame_of(&encoded)));
    }

    #[test]
    fn what_prost_encodes_is_decoded_the_same(rpc in arbitrary_rpc()) {
        let bytes = rpc.encode_to_vec();
        prop_assert_eq!(decode(&bytes), rpc.understood());
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_scan_accepts_exactly_what_decode_accepts(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        agree(&bytes)?;
    }

    #[test]
    fn damaged_frames_never_panic_and_scan_accepts_exactly_what_decode_accepts(
        rpc in arbitrary_rpc(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = rpc.encode_to_vec();
        if !bytes.is_empty() {
            for (index, byte) in damage {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
        }
        agree(&bytes)?;
    }

    #[test]
    fn a_repeated_control_is_merged(parts in prop::collection::vec(arbitrary_rpc(), 0..4)) {
        // Concatenating encodings merges messages (protobuf, "Encoding", last one wins and merging).
        let bytes: Vec<u8> = parts.iter().flat_map(prost::Message::encode_to_vec).collect();
        let mut merged = mirror::Rpc::default();
        for part in &parts {
            merged.merge(&part.encode_to_vec()[..]).expect("prost merges");
        }
        prop_assert_eq!(decode(&bytes), merged.understood());
    }
}

/// Scan and decode agree on the bytes, and prost reads the same from what they accept.
fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    let limits = WireLimits::default();
    let scanned = wire::scan(bytes, &limits);
    let decoded = decode(bytes);
    prop_assert_eq!(scanned.as_ref().err(), decoded.as_ref().err());
    if let Ok(rpc) = decoded {
        let stats = scanned.expect("it was decoded");
        prop_assert_eq!(stats.publish as usize, rpc.publish.len() + rpc.publish_signed as usize);
        prop_assert_eq!(stats.subscriptions as usize, rpc.subscriptions.len());
        // Prost also knows the extensions, which we skip whatever they hold; they may be what it refuses.
        if let Ok(by_prost) = mirror::Rpc::decode(bytes) {
            prop_assert_eq!(by_prost.understood(), Ok(rpc));
        }
    }
    Ok(())
}

/// What the reader leaves out or clamps, the sharer does too.
#[test]
fn a_shared_prune_is_within_the_readers_limits() {
    let peer = |number, record_bytes| ExchangedPeer {
        id: PeerId::from_number(number),
        signed_record: Some(vec![1; record_bytes].into()),
    };
    let peers = (0..20).map(|number| peer(number, if number == 3 { 5_000 } else { 10 })).collect();
    let frame = Frame::Prune(Prune { topic: Topic::new("tx"), backoff_seconds: Some(u64::MAX), peers });
    let mut shared = SharedRpc::default();
    shared.frame(&frame);
    let encoded = wire::encode([&frame]);
    assert_eq!(shared.wire_len(), encoded.len);
    let rpc = shared.into_rpc();
    assert_eq!((rpc.prune[0].backoff_seconds, rpc.prune[0].peers.len()), (Some(3_600), 16));
    assert_eq!(Ok(rpc), decode(&frame_of(&encoded)));
}

#[test]
fn chunks_share_large_payloads_and_gather_small_ones() {
    let publish =
        |len| Frame::Publish { payload: Payload::new(&Topic::new("tx"), &vec![7; len]), class: Class::Forward };
    let frames = [publish(10), publish(20), publish(100_000), publish(30), Frame::Graft(Topic::new("tx"))];
    let encoded = wire::encode(&frames);
    assert_eq!(encoded.chunks.len(), 3, "small ones, the large one, small ones");
    let Frame::Publish { payload, .. } = &frames[2] else { unreachable!("it was made a message") };
    assert!(std::ptr::eq(encoded.chunks[1].as_ptr(), payload.encoded().as_ptr()), "the large one is not copied");
    assert_eq!(decode(&frame_of(&encoded)), Ok(expected(&frames)));
}

#[test]
fn an_empty_rpc_is_one_zero_byte() {
    assert_eq!(wire::encode(&[]).to_vec(), [0]);
    assert_eq!(decode(&[]), Ok(Rpc::default()));
    assert_eq!(
        decode(&mirror::Rpc { control: Some(ControlMessage::default()), ..Default::default() }.encode_to_vec()),
        Ok(Rpc::default())
    );
}

#[test]
fn known_topics_are_shared() {
    let topic = Topic::new("tx");
    let interner = TopicInterner::new([topic.clone()]);
    let frame = frame_of(&wire::encode(&[
        Frame::Graft(Topic::new("tx")),
        Frame::Publish { payload: Payload::new(&Topic::new("tx"), b"x"), class: Class::Reply },
    ]));
    let rpc = wire::decode(&frame, &WireLimits::default(), &interner).expect("decodes");
    assert!(std::ptr::eq(rpc.graft[0].as_str(), topic.as_str()));
    assert!(std::ptr::eq(rpc.publish[0].topic().as_str(), topic.as_str()));
    assert_eq!(Arc::strong_count(&rpc.publish[0]), 1);
}
