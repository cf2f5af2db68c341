//! The ids of messages that waited too long: what is left of them to announce.

use super::LAPSED_IDS_MAX;
use crate::id::{MessageId, Topic};
use crate::rpc::Frame;
use crate::time::{Duration, Time};
use std::collections::VecDeque;

/// What an id is counted with: its entry and its share of the list's spare room.
pub(super) const ID_BYTES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Lapsed {
    waiting: VecDeque<Entry>,
    /// When ids were last handed out.
    announced: Option<Time>,
}

#[derive(Debug)]
struct Entry {
    /// When the message was pushed.
    queued: Time,
    topic: Topic,
    id: MessageId,
}

impl Lapsed {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.waiting.len() * ID_BYTES
    }

    /// Adds the id of a message that aged. Beyond the bound the oldest makes room.
    pub(super) fn push(&mut self, queued: Time, topic: Topic, id: MessageId) {
        if self.waiting.len() >= LAPSED_IDS_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Entry { queued, topic, id });
    }

    /// Whether the last ids were handed out so long ago.
    pub(super) fn is_due(&self, now: Time, interval: Duration) -> bool {
        self.announced.is_none_or(|at| at + interval <= now)
    }

    /// Hands out all ids of messages that were pushed at `oldest` or later, one IHAVE for each topic, and forgets the others.
    pub(super) fn take(&mut self, now: Time, oldest: Time) -> Vec<Frame> {
        let mut by_topic: Vec<(Topic, Vec<MessageId>)> = Vec::new();
        for Entry { queued, topic, id } in std::mem::take(&mut self.waiting) {
            if queued < oldest {
                continue;
            }
            match by_topic.iter_mut().find(|(known, _)| *known == topic) {
                Some((_, ids)) => ids.push(id),
                None => by_topic.push((topic, vec![id])),
            }
        }
        if !by_topic.is_empty() {
            self.announced = Some(now);
        }
        by_topic.into_iter().map(|(topic, ids)| Frame::IHave { topic, ids: ids.into() }).collect()
    }
}
