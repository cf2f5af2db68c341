//! Local Starling networks with measured propagation.
//!
//! - [`wan`] describes the network to imitate: regions, delays, uplinks, and the least delay that is possible.
//! - [`measure`] turns what nodes wrote down into deliveries and exact statistics.
//! - [`report`] tells people and programs.
//! - [`cluster`] runs real node processes (feature `cluster`, on by default).
//!
//! The first three need neither libp2p nor an async runtime: a simulator can use them with `default-features = false`, and its
//! figures are then computed and shown by the same code as those of real processes.

#[cfg(feature = "cluster")]
pub mod cluster;
pub mod measure;
pub mod report;
pub mod sim;
pub mod wan;
