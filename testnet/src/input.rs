//! Files that users name: texts of a sensible size.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// A manifest or a profile larger than this is surely something else.
pub(crate) const TEXT_BYTES_MAX: u64 = 16 << 20;
/// A list of links larger than this is: 200,000 nodes of 150 links each make one of this size.
pub(crate) const LINKS_BYTES_MAX: u64 = 256 << 20;

/// The text of a file of at most so many bytes.
///
/// # Errors
/// When it cannot be read, is too large, or is no regular file: a device may have no end, and to open a pipe can take for ever.
pub(crate) fn text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is a pipe or a device; write it to a file first"));
    }
    let mut text = String::new();
    File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("it has more than {} MiB", bytes_max >> 20)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_a_sensible_size_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("text");
        fs::write(&path, "abc").expect("written");
        assert_eq!(text(&path, 3).expect("not too large"), "abc");
        let error = |path: &Path, bytes_max| text(path, bytes_max).expect_err("refused").to_string();
        assert!(error(&path, 2).contains("more than 0 MiB"));
        assert!(error(folder.path(), 3).contains("directory"));
        #[cfg(unix)]
        assert!(error(Path::new("/dev/zero"), 3).contains("a pipe or a device"));
    }
}
