//! Why the store failed, and the boundary that keeps a damaged file from ending the process.
//!
//! redb verifies checksums, but not of every page that it reads: in a file whose bytes were changed behind its back it
//! may find structures that its code holds impossible, and panic. Every call into it goes through [`guarded`], which turns
//! that into [`StoreError::Damaged`]. The panic's message becomes part of the error instead of being printed.

use super::SCHEMA;
use starling_protocol::id::NetworkId;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It was made for another network.
    #[error(
        "genesis does not match the data directory: {} holds network {found}, and the genesis file is that of network \
         {expected}; run with the genesis that the directory was made with, or give another --datadir", .path.display()
    )]
    OtherNetwork {
        /// The store.
        path: PathBuf,
        /// The network in the store.
        found: NetworkId,
        /// The network of the genesis.
        expected: NetworkId,
    },
    /// It was written by another version.
    #[error(
        "{} has schema {found}, and this version of starling reads schema {SCHEMA}; use the version that wrote it, \
         or give another --datadir and let the node fetch the chain again", .path.display()
    )]
    OtherSchema {
        /// The store.
        path: PathBuf,
        /// Its schema.
        found: u64,
    },
    /// The file is something else, or its stamp is damaged.
    #[error(
        "{} is not a store of starling ({problem}); move it away, and the node fetches the chain again", .path.display()
    )]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What is odd about it.
        problem: String,
    },
    /// Another process has it open.
    #[error("{} is in use by another process; stop that one first, or give another --datadir", .0.display())]
    InUse(PathBuf),
    /// The database failed, most often because the system refused to read or write.
    #[error(
        "the store {} failed: {source}; check that {}", .path.display(), if is_forbidden(.source) {
            "this runs as the user that the file belongs to"
        } else {
            "the disk can be written, has free space and is healthy"
        }
    )]
    Database {
        /// The file; filled in by `guarded`, which every call into the database goes through.
        path: PathBuf,
        /// What the database says.
        source: Box<redb::Error>,
    },
    /// The content contradicts itself.
    #[error(
        "{} is damaged: {problem}; move it away, and the node fetches the chain again", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file is not where it was.
    #[error(
        "{} is no longer there: it was moved or removed, or its disk is gone; put it back, or restart the node",
        .0.display()
    )]
    Vanished(PathBuf),
    /// It was closed after a failure and could not be opened again yet.
    #[error("the store is closed since it failed ({0}); it is opened again as soon as the disk allows")]
    Closed(String),
}

fn is_forbidden(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// redb has one error type for each kind of call; all of them convert to its general one.
pub(super) fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Database { path: PathBuf::new(), source: Box::new(error.into()) }
}

thread_local! {
    /// Whether this thread is in a call whose panic becomes an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Calls into redb; a panic there becomes an error, and a failure is given the name of the file.
///
/// # Errors
/// What `call` returns, or that the file is damaged.
pub(super) fn guarded<T>(path: &Path, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                print(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(outer);
    let result = result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        let problem = format!("the database library found it impossible ({text})");
        Err(StoreError::Damaged { path: path.to_owned(), problem })
    });
    result.map_err(|error| match error {
        StoreError::Database { source, .. } => match *source {
            redb::Error::Corrupted(problem) => StoreError::Damaged { path: path.to_owned(), problem },
            other => StoreError::Database { path: path.to_owned(), source: Box::new(other) },
        },
        other => other,
    })
}
