//! Known topics, so that reading one allocates nothing.

use crate::id::Topic;
use std::sync::Arc;

/// The topics that this node knows. Cheap to clone; one set is shared by all connection tasks.
#[derive(Clone, Debug, Default)]
pub struct TopicInterner {
    /// Sorted by name, without duplicates.
    known: Arc<[Topic]>,
}

impl TopicInterner {
    /// An interner of these topics.
    #[must_use]
    pub fn new(topics: impl IntoIterator<Item = Topic>) -> Self {
        let mut known: Vec<Topic> = topics.into_iter().collect();
        known.sort();
        known.dedup();
        Self { known: known.into() }
    }

    /// The topic of this name: a shared one when it is known, a new one otherwise. Strangers' topics are not remembered, so
    /// that a peer cannot make this set grow.
    #[must_use]
    pub fn intern(&self, name: &str) -> Topic {
        match self.known.binary_search_by(|topic| topic.as_str().cmp(name)) {
            Ok(index) => self.known[index].clone(),
            Err(_) => Topic::new(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_topics_are_shared_and_strange_ones_still_read() {
        let known = Topic::new("b");
        let interner = TopicInterner::new([Topic::new("c"), known.clone(), Topic::new("a"), Topic::new("a")]);
        assert!(std::ptr::eq(interner.intern("b").as_str(), known.as_str()));
        assert_eq!(interner.intern("d").as_str(), "d");
    }
}
