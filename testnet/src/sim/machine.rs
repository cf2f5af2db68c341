//! One node: its machine and what surrounds it.

use super::link::{Line, Uplink};
use starling_protocol::id::PeerId;
use starling_protocol::node::Node;
use starling_protocol::time::Time;
use std::net::{IpAddr, Ipv4Addr};

/// A node machine, its connections and its processor.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) node: Node,
    /// By the slots of peer handles.
    pub(super) lines: Vec<Line>,
    /// Until when the event loop is busy, in nanoseconds.
    pub(super) loop_free_ns: u64,
    /// Until when the verifier is busy, in nanoseconds.
    pub(super) verifier_free_ns: u64,
    pub(super) uplink: Uplink,
    /// Until when the downlink is busy, in nanoseconds.
    pub(super) downlink_free_ns: u64,
    /// The earliest wake in the queue; [`Time::MAX`] when there is none.
    pub(super) wake_at: Time,
}

impl Machine {
    /// Has the event loop do a piece of work that came in at `at`; says when it is done.
    pub(super) fn work(&mut self, at: Time, cost_ns: u64) -> Time {
        let at_ns = at.as_micros().saturating_mul(1_000);
        self.loop_free_ns = self.loop_free_ns.max(at_ns).saturating_add(cost_ns);
        Time::from_micros(self.loop_free_ns.div_ceil(1_000))
    }
}

/// The id of a node.
pub(super) fn peer_id(node: u32) -> PeerId {
    PeerId::from_number(u64::from(node) + 1)
}

/// The address of a node; each has one of its own.
pub(super) fn address(node: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + node))
}
