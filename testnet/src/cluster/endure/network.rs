//! A network whose nodes can be killed and started again.
//!
//! A node comes back where it was: at the same addresses, with its data directory, told of the first two nodes. Its first
//! ports are chosen by the system. All its lives write to one log, with a line between them.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use starling_node::rpc::client::RpcClient;
use starling_node::storage::DataDir;
use tokio::time::{Instant, sleep};

use super::verdict;
use crate::cluster::fleet::{Fleet, Place};
use crate::cluster::plan::Plan;
use crate::cluster::{ClusterError, Options, file_error, host};

/// How long the network may take until every node is ready.
const READY_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// Nodes that the others are told of.
const BOOTNODES: usize = 2;

/// A network under trial.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) plan: Plan,
    pub(super) options: Options,
    pub(super) fleet: Fleet,
    pub(super) names: Vec<String>,
    /// Where each node is at home. Complete once the network is up.
    homes: Vec<Home>,
    rpcs: Vec<RpcClient>,
}

/// Where a node was when the network started.
#[derive(Debug)]
struct Home {
    port: u16,
    rpc_port: u16,
    /// A multiaddress with the peer id.
    address: String,
}

impl Network {
    /// A network that is planned and written to its folder, without any process.
    pub(super) fn prepare(options: Options) -> Result<Self, ClusterError> {
        let plan = Plan::new(&options, host::unix_us() / 1_000)?;
        plan.write(&options)?;
        let fleet = Fleet::new(&options)?;
        let names = plan.nodes.iter().map(|node| node.name.clone()).collect();
        Ok(Self { plan, options, fleet, names, homes: Vec::new(), rpcs: Vec::new() })
    }

    /// Starts all nodes, and waits until each is ready and there are blocks everywhere.
    pub(super) async fn start(&mut self) -> Result<(), ClusterError> {
        self.fleet.start(&self.plan, &self.options, |_| ()).await?;
        self.rpcs = self.fleet.rpc_clients();
        let addresses = self.fleet.nodes().iter().filter_map(|node| node.addresses.as_ref());
        self.homes = addresses
            .map(|at| {
                let address = at.listen.first().cloned().unwrap_or_default();
                Home { port: tcp_port(&address).unwrap_or(0), rpc_port: at.rpc.port(), address }
            })
            .collect();
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            let problem = match self.unready().await {
                Some(problem) => problem,
                None => match verdict::common(&self.rpcs, &self.names).await {
                    Ok((height, _)) if height > 0 => return Ok(()),
                    Ok(_) => "there is no block".to_owned(),
                    Err(problem) => problem,
                },
            };
            if let Some((_, reason)) = self.fleet.lost().into_iter().next() {
                return Err(ClusterError::Lost(reason));
            }
            if Instant::now() > deadline {
                let (waited_s, logs) = (READY_DEADLINE.as_secs(), self.options.out.join("logs"));
                return Err(ClusterError::Deadline { waited_s, missing: problem, logs });
            }
            sleep(POLL).await;
        }
    }

    /// What the first node that is not ready waits for.
    async fn unready(&self) -> Option<String> {
        for (rpc, name) in self.rpcs.iter().zip(&self.names) {
            match rpc.ready().await {
                Ok(reply) if reply.ready => {}
                Ok(reply) => return Some(format!("{name} waits for {}", reply.waiting_for.join(", "))),
                Err(error) => return Some(format!("{name} does not answer: {error}")),
            }
        }
        None
    }

    /// A client of each node's RPC. They stay good when nodes are started again.
    pub(super) fn rpcs(&self) -> &[RpcClient] {
        &self.rpcs
    }

    /// Kills a node and leaves a line in its log.
    pub(super) async fn kill(&mut self, node: usize) {
        self.fleet.kill(node).await;
        self.note(node, "killed by the test");
    }

    /// Starts a killed node again where it was; does not wait until it is up.
    pub(super) fn revive(&mut self, node: usize) -> Result<(), ClusterError> {
        let bootnodes = (0..BOOTNODES.min(self.homes.len())).filter(|other| *other != node);
        let bootnodes = bootnodes.map(|other| self.homes[other].address.clone()).collect();
        self.revive_knowing(node, bootnodes)
    }

    /// The same, told of other nodes than usual.
    pub(super) fn revive_knowing(&mut self, node: usize, bootnodes: Vec<String>) -> Result<(), ClusterError> {
        let Home { port, rpc_port, .. } = self.homes[node];
        self.fleet.revive(node, &self.plan, &self.options, &Place { port, rpc_port, bootnodes, links: None })
    }

    /// Starts a killed node where nobody looks for it and without knowing anybody, and waits until it is up. Returns its
    /// address. The RPC is where it was.
    pub(super) async fn revive_alone(&mut self, node: usize) -> Result<String, ClusterError> {
        let book = DataDir::peers_file(&self.plan.nodes[node].dir);
        if book.exists() {
            fs::remove_file(&book).map_err(file_error("remove", book))?;
        }
        let place = Place { rpc_port: self.homes[node].rpc_port, ..Place::default() };
        self.fleet.revive(node, &self.plan, &self.options, &place)?;
        let addresses = self.fleet.is_up(node).await?;
        Ok(addresses.listen.first().cloned().unwrap_or_default())
    }

    /// Where a node is at home.
    pub(super) fn address(&self, node: usize) -> String {
        self.homes[node].address.clone()
    }

    /// Leaves a line in a node's log; a log that cannot be written costs only that line.
    pub(super) fn note(&self, node: usize, text: &str) {
        let log = fs::File::options().append(true).open(&self.plan.nodes[node].log);
        let _not_noted = log.and_then(|mut log| writeln!(log, "---- {} {text}", host::date_time()));
    }

    /// Runs `starling db check` on a stopped node's data directory. What it says against the directory, if anything.
    pub(super) async fn check_database(&self, node: usize) -> Option<String> {
        let output = self.fleet.command().args(["db", "check", "--datadir"]).arg(&self.plan.nodes[node].dir).output();
        match output.await {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(format!(
                "`starling db check` on {} ended with {}: {}",
                self.names[node],
                output.status,
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim()
            )),
            Err(error) => Some(format!("`starling db check` could not be run: {error}")),
        }
    }
}

/// The port in `/ip4/…/tcp/PORT/p2p/…`.
fn tcp_port(address: &str) -> Option<u16> {
    address.split("/tcp/").nth(1)?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_the_address() {
        assert_eq!(tcp_port("/ip4/127.2.0.1/tcp/4001/p2p/12D3"), Some(4001));
        assert_eq!(tcp_port("/ip4/127.2.0.1/udp/4001/quic-v1"), None);
    }
}
