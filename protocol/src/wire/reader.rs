//! The parts of protobuf that pubsub uses: varints, keys and lengths, read from borrowed bytes without allocation.

use super::error::WireError;
use super::limits::WireLimits;

/// The length prefix of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePrefix {
    /// Bytes of the prefix itself.
    pub prefix_bytes: usize,
    /// Bytes of the frame that follows it.
    pub frame_bytes: usize,
}

/// Reads the unsigned-varint length in front of a frame; `None` while more bytes are needed to know it.
///
/// The limit is applied to the announced length, before anything is buffered for it.
///
/// # Errors
/// [`WireError::FrameTooLong`] when the frame would exceed `limits.frame_bytes_max`, and [`WireError::BadPrefix`] for an
/// encoding longer than needed, which the multiformats specification of unsigned varints forbids.
pub fn read_prefix(buffer: &[u8], limits: &WireLimits) -> Result<Option<FramePrefix>, WireError> {
    /// Seven bits each: enough for every `u32`, and four times what any limit can be.
    const PREFIX_BYTES_MAX: usize = 5;
    let max = limits.frame_bytes_max;
    let mut len = 0u64;
    for (index, byte) in buffer.iter().take(PREFIX_BYTES_MAX).enumerate() {
        len |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 != 0 {
            continue;
        }
        if *byte == 0 && index > 0 {
            return Err(WireError::BadPrefix);
        }
        let frame_bytes = usize::try_from(len).unwrap_or(usize::MAX);
        if frame_bytes > max {
            return Err(WireError::FrameTooLong { len: frame_bytes, max });
        }
        return Ok(Some(FramePrefix { prefix_bytes: index + 1, frame_bytes }));
    }
    if buffer.len() >= PREFIX_BYTES_MAX { Err(WireError::FrameTooLong { len: usize::MAX, max }) } else { Ok(None) }
}

/// Reads the fields of one protobuf message, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Where `bytes` begins within the frame, for errors.
    base: usize,
    at: usize,
}

/// One field: its number and its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    value: Value<'a>,
    /// Where the value begins within the frame.
    at: usize,
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Varint(u64),
    Fixed,
    Bytes(&'a [u8]),
}

impl<'a> Reader<'a> {
    /// Reads a whole frame.
    pub(super) fn new(frame: &'a [u8]) -> Self {
        Self { bytes: frame, base: 0, at: 0 }
    }

    /// The next field, or `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let key_at = self.position();
        let key = u32::try_from(self.varint()?).map_err(|_too_long| WireError::BadFieldNumber { at: key_at })?;
        let number = key >> 3;
        if number == 0 {
            return Err(WireError::BadFieldNumber { at: key_at });
        }
        let value_at = self.position();
        let (value, at) = match key & 7 {
            0 => (Value::Varint(self.varint()?), value_at),
            1 => (self.take(8, value_at).map(|_skipped| Value::Fixed)?, value_at),
            2 => {
                let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let at = self.position();
                (Value::Bytes(self.take(len, value_at)?), at)
            }
            5 => (self.take(4, value_at).map(|_skipped| Value::Fixed)?, value_at),
            #[expect(clippy::cast_possible_truncation, reason = "three bits")]
            wire_type => return Err(WireError::BadWireType { wire_type: wire_type as u8, at: key_at }),
        };
        Ok(Some(Field { number, value, at }))
    }

    fn position(&self) -> usize {
        self.base + self.at
    }

    fn take(&mut self, len: usize, at: usize) -> Result<&'a [u8], WireError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or(WireError::Truncated { at })?;
        self.at += len;
        Ok(taken)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        // Nearly all keys and lengths have one byte.
        match self.bytes.get(self.at) {
            Some(byte) if byte & 0x80 == 0 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let start = self.position();
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(WireError::Truncated { at: start })?;
            self.at += 1;
            // The tenth byte has room for one bit only.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::VarintTooLong { at: start })
    }
}

impl<'a> Field<'a> {
    /// The value of a length-delimited field.
    pub(super) fn bytes(&self, field: &'static str) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) | Value::Fixed => Err(WireError::WrongWireType { field, at: self.at }),
        }
    }

    /// The value of an integer or boolean field.
    pub(super) fn varint(&self, field: &'static str) -> Result<u64, WireError> {
        match self.value {
            Value::Varint(value) => Ok(value),
            Value::Bytes(_) | Value::Fixed => Err(WireError::WrongWireType { field, at: self.at }),
        }
    }

    /// A reader of the submessage that this field holds.
    pub(super) fn message(&self, field: &'static str) -> Result<Reader<'a>, WireError> {
        Ok(Reader { bytes: self.bytes(field)?, base: self.at, at: 0 })
    }

    /// The value as a topic, within its limit.
    pub(super) fn topic(&self, field: &'static str, limits: &WireLimits) -> Result<&'a str, WireError> {
        let bytes = self.bytes(field)?;
        if bytes.len() > limits.topic_bytes_max {
            return Err(WireError::TopicTooLong { at: self.at, len: bytes.len(), max: limits.topic_bytes_max });
        }
        core::str::from_utf8(bytes).map_err(|_invalid| WireError::TopicNotUtf8 { at: self.at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(bytes: &[u8]) -> Result<Option<FramePrefix>, WireError> {
        read_prefix(bytes, &WireLimits { frame_bytes_max: 300, ..WireLimits::default() })
    }

    #[test]
    fn a_prefix_is_known_as_soon_as_its_last_byte_is_there() {
        assert_eq!(prefix(&[]), Ok(None));
        assert_eq!(prefix(&[0]), Ok(Some(FramePrefix { prefix_bytes: 1, frame_bytes: 0 })));
        assert_eq!(prefix(&[0xac]), Ok(None));
        assert_eq!(prefix(&[0xac, 0x02, 9, 9]), Ok(Some(FramePrefix { prefix_bytes: 2, frame_bytes: 300 })));
    }

    #[test]
    fn a_prefix_beyond_the_limit_or_needlessly_long_is_refused() {
        assert_eq!(prefix(&[0xad, 0x02]), Err(WireError::FrameTooLong { len: 301, max: 300 }));
        assert_eq!(prefix(&[0x80, 0x00]), Err(WireError::BadPrefix));
        assert_eq!(prefix(&[0xff; 5]), Err(WireError::FrameTooLong { len: usize::MAX, max: 300 }));
    }

    #[test]
    fn varints_of_64_bits_are_read_and_longer_ones_refused() {
        let mut max = vec![0x08];
        max.extend([0xff; 9]);
        max.push(0x01);
        let field = Reader::new(&max).next().expect("readable").expect("one field");
        assert_eq!(field.varint("test"), Ok(u64::MAX));
        max[10] = 0x02;
        assert_eq!(Reader::new(&max).next().map(|_field| ()), Err(WireError::VarintTooLong { at: 1 }));
        max[10] = 0x81;
        assert_eq!(Reader::new(&max).next().map(|_field| ()), Err(WireError::VarintTooLong { at: 1 }));
    }

    #[test]
    fn every_impossible_key_and_length_is_named() {
        let first = |bytes: &[u8]| Reader::new(bytes).next().map(|_field| ());
        assert_eq!(first(&[0x02]), Err(WireError::BadFieldNumber { at: 0 }));
        assert_eq!(first(&[0x80, 0x80, 0x80, 0x80, 0x10]), Err(WireError::BadFieldNumber { at: 0 }));
        for wire_type in [3, 4, 6, 7] {
            assert_eq!(first(&[0x08 | wire_type]), Err(WireError::BadWireType { wire_type, at: 0 }));
        }
        assert_eq!(first(&[0x0a, 0x01]), Err(WireError::Truncated { at: 1 }));
        assert_eq!(
            first(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
            Err(WireError::Truncated { at: 1 })
        );
        assert_eq!(first(&[0x09, 0, 0, 0, 0, 0, 0, 0]), Err(WireError::Truncated { at: 1 }));
        assert_eq!(first(&[0x0d, 0, 0, 0]), Err(WireError::Truncated { at: 1 }));
        assert_eq!(first(&[0x08]), Err(WireError::Truncated { at: 1 }));
    }
}
