//! Peers offered by a peer that pruned us: only what they signed themselves counts.

use libp2p::core::{PeerRecord, SignedEnvelope};
use starling_protocol::id::PeerId;
use starling_protocol::peers::Address;
use starling_protocol::rpc::ExchangedPeer;

/// The candidates whose records are signed by themselves, with the addresses in them (libp2p specs, RFC 0003).
pub(super) fn verified(candidates: &[ExchangedPeer]) -> impl Iterator<Item = (PeerId, Vec<Address>)> {
    candidates.iter().filter_map(|candidate| {
        let envelope = SignedEnvelope::from_protobuf_encoding(candidate.signed_record.as_ref()?).ok()?;
        let record = PeerRecord::from_signed_envelope(envelope).ok()?;
        if record.peer_id().to_bytes() != candidate.id.as_bytes() {
            return None;
        }
        let addresses = record.addresses().iter().map(|address| Address::from(address.to_vec())).collect();
        Some((candidate.id, addresses))
    })
}
