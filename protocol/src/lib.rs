//! Everything in Starling that decides, as pure state machines.
//!
//! No clock, no entropy, no IO: time and a seed come in, effects go out. The same machines run in the real node, under a
//! simulator and under fuzzers; the same seed and inputs give the same outputs, byte for byte.

pub mod block;
pub mod chain;
pub mod codec;
pub mod genesis;
pub mod id;
mod keyed;
pub mod memory;
pub mod mempool;
pub mod mesh;
pub mod message;
pub mod node;
pub mod peers;
pub mod random;
pub mod request;
pub mod rpc;
pub mod send_queue;
pub mod store;
pub mod sync;
pub mod time;
pub mod transaction;
pub mod verify;
pub mod wire;
