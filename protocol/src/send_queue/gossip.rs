//! Waiting gossip: IHAVE and IWANT in the order of their arrival, split where a list does not fit.

use super::PIECE_OVERHEAD_BYTES;
use crate::id::{MessageId, Topic};
use crate::rpc::Frame;
use crate::time::Time;
use crate::wire::{CONTROL_ID_BYTES, RpcAssembly, ihave_len, iwant_len};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct GossipQueue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    queued: Time,
    ids: Ids,
    /// How many of the ids were sent already.
    sent: usize,
}

#[derive(Debug)]
enum Ids {
    IHave(Topic, Arc<[MessageId]>),
    IWant(Arc<[MessageId]>),
}

/// What a waiting frame is charged: all its ids, although those of an IHAVE are shared with other peers' queues.
pub(super) fn cost(frame: &Frame) -> usize {
    match frame {
        Frame::IHave { topic, ids } => ihave_cost(topic, ids),
        Frame::IWant(ids) => iwant_cost(ids),
        _ => 0,
    }
}

impl GossipQueue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an IHAVE or IWANT with at least one id.
    pub(super) fn push(&mut self, now: Time, frame: Frame) {
        let cost = cost(&frame);
        let ids = match frame {
            Frame::IHave { topic, ids } => Ids::IHave(topic, ids),
            Frame::IWant(ids) => Ids::IWant(ids),
            _ => return,
        };
        self.bytes += cost;
        self.waiting.push_back(Waiting { queued: now, ids, sent: 0 });
    }

    /// Drops the oldest frame; false when there is none.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let oldest = self.waiting.pop_front();
        self.bytes -= oldest.as_ref().map_or(0, |oldest| oldest.ids.cost());
        oldest.is_some()
    }

    /// Drops the frames that were pushed before `oldest`; how many.
    pub(super) fn expire(&mut self, oldest: Time) -> u64 {
        let mut expired = 0;
        while self.waiting.front().is_some_and(|first| first.queued < oldest) {
            expired += u64::from(self.drop_oldest());
        }
        expired
    }

    /// Moves gossip into the RPC while it stays within `max_bytes` in all and `max_control_bytes` of control, and one id
    /// in any case when the RPC is empty.
    pub(super) fn fill(&mut self, rpc: &mut impl RpcAssembly, max_bytes: usize, max_control_bytes: usize) {
        while let Some(first) = self.waiting.front_mut() {
            let room = max_control_bytes.min(max_bytes.saturating_sub(rpc.publish_bytes()));
            let rest = &first.ids.all()[first.sent..];
            let mut count = most(rest.len(), |count| rpc.control_bytes_with(0, first.ids.len_of(count)) <= room);
            if count == 0 {
                if !rpc.is_empty() {
                    return;
                }
                count = 1;
            }
            match &first.ids {
                Ids::IHave(topic, _) => rpc.ihave(topic, &rest[..count]),
                Ids::IWant(_) => rpc.iwant(&rest[..count]),
            }
            first.sent += count;
            if first.sent < first.ids.all().len() {
                return;
            }
            self.drop_oldest();
        }
    }

    pub(super) fn check(&self) {
        assert_eq!(
            self.bytes,
            self.waiting.iter().map(|waiting| waiting.ids.cost()).sum::<usize>(),
            "gossip is counted"
        );
        for waiting in &self.waiting {
            assert!(waiting.sent < waiting.ids.all().len(), "gossip that was sent is gone");
        }
    }
}

impl Ids {
    fn all(&self) -> &[MessageId] {
        match self {
            Self::IHave(_, ids) => ids,
            Self::IWant(ids) => ids,
        }
    }

    /// Bytes that so many of the ids take in `control`.
    fn len_of(&self, count: usize) -> usize {
        match self {
            Self::IHave(topic, _) => ihave_len(topic, count),
            Self::IWant(_) => iwant_len(count),
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::IHave(topic, ids) => ihave_cost(topic, ids),
            Self::IWant(ids) => iwant_cost(ids),
        }
    }
}

fn ihave_cost(topic: &Topic, ids: &[MessageId]) -> usize {
    ids.len() * CONTROL_ID_BYTES + topic.as_str().len() + PIECE_OVERHEAD_BYTES
}

fn iwant_cost(ids: &[MessageId]) -> usize {
    ids.len() * CONTROL_ID_BYTES + PIECE_OVERHEAD_BYTES
}

/// The largest count of at most `max` that fits, where whatever is smaller than a fitting count fits too; 0 when not even
/// one does.
fn most(max: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut fitting, mut too_many) = (0, max + 1);
    while too_many - fitting > 1 {
        let middle = fitting + (too_many - fitting) / 2;
        if fits(middle) {
            fitting = middle;
        } else {
            too_many = middle;
        }
    }
    fitting
}
