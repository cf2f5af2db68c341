//! What each link brought, kept by the slot of its peer, for the distributions of [`super::messages`].
//!
//! Counting is an index and an addition. The table has a place for each slot of the network's peer table, which hands out the lowest
//! free slot and is bounded by the limits on connections; an event about a peer that has gone counts for nobody.

use super::messages::MessageMetrics;
use crate::api::MessageClass;
use starling_protocol::id::PeerHandle;
use starling_protocol::time::{Duration, Time};

/// Over how long first deliveries and duplicates of a link are added up.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// What a link brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// First copies, by class.
    pub first: [u64; MessageClass::ALL.len()],
    /// Further copies, by class.
    pub duplicate: [u64; MessageClass::ALL.len()],
}

#[derive(Debug)]
struct Link {
    peer: PeerHandle,
    /// Since it is connected.
    total: Deliveries,
    /// The total when the window began; none for a link that began within it.
    before: Option<Deliveries>,
}

/// The links of all connected peers.
#[derive(Debug, Default)]
pub struct Links {
    /// By slot.
    links: Vec<Option<Link>>,
    window_ends: Option<Time>,
}

impl Links {
    /// A link has come up.
    pub fn connected(&mut self, peer: PeerHandle) {
        if self.links.len() <= peer.index() {
            self.links.resize_with(peer.index() + 1, || None);
        }
        self.links[peer.index()] = Some(Link { peer, total: Deliveries::default(), before: None });
    }

    /// A link has gone.
    pub fn disconnected(&mut self, peer: PeerHandle) {
        if let Some(link) = self.links.get_mut(peer.index()) {
            link.take_if(|link| link.peer == peer);
        }
    }

    /// The link brought the first copy of a message.
    pub fn first(&mut self, peer: PeerHandle, class: MessageClass) {
        if let Some(link) = self.link_mut(peer) {
            link.total.first[class as usize] += 1;
        }
    }

    /// The link brought a further copy.
    pub fn duplicate(&mut self, peer: PeerHandle, class: MessageClass) {
        if let Some(link) = self.link_mut(peer) {
            link.total.duplicate[class as usize] += 1;
        }
    }

    /// What the link has brought since it is connected.
    #[must_use]
    pub fn deliveries(&self, peer: PeerHandle) -> Option<Deliveries> {
        let link = self.links.get(peer.index())?.as_ref().filter(|link| link.peer == peer)?;
        Some(link.total)
    }

    /// Ends the window if its time has come, and adds it to the distributions. To be called every second or so.
    pub fn report(&mut self, now: Time, metrics: &MessageMetrics) {
        let ends = *self.window_ends.get_or_insert(now + WINDOW);
        if now < ends {
            return;
        }
        self.window_ends = Some(now + WINDOW);
        for class in MessageClass::ALL {
            let (mut total, mut most) = (0, 0);
            for link in self.links.iter().flatten() {
                let Some(before) = link.before else { continue };
                let first = link.total.first[class as usize] - before.first[class as usize];
                let duplicates = link.total.duplicate[class as usize] - before.duplicate[class as usize];
                metrics.link_first_deliveries[class].observe(float(first));
                metrics.link_duplicates[class].observe(float(duplicates));
                total += first;
                most = most.max(first);
            }
            let share = if total == 0 { 0.0 } else { float(most) / float(total) };
            metrics.link_top_share[class].set(share);
        }
        for link in self.links.iter_mut().flatten() {
            link.before = Some(link.total);
        }
    }

    fn link_mut(&mut self, peer: PeerHandle) -> Option<&mut Link> {
        self.links.get_mut(peer.index())?.as_mut().filter(|link| link.peer == peer)
    }
}

/// A minute's count is far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "a minute's count is far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use prometheus_client::registry::Registry;
    use starling_protocol::id::HandleAllocator;

    fn line(metrics: &Metrics, line: &str) {
        let text = metrics.encode();
        let found: Vec<_> =
            text.lines().filter(|found| found.contains("_link_") && !found.contains("bucket")).collect();
        assert!(text.lines().any(|found| found == line), "{line} is missing from\n{}", found.join("\n"));
    }

    #[test]
    fn a_link_counts_in_the_windows_that_it_saw_whole() {
        let metrics = Metrics::new(Registry::default(), std::path::Path::new("/"));
        let mut handles = HandleAllocator::default();
        let (mut links, mut now) = (Links::default(), Time::ZERO);
        let (busy, quiet) = (handles.allocate(), handles.allocate());
        links.connected(busy);
        links.connected(quiet);
        links.report(now, &metrics.messages);
        links.first(busy, MessageClass::Transaction);
        now = now + WINDOW;
        links.report(now, &metrics.messages);
        // Nobody had been there for a whole window.
        line(&metrics, "starling_link_first_deliveries_count{class=\"transaction\"} 0");

        for _ in 0..3 {
            links.first(busy, MessageClass::Transaction);
        }
        links.first(quiet, MessageClass::Transaction);
        links.duplicate(quiet, MessageClass::Transaction);
        let late = handles.allocate();
        links.connected(late);
        links.first(late, MessageClass::Transaction);
        now = now + WINDOW;
        links.report(now - Duration::from_secs(1), &metrics.messages);
        line(&metrics, "starling_link_first_deliveries_count{class=\"transaction\"} 0");
        links.report(now, &metrics.messages);
        line(&metrics, "starling_link_first_deliveries_count{class=\"transaction\"} 2");
        line(&metrics, "starling_link_first_deliveries_sum{class=\"transaction\"} 4.0");
        line(&metrics, "starling_link_duplicates_sum{class=\"transaction\"} 1.0");
        line(&metrics, "starling_link_first_deliveries_top_ratio{class=\"transaction\"} 0.75");
        line(&metrics, "starling_link_first_deliveries_sum{class=\"block\"} 0.0");
        assert_eq!(links.deliveries(busy).expect("connected").first, [4, 0]);
    }

    #[test]
    fn a_slot_that_is_taken_again_starts_from_nothing() {
        let mut handles = HandleAllocator::default();
        let mut links = Links::default();
        let first = handles.allocate();
        links.connected(first);
        links.first(first, MessageClass::Block);
        links.disconnected(first);
        handles.release(first);
        let second = handles.allocate();
        assert_eq!(first.index(), second.index());
        links.connected(second);
        links.first(first, MessageClass::Block);
        assert_eq!(links.deliveries(second), Some(Deliveries::default()));
        assert_eq!(links.deliveries(first), None);
        // A late notice about the former peer must not end the present link.
        links.disconnected(first);
        assert!(links.deliveries(second).is_some());
    }
}
