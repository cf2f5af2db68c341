//! A network in virtual time: thousands of [`starling_protocol::node::Node`]s in one process.
//!
//! The machines are those that the real node runs, as they are. Everything outside of them is the model below; [`World`] is the
//! loop between the two.
//!
//! # The model
//! - **Time** is virtual, in microseconds. Events come in the order of (time, sequence number) ([`queue`]).
//! - **Computing.** A node has an event loop and a verifier, each a serial queue. Taking in an RPC costs a constant and a time for each
//!   byte, any other input a constant, a signature a constant on the verifier ([`scenario::CpuModel`]). A machine hears of an input when
//!   its work is done; what comes meanwhile waits, timers included. Each signature is verified for real, once, however many nodes
//!   verify it.
//! - **Connections** are described in `link`: real send queues, an uplink that they share, optional congestion windows, latency by
//!   the pair of regions and the two last miles ([`crate::wan`]), jitter, loss as the delay of a retransmission, an optional
//!   downlink. They keep their order.
//! - **Messages** are shared, not encoded, and charged at their length on the wire; a transaction is decoded once for all.
//!   [`Scenario::encode`] encodes and decodes everything instead, and changes nothing.
//! - **The disk** confirms every batch after a constant time.
//! - **Links** are given ([`topology`]); both sides are connected two one-way delays after the dial began.
//! - **Chance** comes from the seed alone, by one stream for each concern. The same scenario gives the same [`trace::TraceHash`].
//!
//! # What it leaves out
//! Packets and their reordering, queues in the network, losses that shrink windows, slow receivers that stop reading, connections that
//! break or close, the cost of handshakes, blocks that are loaded from a disk, peer exchange and discovery; requests for blocks
//! take the latency of the path and no bandwidth.
//!
//! # Cost
//! An event is one [`queue`] operation, one look at the machine, and what the machine does; a few microseconds in all at present.

mod effects;
mod ids;
mod link;
mod machine;
pub mod observe;
mod parcel;
pub mod queue;
pub mod scenario;
pub mod topology;
pub mod trace;
mod verify;
mod world;

pub use link::WindowModel;
pub use scenario::Scenario;
pub use world::{EventCounts, WireCounts, World};
