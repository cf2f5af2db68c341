//! Connections.

use starling_protocol::id::PeerHandle;
use starling_protocol::wire::SharedRpc;
use std::rc::Rc;

/// One direction of a connection, at its sender.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) generation: u32,
    /// The node at the other end.
    pub(super) far: u32,
    /// What the other end calls us.
    pub(super) far_handle: PeerHandle,
    pub(super) latency_us: u32,
    /// When the last RPC arrives: those of one connection keep their order.
    pub(super) arrival_us: u64,
    /// What the machine has said while it handles the present input.
    pub(super) open: Option<Rc<SharedRpc>>,
}
