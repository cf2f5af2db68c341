//! Manifests that come with the tool.

/// A manifest that comes with the tool.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// By which it is called.
    pub name: &'static str,
    /// Its text, to copy and change.
    pub text: &'static str,
}

macro_rules! preset {
    ($name:literal) => {
        Preset { name: $name, text: include_str!(concat!("../../scenarios/", $name, ".toml")) }
    };
}

/// In place of a preset: whatever the seed makes of it ([`super::Manifest::random`]).
pub const RANDOM: &str = "random";

/// All presets.
pub const PRESETS: &[Preset] = &[
    preset!("quick"),
    preset!("baseline"),
    preset!("scale"),
    preset!("blocks"),
    preset!("partition"),
    preset!("churn"),
    preset!("discovery"),
    preset!("regions"),
    preset!("attacked"),
    preset!("reality-16-small"),
    preset!("reality-16-large"),
    preset!("reality-48-small"),
    preset!("reality-48-large"),
    preset!("reality-32-small"),
    preset!("reality-32-large"),
];
