//! What a node process is told of the network around it: the file behind its `--link-emulation` flag.
//!
//! Each node holds back what it sends, by the one-way delay to the peer that it sends to. The receiver adds nothing.
//! Peers are told apart by address, because every node of a testnet has a loopback address of its own.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::topology::Topology;

/// How a path is while something is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trouble {
    /// Added to the one-way delay.
    pub added_us: u64,
    /// Of a million segments, how many are lost and sent again.
    pub loss_ppm: u32,
    /// Whether nothing gets through.
    pub cut: bool,
}

/// The emulated links of one node. Written as TOML for the node to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkEmulation {
    /// What the node sends in all, to all its peers together; not limited if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uplink_bits_per_s: Option<u64>,
    /// Each frame is held back by up to this much more, drawn evenly.
    pub jitter_us_max: u64,
    /// From which the jitter is drawn.
    pub seed: u64,
    /// The one-way delay to an address that is not named below.
    pub default_delay_us: u64,
    /// After how long a connection fails whose path is cut; never if zero.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub dead_after_us: u64,
    /// The path to each other node.
    #[serde(default)]
    pub peer: Vec<PeerPath>,
}

/// The path to one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerPath {
    /// The peer's own address.
    pub ip: Ipv4Addr,
    /// From handing a frame to the transport until the peer can read it, without jitter and sending time.
    pub delay_us: u64,
    /// Of a million segments, how many are lost and sent again.
    #[serde(skip_serializing_if = "is_none", default)]
    pub loss_ppm: u32,
    /// Whether nothing gets through.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub cut: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_none(loss_ppm: &u32) -> bool {
    *loss_ppm == 0
}

impl LinkEmulation {
    /// The links of `node` to all others, whose addresses are `ips`, in the order of the topology.
    ///
    /// # Panics
    /// If there are not as many addresses as nodes.
    #[must_use]
    pub fn of(topology: &Topology, node: usize, ips: &[Ipv4Addr], seed: u64) -> Self {
        Self::troubled(topology, node, ips, seed, |_| Trouble::default())
    }

    /// The same while something is wrong with the paths to other nodes.
    ///
    /// # Panics
    /// If there are not as many addresses as nodes.
    #[must_use]
    pub fn troubled(
        topology: &Topology,
        node: usize,
        ips: &[Ipv4Addr],
        seed: u64,
        trouble: impl Fn(usize) -> Trouble,
    ) -> Self {
        assert_eq!(topology.nodes(), ips.len(), "one address for each node");
        let peers = ips.iter().enumerate().filter(|&(peer, _)| peer != node);
        let path = |(peer, ip): (usize, &Ipv4Addr)| {
            let Trouble { added_us, loss_ppm, cut } = trouble(peer);
            PeerPath { ip: *ip, delay_us: topology.one_way_us(node, peer) + added_us, loss_ppm, cut }
        };
        Self {
            uplink_bits_per_s: topology.site(node).uplink_bits_per_s,
            jitter_us_max: topology.profile().jitter_us_max(),
            // A TOML integer has 63 bits.
            seed: seed.wrapping_add(node as u64) & i64::MAX.unsigned_abs(),
            default_delay_us: 0,
            dead_after_us: 0,
            peer: peers.map(path).collect(),
        }
    }

    /// The file's text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("integers, addresses and a list of tables are always TOML")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wan::Profile;

    #[test]
    fn the_file_says_what_the_node_reads() {
        let topology = Topology::new(Profile::wan(), 3, 9);
        let ips = [1, 2, 3].map(|last| Ipv4Addr::new(127, 1, 0, last));
        let emulation = LinkEmulation::of(&topology, 1, &ips, 40);
        let text = emulation.to_toml();
        let first = format!("[[peer]]\nip = \"127.1.0.1\"\ndelay_us = {}\n", topology.one_way_us(1, 0));
        assert!(
            text.starts_with("uplink_bits_per_s = 50000000\njitter_us_max = 2000\nseed = 41\ndefault_delay_us = 0\n")
        );
        assert!(text.contains(&first), "{text}");
        assert!(!text.contains("127.1.0.2"), "a node has no link to itself");
        assert_eq!(toml::from_str::<LinkEmulation>(&text).expect("reads back"), emulation);
    }
}
