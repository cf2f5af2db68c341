//! Peers that have proven useful: how they are told from others, sought after a start, and known again when they come; rule 8 of [`super`].
//!
//! Whoever takes all places for others at all nodes, and fills their address books, has won by the time that a node restarts: nearly all that it
//! dials are attackers, the honest ones have no room for it, and one link in fifty is honest. So both ends of a link that was of use remember it
//! ([`acquaintances`](super::book::acquaintances)):
//!
//! 1. **A start is a loss of everybody**: acquaintances are sought from then on, and again while the node is ill served ([`super::renewal`]), and dialled by the rules of
//!    [`super::reunion`] until [`FOUND`] of them have been of use again, or half of them are connected. *Rationale:* those who were of use until they
//!    turned against everybody are acquaintances, too.
//! 2. **An acquaintance that dials us is let in** even if all places for others are taken: somebody makes room who would have to for
//!    a stranger, too, but an allowance of its own says how often ([`super::eviction`]), so that a crowd of strangers at the door is no obstacle.
//! 3. **Some acquaintances are not evicted**, those of most merit.
//! 4. **Meshes have places for acquaintances** that are connected again, by the rules of `mesh::proven`.
//!
//! *Rationale:* Heilman et al. (2015) propose anchors, which a node remembers of itself, and which are of no help where those have no room for
//! it; Bitcoin Core reserves places for peers that were of use, but forgets them with the connection. Together, and at both ends, the two make it
//! enough that one of a node's former peers is still there.

use super::address::Group;
use super::book::acquaintances::{Acquaintance, FADES_AFTER};
use super::candidate::{Candidate, State};
use super::reunion::MISSED_FOR;
use super::{PeerBook, Standing};
use crate::id::{Direction, PeerId};
use crate::time::{Duration, Time};

/// Within how long a new acquaintance is written down. A guess: it is worth more than an address, and less than an anchor.
const SAVED_WITHIN: Duration = Duration::from_secs(30);

/// Within how long the dials of acquaintances begin when they are sought, as far as their number allows.
const SOUGHT_WITHIN: Duration = Duration::from_secs(1);
/// After a start acquaintances are sought until so many have been of use, or half of all are connected. A guess: a mesh of them.
const FOUND: usize = 6;

/// For how long acquaintances are sought.
#[derive(Debug, Default)]
pub(super) struct Seeking {
    /// How many more have to be connected; zero while nobody is sought.
    pub(super) enough: usize,
    pub(super) until: Time,
    /// Whether it is because the node is ill served, rather than because it has just started.
    ill: bool,
}

impl PeerBook {
    /// Whether this peer has proven useful, and in how many turns: zero if it is no acquaintance.
    #[must_use]
    pub fn merit(&self, id: &PeerId) -> u8 {
        self.book.acquaintances().merit(id)
    }

    /// Those that have proven useful.
    pub fn acquaintances(&self) -> impl Iterator<Item = &PeerId> {
        self.book.acquaintances().iter().map(|(id, _)| id)
    }

    /// A turn is over: `served_at` says when each connected peer last brought a copy of an accepted message that it did not have from us. To be
    /// told every few seconds, before [`Self::mesh_has`].
    pub fn credit(&mut self, now: Time, served_at: impl Fn(&PeerId) -> Option<Time>) {
        let since = core::mem::replace(&mut self.credited_at, now);
        if self.fades_at <= now {
            self.fades_at = now + FADES_AFTER;
            self.book.acquaintances_mut().fade();
            self.unsaved = true;
        }
        let mut news = false;
        let Self { candidates, book, found, .. } = self;
        candidates.change_engaged(|id, candidate| {
            let State::Connected { direction, ip, .. } = candidate.state else { return };
            let Some(group) = Group::of(ip).filter(|_| served_at(id).is_some_and(|at| at > since)) else { return };
            candidate.merit = candidate.merit.saturating_add(1);
            *found += usize::from(candidate.merit == 1 && book.acquaintances().merit(id) > 0);
            let addresses = book.addresses(id).unwrap_or(&candidate.addresses).to_vec();
            let dialled = direction == Direction::Outbound;
            let acquaintance = Acquaintance { addresses, group, dialled, merit: candidate.merit };
            news |= book.acquaintances_mut().credit(*id, acquaintance);
        });
        if self.found >= FOUND && !self.found_all {
            self.found_all = true;
            self.seek_nobody();
            self.plan();
        }
        if news {
            self.unsaved = true;
            self.save_at = self.save_at.min(now + SAVED_WITHIN);
            self.plan();
        }
    }

    /// Learns who of the connected peers is in our mesh, and names the anchors. To be told every now and then.
    pub fn mesh_has(&mut self, now: Time, in_mesh: impl Fn(&PeerId) -> bool) {
        let mut standing: Vec<(bool, Time, PeerId)> = Vec::new();
        for (id, candidate) in self.candidates.engaged() {
            if let State::Connected { since, direction: Direction::Outbound, .. } = candidate.state
                && in_mesh(id)
            {
                standing.push((self.merit(id) == 0, since, *id));
            }
        }
        standing.sort_unstable();
        let former = self.book.anchors().iter().map(|anchor| anchor.id);
        let former: Vec<PeerId> = former.filter(|id| standing.iter().all(|(_, _, other)| other != id)).collect();
        let ids: Vec<PeerId> = standing.into_iter().map(|(_, _, id)| id).chain(former).collect();
        if self.book.set_anchors(&ids) {
            self.unsaved = true;
            self.save_at = self.save_at.min(now + self.config.save_soon);
            self.plan();
        }
    }

    /// Acquaintances that are not connected are sought from now on, until half of all are connected; but whom we have sent away keeps away for as long as anybody would. With
    /// `ill` only for as long as the node is ill served.
    pub(super) fn seek_acquaintances(&mut self, now: Time, ill: bool) {
        let known: Vec<(PeerId, Acquaintance)> =
            self.book.acquaintances().iter().map(|(id, it)| (*id, it.clone())).collect();
        let (mut connected, mut sought) = (0, 0);
        for (id, known) in known {
            if id == self.own {
                self.book.acquaintances_mut().forget(&id);
                continue;
            }
            let has_room = self.candidates.counts().spare < self.config.candidates_max;
            if known.addresses.is_empty() || !has_room && self.candidates.get(&id).is_none() {
                continue;
            }
            // In no order that anybody else could know.
            let at = now + Duration::from_micros(self.random.below(crate::time::micros(SOUGHT_WITHIN)));
            let new = || Candidate::new(Standing::Heard, at, State::Idle);
            self.candidates.change_or_insert(id, new, |candidate| match candidate.state {
                State::Connected { .. } => connected += 1,
                State::Idle if !candidate.missed && (!candidate.kept_away || candidate.retry_at <= now) => {
                    candidate.add_addresses(known.addresses.iter());
                    (candidate.missed, candidate.sought) = (true, true);
                    candidate.retry_at = candidate.retry_at.min(at);
                    sought += 1;
                }
                State::Idle | State::Dialling { .. } => sought += usize::from(candidate.sought),
            });
        }
        let enough = (connected + sought).div_ceil(2).saturating_sub(connected);
        if self.seeking.enough == 0 {
            self.seeking.ill = ill;
        }
        (self.seeking.enough, self.seeking.until) = (enough, now + MISSED_FOR);
        if enough == 0 {
            self.seek_nobody();
        }
    }

    /// An acquaintance that was sought is connected.
    pub(super) fn found_one_sought(&mut self) {
        self.seeking.enough = self.seeking.enough.saturating_sub(1);
        if self.seeking.enough == 0 {
            self.seek_nobody();
        }
    }

    /// The node is not ill served any more.
    pub(super) fn is_well_served(&mut self) {
        if core::mem::take(&mut self.seeking.ill) {
            self.seek_nobody();
            self.plan();
        }
    }

    pub(super) fn seek_nobody(&mut self) {
        self.seeking = Seeking::default();
        self.candidates.change_engaged(|_, candidate| {
            if candidate.sought {
                candidate.is_found();
            }
        });
    }
}
