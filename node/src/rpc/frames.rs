//! The frames of a WebSocket as they pass: where each begins and ends, whatever is in it.
//!
//! A frame is two bytes (final, opcode; masked, length), a longer length of two or eight bytes where the short one says so,
//! four bytes of mask if it is masked, and the payload (RFC 6455, section 5.2). Nothing is checked here: whoever reads the
//! frames refuses the wrong ones, and then the connection is over. Each byte is looked at once in a header and not at all in
//! a payload.

/// The most bytes of a header.
const HEADER_BYTES_MAX: usize = 14;

/// Follows the frames of one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Frames {
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    /// None while the header is incomplete.
    payload_left: Option<u64>,
}

/// What is known of a frame from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) is_final: bool,
    pub(super) opcode: u8,
    pub(super) payload_bytes: u64,
}

/// What some bytes have brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// The header is complete with them.
    pub(super) began: Option<Frame>,
    /// The frame is complete with them.
    pub(super) ended: Option<Frame>,
}

impl Frame {
    /// Whether a message begins with it.
    pub(super) fn is_data(self) -> bool {
        matches!(self.opcode, 1 | 2)
    }

    /// Whether it goes on with a message.
    pub(super) fn is_continuation(self) -> bool {
        self.opcode == 0
    }
}

impl Frames {
    /// Whether no byte of a next frame has come.
    pub(super) fn is_between(&self) -> bool {
        self.header_bytes == 0
    }

    /// Whether bytes of a payload come next.
    pub(super) fn is_in_payload(&self) -> bool {
        self.payload_left.is_some()
    }

    /// How many bytes can follow that belong together: to the header, as far as it is known, or to the payload.
    pub(super) fn wanted(&self) -> usize {
        match self.payload_left {
            Some(left) => usize::try_from(left).unwrap_or(usize::MAX),
            None => self.header_length() - self.header_bytes,
        }
    }

    /// Takes further bytes, [`Frames::wanted`] at most.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Step {
        let mut step = Step::default();
        match &mut self.payload_left {
            Some(left) => *left = left.saturating_sub(bytes.len() as u64),
            None => {
                let end = self.header_bytes + bytes.len();
                self.header[self.header_bytes..end].copy_from_slice(bytes);
                self.header_bytes = end;
                if end >= 2 && end == self.header_length() {
                    self.payload_left = Some(self.frame().payload_bytes);
                    step.began = Some(self.frame());
                }
            }
        }
        if self.payload_left == Some(0) {
            step.ended = Some(self.frame());
            *self = Self::default();
        }
        step
    }

    fn extension_bytes(&self) -> usize {
        match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn header_length(&self) -> usize {
        if self.header_bytes < 2 {
            return 2;
        }
        let mask_bytes = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + self.extension_bytes() + mask_bytes
    }

    fn frame(&self) -> Frame {
        let extension = &self.header[2..2 + self.extension_bytes()];
        let payload_bytes = match extension.len() {
            0 => u64::from(self.header[1] & 0x7f),
            _ => extension.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        Frame { is_final: self.header[0] & 0x80 != 0, opcode: self.header[0] & 0x0f, payload_bytes }
    }
}

/// Finds the end of a message's head of HTTP: the first empty line, ended as leniently as any reader does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    line_is_empty: bool,
    ended: bool,
}

impl Head {
    /// Takes bytes; how many of them belong to the head.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                _ if self.ended => return at,
                b'\n' if self.line_is_empty => self.ended = true,
                b'\n' => self.line_is_empty = true,
                b'\r' => {}
                _ => self.line_is_empty = false,
            }
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame, written as the specification says.
    fn write((is_final, opcode, masked, length): (bool, u8, bool, usize)) -> Vec<u8> {
        let mask_bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![opcode | if is_final { 0x80 } else { 0 }];
        match length {
            0..126 => bytes.push(mask_bit | u8::try_from(length).expect("short")),
            126..65_536 => {
                bytes.push(mask_bit | 126);
                bytes.extend(u16::try_from(length).expect("short").to_be_bytes());
            }
            _ => {
                bytes.push(mask_bit | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(vec![0x81; if masked { 4 } else { 0 } + length]);
        bytes
    }

    fn frame() -> impl Strategy<Value = (bool, u8, bool, usize)> {
        let length = prop_oneof![0_usize..3, 120_usize..130, 65_530_usize..65_540];
        (any::<bool>(), 0_u8..16, any::<bool>(), length)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn frames_are_found_however_they_are_cut(
            sent in prop::collection::vec(frame(), 0..6),
            cuts in prop::collection::vec(1_usize..70_000, 1..20),
        ) {
            let stream: Vec<u8> = sent.iter().copied().flat_map(write).collect();
            let (mut frames, mut found, mut begun) = (Frames::default(), Vec::new(), 0);
            let (mut rest, mut cuts) = (stream.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (taken, left) = rest.split_at((*cuts.next().expect("endless")).min(frames.wanted()).min(rest.len()));
                let step = frames.take(taken);
                rest = left;
                begun += usize::from(step.began.is_some());
                found.extend(step.ended);
            }
            prop_assert!(frames.is_between());
            prop_assert_eq!(begun, sent.len());
            let sent = sent.into_iter().map(|(is_final, opcode, _, length)| Frame {
                is_final, opcode, payload_bytes: length as u64,
            });
            prop_assert_eq!(found, sent.collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_longest_length_is_no_trouble() {
        let mut frames = Frames::default();
        for byte in [0x81, 0xff].into_iter().chain([0xff; 12]) {
            frames.take(&[byte]);
        }
        assert_eq!(frames.wanted() as u64, u64::MAX);
        assert!(!frames.is_between());
    }

    #[test]
    fn a_head_ends_with_its_first_empty_line() {
        let of_head = |text: &str| Head::default().take(text.as_bytes());
        assert_eq!(of_head("GET / HTTP/1.1\r\na: b\r\n\r\n"), 24);
        assert_eq!(of_head("GET / HTTP/1.1\r\na: b\r\n\r\nmore\r\n\r\n"), 24);
        assert_eq!(of_head("GET / HTTP/1.1\na: b\n\nmore\r\n\r\n"), 21);
        assert_eq!(of_head("GET / HTTP/1.1\na: b\n\r\nmore"), 22);
        let mut head = Head::default();
        for byte in b"a\r\n\r\n" {
            assert_eq!(head.take(&[*byte]), 1);
        }
        assert_eq!(head.take(b"b"), 0);
    }
}
