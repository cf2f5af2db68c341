//! Messages between their first copy and their verdict.
//!
//! [`Pending`] holds the validations under way, oldest first; their deadlines rise with their tickets, which are numbered in a row. Which
//! message is under which ticket, and who sent further copies of it, is remembered by [`super::recent`].
//!
//! Bounds: `pending_max` validations. A place stays for as long as an older validation is under way, which is a deadline at most.
//! Everything takes amortised constant time but [`Pending::postpone`] and [`Pending::of`].

use super::ValidationTicket;
use super::seen::Fingerprint;
use super::topic::TopicIndex;
use crate::id::PeerHandle;
use crate::memory::Fetch;
use crate::message::Payload;
use crate::time::{Duration, Time};
use std::collections::VecDeque;
use std::sync::Arc;

/// A validation under way.
#[derive(Debug)]
pub(super) struct Validation {
    pub(super) payload: Arc<Payload>,
    pub(super) key: Fingerprint,
    pub(super) topic: TopicIndex,
    /// Who sent the first copy.
    pub(super) from: PeerHandle,
    pub(super) deadline: Time,
}

/// The validations under way.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// By ticket from `first` on; none where the validation has ended. The first place is taken.
    places: VecDeque<Option<Validation>>,
    /// The ticket of the first place.
    first: u64,
    len: usize,
}

impl Pending {
    /// Starts a validation.
    pub(super) fn insert(&mut self, validation: Validation) -> ValidationTicket {
        self.places.push_back(Some(validation));
        self.len += 1;
        ValidationTicket(self.first + self.places.len() as u64 - 1)
    }

    /// Ends a validation; none when the ticket is not in force.
    pub(super) fn remove(&mut self, ticket: ValidationTicket) -> Option<Validation> {
        let place = self.place(ticket)?;
        let validation = self.places.get_mut(place)?.take()?;
        self.len -= 1;
        while matches!(self.places.front(), Some(None)) {
            self.places.pop_front();
            self.first += 1;
        }
        Some(validation)
    }

    /// Whether the ticket is in force.
    pub(super) fn contains(&self, ticket: ValidationTicket) -> bool {
        self.place(ticket).is_some_and(|place| matches!(self.places.get(place), Some(Some(_))))
    }

    /// The validations of what the peer sent first, in the order of their tickets. Takes time linear in all.
    pub(super) fn of(&self, peer: PeerHandle) -> Vec<(ValidationTicket, Fingerprint)> {
        self.iter().filter(|(_, it)| it.from == peer).map(|(ticket, it)| (ticket, it.key)).collect()
    }

    /// Somebody else sent the message, too, and stands in for the one who did first.
    pub(super) fn hand_over(&mut self, ticket: ValidationTicket, to: PeerHandle) {
        let place = self.place(ticket);
        if let Some(Some(validation)) = place.and_then(|place| self.places.get_mut(place)) {
            validation.from = to;
        }
    }

    fn place(&self, ticket: ValidationTicket) -> Option<usize> {
        usize::try_from(ticket.0.checked_sub(self.first)?).ok()
    }

    /// Has the oldest validation fetched; see [`Fetch`].
    pub(super) fn fetch(&self, fetch: &mut impl Fetch) {
        fetch.item(self.places.as_slices().0, 0);
    }

    /// The oldest validation and its deadline.
    pub(super) fn oldest(&self) -> Option<(ValidationTicket, Time)> {
        let validation = self.places.front()?.as_ref()?;
        Some((ValidationTicket(self.first), validation.deadline))
    }

    /// Moves all deadlines, but none beyond `latest`, which is that of a validation that would start now. Takes time linear
    /// in the validations under way.
    pub(super) fn postpone(&mut self, by: Duration, latest: Time) {
        for validation in self.places.iter_mut().flatten() {
            validation.deadline = (validation.deadline + by).min(latest);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All validations and their tickets, in the order of their tickets.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ValidationTicket, &Validation)> {
        let tickets = (self.first..).map(ValidationTicket);
        tickets.zip(&self.places).filter_map(|(ticket, place)| Some((ticket, place.as_ref()?)))
    }

    /// Asserts the count, that the first place is taken, and the order of the deadlines.
    pub(super) fn check(&self) {
        assert_eq!(self.iter().count(), self.len, "the count of validations has drifted");
        assert!(self.places.front().is_none_or(Option::is_some), "the first place is that of the oldest validation");
        let rising = self.iter().map(|(_, validation)| validation.deadline).is_sorted();
        assert!(rising, "deadlines must rise with tickets");
    }
}
