//! Commands that ask a running node something: `block`, `status`. How they find the node is here, too.

use super::{Failure, NodeArgs, block_on, output};
use crate::api::{BlockReply, BlockSelector, HeadReply, MempoolReply, NetReply, NodeReply, ReadyReply};
use crate::rpc::client::{ClientError, RpcClient};
use crate::storage::{Addresses, DataDir};
use clap::Subcommand;
use serde::Serialize;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  starling status
  starling status --datadir /srv/starling
  starling status --rpc 127.0.0.1:26501 --json";

#[derive(Debug, Subcommand)]
pub(super) enum BlockCommand {
    /// Show a block.
    #[command(after_help = "\
Examples:
  starling block get head
  starling block get 7
  starling block get 5f0c… --json")]
    Get {
        /// A height, a block id in hex, or `head`.
        block: String,
        #[command(flatten)]
        node: NodeArgs,
    },
}

impl NodeArgs {
    /// A client of the node that is meant.
    pub(super) fn client(&self) -> Result<RpcClient, Failure> {
        let address = match &self.rpc {
            Some(address) => address.clone(),
            None => self.address_from_datadir()?,
        };
        RpcClient::new(&address).map_err(Failure::usage)
    }

    fn address_from_datadir(&self) -> Result<String, Failure> {
        let datadir = self.place.datadir()?;
        let path = DataDir::addresses_file(&datadir);
        let text = std::fs::read_to_string(&path).map_err(|_absent| {
            Failure::Usage(format!(
                "no node is running on the data directory {}; start it with `starling run`, \
                 or name a node with --rpc HOST:PORT or --datadir DIR",
                datadir.display()
            ))
        })?;
        let addresses: Addresses = serde_json::from_str(&text).map_err(|error| {
            Failure::Usage(format!("{} is damaged ({error}); name the node with --rpc HOST:PORT", path.display()))
        })?;
        Ok(reachable(addresses.rpc).to_string())
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

/// A call failed: the node's refusal or the connection's trouble, in words.
pub(super) fn failed(error: ClientError) -> Failure {
    match error {
        ClientError::Address(_) => Failure::usage(error),
        other => Failure::runtime(other),
    }
}

impl BlockCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let Self::Get { block, node } = self;
        let client = node.client()?;
        let found = block_on(async {
            let selector = match block.as_str() {
                "head" => BlockSelector::Id(client.chain_head().await.map_err(failed)?.block_id),
                text => parse_selector(text)?,
            };
            match client.chain_block(selector).await.map_err(failed)? {
                Some(block) => Ok(block),
                None => Err(not_found(&block, &client.chain_head().await.map_err(failed)?)),
            }
        })?;
        output::print_as(node.json, &found, || block_text(&found))
    }
}

fn parse_selector(text: &str) -> Result<BlockSelector, Failure> {
    if let Ok(height) = text.parse() {
        return Ok(BlockSelector::Height(height));
    }
    text.parse().map(BlockSelector::Id).map_err(|error| {
        Failure::Usage(format!("{text:?} names no block: {error}; give a height, a block id, or `head`"))
    })
}

fn not_found(block: &str, head: &HeadReply) -> Failure {
    let hint = match (block, head.height) {
        ("head", _) | ("0", _) => "the chain's beginning is not a stored block; blocks start at height 1".to_owned(),
        (_, height) => format!("its chain ends at height {height}"),
    };
    Failure::Runtime(format!("the node has no block {block}; {hint}"))
}

fn block_text(block: &BlockReply) -> String {
    let mut rows = vec![
        ("block", block.block_id.to_string()),
        ("height", block.height.to_string()),
        ("slot", block.slot.to_string()),
        ("parent", block.parent_id.to_string()),
        ("producer", block.producer.to_string()),
        ("canonical", if block.canonical { "yes" } else { "no" }.to_owned()),
        ("size", format!("{} bytes", block.encoded_bytes)),
        ("transactions", block.transactions.len().to_string()),
    ];
    rows.extend(block.transactions.iter().map(|id| ("", id.to_string())));
    output::fields(&rows)
}

/// What `starling status --json` prints: the answers of several methods together.
#[derive(Serialize)]
struct Status {
    node: NodeReply,
    net: NetReply,
    ready: ReadyReply,
    head: HeadReply,
    mempool: MempoolReply,
}

/// `starling status`.
pub(super) fn status(args: &NodeArgs) -> Result<ExitCode, Failure> {
    let client = args.client()?;
    let status = block_on(async {
        Ok(Status {
            node: client.node_info().await.map_err(failed)?,
            net: client.net_info().await.map_err(failed)?,
            ready: client.ready().await.map_err(failed)?,
            head: client.chain_head().await.map_err(failed)?,
            mempool: client.mempool_info().await.map_err(failed)?,
        })
    })?;
    output::print_as(args.json, &status, || status.text())
}

impl Status {
    fn text(&self) -> String {
        let Self { node, net, ready, head, mempool } = self;
        let mut rows = vec![
            ("network", format!("{} ({})", node.network_name, node.network_id)),
            ("peer id", node.peer_id.clone()),
            ("version", format!("{}, up {} s, process {}", node.version, node.uptime_s, node.pid)),
            ("account", node.account.map_or_else(|| "none".into(), |key| key.to_string())),
            ("producer", node.producer.map_or_else(|| "no".into(), |key| key.to_string())),
            ("ready", if ready.ready { "yes".into() } else { format!("no: {}", ready.waiting_for.join("; ")) }),
            ("peers", format!("{} in, {} out, {} aimed at", net.peers_inbound, net.peers_outbound, net.peers_target)),
        ];
        rows.extend(net.topics.iter().map(|topic| {
            let text = format!("{} of {} peers in the mesh", topic.mesh_degree, topic.peers_subscribed);
            (topic.class.name(), text)
        }));
        rows.extend([
            ("head", format!("height {} ({}), slot {} of {}", head.height, head.block_id, head.slot, head.slot_now)),
            (
                "mempool",
                format!(
                    "{} of {} transactions, {} of {} bytes",
                    mempool.transactions, mempool.transactions_max, mempool.held_bytes, mempool.held_bytes_max
                ),
            ),
            ("payload", format!("at most {} bytes", node.payload_bytes_max)),
        ]);
        rows.extend(net.listen_addresses.iter().map(|address| ("listening", address.clone())));
        output::fields(&rows)
    }
}
