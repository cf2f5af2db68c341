//! What `starling run` refuses although every value is right by itself: what settings refer to, and what the host does not
//! have.
//!
//! # Promises
//! - Everything is found at once, and nothing is changed: no file is made, and a port is held for the blink of a bind at
//!   most.
//! - `starling run` and `starling config check` both ask here, so that the one accepts what the other does.
//! - What may clear by itself is no mistake of the configuration and is not looked for: a port or a directory that another
//!   process has at present.

use super::{ConfigError, Files, Values, admin_socket, checked_list, read_genesis};
use crate::keyfile::{self, KeyFileError};
use crate::storage::Retention;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// Ports below this one need a privilege (`ip_unprivileged_port_start` in `ip(7)`, by default).
const UNPRIVILEGED_PORT_MIN: u16 = 1_024;

/// Everything that is wrong with what these values refer to.
#[must_use]
pub fn preflight(values: &Values) -> Vec<ConfigError> {
    let (genesis, mut wrong) = match Files::read_all(values) {
        Ok(files) => (Some(files.genesis), Vec::new()),
        Err(wrong) => (read_genesis(values.path("genesis")).ok(), wrong),
    };
    let mut problem = |key, problem: String| wrong.push(ConfigError::Settings(vec![values.problem(key, problem)]));
    if let Some(Err(few)) = genesis.map(|genesis| Retention::new(&genesis, super::keep(values))) {
        problem("storage.keep_blocks", few.to_string());
    }
    let paths = ["trace", "log.file"].map(|key| (key, values.optional_path(key)));
    for (key, path) in paths.into_iter().chain([("rpc.admin_socket", admin_socket(values))]) {
        if let Some(found) = path.and_then(|path| place(path, values).or_else(|| in_the_way(key, path))) {
            problem(key, found);
        }
    }
    for address in checked_list::<Multiaddr>(values, "network.listen") {
        let found = socket(&address).and_then(|(address, udp)| not_here(address, udp));
        found.into_iter().for_each(|found| problem("network.listen", format!("{address}: {found}")));
    }
    not_here(values.parsed("rpc.listen"), false).into_iter().for_each(|found| problem("rpc.listen", found));
    for key in ["keys.node", "keys.account"] {
        match keyfile::read(values.path(key)) {
            Err(KeyFileError::Missing(path)) => {
                if let Some(found) = place(&path, values) {
                    wrong.push(ConfigError::Settings(vec![values.problem(key, found)]));
                }
            }
            Err(error) => wrong.push(error.into()),
            Ok(_key) => {}
        }
    }
    wrong
}

/// Why no file can be made in the directory of this path. The data directory is made when it is missing.
fn place(path: &Path, values: &Values) -> Option<String> {
    let directory = path.parent()?;
    if directory == values.path("datadir") {
        return None;
    }
    let remedy = "make it, or name a file in a directory that exists";
    match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => None,
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Some(format!("cannot look into {}: {error}; name a file in a directory that can be", directory.display()))
        }
        _ => Some(format!("there is no directory {}; {remedy}", directory.display())),
    }
}

/// Why what has this name already cannot be what is wanted.
fn in_the_way(key: &str, path: &Path) -> Option<String> {
    let found = std::fs::symlink_metadata(path).ok()?.file_type();
    if key == "rpc.admin_socket" {
        let text = || "there is another file by this name; move it away, or name another file".to_owned();
        return (!found.is_socket()).then(text);
    }
    path.is_dir().then(|| "this is a directory; name a file in it".to_owned())
}

/// Why this host cannot listen there. Another port of the address is tried, so that the one that is meant stays free,
/// unless it is one that needs a privilege.
fn not_here(address: SocketAddr, udp: bool) -> Option<String> {
    let port = if address.port() < UNPRIVILEGED_PORT_MIN { address.port() } else { 0 };
    let tried = SocketAddr::new(address.ip(), port);
    let bound = if udp { UdpSocket::bind(tried).map(drop) } else { TcpListener::bind(tried).map(drop) };
    let error = bound.err().filter(|error| error.kind() != io::ErrorKind::AddrInUse)?;
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => "give a port above 1023, or the right to listen there",
        _ => "give an address of this host",
    };
    Some(format!("cannot listen there: {error}; {remedy}"))
}

/// The socket address of a multiaddress, and whether it is one of UDP.
pub fn socket(address: &Multiaddr) -> Option<(SocketAddr, bool)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some((SocketAddr::new(ip, port), false)),
        Protocol::Udp(port) => Some((SocketAddr::new(ip, port), true)),
        _ => None,
    }
}
