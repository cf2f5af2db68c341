//! What to do when the system refuses a file, for errors that name the file themselves.

use std::io::{Error, ErrorKind};

/// What to do about a file that cannot be read, made or written, as it stands behind a semicolon.
pub(crate) fn of_io(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "make its directory first, or name another file",
        ErrorKind::PermissionDenied => "run this as the user that the file or its directory belongs to",
        ErrorKind::ReadOnlyFilesystem => "have its file system mounted to be written, or name a file on another one",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on its disk, or name a file on another one",
        ErrorKind::IsADirectory => "name a file instead of a directory",
        ErrorKind::InvalidData => "name a text file",
        _ => "name a file on a disk that can be read and written",
    }
}
