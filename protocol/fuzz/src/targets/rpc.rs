//! Frames of the mesh.

use starling_protocol::id::Topic;
use starling_protocol::rpc::{Class, Frame, Rpc};
use starling_protocol::wire::limits::{EXCHANGED_PEERS_PER_PRUNE_MAX, PRUNE_BACKOFF_SECONDS_MAX};
use starling_protocol::wire::{self, TopicInterner, WireLimits};

/// Scan and decode agree, what is decoded keeps to the limits, and it survives being encoded and decoded again.
pub(super) fn rpc(bytes: &[u8]) {
    let limits = WireLimits::default();
    let tight = WireLimits {
        frame_bytes_max: 1_000,
        topic_bytes_max: 8,
        subscriptions_max: 2,
        publish_max: 2,
        ihave_max: 1,
        ihave_ids_max: 2,
        iwant_ids_max: 2,
        graft_max: 1,
        prune_max: 1,
        exchanged_peers_max: 2,
        idontwant_ids_max: 2,
    };
    if let Ok(Some(prefix)) = wire::read_prefix(bytes, &limits) {
        assert!(prefix.prefix_bytes <= bytes.len() && prefix.frame_bytes <= limits.frame_bytes_max);
    }
    let strict = read(bytes, &tight);
    let read = read(bytes, &limits);
    if let Some(strict) = strict {
        assert_eq!(Some(&strict), read.as_ref(), "limits refuse, they do not change what is read");
    }
    if let Some(rpc) = read {
        survives_encoding(&rpc, &limits);
    }
}

fn read(frame: &[u8], limits: &WireLimits) -> Option<Rpc> {
    let scanned = wire::scan(frame, limits);
    let decoded = wire::decode(frame, limits, &TopicInterner::new([Topic::new("t")]));
    assert_eq!(scanned.as_ref().err(), decoded.as_ref().err(), "scan and decode agree");
    let (stats, rpc) = (scanned.ok()?, decoded.ok()?);
    assert_eq!(stats.publish as usize, rpc.publish.len() + rpc.publish_signed as usize);
    let ids = rpc.iwant.len() + rpc.idontwant.len() + rpc.ihave.iter().map(|ihave| ihave.ids.len()).sum::<usize>();
    let listed = stats.iwant_ids + stats.idontwant_ids + stats.ihave_ids;
    assert_eq!(listed as usize, ids + rpc.foreign_ids as usize);
    for prune in &rpc.prune {
        assert!(prune.backoff_seconds.is_none_or(|seconds| seconds <= PRUNE_BACKOFF_SECONDS_MAX));
        assert!(prune.peers.len() <= EXCHANGED_PEERS_PER_PRUNE_MAX);
    }
    let subscribed = rpc.subscriptions.iter().map(|subscription| &subscription.topic);
    let topics = subscribed.chain(rpc.publish.iter().map(|payload| payload.topic())).chain(&rpc.graft);
    for topic in topics {
        assert!(topic.as_str().len() <= limits.topic_bytes_max);
    }
    Some(rpc)
}

fn survives_encoding(rpc: &Rpc, limits: &WireLimits) {
    let mut frames: Vec<Frame> = Vec::new();
    frames.extend(rpc.subscriptions.iter().cloned().map(Frame::Subscription));
    frames.extend(rpc.publish.iter().cloned().map(|payload| Frame::Publish { payload, class: Class::Forward }));
    frames.extend(rpc.ihave.iter().map(|i| Frame::IHave { topic: i.topic.clone(), ids: i.ids.clone().into() }));
    frames.extend(rpc.graft.iter().cloned().map(Frame::Graft));
    frames.extend(rpc.prune.iter().cloned().map(Frame::Prune));
    frames.push(Frame::IWant(rpc.iwant.clone().into()));
    frames.push(Frame::IDontWant(rpc.idontwant.clone().into()));
    let encoded = wire::encode(&frames).to_vec();
    let prefix = wire::read_prefix(&encoded, limits).expect("no longer than before").expect("complete");
    let again = wire::decode(&encoded[prefix.prefix_bytes..], limits, &TopicInterner::default());
    let kept = Rpc { publish_signed: 0, foreign_ids: 0, ..rpc.clone() };
    assert_eq!(again, Ok(kept), "what is encoded is decoded the same");
}
