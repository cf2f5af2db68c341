//! Starling crypto.
