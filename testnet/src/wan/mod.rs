//! The wide-area network that a testnet imitates: where its nodes are, how long a frame travels between any
//! two of them, and how long it must travel at least.
//!
//! A [`Profile`] is the description (regions, round-trip times, last miles, jitter, uplinks), read from TOML.
//! A [`Topology`] is a profile with nodes placed in it from a seed. Both the process launcher and a simulator
//! take their delays from the topology, so that one can be checked against the other.
//!
//! # The model
//! - The one-way delay between nodes `a` and `b` is half the round-trip time between their regions, plus the
//!   last mile of `a`, plus the last mile of `b`. It is symmetric and does not depend on load.
//! - Jitter is drawn evenly from zero to the profile's maximum and comes on top. Frames of one connection
//!   keep their order, as TCP's do.
//! - Each node sends through one uplink, shared by all its connections. Receiving is not limited: the sum of
//!   what a node receives in a dissemination network is close to what it sends.
//! - There is no loss: TCP hides it, and what remains is delay, which jitter stands for.
//!
//! # The lower bound
//! [`Topology::bounds`] gives for every pair the shortest one-way path through any nodes of the network,
//! region delays and last miles included, jitter, serialisation and processing excluded. The way through a third
//! node counts because published round-trip times break the triangle inequality: for some pairs of regions a
//! detour is shorter than the direct path, and a relay network may well take it. No scheme whatever can
//! deliver faster in this model, so the ratio of measured latency to this bound is what a scheme is answerable for.
//!
//! # Determinism
//! All figures are whole microseconds and all draws are made on integers from ChaCha streams, one for each
//! concern: the same profile, node count and seed give the same topology on every machine.

pub mod emulation;
mod placement;
pub mod profile;
mod random;
mod topology;

pub use placement::Site;
pub use profile::{Profile, ProfileError};
pub use random::Stream;
pub use topology::{Bounds, Topology};
