//! Peers offered by a peer that pruned us: only what they signed themselves counts.

use crate::net::peer_record::verify_peer_record;
use starling_protocol::id::PeerId;
use starling_protocol::peers::Address;
use starling_protocol::rpc::ExchangedPeer;

/// The candidates whose records are signed by themselves, with the addresses in them.
pub(super) fn verified(candidates: &[ExchangedPeer]) -> impl Iterator<Item = (PeerId, Vec<Address>)> {
    candidates.iter().filter_map(|candidate| {
        let addresses = verify_peer_record(candidate.id, candidate.signed_record.as_ref()?)?;
        Some((candidate.id, addresses))
    })
}
