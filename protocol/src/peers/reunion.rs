//! Who was lost together is sought together: rule 11 of [`super`].
//!
//! A network that falls into parts and is whole again has no links between the parts: each has found peers enough within itself, and those
//! who were lost have failed so often that nobody dials them for minutes. One link between the parts is enough for both to know the better chain.
//!
//! # Rules
//! 1. When a quarter of the connected peers, and [`LOST_MIN`] at least, are lost within [`LOST_WITHIN`], they are *missed*, but for those that we
//!    sent away. *Rationale:* peers go one by one; many at once are a cut, or our own network that failed.
//! 2. A missed peer is dialled beyond every target, [`MISSED_RETRY`] after a failure, jittered as other waits are, whatever failed before; but no
//!    more than half of all dials in flight are such ones, and no two begin within [`MISSED_SPACING`]. A quarter of the dials are kept for them.
//! 3. It is missed no more when it is connected. When a quarter of those that were missed are connected again, or after
//!    [`MISSED_FOR`], nobody is missed any more: the parts are joined, and targets decide again.
//!
//! An attacker that disconnects from us with many peers at once is dialled some times a minute for an hour, by each node that it was connected with,
//! which is less than connecting costs; and it can win no more links than it has just given up.

use super::candidate::{Candidate, State};
use super::{DialPurpose, PeerAction, PeerBook, Standing};
use crate::id::PeerId;
use crate::time::{Duration, Time};
use std::collections::VecDeque;

/// Peers lost at once that are a cut, at least.
pub const LOST_MIN: usize = 2;
/// What is at once. A guess: longer than it takes to find out that a peer does not answer.
pub const LOST_WITHIN: Duration = Duration::from_secs(30);
/// How long after a failed dial a missed peer is dialled again.
pub const MISSED_RETRY: Duration = Duration::from_secs(5);
/// Between two dials of missed peers.
pub const MISSED_SPACING: Duration = Duration::from_millis(250);
/// For how long peers are missed.
pub const MISSED_FOR: Duration = Duration::from_secs(3_600);
/// Losses that are remembered: as many as there can be connections in any node that makes sense.
const LOSSES_MAX: usize = 256;

/// Who was lost of late, and who is missed.
#[derive(Debug, Default)]
pub(super) struct Reunion {
    /// The last losses, oldest first.
    losses: VecDeque<(Time, PeerId)>,
    /// How many of those that are missed may be connected again before nobody is missed any more; zero while nobody is.
    enough: usize,
    until: Time,
    next_at: Time,
}

impl PeerBook {
    /// A connection that we did not end has ended.
    pub(super) fn lost(&mut self, now: Time, id: PeerId) {
        let connected = self.candidates.counts().connected;
        let losses = &mut self.reunion.losses;
        while losses.front().is_some_and(|(at, _)| now.since(*at) > LOST_WITHIN) || losses.len() >= LOSSES_MAX {
            losses.pop_front();
        }
        losses.retain(|(_, other)| *other != id);
        losses.push_back((now, id));
        let lost = losses.len();
        if lost < LOST_MIN || lost * 4 < lost + connected {
            return;
        }
        for (_, id) in &self.reunion.losses {
            // The book may forget it meanwhile.
            let known = self.book.addresses(id).unwrap_or_default();
            self.candidates.change(*id, |candidate| {
                let was_lost = candidate.missed && !core::mem::take(&mut candidate.sought);
                if candidate.state != State::Idle || was_lost {
                    return;
                }
                candidate.add_addresses(known.iter());
                if !candidate.addresses.is_empty() {
                    candidate.missed = true;
                    candidate.retry_at = candidate.retry_at.min(now + MISSED_RETRY);
                }
            });
        }
        let lost = self.candidates.engaged().filter(|(_, it)| it.missed && !it.sought).count();
        self.reunion.enough = lost.div_ceil(4);
        self.reunion.until = now + MISSED_FOR;
    }

    /// How many are missed, for whatever reason.
    #[cfg(test)]
    pub(super) fn missed(&self) -> usize {
        self.candidates.engaged().filter(|(_, it)| it.missed).count()
    }

    /// A peer that was missed is connected.
    pub(super) fn found_again(&mut self, id: PeerId) {
        let found = self.candidates.change(id, |candidate| (candidate.sought, candidate.is_found()));
        match found {
            Some((true, true)) => self.found_one_sought(),
            Some((false, true)) => {
                self.reunion.enough = self.reunion.enough.saturating_sub(1);
                if self.reunion.enough == 0 {
                    self.miss_nobody();
                }
            }
            _ => {}
        }
    }

    /// The parts are joined, or are not going to be.
    fn miss_nobody(&mut self) {
        self.reunion.enough = 0;
        self.reunion.losses.clear();
        self.candidates.change_engaged(|_, candidate| {
            if !candidate.sought {
                candidate.is_found();
            }
        });
    }

    fn misses_anybody(&self) -> bool {
        self.reunion.enough > 0 || self.seeking.enough > 0
    }

    /// Dials those who are missed.
    pub(super) fn dial_missed(&mut self, now: Time, act: &mut impl FnMut(PeerAction)) {
        if self.reunion.enough > 0 && self.reunion.until <= now {
            self.miss_nobody();
        }
        if self.seeking.enough > 0 && self.seeking.until <= now {
            self.seek_nobody();
        }
        if !self.misses_anybody() {
            return;
        }
        if self.reunion.next_at > now || !self.may_dial_missed() {
            return;
        }
        let due = self.candidates.engaged().filter(|(id, it)| it.missed && self.can_be_dialled(now, id, it));
        // Who waits for longest: everybody has a turn.
        let first = due.min_by_key(|(_, it)| it.retry_at).map(|(id, _)| *id);
        if let Some(id) = first {
            self.reunion.next_at = now + MISSED_SPACING;
            self.dial(now, id, DialPurpose::Connect, act);
        }
    }

    /// When a missed peer is to be dialled next, or nobody is missed any more.
    pub(super) fn next_missed(&self) -> Option<Time> {
        if !self.misses_anybody() {
            return None;
        }
        let due = self
            .candidates
            .engaged()
            .filter(|(id, it)| it.missed && it.state == State::Idle && self.may_be_dialled(id, it));
        let due = due.map(|(_, it)| it.retry_at).min().filter(|_| self.may_dial_missed());
        let dial = due.map(|at| at.max(self.reunion.next_at));
        let ends = [(self.reunion.enough, self.reunion.until), (self.seeking.enough, self.seeking.until)];
        let ends = ends.into_iter().filter(|(enough, _)| *enough > 0).map(|(_, until)| until);
        ends.chain(dial).min()
    }

    /// Of the dials in flight, how many are kept free for those who are missed: whoever fills a book with addresses at which nobody answers
    /// would otherwise keep us from dialling anybody else.
    pub(super) fn kept_for_missed(&self) -> usize {
        if !self.misses_anybody() {
            return 0;
        }
        let waiting = self.candidates.engaged().filter(|(_, it)| it.missed && it.state == State::Idle).count();
        waiting.min(self.config.dials_max / 4)
    }

    fn may_dial_missed(&self) -> bool {
        let on_their_way = |(_, it): &(&PeerId, &Candidate)| it.missed && matches!(it.state, State::Dialling { .. });
        let dialling = self.candidates.engaged().filter(on_their_way).count();
        self.room() > 0 && dialling < (self.config.dials_max / 2).max(1)
    }
}

impl Candidate {
    /// It is missed no more; says whether it was.
    pub(super) fn is_found(&mut self) -> bool {
        let was = core::mem::take(&mut self.missed);
        self.sought = false;
        if was && self.standing == Standing::Heard && !self.anchor {
            self.addresses.clear();
        }
        was
    }
}
