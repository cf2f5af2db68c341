//! What digests, public keys and signatures have in common: a fixed number of bytes, written as
//! lowercase hex for people and as the bare bytes for machines.
//!
//! Rules of the text form: exactly two hex digits a byte, upper or lower case on input, lower case
//! on output, no prefix, no separators. Rules of the binary form: the bytes as a serde tuple, which
//! carries no length, so that in bincode the value takes exactly its own size.

use core::cmp::Ordering;
use core::fmt;
use core::marker::PhantomData;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserializer, Serializer};

/// Compares two values as their bytes compare, eight at a time. Digests and keys differ in the first eight nearly always, so that a
/// look-up in an ordered map costs a comparison of numbers for each step rather than a call.
#[must_use]
#[inline]
pub fn compare<const N: usize>(a: &[u8; N], b: &[u8; N]) -> Ordering {
    let ((a_words, a_rest), (b_words, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a_words.iter().zip(b_words) {
        let order = u64::from_be_bytes(*a).cmp(&u64::from_be_bytes(*b));
        if order.is_ne() {
            return order;
        }
    }
    a_rest.cmp(b_rest)
}

/// Why a hex string is not the value it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// The string is too short or too long for the type.
    #[error("expected {expected} hex digits for {what}, found {found} characters")]
    Length {
        /// What was being read, as a noun with its article ("a digest").
        what: &'static str,
        /// How many hex digits it takes.
        expected: usize,
        /// How many characters were given.
        found: usize,
    },
    /// A character outside 0-9, a-f and A-F.
    #[error("{what} is written in hex digits only (0-9, a-f), but character {position} is {character:?}")]
    Character {
        /// What was being read, as a noun with its article ("a digest").
        what: &'static str,
        /// Position of the offending character, counted from 1.
        position: usize,
        /// The offending character.
        character: char,
    },
}

impl HexError {
    /// The same mistake in something else that is written alike: an identifier that is a digest says so by its own name.
    #[must_use]
    pub fn about(self, what: &'static str) -> Self {
        match self {
            Self::Length { expected, found, .. } => Self::Length { what, expected, found },
            Self::Character { position, character, .. } => Self::Character { what, position, character },
        }
    }
}

/// Reads exactly `N` bytes from hex text.
pub(crate) fn parse_hex<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], HexError> {
    // The character comes first: "0x…" and stray spaces are likelier mistakes than a wrong length,
    // and naming them helps more.
    if let Some((index, character)) = text.chars().enumerate().find(|(_, c)| !c.is_ascii_hexdigit()) {
        return Err(HexError::Character { what, position: index + 1, character });
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_wrong_length| HexError::Length {
        what,
        expected: 2 * N,
        found: text.len(),
    })?;
    Ok(bytes)
}

pub(crate) fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

pub(crate) fn serialize<const N: usize, S: Serializer>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        return serializer.serialize_str(&hex::encode(bytes));
    }
    let mut tuple = serializer.serialize_tuple(N)?;
    for byte in bytes {
        tuple.serialize_element(byte)?;
    }
    tuple.end()
}

pub(crate) fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
    what: &'static str,
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_str(HexVisitor::<N>(what))
    } else {
        deserializer.deserialize_tuple(N, TupleVisitor::<N>(what, PhantomData))
    }
}

struct HexVisitor<const N: usize>(&'static str);

impl<const N: usize> Visitor<'_> for HexVisitor<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {} hex digits", self.0, 2 * N)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        parse_hex(self.0, text).map_err(E::custom)
    }
}

struct TupleVisitor<const N: usize>(&'static str, PhantomData<[u8; N]>);

impl<'de, const N: usize> Visitor<'de> for TupleVisitor<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {N} bytes", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut bytes = [0; N];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = sequence.next_element()?.ok_or_else(|| A::Error::invalid_length(index, &self))?;
        }
        Ok(bytes)
    }
}

/// Gives a newtype over `[u8; N]` its text form, its binary form and read access to its bytes.
macro_rules! fixed_bytes {
    ($type:ident, $length:expr, $what:literal) => {
        impl $type {
            /// Size of the value in bytes.
            pub const LENGTH: usize = $length;

            /// The bytes of the value.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// The bytes of the value, by value.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; $length] {
                self.0
            }
        }

        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $type {
            #[inline]
            fn cmp(&self, other: &Self) -> core::cmp::Ordering {
                $crate::bytes::compare(&self.0, &other.0)
            }
        }

        impl From<[u8; $length]> for $type {
            fn from(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }
        }

        impl AsRef<[u8]> for $type {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                $crate::bytes::write_hex(&self.0, f)
            }
        }

        impl core::fmt::Debug for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }

        impl core::str::FromStr for $type {
            type Err = $crate::bytes::HexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::bytes::parse_hex($what, text).map(Self)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::bytes::serialize(&self.0, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::bytes::deserialize($what, deserializer).map(Self)
            }
        }
    };
}
pub(crate) use fixed_bytes;

#[cfg(test)]
mod tests {
    use super::HexError;
    use crate::{Digest, PublicKeyBytes, Signature};
    use bincode::Options as _;
    use core::fmt::{Debug, Display};
    use core::str::FromStr;
    use proptest::prelude::*;

    fn both_forms<T, const N: usize>()
    where
        T: From<[u8; N]> + Debug + Display + FromStr<Err = HexError> + PartialEq,
        T: serde::Serialize + serde::de::DeserializeOwned,
    {
        let bytes: [u8; N] = core::array::from_fn(|i| u8::try_from(i * 3 + 1).unwrap());
        let value = T::from(bytes);
        let text = value.to_string();
        assert_eq!(text, hex::encode(bytes));
        assert_eq!(text.parse::<T>().unwrap(), value);
        assert_eq!(text.to_uppercase().parse::<T>().unwrap(), value);

        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value);

        let options = bincode::DefaultOptions::new().with_fixint_encoding();
        let encoded = options.serialize(&value).unwrap();
        assert_eq!(encoded, bytes, "the binary form is the bare bytes");
        assert_eq!(options.deserialize::<T>(&encoded).unwrap(), value);
        assert!(options.deserialize::<T>(&encoded[..N - 1]).is_err());
    }

    #[test]
    fn text_is_hex_and_binary_is_bare() {
        both_forms::<Digest, 32>();
        both_forms::<PublicKeyBytes, 32>();
        both_forms::<Signature, 64>();
    }

    fn bytes<const N: usize>() -> impl Strategy<Value = [u8; N]> {
        // Few different bytes, so that long common beginnings come up.
        prop::array::uniform(prop_oneof![4 => Just(7_u8), 1 => any::<u8>()])
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_bytes(a in bytes::<20>(), b in bytes::<20>(), c in bytes::<32>(), d in bytes::<32>()) {
            prop_assert_eq!(super::compare(&a, &b), a.cmp(&b));
            prop_assert_eq!(Digest(c).cmp(&Digest(d)), c.cmp(&d));
            prop_assert_eq!(Digest(c).partial_cmp(&Digest(d)), c.partial_cmp(&d));
        }
    }

    #[test]
    fn errors_say_what_was_expected() {
        let short = "ab".parse::<Digest>().unwrap_err();
        assert_eq!(short.to_string(), "expected 64 hex digits for a digest, found 2 characters");
        let odd = "abc".parse::<Digest>().unwrap_err();
        assert_eq!(odd.to_string(), "expected 64 hex digits for a digest, found 3 characters");
        let prefixed = format!("0x{}", "00".repeat(31)).parse::<PublicKeyBytes>().unwrap_err();
        assert_eq!(
            prefixed.to_string(),
            "a public key is written in hex digits only (0-9, a-f), but character 2 is 'x'"
        );
        assert!("é".repeat(32).parse::<Digest>().is_err());
        let json = serde_json::from_str::<Digest>("\"zz\"").unwrap_err().to_string();
        assert!(json.contains("hex digits only"), "{json}");
        let number = serde_json::from_str::<Digest>("7").unwrap_err().to_string();
        assert!(number.contains("a digest as 64 hex digits"), "{number}");
    }
}
