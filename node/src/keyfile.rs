//! Secret keys on disk.
//!
//! # Promises
//! - A key file holds one unencrypted ed25519 key as PKCS#8 PEM (RFC 8410), so `openssl pkey -in FILE -text` reads it, and
//!   `openssl genpkey -algorithm ed25519` makes another.
//! - It is made with mode 0600 from the first byte on, never over an existing file, and is on the disk (file and
//!   directory entry) when [`create`] returns: a key that was shown and then lost in a power cut would lose its account.
//! - A key that group or others can read, write or run is refused, with the command that remedies it. The check is made on
//!   the opened file, so the file cannot be swapped between check and reading.
//!
//! The node key, which is the node's libp2p identity, and the account key, which signs its transactions, are separate files:
//! publishing the one's public half on every connection must say nothing about the other.

use crate::files;
use starling_crypto::{KeyError, SecretKey};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// No key file is larger: a PKCS#8 ed25519 PEM has some 120 bytes, with comments from OpenSSL a few hundred.
const FILE_BYTES_MAX: u64 = 16 * 1_024;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is none.
    #[error("there is no key file {}; `starling key new {}` makes one", .0.display(), .0.display())]
    Missing(PathBuf),
    /// A file is in the way of a new key.
    #[error("{} exists already and is not overwritten; give another path, or move it away first", .0.display())]
    Exists(PathBuf),
    /// Others than the owner have access.
    #[error(
        "the key file {path} has mode {mode:04o}, so others on this machine could use the key; \
         make it private with `chmod 600 {path}`, and replace the key if others had access",
        path = .path.display()
    )]
    Permissions {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is a directory, a pipe or a device.
    #[error("{} is not a regular file; give the path of a PEM file with the secret key", .0.display())]
    NotAFile(PathBuf),
    /// The content is no key.
    #[error("the key file {} cannot be used: {source}", .path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong with the content.
        source: KeyError,
    },
    /// The content is far too long, or not text.
    #[error("{} is not a PEM file with one secret key; is it the right file?", .0.display())]
    NotText(PathBuf),
    /// The system refused.
    #[error("cannot {doing} the key file {}: {source}; {}", .path.display(), crate::remedy::of_io(.source))]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Makes a key from the operating system's entropy.
///
/// # Errors
/// If the system has no entropy source.
pub fn generate() -> io::Result<SecretKey> {
    let mut seed = [0_u8; 32];
    let mut filled = 0;
    while filled < seed.len() {
        filled += rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(SecretKey::from_seed(&seed))
}

/// Writes a key to a new file. It gets its name when it is complete, so that a process that is killed meanwhile leaves
/// no file that could not be read.
///
/// # Errors
/// If the file exists or cannot be written.
pub fn create(path: &Path, key: &SecretKey) -> Result<(), KeyFileError> {
    files::create(path, key.to_pem().as_bytes(), 0o600).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::Io { doing: "create", path: path.to_owned(), source },
    })
}

/// Reads a key.
///
/// # Errors
/// If the file is missing, others have access to it, or it holds no ed25519 secret key.
pub fn read(path: &Path) -> Result<SecretKey, KeyFileError> {
    let failed = |source| KeyFileError::Io { doing: "read", path: path.to_owned(), source };
    // Without NONBLOCK, opening a pipe would wait for a writer.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = match OpenOptions::new().read(true).custom_flags(nonblock).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(KeyFileError::Missing(path.to_owned()));
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile(path.to_owned()));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(KeyFileError::NotText(path.to_owned()));
    }
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    let text = std::str::from_utf8(&bytes).map_err(|_not_text| KeyFileError::NotText(path.to_owned()))?;
    let key = SecretKey::from_pem(text).map_err(|source| KeyFileError::Key { path: path.to_owned(), source })?;
    // Last, so that nobody is told to change the mode of a file that is no key.
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyFileError::Permissions { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    Ok(key)
}

/// Reads a key, making one first if there is none. Tells whether it was made.
///
/// # Errors
/// As [`read`] and [`create`].
pub fn read_or_create(path: &Path) -> Result<(SecretKey, bool), KeyFileError> {
    match read(path) {
        Err(KeyFileError::Missing(_)) => {}
        other => return other.map(|key| (key, false)),
    }
    let key =
        generate().map_err(|source| KeyFileError::Io { doing: "draw a key for", path: path.to_owned(), source })?;
    match create(path, &key) {
        Ok(()) => Ok((key, true)),
        // Somebody else was faster: that key is the key.
        Err(KeyFileError::Exists(_)) => read(path).map(|key| (key, false)),
        Err(error) => Err(error),
    }
}

/// The key as libp2p's identity.
///
/// # Panics
/// Never: every seed is an ed25519 key.
#[must_use]
pub fn libp2p_keypair(key: &SecretKey) -> libp2p::identity::Keypair {
    libp2p::identity::Keypair::ed25519_from_bytes(*key.seed()).expect("a seed of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_comes_back_from_a_private_file_that_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("account.pem");
        let (key, made) = read_or_create(&path).expect("made");
        assert!(made);
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o7777, 0o600);
        let (again, made) = read_or_create(&path).expect("read");
        assert!(!made);
        assert_eq!(again.public_key(), key.public_key());
        let error = create(&path, &generate().expect("entropy")).expect_err("it exists");
        assert!(matches!(error, KeyFileError::Exists(_)), "{error}");
        assert_eq!(read(&path).expect("unchanged").public_key(), key.public_key());
    }

    #[test]
    fn generated_keys_differ() {
        let keys: Vec<_> = (0..4).map(|_| generate().expect("entropy").public_key()).collect();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn access_for_others_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("account.pem");
        create(&path, &generate().expect("entropy")).expect("made");
        for mode in [0o640, 0o604, 0o620, 0o610, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
            let error = read(&path).expect_err("refused").to_string();
            assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod 600"), "{error}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("set");
        read(&path).expect("stricter than needed is fine");
    }

    #[test]
    fn whatever_is_no_key_file_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        assert!(matches!(read(&path), Err(KeyFileError::Missing(_))));
        assert!(matches!(read(dir.path()), Err(KeyFileError::NotAFile(_) | KeyFileError::Permissions { .. })));
        let write = |content: &[u8]| {
            std::fs::write(&path, content).expect("written");
            // Open to all, as most files are: what it holds is what is wrong with it.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set");
            read(&path).expect_err("no key")
        };
        assert!(matches!(write(b"hello"), KeyFileError::Key { source: KeyError::NotPem, .. }));
        assert!(matches!(write(&[0xff; 40]), KeyFileError::NotText(_)));
        assert!(matches!(write(&vec![b'a'; 20_000]), KeyFileError::NotText(_)));
    }

    #[test]
    fn openssl_reads_the_key_and_we_read_openssls() {
        use std::process::Command;
        let dir = tempfile::tempdir().expect("a directory");
        let ours = dir.path().join("ours.pem");
        let key = generate().expect("entropy");
        create(&ours, &key).expect("made");
        let Ok(shown) = Command::new("openssl").args(["pkey", "-noout", "-text", "-in"]).arg(&ours).output() else {
            eprintln!("openssl is not installed; nothing to compare with");
            return;
        };
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        let digits: String = String::from_utf8_lossy(&shown.stdout).chars().filter(char::is_ascii_hexdigit).collect();
        assert!(digits.contains(&key.public_key().to_string()), "{digits}");

        let theirs = dir.path().join("theirs.pem");
        let made = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&theirs).status();
        assert!(made.expect("openssl runs").success());
        std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(0o600)).expect("set");
        read(&theirs).expect("readable");
    }
}
