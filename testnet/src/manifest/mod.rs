//! Manifests: what is to be run, as a TOML file.
//!
//! A [`Manifest`] describes a network, its links, what is published and what goes wrong. It says nothing of how the network is
//! run: the simulator takes it, and so can anything else that starts nodes.
//!
//! # Rules
//! - Every key is known, every number has its unit in its name, everything has a default but the number of nodes.
//!   `docs/SIMULATOR.md` explains the keys; [`schema`] is the JSON schema for editors.
//! - A manifest is wholly checked before anything starts ([`Manifest::parse`]). Whatever is wrong is said with its line, its key, and what
//!   would be right.
//! - All `at_s` count from the start of the run. Whatever is drawn is drawn from the seed, by a stream for each entry, so that one more
//!   fault does not change which nodes another one hits.

mod check;
mod conflicts;
mod error;
mod faults;
mod files;
mod keys;
mod presets;
mod processes;
mod random;
mod resolve;
mod shape;
#[cfg(test)]
mod tests;

pub use check::NODES_MAX;
pub use error::ManifestError;
pub use keys::{Blocks, Cpu, Disk, Fault, Limits, Links, Manifest, Publishers, Times, Topology, Who, Window, Workload};
pub use presets::{PRESETS, Preset, RANDOM};

/// The only format of manifests that this version reads.
pub const FORMAT: u32 = 1;

/// The JSON schema of manifests.
///
/// # Panics
/// Never: a schema is JSON.
#[must_use]
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(Manifest)).expect("a schema is always JSON");
    text.push('\n');
    text
}
