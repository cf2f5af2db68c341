//! The topics that the engine knows.
//!
//! Topics are configured; a remote peer cannot add any. Within the engine a topic is a dense [`TopicIndex`], so that a
//! peer's subscriptions and mesh memberships are a [`TopicSet`] of one machine word, whatever the peer sends
//! (GHSA-g3g5-x568-qvqx and CVE-2026-46679 are about the maps that other implementations keep instead). Messages,
//! subscriptions and control for any other topic name are ignored.

use crate::id::Topic;
use std::sync::Arc;

/// The most topics that one engine can be configured with: the bits of a [`TopicSet`].
pub const TOPICS_MAX: usize = 32;

/// A configured topic, as an index below the number of configured topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIndex(pub u8);

impl TopicIndex {
    /// The index into per-topic tables.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of configured topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicSet(u32);

impl TopicSet {
    /// Whether the topic is in the set.
    #[must_use]
    pub fn contains(self, topic: TopicIndex) -> bool {
        self.0 & bit(topic) != 0
    }

    /// Adds the topic; false when it was in the set already.
    pub fn insert(&mut self, topic: TopicIndex) -> bool {
        let new = !self.contains(topic);
        self.0 |= bit(topic);
        new
    }

    /// Removes the topic; false when it was not in the set.
    pub fn remove(&mut self, topic: TopicIndex) -> bool {
        let present = self.contains(topic);
        self.0 &= !bit(topic);
        present
    }

    /// The topics of the set in ascending order.
    pub fn iter(self) -> impl Iterator<Item = TopicIndex> {
        (0..u8::try_from(TOPICS_MAX).expect("few topics")).map(TopicIndex).filter(move |topic| self.contains(*topic))
    }

    /// Whether the set has no topic.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

fn bit(topic: TopicIndex) -> u32 {
    assert!(topic.index() < TOPICS_MAX, "a topic index is below the number of configured topics");
    1 << topic.0
}

/// The configured topics, in the order of their configuration. Cloning copies a pointer, so that the engines of one process that share their
/// configuration look at the same names.
#[derive(Clone, Debug)]
pub struct TopicTable {
    names: Arc<[Topic]>,
}

impl TopicTable {
    /// The table of these topics.
    ///
    /// # Panics
    /// When there are more than [`TOPICS_MAX`]; the configuration's validation has excluded it.
    #[must_use]
    pub fn new(names: Vec<Topic>) -> Self {
        assert!(names.len() <= TOPICS_MAX, "at most {TOPICS_MAX} topics are configured");
        Self { names: names.into() }
    }

    /// The index of the topic, if it is configured. Tries pointers first, because decoders intern known topics.
    #[must_use]
    pub fn find(&self, topic: &Topic) -> Option<TopicIndex> {
        let position = self.names.iter().position(|name| name == topic)?;
        u8::try_from(position).ok().map(TopicIndex)
    }

    /// The name of the topic.
    #[must_use]
    pub fn name(&self, topic: TopicIndex) -> &Topic {
        &self.names[topic.index()]
    }

    /// All topics in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = TopicIndex> + use<> {
        (0..u8::try_from(self.names.len()).expect("few topics")).map(TopicIndex)
    }

    /// How many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no topics.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_says_what_changed() {
        let mut set = TopicSet::default();
        assert!(set.is_empty());
        assert!(set.insert(TopicIndex(3)));
        assert!(!set.insert(TopicIndex(3)));
        assert!(set.insert(TopicIndex(31)));
        assert_eq!(set.iter().collect::<Vec<_>>(), [TopicIndex(3), TopicIndex(31)]);
        assert!(set.remove(TopicIndex(3)));
        assert!(!set.remove(TopicIndex(3)));
    }

    #[test]
    fn only_configured_topics_are_found() {
        let table = TopicTable::new(vec![Topic::new("a"), Topic::new("b")]);
        assert_eq!(table.find(&Topic::new("b")), Some(TopicIndex(1)));
        assert_eq!(table.find(&Topic::new("c")), None);
        assert_eq!(table.name(TopicIndex(0)).as_str(), "a");
    }
}
