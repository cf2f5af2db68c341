//! What the wire format and the send queue cost: `cargo bench -p starling-protocol --bench wire`.
//!
//! Each figure is the median of several batches, with the fastest and slowest beside it. It is a plain program, because a
//! benchmark harness would be compiled with every run of the tests.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a benchmark reads the clock")]

use starling_protocol::id::{MessageId, Topic};
use starling_protocol::message::Payload;
use starling_protocol::rpc::{Class, Frame};
use starling_protocol::send_queue::{SendQueue, SendQueueConfig};
use starling_protocol::time::Time;
use starling_protocol::wire::{self, TopicInterner, WireLimits};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BATCHES: usize = 31;
const BATCH: Duration = Duration::from_millis(20);

/// Peers that a message is forwarded to.
const PEERS: usize = 12;

fn main() {
    let topic = Topic::new("0123abcd/t");
    let interner = TopicInterner::new([topic.clone()]);
    let limits = WireLimits::default();
    println!("{:<58}{:>12}{:>12}{:>12}", "ns each", "median", "fastest", "slowest");

    for len in [300, 128 * 1024] {
        let frame = frame_of(&[publish(&topic, len, 0)]);
        measure(&format!("scan an RPC of one {len} B message"), || wire::scan(&frame, &limits));
        measure(&format!("decode an RPC of one {len} B message, hash included"), || {
            wire::decode(&frame, &limits, &interner)
        });
        let data = vec![7; len];
        measure(&format!("hash {len} B, the part of decoding that is not ours"), || {
            starling_protocol::message::message_id(topic.as_str(), &data)
        });
        let payload = Payload::new(&topic, &data);
        measure(&format!("queue and encode one {len} B message for {PEERS} peers"), || forward(&payload));
    }

    let ids: Arc<[MessageId]> = (0..500u16).map(id).collect();
    let control = frame_of(&[Frame::IHave { topic: topic.clone(), ids: Arc::clone(&ids) }]);
    measure("decode an RPC of 500 announced ids", || wire::decode(&control, &limits, &interner));

    let frames: Vec<Frame> = (0..1_000u32).map(|number| publish(&topic, 300, number)).collect();
    let cancelled: Vec<MessageId> = frames.iter().filter_map(message_id_of).collect();
    measure("queue 1000 messages of 300 B and cancel them", || {
        let mut queue = SendQueue::new(SendQueueConfig::default());
        for frame in &frames {
            let _all_fit = queue.push(Time::ZERO, frame.clone());
        }
        queue.cancel(&cancelled)
    });
    measure("queue 1000 messages of 300 B and send them in 16 KiB RPCs", || {
        let mut queue = SendQueue::new(SendQueueConfig::default());
        for frame in &frames {
            let _all_fit = queue.push(Time::ZERO, frame.clone());
        }
        std::iter::from_fn(|| queue.pop(Time::ZERO, 16 * 1024)).map(|rpc| rpc.len).sum::<usize>()
    });
}

/// Queues the message for every peer and takes the RPC of each.
fn forward(payload: &Arc<Payload>) -> usize {
    (0..PEERS)
        .map(|_peer| {
            let mut queue = SendQueue::new(SendQueueConfig::default());
            let _fits = queue.push(Time::ZERO, Frame::Publish { payload: Arc::clone(payload), class: Class::Forward });
            queue.pop(Time::ZERO, 64 * 1024).map_or(0, |rpc| rpc.len)
        })
        .sum()
}

fn publish(topic: &Topic, len: usize, number: u32) -> Frame {
    let mut data = vec![7; len];
    data[..4].copy_from_slice(&number.to_le_bytes());
    Frame::Publish { payload: Payload::new(topic, &data), class: Class::Forward }
}

fn message_id_of(frame: &Frame) -> Option<MessageId> {
    if let Frame::Publish { payload, .. } = frame { Some(payload.id()) } else { None }
}

fn id(number: u16) -> MessageId {
    let mut id = [0; 20];
    id[..2].copy_from_slice(&number.to_le_bytes());
    MessageId(id)
}

fn frame_of(frames: &[Frame]) -> Vec<u8> {
    let bytes = wire::encode(frames).to_vec();
    let prefix = wire::read_prefix(&bytes, &WireLimits::default()).expect("in the limits").expect("complete");
    bytes[prefix.prefix_bytes..].to_vec()
}

fn measure<T>(what: &str, mut work: impl FnMut() -> T) {
    let once = Instant::now();
    black_box(work());
    let rounds = (BATCH.as_nanos() / once.elapsed().as_nanos().max(1)).clamp(1, 1_000_000);
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|_batch| {
            let start = Instant::now();
            for _round in 0..rounds {
                black_box(work());
            }
            start.elapsed().as_secs_f64() * 1e9 / rounds as f64
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    println!("{what:<58}{:>12.0}{:>12.0}{:>12.0}", batches[BATCHES / 2], batches[0], batches[BATCHES - 1]);
}
