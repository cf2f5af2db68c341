//! A message of the mesh: its bytes are allocated once, hashed once and encoded once.
//!
//! A [`Payload`] is shared (`Arc`) by the message cache and by every send queue it waits in, so forwarding to twelve peers
//! copies nothing. It holds what the message *is*, never what this node thinks of it (verified or not): its bytes, its id, and, once
//! somebody has asked, the transaction that these bytes are the encoding of.
//!
//! The message id is content-addressed, without author or sequence number (gossipsub's StrictNoSign policy):
//! the first 20 bytes of the digest, in the domain [`Domain::MessageId`], of `u32le(topic length) || topic || data`. The
//! topic's length keeps the encoding injective; the domain keeps ids apart from every other hash in the system.

use crate::id::{MESSAGE_ID_BYTES, MessageId, Topic};
use crate::rpc::Frame;
use crate::transaction::Transaction;
use bytes::{BufMut, Bytes, BytesMut};
use core::ops::Range;
use starling_crypto::Domain;
use std::sync::{Arc, OnceLock};

/// Protobuf key of `RPC.publish` (field 2, length-delimited).
const KEY_RPC_PUBLISH: u8 = 0x12;
/// Protobuf key of `Message.data` (field 2, length-delimited).
const KEY_MESSAGE_DATA: u8 = 0x12;
/// Protobuf key of `Message.topic` (field 4, length-delimited).
const KEY_MESSAGE_TOPIC: u8 = 0x22;

/// Computes the id of a message with this topic and data.
#[must_use]
pub fn message_id(topic: &str, data: &[u8]) -> MessageId {
    let topic_len = u32::try_from(topic.len()).unwrap_or(u32::MAX).to_le_bytes();
    let digest = Domain::MessageId.digest_parts(&[&topic_len, topic.as_bytes(), data]);
    let mut id = [0; MESSAGE_ID_BYTES];
    id.copy_from_slice(&digest.as_bytes()[..MESSAGE_ID_BYTES]);
    MessageId(id)
}

/// One message, immutable, with its encoding.
#[derive(Debug)]
pub struct Payload {
    id: MessageId,
    topic: Topic,
    /// The whole `publish` field of an RPC: key, length and the protobuf `Message`.
    encoded: Bytes,
    data: Range<usize>,
    /// What [`Payload::transaction`] has found; it follows from the bytes, so whoever asks first asks for all.
    transaction: OnceLock<Option<Transaction>>,
    /// What [`Payload::idontwant`] gives.
    idontwant: OnceLock<Arc<[MessageId]>>,
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.topic == other.topic && self.encoded == other.encoded
    }
}

impl Eq for Payload {}

impl Payload {
    /// Makes a message: allocates once, encodes and hashes.
    #[must_use]
    pub fn new(topic: &Topic, data: &[u8]) -> Arc<Self> {
        let name = topic.as_str().as_bytes();
        let body = 1 + varint_len(data.len()) + data.len() + 1 + varint_len(name.len()) + name.len();
        let mut encoded = BytesMut::with_capacity(1 + varint_len(body) + body);
        encoded.put_u8(KEY_RPC_PUBLISH);
        put_varint(&mut encoded, body);
        encoded.put_u8(KEY_MESSAGE_DATA);
        put_varint(&mut encoded, data.len());
        let start = encoded.len();
        encoded.put_slice(data);
        encoded.put_u8(KEY_MESSAGE_TOPIC);
        put_varint(&mut encoded, name.len());
        encoded.put_slice(name);
        Arc::new(Self {
            id: message_id(topic.as_str(), data),
            topic: topic.clone(),
            encoded: encoded.freeze(),
            data: start..start + data.len(),
            transaction: OnceLock::new(),
            idontwant: OnceLock::new(),
        })
    }

    /// The transaction that the application's bytes are the canonical encoding of, if they are one. It is decoded and hashed
    /// once, however many share the message, and shares the message's bytes. Whether it suits a network is not asked here
    /// (see [`Transaction::in_message`]).
    #[must_use]
    pub fn transaction(&self) -> Option<&Transaction> {
        self.transaction.get_or_init(|| Transaction::decode_form(&self.data_bytes(), self.data.len()).ok()).as_ref()
    }

    /// The IDONTWANT of this message alone; what it points at is allocated once.
    #[must_use]
    pub fn idontwant(&self) -> Frame {
        Frame::IDontWant(Arc::clone(self.idontwant.get_or_init(|| [self.id].into())))
    }

    /// The content address.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// The topic it was published on.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The application's bytes.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.encoded[self.data.clone()]
    }

    /// The application's bytes, sharing this message's allocation.
    #[must_use]
    pub fn data_bytes(&self) -> Bytes {
        self.encoded.slice(self.data.clone())
    }

    /// The `publish` field as it goes into an RPC: protobuf key, length and `Message`.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }
}

/// Bytes of `value` as a protobuf varint.
#[must_use]
pub const fn varint_len(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Appends `value` as a protobuf varint.
pub fn put_varint(out: &mut impl BufMut, mut value: usize) {
    loop {
        #[expect(clippy::cast_possible_truncation, reason = "masked to seven bits")]
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.put_u8(low);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_publish_field_of_an_rpc() {
        let payload = Payload::new(&Topic::new("ab"), b"xyz");
        assert_eq!(&payload.encoded()[..], b"\x12\x09\x12\x03xyz\x22\x02ab");
        assert_eq!(payload.data(), b"xyz");
    }

    #[test]
    fn topic_and_data_cannot_be_shifted_into_each_other() {
        assert_ne!(message_id("ab", b"c"), message_id("a", b"bc"));
        assert_ne!(message_id("", b"abc"), message_id("abc", b""));
    }

    #[test]
    fn varint_length_agrees_with_the_encoding() {
        for value in [0, 1, 127, 128, 16_383, 16_384, usize::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
        }
    }
}
