//! `starling tx send`.

use super::watch;
use crate::api::Submitted;
use crate::cli::ask::failed;
use crate::cli::{Failure, NodeArgs, block_on, output};
use crate::keyfile;
use crate::rpc::client::RpcClient;
use clap::Args;
use starling_crypto::SecretKey;
use starling_protocol::transaction::TransactionBody;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

/// No network takes a larger payload in a transaction: the largest frame of the mesh has 1 MiB or little more. A file that
/// never ends must not be read for ever.
const PAYLOAD_BYTES_MAX: u64 = 16 << 20;

/// A larger payload is compared with what the network takes before it is sent: a node does not read a request that is far too
/// large, so its refusal can be lost with the connection.
const PAYLOAD_BYTES_UNASKED: usize = 1 << 10;

#[derive(Debug, Args)]
pub(in crate::cli) struct SendArgs {
    /// The payload, as text; `-` reads it from standard input.
    #[arg(conflicts_with_all = ["hex", "file"])]
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
    #[arg(long, value_name = "SLOTS", requires = "key", value_parser = clap::value_parser!(u64).range(1..))]
    expires_in: Option<u64>,
    /// Send it even if the payload is empty.
    #[arg(long)]
    allow_empty: bool,
    /// Follow the transaction until a block has it; the exit codes are those of `starling tx watch`.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    node: NodeArgs,
}

impl SendArgs {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let payload = self.payload()?;
        if payload.is_empty() && !self.allow_empty {
            return Err(Failure::Usage(
                "the payload is empty (is a variable of the shell unset?); give one, or --allow-empty to send none"
                    .into(),
            ));
        }
        let key = self.key.as_deref().map(keyfile::read).transpose().map_err(Failure::usage)?;
        let client = self.node.client()?;
        let json = self.node.json;
        let submitted = block_on(async {
            if payload.len() > PAYLOAD_BYTES_UNASKED {
                check_size(&client, payload.len() as u64).await?;
            }
            match &key {
                None => client.tx_publish(&payload).await.map_err(failed),
                Some(key) => self.submit_signed(&client, key, payload).await,
            }
        })?;
        if !self.wait {
            return output::print_as(json, &submitted, || submitted_text(&submitted));
        }
        // Whoever interrupts the waiting can look the transaction up.
        output::note(&format!("sent transaction {}; waiting for a block that has it", submitted.id));
        watch::until_decided(&submitted.id, None, &self.node)
    }

    fn payload(&self) -> Result<Vec<u8>, Failure> {
        match (&self.text, &self.hex, &self.file) {
            (Some(text), ..) if text == "-" => limited("standard input", std::io::stdin()),
            (Some(text), ..) => Ok(text.clone().into_bytes()),
            (None, Some(digits), _) => hex::decode(digits).map_err(|error| {
                Failure::Usage(format!("--hex: {error}; give two hex digits a byte, without a prefix"))
            }),
            (None, None, Some(path)) if path.as_os_str() == "-" => limited("standard input", std::io::stdin()),
            (None, None, Some(path)) => {
                let name = path.display().to_string();
                limited(&name, File::open(path).map_err(|error| unreadable(&name, &error))?)
            }
            (None, None, None) => Err(Failure::Usage(
                "there is nothing to send; give the payload as TEXT, as --hex DIGITS, from --file FILE, or `-` to read \
                 standard input"
                    .into(),
            )),
        }
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

async fn check_size(client: &RpcClient, payload_bytes: u64) -> Result<(), Failure> {
    let node = client.node_info().await.map_err(failed)?;
    if payload_bytes <= node.payload_bytes_max {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "the payload has {payload_bytes} bytes, and the network {} takes at most {} in a transaction; send less, or in parts",
        node.network_name, node.payload_bytes_max
    )))
}

/// Reads all of it, unless it is larger than any payload can be.
fn limited(name: &str, from: impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    from.take(PAYLOAD_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 > PAYLOAD_BYTES_MAX {
        return Err(Failure::Usage(format!(
            "{name} has more than {} MiB, and no network takes such a payload; `starling status --json` shows what this \
             one takes",
            PAYLOAD_BYTES_MAX >> 20
        )));
    }
    Ok(bytes)
}

fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("cannot read the payload from {name}: {error}"))
}

fn submitted_text(submitted: &Submitted) -> String {
    output::fields(&[
        ("transaction", submitted.id.to_string()),
        ("nonce", submitted.nonce.to_string()),
        ("message", submitted.message_id.clone()),
    ])
}
