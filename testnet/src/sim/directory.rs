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

/// In these blocks are the addresses that several attackers share, and no others.
const SHARED_FIRST: u32 = 20;
const SHARED_LAST: u32 = 23;

/// A public address of a group's own, for several attackers: one /16 for each of the first 1,024, so that they count as hosts of different networks.
#[must_use]
pub fn shared_address(group: u64, number: u64) -> IpAddr {
    let blocks = (SHARED_LAST - SHARED_FIRST + 1) * 256;
    let (number, group) = (u32::try_from(number).unwrap_or(u32::MAX), u32::try_from(group & 0xff).unwrap_or(0));
    let bits = (SHARED_FIRST * 256 + number % blocks) << 16 | group << 8 | ((number / blocks) & 0x7f) << 1 | 1;
    IpAddr::V4(Ipv4Addr::from_bits(bits))
}

/// So many addresses of the internet, for nodes of as many operators: no two of the first 50,000 are in the same /16.
pub(super) fn addresses(count: usize) -> Vec<IpAddr> {
    /// Odd, so that its multiples pass through all groups; large, so that neighbours are far apart.
    const STEP: u32 = 40_503;
    let groups = (0_u32..).map(|number| (number.wrapping_mul(STEP) & 0xffff, number >> 16));
    let public = groups.filter(|(group, _)| {
        let first = group >> 8;
        // Leaves out whole blocks of 256 groups of which a part is private or special, and those of attackers that share addresses: there
        // are enough others.
        !matches!(first, 0 | 10 | SHARED_FIRST..=SHARED_LAST | 100 | 127 | 169 | 172 | 192 | 198 | 203 | 224..)
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

    /// Else an honest node would have to answer for 160 attackers.
    #[test]
    fn attackers_share_no_address_with_anybody_else() {
        let all: BTreeSet<_> = addresses(50_000).into_iter().map(Group::of).collect();
        let shared: BTreeSet<_> = (0..1_024).map(|number| shared_address(3, number)).collect();
        assert_eq!(shared.iter().map(|ip| Group::of(*ip)).collect::<BTreeSet<_>>().len(), 1_024);
        assert!(shared.iter().all(|ip| !all.contains(&Group::of(*ip)) && Scope::of(*ip) == Some(Scope::Global)));
        assert!(!shared.contains(&shared_address(4, 0)) && !shared.contains(&shared_address(3, 1_024)));
    }

    #[test]
    fn ids_name_places() {
        assert_eq!(place_of(&peer_id(7)), Some(7));
        assert_eq!(place_of(&PeerId::from_number(0)), None);
        assert_eq!(PeerId::from_bytes(&[1; 34]).and_then(|id| place_of(&id)), None);
    }
}
