//! Feeds: what happens in the node, for whoever subscribes.
//!
//! # Promises
//! - **Nothing is computed while nobody listens.** The driver asks ([`Feeds::transactions_wanted`] and the like) before it
//!   puts an event together.
//! - **A subscriber never slows the node.** An event goes into each subscriber's queue or ends the subscription; nothing
//!   waits.
//! - **Bounded.** At most [`SUBSCRIPTIONS_MAX`] subscriptions; each queue holds at most [`QUEUE_EVENTS_MAX`] events and
//!   [`QUEUE_BYTES_MAX`] bytes (a filtered one [`FILTERED_BYTES_MAX`]). Subscribers without a filter share the events: each
//!   of their queues is an unbroken run of the latest ones, so together they keep no more than the longest.
//! - **Complete or ended.** A queue that is full ends its subscription, after what it holds: a subscriber learns that
//!   it missed something instead of going on with a gap. It can subscribe again and ask for the present state.
//!
//! # Cost
//! An event is encoded once, however many listen; each subscriber costs one comparison with its filter (logarithmic in
//! the filter's length) and one atomic increment.

use super::{ChainEvent, PeerEvent, TransactionEvent};
use serde::Serialize;
use starling_crypto::PublicKeyBytes;
use starling_protocol::id::TransactionId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Most subscriptions of all kinds together. A guess: dashboards and wallets of one node's operator.
pub const SUBSCRIPTIONS_MAX: usize = 128;

/// Most events in a queue. A block of the most transactions that fit makes some 256.
pub const QUEUE_EVENTS_MAX: usize = 4_096;

/// Most bytes in a queue, without a filter.
pub const QUEUE_BYTES_MAX: usize = 8 << 20;

/// Most bytes in a queue of a subscription with a filter, whose events are its own.
pub const FILTERED_BYTES_MAX: usize = 1 << 20;

/// Most transactions in one event, which bounds an event to some 15 kB.
pub const EVENT_TRANSACTIONS_MAX: usize = 64;

/// Most ids and most senders of a filter.
pub const FILTER_MAX: usize = 256;

/// What can be subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// [`TransactionEvent`]s of the transactions that the filter lets through.
    Transactions(TransactionFilter),
    /// [`ChainEvent`]s.
    Chain,
    /// [`PeerEvent`]s.
    Net,
}

/// Which transactions a subscriber wants to hear of: those with one of the ids, and those of one of the senders. Without
/// either, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// Transaction ids.
    pub ids: BTreeSet<TransactionId>,
    /// Senders.
    pub senders: BTreeSet<PublicKeyBytes>,
}

impl TransactionFilter {
    fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.senders.is_empty()
    }
}

/// The reading end of one subscription.
#[derive(Debug)]
pub struct Feed {
    events: mpsc::Receiver<Arc<str>>,
    queue: Arc<Queue>,
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedEnd {
    /// The subscriber did not keep up.
    #[error("the subscriber did not keep up with the events")]
    TooSlow,
    /// The node stops.
    #[error("the node is shutting down")]
    Stopped,
}

impl Feed {
    /// The next event, as JSON.
    ///
    /// # Errors
    /// When the subscription has ended and all that was queued has been handed out.
    pub async fn next(&mut self) -> Result<Arc<str>, FeedEnd> {
        match self.events.recv().await {
            Some(event) => {
                self.queue.bytes.fetch_sub(event.len(), Ordering::AcqRel);
                Ok(event)
            }
            None if self.queue.overflowed.load(Ordering::Acquire) => Err(FeedEnd::TooSlow),
            None => Err(FeedEnd::Stopped),
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    bytes: AtomicUsize,
    overflowed: AtomicBool,
}

/// The writing end of one subscription.
#[derive(Debug)]
struct Subscriber {
    filter: TransactionFilter,
    events: mpsc::Sender<Arc<str>>,
    queue: Arc<Queue>,
}

impl Subscriber {
    /// Queues an event; `false` when the subscription is over.
    fn offer(&self, event: &Arc<str>, bytes_max: usize) -> bool {
        let queued = self.queue.bytes.fetch_add(event.len(), Ordering::AcqRel);
        if queued + event.len() <= bytes_max {
            match self.events.try_send(Arc::clone(event)) {
                Ok(()) => return true,
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
                Err(mpsc::error::TrySendError::Full(_)) => {}
            }
        }
        self.queue.overflowed.store(true, Ordering::Release);
        false
    }
}

/// All subscriptions: the driver's end.
#[derive(Debug, Default)]
pub struct Feeds {
    transactions: Vec<Subscriber>,
    chain: Vec<Subscriber>,
    net: Vec<Subscriber>,
    dropped: u64,
}

impl Feeds {
    /// A new subscription; none when there are too many.
    pub fn subscribe(&mut self, topic: Topic) -> Option<Feed> {
        self.forget_gone();
        if self.len() >= SUBSCRIPTIONS_MAX {
            return None;
        }
        let (sender, events) = mpsc::channel(QUEUE_EVENTS_MAX);
        let queue = Arc::<Queue>::default();
        let (list, filter) = match topic {
            Topic::Transactions(filter) => (&mut self.transactions, filter),
            Topic::Chain => (&mut self.chain, TransactionFilter::default()),
            Topic::Net => (&mut self.net, TransactionFilter::default()),
        };
        list.push(Subscriber { filter, events: sender, queue: Arc::clone(&queue) });
        Some(Feed { events, queue })
    }

    /// How many subscriptions there are, as far as was noticed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.transactions.len() + self.chain.len() + self.net.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets subscribers that have gone. They are noticed at the next event otherwise, which may be long in coming.
    pub fn forget_gone(&mut self) {
        for list in [&mut self.transactions, &mut self.chain, &mut self.net] {
            list.retain(|subscriber| !subscriber.events.is_closed());
        }
    }

    /// Whether anybody listens to transactions.
    #[must_use]
    pub fn transactions_wanted(&self) -> bool {
        !self.transactions.is_empty()
    }

    /// Whether anybody listens to the chain.
    #[must_use]
    pub fn chain_wanted(&self) -> bool {
        !self.chain.is_empty()
    }

    /// Whether anybody listens to peers.
    #[must_use]
    pub fn net_wanted(&self) -> bool {
        !self.net.is_empty()
    }

    /// Subscriptions that ended because the subscriber did not keep up, since this was last asked.
    pub fn take_dropped(&mut self) -> u64 {
        core::mem::take(&mut self.dropped)
    }

    /// Tells what happened to transactions, any number of them.
    pub fn tell_transactions(&mut self, event: &TransactionEvent) {
        for transactions in event.transactions.chunks(EVENT_TRANSACTIONS_MAX) {
            let part = |transactions| TransactionEvent { event: event.event, block: event.block, transactions };
            let mut whole = None;
            let subscribers = core::mem::take(&mut self.transactions);
            self.transactions = self.keep(subscribers, |subscriber| {
                let filter = &subscriber.filter;
                if filter.is_empty() {
                    let json = whole.get_or_insert_with(|| encode(&part(transactions.to_vec())));
                    return subscriber.offer(json, QUEUE_BYTES_MAX);
                }
                let wanted = transactions.iter().filter(|transaction| {
                    filter.ids.contains(&transaction.id) || filter.senders.contains(&transaction.sender)
                });
                let wanted: Vec<_> = wanted.copied().collect();
                wanted.is_empty() || subscriber.offer(&encode(&part(wanted)), FILTERED_BYTES_MAX)
            });
        }
    }

    /// Tells of a new head.
    pub fn tell_chain(&mut self, event: &ChainEvent) {
        let json = encode(event);
        let subscribers = core::mem::take(&mut self.chain);
        self.chain = self.keep(subscribers, |subscriber| subscriber.offer(&json, QUEUE_BYTES_MAX));
    }

    /// Tells of a peer.
    pub fn tell_net(&mut self, event: &PeerEvent) {
        let json = encode(event);
        let subscribers = core::mem::take(&mut self.net);
        self.net = self.keep(subscribers, |subscriber| subscriber.offer(&json, QUEUE_BYTES_MAX));
    }

    fn keep(
        &mut self,
        mut subscribers: Vec<Subscriber>,
        mut offer: impl FnMut(&Subscriber) -> bool,
    ) -> Vec<Subscriber> {
        subscribers.retain(|subscriber| {
            let kept = offer(subscriber);
            self.dropped += u64::from(!kept && subscriber.queue.overflowed.load(Ordering::Acquire));
            kept
        });
        subscribers
    }
}

/// Events are plain data, of which JSON can express everything; a score that is no number would be null.
fn encode(event: &impl Serialize) -> Arc<str> {
    serde_json::to_string(event).unwrap_or_else(|error| format!("{{\"unencodable\":{:?}}}", error.to_string())).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BlockName, TransactionChange, TransactionName};
    use starling_crypto::Digest;
    use starling_protocol::id::BlockId;

    fn transaction(number: u8) -> TransactionName {
        let (id, sender) = (TransactionId(Digest([number; 32])), PublicKeyBytes([number % 10; 32]));
        TransactionName { id, sender, nonce: u64::from(number) }
    }

    fn accepted(numbers: impl IntoIterator<Item = u8>) -> TransactionEvent {
        let transactions = numbers.into_iter().map(transaction).collect();
        TransactionEvent { event: TransactionChange::Accepted, block: None, transactions }
    }

    fn chain_event(height: u64) -> ChainEvent {
        let block_id = BlockId(Digest::ZERO);
        ChainEvent {
            height,
            block_id,
            slot: height,
            transactions: Some(0),
            final_height: 0,
            undone: Vec::new(),
            adopted: vec![BlockName { height, block_id }],
        }
    }

    fn waiting(feed: &mut Feed) -> Vec<String> {
        std::iter::from_fn(|| feed.events.try_recv().ok()).map(|event| event.to_string()).collect()
    }

    #[tokio::test]
    async fn each_subscriber_hears_what_its_filter_lets_through() {
        let mut feeds = Feeds::default();
        assert!(!feeds.transactions_wanted());
        let mut all = feeds.subscribe(Topic::Transactions(TransactionFilter::default())).expect("room");
        let by_id = TransactionFilter { ids: [transaction(13).id].into(), senders: BTreeSet::new() };
        let mut by_id = feeds.subscribe(Topic::Transactions(by_id)).expect("room");
        let by_sender = TransactionFilter { ids: BTreeSet::new(), senders: [PublicKeyBytes([3; 32])].into() };
        let mut by_sender = feeds.subscribe(Topic::Transactions(by_sender)).expect("room");
        assert!(feeds.transactions_wanted() && !feeds.chain_wanted() && !feeds.net_wanted());

        feeds.tell_transactions(&accepted(0..100));
        let numbers = |feed: &mut Feed| -> Vec<Vec<u64>> {
            let events = waiting(feed).into_iter().map(|json| serde_json::from_str::<TransactionEvent>(&json));
            events.map(|event| event.expect("an event").transactions.iter().map(|t| t.nonce).collect()).collect()
        };
        assert_eq!(numbers(&mut all), [(0..64).collect::<Vec<_>>(), (64..100).collect()]);
        assert_eq!(numbers(&mut by_id), [[13]]);
        assert_eq!(numbers(&mut by_sender), [vec![3, 13, 23, 33, 43, 53, 63], vec![73, 83, 93]]);
    }

    #[tokio::test]
    async fn a_subscriber_that_does_not_read_is_dropped_and_told_so_after_what_it_had() {
        let mut feeds = Feeds::default();
        let mut lazy = feeds.subscribe(Topic::Chain).expect("room");
        let mut keen = feeds.subscribe(Topic::Chain).expect("room");
        for height in 0..=QUEUE_EVENTS_MAX as u64 {
            feeds.tell_chain(&chain_event(height));
            keen.next().await.expect("an event");
        }
        assert_eq!((feeds.len(), feeds.take_dropped(), feeds.take_dropped()), (1, 1, 0));
        for height in 0..QUEUE_EVENTS_MAX as u64 {
            let event: ChainEvent = serde_json::from_str(&lazy.next().await.expect("queued")).expect("an event");
            assert_eq!(event.height, height);
        }
        assert_eq!(lazy.next().await, Err(FeedEnd::TooSlow));
        drop(feeds);
        assert_eq!(keen.next().await, Err(FeedEnd::Stopped));
    }

    #[tokio::test]
    async fn queues_are_bounded_in_bytes_and_reading_makes_room() {
        let mut feeds = Feeds::default();
        let senders: BTreeSet<_> = (0..10).map(|number| PublicKeyBytes([number; 32])).collect();
        let filter = TransactionFilter { ids: BTreeSet::new(), senders };
        let mut lazy = feeds.subscribe(Topic::Transactions(filter.clone())).expect("room");
        let mut keen = feeds.subscribe(Topic::Transactions(filter)).expect("room");
        let mut told = 0;
        while feeds.len() == 2 {
            feeds.tell_transactions(&accepted(0..64));
            told += keen.next().await.expect("an event").len();
            assert!(told < 2 * FILTERED_BYTES_MAX, "it is never dropped");
        }
        let held: usize = waiting(&mut lazy).iter().map(String::len).sum();
        assert!(held <= FILTERED_BYTES_MAX && told > FILTERED_BYTES_MAX, "{held} held, {told} told");
    }

    #[tokio::test]
    async fn subscriptions_are_bounded_and_those_that_ended_make_room() {
        let mut feeds = Feeds::default();
        let mut held: Vec<_> = (0..SUBSCRIPTIONS_MAX).map(|_| feeds.subscribe(Topic::Net).expect("room")).collect();
        assert!(feeds.subscribe(Topic::Chain).is_none());
        held.pop();
        feeds.subscribe(Topic::Chain).expect("room again");
    }
}
