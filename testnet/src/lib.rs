//! Starling testnet.

pub mod wan;
