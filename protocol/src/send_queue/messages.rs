//! Waiting messages: a list for each class, all in one slab, and an index by message id.
//!
//! The lists are doubly linked through slab indices, so that a message anywhere in them is unlinked in constant time and
//! leaves no tombstone behind. Freed nodes are chained and used again; the slab is given back when it empties.

use super::PIECE_OVERHEAD_BYTES;
use crate::id::MessageId;
use crate::message::Payload;
use crate::rpc::Class;
use crate::time::Time;
use crate::wire::RpcAssembly;
use core::hash::BuildHasher;
use siphasher::sip::SipHasher13;
use std::collections::HashMap;
use std::sync::Arc;

/// End of a list.
const NONE: u32 = u32::MAX;

/// A slab of at most this many nodes is kept when it empties.
const SLAB_KEPT: usize = 64;

// A node, its index entry (a hash map fills at most 7/8 of twice what it needs) and an `Arc`'s counts must be covered by what
// a message is charged.
const _: () = assert!(size_of::<Node>() * 2 + (size_of::<(MessageId, u32)>() + 1) * 2 <= PIECE_OVERHEAD_BYTES);

/// The classes that hold messages, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MessageClass {
    Priority,
    Forward,
    Reply,
}

impl MessageClass {
    pub(super) const ALL: [Self; 3] = [Self::Priority, Self::Forward, Self::Reply];

    pub(super) fn of(class: Class) -> Self {
        match class {
            Class::Control | Class::Priority => Self::Priority,
            Class::Forward => Self::Forward,
            Class::Reply | Class::Gossip => Self::Reply,
        }
    }
}

impl From<MessageClass> for Class {
    fn from(class: MessageClass) -> Self {
        match class {
            MessageClass::Priority => Self::Priority,
            MessageClass::Forward => Self::Forward,
            MessageClass::Reply => Self::Reply,
        }
    }
}

/// What a waiting message is charged.
pub(super) fn cost(payload: &Payload) -> usize {
    payload.encoded().len() + PIECE_OVERHEAD_BYTES
}

#[derive(Debug)]
pub(super) struct MessageQueue {
    nodes: Vec<Node>,
    /// First of the chain of free nodes.
    free: u32,
    lists: [List; 3],
    index: HashMap<MessageId, u32, KeyedHash>,
}

#[derive(Debug)]
struct Node {
    /// None while the node is free.
    payload: Option<Arc<Payload>>,
    queued: Time,
    class: MessageClass,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
    bytes: usize,
}

const EMPTY: List = List { first: NONE, last: NONE, bytes: 0 };

/// SipHash-1-3 under the queue's key.
#[derive(Clone, Debug)]
struct KeyedHash([u8; 16]);

impl BuildHasher for KeyedHash {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

impl MessageQueue {
    pub(super) fn new(hash_key: &[u8; 16]) -> Self {
        let index = HashMap::with_hasher(KeyedHash(*hash_key));
        Self { nodes: Vec::new(), free: NONE, lists: [EMPTY; 3], index }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.lists.iter().map(|list| list.bytes).sum()
    }

    pub(super) fn bytes_of(&self, class: MessageClass) -> usize {
        self.lists[class as usize].bytes
    }

    /// The class that the message waits in.
    pub(super) fn class_of(&self, id: MessageId) -> Option<MessageClass> {
        self.index.get(&id).map(|node| self.nodes[*node as usize].class)
    }

    /// When the message that waits longest was pushed.
    pub(super) fn oldest(&self) -> Option<Time> {
        let firsts = self.lists.iter().filter(|list| list.first != NONE);
        firsts.map(|list| self.nodes[list.first as usize].queued).min()
    }

    /// Adds a message that does not wait yet.
    pub(super) fn push(&mut self, now: Time, payload: Arc<Payload>, class: MessageClass) {
        let id = payload.id();
        let list = &mut self.lists[class as usize];
        list.bytes += cost(&payload);
        let node = Node { payload: Some(payload), queued: now, class, previous: list.last, next: NONE };
        let at = if self.free == NONE {
            let at = u32::try_from(self.nodes.len()).expect("the byte bound admits fewer than 2^32 messages");
            self.nodes.push(node);
            at
        } else {
            let at = self.free;
            self.free = self.nodes[at as usize].next;
            self.nodes[at as usize] = node;
            at
        };
        match list.last {
            NONE => list.first = at,
            last => self.nodes[last as usize].next = at,
        }
        list.last = at;
        let former = self.index.insert(id, at);
        debug_assert!(former.is_none(), "a message waits once");
    }

    /// Removes a message; false when it does not wait.
    pub(super) fn remove(&mut self, id: MessageId) -> bool {
        let Some(at) = self.index.get(&id).copied() else { return false };
        self.unlink(at);
        true
    }

    /// Drops the oldest message of the class; false when there is none.
    pub(super) fn drop_oldest(&mut self, class: MessageClass) -> bool {
        let first = self.lists[class as usize].first;
        if first != NONE {
            self.unlink(first);
        }
        first != NONE
    }

    /// Removes the messages of the class that were pushed before `oldest` and hands each over, with the time of its push,
    /// oldest first; how many.
    pub(super) fn expire(
        &mut self,
        class: MessageClass,
        oldest: Time,
        mut each: impl FnMut(Arc<Payload>, Time),
    ) -> u64 {
        let mut expired = 0;
        loop {
            let first = self.lists[class as usize].first;
            let Some(node) = self.nodes.get(first as usize).filter(|node| node.queued < oldest) else { return expired };
            let queued = node.queued;
            each(self.unlink(first), queued);
            expired += 1;
        }
    }

    /// Moves messages into the RPC while it stays within `max_bytes` and `max_messages`, and one in any case when the RPC
    /// is empty.
    pub(super) fn fill(&mut self, rpc: &mut impl RpcAssembly, max_bytes: usize, max_messages: usize) {
        for class in MessageClass::ALL {
            loop {
                let first = self.lists[class as usize].first;
                let Some(payload) = self.nodes.get(first as usize).and_then(|node| node.payload.as_ref()) else {
                    break;
                };
                let fits =
                    rpc.frame_bytes() + payload.encoded().len() <= max_bytes && rpc.publish_count() < max_messages;
                if !fits && !rpc.is_empty() {
                    return;
                }
                rpc.publish(self.unlink(first));
            }
        }
    }

    /// Takes a node out of its list and the index, and frees it.
    fn unlink(&mut self, at: u32) -> Arc<Payload> {
        let node = &mut self.nodes[at as usize];
        let payload = node.payload.take().expect("a linked node holds a message");
        let (class, previous, next) = (node.class, node.previous, node.next);
        node.next = self.free;
        self.free = at;
        let list = &mut self.lists[class as usize];
        list.bytes -= cost(&payload);
        match previous {
            NONE => list.first = next,
            previous => self.nodes[previous as usize].next = next,
        }
        match next {
            NONE => list.last = previous,
            next => self.nodes[next as usize].previous = previous,
        }
        self.index.remove(&payload.id());
        if self.index.is_empty() && self.nodes.len() > SLAB_KEPT {
            self.nodes = Vec::new();
            self.free = NONE;
            self.index.shrink_to(SLAB_KEPT);
        }
        payload
    }

    pub(super) fn check(&self) {
        let mut linked = 0;
        for class in MessageClass::ALL {
            let list = &self.lists[class as usize];
            let (mut at, mut previous, mut bytes, mut queued) = (list.first, NONE, 0, Time::ZERO);
            while at != NONE {
                let node = &self.nodes[at as usize];
                let payload = node.payload.as_ref().expect("a linked node holds a message");
                assert_eq!((node.class, node.previous), (class, previous), "lists are linked both ways");
                assert!(node.queued >= queued, "a list is in the order of arrival");
                assert_eq!(self.index.get(&payload.id()), Some(&at), "every waiting message is in the index");
                bytes += cost(payload);
                linked += 1;
                (previous, at, queued) = (at, node.next, node.queued);
            }
            assert_eq!((list.last, list.bytes), (previous, bytes), "a list knows its end and its bytes");
        }
        assert_eq!(linked, self.index.len(), "the index holds nothing else");
        let (mut free, mut at) = (0, self.free);
        while at != NONE {
            assert!(self.nodes[at as usize].payload.is_none(), "a free node holds no message");
            free += 1;
            at = self.nodes[at as usize].next;
        }
        assert_eq!(linked + free, self.nodes.len(), "every node is linked or free");
    }
}
