//! Files that appear as a whole or not at all.
//!
//! # Promises
//! - **Whole or former.** [`replace`] and [`create`] write beside the file, flush, give it its name, and flush the directory: after a crash
//!   at any moment the file is the former one or the new one, and perhaps there is an unfinished one beside, which the next attempt removes.
//! - **No link is followed.** An unfinished file is always a new one (`O_EXCL` in POSIX's `open`); what stood at its name is removed unread, be
//!   it what a crash left, a symbolic link or a pipe. A file that has to be opened where it is, as a lock has, is refused by [`open_own`] if it is one of
//!   these. *Rationale:* the names can be known beforehand, so whoever may write to the directory could have a file that is of value to this user
//!   overwritten, or keep the process waiting for ever.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Replaces a file, or makes it, with these permission bits less the process's mask.
///
/// # Errors
/// Those of the system; then the former file is still there.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let unfinished = with_suffix(path, ".new");
    write_new(&unfinished, bytes, mode)?;
    std::fs::rename(&unfinished, path)?;
    sync_parent(path)
}

/// Makes a file, with these permission bits less the process's mask.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if something has that name, which stays as it is; else those of the system.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // No lock keeps another process from making the same file.
    let unfinished = with_suffix(path, &format!(".new-{}", std::process::id()));
    write_new(&unfinished, bytes, mode)?;
    // Unlike a renaming, a link never replaces a file.
    let named = std::fs::hard_link(&unfinished, path);
    std::fs::remove_file(&unfinished).and(named)?;
    sync_parent(path)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = begin(path, mode)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a file helps nobody, least of all on a full disk.
        let _gone = std::fs::remove_file(path);
    }
    written
}

/// Begins a new file in place of whatever has this name, which is not one that anybody relies on.
///
/// # Errors
/// Those of the system, also if the name is a directory's.
pub(crate) fn begin(path: &Path, mode: u32) -> io::Result<File> {
    remove(path)?;
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// Removes a file or a link, if there is one.
///
/// # Errors
/// Those of the system.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens a regular file to read and write it, and makes it, for its owner alone, if there is none.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if it is a symbolic link or otherwise no regular file; else those of the system.
pub(crate) fn open_own(path: &Path) -> io::Result<File> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
    // Without NONBLOCK, opening a pipe could wait for ever.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let file = options.open(path).map_err(|error| {
        if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            return wrong("it is a symbolic link, which is not followed");
        }
        error
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(wrong("it is no regular file")) }
}

/// Makes a new directory entry durable.
///
/// # Errors
/// Those of the system.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

/// The path with something behind its last component.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("book");
        replace(&path, b"first", 0o600).expect("written");
        replace(&path, b"second", 0o600).expect("written");
        assert_eq!(std::fs::read(&path).expect("there"), b"second");
        assert_eq!(mode(&path), 0o600);
        // What a crash left behind is removed, and its mode with it.
        std::fs::write(dir.path().join("book.new"), b"a much longer half of something").expect("written");
        replace(&path, b"third", 0o600).expect("written");
        assert_eq!((std::fs::read(&path).expect("there"), mode(&path)), (b"third".to_vec(), 0o600));
        assert!(replace(&dir.path().join("missing/book"), b"fourth", 0o600).is_err());
        std::fs::create_dir(dir.path().join("book.new")).expect("a directory");
        replace(&path, b"fifth", 0o600).expect_err("a directory is in the way");
        assert_eq!(std::fs::read(&path).expect("there"), b"third");
    }

    #[test]
    fn a_file_is_made_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        create(&path, b"first", 0o600).expect("made");
        let again = create(&path, b"second", 0o600).expect_err("there is one");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((std::fs::read(&path).expect("there"), mode(&path)), (b"first".to_vec(), 0o600));
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 1, "nothing unfinished is left");
    }

    #[test]
    fn no_link_leads_a_write_to_somebody_elses_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (victim, path) = (dir.path().join("victim"), dir.path().join("file"));
        std::fs::write(&victim, "of value").expect("written");
        let key = format!("file.new-{}", std::process::id());
        for (unfinished, write) in [("file.new", replace as fn(&Path, &[u8], u32) -> _), (&key, create)] {
            for to in [&victim, &dir.path().join("nothing")] {
                remove(&path).expect("out of the way");
                symlink(to, dir.path().join(unfinished)).expect("a link");
                write(&path, b"ours", 0o600).expect("written");
                assert!(path.symlink_metadata().expect("there").is_file());
                assert_eq!(std::fs::read(&path).expect("there"), b"ours");
                assert_eq!(std::fs::read(&victim).expect("there"), b"of value");
                assert!(!dir.path().join("nothing").exists());
            }
        }
    }

    #[test]
    fn a_file_of_ones_own_is_opened_only_if_it_is_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("LOCK");
        open_own(&path).expect("made");
        assert_eq!(mode(&path), 0o600);
        open_own(&path).expect("opened");
        let linked = dir.path().join("linked");
        for to in [&path, &dir.path().join("nothing")] {
            remove(&linked).expect("out of the way");
            symlink(to, &linked).expect("a link");
            let error = open_own(&linked).expect_err("a link");
            assert_eq!(
                (error.kind(), error.to_string().contains("symbolic link")),
                (io::ErrorKind::InvalidInput, true)
            );
        }
        assert!(!dir.path().join("nothing").exists());
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .expect("a pipe");
        assert_eq!(open_own(&pipe).expect_err("a pipe").to_string(), "it is no regular file");
    }
}
