//! How commands that ask a running node find it, and how they tell that it could not be asked.

use super::{Failure, NodeArgs};
use crate::rpc::client::{ClientError, RpcClient};
use crate::storage::{Addresses, DataDir};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

impl NodeArgs {
    /// A client of the node that is meant.
    pub(super) fn client(&self) -> Result<RpcClient, Failure> {
        let address = match &self.rpc {
            Some(address) => address.clone(),
            None => self.address_from_datadir()?,
        };
        RpcClient::new(&address).map_err(Failure::usage)
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
        match self.addresses()?.admin_socket {
            Some(path) => Ok(RpcClient::over_unix_socket(&path)),
            None => Err(Failure::Usage(
                "this node has no admin socket, and takes such a command over nothing else; \
                 restart it without `--admin-socket none`"
                    .to_owned(),
            )),
        }
    }

    fn address_from_datadir(&self) -> Result<String, Failure> {
        Ok(reachable(self.addresses()?.rpc).to_string())
    }

    fn addresses(&self) -> Result<Addresses, Failure> {
        let datadir = self.place.datadir()?;
        let path = DataDir::addresses_file(&datadir);
        let text = std::fs::read_to_string(&path).map_err(|_absent| {
            Failure::Usage(format!(
                "no node is running on the data directory {}; start it with `starling run`, \
                 or name a node with --rpc HOST:PORT or --datadir DIR",
                datadir.display()
            ))
        })?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::Usage(format!("{} is damaged ({error}); name the node with --rpc HOST:PORT", path.display()))
        })
    }
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
        ClientError::Address(_) => Failure::usage(error),
        other => Failure::runtime(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_listens_everywhere_is_reached_over_loopback() {
        let reached = |address: &str| reachable(address.parse().expect("an address")).to_string();
        assert_eq!(reached("0.0.0.0:26501"), "127.0.0.1:26501");
        assert_eq!(reached("[::]:26501"), "[::1]:26501");
        assert_eq!(reached("127.0.42.1:1"), "127.0.42.1:1");
    }
}
