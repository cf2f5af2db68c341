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
