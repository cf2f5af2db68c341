//! What became of attackers that ran against real nodes: the figures, the verdict, and both in words.
//!
//! # Where the figures come from
//! When an attacker had a connection, the attacker itself wrote down; it never ends one of its own accord unless its kind says so. Whether it
//! was in a node's mesh, the nodes told when they were asked, several times a second: a place that was held for less is not seen, and lengths
//! are exact to that interval.
//!
//! # The verdict
//! An attacker is **dropped** by a node when what its kind is judged by has ended: the connection for whoever sends what no honest peer sends, a
//! place in a mesh for whoever is only of no use. Each [`Demand`] says how long it may last. What has not ended when the attack ends has not been
//! dropped; that breaks the demand if it lasted too long, or if it is so on more than a quarter of the links.

use serde::Serialize;

use super::format::{bytes, float, grouped};

/// By what attackers of a kind are judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Demand {
    /// Whether their connections are to be ended; if not, it is their places in meshes that count.
    pub disconnected: bool,
    /// Which places: in the mesh of transactions, of blocks.
    pub meshes: [bool; 2],
    /// How long each may last, in seconds.
    pub within_s: f64,
}

impl Demand {
    /// What is demanded, in words.
    #[must_use]
    pub fn words(&self) -> String {
        let what = match (self.disconnected, self.meshes) {
            (true, _) => "disconnected",
            (false, [true, false]) => "out of the mesh of transactions",
            (false, [false, true]) => "out of the mesh of blocks",
            (false, [false, false]) => return "no harm".to_owned(),
            (false, _) => "out of both meshes",
        };
        format!("{what} within {} s", self.within_s)
    }
}

/// What became of the attackers of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttackerGroup {
    /// Their kind.
    pub kind: String,
    /// How many there were.
    pub attackers: usize,
    /// What is demanded of the nodes.
    pub demand: Demand,
    /// Pairs of an attacker and a node that were connected at any time.
    pub links: usize,
    /// Of these, those on which the attacker was dropped.
    pub dropped: usize,
    /// Seconds until it was dropped, at each of these links, in increasing order.
    #[serde(skip)]
    pub dropped_after_s: Vec<f64>,
    /// The longest of them; null if none was dropped.
    pub dropped_after_s_max: Option<f64>,
    /// How often a connection came about. More than there are links if attackers that were thrown out came again.
    pub connections: usize,
    /// The longest connection, in seconds.
    pub connected_s_max: f64,
    /// The longest places in the meshes of transactions and of blocks, in seconds.
    pub mesh_s_max: [f64; 2],
    /// The least score that a node gave one of them; null if none was asked for while it was connected.
    pub score_min: Option<f64>,
    /// Bytes of mesh frames that they wrote.
    pub sent_bytes: u64,
    /// Bytes of mesh frames that nodes wrote to them.
    pub received_bytes: u64,
    /// How many bytes may at most be written to them: each message a few times over each link.
    pub served_bytes_max: u64,
    /// What was demanded and does not hold, in sentences.
    pub complaints: Vec<String>,
}

impl AttackerGroup {
    /// Whether what was demanded holds.
    #[must_use]
    pub fn hold(&self) -> bool {
        self.complaints.is_empty()
    }

    /// The verdict and the figures, in words.
    #[must_use]
    pub fn lines(&self) -> [String; 2] {
        let Self { kind, attackers, links, dropped, .. } = self;
        let after =
            self.dropped_after_s_max.map_or_else(String::new, |after_s| format!(" after at most {after_s:.1} s"));
        let verdict = if self.hold() { "as demanded" } else { "NOT as demanded" };
        let several = |count: usize| if count == 1 { "" } else { "s" };
        let head = format!(
            "{kind}: {attackers} attacker{}, dropped on {dropped} of {links} link{}{after}; demanded: {}: {verdict}",
            several(*attackers),
            several(*links),
            self.demand.words()
        );
        let [transactions_s, blocks_s] = self.mesh_s_max;
        let score = self.score_min.map_or_else(|| "not seen".to_owned(), |score| format!("{score:.0}"));
        let detail = format!(
            "{} connection{}, the longest of {:.1} s; in meshes for {transactions_s:.1} s (transactions) and {blocks_s:.1} s \
             (blocks) at most; least score {score}; sent {}, were sent {}",
            grouped(self.connections as u64),
            several(self.connections),
            self.connected_s_max,
            bytes(float(self.sent_bytes)),
            bytes(float(self.received_bytes)),
        );
        [head, detail]
    }
}
