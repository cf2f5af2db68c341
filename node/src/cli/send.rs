//! `starling tx`.

use super::ask::failed;
use super::{Failure, NodeArgs, block_on, output};
use crate::api::{Submitted, TransactionReply, TransactionStatus};
use crate::keyfile;
use crate::rpc::client::RpcClient;
use clap::{Args, Subcommand};
use starling_crypto::SecretKey;
use starling_protocol::id::TransactionId;
use starling_protocol::transaction::TransactionBody;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How often `--wait` asks. A slot lasts seconds.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(super) enum TxCommand {
    /// Send a payload as a transaction.
    #[command(after_help = "\
Examples:
  starling tx send hello                                # signed by the node with its own account key
  starling tx send hello --wait                         # until a block has it
  starling tx send --hex 00ff --rpc 127.0.0.1:26501
  starling tx send --file photo.jpg --key my.pem --json # signed here; the key stays here
  date | starling tx send --file -")]
    Send(SendArgs),
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
}

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The payload, as text.
    #[arg(required_unless_present_any = ["hex", "file"], conflicts_with_all = ["hex", "file"])]
    text: Option<String>,
    /// The payload, in hex.
    #[arg(long, conflicts_with = "file")]
    hex: Option<String>,
    /// The payload, from a file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Sign with this key file instead of the node's account.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The nonce, for --key. Default: the account's next.
    #[arg(long, requires = "key")]
    nonce: Option<u64>,
    /// After how many slots the transaction expires, for --key. Default: as many as the network allows, 64 at most.
    #[arg(long, value_name = "SLOTS", requires = "key")]
    expires_in: Option<u64>,
    /// Wait until a block has the transaction; exit with 1 if it expires or is superseded.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    node: NodeArgs,
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
        }
    }
}

impl SendArgs {
    fn run(self) -> Result<ExitCode, Failure> {
        let payload = self.payload()?;
        let key = self.key.as_deref().map(keyfile::read).transpose().map_err(Failure::usage)?;
        let client = self.node.client()?;
        let json = self.node.json;
        block_on(async {
            let submitted = match &key {
                None => client.tx_publish(&payload).await.map_err(failed)?,
                Some(key) => self.submit_signed(&client, key, payload).await?,
            };
            if !self.wait {
                return output::print_as(json, &submitted, || submitted_text(&submitted));
            }
            let last = wait(&client, &submitted.id).await?;
            let code = output::print_as(json, &last, || status_text(&last))?;
            let included = matches!(last.status, TransactionStatus::Included { .. });
            Ok(if included { code } else { ExitCode::FAILURE })
        })
    }

    fn payload(&self) -> Result<Vec<u8>, Failure> {
        if let Some(text) = &self.text {
            return Ok(text.clone().into_bytes());
        }
        if let Some(digits) = &self.hex {
            return hex::decode(digits).map_err(|error| {
                Failure::Usage(format!("--hex: {error}; give two hex digits a byte, without a prefix"))
            });
        }
        let path = self.file.clone().unwrap_or_default();
        let unreadable = |error| Failure::Usage(format!("cannot read the payload from {}: {error}", path.display()));
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map_err(unreadable)?;
            return Ok(bytes);
        }
        std::fs::read(&path).map_err(unreadable)
    }

    async fn submit_signed(&self, client: &RpcClient, key: &SecretKey, payload: Vec<u8>) -> Result<Submitted, Failure> {
        let node = client.node_info().await.map_err(failed)?;
        let sender = key.public_key().to_bytes();
        let nonce = match self.nonce {
            Some(nonce) => nonce,
            None => client.account_get(&sender).await.map_err(failed)?.next_nonce,
        };
        // Not the furthest slot that is allowed: the node's clock may be behind that of another by a slot or two.
        let expires_in = self.expires_in.unwrap_or_else(|| (node.expiry_slots_max / 2).clamp(1, 64));
        let mut body = TransactionBody {
            network: node.network_id,
            sender,
            nonce,
            expiry_slot: node.slot_now.saturating_add(expires_in),
            payload,
            stamp: 0,
        };
        // Sixty-four times the expected number of tries fail once in e^64.
        let tries = 64_u64.checked_shl(node.stamp_bits).unwrap_or(u64::MAX);
        body.grind_stamp(node.stamp_bits, tries).map_err(Failure::runtime)?;
        let transaction = body.sign(key);
        client.tx_submit(transaction.bytes()).await.map_err(failed)
    }
}

/// Asks until the transaction's fate is decided. Its expiry bounds how long that takes.
async fn wait(client: &RpcClient, id: &TransactionId) -> Result<TransactionReply, Failure> {
    loop {
        let reply = client.tx_get(id).await.map_err(failed)?;
        if reply.status != TransactionStatus::Pending {
            return Ok(reply);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn submitted_text(submitted: &Submitted) -> String {
    output::fields(&[
        ("transaction", submitted.id.to_string()),
        ("nonce", submitted.nonce.to_string()),
        ("message", submitted.message_id.clone()),
    ])
}

fn status_text(reply: &TransactionReply) -> String {
    let status = match &reply.status {
        TransactionStatus::Pending => "pending".to_owned(),
        TransactionStatus::Included { height, block_id, index } => {
            format!("included at height {height}, number {index} in block {block_id}")
        }
        TransactionStatus::Expired => "expired before a block took it".to_owned(),
        TransactionStatus::Superseded => "superseded by another transaction with its nonce".to_owned(),
        TransactionStatus::Unknown => "unknown to this node".to_owned(),
    };
    let mut rows = vec![("transaction", reply.id.to_string()), ("status", status)];
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
