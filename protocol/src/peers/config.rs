//! Settings of the peer book.

use super::book::BookConfig;
use crate::time::Duration;

/// Settings of [`super::PeerBook`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Dialling stops at this many connected peers.
    pub target_peers: usize,
    /// At least this many connections are of our own making.
    pub outbound_min: usize,
    /// Peers that are put off and remembered beside the address book.
    pub candidates_max: usize,
    /// Sizes of the address book.
    pub book: BookConfig,
    /// Dials in flight at once.
    pub dials_max: usize,
    /// A dial without an answer counts as failed after this long.
    pub dial_timeout: Duration,
    /// First wait after a failure.
    pub retry_first: Duration,
    /// Longest wait after failures.
    pub retry_max: Duration,
    /// A connection that lasted this long clears the peer's failures.
    pub stable_after: Duration,
    /// How long the mesh may be short of links, with the target reached, before more peers are sought.
    pub shortage_patience: Duration,
    /// How long the mesh has to have its links before no more than the target are sought again.
    pub shortage_relief: Duration,
    /// Interval of discovery while it brings new peers and more are wanted.
    pub discover_first: Duration,
    /// Interval of discovery otherwise.
    pub discover_max: Duration,
    /// Time between two feelers, on average.
    pub feeler_interval: Duration,
    /// Time between two saves of the address book.
    pub save_interval: Duration,
    /// The same after the start, and after the anchors changed.
    pub save_soon: Duration,
}

impl PeerConfig {
    /// The defaults for a target: three in ten links outbound at least.
    #[must_use]
    pub fn for_target(target_peers: usize) -> Self {
        Self { target_peers, outbound_min: (target_peers * 3).div_ceil(10), ..Self::default() }
    }
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            // Several times the mesh degree, so that gossip reaches peers outside of the mesh. A guess between
            // Lighthouse's 100 and Bitcoin Core's 10 outbound links.
            target_peers: 24,
            outbound_min: 8,
            candidates_max: 1_024,
            book: BookConfig::default(),
            // A guess: enough to reach the target within two rounds, few enough not to look like a scan.
            dials_max: 16,
            // Above libp2p's own connection timeouts of 10 s, so that it only catches answers that got lost.
            dial_timeout: Duration::from_secs(30),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(300),
            stable_after: Duration::from_secs(60),
            // Guesses: some three heartbeats, in which the mesh has tried whom it has; and long enough not to swing.
            shortage_patience: Duration::from_secs(2),
            shortage_relief: Duration::from_secs(120),
            discover_first: Duration::from_millis(500),
            discover_max: Duration::from_secs(30),
            // As in Bitcoin Core.
            feeler_interval: Duration::from_secs(120),
            // Guesses: what is lost with a crash is found again; the anchors are worth more.
            save_interval: Duration::from_secs(300),
            save_soon: Duration::from_secs(5),
        }
    }
}
