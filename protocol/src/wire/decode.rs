//! From a frame to an [`Rpc`].

use super::error::WireError;
use super::intern::TopicInterner;
use super::limits::{EXCHANGED_PEERS_PER_PRUNE_MAX, PRUNE_BACKOFF_SECONDS_MAX, SIGNED_RECORD_BYTES_MAX, WireLimits};
use super::reader::Reader;
use super::scan::{Item, ScanStats, Values, exchanged_peer, scan, walk};
use crate::id::{MessageId, PeerId};
use crate::message::Payload;
use crate::rpc::{ExchangedPeer, IHave, Prune, Rpc, Subscription};
use bytes::Bytes;

/// Decodes a frame, given without its length prefix, after scanning it against the limits.
///
/// # Errors
/// [`WireError`] when the frame is malformed or exceeds a limit, exactly when [`scan`] says so.
pub fn decode(frame: &[u8], limits: &WireLimits, topics: &TopicInterner) -> Result<Rpc, WireError> {
    let mut rpc = with_capacity(&scan(frame, limits)?);
    walk(frame, limits, &mut |item| add(&mut rpc, item, topics))?;
    Ok(rpc)
}

/// An empty RPC with room for what was counted.
fn with_capacity(stats: &ScanStats) -> Rpc {
    Rpc {
        subscriptions: Vec::with_capacity(stats.subscriptions as usize),
        publish: Vec::with_capacity((stats.publish - stats.publish_signed) as usize),
        publish_signed: 0,
        ihave: Vec::with_capacity(stats.ihave as usize),
        iwant: Vec::with_capacity(stats.iwant_ids as usize),
        graft: Vec::with_capacity(stats.graft as usize),
        prune: Vec::with_capacity(stats.prune as usize),
        idontwant: Vec::with_capacity(stats.idontwant_ids as usize),
        foreign_ids: 0,
    }
}

fn add(rpc: &mut Rpc, item: Item<'_>, topics: &TopicInterner) {
    match item {
        Item::Subscription { subscribe, topic } => {
            rpc.subscriptions.push(Subscription { subscribe, topic: topics.intern(topic) });
        }
        Item::Publish { topic, data } => rpc.publish.push(Payload::new(&topics.intern(topic), data)),
        Item::SignedPublish => rpc.publish_signed += 1,
        Item::IHave { topic, ids: values } => {
            let mut ids = Vec::with_capacity(values.count());
            add_ids(&mut ids, &mut rpc.foreign_ids, values);
            rpc.ihave.push(IHave { topic: topics.intern(topic), ids });
        }
        Item::IWant { ids } => add_ids(&mut rpc.iwant, &mut rpc.foreign_ids, ids),
        Item::Graft { topic } => rpc.graft.push(topics.intern(topic)),
        Item::Prune { topic, backoff_seconds, peers } => rpc.prune.push(Prune {
            topic: topics.intern(topic),
            backoff_seconds: backoff_seconds.map(|seconds| seconds.min(PRUNE_BACKOFF_SECONDS_MAX)),
            peers: peers.take(EXCHANGED_PEERS_PER_PRUNE_MAX).filter_map(peer).collect(),
        }),
        Item::IDontWant { ids } => add_ids(&mut rpc.idontwant, &mut rpc.foreign_ids, ids),
    }
}

/// Appends the ids of this network's length and counts the others.
fn add_ids(ids: &mut Vec<MessageId>, foreign: &mut u32, values: Values<'_>) {
    for value in values {
        match MessageId::from_bytes(value) {
            Some(id) => ids.push(id),
            None => *foreign += 1,
        }
    }
}

fn peer(info: &[u8]) -> Option<ExchangedPeer> {
    let (id, signed_record) = exchanged_peer(Reader::new(info)).ok()?;
    Some(ExchangedPeer {
        id: PeerId::from_bytes(id)?,
        signed_record: signed_record
            .filter(|record| record.len() <= SIGNED_RECORD_BYTES_MAX)
            .map(Bytes::copy_from_slice),
    })
}
