//! The data directory: which files a node keeps where, and the lock that keeps a second process out.

use crate::{bounded, files};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It is not there.
    #[error("there is no data directory {}; `starling init --datadir {}` makes one", .0.display(), .0.display())]
    Missing(PathBuf),
    /// Another process uses it.
    #[error(
        "the data directory {} is in use by {holder}; stop that node first, or give another --datadir",
        .path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who has it, as far as is known.
        holder: String,
    },
    /// The system refused.
    #[error("cannot {doing} {}: {source}; {}", .path.display(), io_remedy(.source.kind()))]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn io_remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => {
            "run this as the user that the directory belongs to, or name another directory with --datadir"
        }
        io::ErrorKind::InvalidInput => "remove it, and the node makes a file of its own",
        io::ErrorKind::ReadOnlyFilesystem => {
            "have its file system mounted to be written (dmesg may say why it is not), or name another directory with --datadir"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on its disk, or name a directory on another one with --datadir"
        }
        _ => "name a directory on a disk that can be written and has room with --datadir",
    }
}

/// A data directory, locked for this process until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The operating system releases the lock when this is closed, also when the process is killed.
    _lock: File,
}

impl DataDir {
    /// Makes the directory, readable by its owner only, if it does not exist, and locks it.
    ///
    /// # Errors
    /// If it cannot be made, or another process has locked it.
    pub fn create(path: &Path) -> Result<Self, DataDirError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| DataDirError::Io {
            doing: "make the data directory",
            path: path.to_owned(),
            source,
        })?;
        Self::open(path)
    }

    /// Locks an existing directory.
    ///
    /// # Errors
    /// If it does not exist, or another process has locked it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {}
            // A directory that may not be looked into is not missing.
            Err(source) if !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(DataDirError::Io { doing: "open the data directory", path: path.to_owned(), source });
            }
            _ => return Err(DataDirError::Missing(path.to_owned())),
        }
        let lock_path = path.join("LOCK");
        let failed = |source| DataDirError::Io { doing: "lock", path: lock_path.clone(), source };
        let mut lock = files::open_own(&lock_path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let holder = match lock.read_to_string(&mut pid) {
                    Ok(_) if pid.trim().parse::<u32>().is_ok() => format!("process {}", pid.trim()),
                    _ => "another process".into(),
                };
                return Err(DataDirError::InUse { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // The number only helps the reader of the error above; the lock itself is the kernel's. A full disk has no room for it.
        let _unnamed =
            lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration file.
    #[must_use]
    pub fn config_file(path: &Path) -> PathBuf {
        path.join("config.toml")
    }

    /// The network's genesis.
    #[must_use]
    pub fn genesis_file(path: &Path) -> PathBuf {
        path.join("genesis.toml")
    }

    /// The libp2p identity.
    #[must_use]
    pub fn node_key_file(path: &Path) -> PathBuf {
        path.join("node.pem")
    }

    /// The key that signs the node's transactions.
    #[must_use]
    pub fn account_key_file(path: &Path) -> PathBuf {
        path.join("account.pem")
    }

    /// The blocks and indexes.
    #[must_use]
    pub fn store_file(path: &Path) -> PathBuf {
        path.join("chain.redb")
    }

    /// The address book.
    #[must_use]
    pub fn peers_file(path: &Path) -> PathBuf {
        path.join("peers.book")
    }

    /// The bans.
    #[must_use]
    pub fn bans_file(path: &Path) -> PathBuf {
        path.join("peers.bans")
    }

    /// Where a running node can be reached.
    #[must_use]
    pub fn addresses_file(path: &Path) -> PathBuf {
        path.join("addresses.json")
    }
}

/// Where a running node can be reached: the content of `addresses.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// libp2p peer id, in base58.
    pub peer_id: String,
    /// Multiaddresses for other nodes, each ending in `/p2p/<peer id>`.
    pub listen: Vec<String>,
    /// The RPC.
    pub rpc: SocketAddr,
    /// The admin socket, if the node has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_socket: Option<PathBuf>,
    /// Operating-system process id.
    pub pid: u32,
}

impl Addresses {
    /// Writes them to the data directory, at once as far as readers are concerned.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, datadir: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        files::replace(&DataDir::addresses_file(datadir), text.as_bytes(), 0o644)
    }

    /// Removes them, when the node stops. Those of another node are left: whoever has waited for the directory may have written its own.
    pub fn remove(&self, datadir: &Path) {
        let path = DataDir::addresses_file(datadir);
        let written = bounded::read(&path, bounded::TEXT_BYTES_MAX).ok();
        let written: Option<Self> = written.and_then(|text| serde_json::from_slice(&text).ok());
        // Of a node that was killed they are of no use to anybody.
        let is_of_another =
            |written: Self| written != *self && Path::new("/proc").join(written.pid.to_string()).exists();
        if written.is_some_and(is_of_another) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove the file with the node's addresses");
        }
    }
}

/// Where the data directory is when none is named: `$XDG_DATA_HOME/starling`, else `~/.local/share/starling`
/// (XDG Base Directory Specification). `None` when the environment names neither.
#[must_use]
pub fn default_path() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")))?;
    Some(base.join("starling"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_directory_names_its_holder_and_is_free_again_afterwards() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("node");
        assert!(matches!(DataDir::open(&path), Err(DataDirError::Missing(_))));
        let first = DataDir::create(&path).expect("made");
        let error = DataDir::open(&path).expect_err("locked").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        // Whoever has just begun to lock it has not written its number yet.
        for unread in ["", "no number"] {
            std::fs::write(path.join("LOCK"), unread).expect("written");
            let error = DataDir::open(&path).expect_err("locked").to_string();
            assert!(error.contains("in use by another process; stop that node first"), "{error}");
        }
        drop(first);
        DataDir::open(&path).expect("free again");
    }

    #[test]
    fn a_new_directory_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b");
        let data = DataDir::create(&path).expect("made");
        assert_eq!(std::fs::metadata(data.path()).expect("there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn no_link_in_the_directory_leads_to_another_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "of value").expect("written");
        let path = dir.path().join("node");
        drop(DataDir::create(&path).expect("made"));
        let addresses = Addresses {
            peer_id: "12D3KooW".into(),
            listen: Vec::new(),
            rpc: SocketAddr::from(([127, 0, 0, 1], 1)),
            admin_socket: None,
            pid: 1,
        };
        std::os::unix::fs::symlink(&victim, path.join("addresses.json.new")).expect("a link");
        addresses.write(&path).expect("written");
        let text = std::fs::read_to_string(DataDir::addresses_file(&path)).expect("there");
        assert!(text.contains("12D3KooW"), "{text}");
        let rpc = SocketAddr::from(([127, 0, 0, 1], 2));
        let next = Addresses { rpc, pid: std::process::id(), ..addresses.clone() };
        next.write(&path).expect("written");
        addresses.remove(&path);
        assert!(DataDir::addresses_file(&path).exists(), "the next node's file is left");
        next.remove(&path);
        assert!(!DataDir::addresses_file(&path).exists());
        Addresses { pid: u32::MAX, ..next }.write(&path).expect("written");
        addresses.remove(&path);
        assert!(!DataDir::addresses_file(&path).exists(), "that of a node which was killed is not");

        std::fs::remove_file(path.join("LOCK")).expect("there");
        std::os::unix::fs::symlink(&victim, path.join("LOCK")).expect("a link");
        let error = DataDir::open(&path).expect_err("a link").to_string();
        assert!(error.contains("LOCK: it is a symbolic link") && error.contains("remove it"), "{error}");
        assert_eq!(std::fs::read_to_string(&victim).expect("there"), "of value");
    }
}
