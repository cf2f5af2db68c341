//! What became of every message: for each node, when its first copy came, from whom, how, and how many followed.

use starling_protocol::id::MessageId;

use super::trace::{Class, How};

/// How long a message has to arrive at a node before the node's end is no excuse any more, in microseconds.
pub const ABSENCE_US: u64 = 5_000_000;

/// All messages of a run, by the time of their publishing.
#[derive(Debug, Clone)]
pub struct Deliveries {
    nodes: usize,
    messages: Vec<Message>,
    drain_end_us: u64,
    without_origin: usize,
    /// From when until when each node did not run.
    absences: Vec<(usize, u64, u64)>,
}

/// One message and its way through the network.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its content address.
    pub id: MessageId,
    /// Its class.
    pub class: Class,
    /// The node that published it.
    pub origin: usize,
    /// When the origin's engine handled the publish.
    pub t0_us: u64,
    /// The size of the payload.
    pub payload_bytes: u64,
    /// What each node received, the origin's own (duplicates only) included.
    pub receptions: Vec<Reception>,
}

/// What one node received of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reception {
    /// The first copy that came over the mesh.
    pub arrival: Option<Arrival>,
    /// When validation accepted it.
    pub accepted_us: Option<u64>,
    /// When it was seen inside a block before any copy of its own.
    pub in_block_us: Option<u64>,
    /// Copies of the payload received, the first one included.
    pub copies: u32,
    /// Mesh-frame bytes of all those copies.
    pub frame_bytes: u64,
    /// Whether the node has the message in the end, wherever from. Only simulations know it, and only of transactions.
    pub had_in_the_end: bool,
}

/// The coming of a first copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it was decoded.
    pub t_us: u64,
    /// The node that sent it; `None` if it is none of the network's.
    pub from: Option<usize>,
    /// Pushed or pulled.
    pub how: How,
}

/// What became of one message at one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The node published it.
    Origin,
    /// It came over the mesh in time, and was accepted.
    Delivered(Arrival),
    /// It came only inside a block, at this time.
    InBlock(u64),
    /// It did not come in time.
    Missing,
    /// The node did not run when it was published; or it did not come, and the node did not run throughout the time in which it should have.
    Absent,
}

impl Reception {
    /// Counts one more copy.
    pub(super) fn add_copy(&mut self, frame_bytes: u64) {
        self.copies = self.copies.saturating_add(1);
        self.frame_bytes = self.frame_bytes.saturating_add(frame_bytes);
    }
}

impl Deliveries {
    /// `messages` in the order of publishing, each with `nodes` receptions.
    #[must_use]
    pub fn new(nodes: usize, messages: Vec<Message>, drain_end_us: u64, without_origin: usize) -> Self {
        Self { nodes, messages, drain_end_us, without_origin, absences: Vec::new() }
    }

    /// The same network, in which nodes did not run from one time until another. What was published meanwhile is not expected of them, whether
    /// it comes afterwards or not, and what they did not get is not missing if it was published less than [`ABSENCE_US`] before.
    #[must_use]
    pub fn with_absences(mut self, absences: Vec<(usize, u64, u64)>) -> Self {
        self.absences = absences;
        self
    }

    /// How many nodes the network has.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// All messages, by the time of their publishing.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Messages that nodes received and none says to have published: their origin was killed before it wrote so.
    #[must_use]
    pub fn without_origin(&self) -> usize {
        self.without_origin
    }

    /// The messages of one class.
    pub fn of_class(&self, class: Class) -> impl Iterator<Item = &Message> + Clone {
        self.messages.iter().filter(move |message| message.class == class)
    }

    /// The same without the message of this class that was published first.
    #[must_use]
    pub fn without_first(&self, class: Class) -> Self {
        let first = self.messages.iter().position(|message| message.class == class);
        let kept = self.messages.iter().enumerate().filter(|(place, _)| Some(*place) != first);
        let messages = kept.map(|(_, message)| message.clone()).collect();
        Self { messages, absences: self.absences.clone(), ..*self }
    }

    /// What became of a message at a node.
    #[must_use]
    pub fn outcome(&self, message: &Message, node: usize) -> Outcome {
        let reception = &message.receptions[node];
        if node == message.origin {
            return Outcome::Origin;
        }
        match (reception.arrival, reception.in_block_us) {
            // How long it took to come afterwards says how long the node was away.
            _ if self.was_absent_between(node, message.t0_us, message.t0_us) => Outcome::Absent,
            // What came and was refused is not there.
            (Some(arrival), _) if arrival.t_us <= self.drain_end_us && reception.accepted_us.is_some() => {
                Outcome::Delivered(arrival)
            }
            _ if self.was_absent_between(node, message.t0_us, message.t0_us.saturating_add(ABSENCE_US)) => {
                Outcome::Absent
            }
            (_, Some(t_us)) if t_us <= self.drain_end_us => Outcome::InBlock(t_us),
            _ => Outcome::Missing,
        }
    }

    fn was_absent_between(&self, node: usize, from_us: u64, until_us: u64) -> bool {
        let mut of_node = self.absences.iter().filter(|(absent, ..)| *absent == node);
        of_node.any(|(_, gone_us, back_us)| *gone_us <= until_us && from_us <= *back_us)
    }

    /// The deliveries of a message over the mesh, by receiving node.
    pub fn arrivals<'a>(&'a self, message: &'a Message) -> impl Iterator<Item = (usize, Arrival)> + 'a {
        (0..self.nodes).filter_map(|node| match self.outcome(message, node) {
            Outcome::Delivered(arrival) => Some((node, arrival)),
            _ => None,
        })
    }

    /// Whether a delivery that is missing was made good later: the node fetched blocks that it had missed, and the message was in them.
    #[must_use]
    pub fn came_with_the_chain(&self, message: &Message, node: usize) -> bool {
        self.outcome(message, node) == Outcome::Missing && message.receptions[node].had_in_the_end
    }

    /// Every expected delivery that did not happen over the mesh: the message, the node, and whether the node at least
    /// saw the message inside a block.
    pub fn missing(&self) -> impl Iterator<Item = (&Message, usize, bool)> {
        self.messages.iter().flat_map(move |message| {
            (0..self.nodes).filter_map(move |node| match self.outcome(message, node) {
                Outcome::InBlock(_) => Some((message, node, true)),
                Outcome::Missing => Some((message, node, false)),
                Outcome::Origin | Outcome::Delivered(_) | Outcome::Absent => None,
            })
        })
    }
}

impl Message {
    /// How many links the first copy passed on its way to each node; zero for the origin, `None` where the chain of senders
    /// does not lead back to the origin (nothing came over the mesh, or a sender had it from a block).
    #[must_use]
    pub fn hops(&self) -> Vec<Option<u32>> {
        let mut receivers_of = vec![Vec::new(); self.receptions.len()];
        for (node, reception) in self.receptions.iter().enumerate() {
            if let Some(Arrival { from: Some(from), .. }) = reception.arrival {
                receivers_of[from].push(node);
            }
        }
        // Down the tree from the origin, so that nothing is assumed of the order of arrival times.
        let mut hops = vec![None; self.receptions.len()];
        hops[self.origin] = Some(0);
        let mut reached = vec![(self.origin, 0)];
        while let Some((sender, sender_hops)) = reached.pop() {
            for &node in &receivers_of[sender] {
                if hops[node].is_none() {
                    hops[node] = Some(sender_hops + 1);
                    reached.push((node, sender_hops + 1));
                }
            }
        }
        hops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_follow_the_chain_of_first_senders() {
        let arrival =
            |from| Reception { arrival: Some(Arrival { t_us: 5, from, how: How::Pushed }), ..Reception::default() };
        let message = Message {
            id: MessageId([0; 20]),
            class: Class::Block,
            origin: 1,
            t0_us: 0,
            payload_bytes: 1,
            receptions: vec![
                arrival(Some(3)),
                Reception::default(),
                arrival(Some(0)),
                arrival(Some(1)),
                arrival(None),
                arrival(Some(4)),
                Reception { in_block_us: Some(3), ..Reception::default() },
            ],
        };
        assert_eq!(message.hops(), [Some(2), Some(0), Some(3), Some(1), None, None, None]);
    }

    #[test]
    fn the_first_of_a_class_can_be_left_out() {
        let message = |number, class| Message {
            id: MessageId([number; 20]),
            class,
            origin: 0,
            t0_us: u64::from(number),
            payload_bytes: 1,
            receptions: vec![Reception::default()],
        };
        let (block, transaction) = (Class::Block, Class::Transaction);
        let messages = [(1, block), (2, transaction), (3, block), (4, transaction)];
        let messages = messages.map(|(number, class)| message(number, class)).into();
        let deliveries = Deliveries::new(1, messages, 60, 0).with_absences(vec![(0, 7, 9)]);
        let left = |class| {
            let left = deliveries.without_first(class);
            assert_eq!(left.absences, deliveries.absences);
            left.messages().iter().map(|message| message.id.0[0]).collect::<Vec<_>>()
        };
        assert_eq!((left(block), left(transaction)), (vec![2, 3, 4], vec![1, 3, 4]));
    }

    #[test]
    fn what_came_and_was_refused_was_not_delivered() {
        let arrival = Arrival { t_us: 20, from: Some(0), how: How::Pushed };
        let refused = Reception { arrival: Some(arrival), copies: 1, ..Reception::default() };
        let in_a_block = Reception { in_block_us: Some(30), ..refused };
        let accepted = Reception { accepted_us: Some(21), ..refused };
        let message = Message {
            id: MessageId([0; 20]),
            class: Class::Transaction,
            origin: 0,
            t0_us: 10,
            payload_bytes: 1,
            receptions: vec![Reception::default(), refused, in_a_block, accepted],
        };
        let deliveries = Deliveries::new(4, vec![message], 60, 0);
        let outcomes: Vec<Outcome> = (1..4).map(|node| deliveries.outcome(&deliveries.messages()[0], node)).collect();
        assert_eq!(outcomes, [Outcome::Missing, Outcome::InBlock(30), Outcome::Delivered(arrival)]);
    }

    #[test]
    fn what_was_published_while_a_node_did_not_run_is_not_expected_of_it() {
        let arrival = |t_us| {
            let arrival = Arrival { t_us, from: Some(0), how: How::Pushed };
            Reception { arrival: Some(arrival), accepted_us: Some(t_us), copies: 1, ..Reception::default() }
        };
        let (gone_us, back_us) = (20_000_000, 30_000_000);
        let outcome = |t0_us, reception| {
            let message = Message {
                id: MessageId([0; 20]),
                class: Class::Transaction,
                origin: 0,
                t0_us,
                payload_bytes: 1,
                receptions: vec![Reception::default(), reception],
            };
            let deliveries =
                Deliveries::new(2, vec![message], 60_000_000, 0).with_absences(vec![(1, gone_us, back_us)]);
            deliveries.outcome(&deliveries.messages()[0], 1)
        };
        let delivered = |t0_us, t_us| outcome(t0_us, arrival(t_us));
        assert!(matches!(delivered(gone_us - 1, gone_us - 1), Outcome::Delivered(_)));
        assert!(
            matches!(delivered(gone_us - 1, back_us + 9), Outcome::Delivered(_)),
            "it was there when it was published"
        );
        assert_eq!(delivered(gone_us, back_us + 9), Outcome::Absent);
        assert_eq!(delivered(back_us, back_us + 9), Outcome::Absent);
        assert!(matches!(delivered(back_us + 1, back_us + 9), Outcome::Delivered(_)));
        assert_eq!(outcome(gone_us - 5_000_000, Reception::default()), Outcome::Absent);
        assert_eq!(outcome(gone_us - 5_000_001, Reception::default()), Outcome::Missing);
    }
}
