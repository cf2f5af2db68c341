//! Starling testnet.

pub mod measure;
pub mod report;
pub mod wan;
