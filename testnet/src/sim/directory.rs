//! Who is who and where: peer ids and addresses of all places in the network.

use starling_protocol::id::PeerId;
use starling_protocol::peers::Address;
use std::net::{IpAddr, Ipv4Addr};

/// The id of the node in this place.
#[must_use]
pub fn peer_id(node: u32) -> PeerId {
    PeerId::from_number(u64::from(node) + 1)
}

/// The place of the node with this id, if it could be one of ours.
pub(super) fn place_of(id: &PeerId) -> Option<u32> {
    let number = u64::from_be_bytes(id.as_bytes().try_into().ok()?);
    u32::try_from(number.checked_sub(1)?).ok()
}

/// So many addresses of the internet, for nodes of as many operators: no two of the first 50,000 are in the same /16.
pub(super) fn addresses(count: usize) -> Vec<IpAddr> {
    /// Odd, so that its multiples pass through all groups; large, so that neighbours are far apart.
    const STEP: u32 = 40_503;
    let groups = (0_u32..).map(|number| (number.wrapping_mul(STEP) & 0xffff, number >> 16));
    let public = groups.filter(|(group, _)| {
        let first = group >> 8;
        // Leaves out whole blocks of 256 groups of which a part is private or special: there are enough others.
        !matches!(first, 0 | 10 | 100 | 127 | 169 | 172 | 192 | 198 | 203 | 224..)
    });
    public.take(count).map(|(group, round)| IpAddr::V4(Ipv4Addr::from_bits(group << 16 | round << 8 | 1))).collect()
}

/// The binary multiaddr of a node at this address.
pub(super) fn multiaddr(ip: IpAddr) -> Address {
    const TCP: [u8; 3] = [6, 0x23, 0x28];
    let bytes: Vec<u8> = match ip {
        IpAddr::V4(ip) => [4].into_iter().chain(ip.octets()).chain(TCP).collect(),
        IpAddr::V6(ip) => [41].into_iter().chain(ip.octets()).chain(TCP).collect(),
    };
    Address::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_protocol::peers::address::{Group, Scope, ip_of};
    use std::collections::BTreeSet;

    #[test]
    fn addresses_are_public_and_of_different_operators() {
        let all = addresses(50_000);
        let groups: BTreeSet<_> = all.iter().map(|ip| Group::of(*ip)).collect();
        assert_eq!(groups.len(), 50_000);
        assert!(all.iter().all(|ip| Scope::of(*ip) == Some(Scope::Global)));
        assert_eq!(ip_of(&multiaddr(all[7])), Some(all[7]));
        assert_eq!(addresses(100_000).iter().collect::<BTreeSet<_>>().len(), 100_000);
    }

    #[test]
    fn ids_name_places() {
        assert_eq!(place_of(&peer_id(7)), Some(7));
        assert_eq!(place_of(&PeerId::from_number(0)), None);
        assert_eq!(PeerId::from_bytes(&[1; 34]).and_then(|id| place_of(&id)), None);
    }
}
