//! A peer that the node is dealing with at the moment, and how many of them are in which state.

use super::{ADDRESSES_MAX, Address, DialPurpose, PeerBook, Standing};
use crate::id::{Direction, PeerId};
use crate::time::Time;
use std::net::IpAddr;

/// What is remembered of a peer beside the address book.
#[derive(Debug)]
pub(super) struct Candidate {
    /// What the operator or an anchor brought along, or was known of it when it was lost with many others; of others the address book knows.
    pub(super) addresses: Vec<Address>,
    pub(super) standing: Standing,
    /// Whether it was an anchor before the start and has not been reached since.
    pub(super) anchor: bool,
    pub(super) failures: u32,
    /// Whether we asked for the end of the connection because of what the peer did.
    pub(super) sent_away: bool,
    /// Whether we asked for the end of the connection because it was of no use ([`super::renewal`]).
    pub(super) makes_room: bool,
    /// In how many turns in a row it was of no use, since it is connected.
    pub(super) idle_turns: u8,
    /// In how many turns it was of use since it is remembered here; of those that are no acquaintances.
    pub(super) merit: u8,
    /// Whether it is dialled again and again beyond the target: it was lost together with many others ([`super::reunion`]), or is sought.
    pub(super) missed: bool,
    /// Whether that is only so because it is an acquaintance (`proven.rs`).
    pub(super) sought: bool,
    /// Whether we have ended its last connection because of what it did or did not do, for which it is put off.
    pub(super) kept_away: bool,
    /// Whether it is in the tables of the address book, as [`PeerBook::plan`] found it.
    pub(super) in_book: bool,
    /// Not to be dialled before.
    pub(super) retry_at: Time,
    pub(super) state: State,
}

/// What is going on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    Dialling {
        since: Time,
        purpose: DialPurpose,
        /// Whether it has answered, though there is no mesh stream yet.
        answered: bool,
    },
    Connected {
        since: Time,
        direction: Direction,
        ip: IpAddr,
    },
}

impl Candidate {
    pub(super) fn new(standing: Standing, retry_at: Time, state: State) -> Self {
        Self {
            addresses: Vec::new(),
            standing,
            anchor: false,
            failures: 0,
            sent_away: false,
            makes_room: false,
            idle_turns: 0,
            merit: 0,
            missed: false,
            sought: false,
            kept_away: false,
            in_book: false,
            retry_at,
            state,
        }
    }

    /// Whether there is nothing to know of it but until when it is put off, how often it has failed, and its merit.
    pub(super) fn rests(&self) -> bool {
        self.is_spare() && !self.anchor && !self.missed
    }

    /// Whether somebody knows where it is.
    pub(super) fn is_somewhere(&self) -> bool {
        self.in_book || !self.addresses.is_empty()
    }

    /// Whether it may be forgotten when there are too many.
    pub(super) fn is_spare(&self) -> bool {
        self.state == State::Idle && self.standing == Standing::Heard
    }

    /// Adds what is new; when there are more than [`ADDRESSES_MAX`], the oldest go.
    pub(super) fn add_addresses<'a>(&mut self, addresses: impl Iterator<Item = &'a Address>) {
        for address in addresses {
            if !self.addresses.contains(address) {
                if self.addresses.len() == ADDRESSES_MAX {
                    self.addresses.remove(0);
                }
                self.addresses.push(address.clone());
            }
        }
    }
}

/// Candidates by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) connected: usize,
    pub(super) outbound: usize,
    pub(super) dialling: usize,
    pub(super) feelers: usize,
    /// Those that may be forgotten.
    pub(super) spare: usize,
    /// Those that are in the address book.
    pub(super) in_book: usize,
}

impl Counts {
    pub(super) fn add(&mut self, candidate: &Candidate) {
        self.places(candidate).for_each(|place| *place += 1);
    }

    pub(super) fn remove(&mut self, candidate: &Candidate) {
        self.places(candidate).for_each(|place| *place -= 1);
    }

    /// Where a candidate is counted.
    fn places(&mut self, candidate: &Candidate) -> impl Iterator<Item = &mut usize> {
        let by_state = match candidate.state {
            State::Idle => [candidate.is_spare().then_some(&mut self.spare), None],
            State::Dialling { purpose: DialPurpose::Connect, .. } => [Some(&mut self.dialling), None],
            State::Dialling { purpose: DialPurpose::Feeler, .. } => [Some(&mut self.feelers), None],
            State::Connected { direction, .. } => {
                let outbound = direction == Direction::Outbound;
                [Some(&mut self.connected), outbound.then_some(&mut self.outbound)]
            }
        };
        let in_book = candidate.in_book.then_some(&mut self.in_book);
        by_state.into_iter().flatten().chain(in_book)
    }
}

/// Numbers about the book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Peers remembered.
    pub known: usize,
    /// Connected peers.
    pub connected: usize,
    /// Connected peers that we dialled.
    pub outbound: usize,
    /// Dials in flight, feelers included.
    pub dialling: usize,
    /// Entries of the address book that we were told of.
    pub new: usize,
    /// Entries of the address book that we reached.
    pub tried: usize,
    /// Anchors.
    pub anchors: usize,
    /// Peers that have proven useful.
    pub acquaintances: usize,
    /// Bans.
    pub bans: usize,
}

impl PeerBook {
    /// Numbers about the book.
    #[must_use]
    pub fn stats(&self) -> PeerStats {
        let Counts { connected, outbound, dialling, feelers, .. } = self.candidates.counts();
        let (new, tried) = self.book.sizes();
        let pinned = |(id, it): &(&PeerId, &Candidate)| it.standing > Standing::Heard && !self.book.contains(id);
        let pinned = self.candidates.engaged().filter(pinned).count();
        PeerStats {
            known: new + tried + pinned,
            connected,
            outbound,
            dialling: dialling + feelers,
            new,
            tried,
            anchors: self.book.anchors().len(),
            acquaintances: self.book.acquaintances().len(),
            bans: self.bans.len(),
        }
    }

    /// Bytes that the book has allocated, estimated.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.candidates.memory_bytes() + self.book.memory_bytes()
    }
}
