//! Reading whole files that somebody else names, without waiting for ever or filling the memory.
//!
//! A path may lead to a pipe that nobody writes to, to a device that never ends, or to a file of gigabytes: by mistake, or because whoever
//! may write to a directory wishes so. Only regular files are read, and no more of them than is of use.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Longer than any settings, genesis or addresses that a person or this program writes.
pub(crate) const TEXT_BYTES_MAX: usize = 16 << 20;

/// Reads a regular file of at most `bytes_max` bytes.
///
/// # Errors
/// If it cannot be read, is no regular file, or is longer.
pub(crate) fn read(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// Reads a regular file of text, of at most `bytes_max` bytes.
///
/// # Errors
/// Those of [`read`], and if it is not UTF-8.
pub(crate) fn read_text(path: &Path, bytes_max: usize) -> io::Result<String> {
    String::from_utf8(read(path, bytes_max)?)
        .map_err(|_not_text| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))
}

/// Opens a regular file to be read.
///
/// # Errors
/// If it cannot be opened, or is none.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Without NONBLOCK, opening a pipe would wait for a writer.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is no regular file but a pipe, a socket or a device"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_a_sensible_length_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        std::fs::write(&path, "12345").expect("written");
        assert_eq!(read(&path, 5).expect("read"), b"12345");
        assert_eq!(read_text(&path, 5).expect("read"), "12345");
        let wrong = |path: &Path| read(path, 4).expect_err("refused").to_string();
        assert!(wrong(&path).contains("more than 4 bytes"));
        assert!(wrong(Path::new("/dev/zero")).contains("no regular file"));
        assert!(wrong(dir.path()).contains("directory"));
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .expect("a pipe");
        assert!(wrong(&pipe).contains("no regular file"), "and nobody waits for a writer");
        let sparse = dir.path().join("sparse");
        File::create(&sparse).and_then(|file| file.set_len(1 << 40)).expect("made");
        assert!(read_text(&sparse, TEXT_BYTES_MAX).expect_err("refused").to_string().contains("more than"));
        std::fs::write(&path, b"\xff\xfe").expect("written");
        assert!(read_text(&path, 5).expect_err("refused").to_string().contains("UTF-8"));
    }
}
