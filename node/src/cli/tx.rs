//! `starling tx`.

mod send;
mod watch;

use super::ask::failed;
use super::{Failure, NodeArgs, block_on, output};
use crate::api::{TransactionReply, TransactionStatus};
use clap::Subcommand;
use starling_protocol::id::TransactionId;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum TxCommand {
    /// Send a payload as a transaction.
    #[command(after_help = "\
Examples:
  starling tx send hello                                # signed by the node with its own account key
  starling tx send hello --wait                         # until a block has it
  starling tx send --hex 00ff --rpc 127.0.0.1:26501
  starling tx send --file photo.jpg --key my.pem --json # signed here; the key stays here
  date | starling tx send -                             # from standard input")]
    Send(send::SendArgs),
    /// Show what became of a transaction.
    #[command(after_help = "\
Examples:
  starling tx get 5f0c…
  starling tx get 5f0c… --json")]
    Get {
        /// The transaction id in hex.
        id: TransactionId,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Follow a transaction until its fate is decided, or all of an account, or all there are.
    #[command(after_help = "\
Examples:
  starling tx watch 5f0c…
  starling tx watch 5f0c… --timeout 1m && echo included
  starling tx watch 5f0c… --json    # a line of JSON for each change
  starling tx watch --all | grep included
  starling tx watch --sender 8a88…  # whatever happens to an account's transactions

Exit codes: 0 a block has it, 3 it expired, 4 another transaction used its nonce, 5 --timeout passed first; 1 and 2 as \
always. When the node is restarted, the watch waits for it.")]
    Watch(watch::WatchArgs),
}

impl TxCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Send(args) => args.run(),
            Self::Get { id, node } => {
                let client = node.client()?;
                let found = block_on(async { client.tx_get(&id).await.map_err(failed) })?;
                output::print_as(node.json, &found, || status_text(&found))
            }
            Self::Watch(args) => args.run(),
        }
    }
}

/// What became of a transaction, in words.
fn status_words(status: &TransactionStatus) -> String {
    match status {
        TransactionStatus::Pending => "pending".to_owned(),
        TransactionStatus::Included { height, block_id, index } => {
            format!("included at height {height}, number {index} in block {block_id}")
        }
        TransactionStatus::Expired => "expired before a block took it".to_owned(),
        TransactionStatus::Superseded => "superseded by another transaction with its nonce".to_owned(),
        TransactionStatus::Unknown => "unknown to this node".to_owned(),
    }
}

fn status_text(reply: &TransactionReply) -> String {
    let mut rows = vec![("transaction", reply.id.to_string()), ("status", status_words(&reply.status))];
    if let Some(body) = &reply.transaction {
        rows.extend([
            ("sender", body.sender.to_string()),
            ("nonce", body.nonce.to_string()),
            ("expiry", format!("slot {}", body.expiry_slot)),
            ("payload", payload_text(&body.payload_hex)),
        ]);
    }
    output::fields(&rows)
}

/// A payload for a terminal: as quoted text when it is text, else in hex.
fn payload_text(payload_hex: &str) -> String {
    let bytes = hex::decode(payload_hex).unwrap_or_default();
    match String::from_utf8(bytes) {
        // Quoted, so that no payload can send control characters to a terminal.
        Ok(text) if !text.is_empty() => format!("{text:?}"),
        _ => format!("hex {payload_hex}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_cannot_control_the_terminal() {
        assert_eq!(payload_text(&hex::encode("hello")), "\"hello\"");
        assert_eq!(payload_text(&hex::encode("\x1b[2J")), "\"\\u{1b}[2J\"");
        assert_eq!(payload_text("ff"), "hex ff");
    }
}
