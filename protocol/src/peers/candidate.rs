//! A peer that the node is dealing with at the moment, and how many of them are in which state.

use super::{ADDRESSES_MAX, Address, DialPurpose, PeerBook, Standing};
use crate::id::{Direction, PeerId};
use crate::memory::tree_bytes;
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
    /// In how many turns it was of use since it is remembered here; of those that are no acquaintances.
    pub(super) merit: u8,
    /// Whether it was lost together with many others and is sought since ([`super::reunion`]).
    pub(super) missed: bool,
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
            merit: 0,
            missed: false,
            retry_at,
            state,
        }
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
#[derive(Default)]
pub(super) struct Counts {
    pub(super) connected: usize,
    pub(super) outbound: usize,
    pub(super) dialling: usize,
    pub(super) feelers: usize,
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
        let Counts { connected, outbound, dialling, feelers } = self.counts();
        let (new, tried) = self.book.sizes();
        let pinned = |(id, it): &(&PeerId, &Candidate)| it.standing > Standing::Heard && !self.book.contains(id);
        let pinned = self.candidates.iter().filter(pinned).count();
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
        tree_bytes::<(PeerId, Candidate)>(self.candidates.len()) + self.book.memory_bytes()
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for candidate in self.candidates.values() {
            match candidate.state {
                State::Idle => {}
                State::Dialling { purpose: DialPurpose::Connect, .. } => counts.dialling += 1,
                State::Dialling { purpose: DialPurpose::Feeler, .. } => counts.feelers += 1,
                State::Connected { direction, .. } => {
                    counts.connected += 1;
                    counts.outbound += usize::from(direction == Direction::Outbound);
                }
            }
        }
        counts
    }
}
