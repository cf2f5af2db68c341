//! Pending transactions are offered to those who may lack them.
//!
//! A message is pushed once, and announced for some seconds to whoever is there. Who was not there, because the network was parted or a
//! node came later, would never hear of a transaction that is pending everywhere else: nobody sends it again but its origin, and that to peers
//! who have it.
//!
//! # Rules
//! 1. Once in each connection, the pending transactions are announced to the peer: at once if we dialled it, otherwise when it enters our
//!    mesh of transactions. *Rationale:* announcing thousands of ids to whoever connects is work that strangers could have us do as often
//!    as they like; whom to dial and who is in our mesh is our own choice.
//! 2. When blocks are undone, what came back of their transactions is announced to the mesh of transactions. *Rationale:* after a partition
//!    the transactions of the losing side are known on that side only, and there everybody has seen them.
//! 3. The youngest [`OFFERED_MAX`] are announced, and can be asked for during the next heartbeats. Who knows them does not ask.
//!
//! Other networks do the same on each new connection (devp2p, `eth`, "Transaction Exchange").
//!
//! # Cost
//! 22 bytes for each transaction and peer; the pool knows the messages.

use super::Node;
use super::io::Output;
use crate::block::Block;
use crate::id::{Direction, PeerHandle};
use crate::mesh::{self, Sink};
use crate::message::Payload;
use crate::time::Time;
use crate::transaction::Transaction;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many transactions are offered to a peer at a time. A guess: some seconds of a busy network, and 45 KB.
pub const OFFERED_MAX: usize = 2_048;

/// Whom the pending transactions were offered to.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// Connected peers.
    told: BTreeSet<PeerHandle>,
}

impl Offers {
    /// A peer is gone.
    pub(super) fn disconnected(&mut self, peer: PeerHandle) {
        self.told.remove(&peer);
    }

    pub(super) fn check(&self, is_connected: impl Fn(PeerHandle) -> bool) {
        assert!(self.told.iter().all(|peer| is_connected(*peer)), "offers are remembered of connected peers only");
    }
}

impl Node {
    /// Rule 1, for a new connection.
    pub(super) fn offer_if_dialled(
        &mut self,
        now: Time,
        peer: PeerHandle,
        direction: Direction,
        out: &mut impl Sink<Output>,
    ) {
        if direction == Direction::Outbound {
            self.offer_pending(now, peer, out);
        }
    }

    /// Rule 1: offers all that is pending to the peer, unless that was done on this connection.
    /// Says the same as [`Node::mesh_input`].
    pub(super) fn offer_pending(&mut self, now: Time, peer: PeerHandle, out: &mut impl Sink<Output>) -> bool {
        if self.mempool.is_empty() || self.peer_id(peer).is_none() || !self.offers.told.insert(peer) {
            return false;
        }
        let topic = self.genesis.transaction_topic();
        let payloads = self.mempool.youngest(OFFERED_MAX, |transaction| Payload::new(topic, transaction.bytes()));
        self.mesh_input(now, mesh::Input::Offer { peer, payloads: &payloads }, out)
    }

    /// Rule 2: offers what came back of the transactions of undone blocks.
    pub(super) fn offer_returned(&mut self, now: Time, undone: &[Block], out: &mut impl Sink<Output>) {
        let topic = self.genesis.transaction_topic();
        let message = |transaction: &Transaction| Payload::new(topic, transaction.bytes());
        let transactions = undone.iter().rev().flat_map(|block| block.transactions().iter().rev());
        let returned = transactions.filter_map(|transaction| self.mempool.message(&transaction.id(), message));
        let mut payloads: Vec<Arc<Payload>> = returned.take(OFFERED_MAX).collect();
        payloads.reverse();
        if payloads.is_empty() {
            return;
        }
        for peer in self.mesh.mesh_peers(self.genesis.transaction_topic()).to_vec() {
            self.mesh_input(now, mesh::Input::Offer { peer, payloads: &payloads }, out);
        }
    }
}
