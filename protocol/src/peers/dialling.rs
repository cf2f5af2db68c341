//! Whom to dial: rules 1 to 4 and 7 of [`super`].

use super::address::{Group, ip_of};
use super::candidate::{Candidate, Counts, State};
use super::reunion::MISSED_RETRY;
use super::{Address, BOOTNODE_SHARE, DOUBLINGS_MAX, DialPurpose, OUTBOUND_PER_GROUP, PeerAction, PeerBook, Standing};
use crate::id::{Direction, PeerId};
use crate::time::{Duration, Time};
use std::collections::BTreeMap;

impl PeerBook {
    /// Trusted peers and then the anchors, beyond every target.
    pub(super) fn dial_first(&mut self, now: Time, act: &mut impl FnMut(PeerAction)) {
        let mut first: Vec<(PeerId, bool)> = Vec::new();
        for (id, candidate) in self.candidates.engaged() {
            let trusted = candidate.standing == Standing::Trusted;
            if (trusted || candidate.anchor) && self.can_be_dialled(now, id, candidate) {
                first.push((*id, trusted));
            }
        }
        first.sort_by_key(|(_, trusted)| !trusted);
        for (id, _) in first {
            if self.room() > 0 {
                self.dial(now, id, DialPurpose::Connect, act);
            }
        }
    }

    /// Rule 3.
    pub(super) fn choose(&mut self, now: Time) -> Option<PeerId> {
        let bootnodes: Vec<PeerId> = self
            .candidates
            .engaged()
            .filter(|(id, it)| it.standing == Standing::Bootnode && self.can_be_dialled(now, id, it))
            .map(|(id, _)| *id)
            .collect();
        if !bootnodes.is_empty() && self.random.chance(1, BOOTNODE_SHARE) {
            return self.random.choose(&bootnodes).copied();
        }
        let present = self.outbound_groups();
        let few = |group: &Group| present.get(group).is_none_or(|count| *count < OUTBOUND_PER_GROUP);
        let Self { book, candidates, .. } = self;
        let free = |id: &PeerId| candidates.get(id).is_none_or(|it| it.state == State::Idle && it.retry_at <= now);
        let chosen = book.choose(|id, group| free(&id) && few(&group)).or_else(|| book.choose(|id, _| free(&id)));
        // An anchor or a trusted peer that is not in the tables has been dialled before.
        chosen.or_else(|| self.random.choose(&bootnodes).copied())
    }

    /// Rule 7.
    pub(super) fn feeler(&mut self, now: Time, act: &mut impl FnMut(PeerAction)) {
        let interval = crate::time::micros(self.config.feeler_interval);
        self.feeler_at = now + Duration::from_micros(interval / 2 + self.random.below(interval + 1));
        if self.wanted() > 0 || self.room() == 0 || self.candidates.counts().feelers > 0 {
            return;
        }
        let Self { book, candidates, .. } = self;
        let idle = |id| candidates.get(&id).is_none_or(|it| it.state == State::Idle && it.retry_at <= now);
        let connected = |id| candidates.get(&id).is_some_and(|it| matches!(it.state, State::Connected { .. }));
        if let Some(id) = book.choose_for_feeler(now, idle, connected) {
            self.dial(now, id, DialPurpose::Feeler, act);
        }
    }

    pub(super) fn dial(&mut self, now: Time, id: PeerId, purpose: DialPurpose, act: &mut impl FnMut(PeerAction)) {
        let known = self.book.addresses(&id).unwrap_or_default();
        let new = || Candidate::new(Standing::Heard, now, State::Idle);
        let mut addresses = self.candidates.change_or_insert(id, new, |candidate| {
            candidate.state = State::Dialling { since: now, purpose, answered: false };
            candidate.addresses.clone()
        });
        for address in known {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses.retain(|address| !self.bans.is_banned(None, ip_of(address), None));
        act(PeerAction::Dial { id, addresses, purpose });
    }

    /// A driver that never answers must not leak a place among the dials.
    pub(super) fn expire_dials(&mut self, now: Time) {
        let timeout = self.config.dial_timeout;
        let late: Vec<PeerId> = self
            .candidates
            .engaged()
            .filter(|(_, c)| matches!(c.state, State::Dialling { since, .. } if since + timeout <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.fail(now, id);
        }
    }

    /// How many more dials rules 2 and 12 ask for.
    pub(super) fn wanted(&self) -> usize {
        self.wanted_for(0) + self.renewal.vacant
    }

    /// How many more dials rule 2 would ask for if so many outbound peers were gone.
    pub(super) fn wanted_for(&self, gone: usize) -> usize {
        let Counts { connected, outbound, dialling, .. } = self.candidates.counts();
        let below_target = (self.target() + gone).saturating_sub(connected + dialling);
        let inbound = connected - outbound;
        let outbound_wanted = self.config.outbound_min.max((inbound * 3).div_ceil(7));
        below_target.max((outbound_wanted + gone).saturating_sub(outbound + dialling))
    }

    /// How many more dials may be in flight.
    pub(super) fn room(&self) -> usize {
        let Counts { dialling, feelers, .. } = self.candidates.counts();
        self.config.dials_max.saturating_sub(dialling + feelers)
    }

    /// Whether a candidate is not banned, and somebody knows where it is. A ban that has ended holds until it is dropped from the list.
    pub(super) fn may_be_dialled(&self, id: &PeerId, candidate: &Candidate) -> bool {
        let banned = |address: Option<&Address>| self.bans.is_banned(Some(*id), address.and_then(ip_of), None);
        if candidate.addresses.is_empty() {
            // Entries of the book that are banned have been forgotten.
            return self.book.contains(id) && !banned(None);
        }
        candidate.addresses.iter().any(|address| !banned(Some(address)))
    }

    pub(super) fn put_off(&mut self, now: Time, id: PeerId) {
        let Self { candidates, config, random, .. } = self;
        candidates.change(id, |candidate| {
            let doublings = candidate.failures.min(DOUBLINGS_MAX);
            candidate.failures = candidate.failures.saturating_add(1);
            let longest = if candidate.missed { MISSED_RETRY.min(config.retry_max) } else { config.retry_max };
            let delay = config.retry_first.saturating_mul(1 << doublings).min(longest);
            let jitter = random.below(crate::time::micros(delay) / 2 + 1);
            candidate.retry_at = now + delay + Duration::from_micros(jitter);
        });
    }

    pub(super) fn can_be_dialled(&self, now: Time, id: &PeerId, candidate: &Candidate) -> bool {
        candidate.state == State::Idle && candidate.retry_at <= now && self.may_be_dialled(id, candidate)
    }

    /// How many outbound links and dials there are in each group.
    fn outbound_groups(&self) -> BTreeMap<Group, usize> {
        let mut groups = BTreeMap::new();
        for (id, candidate) in self.candidates.engaged() {
            let group = match candidate.state {
                State::Connected { direction: Direction::Outbound, ip, .. } => Group::of(ip),
                State::Dialling { purpose: DialPurpose::Connect, .. } => {
                    self.book.group(id).or_else(|| candidate.addresses.first().and_then(ip_of).and_then(Group::of))
                }
                _ => None,
            };
            if let Some(group) = group {
                *groups.entry(group).or_insert(0) += 1;
            }
        }
        groups
    }
}
