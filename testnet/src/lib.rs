//! Starling testnet.
