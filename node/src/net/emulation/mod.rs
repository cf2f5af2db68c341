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
//! 6. **Losses are delays.** Of a chunk of which a segment is lost the whole comes a retransmission later: a round trip when enough
//!    segments follow to show the gap (fast retransmit, RFC 5681), otherwise a round trip and a retransmission timeout. What is sent again
//!    may be lost, too, and waits for a timeout that doubles each time.
//! 7. **A cut path** carries nothing: what was accepted before still arrives, nothing more is accepted, and dials wait. When it is mended, what
//!    waited goes on; a connection that is cut for longer than `dead_after_us` fails at both ends.
//! 8. **The file is followed.** A change of it is noticed within [`RELOAD_INTERVAL`] and holds for connections that exist. The uplink's rate and the
//!    seed stay what they were. A file that cannot be read, or is wrong, changes nothing and is said in the log.
//! 9. **No cost when off.** Without a configuration there is no timer thread and no buffer.
//!
//! Congestion control and the receiver's downlink are not modelled; `docs/LINK-EMULATION.md`
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

/// Most segments in a million that a path may lose: half of them.
pub const LOSS_PPM_MAX: u32 = 500_000;

/// How often it is looked whether the file has changed.
pub const RELOAD_INTERVAL: std::time::Duration = std::time::Duration::from_millis(50);

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
/// dead_after_us = 30000000       # how long a cut connection lives; 0: for ever
///
/// [[peer]]
/// ip = "127.1.0.2"
/// delay_us = 35000
/// loss_ppm = 10000               # segments in a million that are lost and sent again
/// cut = false                    # whether nothing gets through
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
    /// After how long a connection fails whose path is cut, in microseconds. 0 means never.
    #[serde(default)]
    pub dead_after_us: u64,
    /// Paths to single remote addresses.
    #[serde(default, rename = "peer")]
    pub peers: Vec<PeerPath>,
    /// The file that this was read from, which is followed; nothing is if there is none.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// The path to one remote address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerPath {
    /// The remote's IP address.
    pub ip: IpAddr,
    /// One-way delay in microseconds.
    pub delay_us: u32,
    /// Of a million segments, how many are lost and sent again.
    #[serde(default)]
    pub loss_ppm: u32,
    /// Whether nothing gets through.
    #[serde(default)]
    pub cut: bool,
}

/// How the path to an address is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    pub(crate) delay_us: u32,
    pub(crate) loss_ppm: u32,
    pub(crate) cut: bool,
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
    /// More is lost than can be meant.
    #[error("loss_ppm of {ip} is {loss_ppm}, above {LOSS_PPM_MAX}; it counts lost segments in a million")]
    LossTooHigh {
        /// The address.
        ip: IpAddr,
        /// The loss asked for.
        loss_ppm: u32,
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
        Ok(Self { file: Some(path.to_owned()), ..parsed })
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
            if peer.loss_ppm > LOSS_PPM_MAX {
                return Err(LinkEmulationError::LossTooHigh { ip: peer.ip, loss_ppm: peer.loss_ppm });
            }
            if seen.insert(peer.ip.to_canonical(), ()).is_some() {
                return Err(LinkEmulationError::DuplicatePeer { ip: peer.ip });
            }
        }
        Ok(())
    }

    /// The paths by canonical address (an IPv4-mapped IPv6 address counts as IPv4).
    pub(crate) fn paths(&self) -> BTreeMap<IpAddr, Conditions> {
        let path = |peer: &PeerPath| Conditions { delay_us: peer.delay_us, loss_ppm: peer.loss_ppm, cut: peer.cut };
        self.peers.iter().map(|peer| (peer.ip.to_canonical(), path(peer))).collect()
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
            dead_after_us = 30000000
            [[peer]]
            ip = "127.1.0.2"
            delay_us = 35000
            loss_ppm = 10000
            cut = true
        "#;
        let parsed: LinkEmulation = toml::from_str(text).unwrap();
        parsed.validate().unwrap();
        let path = parsed.paths()[&"127.1.0.2".parse().unwrap()];
        assert_eq!((path.delay_us, path.loss_ppm, path.cut), (35_000, 10_000, true));
        assert_eq!(parsed.dead_after_us, 30_000_000);
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
        assert!(refuse("[[peer]]\nip='127.0.0.1'\ndelay_us=1\nloss_ppm=900000").contains("in a million"));
        let twice = "[[peer]]\nip='127.0.0.1'\ndelay_us=1\n[[peer]]\nip='::ffff:127.0.0.1'\ndelay_us=2";
        assert!(refuse(twice).contains("listed twice"));
        let missing = LinkEmulation::load(Path::new("/nonexistent/link.toml"));
        assert!(missing.unwrap_err().to_string().contains("/nonexistent"));
    }
}
