//! Waiting control: for each topic the last subscription change and the last GRAFT or PRUNE, and the IDONTWANTs in order.
//!
//! Topics go out in the order of their names. A subscription and the GRAFT or PRUNE of its topic go out together, because a
//! receiver ignores a GRAFT for a topic that it does not know the sender to be subscribed to.

use super::PIECE_OVERHEAD_BYTES;
use crate::id::{MessageId, Topic};
use crate::rpc::{Frame, Prune, Subscription};
use crate::time::Time;
use crate::wire::{CONTROL_ID_BYTES, RpcAssembly, graft_len, idontwant_len, prune_len, subscription_len};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct ControlQueue {
    topics: BTreeMap<Topic, TopicControl>,
    topic_bytes: usize,
    idontwant: VecDeque<IDontWant>,
    idontwant_bytes: usize,
}

/// What waits about one topic; at least one of the two.
#[derive(Debug, Default)]
struct TopicControl {
    subscribe: Option<bool>,
    mesh: Option<MeshChange>,
}

#[derive(Debug)]
enum MeshChange {
    Graft,
    Prune(Prune),
}

#[derive(Debug)]
struct IDontWant {
    queued: Time,
    ids: Arc<[MessageId]>,
    /// How many of the ids were sent already.
    sent: usize,
}

/// The frame, without those peers of a PRUNE that would not fit into one RPC of `max_bytes` of control, beside the change of
/// subscription that goes with it.
pub(super) fn within(mut frame: Frame, max_bytes: usize) -> Frame {
    if let Frame::Prune(prune) = &mut frame {
        /// The key and length of `control` itself, for up to 2 MiB.
        const CONTROL_HEADER_BYTES: usize = 4;
        let beside = CONTROL_HEADER_BYTES + subscription_len(&prune.topic);
        while !prune.peers.is_empty() && prune_len(prune) + beside > max_bytes {
            prune.peers.pop();
        }
    }
    frame
}

impl ControlQueue {
    /// Frames that wait.
    pub(super) fn len(&self) -> usize {
        let topics = self.topics.values();
        self.idontwant.len()
            + topics
                .map(|topic| usize::from(topic.subscribe.is_some()) + usize::from(topic.mesh.is_some()))
                .sum::<usize>()
    }

    pub(super) fn bytes(&self) -> usize {
        self.topic_bytes + self.idontwant_bytes
    }

    /// Bytes of what is never dropped for other control.
    pub(super) fn lasting_bytes(&self) -> usize {
        self.topic_bytes
    }

    /// What the frame is charged when it waits.
    pub(super) fn cost(&self, frame: &Frame) -> usize {
        match frame {
            Frame::Subscription(subscription) => subscription_cost(&subscription.topic),
            Frame::Graft(topic) => MeshChange::Graft.cost(topic),
            Frame::Prune(prune) => prune_len(prune) + PIECE_OVERHEAD_BYTES,
            Frame::IDontWant(ids) => idontwant_cost(ids),
            Frame::Publish { .. } | Frame::IHave { .. } | Frame::IWant(_) => 0,
        }
    }

    /// Removes what the frame takes the place of.
    pub(super) fn forget_superseded(&mut self, frame: &Frame) {
        let (topic, is_subscription) = match frame {
            Frame::Subscription(subscription) => (&subscription.topic, true),
            Frame::Graft(topic) => (topic, false),
            Frame::Prune(prune) => (&prune.topic, false),
            _ => return,
        };
        let Some(waiting) = self.topics.get_mut(topic) else { return };
        self.topic_bytes -= waiting.cost(topic);
        if is_subscription {
            waiting.subscribe = None;
        } else {
            waiting.mesh = None;
        }
        self.topic_bytes += waiting.cost(topic);
        if waiting.subscribe.is_none() && waiting.mesh.is_none() {
            self.topics.remove(topic);
        }
    }

    /// Adds a frame of control, after [`Self::forget_superseded`].
    pub(super) fn push(&mut self, now: Time, frame: Frame) {
        let cost = self.cost(&frame);
        match frame {
            Frame::Subscription(Subscription { subscribe, topic }) => {
                self.topics.entry(topic).or_default().subscribe = Some(subscribe);
                self.topic_bytes += cost;
            }
            Frame::Graft(topic) => {
                self.topics.entry(topic).or_default().mesh = Some(MeshChange::Graft);
                self.topic_bytes += cost;
            }
            Frame::Prune(prune) => {
                let topic = prune.topic.clone();
                self.topics.entry(topic).or_default().mesh = Some(MeshChange::Prune(prune));
                self.topic_bytes += cost;
            }
            Frame::IDontWant(ids) => {
                self.idontwant.push_back(IDontWant { queued: now, ids, sent: 0 });
                self.idontwant_bytes += cost;
            }
            Frame::Publish { .. } | Frame::IHave { .. } | Frame::IWant(_) => {}
        }
    }

    /// Drops the oldest IDONTWANT; false when there is none.
    pub(super) fn drop_oldest_idontwant(&mut self) -> bool {
        let oldest = self.idontwant.pop_front();
        self.idontwant_bytes -= oldest.as_ref().map_or(0, |oldest| idontwant_cost(&oldest.ids));
        oldest.is_some()
    }

    /// Drops the IDONTWANTs that were pushed before `oldest`; how many.
    pub(super) fn expire(&mut self, oldest: Time) -> u64 {
        let mut expired = 0;
        while self.idontwant.front().is_some_and(|first| first.queued < oldest) {
            expired += u64::from(self.drop_oldest_idontwant());
        }
        expired
    }

    /// Moves control into the RPC while its control stays within `max_bytes`, and something in any case when the RPC is
    /// empty.
    pub(super) fn fill(&mut self, rpc: &mut impl RpcAssembly, max_bytes: usize, max_idontwant_ids: usize) {
        while let Some(first) = self.topics.first_entry() {
            let (topic, waiting) = (first.key(), first.get());
            let subscription = waiting.subscribe.map_or(0, |_subscribe| subscription_len(topic));
            let mesh = waiting.mesh.as_ref().map_or(0, |mesh| mesh.len(topic));
            if rpc.control_bytes_with(subscription, mesh) > max_bytes && !rpc.is_empty() {
                return;
            }
            let (topic, waiting) = first.remove_entry();
            self.topic_bytes -= waiting.cost(&topic);
            waiting.add_to(rpc, topic);
        }
        self.fill_idontwant(rpc, max_bytes, max_idontwant_ids);
    }

    fn fill_idontwant<R: RpcAssembly>(&mut self, rpc: &mut R, max_bytes: usize, max_ids: usize) {
        let mut ids: Vec<MessageId> = Vec::new();
        let fits = |rpc: &R, count| rpc.control_bytes_with(0, idontwant_len(count)) <= max_bytes;
        while let Some(first) = self.idontwant.front_mut() {
            let enough = ids.len() >= max_ids || !fits(rpc, ids.len() + 1);
            if enough && !(rpc.is_empty() && ids.is_empty()) {
                break;
            }
            ids.push(first.ids[first.sent]);
            first.sent += 1;
            if first.sent == first.ids.len() {
                self.drop_oldest_idontwant();
            }
        }
        if !ids.is_empty() {
            rpc.idontwant(&ids);
        }
    }

    pub(super) fn check(&self) {
        let topic_bytes: usize = self.topics.iter().map(|(topic, waiting)| waiting.cost(topic)).sum();
        assert_eq!(self.topic_bytes, topic_bytes, "what waits by topic is counted");
        let idontwant_bytes: usize = self.idontwant.iter().map(|waiting| idontwant_cost(&waiting.ids)).sum();
        assert_eq!(self.idontwant_bytes, idontwant_bytes, "IDONTWANTs are counted");
        for (topic, waiting) in &self.topics {
            assert!(waiting.subscribe.is_some() || waiting.mesh.is_some(), "nothing waits about {topic}");
        }
        for waiting in &self.idontwant {
            assert!(waiting.sent < waiting.ids.len(), "an IDONTWANT that was sent is gone");
        }
    }
}

impl TopicControl {
    fn cost(&self, topic: &Topic) -> usize {
        self.subscribe.map_or(0, |_subscribe| subscription_cost(topic))
            + self.mesh.as_ref().map_or(0, |mesh| mesh.cost(topic))
    }

    fn add_to(self, rpc: &mut impl RpcAssembly, topic: Topic) {
        match self.mesh {
            Some(MeshChange::Graft) => rpc.graft(&topic),
            Some(MeshChange::Prune(prune)) => rpc.prune(&prune),
            None => {}
        }
        if let Some(subscribe) = self.subscribe {
            rpc.subscription(&Subscription { subscribe, topic });
        }
    }
}

impl MeshChange {
    fn len(&self, topic: &Topic) -> usize {
        match self {
            Self::Graft => graft_len(topic),
            Self::Prune(prune) => prune_len(prune),
        }
    }

    fn cost(&self, topic: &Topic) -> usize {
        self.len(topic) + PIECE_OVERHEAD_BYTES
    }
}

fn subscription_cost(topic: &Topic) -> usize {
    subscription_len(topic) + PIECE_OVERHEAD_BYTES
}

fn idontwant_cost(ids: &[MessageId]) -> usize {
    ids.len() * CONTROL_ID_BYTES + PIECE_OVERHEAD_BYTES
}
