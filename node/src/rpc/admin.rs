//! The admin socket: a Unix socket in the data directory over which the node's own user can do what nobody else may.
//!
//! # Rules
//! 1. **Only the owner can connect.** The file gets mode 0600 before anybody can connect to it (`bind`, `chmod`, and only
//!    then `listen`).
//! 2. **A stale file is replaced, a live one never.** A node that was killed leaves its file behind. It is removed when
//!    nobody answers there; when somebody does, or when it is no socket, starting fails and nothing is touched.
//! 3. **Removed at stop**, unless the name stands for another file by then.
//! 4. **Deep data directories work.** A socket's name is at most 107 bytes long (`sun_path` in `unix(7)`). A longer one is
//!    reached through its directory's entry in `/proc/self/fd`, by the node and by [`connect`]; other tools have to change
//!    into the directory.

use super::RpcError;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// The bound socket and its file.
#[derive(Debug)]
pub(super) struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket's file, removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode, to recognise it.
    identity: (u64, u64),
}

impl AdminSocket {
    /// Makes the socket and listens.
    ///
    /// # Errors
    /// If the name is taken by a live socket or another kind of file, or the system refuses.
    pub(super) fn bind(path: &Path) -> Result<Self, RpcError> {
        // So that what is said of it helps whoever stands in another directory.
        let path = &std::path::absolute(path).unwrap_or_else(|_no_directory| path.to_owned());
        let failed = |problem: String| RpcError::AdminSocket { path: path.to_owned(), problem };
        let refused = |error: io::Error| {
            failed(format!("{error}; name another file with --admin-socket, or `--admin-socket none` for none"))
        };
        remove_stale(path).map_err(|problem| match problem {
            NotStale::System(error) => refused(error),
            NotStale::Taken(problem) => failed(problem),
        })?;
        let listen = || -> io::Result<(UnixListener, (u64, u64))> {
            let name = Name::new(path)?;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            rustix::net::bind(&socket, &name.address)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            rustix::net::listen(&socket, BACKLOG)?;
            let made = std::fs::symlink_metadata(path)?;
            Ok((UnixListener::from_std(socket.into())?, (made.dev(), made.ino())))
        };
        let (listener, identity) = listen().map_err(refused)?;
        Ok(Self { listener, file: SocketFile { path: path.to_owned(), identity } })
    }

    /// Its file.
    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }

    /// What accepts, and what removes the file in the end.
    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if is_ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the admin socket");
        }
    }
}

/// Connects to a socket, however long its name is.
///
/// # Errors
/// As the system says.
pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let name = Name::new(path)?;
    let socket = std::os::unix::net::SocketAddr::from_pathname(&name.path)?;
    // Connecting to a Unix socket never waits for the network: it succeeds, or the backlog is full.
    let stream = std::os::unix::net::UnixStream::connect_addr(&socket)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

enum NotStale {
    System(io::Error),
    Taken(String),
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), NotStale> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(NotStale::System(error)),
    };
    if !found.file_type().is_socket() {
        return Err(NotStale::Taken("there is another file by this name; move it away".to_owned()));
    }
    let name = Name::new(path).map_err(NotStale::System)?;
    match std::os::unix::net::UnixStream::connect(&name.path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(NotStale::System)
        }
        Err(error) => Err(NotStale::System(error)),
        Ok(_somebody) => Err(NotStale::Taken(
            "another process answers there; stop it, or name another file with --admin-socket".to_owned(),
        )),
    }
}

/// A name that fits into a socket address, and what it needs to stay valid.
struct Name {
    path: PathBuf,
    address: SocketAddrUnix,
    _directory: Option<OwnedFd>,
}

impl Name {
    fn new(path: &Path) -> io::Result<Self> {
        if let Ok(address) = SocketAddrUnix::new(path) {
            return Ok(Self { path: path.to_owned(), address, _directory: None });
        }
        let (Some(directory), Some(file)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name is no file's"));
        };
        let directory = rustix::fs::open(directory, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(file);
        let address = SocketAddrUnix::new(&short).map_err(|_too_long| {
            io::Error::new(io::ErrorKind::InvalidInput, "the file's name has more than 90 bytes")
        })?;
        Ok(Self { path: short, address, _directory: Some(directory) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_the_owners_alone_and_goes_with_the_node() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("admin.sock");
        let socket = AdminSocket::bind(&path).expect("made");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let error = AdminSocket::bind(&path).expect_err("taken").to_string();
        assert!(error.contains("another process answers") && error.contains("--admin-socket"), "{error}");
        connect(&path).await.expect("connected");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_one_is_replaced_and_other_files_are_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("admin.sock");
        // What a killed process leaves behind: the file without anybody who listens.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("made"));
        let socket = AdminSocket::bind(&path).expect("replaced");
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, "mine").expect("written");
        drop(socket);
        assert_eq!(std::fs::read(&path).expect("still there"), b"mine", "it is not the socket any more");
        let error = AdminSocket::bind(&path).expect_err("a file").to_string();
        assert!(error.contains("move it away"), "{error}");
        let nowhere = dir.path().join("no/such/dir/admin.sock");
        let error = AdminSocket::bind(&nowhere).expect_err("no directory").to_string();
        assert!(error.contains("--admin-socket"), "{error}");
    }

    #[tokio::test]
    async fn a_deep_directory_is_no_obstacle() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("d".repeat(200));
        std::fs::create_dir(&deep).expect("made");
        let path = deep.join("admin.sock");
        let socket = AdminSocket::bind(&path).expect("made");
        connect(&path).await.expect("connected");
        assert!(AdminSocket::bind(&path).expect_err("taken").to_string().contains("another process answers"));
        drop(socket);
        assert!(!path.exists());
    }
}
