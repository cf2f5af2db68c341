//! Messages between their first copy and their verdict, and what is remembered of them shortly after.
//!
//! [`Pending`] holds the validations under way, oldest first; their deadlines rise with their tickets. [`Deliveries`]
//! remembers, for as long as a late copy can still count as a mesh delivery (the windows of P3), who has had the message
//! already: from us or to us. It serves one rule: **a copy counts for its sender at most once, and never when we had
//! sent the message to that peer before**. *Rationale:* otherwise a peer that only mirrors our messages back to us
//! earns the score of one that delivers.
//!
//! Bounds: `pending_max` validations; [`DELIVERIES_MAX`] remembered messages, the oldest forgotten first, each with at
//! most as many peers as are connected. All operations are logarithmic in these.

use super::ValidationTicket;
use super::topic::TopicIndex;
use crate::id::{MessageId, PeerHandle};
use crate::message::Payload;
use crate::time::{Duration, Time};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Accepted messages whose deliverers are remembered; two seconds of 4000 messages a second.
pub(super) const DELIVERIES_MAX: usize = 8_192;

/// A validation under way.
#[derive(Debug)]
pub(super) struct Validation {
    pub(super) payload: Arc<Payload>,
    pub(super) topic: TopicIndex,
    /// Who sent the first copy.
    pub(super) from: PeerHandle,
    /// Who sent further copies, each peer once; none of them is `from`.
    pub(super) copies: Vec<PeerHandle>,
    pub(super) deadline: Time,
}

/// The validations under way.
#[derive(Debug, Default)]
pub(super) struct Pending {
    by_ticket: BTreeMap<ValidationTicket, Validation>,
    by_id: BTreeMap<MessageId, ValidationTicket>,
    next: u64,
}

impl Pending {
    /// Starts a validation.
    pub(super) fn insert(&mut self, validation: Validation) -> ValidationTicket {
        let ticket = ValidationTicket(self.next);
        self.next += 1;
        self.by_id.insert(validation.payload.id(), ticket);
        self.by_ticket.insert(ticket, validation);
        ticket
    }

    /// Ends a validation; none when the ticket is not in force.
    pub(super) fn remove(&mut self, ticket: ValidationTicket) -> Option<Validation> {
        let validation = self.by_ticket.remove(&ticket)?;
        self.by_id.remove(&validation.payload.id());
        Some(validation)
    }

    /// The validation of this message.
    pub(super) fn find(&mut self, id: &MessageId) -> Option<&mut Validation> {
        self.by_ticket.get_mut(self.by_id.get(id)?)
    }

    /// The ticket of this message's validation.
    pub(super) fn ticket(&self, id: &MessageId) -> Option<ValidationTicket> {
        self.by_id.get(id).copied()
    }

    /// The oldest validation and its deadline.
    pub(super) fn oldest(&self) -> Option<(ValidationTicket, Time)> {
        self.by_ticket.first_key_value().map(|(ticket, validation)| (*ticket, validation.deadline))
    }

    /// Moves all deadlines, but none beyond `latest`, which is that of a validation that would start now. Takes time linear
    /// in the validations under way.
    pub(super) fn postpone(&mut self, by: Duration, latest: Time) {
        for validation in self.by_ticket.values_mut() {
            validation.deadline = (validation.deadline + by).min(latest);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_ticket.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Validation> {
        self.by_ticket.values()
    }

    /// Asserts that both indices name the same validations, in the order of their deadlines.
    pub(super) fn check(&self) {
        assert_eq!(self.by_ticket.len(), self.by_id.len(), "the index of validations by id has drifted");
        let mut last = Time::ZERO;
        for (ticket, validation) in &self.by_ticket {
            assert_eq!(self.by_id.get(&validation.payload.id()), Some(ticket), "{ticket:?} is missing from the index");
            assert!(validation.deadline >= last, "deadlines must rise with tickets");
            assert!(!validation.copies.contains(&validation.from), "the first sender is among the further copies");
            last = validation.deadline;
        }
    }
}

/// Who has had the messages accepted of late.
#[derive(Debug)]
pub(super) struct Deliveries {
    recent: BTreeMap<MessageId, Delivery>,
    order: VecDeque<(Time, MessageId)>,
    window: Duration,
}

#[derive(Debug)]
struct Delivery {
    accepted: Time,
    /// Who sent it to us or was sent it.
    holders: Vec<PeerHandle>,
}

impl Deliveries {
    /// Remembers for as long as `window` after acceptance.
    pub(super) fn new(window: Duration) -> Self {
        Self { recent: BTreeMap::new(), order: VecDeque::new(), window }
    }

    /// Remembers an accepted message and who has it. A message is accepted once, so it is not there yet.
    pub(super) fn accepted(&mut self, now: Time, id: MessageId, holders: Vec<PeerHandle>) {
        self.expire(now);
        if self.order.len() >= DELIVERIES_MAX
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
        if self.recent.insert(id, Delivery { accepted: now, holders }).is_none() {
            self.order.push_back((now, id));
        }
    }

    /// Notes that the peer has the message now. Answers when the message was accepted if the peer did not have it before
    /// and the message is remembered: only then may a copy from the peer count.
    pub(super) fn note(&mut self, id: &MessageId, peer: PeerHandle) -> Option<Time> {
        let delivery = self.recent.get_mut(id)?;
        if delivery.holders.contains(&peer) {
            return None;
        }
        delivery.holders.push(peer);
        Some(delivery.accepted)
    }

    /// Forgets what no window reaches any more.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some((accepted, id)) = self.order.front()
            && now.since(*accepted) > self.window
        {
            self.recent.remove(id);
            self.order.pop_front();
        }
    }

    /// Asserts the bound and that the order lists exactly what is remembered.
    pub(super) fn check(&self) {
        assert!(self.order.len() <= DELIVERIES_MAX, "more deliveries are remembered than allowed");
        assert_eq!(self.order.len(), self.recent.len(), "the order of deliveries has drifted");
        for (accepted, id) in &self.order {
            assert_eq!(self.recent.get(id).map(|delivery| delivery.accepted), Some(*accepted), "{id:?} is misplaced");
        }
    }
}
