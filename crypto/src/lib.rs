//! Hashing, keys, signatures and Merkle roots for Starling.
//!
//! # What this crate promises
//! - **One meaning per digest.** Every hash is taken in a named [`Domain`]; a digest computed for
//!   one purpose can never equal a digest computed for another, short of a SHA-256 collision
//!   ([`hash`]).
//! - **One verdict per signature.** [`PublicKey::verify`] is deterministic and strict: whichever
//!   node looks at a signature, alone or among many, reaches the same verdict, and nobody but the
//!   key's holder can turn a valid signature into a different valid one ([`signature`]).
//! - **One list per root.** Two different lists of leaves have different Merkle roots ([`merkle`]).
//! - **No surprises.** No clock, no input or output, no entropy: a secret key is made from 32 bytes
//!   that the caller drew, and the caller reads and writes key files ([`keys`] turns them into text
//!   and back).
//!
//! # What it does not promise
//! Secrets are wiped from memory when dropped, but copies that the operating system or the compiler
//! made (swap, core dumps, spilled registers) are out of reach. Verification is not constant-time:
//! everything it looks at is public.

mod bytes;
pub mod hash;
pub mod keys;
pub mod merkle;
pub mod signature;

pub use bytes::{HexError, compare};
pub use hash::{Digest, Domain, Hasher};
pub use keys::{KeyError, PublicKey, PublicKeyBytes, SecretKey};
pub use signature::{Signature, SignatureError};
