//! Ed25519 keys: secret keys as 32-byte seeds (RFC 8032), kept in PKCS#8 PEM files (RFC 8410);
//! public keys as 32 bytes.
//!
//! # Two types for public keys
//! [`PublicKeyBytes`] is what stands on the wire: any 32 bytes, free to read, compare and index by.
//! [`PublicKey`] is the curve point behind them, checked and decompressed, which takes a square
//! root in the field (some microseconds). Decoding a message makes the former; only verifying its
//! signature, once a message, makes the latter.
//!
//! # Which public keys are accepted
//! [`PublicKey`] rejects
//! - bytes that are not a point of the curve;
//! - a y coordinate of 2^255 - 19 or more: the same point would have two spellings, and so one
//!   holder two names;
//! - the eight points of small order: for these a signature can be made without a secret key, and
//!   one signature can fit many messages (Chalkias, Garillot, Nikolaenko: *Taming the many EdDSAs*,
//!   2020).
//!
//! Keys with a small-order component besides a large one ("mixed order") are accepted. Their
//! holders know a secret scalar like everyone else, the strict equation treats them
//! deterministically, and telling them apart costs a scalar multiplication.
//!
//! # Key files
//! [`SecretKey::to_pem`] writes version 1 of PKCS#8, without the public key: OpenSSL reads it,
//! whereas some of its releases refuse version 2. [`SecretKey::from_pem`] reads both versions, and
//! where a file names a public key it must be the secret key's own. Permissions are the business of
//! whoever opens the file.

use crate::bytes::{fixed_bytes, parse_hex};
use crate::hash::Digest;
use crate::signature::{Signature, SignatureError};
use core::fmt;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// Why something is not the key it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not hex of the right length.
    #[error(transparent)]
    Hex(#[from] crate::HexError),
    /// The 32 bytes are not the compressed form of a point on the curve.
    #[error("public key {0} is not a point of the ed25519 curve; check that it was copied whole")]
    NotAPoint(PublicKeyBytes),
    /// The y coordinate is not reduced, so the point has another, proper spelling.
    #[error("public key {0} is not in canonical form (its y coordinate must be below 2^255 - 19)")]
    NotCanonical(PublicKeyBytes),
    /// One of the eight points for which signatures can be forged.
    #[error("public key {0} has small order, so anyone could sign for it; use a key made by a key generator")]
    SmallOrder(PublicKeyBytes),
    /// The text has no PEM block.
    #[error(
        "no PEM block found; a secret key file begins with `-----BEGIN PRIVATE KEY-----` \
         (`openssl genpkey -algorithm ed25519` makes one)"
    )]
    NotPem,
    /// The PEM block holds something else, such as a public or an encrypted key.
    #[error(
        "the PEM block is labelled {0:?}, but `PRIVATE KEY` (unencrypted PKCS#8) is needed; \
         `openssl pkey -in FILE` converts most other forms"
    )]
    PemLabel(String),
    /// The label is right, but what it encloses is not an ed25519 key.
    #[error(
        "the PEM block is damaged or holds a key other than ed25519; \
         `openssl pkey -in FILE -noout -text` shows what it is"
    )]
    NotEd25519,
    /// The file names a public key, but not the secret key's own.
    #[error("the file's public key {found} does not belong to its secret key, whose public key is {expected}")]
    PublicKeyMismatch {
        /// The public key in the file.
        found: PublicKeyBytes,
        /// The public key that belongs to the secret key in the file.
        expected: PublicKeyBytes,
    },
}

/// The 32 bytes of a public key, not yet known to be one.
///
/// Written as 64 hex digits for people, and as its 32 bytes for machines. The order is that of the
/// bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKeyBytes(pub [u8; 32]);

fixed_bytes!(PublicKeyBytes, 32, "a public key");

impl PublicKeyBytes {
    /// Checks and decompresses the key.
    ///
    /// # Errors
    /// If the bytes are not a point, are a second spelling of one, or are a point of small order.
    pub fn decompress(&self) -> Result<PublicKey, KeyError> {
        if !has_reduced_y(&self.0) {
            return Err(KeyError::NotCanonical(*self));
        }
        let point = VerifyingKey::from_bytes(&self.0).map_err(|_no_point| KeyError::NotAPoint(*self))?;
        // The other non-canonical spelling, x = 0 with the sign bit set, belongs to the points of
        // order 1 and 2 and so goes with these.
        if point.is_weak() {
            return Err(KeyError::SmallOrder(*self));
        }
        Ok(PublicKey(point))
    }
}

/// Whether the y coordinate in a compressed point is below 2^255 - 19.
fn has_reduced_y(bytes: &[u8; 32]) -> bool {
    // From p upwards there are only nineteen values below 2^255: all bits set, but for the lowest
    // byte.
    bytes[31] & 0x7f != 0x7f || bytes[1..31].iter().any(|&byte| byte != 0xff) || bytes[0] < 0xed
}

/// A public key that signatures can be verified with: a canonical point of the curve, not of small
/// order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key in its form for the wire.
    #[must_use]
    pub fn to_bytes(&self) -> PublicKeyBytes {
        PublicKeyBytes(self.0.to_bytes())
    }

    /// Verifies that the holder of this key signed `digest`.
    ///
    /// # Errors
    /// If not; [`crate::signature`] has the rules.
    pub fn verify(&self, digest: &Digest, signature: &Signature) -> Result<(), SignatureError> {
        self.verify_message(digest.as_bytes(), signature)
    }

    pub(crate) fn verify_message(&self, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(message, &signature).map_err(|_opaque| SignatureError)
    }
}

impl core::str::FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        PublicKeyBytes(parse_hex("a public key", text)?).decompress()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().fmt(f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = PublicKeyBytes::deserialize(deserializer)?;
        bytes.decompress().map_err(serde::de::Error::custom)
    }
}

/// A secret key: a 32-byte seed and what follows from it.
///
/// It cannot be printed or serialised by accident, and is wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key with this seed. The seed must come from a good source of entropy, and every seed is
    /// as good as another.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, which is all there is to the key.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public key that belongs to this secret key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a digest. The same key and digest always give the same signature.
    ///
    /// Only digests are signed, so that the domain they were taken in says what was signed.
    #[must_use]
    pub fn sign(&self, digest: &Digest) -> Signature {
        self.sign_message(digest.as_bytes())
    }

    pub(crate) fn sign_message(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }

    /// The key as a PKCS#8 (version 1) PEM block, ending with a newline.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let key = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        key.to_pkcs8_pem(LineEnding::LF).expect("a key of fixed size always has a PEM form")
    }

    /// Reads a PKCS#8 PEM block (version 1 or 2, with or without the public key), with white space
    /// around it.
    ///
    /// # Errors
    /// If the text is not an unencrypted ed25519 private key, or names a public key that is not its
    /// own.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        // The text may hold a secret: no error carries any of it but the label.
        let text = text.trim();
        let label = text.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----"));
        let (label, _) = label.ok_or(KeyError::NotPem)?;
        if label != "PRIVATE KEY" {
            return Err(KeyError::PemLabel(label.chars().take(40).collect()));
        }
        let key: KeypairBytes = text.parse().map_err(|_opaque| KeyError::NotEd25519)?;
        let secret = Self::from_seed(&key.secret_key);
        let expected = secret.public_key().to_bytes();
        match key.public_key {
            Some(found) if found.to_bytes() != expected.to_bytes() => {
                Err(KeyError::PublicKeyMismatch { found: PublicKeyBytes(found.to_bytes()), expected })
            }
            _ => Ok(secret),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::constants::EIGHT_TORSION;

    /// The key of RFC 8410, section 10.3: version 1, then version 2 with an attribute and the
    /// public key.
    const RFC_8410_V1: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    const RFC_8410_V2: &str = "-----BEGIN PRIVATE KEY-----\n\
        MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\n\
        Z9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PRIVATE KEY-----\n";
    const RFC_8410_PUBLIC: &str = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

    fn some_key() -> SecretKey {
        SecretKey::from_seed(&[7; 32])
    }

    #[test]
    fn pem_round_trips_and_is_version_1() {
        let key = SecretKey::from_pem(RFC_8410_V1).unwrap();
        assert_eq!(key.public_key().to_string(), RFC_8410_PUBLIC);
        assert_eq!(*key.to_pem(), RFC_8410_V1);
        assert_eq!(SecretKey::from_pem(&some_key().to_pem()).unwrap().seed(), some_key().seed());
    }

    #[test]
    fn pem_version_2_is_read() {
        let key = SecretKey::from_pem(RFC_8410_V2).unwrap();
        assert_eq!(key.public_key().to_string(), RFC_8410_PUBLIC);
        let with_public_key = some_key().0.to_pkcs8_pem(LineEnding::CRLF).unwrap();
        let key = SecretKey::from_pem(&format!("\n {} \n", *with_public_key)).unwrap();
        assert_eq!(key.seed(), some_key().seed());
    }

    #[test]
    fn pem_with_somebody_elses_public_key_is_refused() {
        let public_key = SecretKey::from_seed(&[8; 32]).public_key().to_bytes();
        let forged =
            KeypairBytes { secret_key: [7; 32], public_key: Some(ed25519_dalek::pkcs8::PublicKeyBytes(public_key.0)) };
        let expected = some_key().public_key().to_bytes();
        let error = SecretKey::from_pem(&forged.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap_err();
        assert_eq!(error, KeyError::PublicKeyMismatch { found: public_key, expected });
    }

    #[test]
    fn what_is_no_ed25519_pem_is_refused_by_name() {
        assert_eq!(SecretKey::from_pem("").unwrap_err(), KeyError::NotPem);
        assert_eq!(SecretKey::from_pem(&"07".repeat(32)).unwrap_err(), KeyError::NotPem);
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n";
        assert_eq!(SecretKey::from_pem(public).unwrap_err(), KeyError::PemLabel("PUBLIC KEY".into()));
        let encrypted = SecretKey::from_pem("-----BEGIN ENCRYPTED PRIVATE KEY-----\n").unwrap_err();
        assert!(encrypted.to_string().contains("unencrypted PKCS#8"), "{encrypted}");
        // X25519, the neighbouring algorithm in RFC 8410, with a key of the same size: only the
        // identifier differs.
        let x25519 = RFC_8410_V1.replace("K2Vw", "K2Vu");
        for damaged in [x25519.as_str(), &RFC_8410_V1[..60], &RFC_8410_V1.replace("MC4C", "MC5C")] {
            assert_eq!(SecretKey::from_pem(damaged).unwrap_err(), KeyError::NotEd25519, "{damaged}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", some_key());
        assert_eq!(shown, format!("SecretKey(of {})", some_key().public_key()));
        assert!(!shown.contains(&"07".repeat(8)));
    }

    #[test]
    fn public_keys_of_small_order_are_refused() {
        for point in EIGHT_TORSION {
            let bytes = PublicKeyBytes(point.compress().to_bytes());
            assert_eq!(bytes.decompress().unwrap_err(), KeyError::SmallOrder(bytes));
        }
        // y = 1 and y = -1 (x = 0) with the sign bit set: spellings that RFC 8032 forbids.
        for point in [EIGHT_TORSION[0], EIGHT_TORSION[4]] {
            let mut bytes = PublicKeyBytes(point.compress().to_bytes());
            bytes.0[31] |= 0x80;
            assert!(bytes.decompress().is_err(), "{bytes}");
        }
    }

    #[test]
    fn public_keys_with_unreduced_y_are_refused() {
        for low in 0xed..=0xff {
            for high in [0x7f, 0xff] {
                let mut bytes = [0xff; 32];
                (bytes[0], bytes[31]) = (low, high);
                let bytes = PublicKeyBytes(bytes);
                assert_eq!(bytes.decompress().unwrap_err(), KeyError::NotCanonical(bytes));
            }
        }
        // Just below the bound: a different error or none at all.
        for low in 0xd0..0xed {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (low, 0x7f);
            assert!(!matches!(PublicKeyBytes(bytes).decompress(), Err(KeyError::NotCanonical(_))));
        }
    }

    #[test]
    fn what_is_accepted_is_spelt_canonically() {
        let mut points = 0;
        for low in 0..=255 {
            let bytes = PublicKeyBytes([low; 32]);
            match bytes.decompress() {
                Ok(key) => {
                    let point = curve25519_dalek::edwards::CompressedEdwardsY(bytes.0).decompress().unwrap();
                    assert_eq!(point.compress().to_bytes(), key.to_bytes().0);
                    points += 1;
                }
                Err(error) => assert!(error.to_string().contains(&bytes.to_string()), "{error}"),
            }
        }
        assert!((80..180).contains(&points), "about half of all byte strings are points, not {points} of 256");
    }

    #[test]
    fn text_of_a_public_key_is_checked() {
        let key = some_key().public_key();
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        assert!(matches!("00".parse::<PublicKey>(), Err(KeyError::Hex(_))));
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<PublicKey>(&json).unwrap(), key);
        let small = format!("\"01{}\"", "00".repeat(31));
        let error = serde_json::from_str::<PublicKey>(&small).unwrap_err().to_string();
        assert!(error.contains("small order"), "{error}");
    }
}
