//! Signed peer records: a peer's own word on where it listens (libp2p specs, RFC 0003).
//!
//! Peer exchange carries them from hand to hand, so they are believed only after their signature, and only about their signer.
//! rust-libp2p signs with a domain and payload type of its own unless told otherwise; both its form and the specified
//! one, which the other implementations use, are read.

use libp2p::core::{PeerRecord, SignedEnvelope};
use starling_protocol::id::PeerId;
use starling_protocol::peers::{ADDRESSES_MAX, Address};

/// The addresses in `record`, at most [`ADDRESSES_MAX`], if it is correctly signed by `id` and about `id`.
#[must_use]
pub fn verify_peer_record(id: PeerId, record: &[u8]) -> Option<Vec<Address>> {
    let envelope = SignedEnvelope::from_protobuf_encoding(record).ok()?;
    let record = PeerRecord::from_signed_envelope_interop(envelope.clone())
        .or_else(|_| PeerRecord::from_signed_envelope(envelope))
        .ok()?;
    // That the signer is the subject is checked by libp2p as well.
    if record.peer_id().to_bytes() != id.as_bytes() {
        return None;
    }
    Some(record.addresses().iter().take(ADDRESSES_MAX).cloned().map(super::network::to_address).collect())
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;
    use crate::net::network::to_protocol_id;

    #[test]
    fn a_record_speaks_for_its_signer_only_and_in_both_forms() {
        let keypair = Keypair::generate_ed25519();
        let id = to_protocol_id(&keypair.public().to_peer_id()).expect("an ed25519 id");
        let address: libp2p::Multiaddr = "/ip4/192.0.2.1/tcp/4001".parse().expect("an address");
        let legacy = PeerRecord::new(&keypair, vec![address.clone()]).expect("signed");
        let specified = PeerRecord::new_interop(&keypair, vec![address.clone()]).expect("signed");
        for record in [legacy, specified] {
            let mut bytes = record.into_signed_envelope().into_protobuf_encoding();
            assert_eq!(verify_peer_record(id, &bytes), Some(vec![address.to_vec().into()]));
            assert_eq!(verify_peer_record(PeerId::from_number(1), &bytes), None);
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            assert_eq!(verify_peer_record(id, &bytes), None);
        }
        assert_eq!(verify_peer_record(id, b"garbage"), None);
    }
}
