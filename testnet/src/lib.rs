//! Local Starling networks with measured propagation.
//!
//! - [`cli`] is the tool's command line.
//! - [`wan`] describes the network to imitate: regions, delays, uplinks, and the least delay that is possible.
//! - [`measure`] turns what nodes wrote down into deliveries and exact statistics.
//! - [`report`] tells people and programs.
//! - [`manifest`] reads what is to be run.
//! - [`pages`] has the allocator keep what it has.
//! - [`sim`] runs networks of thousands of nodes in virtual time.
//! - [`attack`] has attackers, and the table of attacks that the engine has to survive.
//! - `cluster` runs real node processes (feature `cluster`, on by default).
//!
//! All but the last need neither libp2p nor an async runtime (`default-features = false`), and the simulator's figures can be computed
//! and shown by the same code as those of real processes.

#[macro_use]
mod output;

pub mod attack;
pub mod cli;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod host;
mod input;
pub mod manifest;
pub mod measure;
pub mod pages;
pub mod report;
pub mod sim;
mod unwind;
pub mod wan;
