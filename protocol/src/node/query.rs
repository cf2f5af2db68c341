//! Reading the node's state, for the RPC and metrics. Hardly anything here changes what the node does.

use super::Node;
use crate::chain::{Chain, Location};
use crate::genesis::Genesis;
use crate::id::{PeerHandle, PeerId, TransactionId};
use crate::memory::MemoryLedger;
use crate::mempool::{self, Account, Mempool};
use crate::mesh::Mesh;
use crate::peers::PeerStats;
use crate::peers::bans::BanList;
use crate::peers::eviction::{self, Inbound, Newcomer};
use crate::sync::SyncProgress;
use crate::time::Time;
use starling_crypto::PublicKeyBytes;

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// It waits in the mempool.
    Pending,
    /// It stands in a canonical block.
    Included(Location),
    /// It expired without having been included.
    Expired,
    /// Another transaction used its nonce.
    Superseded,
    /// Nothing is known of it.
    Unknown,
}

/// What has begun and not ended; see [`Node::under_way`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Jobs that workers have not answered.
    pub verifications: usize,
    /// Blocks of whose verification a part is missing.
    pub blocks: usize,
    /// Payloads that wait to be stamped.
    pub payloads: usize,
    /// Requests to peers, blocks fetched and not placed, and loads from the store.
    pub fetches: usize,
    /// Submissions that wait for the disk, and transactions of an earlier life that are not verified again.
    pub transactions: usize,
}

impl Node {
    /// Which inbound peer should make room for such a newcomer when there is no place left for others; none if all are worth more than
    /// it is. Whoever asks lets [`eviction::EVICTION_INTERVAL`] pass between two evictions. It is remembered who was named
    /// last, whose going is no loss then.
    #[must_use]
    pub fn evictable(&mut self, now: Time, newcomer: Newcomer) -> Option<PeerHandle> {
        let inbound = self.connected.iter().flatten().filter_map(|(peer, id)| {
            let (since, ip, trusted, idle) = self.peers.inbound(id)?;
            let (rtt, brought, direct) = self.mesh.merit_of(*peer)?;
            let idle = idle && !self.mesh.is_in_a_mesh(*peer);
            let (merit, kept) = (self.peers.merit(id), trusted || direct);
            Some(Inbound { peer: *peer, ip, since, rtt, brought, merit, idle, kept })
        });
        let inbound: Vec<Inbound> = inbound.collect();
        let chosen = eviction::choose(now, &inbound, newcomer, self.peers.secret())?;
        if let Some(id) = self.peer_id(chosen) {
            self.peers.makes_room(id, newcomer);
        }
        Some(chosen)
    }

    /// The peers that have proven useful: an allowance of its own lets them in ([`Newcomer::Acquaintance`]).
    pub fn acquaintances(&self) -> impl Iterator<Item = &PeerId> {
        self.peers.acquaintances()
    }

    /// What kind of newcomer a peer would be.
    #[must_use]
    pub fn newcomer(&self, id: &PeerId) -> Newcomer {
        if self.peers.merit(id) > 0 { Newcomer::Acquaintance } else { Newcomer::Stranger }
    }

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

    /// Begins or stops to record what becomes of pending transactions; see [`Mempool::record_changes`].
    pub fn record_mempool_changes(&mut self, on: bool) {
        self.mempool.record_changes(on);
    }

    /// What became of pending transactions since this was last asked; see [`Mempool::take_changes`].
    pub fn take_mempool_changes(&mut self) -> Vec<mempool::Change> {
        self.mempool.take_changes()
    }

    /// The blocks.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What became of a transaction, as far as the memory knows; the store knows older inclusions.
    #[must_use]
    pub fn transaction_status(&self, id: &TransactionId) -> TransactionStatus {
        match (self.chain.transaction_location(id), self.mempool.status(id)) {
            (Some(location), _) => TransactionStatus::Included(location),
            (None, Some(mempool::Status::Pending { .. })) => TransactionStatus::Pending,
            (None, Some(mempool::Status::Expired)) => TransactionStatus::Expired,
            (None, Some(mempool::Status::Superseded)) => TransactionStatus::Superseded,
            (None, Some(mempool::Status::Evicted) | None) => TransactionStatus::Unknown,
        }
    }

    /// Numbers about connected and known peers.
    #[must_use]
    pub fn peer_stats(&self) -> PeerStats {
        self.peers.stats()
    }

    /// The peers that the node remembers, in the form of the file that outlives it.
    #[must_use]
    pub fn peers_file(&self) -> Vec<u8> {
        self.peers.to_file()
    }

    /// The bans.
    #[must_use]
    pub fn bans(&self) -> &BanList {
        self.peers.bans()
    }

    /// Drops bans that have ended; true if there were any.
    pub fn expire_bans(&mut self, now: Time) -> bool {
        let ended = self.peers.expire_bans(now);
        self.others_wake = self.find_others_wake();
        ended
    }

    /// Who a handle stands for, while the peer is connected.
    #[must_use]
    pub fn peer_id(&self, peer: PeerHandle) -> Option<PeerId> {
        let seat = self.connected.get(peer.index())?.as_ref()?;
        (seat.0 == peer).then_some(seat.1)
    }

    /// What the node has allocated, by component; estimates. Of the chain only what is in the machine itself.
    #[must_use]
    pub fn memory(&self) -> MemoryLedger {
        let mut ledger = MemoryLedger { node: size_of::<Self>(), ..MemoryLedger::default() };
        self.mesh.add_memory(&mut ledger);
        ledger.book += self.peers.memory_bytes();
        ledger.mempool += self.mempool.memory_bytes();
        ledger
    }

    /// What the node waits for or keeps on behalf of others at the moment. Nothing of it when no peer is connected and
    /// all that was asked of the driver has been answered.
    #[must_use]
    pub fn under_way(&self) -> UnderWay {
        UnderWay {
            verifications: self.verifications.len(),
            blocks: self.checks.len(),
            payloads: self.drafts.len(),
            fetches: self.chain.under_way(),
            transactions: self.storage().in_flight + self.restoring.len(),
        }
    }

    /// How far catching up has come.
    #[must_use]
    pub fn sync_progress(&self, now: Time) -> SyncProgress {
        self.chain.sync_progress(now)
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

    /// The account's next nonce by the chain alone; in a block of `slot`; none when the chain
    /// does not remember the account, which may then use any.
    #[must_use]
    pub fn next_nonce(&self, account: &Account, slot: u64) -> Option<u64> {
        self.chain.next_nonce(account, slot)
    }

    /// The nonce that the account's next transaction should carry, counting those that are pending or being stored.
    #[must_use]
    pub fn next_free_nonce(&self, account: &Account, slot: u64) -> u64 {
        let first = self.mempool.next_free_nonce(account, self.next_nonce(account, slot));
        self.free_nonce_from(account, first)
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
