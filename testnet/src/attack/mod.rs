//! Attackers, written once, and the table of attacks that the engine has to survive.
//!
//! # The boundary
//! An attacker is an [`Adversary`]: it takes in what a node machine takes in ([`starling_protocol::node::Input`]) and says what a node
//! machine says ([`starling_protocol::node::Output`]). So it knows what a peer on the network knows, does what a peer can do, and
//! whatever serves a node machine can serve it: the simulator ([`crate::sim`]), or the driver of a process.
//!
//! An adversary of this module keeps to the contract of machines: it reads no clock and draws no entropy. Time comes in with each call, chance
//! comes from the seed that it is made with, by a stream of its own; the same calls give the same answers. It never blocks, and
//! `next_wake` says when it wants to be called again. Where attackers conspire, they share a [`Conspiracy`], the
//! one thing that ties several of them together.
//!
//! # The modules
//! | | |
//! |---|---|
//! | `attackers` | who attacks: the section of a manifest, checked, and the factory |
//! | `processes` | which of them can be processes |
//! | `links` | connections that an attacker keeps up |
//! | `machine` | a node machine in an attacker's place |
//! | `memory` | what they take of it, known before a run starts |
//! | `sybil` | peers that join meshes and then do not do their part: the published attack and its relatives |
//! | `flood` | peers that send too much of what is allowed |
//! | `spam` | peers that send messages which are not valid, or not any more |
//! | `forge` | blocks that nobody signed |
//! | `double` | a producer that signs two blocks for one slot |
//! | `mislead` | peers that claim much of their chain and do not give it |
//! | [`engines`] | weaker engines, as controls |
//! | [`experiment`] | one simulated attack or fault, and what is measured of it: `look`, `recovery`, `suspicion`, [`floor`] |
//! | [`demand`] | what can be demanded of that, and whether it holds |
//! | [`table`] | every row, at two scales: `attacks`, `faults`, `malformed` |
//! | [`suite`] | runs the table, in parallel, and picks up where it stopped |
//!
//! # Sources
//! The attacks called eclipse, censor, degrade, cold boot, covert flash and dawn are those of the evaluation of gossipsub v1.1
//! (Vyzovitis et al., arXiv 2007.02754, section 5) as its public test configurations state them. Withholding one topic is
//! CVE-2022-47547 (Kumar et al., arXiv 2212.05197). Others name their source where they are defined.

mod attackers;
mod attacks;
pub mod demand;
mod double;
pub mod engines;
pub mod experiment;
mod faults;
mod flood;
pub mod floor;
mod forge;
mod links;
mod look;
mod machine;
mod malformed;
pub(crate) mod memory;
mod mislead;
pub(crate) mod processes;
pub mod recovery;
mod room;
mod spam;
pub mod suite;
pub mod suspicion;
mod sybil;
pub mod table;

pub use crate::sim::{Adversary, Recruit, Setting};
pub use attackers::{Attackers, AttackersError, KINDS, Targets, recruits};
pub use sybil::Conspiracy;
