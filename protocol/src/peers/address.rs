//! What an address says about who is behind it.
//!
//! A remote can invent any number of peer ids, but addresses of different networks are scarce. So everything that limits how
//! much one party can have counts by address: by **host** (IPv4 /32, IPv6 /56, which one customer usually has), by **subnet** (IPv4 /24,
//! IPv6 /48) and by **group** (IPv4 /16, IPv6 /32: roughly one network operator; the grouping of Bitcoin Core's addrman and of Heilman et
//! al., "Eclipse attacks on Bitcoin's peer-to-peer network", 2015). A 6to4 address falls into the group of its IPv4 address by itself,
//! because the first 32 bits of `2002:a.b.c.d::` contain the first 16 of that address.
//!
//! Loopback and private addresses are a network of their own in miniature: there every address is a group, so that a laboratory of
//! many nodes on one machine behaves like an internet of many operators. So that this helps nobody else, such an address is believed only
//! from a source of the same or a narrower [`Scope`]: what comes from the internet cannot tell of `10.0.0.1`.

use super::Address;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Codes of multiaddr components (<https://github.com/multiformats/multiaddr/blob/master/protocols.csv>), each below 128 and so one
/// byte as a varint.
const IP4: u8 = 4;
const IP6: u8 = 41;

/// From where an address can be reached, from the narrowest to the widest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// This machine.
    Loopback,
    /// A private or link-local network, or one behind a carrier's address translation (RFC 1918, 3927, 4193, 4291, 6598).
    Private,
    /// The internet, as far as the address tells.
    Global,
}

impl Scope {
    /// The scope of an address; none for one that nobody can be reached at (unspecified, multicast, broadcast, class E).
    #[must_use]
    pub fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Option<Self> {
        let [a, b, ..] = ip.octets();
        match (a, b) {
            (0 | 224..=255, _) => None,
            (127, _) => Some(Self::Loopback),
            (10, _) | (172, 16..=31) | (192, 168) | (169, 254) | (100, 64..=127) => Some(Self::Private),
            _ => Some(Self::Global),
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Option<Self> {
        match (ip, ip.segments()[0]) {
            (Ipv6Addr::UNSPECIFIED, _) | (_, 0xff00..) => None,
            (Ipv6Addr::LOCALHOST, _) => Some(Self::Loopback),
            (_, 0xfc00..=0xfdff | 0xfe80..=0xfebf) => Some(Self::Private),
            _ => Some(Self::Global),
        }
    }
}

/// The group of an address: see the module documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group {
    /// 4 or 6; 0 for [`Group::LOOKUPS`].
    family: u8,
    /// How many of the first bits are the same within the group.
    prefix_bits: u8,
    /// These bits, moved down.
    bits: u128,
}

impl Group {
    /// Not an address but a source: whatever lookups through others bring, whoever said it.
    pub const LOOKUPS: Self = Self { family: 0, prefix_bits: 0, bits: 0 };

    /// The group of an address; none for one that nobody can be reached at.
    #[must_use]
    pub fn of(ip: IpAddr) -> Option<Self> {
        let whole = Scope::of(ip)? < Scope::Global;
        Some(if whole { prefix(ip, 32, 128) } else { prefix(ip, 16, 32) })
    }

    /// All that tells it from others, as numbers to hash.
    pub(super) fn words(self) -> [u64; 3] {
        let bits = self.bits.to_be_bytes();
        let (high, low) = bits.split_at(8);
        let word = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        [u64::from(self.family) << 8 | u64::from(self.prefix_bits), word(high), word(low)]
    }

    /// What one host is taken to have.
    #[must_use]
    pub fn host(ip: IpAddr) -> Self {
        prefix(ip, 32, 56)
    }

    /// What one site is taken to have.
    #[must_use]
    pub fn subnet(ip: IpAddr) -> Self {
        prefix(ip, 24, 48)
    }

    /// Bytes for a keyed hash.
    pub(super) fn to_bytes(self) -> [u8; 18] {
        let mut bytes = [self.family; 18];
        bytes[1] = self.prefix_bits;
        bytes[2..].copy_from_slice(&self.bits.to_be_bytes());
        bytes
    }

    /// Whether it could have come from [`Group::of`] or is [`Group::LOOKUPS`].
    pub(super) fn is_possible(self) -> bool {
        let fits = |bits: u8| self.prefix_bits == bits && (bits == 128 || self.bits >> bits == 0);
        match self.family {
            0 => self == Self::LOOKUPS,
            4 => fits(16) || fits(32),
            6 => fits(32) || fits(128),
            _ => false,
        }
    }
}

fn prefix(ip: IpAddr, v4_bits: u8, v6_bits: u8) -> Group {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Group { family: 4, prefix_bits: v4_bits, bits: u128::from(ip.to_bits()) >> (32 - v4_bits) },
        IpAddr::V6(ip) => Group { family: 6, prefix_bits: v6_bits, bits: ip.to_bits() >> (128 - v6_bits) },
    }
}

/// The IP address that a binary multiaddr begins with; none for a name or for nonsense.
#[must_use]
pub fn ip_of(address: &Address) -> Option<IpAddr> {
    let (code, rest) = address.split_first()?;
    match *code {
        IP4 => rest.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        IP6 => rest.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes).to_canonical()),
        _ => None,
    }
}

/// Addresses of an IP address, a subnet in CIDR notation: what a ban can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    /// The lowest address in it.
    base: IpAddr,
    prefix_bits: u8,
}

/// Why text is no IP address or subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// It has another form.
    #[error("{0:?} is neither an IP address nor a subnet; write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")]
    Form(String),
    /// The prefix is longer than the address.
    #[error("a prefix of {prefix_bits} bits is longer than the address; use at most {max}")]
    Prefix {
        /// What was asked for.
        prefix_bits: u32,
        /// What is possible.
        max: u8,
    },
    /// Bits behind the prefix are set.
    #[error("{0} has bits set behind its prefix; the subnet is {1}")]
    Host(String, Subnet),
}

impl Subnet {
    /// The subnet of this prefix length around an address.
    ///
    /// # Errors
    /// When the prefix is longer than the address.
    pub fn new(ip: IpAddr, prefix_bits: u32) -> Result<Self, SubnetError> {
        let ip = ip.to_canonical();
        let max = address_bits(ip);
        let bits = u8::try_from(prefix_bits).ok().filter(|bits| *bits <= max);
        let prefix_bits = bits.ok_or(SubnetError::Prefix { prefix_bits, max })?;
        let base = match ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(u32::from(32 - prefix_bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(u32::from(128 - prefix_bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
            }
        };
        Ok(Self { base, prefix_bits })
    }

    /// Whether the address is in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.base.is_ipv4() && Self::new(ip, u32::from(self.prefix_bits)) == Ok(*self)
    }

    /// The lowest address in it.
    #[must_use]
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// How many of the first bits are fixed.
    #[must_use]
    pub fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }
}

fn address_bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

impl core::fmt::Display for Subnet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.prefix_bits == address_bits(self.base) {
            return self.base.fmt(f);
        }
        write!(f, "{}/{}", self.base, self.prefix_bits)
    }
}

impl core::str::FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let form = || SubnetError::Form(text.to_owned());
        let (ip, prefix_bits) = match text.split_once('/') {
            None => (text, None),
            Some((ip, bits)) => (ip, Some(bits.parse::<u32>().map_err(|_not_a_number| form())?)),
        };
        let ip: IpAddr = ip.parse().map_err(|_not_an_address| form())?;
        let ip = ip.to_canonical();
        let subnet = Self::new(ip, prefix_bits.unwrap_or(u32::from(address_bits(ip))))?;
        if subnet.base != ip {
            return Err(SubnetError::Host(text.to_owned(), subnet));
        }
        Ok(subnet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn public_addresses_are_grouped_by_network_and_local_ones_are_not() {
        let same = |a, b| Group::of(ip(a)) == Group::of(ip(b));
        assert!(same("198.51.100.1", "198.51.7.9") && !same("198.51.100.1", "198.52.100.1"));
        assert!(same("2a01:4f8:1::1", "2a01:4f8:2::1") && !same("2a01:4f8::1", "2a01:4f9::1"));
        assert!(same("::ffff:198.51.100.1", "198.51.1.1"), "an IPv4 address in IPv6 clothes");
        assert!(same("2002:c633:6401::1", "2002:c633:0101::1") && !same("2002:c633:6401::1", "2002:c634:6401::1"));
        assert!(!same("127.0.0.1", "127.0.0.2") && !same("10.0.0.1", "10.0.0.2") && !same("fd00::1", "fd00::2"));
        for nobody in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"] {
            assert_eq!(Group::of(ip(nobody)), None, "{nobody}");
        }
        for each in ["198.51.100.1", "2a01::1", "127.0.0.1", "fd00::1"] {
            assert!(Group::of(ip(each)).expect("reachable").is_possible(), "{each}");
        }
    }

    #[test]
    fn scopes_are_told_apart() {
        for (address, scope) in [
            ("127.9.9.9", Scope::Loopback),
            ("::1", Scope::Loopback),
            ("::ffff:127.0.0.1", Scope::Loopback),
            ("172.31.0.1", Scope::Private),
            ("172.32.0.1", Scope::Global),
            ("100.64.0.1", Scope::Private),
            ("100.128.0.1", Scope::Global),
            ("169.254.1.1", Scope::Private),
            ("fe80::1", Scope::Private),
            ("fec0::1", Scope::Global),
            ("2a01::1", Scope::Global),
        ] {
            assert_eq!(Scope::of(ip(address)), Some(scope), "{address}");
        }
    }

    #[test]
    fn the_ip_address_is_read_from_a_multiaddr() {
        assert_eq!(ip_of(&Bytes::from_static(&[4, 192, 0, 2, 1, 6, 0, 80])), Some(ip("192.0.2.1")));
        let v6 = [&[41][..], &ip_v6("2001:db8::1").octets()].concat();
        assert_eq!(ip_of(&v6.into()), Some(ip("2001:db8::1")));
        // A name (54, dns4), a truncated address, nothing.
        for none in [&[54, 1, b'a'][..], &[4, 192, 0, 2], &[]] {
            assert_eq!(ip_of(&Bytes::copy_from_slice(none)), None);
        }
    }

    fn ip_v6(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn subnets_are_read_strictly_and_contain_what_they_should() {
        let subnet: Subnet = "192.0.2.0/24".parse().expect("a subnet");
        assert!(subnet.contains(ip("192.0.2.255")) && subnet.contains(ip("::ffff:192.0.2.1")));
        assert!(!subnet.contains(ip("192.0.3.0")) && !subnet.contains(ip("2001:db8::1")));
        let all: Subnet = "::/0".parse().expect("a subnet");
        assert!(all.contains(ip("2001:db8::1")) && !all.contains(ip("192.0.2.1")));
        for text in ["192.0.2.1", "2001:db8::/32", "0.0.0.0/0", "fd00::1"] {
            assert_eq!(text.parse::<Subnet>().expect("a subnet").to_string(), text);
        }
        let remedy = |text: &str| text.parse::<Subnet>().expect_err("wrong").to_string();
        assert!(remedy("192.0.2.1/24").contains("the subnet is 192.0.2.0/24"));
        assert!(remedy("192.0.2.0/33").contains("at most 32"));
        assert!(remedy("example.org").contains("write 192.0.2.7"));
    }
}
