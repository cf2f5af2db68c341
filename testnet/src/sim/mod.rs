//! A network in virtual time: thousands of [`starling_protocol::node::Node`]s in one process.
//!
//! The machines are those that the real node runs, as they are. Everything outside of them is the model below; [`World`] is the
//! loop between the two.
//!
//! # The model
//! - **Time** is virtual, in microseconds. Events come in the order of (time, sequence number) ([`queue`]).
//! - **Computing.** A node has an event loop and a verifier, each a serial queue. Taking in an RPC costs a constant and a time for each
//!   byte, any other input a constant, a signature a constant on the verifier ([`scenario::CpuModel`]). A machine hears of an input when
//!   its work is done; what comes meanwhile waits in its order, timers included, and is lost when the process is killed. Nothing leaves on a line before the
//!   work is done that made it. Each signature is verified for real, once, however many nodes
//!   verify it.
//! - **Connections** are described in `link`: real send queues, an uplink that they share, optional congestion windows, latency by
//!   the pair of regions and the two last miles ([`crate::wan`]), jitter, loss as the delay of retransmissions, an optional
//!   downlink. They keep their order. Requests for blocks and their answers take turns with RPCs on the same connection. How connections come
//!   about and end is in `connect`.
//! - **Messages** are shared, not encoded, and charged at their length on the wire; a transaction is decoded once for all.
//!   [`Scenario::encode`] encodes and decodes everything instead, and changes nothing.
//! - **The disk** confirms batches in their order after a constant time and one for each byte, and keeps what it confirmed when the
//!   process is killed ([`scenario::DiskModel`]).
//! - **Links** are given by name or found: an operator names peers, the machine dials them and dials them again when the connection breaks, or
//!   it fills its address book from a directory of all nodes ([`Wiring`]).
//! - **Faults** are a timeline of things done to processes, paths, clocks, processors and disks ([`faults`]).
//! - **Attackers** take places beside the nodes and speak at the machine's boundary ([`Adversary`]).
//! - **Chance** comes from the seed alone, by one stream for each concern. The same scenario gives the same [`trace::TraceHash`].
//!
//! # What it leaves out
//! Packets and their reordering, queues in the network, losses that shrink windows, slow receivers that stop reading, the cost of
//! handshakes, what a socket still sends for a process that stands still, several connections between two nodes, visitors, peer exchange and
//! signed records of peers; lookups find random nodes after a constant time.
//!
//! # Cost
//! An event is one [`queue`] operation, one look at the machine, and what the machine does; one to two microseconds in all at present.

mod actor;
mod ahead;
mod askers;
mod connect;
mod counts;
pub mod dealings;
mod directory;
mod disk;
mod effects;
mod event;
pub mod faults;
pub mod gaps;
pub(crate) mod heads;
mod ids;
mod ledger;
mod link;
mod lives;
mod machine;
pub mod memory;
pub mod observe;
mod parcel;
pub mod queue;
pub mod run;
pub mod safety;
pub mod scenario;
pub mod topology;
pub mod trace;
mod verify;
pub mod workload;
mod world;

pub use actor::{Adversary, Recruit, Setting};
pub use counts::{EventCounts, WireCounts};
pub use directory::{peer_id, shared_address};
pub use link::WindowModel;
pub use scenario::{Engine, Scenario, Wiring};
pub use workload::{Pace, Publishers, Workload};
pub use world::World;
