//! Small files of the data directory that are replaced as a whole: the address book and the list of bans.
//!
//! # Promises
//! - **Whole or former.** After a crash at any moment a file is the former one or the new one (`files::replace`), readable by its owner only.
//! - **The event loop never waits.** [`Keeper`] writes in a thread of its own, in the order in which it was told to.
//! - **A damaged file stops nobody.** [`load_or_set_aside`] moves it out of the way, says so, and the node goes on without it.

use crate::files;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

/// Writes that may wait.
const QUEUE_MAX: usize = 16;

/// Told how a write ended, on the keeper's thread.
type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The thread that writes.
#[derive(Debug)]
pub struct Keeper {
    jobs: SyncSender<Job>,
    thread: std::thread::JoinHandle<()>,
}

struct Job {
    path: PathBuf,
    bytes: Vec<u8>,
    done: Done,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start() -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE_MAX);
        let write = move || {
            for Job { path, bytes, done } in queue {
                done(files::replace(&path, &bytes, 0o600));
            }
        };
        let thread = std::thread::Builder::new().name("keeper".into()).spawn(write)?;
        Ok(Self { jobs, thread })
    }

    /// Queues a write. When too many wait, the disk hangs; then `done` is told so at once.
    pub fn write(&self, path: PathBuf, bytes: Vec<u8>, done: Done) {
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
            self.jobs.try_send(Job { path, bytes, done })
        {
            (job.done)(Err(io::Error::other("too many writes wait for the disk")));
        }
    }

    /// Waits for what is queued.
    pub fn close(self) {
        let Self { jobs, thread } = self;
        drop(jobs);
        if thread.join().is_err() {
            tracing::error!("the thread that writes small files has panicked; what it had to write is lost");
        }
    }
}

/// Reads a file of at most so many bytes and has it judged; none if there is none. One that cannot be read or that `parse` refuses is
/// renamed to `….damaged`, with a warning that says what is lost without it.
pub fn load_or_set_aside<T, E: std::fmt::Display>(
    path: &Path,
    bytes_max: usize,
    lost: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Option<T> {
    let problem = match crate::bounded::read(path, bytes_max) {
        Ok(bytes) => match parse(&bytes) {
            Ok(value) => return Some(value),
            Err(error) => error.to_string(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => error.to_string(),
    };
    let aside = files::with_suffix(path, ".damaged");
    let path = path.display();
    match std::fs::rename(path.to_string(), &aside) {
        Ok(()) => tracing::warn!("{path} cannot be used: {problem}. It was renamed to {}; {lost}", aside.display()),
        Err(error) => tracing::warn!("{path} cannot be used: {problem}. It could not be renamed ({error}); {lost}"),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_or_oversized_file_is_set_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("book");
        let load = |bytes_max| {
            load_or_set_aside(&path, bytes_max, "nothing", |bytes| if bytes == b"good" { Ok(7) } else { Err("bad") })
        };
        assert_eq!(load(10), None, "there is none");
        for (content, bytes_max) in [(&b"bad"[..], 10), (b"good", 3)] {
            std::fs::write(&path, content).expect("written");
            assert_eq!(load(bytes_max), None);
            assert!(!path.exists());
            assert_eq!(std::fs::read(dir.path().join("book.damaged")).expect("kept"), content);
        }
        std::fs::write(&path, b"good").expect("written");
        assert_eq!(load(4), Some(7));
        assert!(path.exists());
    }

    #[test]
    fn a_keeper_finishes_what_it_was_given() {
        let dir = tempfile::tempdir().expect("a directory");
        let keeper = Keeper::start().expect("a thread");
        let (told, ends) = sync_channel(8);
        for content in ["a", "b", "c"] {
            let told = told.clone();
            let done = Box::new(move |end: io::Result<()>| told.send(end.is_ok()).expect("room"));
            keeper.write(dir.path().join("book"), content.into(), done);
        }
        keeper.close();
        drop(told);
        assert_eq!(ends.iter().collect::<Vec<_>>(), [true; 3]);
        assert_eq!(std::fs::read(dir.path().join("book")).expect("there"), b"c");
    }
}
