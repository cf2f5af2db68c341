//! From [`Frame`]s to the bytes of an RPC.
//!
//! The encoding is canonical in the sense that a given list of frames has one: subscriptions, then one `control` with its
//! entries in the order given, then the messages in the order given. Receivers handle subscriptions before control and
//! control needs no message, so nothing depends on an order between the three.

use super::shared::RpcAssembly;
use crate::id::{MESSAGE_ID_BYTES, MessageId, Topic};
use crate::message::{Payload, put_varint, varint_len};
use crate::rpc::{Frame, Prune, Subscription};
use bytes::{BufMut, Bytes, BytesMut};
use std::sync::Arc;

/// Messages of up to this many encoded bytes are copied into the chunk before them; larger ones are chunks of their own
/// that share the payload's allocation.
///
/// *Rationale:* each chunk costs a write and a frame of the stream multiplexer (yamux: 12 bytes and a queue entry), which
/// is more than copying a few kilobytes costs. The number is a guess.
pub const COPY_BYTES_MAX: usize = 4_096;

/// Bytes that one message id takes in IHAVE, IWANT and IDONTWANT.
pub const CONTROL_ID_BYTES: usize = field_len(MESSAGE_ID_BYTES);

// Keys of length-delimited fields: the field number times eight, plus two. Integers: plus zero.
const KEY_RPC_SUBSCRIPTIONS: u8 = 0x0a;
const KEY_RPC_CONTROL: u8 = 0x1a;
const KEY_SUBOPTS_SUBSCRIBE: u8 = 0x08;
const KEY_SUBOPTS_TOPIC: u8 = 0x12;
const KEY_CONTROL_IHAVE: u8 = 0x0a;
const KEY_CONTROL_IWANT: u8 = 0x12;
const KEY_CONTROL_GRAFT: u8 = 0x1a;
const KEY_CONTROL_PRUNE: u8 = 0x22;
const KEY_CONTROL_IDONTWANT: u8 = 0x2a;
/// `topicID` of IHAVE, GRAFT and PRUNE.
const KEY_TOPIC: u8 = 0x0a;
const KEY_IHAVE_IDS: u8 = 0x12;
/// `messageIDs` of IWANT and IDONTWANT.
const KEY_IDS: u8 = 0x0a;
const KEY_PRUNE_PEERS: u8 = 0x12;
const KEY_PRUNE_BACKOFF: u8 = 0x18;
const KEY_PEER_ID: u8 = 0x0a;
const KEY_PEER_RECORD: u8 = 0x12;

/// An RPC as it goes onto the stream, length prefix included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedRpc {
    /// The bytes, in order; none of the chunks is empty. Write them with vectored IO or one after another.
    pub chunks: Vec<Bytes>,
    /// Bytes of all chunks together.
    pub len: usize,
}

impl EncodedRpc {
    /// All bytes in one allocation, for tests and simulations.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.chunks.concat()
    }
}

/// Encodes frames as one RPC, whatever its size: the limits are the send queue's business.
#[must_use]
pub fn encode<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> EncodedRpc {
    let mut rpc = RpcBuilder::default();
    frames.into_iter().for_each(|frame| rpc.frame(frame));
    rpc.finish()
}

/// An RPC being put together as bytes.
#[derive(Debug, Default)]
pub struct RpcBuilder {
    subscriptions: Vec<u8>,
    /// The entries of `control`.
    control: Vec<u8>,
    publish: Vec<Arc<Payload>>,
    publish_bytes: usize,
}

impl RpcBuilder {
    /// The RPC, with its length prefix.
    #[must_use]
    pub fn finish(self) -> EncodedRpc {
        let frame_bytes = self.frame_bytes();
        let copied: usize =
            self.publish.iter().map(|payload| payload.encoded().len()).filter(|len| *len <= COPY_BYTES_MAX).sum();
        let mut chunk = BytesMut::with_capacity(varint_len(frame_bytes) + self.control_bytes() + copied);
        put_varint(&mut chunk, frame_bytes);
        chunk.put_slice(&self.subscriptions);
        if !self.control.is_empty() {
            put_field(&mut chunk, KEY_RPC_CONTROL, &self.control);
        }
        let mut chunks = Vec::new();
        for payload in &self.publish {
            let encoded = payload.encoded();
            if encoded.len() <= COPY_BYTES_MAX {
                chunk.put_slice(encoded);
            } else {
                if !chunk.is_empty() {
                    chunks.push(chunk.split().freeze());
                }
                chunks.push(encoded.clone());
            }
        }
        if !chunk.is_empty() {
            chunks.push(chunk.freeze());
        }
        EncodedRpc { chunks, len: varint_len(frame_bytes) + frame_bytes }
    }

    fn ids(&mut self, key: u8, ids: &[MessageId]) {
        self.control.put_u8(key);
        put_varint(&mut self.control, ids.len() * CONTROL_ID_BYTES);
        for id in ids {
            put_field(&mut self.control, KEY_IDS, id.as_bytes());
        }
    }
}

impl RpcAssembly for RpcBuilder {
    fn subscription_bytes(&self) -> usize {
        self.subscriptions.len()
    }

    fn entry_bytes(&self) -> usize {
        self.control.len()
    }

    fn publish_bytes(&self) -> usize {
        self.publish_bytes
    }

    fn publish_count(&self) -> usize {
        self.publish.len()
    }

    fn subscription(&mut self, subscription: &Subscription) {
        let topic = subscription.topic.as_str().as_bytes();
        self.subscriptions.put_u8(KEY_RPC_SUBSCRIPTIONS);
        put_varint(&mut self.subscriptions, 2 + field_len(topic.len()));
        self.subscriptions.put_slice(&[KEY_SUBOPTS_SUBSCRIBE, u8::from(subscription.subscribe)]);
        put_field(&mut self.subscriptions, KEY_SUBOPTS_TOPIC, topic);
    }

    fn graft(&mut self, topic: &Topic) {
        self.control.put_u8(KEY_CONTROL_GRAFT);
        put_varint(&mut self.control, topic_len(topic));
        put_field(&mut self.control, KEY_TOPIC, topic.as_str().as_bytes());
    }

    fn prune(&mut self, prune: &Prune) {
        let out = &mut self.control;
        out.put_u8(KEY_CONTROL_PRUNE);
        put_varint(out, prune_body_len(prune));
        put_field(out, KEY_TOPIC, prune.topic.as_str().as_bytes());
        for peer in &prune.peers {
            out.put_u8(KEY_PRUNE_PEERS);
            put_varint(out, peer_body_len(peer));
            put_field(out, KEY_PEER_ID, peer.id.as_bytes());
            if let Some(record) = &peer.signed_record {
                put_field(out, KEY_PEER_RECORD, record);
            }
        }
        if let Some(seconds) = prune.backoff_seconds {
            out.put_u8(KEY_PRUNE_BACKOFF);
            put_varint_u64(out, seconds);
        }
    }

    fn ihave(&mut self, topic: &Topic, ids: &[MessageId]) {
        self.control.put_u8(KEY_CONTROL_IHAVE);
        put_varint(&mut self.control, topic_len(topic) + ids.len() * CONTROL_ID_BYTES);
        put_field(&mut self.control, KEY_TOPIC, topic.as_str().as_bytes());
        for id in ids {
            put_field(&mut self.control, KEY_IHAVE_IDS, id.as_bytes());
        }
    }

    fn iwant(&mut self, ids: &[MessageId]) {
        self.ids(KEY_CONTROL_IWANT, ids);
    }

    fn idontwant(&mut self, ids: &[MessageId]) {
        self.ids(KEY_CONTROL_IDONTWANT, ids);
    }

    fn publish(&mut self, payload: Arc<Payload>) {
        self.publish_bytes += payload.encoded().len();
        self.publish.push(payload);
    }
}

/// Bytes that a change of subscription to this topic takes in an RPC.
#[must_use]
pub fn subscription_len(topic: &Topic) -> usize {
    field_len(2 + topic_len(topic))
}

/// Bytes that a GRAFT takes in `control`.
#[must_use]
pub fn graft_len(topic: &Topic) -> usize {
    field_len(topic_len(topic))
}

/// Bytes that a PRUNE takes in `control`.
#[must_use]
pub fn prune_len(prune: &Prune) -> usize {
    field_len(prune_body_len(prune))
}

/// Bytes that an IHAVE entry of `ids` ids takes in `control`.
#[must_use]
pub fn ihave_len(topic: &Topic, ids: usize) -> usize {
    field_len(topic_len(topic) + ids * CONTROL_ID_BYTES)
}

/// Bytes that an IWANT of `ids` ids takes in `control`.
#[must_use]
pub fn iwant_len(ids: usize) -> usize {
    field_len(ids * CONTROL_ID_BYTES)
}

/// Bytes that an IDONTWANT of `ids` ids takes in `control`.
#[must_use]
pub fn idontwant_len(ids: usize) -> usize {
    field_len(ids * CONTROL_ID_BYTES)
}

fn topic_len(topic: &Topic) -> usize {
    field_len(topic.as_str().len())
}

fn prune_body_len(prune: &Prune) -> usize {
    let peers: usize = prune.peers.iter().map(|peer| field_len(peer_body_len(peer))).sum();
    let backoff = prune.backoff_seconds.map_or(0, |seconds| 1 + varint_len_u64(seconds));
    topic_len(&prune.topic) + peers + backoff
}

fn peer_body_len(peer: &crate::rpc::ExchangedPeer) -> usize {
    field_len(peer.id.as_bytes().len()) + peer.signed_record.as_ref().map_or(0, |record| field_len(record.len()))
}

/// Bytes of a length-delimited field with a one-byte key and a value of `len` bytes.
pub(super) const fn field_len(len: usize) -> usize {
    1 + varint_len(len) + len
}

fn put_field(out: &mut impl BufMut, key: u8, value: &[u8]) {
    out.put_u8(key);
    put_varint(out, value.len());
    out.put_slice(value);
}

const fn varint_len_u64(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_varint_u64(out: &mut impl BufMut, mut value: u64) {
    while value > 0x7f {
        out.put_u8(0x80 | (value.to_le_bytes()[0] & 0x7f));
        value >>= 7;
    }
    out.put_u8(value.to_le_bytes()[0]);
}
