//! What is being verified, by its ticket.
//!
//! Tickets rise, and verifications end nearly in the order in which they begin, so a list in the order of tickets finds each in O(log n) and
//! has little to move when it ends. At most [`NodeConfig::verifications_max`] are under way.
//!
//! [`NodeConfig::verifications_max`]: super::NodeConfig::verifications_max

use super::Ticket;
use crate::block::SignedHeader;
use crate::chain::VerifyTicket;
use crate::id::{MessageId, PeerHandle};
use crate::memory::Fetch;
use crate::mempool::Candidate;
use crate::mesh;
use crate::transaction::Transaction;
use std::collections::VecDeque;

/// What a verification is for.
#[derive(Debug)]
pub(super) enum Verification {
    /// A transaction that came over the mesh.
    Relay { validation: mesh::ValidationTicket, candidate: Candidate, peer: PeerHandle },
    /// A transaction that was submitted here.
    Submission { ticket: Ticket, transaction: Transaction },
    /// A transaction that an earlier life left on the disk, and whether it was submitted here.
    Restored { transaction: Transaction, own: bool },
    /// A block of so many bytes that came over the mesh: its header's signature, and decoding it.
    Relayed { validation: mesh::ValidationTicket, message: MessageId, bytes: usize, peer: PeerHandle },
    /// Headers that were asked for.
    Headers { ticket: VerifyTicket },
    /// Decoding a block that was asked for; its header, if that was verified.
    Decode { ticket: VerifyTicket, header: Option<Box<SignedHeader>> },
    /// A part of a block.
    Block { check: Ticket, header: bool },
    /// The stamp of the first draft.
    Stamp,
}

impl Verification {
    pub(super) fn is_of_block(&self, ticket: Ticket) -> bool {
        matches!(self, Self::Block { check, .. } if *check == ticket)
    }

    /// The validation of a message that waits for it.
    pub(super) fn validation(&self) -> Option<mesh::ValidationTicket> {
        match self {
            Self::Relay { validation, .. } | Self::Relayed { validation, .. } => Some(*validation),
            _ => None,
        }
    }

    /// Bytes of what a remote or a submitter sent that it keeps in memory. A block of which only the body is missing
    /// counts nothing: its producer has signed for it, or it was asked for.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Relay { candidate: Candidate { transaction, .. }, .. }
            | Self::Submission { transaction, .. }
            | Self::Restored { transaction, .. } => transaction.encoded_len(),
            Self::Relayed { bytes, .. } => *bytes,
            Self::Headers { .. } | Self::Decode { .. } | Self::Block { .. } | Self::Stamp => 0,
        }
    }
}

/// The verifications under way.
#[derive(Debug, Default)]
pub(super) struct Verifications {
    /// Ascending.
    by_ticket: VecDeque<(Ticket, Verification)>,
    /// Bytes that these keep in memory.
    bytes: usize,
}

impl Verifications {
    /// Begins one, of which the ticket is greater than any before.
    pub(super) fn insert(&mut self, ticket: Ticket, verification: Verification) {
        self.bytes = self.bytes.saturating_add(verification.bytes());
        self.by_ticket.push_back((ticket, verification));
    }

    /// Ends one.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Verification> {
        let place = self.by_ticket.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let (_, verification) = self.by_ticket.remove(place)?;
        self.bytes -= verification.bytes();
        Some(verification)
    }

    /// Has the oldest one fetched, and gives it from the second step on; see [`Fetch`].
    pub(super) fn first(&self, step: u8, fetch: &mut impl Fetch) -> Option<&Verification> {
        let (oldest, _) = self.by_ticket.as_slices();
        if step == 0 {
            fetch.item(oldest, 0);
            fetch.item(oldest, 1);
            return None;
        }
        oldest.first().map(|(_, verification)| verification)
    }

    pub(super) fn len(&self) -> usize {
        self.by_ticket.len()
    }

    /// Bytes that all of them keep in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of them, in the order of their tickets.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Ticket, Verification)> {
        self.by_ticket.iter()
    }

    /// Asserts the order and the count of bytes.
    pub(super) fn check(&self) {
        assert!(self.iter().is_sorted_by(|(a, _), (b, _)| a < b), "tickets rise");
        let bytes: usize = self.iter().map(|(_, each)| each.bytes()).sum();
        assert_eq!(bytes, self.bytes, "the count of bytes under verification has drifted");
    }
}
