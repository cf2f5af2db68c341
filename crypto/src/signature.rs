//! Ed25519 signatures, verified strictly.
//!
//! RFC 8032 leaves room: libraries differ on which malformed keys, nonces and scalars they let
//! pass, and on whether the equation is multiplied by the cofactor (Chalkias, Garillot, Nikolaenko:
//! *Taming the many EdDSAs*, 2020). Nodes that differ in this split a network, so the rules are
//! spelt out here, and the tests build each of that paper's twelve cases from curve arithmetic.
//!
//! # Rules
//! A signature `R ‖ S` (32 bytes each) by key `A` over message `M`, with `k = SHA-512(R ‖ A ‖ M)
//! mod L`, is valid if all hold:
//! 1. `A` is a canonically spelt point, not of small order (ensured by
//!    [`PublicKey`](crate::PublicKey)).
//! 2. `S < L`, where `L` is the order of the base point. Otherwise `S + L` would be a second valid
//!    signature, made by whoever relays it.
//! 3. `R` is a canonically spelt point, not of small order.
//! 4. `S·B = R + k·A`, without the cofactor.
//!
//! # Consequences
//! - From a valid signature nobody but the holder of the secret key can make another one over the
//!   same message (strong unforgeability). The holder can, by choosing other nonces; an identifier
//!   must therefore not rest on a signature being unique.
//! - The verdict depends on nothing but `A`, `R`, `S` and `M`. Batch verification does not have
//!   this property (it answers for the equation with the cofactor, and by chance where small-order
//!   components cancel), so it is not used anywhere, however many signatures wait.
//!
//! # Cost
//! One double scalar multiplication and one decompression, some tens of microseconds on current
//! hardware.

use crate::bytes::fixed_bytes;

/// An ed25519 signature: the nonce point `R` and the scalar `S`, 32 bytes each. Any 64 bytes are
/// one; whether it is valid is for [`PublicKey::verify`](crate::PublicKey::verify) to say.
///
/// Written as 128 hex digits for people, and as its 64 bytes for machines.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 64]);

fixed_bytes!(Signature, 64, "a signature");

/// The signature is not one by this key over this message.
///
/// It does not say which rule was broken: whoever made the signature knows, and nobody else can do
/// anything with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the signature does not belong to this public key and content; sign the exact content again with the right key"
)]
pub struct SignatureError;

#[cfg(test)]
mod tests;
