//! The send queue a second time, as naive as possible: one list in the order of arrival, searched from the start for
//! everything, and sizes measured by encoding.

use starling_protocol::id::{MessageId, Topic};
use starling_protocol::message::Payload;
use starling_protocol::rpc::{Class, Frame, Prune, Subscription};
use starling_protocol::send_queue::{PIECE_OVERHEAD_BYTES, SendQueueConfig};
use starling_protocol::time::{Duration, Time};
use starling_protocol::wire;
use std::sync::Arc;

pub(crate) struct Model {
    config: SendQueueConfig,
    waiting: Vec<Piece>,
    /// Messages that aged: when they were pushed, topic and id.
    lapsed: Vec<(Time, Topic, MessageId)>,
    announced: Option<Time>,
}

/// What each of the lapsed is counted with.
const LAPSED_BYTES: usize = 64;

#[derive(Clone)]
struct Piece {
    queued: Time,
    frame: Frame,
    /// Ids of a list that were sent already.
    sent: usize,
    cost: usize,
}

impl Model {
    pub(crate) fn new(config: SendQueueConfig) -> Self {
        Self { config, waiting: Vec::new(), lapsed: Vec::new(), announced: None }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.waiting.iter().map(|piece| piece.cost).sum::<usize>() + self.lapsed.len() * LAPSED_BYTES
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.lapsed.len()
    }

    /// What was dropped, by class.
    pub(crate) fn push(&mut self, now: Time, mut frame: Frame) -> [u64; 5] {
        let mut dropped = [0; 5];
        let class = frame.class();
        let mut refuse = || {
            dropped[class as usize] += 1;
            dropped
        };
        match &mut frame {
            Frame::Publish { payload, .. } => {
                if payload.encoded().len() > self.config.rpc_bytes_max {
                    return refuse();
                }
                let id = payload.id();
                if let Some(at) = self.waiting.iter().position(|piece| message(piece).is_some_and(|m| m.id() == id)) {
                    if self.waiting[at].frame.class() <= class {
                        return dropped;
                    }
                    self.waiting.remove(at);
                }
            }
            Frame::IHave { ids, .. } if ids.is_empty() => return dropped,
            Frame::IWant(ids) | Frame::IDontWant(ids) if ids.is_empty() => return dropped,
            Frame::Prune(prune) => {
                let with_subscription = |prune: &Prune| {
                    let subscription = Subscription { subscribe: true, topic: prune.topic.clone() };
                    frame_len(&[Frame::Prune(prune.clone()), Frame::Subscription(subscription)])
                };
                // Four bytes are set aside for the key and length of `control`, of which a short one needs fewer.
                let header = |prune: &Prune| frame_len(&[Frame::Prune(prune.clone())]) - wire::prune_len(prune);
                while !prune.peers.is_empty()
                    && with_subscription(prune) - header(prune) + 4 > self.config.rpc_control_bytes_max
                {
                    prune.peers.pop();
                }
            }
            _ => {}
        }
        let cost = cost(&frame);
        if class == Class::Control {
            self.waiting.retain(|piece| !supersedes(&frame, &piece.frame));
            let lasting =
                |piece: &&Piece| piece.frame.class() == Class::Control && !matches!(piece.frame, Frame::IDontWant(_));
            if self.waiting.iter().filter(lasting).map(|piece| piece.cost).sum::<usize>() + cost
                > self.config.control_bytes_max
            {
                return refuse();
            }
            while self.bytes_of(|c| c == Class::Control) + cost > self.config.control_bytes_max {
                let oldest = self.waiting.iter().position(|piece| matches!(piece.frame, Frame::IDontWant(_)));
                self.waiting.remove(oldest.expect("IDONTWANTs take what is too much"));
                dropped[Class::Control as usize] += 1;
            }
        }
        let spared = |c: Class| c < class || c == Class::Control;
        if self.bytes_of(spared) + self.lapsed.len() * LAPSED_BYTES + cost > self.config.bytes_max {
            dropped[class as usize] += 1;
            return dropped;
        }
        while self.bytes() + cost > self.config.bytes_max {
            let least = self.waiting.iter().map(|piece| piece.frame.class()).max().expect("something waits");
            let oldest = self.waiting.iter().position(|piece| piece.frame.class() == least).expect("it was found");
            self.waiting.remove(oldest);
            dropped[least as usize] += 1;
        }
        self.waiting.push(Piece { queued: now, frame, sent: 0, cost });
        dropped
    }

    pub(crate) fn cancel(&mut self, ids: &[MessageId]) -> u32 {
        let before = self.waiting.len();
        self.waiting.retain(|piece| !message(piece).is_some_and(|payload| ids.contains(&payload.id())));
        u32::try_from(before - self.waiting.len()).expect("few messages")
    }

    /// The frames of the next RPC, lists of ids cut where the RPC ends.
    pub(crate) fn pop(&mut self, now: Time, max_bytes: usize) -> Vec<Frame> {
        let config = self.config.clone();
        let aged = |piece: &Piece| age_max(&config, &piece.frame).is_some_and(|max| piece.queued + max < now);
        for class in [Class::Priority, Class::Forward] {
            let pieces = self.waiting.iter().filter(|piece| aged(piece) && piece.frame.class() == class);
            let messages =
                pieces.filter_map(|piece| message(piece).map(|it| (piece.queued, it.topic().clone(), it.id())));
            self.lapsed.extend(messages);
        }
        self.waiting.retain(|piece| !aged(piece));
        let max_bytes = max_bytes.min(config.rpc_bytes_max);
        let mut rpc = Vec::new();
        self.pop_topics(&mut rpc, max_bytes);
        self.pop_idontwant(&mut rpc, max_bytes);
        self.announce_lapsed(now, rpc.is_empty());
        let gossip = self.bytes_of(|class| class == Class::Gossip);
        self.pop_messages(&mut rpc, max_bytes - gossip.min(max_bytes / 8));
        self.pop_gossip(&mut rpc, max_bytes);
        rpc
    }

    fn announce_lapsed(&mut self, now: Time, idle: bool) {
        let alone = idle && self.waiting.is_empty();
        if !alone && self.announced.is_some_and(|at| at + self.config.lapsed_interval > now) {
            return;
        }
        let young: Vec<_> =
            self.lapsed.drain(..).filter(|(queued, ..)| *queued + self.config.gossip_age_max >= now).collect();
        let mut topics: Vec<Topic> = Vec::new();
        for (_, topic, _) in &young {
            if !topics.contains(topic) {
                topics.push(topic.clone());
            }
        }
        for topic in topics {
            let ids: Vec<MessageId> = young.iter().filter(|entry| entry.1 == topic).map(|entry| entry.2).collect();
            self.push(now, Frame::IHave { topic, ids: ids.into() });
            self.announced = Some(now);
        }
    }

    fn pop_topics(&mut self, rpc: &mut Vec<Frame>, max_bytes: usize) {
        let mut topics: Vec<Topic> = self.waiting.iter().filter_map(|piece| topic(&piece.frame)).collect();
        topics.sort();
        topics.dedup();
        for next in topics {
            let of_topic = |piece: &&Piece| topic(&piece.frame).as_ref() == Some(&next);
            let mut more: Vec<Frame> = self.waiting.iter().filter(of_topic).map(|piece| piece.frame.clone()).collect();
            more.splice(0..0, rpc.iter().cloned());
            if !rpc.is_empty() && frame_len(&more) > max_bytes.min(self.config.rpc_control_bytes_max) {
                break;
            }
            *rpc = more;
            self.waiting.retain(|piece| topic(&piece.frame).as_ref() != Some(&next));
        }
    }

    fn pop_idontwant(&mut self, rpc: &mut Vec<Frame>, max_bytes: usize) {
        // A topic that has to wait makes the IDONTWANTs wait too.
        if self.waiting.iter().any(|piece| topic(&piece.frame).is_some()) {
            return;
        }
        let mut ids = Vec::new();
        while let Some(at) = self.waiting.iter().position(|piece| matches!(piece.frame, Frame::IDontWant(_))) {
            let piece = &mut self.waiting[at];
            let Frame::IDontWant(all) = &piece.frame else { unreachable!("it was found") };
            let mut more = ids.clone();
            more.push(all[piece.sent]);
            let mut trial = rpc.clone();
            trial.push(Frame::IDontWant(more.clone().into()));
            let fits = more.len() <= self.config.rpc_idontwant_ids_max
                && frame_len(&trial) <= max_bytes.min(self.config.rpc_control_bytes_max);
            let first = rpc.is_empty() && ids.is_empty();
            if !fits && !first {
                break;
            }
            ids = more;
            piece.sent += 1;
            if piece.sent == all.len() {
                self.waiting.remove(at);
            }
        }
        if !ids.is_empty() {
            rpc.push(Frame::IDontWant(ids.into()));
        }
    }

    fn pop_messages(&mut self, rpc: &mut Vec<Frame>, max_bytes: usize) {
        for class in [Class::Priority, Class::Forward, Class::Reply] {
            while let Some(at) = self.waiting.iter().position(|p| message(p).is_some() && p.frame.class() == class) {
                let mut more = rpc.clone();
                more.push(self.waiting[at].frame.clone());
                let messages = more.iter().filter(|frame| matches!(frame, Frame::Publish { .. })).count();
                let fits = messages <= self.config.rpc_publish_max && frame_len(&more) <= max_bytes;
                if !fits && !rpc.is_empty() {
                    return;
                }
                *rpc = more;
                self.waiting.remove(at);
            }
        }
    }

    fn pop_gossip(&mut self, rpc: &mut Vec<Frame>, max_bytes: usize) {
        while let Some(at) = self.waiting.iter().position(|piece| piece.frame.class() == Class::Gossip) {
            let with = |count: usize, piece: &Piece| {
                let mut more = rpc.clone();
                more.push(match &piece.frame {
                    Frame::IHave { topic, ids } => {
                        Frame::IHave { topic: topic.clone(), ids: ids[piece.sent..piece.sent + count].into() }
                    }
                    Frame::IWant(ids) => Frame::IWant(ids[piece.sent..piece.sent + count].into()),
                    _ => unreachable!("gossip is one of the two"),
                });
                more
            };
            let fits = |frames: &[Frame]| {
                let control: Vec<Frame> =
                    frames.iter().filter(|frame| !matches!(frame, Frame::Publish { .. })).cloned().collect();
                frame_len(frames) <= max_bytes && frame_len(&control) <= self.config.rpc_control_bytes_max
            };
            let piece = &self.waiting[at];
            let all = ids(&piece.frame);
            let mut count = (1..=all - piece.sent).rev().find(|count| fits(&with(*count, piece))).unwrap_or(0);
            if count == 0 && rpc.is_empty() {
                count = 1;
            }
            if count == 0 {
                return;
            }
            *rpc = with(count, piece);
            self.waiting[at].sent += count;
            if self.waiting[at].sent < all {
                return;
            }
            self.waiting.remove(at);
        }
    }

    fn bytes_of(&self, class: impl Fn(Class) -> bool) -> usize {
        self.waiting.iter().filter(|piece| class(piece.frame.class())).map(|piece| piece.cost).sum()
    }
}

fn message(piece: &Piece) -> Option<&Arc<Payload>> {
    match &piece.frame {
        Frame::Publish { payload, .. } => Some(payload),
        _ => None,
    }
}

/// The topic of control that goes out by topic.
fn topic(frame: &Frame) -> Option<Topic> {
    match frame {
        Frame::Subscription(subscription) => Some(subscription.topic.clone()),
        Frame::Graft(topic) => Some(topic.clone()),
        Frame::Prune(prune) => Some(prune.topic.clone()),
        _ => None,
    }
}

fn supersedes(new: &Frame, old: &Frame) -> bool {
    let is_subscription = |frame: &Frame| matches!(frame, Frame::Subscription(_));
    topic(new).is_some() && topic(new) == topic(old) && is_subscription(new) == is_subscription(old)
}

fn ids(frame: &Frame) -> usize {
    match frame {
        Frame::IHave { ids, .. } => ids.len(),
        Frame::IWant(ids) | Frame::IDontWant(ids) => ids.len(),
        _ => 0,
    }
}

fn cost(frame: &Frame) -> usize {
    PIECE_OVERHEAD_BYTES
        + match frame {
            Frame::Publish { payload, .. } => payload.encoded().len(),
            Frame::Subscription(subscription) => wire::subscription_len(&subscription.topic),
            Frame::Graft(topic) => wire::graft_len(topic),
            Frame::Prune(prune) => wire::prune_len(prune),
            Frame::IHave { topic, ids } => topic.as_str().len() + 22 * ids.len(),
            Frame::IWant(ids) | Frame::IDontWant(ids) => 22 * ids.len(),
        }
}

fn age_max(config: &SendQueueConfig, frame: &Frame) -> Option<Duration> {
    match frame {
        Frame::Publish { class: Class::Priority, .. } => Some(config.priority_age_max),
        Frame::Publish { class: Class::Forward, .. } | Frame::IDontWant(_) => Some(config.forward_age_max),
        Frame::Publish { .. } => Some(config.reply_age_max),
        Frame::IHave { .. } | Frame::IWant(_) => Some(config.gossip_age_max),
        Frame::Subscription(_) | Frame::Graft(_) | Frame::Prune(_) => None,
    }
}

/// Bytes of the frame that these make, without the length prefix.
pub(crate) fn frame_len(frames: &[Frame]) -> usize {
    let encoded = wire::encode(frames);
    let limits = wire::WireLimits::default();
    let prefix = wire::read_prefix(&encoded.to_vec(), &limits).expect("in the limits").expect("complete");
    prefix.frame_bytes
}
