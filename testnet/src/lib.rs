//! Starling testnet.

pub mod measure;
pub mod wan;
