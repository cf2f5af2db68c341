//! `starling health`: a node's health as an exit code, for containers and scripts that have no HTTP client.

use super::{Failure, NodeArgs, ask::failed, block_on, output};
use clap::Args;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  starling health                                  # does the process live? restart it if this fails for long
  starling health --ready                          # does it take part in the network? names what it waits for if not
  starling health --rpc 127.0.0.1:26501 --json     # the answer of GET /health

Exit code 0 says yes. 1 says no, with the reason on standard error.")]
pub(super) struct HealthArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Ask whether the node is ready instead of whether it lives.
    #[arg(long)]
    ready: bool,
}

impl HealthArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let client = self.node.client()?;
        if self.ready {
            let ready = block_on(async { client.ready().await.map_err(failed) })?;
            if !ready.ready {
                let waits = ready.waiting_for.join("; ");
                return Err(Failure::Runtime(format!("the node is not ready: it waits for {waits}")));
            }
            return output::print_as(self.node.json, &ready, || {
                format!(
                    "ready at height {} with {}\n",
                    ready.height,
                    output::format::counted(ready.peers as u64, "peer")
                )
            });
        }
        let health = block_on(async { client.health().await.map_err(failed) })?;
        output::print_as(self.node.json, &health, || "the node lives\n".to_owned())
    }
}
