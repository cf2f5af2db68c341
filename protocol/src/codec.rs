//! The one place that knows how transactions, blocks and stored records become bytes.
//!
//! # Format
//! That of bincode 1.3.3 with fixed-size integers: structure fields in order and without names, integers little-endian
//! in their own width, byte strings, text and lists behind their length as a `u64`, fixed arrays bare. It is laid out
//! byte by byte in `docs/PROTOCOL.md`; `docs/adr/0002-bincode.md` says why it was chosen, and how it would be replaced.
//!
//! # What [`decode_canonical`] promises
//! - Nothing larger than the limit is looked at, and no length prefix makes it allocate more than the input could fill.
//! - Nothing may follow the value.
//! - The value, encoded again, gives exactly the input. So one value has one encoding, and an identifier computed from
//!   bytes is an identifier of the value. The types of this crate leave no second spelling to begin with (no booleans,
//!   options, variable-size integers or maps); the check keeps this true of types added later.
//!
//! # Cost
//! One pass to decode, one to compare; neither copies what the type borrows, and the comparison allocates nothing.

use bincode::Options as _;
use core::fmt;
use serde::{Deserialize, Serialize};
use std::io;

/// Why bytes are not the encoding of a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// There are more bytes than the limit allows.
    #[error("{found} bytes is more than the limit of {max}")]
    TooLong {
        /// Bytes given.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The bytes end, or a length prefix points, beyond the end.
    #[error(
        "the bytes end in the middle of a value, or a length prefix claims more than follows; send the whole encoding"
    )]
    Truncated,
    /// Bytes are left over after the value.
    #[error("bytes follow the end of the value; send exactly one encoding")]
    TrailingBytes,
    /// A field holds what its type cannot.
    #[error("a field has no valid value: {0}")]
    Malformed(String),
    /// The bytes decode, but to a value whose encoding is different.
    #[error("not the canonical encoding: byte {offset} differs after decoding and encoding again")]
    NotCanonical {
        /// Position of the first differing byte, counted from 0.
        offset: usize,
    },
}

/// The encoding of a value.
///
/// # Panics
/// If the type's `Serialize` fails or leaves a sequence's length open, which no type of this crate does.
#[must_use]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    options().serialize(value).expect("the protocol's types always have an encoding")
}

/// Decodes a value of at most `bytes_max` bytes and checks that these bytes are its one encoding.
///
/// # Errors
/// See [`CodecError`].
pub fn decode_canonical<'a, T>(bytes: &'a [u8], bytes_max: usize) -> Result<T, CodecError>
where
    T: Deserialize<'a> + Serialize,
{
    if bytes.len() > bytes_max {
        return Err(CodecError::TooLong { found: bytes.len(), max: bytes_max });
    }
    let limited = options().with_limit(bytes.len() as u64);
    let value: T = limited.deserialize(bytes).map_err(|error| explain(*error))?;
    let mut comparison = Comparison { expected: bytes, offset: 0 };
    match options().serialize_into(&mut comparison, &value) {
        Ok(()) if comparison.offset == bytes.len() => Ok(value),
        _ => Err(CodecError::NotCanonical { offset: comparison.offset }),
    }
}

fn options() -> impl bincode::Options {
    bincode::DefaultOptions::new().with_no_limit().with_fixint_encoding().with_little_endian().reject_trailing_bytes()
}

fn explain(error: bincode::ErrorKind) -> CodecError {
    match error {
        bincode::ErrorKind::Io(_) | bincode::ErrorKind::SizeLimit => CodecError::Truncated,
        // The only error that the library itself reports as text.
        bincode::ErrorKind::Custom(text) if text.starts_with("Slice had bytes remaining") => CodecError::TrailingBytes,
        bincode::ErrorKind::Custom(text) => CodecError::Malformed(text),
        other => CodecError::Malformed(other.to_string()),
    }
}

/// A writer that compares instead of writing, and refuses at the first difference.
struct Comparison<'a> {
    expected: &'a [u8],
    offset: usize,
}

impl io::Write for Comparison<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let rest = &self.expected[self.offset..];
        let same = rest.iter().zip(bytes).take_while(|(expected, found)| expected == found).count();
        self.offset += same;
        if same == bytes.len() { Ok(same) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// For `#[serde(with = "codec::byte_string")]` on a `Vec<u8>` or `&[u8]`: the same encoding as a list of bytes, but
/// moved in one piece.
pub mod byte_string {
    use super::fmt;
    use core::marker::PhantomData;
    use serde::{Deserializer, Serializer};

    /// Writes the length and the bytes.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    /// Reads the length and the bytes, borrowing them from the input.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>, T: From<&'de [u8]>>(deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor(PhantomData))
    }

    struct BytesVisitor<T>(PhantomData<T>);

    impl<'de, T: From<&'de [u8]>> serde::de::Visitor<'de> for BytesVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a byte string")
        }

        fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<T, E> {
            Ok(T::from(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn integers_are_little_endian_and_lengths_have_eight_bytes() {
        assert_eq!(encode(&0x0102_0304_u32), [4, 3, 2, 1]);
        assert_eq!(encode("ab"), *b"\x02\0\0\0\0\0\0\0ab");
        assert_eq!(encode(&vec![258_u16]), [1, 0, 0, 0, 0, 0, 0, 0, 2, 1]);
        assert_eq!(encode(&[7_u8, 8]), [7, 8]);
    }

    #[test]
    fn size_is_judged_first() {
        assert_eq!(decode_canonical::<u32>(&[0; 4], 4), Ok(0));
        assert_eq!(decode_canonical::<u32>(&[0; 4], 3), Err(CodecError::TooLong { found: 4, max: 3 }));
    }

    #[test]
    fn a_length_beyond_the_end_is_refused_before_anything_is_allocated() {
        // Were it believed, reserving this much would abort the process.
        let bytes = encode(&u64::MAX);
        assert_eq!(decode_canonical::<String>(&bytes, 100), Err(CodecError::Truncated));
        assert_eq!(decode_canonical::<Vec<u64>>(&bytes, 100), Err(CodecError::Truncated));
    }

    #[test]
    fn ends_are_exact() {
        assert_eq!(decode_canonical::<u32>(&[0; 3], 100), Err(CodecError::Truncated));
        assert_eq!(decode_canonical::<u32>(&[0; 5], 100), Err(CodecError::TrailingBytes));
        assert_eq!(decode_canonical::<u32>(&[], 100), Err(CodecError::Truncated));
    }

    #[test]
    fn impossible_values_are_named() {
        let Err(CodecError::Malformed(text)) = decode_canonical::<bool>(&[2], 100) else { panic!("2 is no boolean") };
        assert!(text.contains("bool"), "{text}");
        let text = [&encode(&1_u64)[..], &[0xff]].concat();
        assert!(matches!(decode_canonical::<String>(&text, 100), Err(CodecError::Malformed(_))));
    }

    #[test]
    fn a_second_spelling_is_refused() {
        // A set is read from its members in any order and any number, but written in one way.
        let set = BTreeSet::from([1_u8, 2]);
        let header = encode(&2_u64);
        let proper = [&header[..], &[1, 2]].concat();
        assert_eq!(decode_canonical::<BTreeSet<u8>>(&proper, 100), Ok(set));
        let reversed = [&header[..], &[2, 1]].concat();
        let refused = decode_canonical::<BTreeSet<u8>>(&reversed, 100);
        assert_eq!(refused, Err(CodecError::NotCanonical { offset: 8 }));
        let repeated = [&header[..], &[1, 1]].concat();
        let refused = decode_canonical::<BTreeSet<u8>>(&repeated, 100);
        assert_eq!(refused, Err(CodecError::NotCanonical { offset: 0 }));
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Strings<'a> {
        #[serde(with = "byte_string")]
        owned: Vec<u8>,
        #[serde(borrow, with = "byte_string")]
        borrowed: &'a [u8],
    }

    proptest! {
        #[test]
        fn byte_strings_are_encoded_like_lists(owned: Vec<u8>, borrowed: Vec<u8>) {
            let bytes = encode(&(&owned, &borrowed));
            let strings = Strings { owned, borrowed: &borrowed };
            prop_assert_eq!(&encode(&strings), &bytes);
            prop_assert_eq!(decode_canonical::<Strings<'_>>(&bytes, bytes.len()).unwrap(), strings);
        }

        #[test]
        fn what_is_accepted_has_one_encoding(bytes: Vec<u8>) {
            if let Ok(value) = decode_canonical::<(u8, Vec<u16>, bool)>(&bytes, bytes.len()) {
                prop_assert_eq!(encode(&value), bytes);
            }
        }
    }
}
