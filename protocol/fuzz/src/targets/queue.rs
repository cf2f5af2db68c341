//! Sequences of operations on a send queue.

use crate::input::Input;
use starling_protocol::id::{MessageId, PeerId, Topic};
use starling_protocol::message::Payload;
use starling_protocol::rpc::{Class, ExchangedPeer, Frame, Prune, Subscription};
use starling_protocol::send_queue::{PushResult, SendQueue, SendQueueConfig};
use starling_protocol::time::{Duration, Time};
use starling_protocol::wire::{self, TopicInterner, WireLimits};
use std::sync::Arc;

/// After every operation the queue's invariants hold; what it sends is readable and within the limits; it empties.
pub(super) fn send_queue(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let config = SendQueueConfig {
        bytes_max: usize::from(input.short()),
        control_bytes_max: usize::from(input.short()) / 8,
        rpc_bytes_max: usize::from(input.short()) / 16,
        rpc_publish_max: usize::from(input.byte()),
        rpc_control_bytes_max: usize::from(input.short()) / 32,
        rpc_idontwant_ids_max: usize::from(input.below(16)),
        ..SendQueueConfig::default()
    };
    let mut queue = SendQueue::new(config.clone());
    let mut now = Time::ZERO;
    while !input.is_empty() {
        match input.below(4) {
            0 | 1 => {
                let (frame, before) = (frame(&mut input), queue.stats().dropped.total());
                let dropped = match queue.push(now, frame) {
                    PushResult::Ok => 0,
                    PushResult::Dropped { frames } => frames.total(),
                };
                assert_eq!(queue.stats().dropped.total(), before + dropped);
            }
            2 => {
                let id = payload(&mut input).id();
                assert!(queue.cancel(&[id, id]) <= 1);
            }
            _ => {
                now = now + Duration::from_millis(u64::from(input.byte()) * 10);
                pop(&mut queue, now, usize::from(input.short()), &config);
            }
        }
        queue.check();
    }
    while pop(&mut queue, now, 0, &config) {}
    assert!(queue.is_empty());
}

/// Takes an RPC and checks it; false when nothing waits.
fn pop(queue: &mut SendQueue, now: Time, max_bytes: usize, config: &SendQueueConfig) -> bool {
    let Some(encoded) = queue.pop(now, max_bytes) else {
        assert!(queue.is_empty());
        return false;
    };
    let bytes = encoded.to_vec();
    let limits = WireLimits::default();
    let prefix = wire::read_prefix(&bytes, &limits).expect("in the limits").expect("complete");
    let rpc = wire::decode(&bytes[prefix.prefix_bytes..], &limits, &TopicInterner::default()).expect("readable");
    let messages: usize = rpc.publish.iter().map(|payload| payload.encoded().len()).sum();
    let control = prefix.frame_bytes - messages;
    let mut topics: Vec<&Topic> = rpc.subscriptions.iter().map(|subscription| &subscription.topic).collect();
    topics.extend(rpc.graft.iter().chain(rpc.prune.iter().map(|prune| &prune.topic)));
    topics.sort();
    topics.dedup();
    let ids = rpc.iwant.len() + rpc.idontwant.len() + rpc.ihave.iter().map(|ihave| ihave.ids.len()).sum::<usize>();
    let control_pieces = ids + topics.len();
    // One piece goes in any case; with a second one the limits hold.
    assert!(control_pieces <= 1 || control <= config.rpc_control_bytes_max);
    assert!(control_pieces + rpc.publish.len() <= 1 || prefix.frame_bytes <= max_bytes.min(config.rpc_bytes_max));
    assert!(rpc.publish.len() <= config.rpc_publish_max.max(1));
    assert!(rpc.idontwant.len() <= config.rpc_idontwant_ids_max.max(1));
    true
}

fn frame(input: &mut Input<'_>) -> Frame {
    match input.below(9) {
        0 => Frame::Publish { payload: payload(input), class: Class::Priority },
        1 | 2 => Frame::Publish { payload: payload(input), class: Class::Forward },
        3 => Frame::Publish { payload: payload(input), class: Class::Reply },
        4 => Frame::Subscription(Subscription { subscribe: input.below(2) == 1, topic: topic(input) }),
        5 => Frame::Graft(topic(input)),
        6 => {
            let peer =
                |number| ExchangedPeer { id: PeerId::from_number(number), signed_record: Some(vec![0; 100].into()) };
            let topic = topic(input);
            let peers = (0..u64::from(input.below(20))).map(peer).collect();
            Frame::Prune(Prune { topic, backoff_seconds: Some(u64::from(input.byte())), peers })
        }
        7 => Frame::IHave { topic: topic(input), ids: ids(input).into() },
        _ => {
            let ids = ids(input);
            if input.below(2) == 1 { Frame::IWant(ids.into()) } else { Frame::IDontWant(ids.into()) }
        }
    }
}

/// One of a few messages, so that copies meet.
fn payload(input: &mut Input<'_>) -> Arc<Payload> {
    let number = input.below(24);
    Payload::new(&Topic::new("t"), &vec![number; usize::from(number) * 90])
}

fn topic(input: &mut Input<'_>) -> Topic {
    Topic::new(["t", "b", "", "a-longer-topic"][usize::from(input.below(4))])
}

fn ids(input: &mut Input<'_>) -> Vec<MessageId> {
    (0..input.byte()).map(|number| MessageId([number; 20])).collect()
}
