//! Reading the node's state, for the RPC and metrics. Nothing here changes anything.

use super::Node;
use crate::genesis::Genesis;
use crate::id::{PeerHandle, PeerId};
use crate::mempool::{Account, Mempool};
use crate::mesh::Mesh;
use crate::peers::PeerStats;
use crate::time::Time;
use starling_crypto::PublicKeyBytes;

impl Node {
    /// The network.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The mesh.
    #[must_use]
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// The pending transactions.
    #[must_use]
    pub fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    /// Numbers about connected and known peers.
    #[must_use]
    pub fn peer_stats(&self) -> PeerStats {
        self.peers.stats()
    }

    /// Who a handle stands for, while the peer is connected.
    #[must_use]
    pub fn peer_id(&self, peer: PeerHandle) -> Option<PeerId> {
        let seat = self.connected.get(peer.index())?.as_ref()?;
        (seat.0 == peer).then_some(seat.1)
    }

    /// The slot at this moment; none before the network starts or without a wall clock.
    #[must_use]
    pub fn slot(&self, now: Time) -> Option<u64> {
        self.clock.slot(now, &self.genesis)
    }

    /// The slot for rules that need some number even before the network starts.
    pub(super) fn slot_or_zero(&self, now: Time) -> u64 {
        self.slot(now).unwrap_or(0)
    }

    /// The account's next nonce by the chain alone; none when the chain does not remember the account.
    #[must_use]
    pub fn next_nonce(&self, account: &Account) -> Option<u64> {
        let _ = account;
        None
    }

    /// The nonce that the account's next transaction should carry, counting those that are pending.
    #[must_use]
    pub fn next_free_nonce(&self, account: &Account) -> u64 {
        self.mempool.next_free_nonce(account, self.next_nonce(account))
    }

    /// The account that payloads are signed for.
    #[must_use]
    pub fn account(&self) -> Option<PublicKeyBytes> {
        self.account.as_ref().map(|key| key.public_key().to_bytes())
    }

    /// The key that blocks are made with.
    #[must_use]
    pub fn producer(&self) -> Option<PublicKeyBytes> {
        self.producer.as_ref().map(|key| key.public_key().to_bytes())
    }
}
