//! `starling genesis`.

use super::Failure;
use super::output::{self, format};
use crate::{clock, config, keyfile, remedy};
use clap::{Args, Subcommand};
use serde::Serialize;
use starling_crypto::{PublicKey, PublicKeyBytes};
use starling_protocol::genesis::date::to_rfc3339;
use starling_protocol::genesis::{Genesis, GenesisParameters, Limits, parse_start_time};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum GenesisCommand {
    /// Make the genesis of a new network.
    #[command(after_help = "\
Examples:
  starling genesis new --name local --producer-key producer.pem --out genesis.toml
  starling genesis new --name prod --producer 8a88…,ea4a… --start 2027-01-31T12:00:00Z --slot 5s --out genesis.toml
  starling genesis new --name test --producer-key a.pem --stamp-bits 16    # to standard output")]
    New(NewArgs),
    /// Check a genesis file, and show what follows from it.
    #[command(after_help = "\
Examples:
  starling genesis check genesis.toml
  starling genesis check genesis.toml --json")]
    Check {
        /// The genesis file.
        file: PathBuf,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// What people call the network: letters, digits, `-`, `_` and `.`.
    #[arg(long)]
    name: String,
    /// Public keys of those who make blocks, in the order of their turns, separated by commas.
    #[arg(long, value_name = "HEX", value_delimiter = ',')]
    producer: Vec<PublicKey>,
    /// Key files of further producers, separated by commas; only their public halves go into the genesis.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    producer_key: Vec<PathBuf>,
    /// When slot 0 begins: `now`, or a time such as 2027-01-31T12:00:00Z.
    #[arg(long, default_value = "now")]
    start: String,
    /// Length of a slot.
    #[arg(long, default_value = "2s", value_parser = crate::config::parse_duration_ms)]
    slot: u64,
    /// Bits of work that a transaction's stamp must show; 0 asks for none.
    #[arg(long, default_value_t = 0)]
    stamp_bits: u8,
    /// Largest payload of a transaction, in bytes.
    #[arg(long, default_value_t = Limits::default().payload_bytes_max)]
    payload_bytes_max: u32,
    /// Most transactions in a block.
    #[arg(long, default_value_t = Limits::default().transactions_per_block_max)]
    transactions_per_block_max: u32,
    /// Largest block, in bytes.
    #[arg(long, default_value_t = Limits::default().block_bytes_max)]
    block_bytes_max: u32,
    /// How many slots ahead a transaction's expiry slot may lie.
    #[arg(long, default_value_t = Limits::default().expiry_slots_max)]
    expiry_slots_max: u64,
    /// How many transactions of one sender may wait at once.
    #[arg(long, default_value_t = Limits::default().nonce_window)]
    nonce_window: u64,
    /// Where to write it; an existing file is not overwritten. Default: standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl GenesisCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::New(args) => args.run(),
            Self::Check { file, json } => {
                let genesis = config::read_genesis(&file).map_err(Failure::usage)?;
                let checked = Checked::new(&genesis);
                output::print_as(json, &checked, || checked.text())
            }
        }
    }
}

impl NewArgs {
    fn run(self) -> Result<ExitCode, Failure> {
        let mut producers: Vec<PublicKeyBytes> = self.producer.iter().map(PublicKey::to_bytes).collect();
        for file in &self.producer_key {
            producers.push(keyfile::read(file).map_err(Failure::usage)?.public_key().to_bytes());
        }
        if producers.is_empty() {
            return Err(Failure::Usage(
                "a network needs a producer; name one with --producer HEX or --producer-key FILE \
                 (`starling key new FILE` makes a key)"
                    .into(),
            ));
        }
        let start_time_ms = match self.start.as_str() {
            "now" => unix_ms(),
            text => parse_start_time(text).map_err(|error| Failure::Usage(format!("--start: {error}")))?,
        };
        if self.start != "now" && start_time_ms < unix_ms() {
            output::note(&format!(
                "note: --start lies in the past ({}): the slots until now stay empty, which does no harm; give a later time \
                 if producers are still to be set up",
                start_text(start_time_ms, unix_ms())
            ));
        }
        let genesis = Genesis::new(GenesisParameters {
            name: self.name,
            start_time_ms,
            slot_ms: self.slot,
            producers,
            limits: Limits {
                payload_bytes_max: self.payload_bytes_max,
                transactions_per_block_max: self.transactions_per_block_max,
                block_bytes_max: self.block_bytes_max,
                expiry_slots_max: self.expiry_slots_max,
                nonce_window: self.nonce_window,
            },
            stamp_bits: self.stamp_bits,
        })
        .map_err(Failure::usage)?;
        match &self.out {
            None => output::print(&genesis.to_toml()),
            Some(path) => {
                write_new(path, &genesis.to_toml())?;
                output::print(&format!("wrote {}: network {}", path.display(), genesis.network_id()))
            }
        }
    }
}

/// Writes a file that must not exist yet.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            Failure::Usage(format!(
                "{} exists already and is not overwritten; give another path, or move it away first",
                path.display()
            ))
        } else {
            unwritable(path, &error)
        }
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Runtime(format!("cannot write {}: {error}; {}", path.display(), remedy::of_io(error)))
}

/// The start time in UTC, and how far it is from now.
fn start_text(start_time_ms: u64, now_ms: u64) -> String {
    let distance = match (start_time_ms / 1_000).checked_sub(now_ms / 1_000) {
        Some(0) => "now".to_owned(),
        Some(seconds) => format!("in {}", format::duration(seconds)),
        None => format!("{} ago", format::duration(now_ms.saturating_sub(start_time_ms) / 1_000)),
    };
    format!("{}, {distance}", to_rfc3339(start_time_ms))
}

pub(super) fn unix_ms() -> u64 {
    let monotonic_us = i64::try_from(clock::now().as_micros()).unwrap_or(i64::MAX);
    u64::try_from(monotonic_us.saturating_add(clock::wall_offset_us()) / 1_000).unwrap_or(0)
}

#[derive(Serialize)]
struct Checked {
    name: String,
    network_id: String,
    genesis_block_id: String,
    start_time_ms: u64,
    slot_ms: u64,
    stamp_bits: u32,
    producers: Vec<PublicKeyBytes>,
    limits: Limits,
    transaction_topic: String,
    block_topic: String,
    kademlia_protocol: String,
}

impl Checked {
    fn new(genesis: &Genesis) -> Self {
        let parameters = genesis.parameters();
        Self {
            name: parameters.name.clone(),
            network_id: genesis.network_id().to_string(),
            genesis_block_id: genesis.block_id().to_string(),
            start_time_ms: parameters.start_time_ms,
            slot_ms: parameters.slot_ms,
            stamp_bits: genesis.stamp_bits(),
            producers: parameters.producers.clone(),
            limits: parameters.limits,
            transaction_topic: genesis.transaction_topic().to_string(),
            block_topic: genesis.block_topic().to_string(),
            kademlia_protocol: genesis.kademlia_protocol(),
        }
    }

    fn text(&self) -> String {
        let mut rows = vec![
            ("name", self.name.clone()),
            ("network id", self.network_id.clone()),
            ("genesis block", self.genesis_block_id.clone()),
            ("start", start_text(self.start_time_ms, unix_ms())),
            ("slot", format!("{} ms", self.slot_ms)),
            ("stamp", format!("{} bits", self.stamp_bits)),
            ("payload", format!("at most {} bytes", self.limits.payload_bytes_max)),
            ("block", format!("at most {} bytes", self.limits.block_bytes_max)),
            ("transactions", format!("at most {} in a block", self.limits.transactions_per_block_max)),
            ("expiry", format!("at most {} slots ahead", self.limits.expiry_slots_max)),
            ("nonces", format!("at most {} waiting for a sender", self.limits.nonce_window)),
            ("topics", format!("{}, {}", self.transaction_topic, self.block_topic)),
            ("kademlia", self.kademlia_protocol.clone()),
        ];
        rows.extend(self.producers.iter().map(|producer| ("producer", producer.to_string())));
        output::fields(&rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_shown_with_its_distance_from_now() {
        let start_ms = 1_801_396_800_000;
        assert_eq!(start_text(start_ms, start_ms - 90_000), "2027-01-31T12:00:00.000Z, in 1 min 30 s");
        assert_eq!(start_text(start_ms, start_ms + 59_000), "2027-01-31T12:00:00.000Z, 59 s ago");
        assert_eq!(start_text(start_ms, start_ms + 10), "2027-01-31T12:00:00.000Z, now");
    }
}
