//! RPCs that are handed over in memory, at the length that they would have on the wire.
//!
//! A simulated network of thousands of nodes in one process has no need of the bytes: encoding, hashing and decoding every
//! copy of every message would cost more than everything else. A [`SharedRpc`] is what the receiver of an RPC would decode, together
//! with the length of what its sender would have encoded. It shares its messages with the sender's queues.
//!
//! [`RpcAssembly`] is what [`RpcBuilder`] and [`SharedRpc`] have in common, so that a send queue fills either by the same rules.
//!
//! # Promise
//! For whatever frames are added, [`SharedRpc::wire_len`] is the length of what [`RpcBuilder::finish`] makes of the same frames, and
//! [`SharedRpc::into_rpc`] is what [`super::decode`] makes of its bytes, within what [`super::limits`] admit: PRUNE back-offs are
//! clamped, and peers and records in excess are left out, as the reader does it.

use super::encode::{field_len, graft_len, idontwant_len, ihave_len, iwant_len, prune_len, subscription_len};
use super::limits::{EXCHANGED_PEERS_PER_PRUNE_MAX, PRUNE_BACKOFF_SECONDS_MAX, SIGNED_RECORD_BYTES_MAX};
use crate::id::{MessageId, Topic};
use crate::message::{Payload, varint_len};
use crate::rpc::{Frame, IHave, Prune, Rpc, Subscription};
use std::sync::Arc;

#[cfg(doc)]
use super::RpcBuilder;

/// An RPC being put together, whatever becomes of it.
pub trait RpcAssembly: Default {
    /// Bytes of the subscriptions that were added.
    fn subscription_bytes(&self) -> usize;
    /// Bytes of the entries of `control` that were added.
    fn entry_bytes(&self) -> usize;
    /// Bytes of the messages that were added.
    fn publish_bytes(&self) -> usize;
    /// Messages that were added.
    fn publish_count(&self) -> usize;

    /// Adds a change of subscription.
    fn subscription(&mut self, subscription: &Subscription);
    /// Adds a GRAFT.
    fn graft(&mut self, topic: &Topic);
    /// Adds a PRUNE.
    fn prune(&mut self, prune: &Prune);
    /// Adds an IHAVE entry.
    fn ihave(&mut self, topic: &Topic, ids: &[MessageId]);
    /// Adds an IWANT.
    fn iwant(&mut self, ids: &[MessageId]);
    /// Adds an IDONTWANT.
    fn idontwant(&mut self, ids: &[MessageId]);
    /// Adds a message.
    fn publish(&mut self, payload: Arc<Payload>);

    /// Whether nothing was added.
    fn is_empty(&self) -> bool {
        self.frame_bytes() == 0
    }

    /// Bytes of the `subscriptions` and `control` fields: what rust-libp2p holds against
    /// [`super::limits::CONTROL_BYTES_PER_RPC_MAX`].
    fn control_bytes(&self) -> usize {
        self.control_bytes_with(0, 0)
    }

    /// What [`Self::control_bytes`] would be with so many more bytes of subscriptions and of entries of `control`.
    fn control_bytes_with(&self, subscriptions: usize, entries: usize) -> usize {
        let entries = self.entry_bytes() + entries;
        self.subscription_bytes() + subscriptions + if entries == 0 { 0 } else { field_len(entries) }
    }

    /// Bytes of the frame so far, without its length prefix.
    fn frame_bytes(&self) -> usize {
        self.control_bytes() + self.publish_bytes()
    }

    /// Adds a frame of whatever kind.
    fn frame(&mut self, frame: &Frame) {
        match frame {
            Frame::Publish { payload, .. } => self.publish(Arc::clone(payload)),
            Frame::Subscription(subscription) => self.subscription(subscription),
            Frame::Graft(topic) => self.graft(topic),
            Frame::Prune(prune) => self.prune(prune),
            Frame::IHave { topic, ids } => self.ihave(topic, ids),
            Frame::IWant(ids) => self.iwant(ids),
            Frame::IDontWant(ids) => self.idontwant(ids),
        }
    }
}

/// What the receiver of an RPC decodes, and how long it was on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedRpc {
    rpc: Rpc,
    subscription_bytes: usize,
    entry_bytes: usize,
    publish_bytes: usize,
}

impl SharedRpc {
    /// Bytes on the wire, length prefix included.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        let frame_bytes = self.frame_bytes();
        varint_len(frame_bytes) + frame_bytes
    }

    /// What the receiver decodes.
    #[must_use]
    pub fn into_rpc(self) -> Rpc {
        self.rpc
    }
}

impl RpcAssembly for SharedRpc {
    fn subscription_bytes(&self) -> usize {
        self.subscription_bytes
    }

    fn entry_bytes(&self) -> usize {
        self.entry_bytes
    }

    fn publish_bytes(&self) -> usize {
        self.publish_bytes
    }

    fn publish_count(&self) -> usize {
        self.rpc.publish.len()
    }

    fn subscription(&mut self, subscription: &Subscription) {
        self.subscription_bytes += subscription_len(&subscription.topic);
        self.rpc.subscriptions.push(subscription.clone());
    }

    fn graft(&mut self, topic: &Topic) {
        self.entry_bytes += graft_len(topic);
        self.rpc.graft.push(topic.clone());
    }

    fn prune(&mut self, prune: &Prune) {
        self.entry_bytes += prune_len(prune);
        let mut prune = prune.clone();
        prune.backoff_seconds = prune.backoff_seconds.map(|seconds| seconds.min(PRUNE_BACKOFF_SECONDS_MAX));
        prune.peers.truncate(EXCHANGED_PEERS_PER_PRUNE_MAX);
        for peer in &mut prune.peers {
            peer.signed_record.take_if(|record| record.len() > SIGNED_RECORD_BYTES_MAX);
        }
        self.rpc.prune.push(prune);
    }

    fn ihave(&mut self, topic: &Topic, ids: &[MessageId]) {
        self.entry_bytes += ihave_len(topic, ids.len());
        self.rpc.ihave.push(IHave { topic: topic.clone(), ids: ids.to_vec() });
    }

    fn iwant(&mut self, ids: &[MessageId]) {
        self.entry_bytes += iwant_len(ids.len());
        self.rpc.iwant.extend_from_slice(ids);
    }

    fn idontwant(&mut self, ids: &[MessageId]) {
        self.entry_bytes += idontwant_len(ids.len());
        self.rpc.idontwant.extend_from_slice(ids);
    }

    fn publish(&mut self, payload: Arc<Payload>) {
        self.publish_bytes += payload.encoded().len();
        self.rpc.publish.push(payload);
    }
}
