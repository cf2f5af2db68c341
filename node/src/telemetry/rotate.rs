//! A log file that is put aside when it is large or old: `node.log`, then `node.log.1`, `node.log.2` and so on, the oldest last.
//!
//! # Promises
//! - **Bounded.** At most [`FileLimits::files_max`] files, each of at most [`FileLimits::bytes_max`] bytes or one line.
//! - **Whole lines.** What a full disk cuts off is cut back to the end of the line before, so that the file can be read.
//! - **It follows its name.** If the file was moved or deleted (by logrotate, or with its directory), a new one is made under
//!   its name within [`FOLLOW_INTERVAL`], as soon as that is possible.
//!
//! The age of a file that an earlier run left is taken from when it was made, where the file system knows it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often the name is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// When a new file is begun, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// The most bytes of a file; one line may be longer.
    pub bytes_max: u64,
    /// How long lines are added to one file.
    pub age_max: Duration,
    /// How many files there are, the current one included.
    pub files_max: usize,
}

/// The file that lines are added to.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    limits: FileLimits,
    file: File,
    bytes: u64,
    begun: SystemTime,
    followed: SystemTime,
}

impl RotatingFile {
    /// Opens the file to add to it, or makes it, readable by its owner and group.
    pub(super) fn open(path: &Path, limits: FileLimits, now: SystemTime) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let metadata = file.metadata()?;
        let begun = metadata.created().unwrap_or(now);
        Ok(Self { path: path.to_owned(), limits, file, bytes: metadata.len(), begun, followed: now })
    }

    /// Adds a line; begins a new file before, if it is time.
    fn write_line(&mut self, line: &[u8], now: SystemTime) -> io::Result<()> {
        self.follow(now)?;
        let length = line.len() as u64;
        // A clock that was set back makes no file old.
        let old = now.duration_since(self.begun).is_ok_and(|age| age >= self.limits.age_max);
        if self.bytes > 0 && (self.bytes.saturating_add(length) > self.limits.bytes_max || old) {
            self.rotate(now)?;
        }
        if let Err(error) = self.file.write_all(line) {
            // If not even this works, the next line stands behind half of this one.
            let _torn = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += length;
        Ok(())
    }

    fn rotate(&mut self, now: SystemTime) -> io::Result<()> {
        // The last one falls off by being replaced; with one file, the current one is begun anew.
        for number in (1..self.limits.files_max).rev() {
            let newer = if number == 1 { self.path.clone() } else { self.numbered(number - 1) };
            match std::fs::rename(newer, self.numbered(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.limits.files_max == 1 {
            std::fs::remove_file(&self.path)?;
        }
        self.begin(now)
    }

    /// Begins anew if the name means another file than the open one, or none.
    fn follow(&mut self, now: SystemTime) -> io::Result<()> {
        if now.duration_since(self.followed).is_ok_and(|since| since < FOLLOW_INTERVAL) {
            return Ok(());
        }
        self.followed = now;
        let own = self.file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(named) if (named.dev(), named.ino()) == (own.dev(), own.ino()) => Ok(()),
            _ => self.begin(now),
        }
    }

    fn begin(&mut self, now: SystemTime) -> io::Result<()> {
        let begun = Self::open(&self.path, self.limits, now)?;
        *self = Self { begun: if begun.bytes == 0 { now } else { begun.begun }, ..begun };
        Ok(())
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_line(line, SystemTime::now()).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FileLimits = FileLimits { bytes_max: 20, age_max: Duration::from_secs(3_600), files_max: 3 };

    fn start() -> SystemTime {
        // After the files were made, whose time is that of the system.
        SystemTime::now() + Duration::from_secs(1)
    }

    fn files(dir: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = std::fs::read_dir(dir)
            .expect("listed")
            .map(|entry| entry.expect("an entry"))
            .map(|entry| {
                let text = std::fs::read_to_string(entry.path()).expect("text");
                (entry.file_name().into_string().expect("text"), text)
            })
            .collect();
        files.sort();
        files
    }

    fn named(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn size_begins_a_new_file_and_the_oldest_falls_off() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let now = start();
        let mut file = RotatingFile::open(&path, LIMITS, now).expect("opened");
        for number in 0..8 {
            file.write_line(format!("line {number}..\n").as_bytes(), now).expect("written");
        }
        let expected =
            [("log", "line 6..\nline 7..\n"), ("log.1", "line 4..\nline 5..\n"), ("log.2", "line 2..\nline 3..\n")];
        assert_eq!(files(dir.path()), named(&expected));

        let mut again = RotatingFile::open(&path, LIMITS, now).expect("opened");
        again.write_line(b"x\n", now).expect("written");
        assert_eq!(files(dir.path())[0].1, "line 6..\nline 7..\nx\n", "a restart adds to the file");
        again.write_line(&[b'y'; 100], now).expect("written");
        assert_eq!(files(dir.path())[0].1.len(), 100, "a long line has a file of its own");
    }

    #[test]
    fn one_file_is_begun_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let limits = FileLimits { files_max: 1, ..LIMITS };
        let mut file = RotatingFile::open(&dir.path().join("log"), limits, start()).expect("opened");
        for line in ["aaaaaaaaaaaa\n", "bbbbbbbbbbbb\n"] {
            file.write_line(line.as_bytes(), start()).expect("written");
        }
        assert_eq!(files(dir.path()), named(&[("log", "bbbbbbbbbbbb\n")]));
    }

    #[test]
    fn age_begins_a_new_file_and_a_clock_set_back_does_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let now = start();
        let mut file = RotatingFile::open(&dir.path().join("log"), LIMITS, now).expect("opened");
        file.write_line(b"a\n", now).expect("written");
        file.write_line(b"b\n", now - Duration::from_secs(7_200)).expect("written");
        file.write_line(b"c\n", now + Duration::from_secs(3_590)).expect("written");
        assert_eq!(files(dir.path()), named(&[("log", "a\nb\nc\n")]));
        file.write_line(b"d\n", now + Duration::from_secs(3_601)).expect("written");
        assert_eq!(files(dir.path()), named(&[("log", "d\n"), ("log.1", "a\nb\nc\n")]));
    }

    #[test]
    fn a_file_that_was_moved_or_vanished_is_made_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let inner = dir.path().join("logs");
        std::fs::create_dir(&inner).expect("made");
        let (path, now) = (inner.join("log"), start());
        let mut file = RotatingFile::open(&path, LIMITS, now).expect("opened");
        file.write_line(b"a\n", now).expect("written");
        std::fs::rename(&path, inner.join("moved")).expect("moved");
        file.write_line(b"b\n", now + FOLLOW_INTERVAL).expect("written");
        assert_eq!(files(&inner), named(&[("log", "b\n"), ("moved", "a\n")]));

        std::fs::remove_dir_all(&inner).expect("removed");
        file.write_line(b"c\n", now + FOLLOW_INTERVAL * 2).expect_err("the directory is gone");
        std::fs::create_dir(&inner).expect("made");
        file.write_line(b"d\n", now + FOLLOW_INTERVAL * 3).expect("written");
        assert_eq!(files(&inner), named(&[("log", "d\n")]));
    }
}
