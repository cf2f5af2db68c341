//! RFC 8032's vectors, and the twelve cases of *Taming the many EdDSAs* (Chalkias, Garillot,
//! Nikolaenko, 2020, table 5) rebuilt from curve arithmetic: each case is first shown to be what it
//! claims by two lenient verifiers written from the paper, and only then put to ours.

use super::*;
use crate::{Digest, PublicKeyBytes, SecretKey};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity as _;
use proptest::prelude::*;
use sha2::{Digest as _, Sha512};

/// RFC 8032, section 7.1: seed, public key, message, signature. The vector with 1023 bytes is left
/// out for its length.
const RFC_8032: [[&str; 4]; 4] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
         d25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c\
         387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659\
         4a7c15e9716ed28dc027beceea1ec40a",
    ],
    [
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd\
         454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030\
         3dca179c138ac17ad9bef1177331a704",
    ],
];

#[test]
fn rfc_8032_vectors() {
    for [seed, public_key, message, signature] in RFC_8032 {
        let seed: [u8; 32] = hex::decode(seed).unwrap().try_into().unwrap();
        let message = hex::decode(message).unwrap();
        let key = SecretKey::from_seed(&seed);
        assert_eq!(key.public_key().to_string(), public_key);
        let signed = key.sign_message(&message);
        assert_eq!(signed.to_string(), signature);
        key.public_key().verify_message(&message, &signed).unwrap();
    }
}

/// A public key, a signature and a message, any of which may be malformed.
struct Case {
    key: [u8; 32],
    signature: [u8; 64],
    message: Vec<u8>,
}

impl Case {
    fn new(key: [u8; 32], nonce: [u8; 32], scalar: [u8; 32], message: &[u8]) -> Self {
        let signature = [nonce, scalar].concat().try_into().unwrap();
        Self { key, signature, message: message.to_vec() }
    }

    fn nonce(&self) -> [u8; 32] {
        self.signature[..32].try_into().unwrap()
    }

    /// What the equation leaves over, `S·B - R - k·A`: nothing if it holds. Points may be spelt any
    /// way and S may be of any size. `reserialise` hashes the proper spelling of both points
    /// instead of the bytes given.
    fn residue(&self, reserialise: bool) -> EdwardsPoint {
        let key = point(self.key);
        let nonce = point(self.nonce());
        let scalar = Scalar::from_bytes_mod_order(self.signature[32..].try_into().unwrap());
        let k = if reserialise {
            challenge(&nonce.compress().to_bytes(), &key.compress().to_bytes(), &self.message)
        } else {
            challenge(&self.nonce(), &self.key, &self.message)
        };
        scalar * ED25519_BASEPOINT_POINT - nonce - k * key
    }

    fn holds_without_cofactor(&self) -> bool {
        self.residue(false).is_identity()
    }

    fn holds_with_cofactor(&self) -> bool {
        self.residue(false).mul_by_cofactor().is_identity()
    }

    fn accepted(&self) -> bool {
        let key = PublicKeyBytes(self.key).decompress();
        key.is_ok_and(|key| key.verify_message(&self.message, &Signature(self.signature)).is_ok())
    }

    /// The verdict of the library's strict function alone, without our rules for public keys.
    fn accepted_by_the_library(&self) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&self.signature);
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.key);
        key.is_ok_and(|key| key.verify_strict(&self.message, &signature).is_ok())
    }
}

fn point(bytes: [u8; 32]) -> EdwardsPoint {
    CompressedEdwardsY(bytes).decompress().expect("a case's points are on the curve")
}

fn bytes(point: EdwardsPoint) -> [u8; 32] {
    point.compress().to_bytes()
}

fn challenge(nonce: &[u8], key: &[u8], message: &[u8]) -> Scalar {
    let hash = Sha512::new().chain_update(nonce).chain_update(key).chain_update(message).finalize();
    Scalar::from_bytes_mod_order_wide(&hash.into())
}

/// A point of order eight.
fn torsion() -> EdwardsPoint {
    assert!(EIGHT_TORSION[1].is_small_order() && !EIGHT_TORSION[4].is_identity());
    EIGHT_TORSION[1]
}

/// Two secret scalars, for the key and for the nonce.
fn secrets() -> (Scalar, Scalar) {
    (challenge(b"a", b"secret", b"key"), challenge(b"a", b"secret", b"nonce"))
}

/// The first message, of a few dozen tries, for which the case that `build` makes has the property
/// wanted.
fn search(build: impl Fn(&[u8]) -> Case, wanted: impl Fn(&Case) -> bool) -> Case {
    let mut cases = (0_u32..4096).map(|number| build(&number.to_le_bytes()));
    cases.find(wanted).expect("one message in eight will do")
}

#[test]
fn case_0_key_and_nonce_of_small_order_and_s_zero() {
    let case = search(
        |message| Case::new(bytes(torsion()), bytes(-torsion()), [0; 32], message),
        Case::holds_without_cofactor,
    );
    assert!(!case.accepted() && !case.accepted_by_the_library());
}

#[test]
fn case_1_key_of_small_order() {
    let (_, r) = secrets();
    let nonce = bytes(r * ED25519_BASEPOINT_POINT - torsion());
    let case =
        search(|message| Case::new(bytes(torsion()), nonce, r.to_bytes(), message), Case::holds_without_cofactor);
    assert!(!point(case.nonce()).is_small_order() && !point(case.nonce()).is_torsion_free());
    assert!(!case.accepted() && !case.accepted_by_the_library());
}

/// Key `a·B + T`, nonce of small order.
fn with_small_nonce(nonce: [u8; 32], reserialise: bool) -> Case {
    let (a, _) = secrets();
    let key = bytes(a * ED25519_BASEPOINT_POINT + torsion());
    let build = |message: &[u8]| {
        let hashed = if reserialise { bytes(point(nonce)) } else { nonce };
        Case::new(key, nonce, (challenge(&hashed, &key, message) * a).to_bytes(), message)
    };
    search(build, |case| case.residue(reserialise).is_identity())
}

#[test]
fn case_2_nonce_of_small_order() {
    let case = with_small_nonce(bytes(-torsion()), false);
    assert!(case.holds_without_cofactor());
    assert!(!case.accepted() && !case.accepted_by_the_library());
}

/// Key `a·B + T`, nonce `r·B + N`, and the scalar that makes the equation hold but for the
/// small-order components.
fn mixed(nonce_torsion: EdwardsPoint, message: &[u8]) -> Case {
    let (a, r) = secrets();
    let key = bytes(a * ED25519_BASEPOINT_POINT + torsion());
    let nonce = bytes(r * ED25519_BASEPOINT_POINT + nonce_torsion);
    let scalar = challenge(&nonce, &key, message) * a + r;
    Case::new(key, nonce, scalar.to_bytes(), message)
}

#[test]
fn case_3_mixed_key_and_nonce_that_cancel_is_the_only_one_accepted() {
    let case = search(|message| mixed(-torsion(), message), Case::holds_without_cofactor);
    assert!(!point(case.key).is_torsion_free() && !point(case.nonce()).is_torsion_free());
    assert!(case.accepted());
}

#[test]
fn case_4_mixed_key_and_nonce_that_hold_only_with_cofactor() {
    let case = search(|message| mixed(-torsion(), message), |case| !case.holds_without_cofactor());
    assert!(case.holds_with_cofactor());
    assert!(!case.accepted());
}

#[test]
fn case_5_mixed_key_and_prime_order_nonce_that_hold_only_with_cofactor() {
    let build = |message: &[u8]| mixed(EIGHT_TORSION[0], message);
    let case = search(build, |case| !case.holds_without_cofactor());
    assert!(point(case.nonce()).is_torsion_free() && case.holds_with_cofactor());
    assert!(!case.accepted());
}

/// L, the order of the base point, little-endian (RFC 8032, section 5.1).
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// An honest signature with `times · L` added to its scalar, which changes nothing in the equation.
fn with_scalar_raised(times: u32) -> Case {
    let key = SecretKey::from_seed(&[1; 32]);
    let signature = key.sign_message(b"message").0;
    let mut scalar = [0; 32];
    let mut carry = 0_u32;
    for (index, byte) in scalar.iter_mut().enumerate() {
        let sum = u32::from(signature[32 + index]) + times * u32::from(ORDER[index]) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(carry, 0, "the raised scalar still fits in 32 bytes");
    let nonce = signature[..32].try_into().unwrap();
    Case::new(key.public_key().to_bytes().0, nonce, scalar, b"message")
}

#[test]
fn cases_6_and_7_scalar_not_below_the_order() {
    assert!(with_scalar_raised(0).accepted());
    for times in 1..=14 {
        let case = with_scalar_raised(times);
        assert!(case.holds_without_cofactor());
        assert!(!case.accepted() && !case.accepted_by_the_library(), "S + {times} L");
    }
}

/// Spellings of points of small order that are not canonical: y raised by p, or x = 0 with the sign
/// bit set.
fn unreduced_small_points() -> Vec<[u8; 32]> {
    let raised = |low: u8, high: u8| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (low, high);
        bytes
    };
    // y = p and y = p + 1, that is 0 (order four) and 1 (the identity), with either sign.
    vec![raised(0xed, 0x7f), raised(0xed, 0xff), raised(0xee, 0x7f)]
}

#[test]
fn cases_8_and_9_nonce_of_small_order_not_canonical() {
    // The nonce must cancel a multiple of the key's component, so only an order that the component
    // reaches will do.
    for nonce in unreduced_small_points() {
        for reserialise in [false, true] {
            let case = with_small_nonce(nonce, reserialise);
            assert!(point(nonce).is_small_order() && bytes(point(nonce)) != nonce);
            assert!(!case.accepted() && !case.accepted_by_the_library());
        }
    }
}

#[test]
fn cases_10_and_11_key_of_small_order_not_canonical() {
    let (_, r) = secrets();
    for key in unreduced_small_points() {
        for reserialise in [false, true] {
            let nonce = bytes(r * ED25519_BASEPOINT_POINT - point(key));
            let build = |message: &[u8]| Case::new(key, nonce, r.to_bytes(), message);
            let case = search(build, |case| case.residue(reserialise).is_identity());
            assert!(!case.accepted());
        }
    }
}

#[test]
fn the_order_is_the_order() {
    // L ≡ 0, and L - 1 ≡ -1.
    assert_eq!(Scalar::from_bytes_mod_order(ORDER), Scalar::ZERO);
    let mut below = ORDER;
    below[0] -= 1;
    assert_eq!(Scalar::from_canonical_bytes(below).unwrap(), -Scalar::ONE);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn signing_then_verifying(seed: [u8; 32], digest: [u8; 32]) {
        let key = SecretKey::from_seed(&seed);
        let digest = Digest(digest);
        let signature = key.sign(&digest);
        prop_assert_eq!(signature, key.sign(&digest));
        prop_assert_eq!(key.public_key().verify(&digest, &signature), Ok(()));
        prop_assert_eq!(key.public_key().to_bytes().decompress().unwrap(), key.public_key());
    }

    #[test]
    fn any_flipped_bit_is_noticed(seed: [u8; 32], digest: [u8; 32], bit in 0_usize..1024) {
        let key = SecretKey::from_seed(&seed);
        let mut bytes = [&key.public_key().to_bytes().0[..], &key.sign(&Digest(digest)).0, &digest].concat();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let case = Case {
            key: bytes[..32].try_into().unwrap(),
            signature: bytes[32..96].try_into().unwrap(),
            message: bytes[96..].to_vec(),
        };
        prop_assert!(!case.accepted());
    }
}
