//! How many connected peers share an address (P6 of gossipsub v1.1).
//!
//! IPv4 addresses count one by one; IPv6 addresses count by /64, because that is what one subscriber is given. An
//! IPv4-mapped IPv6 address is the IPv4 address. Networks on the allow-list do not count at all.
//!
//! Only connected peers count, so the map has at most one entry per connected peer.

use crate::memory::tree_bytes;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address block: everything that shares the first `prefix_bits` of `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNetwork {
    /// Any address of the block.
    pub address: IpAddr,
    /// Bits that are fixed: up to 32 for IPv4 and up to 128 for IPv6; larger values mean the whole address.
    pub prefix_bits: u8,
}

impl IpNetwork {
    /// `127.0.0.0/8`.
    pub const LOOPBACK_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), prefix_bits: 8 };
    /// `::1/128`.
    pub const LOOPBACK_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix_bits: 128 };

    /// Whether the address lies in the block.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => {
                let free = 32_u32.saturating_sub(u32::from(self.prefix_bits));
                (mine.to_bits() ^ other.to_bits()).checked_shr(free).unwrap_or(0) == 0
            }
            (IpAddr::V6(mine), IpAddr::V6(other)) => {
                let free = 128_u32.saturating_sub(u32::from(self.prefix_bits));
                (mine.to_bits() ^ other.to_bits()).checked_shr(free).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// What counts as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AddressGroup {
    /// One IPv4 address.
    V4(Ipv4Addr),
    /// The upper half of an IPv6 address.
    V6(u64),
}

impl AddressGroup {
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self::V6([a, b, c, d].into_iter().fold(0, |bits, part| bits << 16 | u64::from(part)))
            }
        }
    }
}

/// Connected peers by address. Each address that has any is a number below the number of connected peers, so that counting a peer's
/// neighbours takes one step.
#[derive(Debug, Default)]
pub(super) struct Colocation {
    numbers: BTreeMap<AddressGroup, u32>,
    /// Peers by the number of their address; zero where the number is free.
    counts: Vec<u32>,
    free: Vec<u32>,
}

impl Colocation {
    /// One more peer at this address; returns its number.
    pub(super) fn insert(&mut self, group: AddressGroup) -> u32 {
        let Self { numbers, counts, free } = self;
        let number = *numbers.entry(group).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                counts.push(0);
                u32::try_from(counts.len() - 1).expect("fewer than 2^32 connected peers")
            })
        });
        counts[number as usize] += 1;
        number
    }

    /// One peer less at this address.
    pub(super) fn remove(&mut self, group: AddressGroup) {
        let Some(number) = self.numbers.get(&group).copied() else { return };
        let count = &mut self.counts[number as usize];
        *count -= 1;
        if *count == 0 {
            self.numbers.remove(&group);
            self.free.push(number);
        }
    }

    /// Peers at the address of this number.
    pub(super) fn count(&self, number: u32) -> u32 {
        self.counts[number as usize]
    }

    /// Bytes that are allocated, estimated.
    pub(super) fn memory_bytes(&self) -> usize {
        tree_bytes::<(AddressGroup, u32)>(self.numbers.len())
            + (self.counts.capacity() + self.free.capacity()) * size_of::<u32>()
    }

    /// Asserts that the counts are exactly those of the given peers.
    pub(super) fn check(&self, peers: impl Iterator<Item = (AddressGroup, u32)>) {
        let mut counts = BTreeMap::new();
        for (group, number) in peers {
            assert_eq!(self.numbers.get(&group), Some(&number), "a peer knows the number of its address");
            *counts.entry(group).or_insert(0) += 1;
        }
        let counted: BTreeMap<AddressGroup, u32> =
            self.numbers.iter().map(|(group, number)| (*group, self.count(*number))).collect();
        assert_eq!(counted, counts, "address counts must equal a recount of the connected peers");
        assert_eq!(self.numbers.len() + self.free.len(), self.counts.len(), "every number is in use or free");
    }
}
