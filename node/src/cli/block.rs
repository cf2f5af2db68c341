//! `starling block`.

mod watch;

use super::ask::failed;
use super::{Failure, NodeArgs, block_on, output};
use crate::api::{BlockReply, BlockSelector, HeadReply};
use clap::Subcommand;
use std::process::ExitCode;

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
    /// Follow the chain: a line for each block, also for those that a reorganisation undoes.
    #[command(after_help = "\
Examples:
  starling block watch                  # until Ctrl-C
  starling block watch | head -3
  starling block watch --from 1 --json  # a line of JSON for each block, from the first one on

A block that is canonical no more has a line that begins with `undone`, before those that replace it. When the node is \
restarted, the watch waits for it and goes on where it was.")]
    Watch(watch::WatchArgs),
}

impl BlockCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Get { block, node } => get(&block, &node),
            Self::Watch(args) => args.run(),
        }
    }
}

fn get(block: &str, node: &NodeArgs) -> Result<ExitCode, Failure> {
    let client = node.client()?;
    let found = block_on(async {
        let selector = match block {
            "head" => BlockSelector::Id(client.chain_head().await.map_err(failed)?.block_id),
            text => parse_selector(text)?,
        };
        match client.chain_block(selector).await.map_err(failed)? {
            Some(block) => Ok(block),
            None => Err(not_found(block, &client.chain_head().await.map_err(failed)?)),
        }
    })?;
    output::print_as(node.json, &found, || block_text(&found))
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
        ("head", _) => return Failure::Runtime("the chain has no block yet; wait for the first one".to_owned()),
        ("0", _) => "the chain's beginning is not a stored block; blocks start at height 1".to_owned(),
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
