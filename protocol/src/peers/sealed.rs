//! The form of small files that must be whole or not believed: what it is, a version, the content, a checksum.
//!
//! ```text
//! magic [8] ‖ version u32 ‖ body ‖ SHA-256 of everything before [32]
//! ```
//! The checksum guards against torn writes and failing disks, not against somebody who can write the file.

use sha2::{Digest, Sha256};

/// Bytes around the body.
const FRAME_BYTES: usize = 8 + 4 + CHECKSUM_BYTES;
const CHECKSUM_BYTES: usize = 32;

/// Why a file is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It is shorter than any such file, or begins otherwise.
    #[error("it is no {what}")]
    Kind {
        /// What it should be.
        what: &'static str,
    },
    /// Another version wrote it.
    #[error("it has format {found}, and this program reads format {known}; the version that wrote it can use it")]
    Version {
        /// The file's.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The checksum is not that of the content.
    #[error("its checksum is wrong, so it was cut short or damaged")]
    Checksum,
    /// The content is not canonical, or breaks a rule.
    #[error("its content is wrong: {0}")]
    Content(String),
}

/// A kind of file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) what: &'static str,
    pub(super) magic: [u8; 8],
    pub(super) version: u32,
}

impl Kind {
    /// Puts the frame around a body.
    pub(super) fn seal(self, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRAME_BYTES + body.len());
        bytes.extend(self.magic);
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(body);
        let checksum = Sha256::digest(&bytes);
        bytes.extend(checksum);
        bytes
    }

    /// The body, if the frame is right.
    pub(super) fn open(self, bytes: &[u8]) -> Result<&[u8], FileError> {
        let Self { what, magic, version: known } = self;
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(FileError::Kind { what })?;
        let rest = content.strip_prefix(&magic).ok_or(FileError::Kind { what })?;
        let (version, body) = rest.split_first_chunk::<4>().ok_or(FileError::Kind { what })?;
        if Sha256::digest(content)[..] != checksum[..] {
            return Err(FileError::Checksum);
        }
        // After the checksum, so that a flipped bit in the version is not taken for another version.
        let found = u32::from_le_bytes(*version);
        if found != known {
            return Err(FileError::Version { found, known });
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { what: "test file", magic: *b"starling", version: 3 };

    #[test]
    fn every_flipped_bit_and_every_missing_byte_is_noticed() {
        let sealed = KIND.seal(b"body");
        assert_eq!(KIND.open(&sealed), Ok(&b"body"[..]));
        for length in 0..sealed.len() {
            assert!(KIND.open(&sealed[..length]).is_err(), "{length} bytes");
        }
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(KIND.open(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let newer = Kind { version: 4, ..KIND }.seal(b"");
        assert_eq!(KIND.open(&newer), Err(FileError::Version { found: 4, known: 3 }));
    }
}
