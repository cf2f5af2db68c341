//! Link emulation: what a wide-area link would do to this node's outgoing bytes, done inside its
//! own TCP transport.
//!
//! # What it promises
//!
//! Every node shapes its own egress, under the encryption, so that whatever a node writes to a
//! remote address is delayed and rate-limited as if a real link lay between the two:
//!
//! 1. **One uplink.** All connections of a node share one rate. A write is refused (`Pending`)
//!    while the uplink is busy for more than [`schedule::BACKLOG`] ahead, and waiting
//!    connections are served one chunk each in the order in which they began to wait.
//!    *Rationale:* a buffer that accepted everything at once and released it slowly would make
//!    the priorities and cancellations of the send queues above it meaningless.
//! 2. **Delay.** Admitted bytes are due at `departure + delay(remote) + jitter`, where the
//!    departure is the time at which the uplink has sent their last bit, and jitter is uniform in
//!    `[0, jitter_us_max]`. Due times never decrease within a connection: TCP keeps order.
//! 3. **Bounded.** The bytes in flight on a connection are at most rate x delay, and never more
//!    than [`IN_FLIGHT_BYTES_MAX`].
//! 4. **Connecting costs a round trip**, as the handshake of TCP does.
//! 5. **Closing loses nothing**: what was accepted is still delivered when due, then the write
//!    side of the socket is shut down.
//! 6. **No cost when off.** Without a configuration there is no timer thread and no buffer.
//!
//! Loss, congestion control and the receiver's downlink are not modelled; `docs/LINK-EMULATION.md`
//! says what that means and states the measured error.
//!
//! The arithmetic is in [`schedule`] (pure, tested in virtual time), the clockwork in [`timer`],
//! and what couples both to sockets in [`mod@line`].

pub mod line;
pub mod schedule;
pub mod timer;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Most bytes that one connection may have in flight (written, but not due yet), whatever the
/// rate and the delay. 4 MiB carries 400 Mbit/s over 80 ms; a guess at what a tuned TCP window
/// would allow.
pub const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;

/// Longest one-way delay and jitter that a configuration may ask for: 10 s.
pub const DELAY_US_MAX: u32 = 10_000_000;

/// Lowest uplink rate that a configuration may ask for: 8 kbit/s, one kilobyte a second.
pub const UPLINK_BITS_PER_S_MIN: u64 = 8_000;

/// How this node's outgoing links behave, as read from a TOML file.
///
/// ```toml
/// seed = 7
/// uplink_bits_per_s = 50000000   # 0: unlimited
/// default_delay_us = 40000       # one way, to addresses that are not listed
/// jitter_us_max = 2000           # uniform from 0
///
/// [[peer]]
/// ip = "127.1.0.2"
/// delay_us = 35000
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkEmulation {
    /// Seed of the jitter. Nodes of one testnet should have different seeds.
    #[serde(default)]
    pub seed: u64,
    /// Rate of the uplink that all connections share, in bits a second. 0 means unlimited.
    #[serde(default)]
    pub uplink_bits_per_s: u64,
    /// One-way delay to addresses that `peer` does not list, in microseconds.
    #[serde(default)]
    pub default_delay_us: u32,
    /// Upper end of the uniform jitter added to every delay, in microseconds.
    #[serde(default)]
    pub jitter_us_max: u32,
    /// One-way delays to single remote addresses.
    #[serde(default, rename = "peer")]
    pub peers: Vec<PeerDelay>,
}

/// The one-way delay towards one remote address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerDelay {
    /// The remote's IP address.
    pub ip: IpAddr,
    /// One-way delay in microseconds.
    pub delay_us: u32,
}

/// Why a link-emulation file was refused.
#[derive(Debug, thiserror::Error)]
pub enum LinkEmulationError {
    /// The file could not be read.
    #[error("cannot read the link-emulation file {}: {source}; give the path of a readable TOML file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not the TOML that is expected.
    #[error("the link-emulation file {} is not valid: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        source: Box<toml::de::Error>,
    },
    /// The rate is too low to be meant.
    #[error(
        "uplink_bits_per_s = {bits_per_s} is below {UPLINK_BITS_PER_S_MIN}; use 0 for unlimited or a rate in bits (not bytes) a second"
    )]
    RateTooLow {
        /// The rate asked for.
        bits_per_s: u64,
    },
    /// A delay or the jitter is too long to be meant.
    #[error("{field} = {delay_us} is above {DELAY_US_MAX}; delays are one-way and in microseconds")]
    DelayTooLong {
        /// The field that is wrong.
        field: String,
        /// The delay asked for.
        delay_us: u32,
    },
    /// Two entries name the same address.
    #[error("the address {ip} is listed twice under [[peer]]; keep one entry for each address")]
    DuplicatePeer {
        /// The address.
        ip: IpAddr,
    },
}

impl LinkEmulation {
    /// Reads and validates a link-emulation file.
    ///
    /// # Errors
    /// When the file cannot be read, is not the expected TOML, or fails [`LinkEmulation::validate`].
    pub fn load(path: &Path) -> Result<Self, LinkEmulationError> {
        let text = crate::bounded::read_text(path, crate::bounded::TEXT_BYTES_MAX)
            .map_err(|source| LinkEmulationError::Read { path: path.to_owned(), source })?;
        let parsed: Self = toml::from_str(&text)
            .map_err(|source| LinkEmulationError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        parsed.validate()?;
        Ok(parsed)
    }

    /// Checks ranges and that no address is listed twice.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn validate(&self) -> Result<(), LinkEmulationError> {
        if self.uplink_bits_per_s != 0 && self.uplink_bits_per_s < UPLINK_BITS_PER_S_MIN {
            return Err(LinkEmulationError::RateTooLow { bits_per_s: self.uplink_bits_per_s });
        }
        let fields =
            [("default_delay_us".to_owned(), self.default_delay_us), ("jitter_us_max".to_owned(), self.jitter_us_max)];
        let of_peers = self.peers.iter().map(|peer| (format!("delay_us of {}", peer.ip), peer.delay_us));
        for (field, delay_us) in fields.into_iter().chain(of_peers) {
            if delay_us > DELAY_US_MAX {
                return Err(LinkEmulationError::DelayTooLong { field, delay_us });
            }
        }
        let mut seen = BTreeMap::new();
        for peer in &self.peers {
            if seen.insert(peer.ip.to_canonical(), ()).is_some() {
                return Err(LinkEmulationError::DuplicatePeer { ip: peer.ip });
            }
        }
        Ok(())
    }

    /// The one-way delays by canonical address (an IPv4-mapped IPv6 address counts as IPv4).
    pub(crate) fn delays_us(&self) -> BTreeMap<IpAddr, u32> {
        self.peers.iter().map(|peer| (peer.ip.to_canonical(), peer.delay_us)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_file_is_read_and_written_back() {
        let text = r#"
            seed = 7
            uplink_bits_per_s = 50000000
            default_delay_us = 40000
            jitter_us_max = 2000
            [[peer]]
            ip = "127.1.0.2"
            delay_us = 35000
        "#;
        let parsed: LinkEmulation = toml::from_str(text).unwrap();
        parsed.validate().unwrap();
        assert_eq!(parsed.delays_us()[&"127.1.0.2".parse().unwrap()], 35_000);
        let written = toml::to_string(&parsed).unwrap();
        assert_eq!(toml::from_str::<LinkEmulation>(&written).unwrap(), parsed);
    }

    #[test]
    fn wrong_files_are_refused_with_the_field_and_the_remedy() {
        let refuse = |text: &str| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("link.toml");
            std::fs::write(&path, text).unwrap();
            LinkEmulation::load(&path).unwrap_err().to_string()
        };
        assert!(refuse("uplink_bits_per_s = 100").contains("use 0 for unlimited"));
        assert!(refuse("default_delay_us = 20000000").contains("default_delay_us"));
        assert!(refuse("jitter = 1").contains("jitter_us_max"));
        assert!(refuse("default_delay_us = -1").contains("line 1"));
        let twice = "[[peer]]\nip='127.0.0.1'\ndelay_us=1\n[[peer]]\nip='::ffff:127.0.0.1'\ndelay_us=2";
        assert!(refuse(twice).contains("listed twice"));
        let missing = LinkEmulation::load(Path::new("/nonexistent/link.toml"));
        assert!(missing.unwrap_err().to_string().contains("/nonexistent"));
    }
}
