//! How commands that ask a running node find it, and how they tell that it could not be asked.

use super::{Failure, NodeArgs};
use crate::rpc::client::{ClientError, RpcClient};
use crate::storage::{Addresses, DataDir};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

impl NodeArgs {
    /// A client of the node that is meant. One whose address comes from a data directory is asked who it is before anything
    /// else: a node that was killed leaves its file behind, and another may have its port by now.
    pub(super) fn client(&self) -> Result<RpcClient, Failure> {
        if let Some(address) = &self.rpc {
            return RpcClient::new(address).map_err(Failure::usage);
        }
        let datadir = self.place.datadir()?;
        let addresses = addresses(&datadir)?;
        let client = RpcClient::new(&reachable(addresses.rpc).to_string()).map_err(Failure::usage)?;
        Ok(of_datadir(client, &addresses, &datadir))
    }

    /// Checks the address that was named, if one was.
    pub(super) fn client_if_named(&self) -> Result<(), Failure> {
        match &self.rpc {
            Some(address) => RpcClient::new(address).map(|_client| ()).map_err(Failure::usage),
            None => Ok(()),
        }
    }

    /// A client of the node that is meant which may call `admin_*`: over the admin socket, unless an address was named.
    pub(super) fn admin_client(&self) -> Result<RpcClient, Failure> {
        if let Some(address) = &self.rpc {
            return RpcClient::new(address).map_err(Failure::usage);
        }
        let datadir = self.place.datadir()?;
        let addresses = addresses(&datadir)?;
        match &addresses.admin_socket {
            Some(path) => Ok(of_datadir(RpcClient::over_unix_socket(path), &addresses, &datadir)),
            None => Err(Failure::Usage(
                "this node has no admin socket, and takes such a command over nothing else; \
                 restart it without `--admin-socket none`"
                    .to_owned(),
            )),
        }
    }
}

fn of_datadir(client: RpcClient, addresses: &Addresses, datadir: &Path) -> RpcClient {
    client.expecting(&addresses.peer_id, &format!("the data directory {}", datadir.display()))
}

/// Where the node of a data directory says that it can be reached.
fn addresses(datadir: &Path) -> Result<Addresses, Failure> {
    let path = DataDir::addresses_file(datadir);
    let text = crate::bounded::read_text(&path, crate::bounded::TEXT_BYTES_MAX)
        .map_err(|error| unknown_address(datadir, &path, &error))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::Usage(format!("{} is damaged ({error}); name the node with --rpc HOST:PORT", path.display()))
    })
}

/// Why it is not known where the node of a data directory can be reached.
fn unknown_address(datadir: &Path, path: &Path, error: &io::Error) -> Failure {
    let shown = datadir.display();
    let absent = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    Failure::Usage(match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("cannot read {}: permission denied; run this as the user who runs the node", path.display())
        }
        _ if absent && !datadir.is_dir() => format!(
            "no node is running on {shown}: there is no such data directory; \
             name the one that is meant with --datadir DIR, or the node with --rpc HOST:PORT"
        ),
        _ if absent => format!(
            "no node is running on the data directory {shown}; start it with `starling run`, \
             or name a node with --rpc HOST:PORT or --datadir DIR"
        ),
        _ => format!("cannot read {}: {error}; name the node with --rpc HOST:PORT", path.display()),
    })
}

/// Where a node on this host is reached: one that listens on all addresses (`0.0.0.0`, `::`) over loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// A call failed: the node's refusal or the connection's trouble, in words.
pub(super) fn failed(error: ClientError) -> Failure {
    match error {
        ClientError::Address(_) | ClientError::OtherNode { .. } => Failure::usage(error),
        other => Failure::runtime(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests run as the superuser cannot be forbidden anything, so that the error is made by hand.
    #[test]
    fn what_may_not_be_read_is_not_taken_for_a_node_that_does_not_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = DataDir::addresses_file(dir.path());
        let said =
            |datadir: &Path, kind: io::ErrorKind| unknown_address(datadir, &path, &kind.into()).message().to_owned();
        let forbidden = said(dir.path(), io::ErrorKind::PermissionDenied);
        assert!(forbidden.contains("addresses.json: permission denied; run this as the user who"), "{forbidden}");
        let stopped = said(dir.path(), io::ErrorKind::NotFound);
        assert!(stopped.contains("no node is running on the data directory"), "{stopped}");
        let missing = said(&dir.path().join("x"), io::ErrorKind::NotFound);
        assert!(missing.contains("there is no such data directory"), "{missing}");
    }

    #[test]
    fn a_node_that_listens_everywhere_is_reached_over_loopback() {
        let reached = |address: &str| reachable(address.parse().expect("an address")).to_string();
        assert_eq!(reached("0.0.0.0:26501"), "127.0.0.1:26501");
        assert_eq!(reached("[::]:26501"), "[::1]:26501");
        assert_eq!(reached("127.0.42.1:1"), "127.0.42.1:1");
    }
}
